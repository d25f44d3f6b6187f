//! What is said about a run, and where it is written.

use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};

use super::options::Options;
use super::sizes::Sizes;
use super::subject::{Kind, Programs, command_shown, machine, said};
use super::work::can_drop_caches;

const BEGIN: &str = "<!-- bench: from here on `cargo xtask bench --write` writes -->";
const END: &str = "<!-- bench: up to here -->";

/// What a run is made with, a line each, and what could not be.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) circumstances: Vec<String>,
    pub(super) skips: Vec<String>,
}

impl Report {
    pub(super) fn new(options: &Options, sizes: Sizes, place: &Path) -> anyhow::Result<Self> {
        let date = said(std::process::Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]))?;
        let disk = said(std::process::Command::new("df").args(["--output=fstype"]).arg(place))?;
        let disk = disk.lines().last().unwrap_or_default().to_owned();
        let mut circumstances = vec![
            format!("{}: `{}`", date.trim(), options.command_line),
            format!("{}; {disk}", machine()),
            format!("each figure is the median of {} rounds", options.rounds),
            "disk: a plain directory; floor: libfuse's example passthrough_ll over one; store: the S3 server in memory, on one connection, without a drive; listings read as the crate object_store reads them".to_owned(),
        ];
        circumstances.extend(sizes.legend());
        let mut report = Self { circumstances, skips: Vec::new() };
        if !can_drop_caches() {
            report.skip("only root can drop the kernel's caches, so warm and cold reads are hot");
        }
        Ok(report)
    }

    /// Notes the version and the command of one that takes part.
    pub(super) fn note(&mut self, kind: Kind, programs: &Programs, version: &str) {
        if let Some(command) = command_shown(kind, programs) {
            self.circumstances.push(format!("{kind} ({version}): `{command}`"));
        }
    }

    pub(super) fn skip(&mut self, why: &str) {
        eprintln!("SKIP: {why}");
        self.skips.push(format!("SKIP: {why}"));
    }

    pub(super) fn text(&self, table: &str, missed: usize, noise: &[String]) -> String {
        let item = |line: &String| format!("- {line}");
        let list = |lines: &[String]| lines.iter().map(item).collect::<Vec<_>>().join("\n");
        let summary = format!("{missed} bars missed, {} skips", self.skips.len());
        let notes = [&self.skips[..], noise].concat();
        format!("{}\n\n{table}\n\n{summary}\n\n{}", list(&self.circumstances), list(&notes))
    }
}

/// Replaces the marked block of a file; makes the file if there is none.
///
/// # Errors
/// If the file has no such block, or can't be written.
pub(super) fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let name = path.display();
    let old = match path.exists() {
        true => fs::read_to_string(path).with_context(|| format!("read {name}"))?,
        false => format!("# Performance\n\n{BEGIN}\n{END}\n"),
    };
    let new = replaced(&old, text);
    ensure!(new.is_some(), "{name} has no block between {BEGIN:?} and {END:?}");
    fs::write(path, new.unwrap_or_default()).with_context(|| format!("write {name}"))
}

fn replaced(old: &str, text: &str) -> Option<String> {
    let (before, rest) = old.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{}\n\n{END}{after}", text.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_marked_block_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("performance.md");
        write(&path, "one").unwrap();
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{text}\nmore")).unwrap();
        write(&path, "two").unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, format!("# Performance\n\n{BEGIN}\n\ntwo\n\n{END}\n\nmore"));
        fs::write(&path, "by hand").unwrap();
        assert!(write(&path, "three").is_err());
    }
}
