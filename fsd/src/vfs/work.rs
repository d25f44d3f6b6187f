//! Long work that an operator began: how far it is, and that it is to stop.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Finding;
use crate::cache::Changes;

/// So many problems are told one by one.
const PROBLEMS_TOLD_MAX: usize = 20;
/// So many findings are told one by one.
const FINDINGS_TOLD_MAX: usize = 1000;

/// How far it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Files to be looked at, as far as they are known; directories, where these are what is asked for.
    pub files: u64,
    /// Of these, what is done.
    pub files_done: u64,
    /// Bytes to be fetched or read, as far as they are known.
    pub bytes: u64,
    /// Of these, bytes that are done.
    pub bytes_done: u64,
    /// Blocks that were bad and are good again.
    pub mended: u64,
    /// Files whose content nothing is known of to compare it with.
    pub unproven: u64,
    /// What came in from the cloud.
    pub changes: Changes,
    /// What does not fit together.
    pub findings: Vec<Finding>,
    /// How much of it there is, and how much of that is mended.
    pub found: (u64, u64),
    /// What could not be done.
    pub problems: u64,
    /// The first of it, a line each.
    pub told: Vec<String>,
    /// It came to its end, or was stopped.
    pub over: bool,
    /// It was stopped.
    pub stopped: bool,
}

/// Work under way.
#[derive(Debug, Default)]
pub struct Work {
    progress: Mutex<Progress>,
    stop: CancellationToken,
    /// It came to its end.
    pub ended: Notify,
}

impl Work {
    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.lock().clone()
    }

    /// Asks it to stop; what it did until then stays.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Does `work` until it ends or is stopped.
    pub(super) async fn run(&self, work: impl Future<Output = ()>) {
        let stopped = tokio::select! {
            () = work => false,
            () = self.stop.cancelled() => true,
        };
        {
            let mut progress = self.lock();
            progress.over = true;
            progress.stopped = stopped;
        }
        self.ended.notify_waiters();
    }

    pub(super) fn expect(&self, files: u64, bytes: u64) {
        let mut progress = self.lock();
        progress.files += files;
        progress.bytes += bytes;
    }

    pub(super) fn did_file(&self) {
        self.lock().files_done += 1;
    }

    pub(super) fn did_bytes(&self, bytes: u64) {
        self.lock().bytes_done += bytes;
    }

    pub(super) fn did_mend(&self) {
        self.lock().mended += 1;
    }

    pub(super) fn saw(&self, changes: Changes) {
        self.lock().changes.add(changes);
    }

    pub(super) fn find(&self, finding: Finding) {
        let mut progress = self.lock();
        progress.found.0 += 1;
        progress.found.1 += u64::from(finding.repaired);
        if progress.findings.len() < FINDINGS_TOLD_MAX {
            progress.findings.push(finding);
        }
    }

    pub(super) fn did_not_prove(&self) {
        self.lock().unproven += 1;
    }

    pub(super) fn failed(&self, what: impl FnOnce() -> String) {
        let mut progress = self.lock();
        progress.problems += 1;
        if progress.told.len() < PROBLEMS_TOLD_MAX {
            progress.told.push(what());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
