//! Kinds of failure that have kept something from the cloud, as operators and their scripts see them. The words are stable: they are
//! stored, shown, and written down in `docs/semantics.md`.

use policies::Verdict;

use super::error::SyncError;
use crate::cache::CacheError;
use crate::meta::STAYS_HERE;
use crate::remote::RemoteError;

/// What kind of failure it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The path has no key that every store takes.
    PathTooLong,
    /// The store refuses this very object.
    StoreRefuses,
    /// The store lacks an operation that is needed.
    StoreLacks,
    /// The store can't be reached.
    StoreUnreachable,
    /// The store refuses the credentials.
    StoreDenies,
    /// The bucket, container or directory is not there.
    StoreMissing,
    /// What came to the store is not what was sent.
    DamagedOnTheWay,
    /// What was there is another version, or gone.
    ChangedElsewhere,
    /// A file stands where a directory should be, or the other way round.
    PlaceTaken,
    /// The only copy of some bytes is lost.
    BytesLost,
    /// The disk of the cache fails.
    CacheDisk,
    /// There is no room in the cache for what has to be fetched.
    CacheFull,
    /// The metadata store fails.
    MetadataStore,
    /// A mistake of ours.
    Internal,
    /// A hook has not said yet whether it may leave.
    Gated,
    /// A hook holds it back until a person lets it go.
    HeldBack,
    /// A hook has said that it stays here.
    StaysHere,
    /// Nothing is wrong: the file changed meanwhile.
    Changed,
}

const CODES: &[(Code, &str, &str)] = &[
    (
        Code::PathTooLong,
        "path-too-long",
        "give it a shorter path: no store takes keys of more than 1,024 bytes",
    ),
    (
        Code::StoreRefuses,
        "store-refuses",
        "the store says why: change what it says, or its settings, then `fsd queue retry`",
    ),
    (
        Code::StoreLacks,
        "store-lacks",
        "use a store that can do it, or change what asks for it, then `fsd queue retry`",
    ),
    (Code::StoreUnreachable, "store-unreachable", "none needed: it goes on when the link is up"),
    (
        Code::StoreDenies,
        "store-denies",
        "check the account, its rights and the machine's clock; it goes on by itself",
    ),
    (
        Code::StoreMissing,
        "store-missing",
        "make the bucket, container or directory; it goes on by itself",
    ),
    (
        Code::DamagedOnTheWay,
        "damaged-on-the-way",
        "none at first: it is sent again; if it stays, look after the machine's memory and what is between it and the store",
    ),
    (
        Code::ChangedElsewhere,
        "changed-elsewhere",
        "none at first: it is looked at again; if it stays, somebody changes it all the time",
    ),
    (
        Code::PlaceTaken,
        "place-taken",
        "move away what stands there in the store, then `fsd queue retry`",
    ),
    (
        Code::BytesLost,
        "bytes-lost",
        "the log says where what is left lies; write the file anew, or delete it",
    ),
    (Code::CacheDisk, "cache-disk", "look after the disk of the cache, then `fsd queue retry`"),
    (Code::CacheFull, "cache-full", "make room on the disk of the cache, then `fsd queue retry`"),
    (
        Code::MetadataStore,
        "metadata-store",
        "look after the disk of the state directory, then `fsd queue retry`",
    ),
    (Code::Internal, "internal", "report it, with the log; `fsd queue retry` tries again"),
    (
        Code::Gated,
        "gated",
        "none needed: it goes on when the hook has spoken; `fsd hooks jobs` shows how that is",
    ),
    (Code::HeldBack, "held-back", "look at it, then `fsd hooks verdict pass FILE`, or `drop`"),
    (
        Code::StaysHere,
        STAYS_HERE,
        "none needed; `fsd hooks verdict pass FILE` lets it go all the same",
    ),
    (Code::Changed, "changed", "none needed: the newer version goes up"),
];

impl Code {
    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        CODES.iter().find(|(code, ..)| *code == self).map_or("", |(_, word, _)| word)
    }

    /// What a person can do about it.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        CODES.iter().find(|(code, ..)| *code == self).map_or("", |(.., remedy)| remedy)
    }

    /// That of this word, if there is one.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        CODES.iter().find(|(_, known, _)| *known == word).map(|(code, ..)| *code)
    }
}

impl From<&SyncError> for Code {
    fn from(error: &SyncError) -> Self {
        match error {
            SyncError::Changed | SyncError::Conflict { .. } | SyncError::Incomplete { .. } => {
                Self::Changed
            }
            SyncError::Key(_) => Self::PathTooLong,
            SyncError::Remote(error) => error.into(),
            SyncError::Cache(error) => match error {
                CacheError::Remote(error) => error.as_ref().into(),
                CacheError::Deadline => Self::StoreUnreachable,
                CacheError::Lost(_) => Self::BytesLost,
                CacheError::Disk(_) => Self::CacheDisk,
                CacheError::Full => Self::CacheFull,
                CacheError::Meta(_) => Self::MetadataStore,
            },
            SyncError::Meta(_) => Self::MetadataStore,
            SyncError::Gated { .. } => Self::Gated,
            SyncError::KeptHere { verdict: Verdict::Drop, .. } => Self::StaysHere,
            SyncError::KeptHere { .. } => Self::HeldBack,
            SyncError::Panicked => Self::Internal,
        }
    }
}

impl From<&RemoteError> for Code {
    fn from(error: &RemoteError) -> Self {
        match error {
            RemoteError::Unreachable { .. } => Self::StoreUnreachable,
            RemoteError::Denied { .. } => Self::StoreDenies,
            RemoteError::NoContainer { .. } => Self::StoreMissing,
            RemoteError::NotFound { .. } | RemoteError::Precondition { .. } => {
                Self::ChangedElsewhere
            }
            RemoteError::Occupied { .. } => Self::PlaceTaken,
            RemoteError::Damaged { .. } => Self::DamagedOnTheWay,
            RemoteError::Unsupported { .. } => Self::StoreLacks,
            RemoteError::Rejected { .. } => Self::StoreRefuses,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_is_written_down_with_its_remedy() {
        let docs = include_str!("../../docs/semantics.md");
        for (code, word, remedy) in CODES {
            assert_eq!(Code::of_word(word), Some(*code));
            assert_eq!(code.word(), *word);
            assert!(!remedy.is_empty());
            if *code != Code::Changed {
                assert!(docs.contains(&format!("| `{word}` |")), "{word}");
            }
        }
    }
}
