//! From what is written to what is meant. Everything that is wrong is found in one go.

mod hooks;
mod sinks;

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use jiff::tz::TimeZoneDatabase;
use policies::units::{parse_bytes, parse_duration};
use policies::{Quotas, Rate, Schedule, ScheduleSection};

use super::file::{
    CacheSection, EventsSection, File, ProgramsSection, ReceiptsSection, ShareSection,
};
use super::problem::{Problem, ProblemKind};
use super::{
    CacheConfig, Config, DISK_BYTES_LEAST, DISK_BYTES_MAX, EVENT_COUNT_RANGE, EVENT_KEEP_RANGE,
    FREE_BYTES_MIN, FSYNC_WAIT, FSYNC_WAIT_MAX, MARKS, OFFLINE_WAIT, OFFLINE_WAIT_MAX,
    PROGRAMS_AT_ONCE, PROGRAMS_RANGE, RECEIPT_FILES_MAX, REFRESH_AFTER, REFRESH_AFTER_RANGE,
    REFRESH_EVERY_RANGE, SHARES_MAX, STATE_DIR, ShareConfig, StoreConfig, UPLOAD_DELAY,
    UPLOAD_DELAY_MAX, WEIGHT_MAX,
};
use crate::remote::{Place, UrlError};
use crate::sinks::EventRules;
use crate::sync::{RETENTION, ReceiptRules, Rules};

/// The longest name of a share, which is part of file names.
const NAME_BYTES_MAX: usize = 64;

/// Problems found so far. A value that is wrong is noted here and stood in for by a default.
#[derive(Default)]
struct Findings(Vec<Problem>);

impl Findings {
    fn note(&mut self, key: impl Into<String>, value: impl Into<String>, kind: ProblemKind) {
        self.0.push(Problem { key: key.into(), value: value.into(), kind });
    }

    /// The value of an optional key, read by `parse`.
    fn read<T, E: Into<ProblemKind>>(
        &mut self,
        key: String,
        text: Option<&str>,
        default: T,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> T {
        match text.map(parse) {
            None => default,
            Some(Ok(value)) => value,
            Some(Err(error)) => {
                self.note(key, text.unwrap_or_default(), error.into());
                default
            }
        }
    }

    /// A path, without `.` and doubled or trailing slashes.
    fn absolute(&mut self, key: String, path: &Path) -> PathBuf {
        let text = path.display().to_string();
        if !path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
            self.note(key, text, ProblemKind::NotAbsolute);
        } else if path.parent().is_none() {
            self.note(key, text, ProblemKind::RootDir);
        }
        path.components().collect()
    }
}

/// What a share's section says of its pace: in a word, or with windows and budgets.
fn share_schedule(
    key: &str,
    (name, word): (&str, Option<&str>),
    section: Option<&ScheduleSection>,
    zones: &TimeZoneDatabase,
    findings: &mut Findings,
) -> Schedule {
    match (word, section) {
        (Some(word), Some(_)) => {
            findings.note(format!("{key}.{name}_max"), word, ProblemKind::TwoPaces);
            Schedule::default()
        }
        (word, None) => {
            let rate =
                findings.read(format!("{key}.{name}_max"), word, Rate::Unlimited, str::parse);
            rate.into()
        }
        (None, Some(section)) => schedule(&format!("{key}.{name}"), section, zones, findings),
    }
}

pub(super) fn config(file: &File, zones: &TimeZoneDatabase) -> Result<Config, Vec<Problem>> {
    let mut findings = Findings::default();
    let state_dir = file.state_dir.clone().unwrap_or_else(|| STATE_DIR.into());
    let config = Config {
        state_dir: findings.absolute("state_dir".into(), &state_dir),
        cache: cache(&file.cache, &mut findings),
        upload: schedule("upload", &file.upload, zones, &mut findings),
        download: schedule("download", &file.download, zones, &mut findings),
        shares: shares(&file.share, zones, &mut findings),
        receipts: receipts(&file.receipts, &mut findings),
        hooks: hooks::hooks(&file.hook, &file.share, zones, &mut findings),
        programs_at_once: programs_at_once(&file.programs, &mut findings),
        events: events(&file.events, &mut findings),
        sinks: sinks::sinks(&file.sink, &file.share, &mut findings),
    };
    check_places(&config, &mut findings);
    if findings.0.is_empty() { Ok(config) } else { Err(findings.0) }
}

