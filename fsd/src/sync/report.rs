//! What is not uploaded yet is told in the store itself, in one small object for each gateway: whoever lost the gateway learns from it what
//! was lost with it. No content stands in it.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::meta::{Inode, Meta, MetaError, STAYS_HERE, Tx};
use crate::remote::{Condition, Pacer, Remote, RemoteError, RemoteRef};
use crate::tasks::Tasks;
use crate::types::{ETag, Ino, Key, Metadata, ShareId};

/// Where gateways tell of themselves, below the prefix of a share: no file of it can have such a name.
const FOLDER: &str = ".fsd/gateways/";
/// The version of what is written.
const FORMAT: u32 = 1;
/// So many paths are told one by one.
const PATHS_MAX: usize = 10_000;
/// The largest report that is read.
const BYTES_MAX: u64 = 64 << 20;
/// How often it is looked whether there is something to tell.
const LOOK_PAUSE: Duration = Duration::from_secs(5);
/// Between two reports of a share; longer if one takes long: of the pace of uploads they take little.
const WRITE_PAUSE: Duration = Duration::from_secs(60);
const WRITE_PAUSE_OF_WRITE: u32 = 20;
/// How long the last report of a clean stop may take.
const LAST_PATIENCE: Duration = Duration::from_secs(5);

/// What a gateway tells of a share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The version of the format.
    pub format: u32,
    /// Who tells.
    pub gateway: String,
    /// When.
    pub written: Timestamp,
    /// It was stopped, and did not go on since.
    pub stopped: bool,
    /// Files and directories that differed from the store.
    pub items: u64,
    /// Objects that were to be deleted.
    pub deletions: u64,
    /// Bytes that were to be sent.
    pub bytes: u64,
    /// The first of what differed, up to 10,000.
    pub dirty: Vec<Dirty>,
}

/// A file or directory that differed from the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dirty {
    /// Its path in the share.
    pub path: String,
    /// How long it was.
    pub size: u64,
    /// When it was changed last.
    pub mtime: Timestamp,
    /// Its content was in the store, if not under this name or with these attributes.
    pub uploaded: bool,
}

/// What a gateway told, or that it can't be read.
#[derive(Debug)]
pub struct Told {
    /// The gateway, as the object is called.
    pub gateway: String,
    /// What it told.
    pub report: Result<Report, String>,
}

/// What reports are made of.
#[derive(Debug)]
pub struct Parts {
    /// The precious store.
    pub meta: Arc<Meta>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where it runs.
    pub tasks: Tasks,
    /// This gateway's name.
    pub gateway: String,
    /// The shares that are told of: their stores, and the pace of their uploads.
    pub stores: BTreeMap<ShareId, (RemoteRef, Arc<Pacer>)>,
}

/// Who tells.
#[derive(Debug)]
pub struct Reporter {
    parts: Parts,
    shares: tokio::sync::Mutex<BTreeMap<ShareId, Last>>,
}

/// What was told last of a share.
#[derive(Debug, Default)]
struct Last {
    report: Option<Report>,
    etag: Option<ETag>,
    /// Not before then, by the monotonic clock.
    next: Duration,
}

impl Reporter {
    /// Tells of `parts` until everything stops.
    #[must_use]
    pub fn start(parts: Parts) -> Arc<Self> {
        let reporter = Arc::new(Self { parts, shares: tokio::sync::Mutex::default() });
        let (tasks, keep) = (reporter.parts.tasks.clone(), reporter.clone());
        tasks.spawn("sync.report", async move {
            loop {
                tokio::select! {
                    () = keep.parts.tasks.cancelled() => return,
                    () = keep.pass() => {}
                }
            }
        });
        reporter
    }

    async fn pass(&self) {
        self.parts.clock.sleep(LOOK_PAUSE).await;
        self.tell_all(false).await;
    }

    /// Tells how it stands at a clean stop, if that is not what was told last. A store that does not answer is not waited for.
    pub async fn finish(&self) {
        tokio::select! {
            () = self.tell_all(true) => {}
            () = self.parts.clock.sleep(LAST_PATIENCE) => {}
        }
    }

    async fn tell_all(&self, stopped: bool) {
        let mut shares = self.shares.lock().await;
        for (&share, (remote, pace)) in &self.parts.stores {
            let last = shares.entry(share).or_default();
            let now = self.parts.clock.monotonic();
            // A report is no reason to send while nothing is to be sent.
            if pace.is_paused() || !stopped && now < last.next {
                continue;
            }
            if let Err(error) = self.tell(share, remote, last, stopped).await {
                tracing::debug!(%share, error = &*error, "what is not uploaded could not be told in the store");
                last.etag = None;
            }
            let took = self.parts.clock.monotonic().saturating_sub(now);
            if last.report.is_some() {
                last.next = now + WRITE_PAUSE.max(took * WRITE_PAUSE_OF_WRITE);
            }
        }
    }

    /// Tells of `share`, unless that was told last.
    async fn tell(
        &self,
        share: ShareId,
        remote: &RemoteRef,
        last: &mut Last,
        stopped: bool,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        let (meta, gateway) = (self.parts.meta.clone(), self.parts.gateway.clone());
        let written = timestamp(self.parts.clock.as_ref());
        let look = move || meta.scan(|tx| report(tx, share, gateway, written, stopped));
        let report = self.parts.tasks.blocking(look).await??;
        let key = key_of(&self.parts.gateway);
        if last.report.is_none() {
            // A gateway that never had anything to tell is not heard of.
            last.etag = version(remote.as_ref(), &key).await?;
            if last.etag.is_none() && report.is_empty() {
                return Ok(());
            }
        }
        if last.report.as_ref().is_some_and(|told| told.says_the_same(&report)) {
            return Ok(());
        }
        let condition = last.etag.clone().map_or(Condition::Absent, Condition::Match);
        let body = Bytes::from(serde_json::to_vec_pretty(&report)?);
        let etag = remote.put(&key, body.into(), &Metadata::new(), &condition).await?;
        (last.etag, last.report) = (Some(etag), Some(report));
        Ok(())
    }
}

