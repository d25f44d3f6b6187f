//! Why something did not get to the cloud.

use policies::Verdict;

use crate::cache::CacheError;
use crate::meta::MetaError;
use crate::remote::RemoteError;
use crate::types::{Key, KeyError};

/// Why an item could not be finished.
#[derive(Debug, thiserror::Error)]
pub(super) enum SyncError {
    #[error(transparent)]
    Remote(#[from] RemoteError),
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error(transparent)]
    Meta(#[from] MetaError),
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The file changed under the upload; the next try sees the new version.
    #[error("the file changed while it was uploaded")]
    Changed,
    /// A gate has still to speak.
    #[error("the hook {hook} has not said yet whether it may leave")]
    Gated { hook: String },
    /// A gate, or a person, keeps it here.
    #[error("{who} says {verdict}{}{why}", if why.is_empty() { "" } else { ": " })]
    KeptHere { who: String, verdict: Verdict, why: String },
    /// A mistake of ours.
    #[error("the upload died; the log says where")]
    Panicked,
    /// Both sides changed; settled by keeping both, which is a new state to plan from.
    #[error("the cloud has another version")]
    Conflict { key: Key },
    /// The same, and part of ours was to come from a version that is gone.
    #[error("the cloud has another version, and part of ours is nowhere any more")]
    Incomplete { key: Key },
}

impl SyncError {
    /// Whether the version that the rest of a partly changed file comes from is not in the cloud any more.
    pub(super) fn is_base_gone(&self) -> bool {
        matches!(self, Self::Cache(CacheError::Remote(error))
            if matches!(**error, RemoteError::Precondition { .. } | RemoteError::NotFound { .. }))
    }
}
