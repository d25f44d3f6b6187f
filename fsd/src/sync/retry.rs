//! What a failure means for an item: pure.

use super::code::Code;
use super::error::SyncError;
use crate::cache::CacheError;
use crate::remote::RemoteError;
use crate::rng::Rng;

const FIRST_DELAY_MILLIS: i64 = 1_000;
const DELAY_MILLIS_MAX: i64 = 5 * 60_000;
/// Delay before an item is looked at again whose store could not be reached; while that lasts nothing is tried.
const OFFLINE_MILLIS: i64 = 1_000;
const AGAIN_MILLIS: i64 = 200;
/// Whoever speaks has it looked at at once; this is for news that got lost.
const GATED_MILLIS: i64 = 60_000;
/// Failures that are not the link's before a person is asked.
const TRIES_MAX: u32 = 12;

/// What kind of failure it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing is wrong: the world moved on, plan again.
    Again,
    /// The store could not be reached, or refuses everything: no try is spent.
    Offline,
    /// A hook has to speak first, and says so when it has.
    Gated,
    /// It may pass: a try is spent.
    Retry,
    /// The same request will fail again.
    Park,
}

/// Where an item stands after a try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Next {
    pub(super) due: i64,
    /// None: as before.
    pub(super) tries: Option<u32>,
    pub(super) parked: bool,
    pub(super) error: Option<String>,
    pub(super) code: Option<Code>,
}

pub(super) fn verdict(error: &SyncError) -> Verdict {
    match error {
        SyncError::Changed | SyncError::Conflict { .. } | SyncError::Incomplete { .. } => {
            Verdict::Again
        }
        SyncError::Gated { .. } => Verdict::Gated,
        SyncError::Key(_) | SyncError::KeptHere { .. } => Verdict::Park,
        SyncError::Remote(error) => of_remote(error),
        SyncError::Cache(error) => match error {
            CacheError::Remote(error) => of_remote(error),
            CacheError::Deadline => Verdict::Offline,
            CacheError::Lost(_) => Verdict::Park,
            CacheError::Disk(_) | CacheError::Full | CacheError::Meta(_) => Verdict::Retry,
        },
        SyncError::Meta(_) | SyncError::Panicked => Verdict::Retry,
    }
}

fn of_remote(error: &RemoteError) -> Verdict {
    match error {
        RemoteError::Unreachable { .. }
        | RemoteError::Denied { .. }
        | RemoteError::NoContainer { .. } => Verdict::Offline,
        RemoteError::NotFound { .. }
        | RemoteError::Precondition { .. }
        | RemoteError::Occupied { .. }
        | RemoteError::Damaged { .. } => Verdict::Retry,
        RemoteError::Unsupported { .. } | RemoteError::Rejected { .. } => Verdict::Park,
    }
}

/// Where an item stands after its failure number `tries + 1`: exponential backoff with full jitter above half.
pub(super) fn after_failure(
    verdict: Verdict,
    tries: u32,
    error: (String, Code),
    now: i64,
    rng: &mut Rng,
) -> Next {
    let waits = |millis: i64| Next {
        due: now + millis,
        tries: None,
        parked: false,
        error: Some(error.0.clone()),
        code: Some(error.1),
    };
    match verdict {
        Verdict::Again => Next { error: None, code: None, ..waits(AGAIN_MILLIS) },
        Verdict::Offline => waits(OFFLINE_MILLIS),
        Verdict::Gated => waits(GATED_MILLIS),
        Verdict::Park => Next { parked: true, ..waits(0) },
        Verdict::Retry if tries + 1 >= TRIES_MAX => {
            Next { parked: true, tries: Some(tries + 1), ..waits(0) }
        }
        Verdict::Retry => {
            let delay = (FIRST_DELAY_MILLIS << tries.min(16)).min(DELAY_MILLIS_MAX);
            let jitter = rng.below(delay.unsigned_abs() / 2 + 1).cast_signed();
            Next { tries: Some(tries + 1), ..waits(delay / 2 + jitter) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offline_spends_no_try_and_failures_end_parked() {
        let mut rng = Rng::new(1);
        let offline =
            after_failure(Verdict::Offline, 3, ("x".into(), Code::Internal), 100, &mut rng);
        assert_eq!((offline.tries, offline.parked), (None, false));
        let mut last = 0;
        for tries in 0..TRIES_MAX - 1 {
            let next =
                after_failure(Verdict::Retry, tries, ("x".into(), Code::Internal), 0, &mut rng);
            assert_eq!((next.tries, next.parked), (Some(tries + 1), false));
            assert!(next.due <= DELAY_MILLIS_MAX && next.due * 2 >= last, "it backs off");
            last = next.due;
        }
        assert!(
            after_failure(Verdict::Retry, TRIES_MAX - 1, ("x".into(), Code::Internal), 0, &mut rng)
                .parked
        );
    }
}
