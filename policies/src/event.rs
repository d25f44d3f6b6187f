//! What happens at a gateway that others may want to hear of, and who hears of what.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::sides::{WordError, of_word};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventKind {
    /// A version of a file arrived, whole.
    Arrived,
    /// A hook has a result for it.
    Result,
    /// A hook could make nothing of it, or was given up.
    Failed,
    /// A gate, or a person, has said whether it may leave.
    Verdict,
    /// A result is what an operator wants to be told of.
    Alert,
}

impl EventKind {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        let word = KINDS.iter().find(|(_, kind)| *kind == self);
        word.map_or("", |(word, _)| word)
    }
}

const KINDS: &[(&str, EventKind)] = &[
    ("arrived", EventKind::Arrived),
    ("result", EventKind::Result),
    ("failed", EventKind::Failed),
    ("verdict", EventKind::Verdict),
    ("alert", EventKind::Alert),
];

impl FromStr for EventKind {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        of_word(text, KINDS)
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which events are meant. What is left out means all.
///
/// ```
/// use policies::event::{EventFilter, EventKind};
/// let filter = EventFilter { kinds: Some([EventKind::Alert].into()), ..EventFilter::default() };
/// assert!(filter.takes(EventKind::Alert, "cam", Some("sharpness")));
/// assert!(!filter.takes(EventKind::Result, "cam", Some("sharpness")));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// What happened.
    pub kinds: Option<BTreeSet<EventKind>>,
    /// To files of these shares.
    pub shares: Option<BTreeSet<String>>,
    /// Through these hooks; then an event that has none is not meant.
    pub hooks: Option<BTreeSet<String>>,
}

impl EventFilter {
    /// Whether an event is meant.
    #[must_use]
    pub fn takes(&self, kind: EventKind, share: &str, hook: Option<&str>) -> bool {
        let is_in = |names: &BTreeSet<String>, name: Option<&str>| {
            name.is_some_and(|name| names.contains(name))
        };
        self.kinds.as_ref().is_none_or(|kinds| kinds.contains(&kind))
            && self.shares.as_ref().is_none_or(|shares| is_in(shares, Some(share)))
            && self.hooks.as_ref().is_none_or(|hooks| is_in(hooks, hook))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_takes_what_it_names_and_what_it_leaves_out() {
        let names = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
        let of_hook = EventFilter { hooks: names(&["blur"]), ..EventFilter::default() };
        let of_share = EventFilter { shares: names(&["cam"]), ..EventFilter::default() };
        for (filter, share, hook, takes) in [
            (&EventFilter::default(), "cam", None, true),
            (&of_hook, "cam", Some("blur"), true),
            (&of_hook, "cam", Some("other"), false),
            (&of_hook, "cam", None, false),
            (&of_share, "cam", None, true),
            (&of_share, "training", Some("blur"), false),
        ] {
            assert_eq!(filter.takes(EventKind::Arrived, share, hook), takes, "{filter:?} {share}");
        }
    }

    #[test]
    fn each_kind_has_a_word_of_its_own() {
        for (word, kind) in KINDS {
            assert_eq!(word.parse(), Ok(*kind));
            assert_eq!(kind.as_str(), *word);
        }
        let error = "boom".parse::<EventKind>().unwrap_err().to_string();
        assert!(error.contains("arrived, result, failed, verdict, alert"), "{error}");
    }
}
