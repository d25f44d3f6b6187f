//! The JSON of every verb. Fields are only ever added: an older client skips those it does not know.
//!
//! Paths of files are text for people: bytes that are not UTF-8 show as `�`. Moments are RFC 3339. Amounts are bytes.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::lists::list_default;

/// How the gateway is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The version of the daemon.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// When it was started.
    pub started: Timestamp,
    /// Its mounts, in the order of the configuration.
    pub mounts: Vec<Mount>,
    /// Its cache.
    pub cache: Cache,
    /// Its memory.
    #[serde(default)]
    pub memory: Memory,
    /// What waits to be uploaded.
    pub queue: QueueTotals,
    /// How fast bytes pass.
    pub rates: Rates,
    /// Long work under way.
    #[serde(default)]
    pub work: Vec<WorkProgress>,
    /// Its hooks, in the order of the configuration.
    pub hooks: Vec<Hook>,
    /// The process that runs hooks; none while there is none.
    pub worker: Option<Worker>,
    /// What holds in hooks that are programs: a line for each limit; nothing if there is none.
    #[serde(default)]
    pub programs: Vec<String>,
    /// Who is told what happens.
    #[serde(default)]
    pub sinks: Vec<super::sinks::Sink>,
}

/// A share and where it is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// The share's name.
    pub share: String,
    /// Where its files go; none if they stay on this machine.
    pub url: Option<String>,
    /// Where it is mounted.
    pub mount: PathBuf,
    /// Nothing can be changed through it.
    pub read_only: bool,
    /// Why all file content goes through the daemon; none if the kernel reads and writes by itself what is wholly here.
    pub daemon_path: Option<String>,
    /// Its link to the store.
    pub link: Link,
    /// Since when something waits to be uploaded, if that is longer than it should.
    #[serde(default)]
    pub late_since: Option<Timestamp>,
    /// What users' files take, where that is limited.
    #[serde(default)]
    pub quotas: Vec<Quota>,
}

/// What the files of a user take in a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// The user.
    pub uid: u32,
    /// Their lengths together.
    pub bytes_used: u64,
    /// How long they may be; none is no limit.
    pub bytes_max: Option<u64>,
}

/// The link between a share and its store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Link {
    /// There is none: the share is local.
    Local,
    /// The store answers.
    Online,
    /// The store can't be reached; the gateway probes it and goes on by itself.
    Offline {
        /// Since when.
        since: Timestamp,
        /// What happened last.
        error: String,
    },
    /// The store refuses the credentials; a person must act.
    Denied {
        /// Since when.
        since: Timestamp,
        /// What the store said.
        error: String,
    },
    /// The bucket, container or directory is not there; a person must act.
    Missing {
        /// Since when.
        since: Timestamp,
        /// What the store said.
        error: String,
    },
}

/// How full the cache is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cache {
    /// What cached files take on disk.
    pub bytes_used: u64,
    /// What they may take.
    pub bytes_max: u64,
    /// How much of it is not uploaded yet, and so can't be dropped.
    pub bytes_dirty: u64,
    /// How many files are cached, wholly or partly.
    pub files: u64,
    /// Where files without names lie, if there are any.
    #[serde(default)]
    pub lost_and_found: Option<LostAndFound>,
}

/// Files that the metadata store did not know at a start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostAndFound {
    /// The directory.
    pub dir: PathBuf,
    /// How many are in it.
    pub files: u64,
}

/// What the daemon takes in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// All of it that is resident.
    pub bytes_resident: u64,
    /// Inodes and names that are kept, the longest unused go.
    pub bytes_metadata: u64,
    /// What these may take.
    pub bytes_metadata_max: u64,
}

/// How much waits to be uploaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueTotals {
    /// Files and directories that differ from the store.
    pub items: u64,
    /// Bytes that are to be sent for them.
    pub bytes: u64,
    /// How many are being sent.
    pub in_flight: u64,
    /// How many were given up until a person acts.
    pub parked: u64,
    /// How many a person holds back.
    #[serde(default)]
    pub cancelled: u64,
    /// How many a gate, or a person, has said to stay here, beside all of these.
    #[serde(default)]
    pub kept_here: u64,
}

/// How fast bytes pass, both ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rates {
    /// To the stores.
    pub up: Pace,
    /// From the stores.
    pub down: Pace,
}

