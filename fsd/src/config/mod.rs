//! The configuration, checked once into values that cannot be wrong.
//!
//! Invariant: a [`Config`] comes only out of [`Config::check`], whether it was written in a file or as arguments.
//! Invariant: all defaults stand in this module.

mod check;
pub mod file;
mod problem;

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::tz::TimeZoneDatabase;
use policies::{GateRule, Quotas, Schedule, When};

use crate::hooks::Alert;
use crate::remote::RemoteUrl;
use crate::sinks::{EventRules, SinkConfig};
use crate::sync::{ReceiptRules, Rules};

pub use file::File;
pub use problem::{ConfigError, Problem, ProblemKind};

/// A file that sets everything there is to set, with comments.
pub const EXAMPLE: &str = include_str!("example.toml");

/// Where the state is unless said otherwise.
pub const STATE_DIR: &str = "/var/lib/fsd";

/// How much disk the cache takes unless said otherwise.
pub const DISK_BYTES_MAX: u64 = 64 << 30;

/// The high and the low mark unless said otherwise, in percent of the cache.
pub const MARKS: (u8, u8) = (85, 75);

/// The smallest cache that is useful.
pub const DISK_BYTES_LEAST: u64 = 64 << 20;

/// How much of the disk stays free unless said otherwise.
pub const FREE_BYTES_MIN: u64 = 1 << 30;

/// How long a file is quiet before it is uploaded, unless said otherwise.
pub const UPLOAD_DELAY: Duration = Duration::from_secs(1);

/// The longest such time.
pub const UPLOAD_DELAY_MAX: Duration = Duration::from_secs(7 * 86_400);

/// How long `fsync` waits for an upload, if it does, unless said otherwise.
pub const FSYNC_WAIT: Duration = Duration::from_secs(60);

/// The longest such time.
pub const FSYNC_WAIT_MAX: Duration = Duration::from_secs(86_400);

/// How long reads wait for a store that can't be reached, if they do, unless said otherwise.
pub const OFFLINE_WAIT: Duration = Duration::from_secs(60);

/// The longest such time.
pub const OFFLINE_WAIT_MAX: Duration = Duration::from_secs(86_400);

/// The shortest and the longest time between two looks of a hook that looks now and then, and the longest that it waits for quiet.
pub const EVERY_RANGE: (Duration, Duration) =
    (Duration::from_secs(1), Duration::from_secs(366 * 86_400));

/// How long a file waits for the word of a gate, unless said otherwise.
pub const GATE_TIMEOUT: Duration = Duration::from_secs(600);

/// The shortest and the longest such time.
pub const GATE_TIMEOUT_RANGE: (Duration, Duration) =
    (Duration::from_secs(1), Duration::from_secs(30 * 86_400));

/// How old a listing of the cloud gets before it is asked again, unless said otherwise.
pub const REFRESH_AFTER: Duration = Duration::from_secs(60);

/// The shortest and the longest such time.
pub const REFRESH_AFTER_RANGE: (Duration, Duration) =
    (Duration::from_secs(1), Duration::from_secs(365 * 86_400));

/// The shortest and the longest time between two looks at all that is known of a share.
pub const REFRESH_EVERY_RANGE: (Duration, Duration) =
    (Duration::from_secs(10), Duration::from_secs(365 * 86_400));

/// Where results of hooks go unless said otherwise.
pub const RESULTS_FOLDER: &str = "fsd-results";

/// The most shares of one gateway.
pub const SHARES_MAX: usize = 256;

/// The most files with receipts.
pub const RECEIPT_FILES_MAX: usize = 10_000;

/// The most that one share weighs beside others.
pub const WEIGHT_MAX: u32 = 1000;

/// The most hooks of one gateway.
pub const HOOKS_MAX: usize = 256;

/// How many programs can run at a time.
pub const PROGRAMS_RANGE: RangeInclusive<usize> = 1..=256;
/// How many do.
pub const PROGRAMS_AT_ONCE: usize = 2;

/// The most sinks of one gateway.
pub const SINKS_MAX: usize = 64;

/// The most events of one request to a web hook.
pub const BATCH_MAX: usize = 256;

/// The shortest and the longest time that events are kept.
pub const EVENT_KEEP_RANGE: (Duration, Duration) =
    (Duration::from_secs(60), Duration::from_secs(365 * 86_400));

/// How many events are kept at most: at least, and at most.
pub const EVENT_COUNT_RANGE: RangeInclusive<u64> = 1_000..=100_000_000;

/// What one gateway does.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// Where everything is kept that must outlive the daemon: cached files, metadata, the queue.
    pub state_dir: PathBuf,
    /// The cache.
    pub cache: CacheConfig,
    /// The pace of all uploads together.
    pub upload: Schedule,
    /// The pace of all downloads together.
    pub download: Schedule,
    /// How it is kept what went up.
    pub receipts: ReceiptRules,
    /// What is looked at on arrival, in this order.
    pub hooks: Vec<HookConfig>,
    /// How many hooks that are programs run at a time.
    pub programs_at_once: usize,
    /// How long it is kept what happened.
    pub events: EventRules,
    /// Who is told of it.
    pub sinks: Vec<SinkConfig>,
    /// What is mounted; at least one.
    pub shares: Vec<ShareConfig>,
}

