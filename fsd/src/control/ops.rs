//! The operator's verbs, whatever carries them.

mod files;
mod gates;
mod gateway;
mod hooks;
mod reports;
mod sides;
mod sinks;
mod steer;
mod works;

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};

use async_trait::async_trait;

use super::api::hooks::{HookBegun, HookPause, HookRun, ResultFilter, Say, Spoken};
use super::api::sides::{Conflict, Emptied, Restored, Settle, Trashed};
use super::api::sinks::{EventList, EventQuery, Sink, SinkChange};
use super::api::steer::{
    PaceChange, PaceState, QueueChange, QueueChanged, ReceiptFilter, Receipts,
};
use super::api::types::{
    Evicted, Explanation, GatewayReport, Hook, HookResult, Job, JobFilter, Pin, PinChange, Queue,
    Retried, Retry, Status, Unmounted, WaitProgress, WorkId, WorkProgress, WorkStart,
};

pub use gateway::{Gateway, MountedShare, Parts, UnmountRequest};

/// Why a verb failed, by what the operator can do about it.
#[derive(Debug, thiserror::Error)]
pub enum OperationError {
    /// Nothing is mounted there.
    #[error("no share is mounted at {}", path.display())]
    NoMount {
        /// The path asked for.
        path: PathBuf,
    },
    /// The file is not there.
    #[error("{} does not exist", path.display())]
    NoFile {
        /// The path asked for.
        path: PathBuf,
    },
    /// There is no such hook.
    #[error("there is no hook {name:?}")]
    NoHook {
        /// The name asked for.
        name: String,
    },
    /// There is no such work.
    #[error("no work {id} is under way")]
    NoWork {
        /// The number asked for.
        id: u64,
    },
    /// What was asked for makes no sense.
    #[error("{0}")]
    Nonsense(String),
    /// There is no such job.
    #[error("there is no job {id}")]
    NoJob {
        /// The number asked for.
        id: u64,
    },
    /// The mount has open files or is somebody's working directory.
    #[error("{} is in use", mount.display())]
    Busy {
        /// The mount asked for.
        mount: PathBuf,
    },
    /// A part of the gateway failed.
    #[error("the gateway failed")]
    Failed(#[source] Box<dyn Error + Send + Sync>),
}

/// What an operator can ask for and do.
#[async_trait]
pub trait Operations: fmt::Debug + Send + Sync + 'static {
    /// How everything is.
    async fn status(&self) -> Result<Status, OperationError>;

    /// The first `limit` items of the queue, and its totals.
    async fn queue(&self, limit: usize) -> Result<Queue, OperationError>;

    /// How much is left to upload of what is at and below `path` (absolute, in a mount), or of everything. Answers
    /// when it is done, when it made progress, or after about a second, whichever comes first; so it is asked in a loop.
    ///
    /// # Cancel safety
    /// Asking changes nothing.
    async fn wait(&self, path: Option<&Path>) -> Result<WaitProgress, OperationError>;

    /// All hooks.
    async fn hooks(&self) -> Result<Vec<Hook>, OperationError>;

    /// Jobs of hooks, the latest first.
    async fn hook_jobs(&self, filter: &JobFilter) -> Result<Vec<Job>, OperationError>;

    /// What hooks said about versions that are there now; the path is absolute, in a mount.
    async fn hook_results(&self, filter: &ResultFilter) -> Result<Vec<HookResult>, OperationError>;

    /// Tries jobs again that failed or were parked.
    async fn hook_retry(&self, retry: &Retry) -> Result<Retried, OperationError>;

    /// Has hooks rest or go on; all hooks as they are then.
    async fn pause_hooks(&self, pause: &HookPause) -> Result<Vec<Hook>, OperationError>;

    /// Has a hook look at what is there already; the path is absolute, in a mount.
    async fn run_hook(&self, run: &HookRun) -> Result<HookBegun, OperationError>;

    /// Says whether files may leave, in place of their gates; the path is absolute, in a mount.
    async fn say(&self, say: &Say) -> Result<Spoken, OperationError>;

    /// What happened.
    async fn events(&self, query: &EventQuery) -> Result<EventList, OperationError>;

    /// Who is told of it, and how far each has got.
    async fn sinks(&self) -> Result<Vec<Sink>, OperationError>;

    /// Changes how far a sink has got; returns all of them.
    async fn change_sink(&self, change: &SinkChange) -> Result<Vec<Sink>, OperationError>;

    /// What stays in the cache.
    async fn pins(&self) -> Result<Vec<Pin>, OperationError>;

    /// Lets a path or glob stay in the cache, or not any more.
    async fn set_pin(&self, change: &PinChange) -> Result<Pin, OperationError>;

    /// Begins long work.
    async fn start_work(&self, start: &WorkStart) -> Result<WorkId, OperationError>;

    /// How far long work is. Answers when it is over, or after about a second; so it is asked in a loop.
    ///
    /// # Cancel safety
    /// Asking changes nothing.
    async fn work(&self, id: WorkId) -> Result<WorkProgress, OperationError>;

    /// Stops long work; what it did stays.
    async fn stop_work(&self, id: WorkId) -> Result<WorkProgress, OperationError>;

    /// What gateways told in the store of the share that `path` is in, or of all shares, of what they had not uploaded.
    async fn reports(&self, path: Option<&Path>) -> Result<Vec<GatewayReport>, OperationError>;

    /// Evicts what is here of the files at and below `path`, as far as it can go.
    async fn evict(&self, path: &Path) -> Result<Evicted, OperationError>;

    /// All that is known of the file at `path`.
    async fn explain(&self, path: &Path) -> Result<Explanation, OperationError>;

    /// Pauses, resumes, holds back, retries or puts first what waits to be uploaded.
    async fn change_queue(&self, change: &QueueChange) -> Result<QueueChanged, OperationError>;

    /// The pace of the gateway and of each share, and what sets it.
    async fn paces(&self) -> Result<Vec<PaceState>, OperationError>;

    /// Sets a pace, also for transfers under way; answers with all.
    async fn set_pace(&self, change: &PaceChange) -> Result<Vec<PaceState>, OperationError>;

    /// What went up, the first of it that is asked for.
    async fn receipts(&self, filter: &ReceiptFilter) -> Result<Receipts, OperationError>;

    /// Files that both sides had changed and that nobody has settled yet, the latest first.
    async fn conflicts(&self) -> Result<Vec<Conflict>, OperationError>;

    /// Settles one of them; answers with what it was.
    async fn settle_conflict(&self, settle: &Settle) -> Result<Conflict, OperationError>;

    /// What was deleted and can be got back.
    async fn trash(&self) -> Result<Vec<Trashed>, OperationError>;

    /// Brings back what was at and below `path`.
    async fn restore(&self, path: &Path) -> Result<Restored, OperationError>;

    /// Deletes for good what can be got back.
    async fn empty_trash(&self) -> Result<Emptied, OperationError>;

    /// Takes a mount away, and answers when it is gone. What is not uploaded is kept.
    ///
    /// # Cancel safety
    /// The mount may or may not be gone.
    async fn unmount(&self, mount: &Path) -> Result<Unmounted, OperationError>;
}