fn receipts(section: &ReceiptsSection, findings: &mut Findings) -> ReceiptRules {
    let default = ReceiptRules::default();
    let file_max = section.file_max.as_deref();
    let file_bytes_max =
        findings.read("receipts.file_max".into(), file_max, default.file_bytes_max, parse_bytes);
    let files_max = section.files.unwrap_or(default.files_max);
    if !(2..=RECEIPT_FILES_MAX).contains(&files_max) {
        findings.note("receipts.files", files_max.to_string(), ProblemKind::ReceiptFiles);
    }
    ReceiptRules { file_bytes_max, files_max }
}

fn programs_at_once(section: &ProgramsSection, findings: &mut Findings) -> usize {
    let at_once = section.at_once.unwrap_or(PROGRAMS_AT_ONCE);
    if !PROGRAMS_RANGE.contains(&at_once) {
        findings.note("programs.at_once", at_once.to_string(), ProblemKind::Programs);
    }
    at_once
}

fn events(section: &EventsSection, findings: &mut Findings) -> EventRules {
    let EventRules { keep, count_max } = EventRules::default();
    let written = section.keep.as_deref();
    let keep = findings.read("events.keep".into(), written, keep, |text| {
        within(parse_duration(text)?, EVENT_KEEP_RANGE)
    });
    let count_max = section.count_max.unwrap_or(count_max);
    if !EVENT_COUNT_RANGE.contains(&count_max) {
        findings.note("events.count_max", count_max.to_string(), ProblemKind::EventCount);
    }
    EventRules { keep, count_max }
}

fn cache(section: &CacheSection, findings: &mut Findings) -> CacheConfig {
    let disk_max = section.disk_max.as_deref();
    let disk_bytes_max =
        findings.read("cache.disk_max".into(), disk_max, DISK_BYTES_MAX, |text| match parse_bytes(
            text,
        )? {
            bytes if bytes < DISK_BYTES_LEAST => Err(ProblemKind::CacheTooSmall),
            bytes => Ok(bytes),
        });
    let free_min = section.free_min.as_deref();
    let free_bytes_min =
        findings.read("cache.free_min".into(), free_min, FREE_BYTES_MIN, parse_bytes);
    let high = section.high_mark.unwrap_or(MARKS.0);
    let low = section.low_mark.unwrap_or(MARKS.1.min(high.saturating_sub(1)));
    for (key, mark) in [("cache.high_mark", high), ("cache.low_mark", low)] {
        if !(1..100).contains(&mark) {
            findings.note(key, mark.to_string(), ProblemKind::Mark);
        }
    }
    if low >= high {
        findings.note("cache.low_mark", low.to_string(), ProblemKind::MarksCross { high });
    }
    CacheConfig { disk_bytes_max, high_mark: high, low_mark: low, free_bytes_min }
}

fn schedule(
    key: &str,
    section: &ScheduleSection,
    zones: &TimeZoneDatabase,
    findings: &mut Findings,
) -> Schedule {
    Schedule::check(section, zones).unwrap_or_else(|errors| {
        for error in errors {
            findings.note(format!("{key}.{}", error.key), error.value, error.problem.into());
        }
        Schedule::default()
    })
}