/// How fast bytes pass, one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// Over the last seconds.
    pub bytes_per_second: u64,
    /// What the schedule allows now: none is no limit, zero is a pause.
    pub allowed_bytes_per_second: Option<u64>,
    /// Since the daemon was started.
    pub bytes_total: u64,
}

/// What waits to be uploaded, in the order in which it will be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// All of it.
    pub totals: QueueTotals,
    /// The first of it, as many as were asked for.
    pub items: Vec<QueueItem>,
}

/// One file or directory that differs from the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueItem {
    /// The share it is in.
    pub share: String,
    /// Its path in the share.
    pub path: String,
    /// What is to be done.
    pub action: Action,
    /// How far that is.
    pub state: ItemState,
    /// Bytes to be sent.
    pub bytes: u64,
    /// Bytes already sent.
    pub bytes_sent: u64,
    /// Attempts that failed.
    pub tries: u32,
    /// Why the last attempt failed.
    pub error: Option<String>,
    /// What kind of failure that was: one of the words in `docs/semantics.md`.
    #[serde(default)]
    pub code: Option<String>,
    /// What can be done about it.
    #[serde(default)]
    pub remedy: Option<String>,
    /// Since when it differs.
    pub since: Timestamp,
    /// When it may be tried next.
    #[serde(default)]
    pub due: Option<Timestamp>,
}

/// What makes the store equal again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// The content is sent.
    Upload,
    /// Only attributes are sent.
    Metadata,
    /// The object is moved to another key.
    Move,
    /// The object is deleted.
    Delete,
}

/// How far an item of the queue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ItemState {
    /// It waits for its turn, for quiet, or for the link.
    Waiting,
    /// It is being sent.
    Sending,
    /// Somebody has it open for writing: it goes up when it is closed.
    Writing,
    /// It was given up until a person acts.
    Parked,
    /// A person holds it back.
    Cancelled,
}

/// How much is left to upload of what was asked about. It is done when `items` is zero.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitProgress {
    /// Files and directories that still differ from the store, parked ones included.
    pub items: u64,
    /// Bytes still to be sent for them.
    pub bytes: u64,
    /// How many of them were given up, or are held back: waiting does not help these.
    pub parked: u64,
    /// Why nothing moves, if it does not: a link that is down, a pause of the schedule.
    pub blocked: Option<String>,
}

/// A hook and its jobs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// Its name.
    pub name: String,
    /// Its version: a hash of its folder.
    pub version: String,
    /// The shares whose files it sees.
    pub shares: Vec<String>,
    /// What runs it; none as long as no worker has loaded it.
    pub engine: Option<Engine>,
    /// Why it can't run, if it can't.
    pub error: Option<String>,
    /// What is wrong with its folder, which has changed since it was read: the version before goes on.
    #[serde(default)]
    pub unusable: Option<String>,
    /// Whether it rests: its jobs wait.
    #[serde(default)]
    pub paused: bool,
    /// Its jobs by state.
    pub jobs: JobCounts,
}

/// What runs a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// The GPU, by its shader.
    Gpu,
    /// The processor, by the shader's twin.
    Cpu,
    /// A program in a sandbox.
    Command,
    /// A program in a container.
    Container,
}

/// How many jobs are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobCounts {
    /// See [`JobState::Waiting`].
    pub waiting: u64,
    /// See [`JobState::Running`].
    pub running: u64,
    /// See [`JobState::Done`].
    pub done: u64,
    /// See [`JobState::Failed`].
    pub failed: u64,
    /// See [`JobState::Parked`].
    pub parked: u64,
}

/// One arrived version of a file that a hook looks at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its number; never given twice.
    pub id: u64,
    /// The hook.
    pub hook: String,
    /// The share that the file arrived in.
    pub share: String,
    /// The file's path in the share.
    pub path: String,
    /// How far it is.
    pub state: JobState,
    /// Attempts that failed.
    pub tries: u32,
    /// Why the last attempt failed.
    pub error: Option<String>,
    /// When the file arrived.
    pub arrived: Timestamp,
    /// When the state last changed.
    pub changed: Timestamp,
}

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// It waits for its turn, or for another attempt.
    Waiting,
    /// The worker has it.
    Running,
    /// Its outcome is applied.
    Done,
    /// The hook could not make anything of the file; another attempt would end the same.
    Failed,
    /// It broke the worker too often and was given up until a person acts.
    Parked,
}

