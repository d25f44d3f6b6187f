//! What becomes of a file that both sides changed, and of an object whose file was deleted here.

use std::fmt;
use std::str::FromStr;

/// Whose version keeps the name when both sides changed a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Conflicts {
    /// The cloud's; ours goes on beside it under another name.
    #[default]
    KeepBoth,
    /// Ours: it takes the place of the very version that was seen.
    LocalWins,
    /// The cloud's; ours is set aside on this gateway.
    CloudWins,
}

/// What happens to the object of a file that was deleted here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Deletes {
    /// It is deleted.
    #[default]
    Propagate,
    /// It stays, and is not shown here again as long as nobody changes it.
    Keep,
    /// It is moved to the trash inside the store.
    Trash,
}

/// A word that is none of those that are known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it must be one of {}", allowed.join(", "))]
pub struct WordError {
    allowed: Vec<&'static str>,
}

/// The value whose word `text` is.
pub(crate) fn of_word<T: Copy>(text: &str, words: &[(&'static str, T)]) -> Result<T, WordError> {
    let found = words.iter().find(|(word, _)| *word == text.trim());
    found
        .map(|(_, value)| *value)
        .ok_or_else(|| WordError { allowed: words.iter().map(|(word, _)| *word).collect() })
}

const CONFLICTS: &[(&str, Conflicts)] = &[
    ("keep-both", Conflicts::KeepBoth),
    ("local-wins", Conflicts::LocalWins),
    ("cloud-wins", Conflicts::CloudWins),
];

const DELETES: &[(&str, Deletes)] =
    &[("propagate", Deletes::Propagate), ("keep", Deletes::Keep), ("trash", Deletes::Trash)];

impl FromStr for Conflicts {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        of_word(text, CONFLICTS)
    }
}

impl FromStr for Deletes {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        of_word(text, DELETES)
    }
}

impl fmt::Display for Conflicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = CONFLICTS.iter().find(|(_, value)| value == self);
        f.write_str(word.map_or("", |(word, _)| word))
    }
}

/// What is known of our version of a file that both sides changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ours {
    /// It is a regular file.
    pub is_file: bool,
    /// Every byte of it is here: nothing of it has to come from a version that may be gone.
    pub is_whole: bool,
    /// It has one name only.
    pub has_one_name: bool,
    /// It was moved to this name, and has its object elsewhere.
    pub moves: bool,
}

impl Conflicts {
    /// What is done about `ours`. Whoever wins, no bytes may be lost by it: only a whole version takes the other's place, and only
    /// what can be given back is set aside. All else is kept twice.
    #[must_use]
    pub fn about(self, ours: Ours) -> Self {
        match self {
            Self::LocalWins if ours.is_whole && !ours.moves => Self::LocalWins,
            Self::CloudWins if ours.is_whole && ours.is_file && ours.has_one_name => {
                Self::CloudWins
            }
            Self::KeepBoth | Self::LocalWins | Self::CloudWins => Self::KeepBoth,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_they_are_shown() {
        for (word, value) in CONFLICTS {
            assert_eq!(word.parse(), Ok(*value));
            assert_eq!(value.to_string(), *word);
        }
        for (word, value) in DELETES {
            assert_eq!(word.parse(), Ok(*value));
        }
        let message = "never".parse::<Deletes>().unwrap_err().to_string();
        assert_eq!(message, "it must be one of propagate, keep, trash");
    }

    #[test]
    fn whoever_wins_nothing_is_lost_by_it() {
        let whole = Ours { is_file: true, is_whole: true, has_one_name: true, moves: false };
        for rule in [Conflicts::KeepBoth, Conflicts::LocalWins, Conflicts::CloudWins] {
            assert_eq!(rule.about(whole), rule);
            let partial = Ours { is_whole: false, ..whole };
            assert_eq!(rule.about(partial), Conflicts::KeepBoth, "{rule}");
        }
        for ours in [Ours { is_file: false, ..whole }, Ours { has_one_name: false, ..whole }] {
            assert_eq!(Conflicts::CloudWins.about(ours), Conflicts::KeepBoth);
            assert_eq!(Conflicts::LocalWins.about(ours), Conflicts::LocalWins);
        }
        let moved = Ours { moves: true, ..whole };
        assert_eq!(Conflicts::LocalWins.about(moved), Conflicts::KeepBoth);
        assert_eq!(Conflicts::CloudWins.about(moved), Conflicts::CloudWins);
    }
}