fn shares(
    sections: &[ShareSection],
    zones: &TimeZoneDatabase,
    findings: &mut Findings,
) -> Vec<ShareConfig> {
    match sections.len() {
        0 => findings.note("share", "", ProblemKind::NoShare),
        1..=SHARES_MAX => {}
        count => findings.note("share", count.to_string(), ProblemKind::TooManyShares),
    }
    let sections = sections.iter().enumerate();
    sections.map(|(index, section)| share(index, section, zones, findings)).collect()
}

fn share(
    index: usize,
    section: &ShareSection,
    zones: &TimeZoneDatabase,
    findings: &mut Findings,
) -> ShareConfig {
    let key = |name: &str| format!("share.{index}.{name}");
    if !is_name(&section.name) {
        findings.note(key("name"), &section.name, ProblemKind::Name);
    }
    let store = match (section.url.as_deref(), section.local) {
        (None, true) => StoreConfig::Local,
        (Some(text), false) => match text.parse() {
            Ok(url) => StoreConfig::Cloud { url },
            Err(error) => {
                findings.note(key("url"), without_secrets(text), UrlError::into(error));
                StoreConfig::Local
            }
        },
        (Some(_), true) => {
            findings.note(key("local"), "true", ProblemKind::TwoStores);
            StoreConfig::Local
        }
        (None, false) => {
            findings.note(key("url"), "", ProblemKind::NoStore);
            StoreConfig::Local
        }
    };
    let delay = |text: &str| match parse_duration(text)? {
        delay if delay > UPLOAD_DELAY_MAX => Err(ProblemKind::DelayTooLong),
        delay => Ok::<Duration, ProblemKind>(delay),
    };
    let delay_text = section.upload_delay.as_deref();
    let (up, down) = (section.upload_max.as_deref(), section.download_max.as_deref());
    let (upload, download) = (section.upload.as_ref(), section.download.as_ref());
    let at = format!("share.{index}");
    let (after, every) = (section.refresh_after.as_deref(), section.refresh_every.as_deref());
    ShareConfig {
        name: section.name.clone(),
        mount: findings.absolute(key("mount"), &section.mount),
        store,
        ca_file: section.ca_file.as_deref().map(|path| findings.absolute(key("ca_file"), path)),
        read_only: section.read_only,
        allow_other: section.allow_other,
        no_exec: section.no_exec,
        passthrough: section.passthrough.unwrap_or(true),
        acl: section.acl.unwrap_or(true),
        upload_delay: findings.read(key("upload_delay"), delay_text, UPLOAD_DELAY, delay),
        refresh_after: findings.read(key("refresh_after"), after, REFRESH_AFTER, |text| {
            within(parse_duration(text)?, REFRESH_AFTER_RANGE)
        }),
        refresh_every: findings.read(key("refresh_every"), every, None, |text| match text {
            "off" => Ok(None),
            text => within(parse_duration(text)?, REFRESH_EVERY_RANGE).map(Some),
        }),
        fsync_wait: fsync_wait(index, section, findings),
        offline_wait: offline_wait(index, section, findings),
        upload: share_schedule(&at, ("upload", up), upload, zones, findings),
        download: share_schedule(&at, ("download", down), download, zones, findings),
        rules: rules(index, section, findings),
        quotas: quotas(index, section, findings),
    }
}

fn fsync_wait(index: usize, section: &ShareSection, findings: &mut Findings) -> Option<Duration> {
    let key = |name: &str| format!("share.{index}.{name}");
    let waits = |text: &str| match text {
        "local" => Ok(false),
        "uploaded" => Ok(true),
        _ => Err(ProblemKind::Fsync),
    };
    let waits = findings.read(key("fsync"), section.fsync.as_deref(), false, waits);
    let limit = |text: &str| match parse_duration(text)? {
        wait if wait > FSYNC_WAIT_MAX => Err(ProblemKind::FsyncWaitTooLong),
        wait => Ok::<Duration, ProblemKind>(wait),
    };
    let limit = findings.read(key("fsync_wait"), section.fsync_wait.as_deref(), FSYNC_WAIT, limit);
    waits.then_some(limit)
}

