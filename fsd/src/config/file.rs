//! The configuration as it is written in TOML. Nothing is checked here but names and types.

use std::collections::BTreeMap;
use std::path::PathBuf;

use policies::ScheduleSection;
use serde::Deserialize;

/// A whole file.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// See [`super::Config::state_dir`].
    pub state_dir: Option<PathBuf>,
    /// See [`super::CacheConfig`].
    #[serde(default)]
    pub cache: CacheSection,
    /// See [`super::Config::upload`].
    #[serde(default)]
    pub upload: ScheduleSection,
    /// See [`super::Config::download`].
    #[serde(default)]
    pub download: ScheduleSection,
    /// See [`super::Config::receipts`].
    #[serde(default)]
    pub receipts: ReceiptsSection,
    /// See [`super::ShareConfig`].
    #[serde(default)]
    pub share: Vec<ShareSection>,
    /// See [`super::HookConfig`].
    #[serde(default)]
    pub hook: Vec<HookSection>,
    /// See [`super::Config::programs_at_once`].
    #[serde(default)]
    pub programs: ProgramsSection,
    /// See [`crate::sinks::EventRules`].
    #[serde(default)]
    pub events: EventsSection,
    /// See [`crate::sinks::SinkConfig`].
    #[serde(default)]
    pub sink: Vec<SinkSection>,
}

/// `[cache]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CacheSection {
    /// See [`super::CacheConfig::disk_bytes_max`].
    pub disk_max: Option<String>,
    /// See [`super::CacheConfig::free_bytes_min`].
    pub free_min: Option<String>,
    /// See [`super::CacheConfig::high_mark`].
    pub high_mark: Option<u8>,
    /// See [`super::CacheConfig::low_mark`].
    pub low_mark: Option<u8>,
}

/// `[receipts]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptsSection {
    /// See [`crate::sync::ReceiptRules::file_bytes_max`].
    pub file_max: Option<String>,
    /// See [`crate::sync::ReceiptRules::files_max`].
    pub files: Option<usize>,
}

/// `[[share]]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShareSection {
    /// See [`super::ShareConfig::name`].
    pub name: String,
    /// See [`super::ShareConfig::mount`].
    pub mount: PathBuf,
    /// Where the objects are; this or `local = true`.
    pub url: Option<String>,
    /// Nothing leaves this machine; this or `url`.
    #[serde(default)]
    pub local: bool,
    /// See [`super::ShareConfig::ca_file`].
    pub ca_file: Option<PathBuf>,
    /// See [`super::ShareConfig::read_only`].
    #[serde(default)]
    pub read_only: bool,
    /// See [`super::ShareConfig::allow_other`].
    #[serde(default)]
    pub allow_other: bool,
    /// See [`super::ShareConfig::no_exec`].
    #[serde(default)]
    pub no_exec: bool,
    /// See [`super::ShareConfig::passthrough`].
    pub passthrough: Option<bool>,
    /// See [`super::ShareConfig::acl`].
    pub acl: Option<bool>,
    /// See [`super::ShareConfig::upload_delay`].
    pub upload_delay: Option<String>,
    /// See [`super::ShareConfig::refresh_after`].
    pub refresh_after: Option<String>,
    /// See [`super::ShareConfig::refresh_every`]; `off` for never.
    pub refresh_every: Option<String>,
    /// What `fsync` waits for: `local` or `uploaded`.
    pub fsync: Option<String>,
    /// See [`super::ShareConfig::fsync_wait`].
    pub fsync_wait: Option<String>,
    /// Whether reads wait for a store that can't be reached: `fail` or `wait`.
    pub offline_reads: Option<String>,
    /// See [`super::ShareConfig::offline_wait`].
    pub offline_wait: Option<String>,
    /// The pace of its uploads in a word; or a section `upload`.
    pub upload_max: Option<String>,
    /// The pace of its downloads in a word; or a section `download`.
    pub download_max: Option<String>,
    /// See [`super::ShareConfig::upload`].
    pub upload: Option<ScheduleSection>,
    /// See [`super::ShareConfig::download`].
    pub download: Option<ScheduleSection>,
    /// See [`crate::sync::Rules::priority`].
    pub priority: Option<i32>,
    /// See [`crate::sync::Rules::weight`].
    pub weight: Option<u32>,
    /// See [`crate::sync::Rules::order`].
    pub order: Option<String>,
    /// See [`crate::sync::Rules::alert_after`].
    pub alert_after: Option<String>,
    /// See [`crate::sync::Rules::conflicts`].
    pub conflicts: Option<String>,
    /// See [`crate::sync::Rules::conflicts_retention`].
    pub conflicts_retention: Option<String>,
    /// See [`crate::sync::Rules::deletes`].
    pub deletes: Option<String>,
    /// See [`crate::sync::Rules::trash_retention`].
    pub trash_retention: Option<String>,
    /// See [`policies::Quotas::each`].
    pub user_quota: Option<String>,
    /// See [`policies::Quotas::of_users`]; by number or name.
    #[serde(default)]
    pub user_quotas: BTreeMap<String, String>,
}

