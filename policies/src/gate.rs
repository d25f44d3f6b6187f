//! What hooks that are gates decide about a version of a file: whether it may leave.

use std::fmt;
use std::str::FromStr;

use crate::files::Files;
use crate::sides::{WordError, of_word};

/// What a gate says of a version of a file. The later ones are stricter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// It may leave.
    Pass,
    /// It moves to another share.
    Route,
    /// It waits for a person.
    #[default]
    Hold,
    /// It stays on this gateway.
    Drop,
}

/// The words that a person may say, and that are kept. What is routed is somewhere else at once.
const VERDICTS: &[(&str, Verdict)] =
    &[("pass", Verdict::Pass), ("hold", Verdict::Hold), ("drop", Verdict::Drop)];

impl FromStr for Verdict {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        of_word(text, VERDICTS)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = VERDICTS.iter().find(|(_, value)| value == self);
        f.write_str(word.map_or("route", |(word, _)| word))
    }
}

/// Whether a version may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// All gates let it pass, or there is none.
    Now,
    /// A gate has not spoken yet.
    Waits,
    /// A gate has said so, the strictest one.
    Not(Verdict),
}

/// What follows from what each gate has said of a version; one that has not spoken yet says nothing.
///
/// One that does not let it pass needs no other.
///
/// ```
/// use policies::gate::{Leave, Verdict, decide};
/// assert_eq!(decide([]), Leave::Now);
/// assert_eq!(decide([Some(Verdict::Pass), None]), Leave::Waits);
/// assert_eq!(decide([Some(Verdict::Drop), None]), Leave::Not(Verdict::Drop));
/// assert_eq!(decide([Some(Verdict::Hold), None]), Leave::Not(Verdict::Hold));
/// ```
#[must_use]
pub fn decide(said: impl IntoIterator<Item = Option<Verdict>>) -> Leave {
    let (mut strictest, mut waits) = (Verdict::Pass, false);
    for verdict in said {
        match verdict {
            Some(verdict) => strictest = strictest.max(verdict),
            None => waits = true,
        }
    }
    match strictest {
        Verdict::Pass if waits => Leave::Waits,
        Verdict::Pass => Leave::Now,
        Verdict::Route | Verdict::Hold | Verdict::Drop => Leave::Not(strictest),
    }
}

/// A hook without whose word no version of a file leaves that it sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gate {
    /// The hook.
    pub hook: String,
    /// The files that it sees.
    pub files: Files,
    /// A folder at the root of the share that its own results are in.
    pub results: Option<Vec<u8>>,
}

impl Gate {
    /// Whether it sees the file at `path`, which is so long. It never looks at its own results.
    #[must_use]
    pub fn sees(&self, path: &[Vec<u8>], bytes: u64) -> bool {
        let is_own = self.results.is_some() && path.first() == self.results.as_ref();
        !is_own && self.files.has(path, bytes)
    }
}

/// How a gate comes to its verdict from the fields that its hook gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GateRule {
    /// Fields any of which, if it is true, holds the file back.
    pub hold_if: Vec<String>,
    /// The same, and the file stays here.
    pub drop_if: Vec<String>,
    /// The same, and the file moves to another share.
    pub route_if: Vec<String>,
    /// What it is when the hook can say nothing of the file.
    pub fallback: Verdict,
}

impl GateRule {
    /// The verdict on a file of which the hook says that the fields `is_true` are true.
    #[must_use]
    pub fn verdict(&self, is_true: impl Fn(&str) -> bool) -> Verdict {
        let any = |names: &[String]| names.iter().any(|name| is_true(name));
        if any(&self.drop_if) {
            Verdict::Drop
        } else if any(&self.hold_if) {
            Verdict::Hold
        } else if any(&self.route_if) {
            Verdict::Route
        } else {
            Verdict::Pass
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strictest_field_that_is_true_decides() {
        let rule = GateRule {
            hold_if: vec!["blurred".into(), "dark".into()],
            drop_if: vec!["faces".into()],
            route_if: vec!["large".into()],
            fallback: Verdict::Hold,
        };
        let said = |fields: &[&str]| rule.verdict(|name| fields.contains(&name));
        assert_eq!(said(&[]), Verdict::Pass);
        assert_eq!(said(&["bright"]), Verdict::Pass);
        assert_eq!(said(&["large"]), Verdict::Route);
        assert_eq!(said(&["dark", "large"]), Verdict::Hold);
        assert_eq!(said(&["dark", "faces"]), Verdict::Drop);
    }

    #[test]
    fn words_are_read_as_they_are_written() {
        for verdict in [Verdict::Pass, Verdict::Hold, Verdict::Drop] {
            assert_eq!(verdict.to_string().parse(), Ok(verdict));
        }
        assert_eq!(Verdict::Route.to_string(), "route");
        assert!("route".parse::<Verdict>().is_err(), "nobody says it but a hook");
        assert!(
            "maybe".parse::<Verdict>().is_err_and(|e| e.to_string().contains("pass, hold, drop"))
        );
    }
}