fn offline_wait(index: usize, section: &ShareSection, findings: &mut Findings) -> Duration {
    let key = |name: &str| format!("share.{index}.{name}");
    let waits = |text: &str| match text {
        "fail" => Ok(false),
        "wait" => Ok(true),
        _ => Err(ProblemKind::OfflineReads),
    };
    let reads = section.offline_reads.as_deref();
    let waits = findings.read(key("offline_reads"), reads, false, waits);
    let limit = |text: &str| match parse_duration(text)? {
        wait if wait > OFFLINE_WAIT_MAX => Err(ProblemKind::OfflineWaitTooLong),
        wait => Ok::<Duration, ProblemKind>(wait),
    };
    let limit =
        findings.read(key("offline_wait"), section.offline_wait.as_deref(), OFFLINE_WAIT, limit);
    if waits { limit } else { Duration::ZERO }
}

fn rules(index: usize, section: &ShareSection, findings: &mut Findings) -> Rules {
    let key = |name: &str| format!("share.{index}.{name}");
    let mut rules = Rules::default();
    let (conflicts, deletes) = (section.conflicts.as_deref(), section.deletes.as_deref());
    rules.conflicts = findings.read(key("conflicts"), conflicts, rules.conflicts, str::parse);
    rules.deletes = findings.read(key("deletes"), deletes, rules.deletes, str::parse);
    let (aside, trash) =
        (section.conflicts_retention.as_deref(), section.trash_retention.as_deref());
    rules.order = findings.read(key("order"), section.order.as_deref(), rules.order, str::parse);
    rules.priority = section.priority.unwrap_or(rules.priority);
    rules.weight = section.weight.unwrap_or(rules.weight);
    if !(1..=WEIGHT_MAX).contains(&rules.weight) {
        findings.note(key("weight"), rules.weight.to_string(), ProblemKind::Weight);
    }
    let alert = section.alert_after.as_deref();
    let some = |text: &str| parse_duration(text).map(Some);
    rules.alert_after = findings.read(key("alert_after"), alert, None, some);
    rules.conflicts_retention =
        findings.read(key("conflicts_retention"), aside, RETENTION, parse_duration);
    rules.trash_retention = findings.read(key("trash_retention"), trash, RETENTION, parse_duration);
    rules
}

fn within(
    duration: Duration,
    (least, most): (Duration, Duration),
) -> Result<Duration, ProblemKind> {
    match (least..=most).contains(&duration) {
        true => Ok(duration),
        false => Err(ProblemKind::Interval { least, most }),
    }
}

fn quotas(index: usize, section: &ShareSection, findings: &mut Findings) -> Quotas {
    let quota = |text: &str| match text {
        "unlimited" => Ok(None),
        text => parse_bytes(text).map(Some),
    };
    let key = format!("share.{index}.user_quota");
    let each = findings.read(key, section.user_quota.as_deref(), None, quota);
    let mut of_users = BTreeMap::new();
    for (user, text) in &section.user_quotas {
        let key = format!("share.{index}.user_quotas.{user}");
        let bytes = findings.read(key.clone(), Some(text), None, quota);
        let named = || nix::unistd::User::from_name(user).ok().flatten();
        match user.parse().ok().or_else(|| named().map(|user| user.uid.as_raw())) {
            Some(uid) => drop(of_users.insert(uid, bytes)),
            None => findings.note(key, user, ProblemKind::NoSuchUser),
        }
    }
    Quotas { each, of_users }
}

