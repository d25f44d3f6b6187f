//! The rules of the tree that no compiler checks. Each is a function from the tree to findings.

mod arrows;
mod manifests;
mod source;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use source::Source;

/// The longest file, without its tests.
const FILE_LINES_MAX: usize = 800;

/// The longest function, with its signature.
const FUNCTION_LINES_MAX: usize = 70;

const TOP_LEVEL: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "fsd",
    "inference-hooks",
    "policies",
    "scripts",
    "tests",
];

/// A place that breaks a rule, and the rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    path: PathBuf,
    line: usize,
    says: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path.display(), self.line, self.says)
    }
}

/// Everything in the work tree `root` that breaks a rule.
///
/// # Errors
/// If the tree can't be read, or a source can't be parsed.
pub(crate) fn check(root: &Path) -> anyhow::Result<Vec<Finding>> {
    let paths = tracked(root)?;
    let mut findings = top_level(&paths);
    for path in paths.iter().filter(|path| path.extension().is_some_and(|e| e == "rs")) {
        let text =
            std::fs::read_to_string(root.join(path)).with_context(|| format!("read {path:?}"))?;
        let source = Source::parse(path, &text).with_context(|| format!("parse {path:?}"))?;
        findings.extend(sizes(&source));
        findings.extend(arrows::check(&source));
    }
    findings.extend(manifests::check(root)?);
    Ok(findings)
}

/// Files that are in git or would be added, relative to `root`.
fn tracked(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("run git")?;
    ensure!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    let listing = String::from_utf8(output.stdout).context("a path that is not UTF-8")?;
    let paths = listing.split_terminator('\0').map(PathBuf::from);
    Ok(paths.filter(|path| root.join(path).is_file()).collect()) // without those deleted but not yet committed
}

fn top_level(paths: &[PathBuf]) -> Vec<Finding> {
    let mut names: Vec<_> = paths.iter().filter_map(|path| path.iter().next()?.to_str()).collect();
    names.sort_unstable();
    names.dedup();
    let odd = names.into_iter().filter(|name| !name.starts_with('.') && !TOP_LEVEL.contains(name));
    odd.map(|name| Finding {
        path: name.into(),
        line: 1,
        says: format!("the top level holds only {}, and dotfiles", TOP_LEVEL.join(", ")),
    })
    .collect()
}

fn sizes(source: &Source) -> Vec<Finding> {
    let finding = |line, says| Finding { path: source.path.clone(), line, says };
    let lines = source.lines_without_tests;
    let long_file = (lines >= FILE_LINES_MAX).then(|| {
        finding(1, format!("{lines} lines without tests; under {FILE_LINES_MAX} are allowed"))
    });
    let long = source.functions.iter().filter(|function| function.lines >= FUNCTION_LINES_MAX);
    let long = long.map(|f| {
        finding(
            f.line,
            format!("fn {} has {} lines; under {FUNCTION_LINES_MAX} are allowed", f.name, f.lines),
        )
    });
    long_file.into_iter().chain(long).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_tree_is_tidy() {
        let findings = check(&crate::workspace_dir()).unwrap();
        let lines: Vec<_> = findings.iter().map(ToString::to_string).collect();
        assert!(lines.is_empty(), "{}", lines.join("\n"));
    }

    #[test]
    fn a_stray_entry_at_the_top_is_found() {
        let paths = ["fsd/src/lib.rs", ".clippy.toml", "notes.txt", "docs/a.md"].map(PathBuf::from);
        let found: Vec<_> = top_level(&paths).into_iter().map(|f| f.path).collect();
        assert_eq!(found, ["docs", "notes.txt"].map(PathBuf::from));
    }

    #[test]
    fn long_files_and_functions_are_found_but_not_long_tests() {
        let body = "    step();\n".repeat(70);
        let tests = "// much\n".repeat(900);
        let text = format!(
            "fn long() {{\n{body}}}\n#[cfg(test)]\nmod tests {{\nfn t() {{\n{body}}}\n{tests}}}\n"
        );
        let found = sizes(&Source::parse("a.rs", &text).unwrap());
        assert_eq!(
            found.iter().map(|f| (f.line, &f.says[..20])).collect::<Vec<_>>(),
            [(1, "fn long has 72 lines")]
        );
        let text = "// one\n".repeat(800);
        assert_eq!(sizes(&Source::parse("a.rs", &text).unwrap()).len(), 1);
    }
}