/// `[[hook]]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HookSection {
    /// See [`super::HookConfig::dir`].
    pub dir: PathBuf,
    /// See [`super::HookConfig::shares`].
    pub shares: Option<Vec<String>>,
    /// See [`super::HookConfig::matches`].
    #[serde(rename = "match")]
    pub matches: Option<Vec<String>>,
    /// See [`super::HookConfig::priority`].
    #[serde(default)]
    pub priority: i32,
    /// See [`super::HookConfig::media_types`].
    #[serde(default)]
    pub mime: Vec<String>,
    /// It looks now and then: so often.
    pub every: Option<String>,
    /// It looks now and then: minute, hour, day, month, weekday.
    pub cron: Option<String>,
    /// What clock `cron` is read on.
    pub time_zone: Option<String>,
    /// How long a file is quiet before it looks.
    pub debounce: Option<String>,
    /// See [`super::HookConfig::sizes`].
    pub size_min: Option<String>,
    /// See [`super::HookConfig::sizes`].
    pub size_max: Option<String>,
    /// A folder of the same share; this or `results_share`.
    pub results_folder: Option<String>,
    /// Another share; this or `results_folder`.
    pub results_share: Option<String>,
    /// See [`super::HookConfig::params`].
    #[serde(default)]
    pub params: toml::Table,
    /// See [`super::HookConfig::gate`].
    pub gate: Option<GateSection>,
    /// See [`super::HookConfig::alerts`].
    #[serde(default)]
    pub alert_if: Vec<String>,
}

/// `[programs]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgramsSection {
    /// See [`super::Config::programs_at_once`].
    pub at_once: Option<usize>,
}

/// `[events]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventsSection {
    /// See [`crate::sinks::EventRules::keep`].
    pub keep: Option<String>,
    /// See [`crate::sinks::EventRules::count_max`].
    pub count_max: Option<u64>,
}

/// `[[sink]]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SinkSection {
    /// See [`crate::sinks::SinkConfig::name`].
    pub name: String,
    /// Where it is; its scheme says what it is.
    pub url: String,
    /// What it is told; all if left out.
    pub events: Option<Vec<String>>,
    /// About files of these shares; of those with a store if left out, of all if it is a file.
    pub shares: Option<Vec<String>>,
    /// From these hooks.
    pub hooks: Option<Vec<String>>,
    /// Of a broker: the topic, or the subject.
    pub topic: Option<String>,
    /// Of a web hook: events of one request.
    pub batch: Option<usize>,
    /// Of NATS: whether a stream has to store each event.
    pub stored: Option<bool>,
    /// See [`crate::sinks::Access::user`].
    pub user: Option<String>,
    /// See [`crate::sinks::Access::secret_file`].
    pub secret_file: Option<PathBuf>,
    /// See [`crate::sinks::Access::ca_file`].
    pub ca_file: Option<PathBuf>,
}

/// `gate` of a `[[hook]]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateSection {
    /// See [`policies::GateRule::hold_if`].
    #[serde(default)]
    pub hold_if: Vec<String>,
    /// See [`policies::GateRule::drop_if`].
    #[serde(default)]
    pub drop_if: Vec<String>,
    /// See [`policies::GateRule::route_if`].
    #[serde(default)]
    pub route_if: Vec<String>,
    /// See [`policies::GateRule::fallback`].
    pub fallback: Option<String>,
    /// See [`super::GateConfig::timeout`].
    pub timeout: Option<String>,
    /// See [`super::GateConfig::originals`].
    pub originals_share: Option<String>,
    /// See [`super::GateConfig::route`].
    pub route_share: Option<String>,
}