impl Report {
    fn is_empty(&self) -> bool {
        self.items == 0 && self.deletions == 0
    }

    fn says_the_same(&self, other: &Self) -> bool {
        *self == Self { written: self.written, ..other.clone() }
    }
}

/// What gateways told in the store of a share.
///
/// # Errors
/// If the store does not answer.
pub async fn read(remote: &dyn Remote) -> Result<Vec<Told>, RemoteError> {
    let mut told = Vec::new();
    let mut next = None;
    loop {
        let page = remote.list(&Key::from_raw(FOLDER), next.as_ref()).await?;
        for object in page.objects {
            let name = object.key.as_str().strip_prefix(FOLDER).unwrap_or_default();
            let Some(gateway) = name.strip_suffix(".json") else { continue };
            let report = match object.size {
                size if size > BYTES_MAX => Err("it is too large to be a report".to_owned()),
                size => match remote.get(&object.key, 0..size, None).await {
                    Ok(body) => parse(&body),
                    Err(RemoteError::NotFound { .. }) => continue,
                    Err(error) => return Err(error),
                },
            };
            told.push(Told { gateway: gateway.to_owned(), report });
        }
        next = page.next;
        if next.is_none() {
            return Ok(told);
        }
    }
}

fn parse(body: &[u8]) -> Result<Report, String> {
    match serde_json::from_slice::<Report>(body) {
        Ok(report) if report.format > FORMAT => Err(format!(
            "it has format {}; this fsd knows formats up to {FORMAT}: use a newer fsd",
            report.format
        )),
        Ok(report) => Ok(report),
        Err(error) => Err(format!("it is no report: {error}")),
    }
}

fn key_of(gateway: &str) -> Key {
    Key::from_raw(format!("{FOLDER}{gateway}.json"))
}

async fn version(remote: &dyn Remote, key: &Key) -> Result<Option<ETag>, RemoteError> {
    match remote.head(key).await {
        Ok(there) => Ok(Some(there.etag)),
        Err(RemoteError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn report(
    tx: &Tx<'_>,
    share: ShareId,
    gateway: String,
    written: Timestamp,
    stopped: bool,
) -> Result<Report, MetaError> {
    let counts = tx.item_counts(Some(share))?;
    let mut dirty = Vec::new();
    let mut written_now = 0;
    let open = tx.only_written()?;
    let items = tx.items_of(share, PATHS_MAX)?.into_iter();
    // What is to stay here has no name elsewhere either.
    let leaving = items.filter(|item| item.code.as_deref() != Some(STAYS_HERE));
    for ino in leaving.map(|item| item.ino).chain(open.clone()) {
        let Some(inode) = tx.inode(tx.file_of(ino)?)?.filter(|inode| inode.share == share) else {
            continue;
        };
        written_now += u64::from(open.contains(&ino));
        if dirty.len() < PATHS_MAX {
            dirty.extend(dirty_of(tx, ino, &inode)?);
        }
    }
    Ok(Report {
        format: FORMAT,
        gateway,
        written,
        stopped,
        items: counts.items + written_now,
        deletions: counts.tombstones,
        bytes: counts.bytes,
        dirty,
    })
}

fn dirty_of(tx: &Tx<'_>, name: Ino, file: &Inode) -> Result<Option<Dirty>, MetaError> {
    let Some(path) = tx.path(name)? else { return Ok(None) };
    let names = path.iter().map(|name| String::from_utf8_lossy(name));
    let mtime = file.attr.mtime;
    Ok(Some(Dirty {
        path: names.collect::<Vec<_>>().join("/"),
        size: file.attr.size,
        mtime: Timestamp::new(mtime.secs, mtime.nanos.cast_signed()).unwrap_or_default(),
        uploaded: file.is_uploaded() && !tx.is_writing(file.ino)?,
    }))
}

fn timestamp(clock: &dyn Clock) -> Timestamp {
    let now = clock.wall();
    Timestamp::new(now.secs, now.nanos.cast_signed()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            format: FORMAT,
            gateway: "1a2b3c4d".to_owned(),
            written: "2026-11-26T10:00:00Z".parse().unwrap(),
            stopped: false,
            items: 1,
            deletions: 0,
            bytes: 5,
            dirty: vec![Dirty {
                path: "scans/a.dcm".to_owned(),
                size: 5,
                mtime: "2026-11-26T09:59:58.5Z".parse().unwrap(),
                uploaded: false,
            }],
        }
    }

    #[test]
    fn a_report_is_read_as_it_was_written_and_others_are_told() {
        let body = serde_json::to_vec(&report()).unwrap();
        assert_eq!(parse(&body), Ok(report()));
        let newer = serde_json::to_vec(&Report { format: 9, ..report() }).unwrap();
        assert!(parse(&newer).unwrap_err().contains("use a newer fsd"));
        assert!(parse(b"{}").unwrap_err().contains("it is no report"));
    }

    #[test]
    fn only_what_changed_is_told_again() {
        let later = Report { written: "2026-11-26T11:00:00Z".parse().unwrap(), ..report() };
        assert!(report().says_the_same(&later));
        assert!(!report().says_the_same(&Report { items: 2, ..later.clone() }));
        assert!(!report().says_the_same(&Report { stopped: true, ..later }));
    }
}