/// How much disk the cache may take.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheConfig {
    /// The most bytes that cached files take on disk. On a smaller disk `free_bytes_min` is the limit.
    pub disk_bytes_max: u64,
    /// Above so many percent what was used longest ago is evicted, and writers are slowed down.
    pub high_mark: u8,
    /// Down to so many percent is evicted then.
    pub low_mark: u8,
    /// How many bytes of the disk the cache leaves free for others.
    pub free_bytes_min: u64,
}

/// A directory tree that is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShareConfig {
    /// Unique among the shares; letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// Where it is mounted; absolute.
    pub mount: PathBuf,
    /// Where its files go.
    pub store: StoreConfig,
    /// Certificates of authorities that its store's is believed by, beside those that the system trusts; absolute.
    pub ca_file: Option<PathBuf>,
    /// Nothing can be changed through the mount.
    pub read_only: bool,
    /// Other users than the one who mounts it may use it, as far as modes and owners let them.
    pub allow_other: bool,
    /// Nothing on it can be run as a program.
    pub no_exec: bool,
    /// Whether the kernel may read and write by itself what is wholly here.
    pub passthrough: bool,
    /// Whether access control lists are kept and decide.
    pub acl: bool,
    /// How long a file is quiet before it is uploaded.
    pub upload_delay: Duration,
    /// How long `fsync` waits until the version is uploaded; none: it returns when it is durable here.
    pub fsync_wait: Option<Duration>,
    /// How long a read waits for what is only in a store that can't be reached; zero: it fails at once.
    pub offline_wait: Duration,
    /// How old a listing of the cloud may get before a reader asks again.
    pub refresh_after: Duration,
    /// How often the cloud is asked for what changed in directories that are known here, whether anybody reads them or not.
    pub refresh_every: Option<Duration>,
    /// The pace of this share's uploads, below that of the gateway.
    pub upload: Schedule,
    /// The pace of this share's downloads, below that of the gateway.
    pub download: Schedule,
    /// What is done where both sides differ, and with what is deleted.
    pub rules: Rules,
    /// How much each user's files may take.
    pub quotas: Quotas,
}

/// Where the files of a share go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreConfig {
    /// Nowhere: they stay on this machine.
    Local,
    /// To a store.
    Cloud {
        /// Which, and the prefix in it; holds no secret.
        url: RemoteUrl,
    },
}

/// A hook that is run on arrivals.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct HookConfig {
    /// The folder that holds its `hook.toml`; absolute.
    pub dir: PathBuf,
    /// Names of the shares whose arrivals it sees; never empty.
    pub shares: Vec<String>,
    /// Globs of the files that it sees, in place of those in its `hook.toml`.
    pub matches: Option<Vec<String>>,
    /// How long the files are that it sees, in bytes.
    pub sizes: RangeInclusive<u64>,
    /// Jobs of the hook with the highest go first.
    pub priority: i32,
    /// What the files are that it sees: media types such as `image/png` or `image/*`; all if there is none.
    pub media_types: Vec<String>,
    /// When it looks at them.
    pub when: When,
    /// Where its results go.
    pub results: ResultsTo,
    /// Parameters, over those in its `hook.toml`.
    pub params: toml::Table,
    /// That nothing it sees leaves without its word, if so.
    pub gate: Option<GateConfig>,
    /// What of its results is told as an alert.
    pub alerts: Vec<Alert>,
}

/// A hook that decides what leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateConfig {
    /// How it comes to a verdict.
    pub rule: GateRule,
    /// How long after a file's arrival its fallback is the verdict.
    pub timeout: Duration,
    /// The local share where originals are kept whose place the hook's picture takes; none: what it sees leaves as it is.
    pub originals: Option<String>,
    /// The share that files move to of which a field of `route_if` is true.
    pub route: Option<String>,
}

/// Where the results of a hook go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResultsTo {
    /// To this folder of the share that the file arrived in.
    Folder(String),
    /// To the share of this name.
    Share(String),
}

impl Config {
    /// Reads and checks a configuration file. Only the given file is read.
    ///
    /// # Errors
    /// [`ConfigError`] shows everything that is wrong with the file, each with its place and remedy.
    pub fn read(path: &Path, zones: &TimeZoneDatabase) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(&path.display().to_string(), &text, zones)
    }

    /// Checks the text of a configuration file called `name`.
    ///
    /// # Errors
    /// [`ConfigError`], as for [`Config::read`].
    pub fn parse(name: &str, text: &str, zones: &TimeZoneDatabase) -> Result<Self, ConfigError> {
        let file: File =
            toml::from_str(text).map_err(|error| ConfigError::of_toml(name, text, &error))?;
        Self::check(&file, zones).map_err(|problems| ConfigError::of_problems(name, text, problems))
    }

    /// Checks what is written.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn check(file: &File, zones: &TimeZoneDatabase) -> Result<Self, Vec<Problem>> {
        check::config(file, zones)
    }
}

#[cfg(test)]
mod tests;