/// Which jobs are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobFilter {
    /// Only those of this hook.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hook: Option<String>,
    /// Only those in this state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<JobState>,
    /// At most so many, the latest first.
    #[serde(default = "list_default")]
    pub limit: usize,
}

/// What a hook said about a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HookResult {
    /// The job that said it.
    pub job: u64,
    /// The hook.
    pub hook: String,
    /// Where the file is: a path in a mount; none if its share is not mounted.
    pub path: Option<PathBuf>,
    /// Its version.
    pub version: String,
    /// What ran it.
    pub engine: Engine,
    /// The adapter, if it ran on a GPU.
    pub adapter: Option<String>,
    /// When.
    pub at: Timestamp,
    /// What it found, by name.
    pub fields: serde_json::Map<String, serde_json::Value>,
    /// Files that it derived: paths in the mounts.
    pub derived: Vec<String>,
}

/// The process that runs hooks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worker {
    /// Its process.
    pub pid: u32,
    /// The GPU it uses, or why there is none.
    pub adapter: String,
    /// What it can't do, as it was enforced: a line for each barrier.
    pub sandbox: Vec<String>,
}

/// Jobs that are to be tried again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    /// This one.
    Job(u64),
    /// All that failed or were parked.
    All,
}

/// How many jobs are tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retried {
    /// The number.
    pub jobs: u64,
}

/// What stays in the cache, and how much of it is here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// The share.
    pub share: String,
    /// The path or glob, in the mount.
    pub path: PathBuf,
    /// Files that it stands for, as far as their names are known.
    pub files: u64,
    /// How long they are together.
    pub bytes: u64,
    /// How much of that is here.
    pub bytes_here: u64,
}

/// A path or glob in a mount that is to stay in the cache, or not any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinChange {
    /// The path or glob.
    pub path: PathBuf,
    /// Whether it stays.
    pub pinned: bool,
}

/// Long work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkKind {
    /// Files are brought here.
    Warm,
    /// What is here is looked at again.
    Scrub,
    /// What changed in the store comes in.
    Refresh,
    /// All that the store knows of names and attributes comes in.
    Recover,
    /// Names, records, files and the store are compared.
    Check,
    /// Files are compared with their objects.
    Verify,
}

/// Long work that is to begin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkStart {
    /// What is to be done.
    pub kind: WorkKind,
    /// A file or directory in a mount; everything if left out, where that makes sense.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Of a refresh: also what nobody looked at yet.
    #[serde(default)]
    pub all: bool,
    /// It goes on if nobody asks how far it is.
    #[serde(default)]
    pub background: bool,
    /// Of a check: what can be mended without losing anything is.
    #[serde(default)]
    pub repair: bool,
    /// Of a verification: objects are read too.
    #[serde(default)]
    pub deep: bool,
}

impl WorkKind {
    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Warm => "warm",
            Self::Scrub => "scrub",
            Self::Refresh => "refresh",
            Self::Recover => "recover",
            Self::Check => "check",
            Self::Verify => "verify",
        }
    }
}

impl WorkStart {
    /// Work of a kind, on everything.
    #[must_use]
    pub fn of(kind: WorkKind) -> Self {
        Self { kind, path: None, all: false, background: false, repair: false, deep: false }
    }
}

/// Which work is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkId {
    /// Its number; never given twice by one daemon.
    pub id: u64,
}

/// How far long work is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkProgress {
    /// Its number.
    pub id: u64,
    /// What is done.
    pub kind: WorkKind,
    /// Below this path; everything if it is empty.
    pub path: PathBuf,
    /// Files to be looked at, as far as they are known; of a refresh, directories.
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
    #[serde(default)]
    pub unproven: u64,
    /// What came in from the store.
    #[serde(default)]
    pub changes: Changes,
    /// How much a check or a verification found that does not fit together.
    #[serde(default)]
    pub found: u64,
    /// Of it, what is mended.
    #[serde(default)]
    pub repaired: u64,
    /// The first of it, when it is over.
    #[serde(default)]
    pub findings: Vec<Finding>,
    /// What could not be done.
    pub problems: u64,
    /// The first of it, a line each.
    pub told: Vec<String>,
    /// It came to its end, or was stopped.
    pub over: bool,
    /// It was stopped.
    pub stopped: bool,
}

/// How many files and directories the store had otherwise than here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// Names that came.
    pub added: u64,
    /// Objects that are another version now.
    pub changed: u64,
    /// Names that went.
    pub gone: u64,
}