/// No two shares at one place, and no mount, state or store inside another: each would wait for the other.
fn check_places(config: &Config, findings: &mut Findings) {
    for (index, share) in config.shares.iter().enumerate() {
        let key = |name: &str| format!("share.{index}.{name}");
        let mount = share.mount.display().to_string();
        for (other_index, other) in config.shares.iter().enumerate() {
            let other_key = |name: &str| format!("share.{other_index}.{name}");
            let earlier = other_index < index;
            if earlier && other.name == share.name {
                findings.note(
                    key("name"),
                    &share.name,
                    ProblemKind::Taken { other_key: other_key("name") },
                );
            }
            if earlier && other.mount == share.mount {
                findings.note(
                    key("mount"),
                    &mount,
                    ProblemKind::Taken { other_key: other_key("mount") },
                );
            }
            if other.mount != share.mount && lies_in(&share.mount, &other.mount) {
                findings.note(key("mount"), &mount, inside(other_key("mount"), &other.mount));
            }
            if let StoreConfig::Cloud { url } = &other.store {
                if earlier && other.store == share.store {
                    let kind = ProblemKind::Taken { other_key: other_key("url") };
                    findings.note(key("url"), url.to_string(), kind);
                }
                if let Place::Dir { path } = &url.place {
                    if lies_in(path, &share.mount) {
                        let kind = inside(key("mount"), &share.mount);
                        findings.note(other_key("url"), url.to_string(), kind);
                    } else if lies_in(&share.mount, path) {
                        findings.note(key("mount"), &mount, inside(other_key("url"), path));
                    }
                }
            }
        }
        if let StoreConfig::Cloud { url } = &share.store
            && let Place::Dir { path } = &url.place
        {
            if lies_in(&config.state_dir, path) {
                let state_dir = config.state_dir.display().to_string();
                findings.note("state_dir", state_dir, inside(key("url"), path));
            } else if lies_in(path, &config.state_dir) {
                let kind = inside("state_dir".to_owned(), &config.state_dir);
                findings.note(key("url"), url.to_string(), kind);
            }
        }
        if lies_in(&share.mount, &config.state_dir) {
            findings.note(key("mount"), &mount, inside("state_dir".to_owned(), &config.state_dir));
        } else if lies_in(&config.state_dir, &share.mount) {
            let state_dir = config.state_dir.display().to_string();
            findings.note("state_dir", state_dir, inside(key("mount"), &share.mount));
        }
    }
}

/// Whether `inner` is `outer` or lies below it, whatever symbolic links lead there.
fn lies_in(inner: &Path, outer: &Path) -> bool {
    inner.starts_with(outer) || resolved(inner).starts_with(resolved(outer))
}

/// `path` without symbolic links, as far as it is there.
fn resolved(path: &Path) -> PathBuf {
    let known = path.ancestors().find_map(|above| Some((above, above.canonicalize().ok()?)));
    match known {
        Some((above, real)) => real.join(path.strip_prefix(above).unwrap_or(Path::new(""))),
        None => path.to_owned(),
    }
}

fn inside(outer_key: String, outer: &Path) -> ProblemKind {
    ProblemKind::PathInside { outer_key, outer: outer.to_owned() }
}

fn no_such_share(all: &[ShareSection]) -> ProblemKind {
    let known: Vec<_> = all.iter().map(|share| format!("{:?}", share.name)).collect();
    ProblemKind::NoSuchShare { known: known.join(", ") }
}

fn has(shares: &[ShareSection], name: &str) -> bool {
    shares.iter().any(|share| share.name == name)
}

fn is_name(name: &str) -> bool {
    name.len() <= NAME_BYTES_MAX
        && name.starts_with(|ch: char| ch.is_ascii_alphanumeric())
        && name.chars().all(|ch| ch.is_ascii_alphanumeric() || "-_.".contains(ch))
}

/// A URL that is shown in an error, without what stands where others put keys.
fn without_secrets(url: &str) -> String {
    let (head, query) = url.split_once('?').map_or((url, ""), |(head, _)| (head, "?***"));
    let (scheme, rest) = head.split_once("://").unwrap_or(("", head));
    let rest =
        rest.rsplit_once('@').map_or_else(|| rest.to_owned(), |(_, host)| format!("***@{host}"));
    let separator = if scheme.is_empty() { "" } else { "://" };
    format!("{scheme}{separator}{rest}{query}")
}
