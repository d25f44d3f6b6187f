//! What was asked for on the command line.

use std::num::NonZeroU64;
use std::path::PathBuf;

use anyhow::{Context, bail, ensure};

use super::row::Row;
use super::subject::Kind;

/// How often everything is measured.
const ROUNDS: usize = 3;
const QUICK_KINDS: [&str; 3] = ["disk", "ours", "rclone"];

/// Checked options.
#[derive(Debug)]
pub(super) struct Options {
    pub(super) kinds: Vec<Kind>,
    pub(super) smaller: NonZeroU64,
    pub(super) rounds: usize,
    /// The file whose marked block the table replaces.
    pub(super) write: Option<PathBuf>,
    is_quick: bool,
    only: Vec<String>,
    /// What to type for the same again.
    pub(super) command_line: String,
}

impl Options {
    /// # Errors
    /// A word that says nothing here.
    pub(super) fn parse(words: &[&str]) -> anyhow::Result<Self> {
        let command_line = ["cargo", "xtask", "bench"].iter().chain(words).copied();
        let mut options = Self {
            kinds: Kind::ALL.into(),
            smaller: NonZeroU64::MIN,
            rounds: ROUNDS,
            write: None,
            is_quick: false,
            only: Vec::new(),
            command_line: command_line.collect::<Vec<_>>().join(" "),
        };
        let mut words = words.iter().copied();
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            match word {
                "quick" => {
                    options.is_quick = true;
                    options.kinds = named(&QUICK_KINDS)?;
                }
                "--only" => {
                    options.only = value()?.split(',').map(|word| word.trim().to_owned()).collect();
                }
                "--smaller" => options.smaller = value()?.parse().context("--smaller")?,
                "--rounds" => options.rounds = value()?.parse().context("--rounds")?,
                "--subjects" => options.kinds = named(&value()?.split(',').collect::<Vec<_>>())?,
                "--write" => options.write = Some(value()?.into()),
                _ => bail!("bench knows no {word:?}"),
            }
        }
        ensure!(options.rounds > 0, "--rounds 0 measures nothing");
        Ok(options)
    }

    pub(super) fn wants(&self, row: Row) -> bool {
        let spec = row.spec();
        (spec.is_quick || !self.is_quick)
            && (self.only.is_empty() || self.only.iter().any(|word| spec.name.contains(word)))
    }
}

/// Those of these families.
fn named(families: &[&str]) -> anyhow::Result<Vec<Kind>> {
    if let Some(unknown) =
        families.iter().find(|name| Kind::ALL.iter().all(|kind| kind.family() != **name))
    {
        bail!("there is no subject {unknown:?}");
    }
    Ok(Kind::ALL.into_iter().filter(|kind| families.contains(&kind.family())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_restrict_rows_and_subjects() {
        let options = Options::parse(&["--only", "cold, rm", "--subjects", "ours,rclone"]).unwrap();
        assert!(options.wants(Row::ReadBigCold) && options.wants(Row::Remove));
        assert!(!options.wants(Row::WriteBig));
        assert_eq!(options.kinds.len(), 3);
        assert!(Options::parse(&["quick"]).unwrap().wants(Row::WriteBig));
        assert!(!Options::parse(&["quick"]).unwrap().wants(Row::Tar));
        for wrong in [&["--subjects", "tape"][..], &["--smaller", "0"], &["--only"], &["slow"]] {
            assert!(Options::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