/// Something that does not fit together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What kind of thing: a word that never changes.
    pub code: String,
    /// Where.
    pub at: String,
    /// What about it.
    pub what: String,
    /// What `--repair` does about it; none if a person has to do something.
    pub repair: Option<String>,
    /// It was done.
    pub repaired: bool,
}

/// What a gateway told in a share's store of what it had not uploaded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayReport {
    /// The gateway.
    pub gateway: String,
    /// It is the one that answers.
    pub this: bool,
    /// The share.
    pub share: String,
    /// When it told; none if that can't be read.
    pub written: Option<Timestamp>,
    /// How long ago that was.
    pub age_seconds: u64,
    /// It was stopped then, and did not tell since.
    pub stopped: bool,
    /// Files and directories that differed from the store.
    pub items: u64,
    /// Objects that were to be deleted.
    pub deletions: u64,
    /// Bytes that were to be sent.
    pub bytes: u64,
    /// The first of what differed.
    pub dirty: Vec<DirtyFile>,
    /// Why it can't be read.
    pub error: Option<String>,
}

/// A file that a gateway had not uploaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirtyFile {
    /// Its path in the share.
    pub path: String,
    /// How long it was.
    pub bytes: u64,
    /// When it was changed last.
    pub mtime: Timestamp,
    /// The store has it by now, as far as that is known here: one of this length and time.
    pub arrived: bool,
}

/// What became of files that were to be evicted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evicted {
    /// Files that went from the cache.
    pub files: u64,
    /// Bytes of disk that they took.
    pub bytes: u64,
    /// Files that stay, since somebody has them open.
    pub open: u64,
    /// Files that stay, since they are not uploaded, or a hook waits for them.
    pub not_uploaded: u64,
    /// Files that stay, since they are pinned.
    pub pinned: u64,
}

/// All that is known of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// Its path in the mount.
    pub path: PathBuf,
    /// The share.
    pub share: String,
    /// Its inode number.
    pub inode: u64,
    /// `file`, `directory`, …
    pub kind: String,
    /// `local`, `dirty`, `uploading`, `synced`, `partial` or `cloud-only`.
    pub state: String,
    /// It was put aside, since both sides had changed.
    pub conflict: bool,
    /// The pattern by which it is pinned.
    pub pinned_by: Option<String>,
    /// How long it is.
    pub bytes: u64,
    /// How much of it is here.
    pub bytes_here: u64,
    /// How often it is open.
    pub handles: u32,
    /// Of these, for writing.
    pub writers: u32,
    /// Why its content goes through the daemon; none if the kernel may read and write it by itself.
    pub daemon_path: Option<String>,
    /// Its object; none if there never was one.
    pub object: Option<ExplainedObject>,
    /// What gates have said of it.
    #[serde(default)]
    pub gates: Vec<super::hooks::GateWord>,
    /// What is to be done with it, if anything is.
    pub queue: Option<QueueItem>,
    /// Where its bytes are.
    #[serde(default)]
    pub bytes_are: String,
    /// What happens next, and when.
    #[serde(default)]
    pub next: String,
}

/// What the store has of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedObject {
    /// Its key, below the share's URL.
    pub key: String,
    /// Its version; none if only what is below it has objects.
    pub etag: Option<String>,
    /// It holds what the file holds.
    pub current: bool,
}

/// A mount that is to be taken away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unmount {
    /// Where it is mounted.
    pub mount: PathBuf,
}

/// A mount was taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unmounted {
    /// It was the last one: the daemon ends.
    pub daemon_ends: bool,
    /// Files that are not uploaded yet; they are kept, and go on when the share is mounted again.
    pub items_left: u64,
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// Which kind of failure.
    pub code: ErrorCode,
    /// What happened.
    pub message: String,
}

/// Kinds of failure, by what the caller can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request makes no sense.
    BadRequest,
    /// No such mount, file, hook or job.
    NotFound,
    /// Something is in use; try again later.
    Busy,
    /// The gateway failed; its log says more.
    Failed,
}

/// What `GET /v1/queue` takes.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct QueueQuery {
    #[serde(default = "list_default")]
    pub(super) limit: usize,
}

/// What `GET /v1/wait` and `GET /v1/reports` take.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct WaitQuery {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) path: Option<PathBuf>,
}

/// What `GET /v1/hooks/results` and `GET /v1/explain` take, and `POST /v1/evict`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct PathQuery {
    pub(super) path: PathBuf,
}
