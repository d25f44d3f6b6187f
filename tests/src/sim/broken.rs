//! Mistakes that an engine could have, made for it from outside: whoever checks has to find each.

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// Requests say no more of which version they are.
    Conditions,
    /// An object that stands in the way is overwritten, though it was said to stand aside.
    Aside,
    /// Own versions are not known again when their answers were lost.
    Marks,
    /// Items end before their work is done.
    Items,
    /// After a crash nobody looks at files that were open for writing.
    Rescan,
    /// What is not uploaded is evicted.
    Evict,
}

impl Broken {
    /// All there are.
    pub const ALL: [Self; 6] =
        [Self::Conditions, Self::Aside, Self::Marks, Self::Items, Self::Rescan, Self::Evict];

    /// Its name on a command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Conditions => "conditions",
            Self::Aside => "aside",
            Self::Marks => "marks",
            Self::Items => "items",
            Self::Rescan => "rescan",
            Self::Evict => "evict",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|broken| broken.name() == name)
    }
}
