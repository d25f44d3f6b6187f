//! The verbs, on the running parts.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use policies::Rate;
use tokio::sync::{mpsc, oneshot, watch};

use super::{OperationError, Operations};
use crate::cache::Cache;
use crate::clock::Clock;
use crate::control::api::types as api;
use crate::events::Events;
use crate::meta::{Inode, Item, Meta, MetaError, Tombstone, Tx};
use crate::remote::{Link, Pacers};
use crate::sync::Sync;
use crate::types::{FileKind, Ino, ShareId, Time};
use crate::vfs::{Vfs, VfsError};

/// How long a wait for progress lasts before it is answered anyway.
const WAIT_PATIENCE: Duration = Duration::from_secs(1);
/// How many steps down a directory a wait looks, for a loop that can't be.
const DEPTH_MAX: usize = 4096;

/// A mounted share.
#[derive(Clone, Debug)]
pub struct MountedShare {
    /// The share.
    pub share: ShareId,
    /// Its name.
    pub name: String,
    /// Its root directory.
    pub root: Ino,
    /// Where its objects are; none for a local share.
    pub url: Option<String>,
    /// Where it is mounted.
    pub path: PathBuf,
    /// Nothing can be changed through it.
    pub read_only: bool,
    /// How its store is to be reached; none for a local share.
    pub link: Option<watch::Receiver<Link>>,
}

/// Asks whoever owns the mounts to take one away.
pub type UnmountRequest = (PathBuf, oneshot::Sender<std::io::Result<usize>>);

/// What the verbs work on.
#[derive(Debug)]
pub struct Parts {
    /// The precious store.
    pub meta: Arc<Meta>,
    /// The cache.
    pub cache: Arc<Cache>,
    /// The file system.
    pub vfs: Arc<Vfs>,
    /// The sync engine.
    pub sync: Arc<Sync>,
    /// The bus.
    pub events: Arc<Events>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// All transfers together.
    pub pacers: Pacers,
    /// The mounts, in the order of the configuration.
    pub mounts: Vec<MountedShare>,
    /// Who unmounts.
    pub unmount: mpsc::Sender<UnmountRequest>,
}

/// The running gateway, as its operator sees it.
#[derive(Debug)]
pub struct Gateway {
    parts: Parts,
    started: Timestamp,
    /// Bytes passed at the last look, and when that was: for the rates.
    last: Mutex<(Duration, u64, u64)>,
}

impl Gateway {
    /// The verbs on `parts`.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let started = timestamp(parts.clock.wall());
        let last = Mutex::new((parts.clock.monotonic(), 0, 0));
        Self { parts, started, last }
    }

    fn totals(&self) -> Result<api::QueueTotals, OperationError> {
        let counts = self.parts.meta.read(|tx| tx.item_counts(None))?;
        Ok(api::QueueTotals {
            items: counts.items + counts.tombstones,
            bytes: counts.bytes,
            in_flight: self.parts.sync.in_flight() as u64,
            parked: counts.parked,
        })
    }

    fn rates(&self) -> api::Rates {
        let Pacers { up, down } = &self.parts.pacers;
        let now = (self.parts.clock.monotonic(), up.bytes(), down.bytes());
        let last =
            std::mem::replace(&mut *self.last.lock().unwrap_or_else(PoisonError::into_inner), now);
        let millis = (now.0.saturating_sub(last.0)).as_millis().max(1);
        let speed =
            |bytes: u64| u64::try_from(u128::from(bytes) * 1000 / millis).unwrap_or(u64::MAX);
        let pace = |speed, rate, total| api::Pace {
            bytes_per_second: speed,
            allowed_bytes_per_second: match rate {
                Rate::Unlimited => None,
                Rate::Paused => Some(0),
                Rate::BytesPerSecond(rate) => Some(rate.get()),
            },
            bytes_total: total,
        };
        api::Rates {
            up: pace(speed(now.1 - last.1), up.rate(), now.1),
            down: pace(speed(now.2 - last.2), down.rate(), now.2),
        }
    }

    fn share_name(&self, share: ShareId) -> String {
        let found = self.parts.mounts.iter().find(|mount| mount.share == share);
        found.map_or_else(|| share.to_string(), |mount| mount.name.clone())
    }

    /// The inode at `path`, an absolute path in a mount.
    async fn find(&self, path: &Path) -> Result<Ino, OperationError> {
        use std::os::unix::ffi::OsStrExt;
        let in_mount = |mount: &&MountedShare| path.starts_with(&mount.path);
        let deepest = self
            .parts
            .mounts
            .iter()
            .filter(in_mount)
            .max_by_key(|mount| mount.path.as_os_str().len());
        let mount = deepest.ok_or_else(|| OperationError::NoMount { path: path.to_owned() })?;
        let below = path.strip_prefix(&mount.path).unwrap_or(Path::new(""));
        let names: Vec<Vec<u8>> = below.iter().map(|name| name.as_bytes().to_vec()).collect();
        match self.parts.vfs.resolve(mount.root, &names).await {
            Ok(ino) => Ok(ino),
            Err(VfsError::NoEntry | VfsError::NotDir) => {
                Err(OperationError::NoFile { path: path.to_owned() })
            }
            Err(error) => Err(OperationError::Failed(error.into())),
        }
    }

    /// What is left to upload at and below `path`, or of everything.
    async fn left(&self, path: Option<&Path>) -> Result<api::WaitProgress, OperationError> {
        let Some(path) = path else {
            let totals = self.totals()?;
            return Ok(api::WaitProgress {
                items: totals.items,
                bytes: totals.bytes,
                parked: totals.parked,
                blocked: self.blocked(None),
            });
        };
        let ino = self.find(path).await?;
        let progress = self.parts.meta.read(|tx| -> Result<_, MetaError> {
            let share = tx.inode(ino)?.map(|inode| inode.share);
            let mut progress = api::WaitProgress::default();
            for item in tx.items(usize::MAX)? {
                if Some(item.share) == share && is_at_or_below(tx, item.ino, ino)? {
                    progress.items += 1;
                    progress.parked += u64::from(item.parked);
                    progress.bytes += tx.inode(item.ino)?.map_or(0, |inode| bytes_to_send(&inode));
                }
            }
            Ok((progress, share))
        })?;
        Ok(api::WaitProgress { blocked: self.blocked(progress.1), ..progress.0 })
    }

    fn blocked(&self, share: Option<ShareId>) -> Option<String> {
        if self.parts.pacers.up.rate() == Rate::Paused {
            return Some("the schedule pauses uploads now".to_owned());
        }
        let of_share = |mount: &&MountedShare| share.is_none_or(|share| mount.share == share);
        self.parts.mounts.iter().filter(of_share).find_map(|mount| {
            let why = match *mount.link.as_ref()?.borrow() {
                Link::Online => return None,
                Link::Offline => "can't be reached",
                Link::Denied => "refuses the credentials",
                Link::NoContainer => "does not exist",
            };
            Some(format!("{} {why}", mount.url.as_deref().unwrap_or(&mount.name)))
        })
    }

    fn item(&self, tx: &Tx<'_>, item: Item) -> Result<Option<api::QueueItem>, MetaError> {
        let Some(inode) = tx.inode(item.ino)? else { return Ok(None) };
        let writing = tx.is_writing(item.ino)?;
        let sent = match tx.multipart(item.ino)? {
            Some((multipart, parts)) => {
                (parts.len() as u64 * multipart.part_bytes).min(multipart.size)
            }
            None => 0,
        };
        let bytes = bytes_to_send(&inode);
        Ok(Some(api::QueueItem {
            share: self.share_name(item.share),
            path: text_of(&tx.path(item.ino)?.unwrap_or_default()),
            action: match &inode.object {
                Some(_)
                    if inode.is_uploaded()
                        && inode.object.as_ref().is_some_and(|o| o.attrs == inode.attrs) =>
                {
                    api::Action::Move
                }
                Some(_) if inode.is_uploaded() => api::Action::Metadata,
                Some(_) | None => api::Action::Upload,
            },
            state: match (item.parked, writing) {
                (true, _) => api::ItemState::Parked,
                (false, true) => api::ItemState::Waiting,
                (false, false) if sent > 0 => api::ItemState::Sending,
                (false, false) => api::ItemState::Waiting,
            },
            bytes,
            bytes_sent: sent,
            tries: u64::from(item.tries).try_into().unwrap_or(u32::MAX),
            error: item.error,
            since: timestamp_of_millis(item.since),
        }))
    }

    fn deletion(&self, tombstone: Tombstone) -> api::QueueItem {
        api::QueueItem {
            share: self.share_name(tombstone.share),
            path: tombstone.key.to_string(),
            action: api::Action::Delete,
            state: if tombstone.parked { api::ItemState::Parked } else { api::ItemState::Waiting },
            bytes: 0,
            bytes_sent: 0,
            tries: tombstone.tries,
            error: tombstone.error,
            since: timestamp_of_millis(tombstone.due),
        }
    }
}

#[async_trait]
impl Operations for Gateway {
    async fn status(&self) -> Result<api::Status, OperationError> {
        let Parts { cache, mounts, .. } = &self.parts;
        let queue = self.totals()?;
        Ok(api::Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started: self.started,
            mounts: mounts.iter().map(|mount| self.mount(mount)).collect(),
            cache: api::Cache {
                bytes_used: cache.used_bytes(),
                bytes_max: cache.limits().disk_bytes_max,
                bytes_dirty: queue.bytes,
                files: cache.file_count() as u64,
            },
            queue,
            rates: self.rates(),
            hooks: self.hooks().await?,
            worker: None,
        })
    }

    async fn queue(&self, limit: usize) -> Result<api::Queue, OperationError> {
        let totals = self.totals()?;
        let items = self.parts.meta.read(|tx| -> Result<_, MetaError> {
            let mut items = Vec::new();
            for item in tx.items(limit)? {
                items.extend(self.item(tx, item)?);
            }
            let room = limit.saturating_sub(items.len());
            items
                .extend(tx.tombstones(room)?.into_iter().map(|tombstone| self.deletion(tombstone)));
            Ok(items)
        })?;
        Ok(api::Queue { totals, items })
    }

    async fn wait(&self, path: Option<&Path>) -> Result<api::WaitProgress, OperationError> {
        let settled = self.parts.events.settled.notified();
        let before = self.left(path).await?;
        if before.items == before.parked {
            return Ok(before);
        }
        tokio::select! {
            () = settled => {}
            () = self.parts.clock.sleep(WAIT_PATIENCE) => {}
        }
        self.left(path).await
    }

    async fn hooks(&self) -> Result<Vec<api::Hook>, OperationError> {
        Ok(Vec::new())
    }

    async fn hook_jobs(&self, _filter: &api::JobFilter) -> Result<Vec<api::Job>, OperationError> {
        Ok(Vec::new())
    }

    async fn hook_results(&self, _path: &Path) -> Result<Vec<api::HookResult>, OperationError> {
        Ok(Vec::new())
    }

    async fn hook_retry(&self, _retry: &api::Retry) -> Result<api::Retried, OperationError> {
        Ok(api::Retried { jobs: 0 })
    }

    async fn unmount(&self, mount: &Path) -> Result<api::Unmounted, OperationError> {
        let (tell, told) = oneshot::channel();
        let gone = || OperationError::NoMount { path: mount.to_owned() };
        self.parts.unmount.send((mount.to_owned(), tell)).await.map_err(|_| gone())?;
        let left = match told.await.map_err(|_| gone())? {
            Ok(left) => left,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(gone()),
            Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {
                return Err(OperationError::Busy { mount: mount.to_owned() });
            }
            Err(error) => return Err(OperationError::Failed(error.into())),
        };
        Ok(api::Unmounted { daemon_ends: left == 0, items_left: self.totals()?.items })
    }
}

impl Gateway {
    fn mount(&self, mount: &MountedShare) -> api::Mount {
        let why = |why: &str| why.to_owned();
        let since = self.started;
        let link = match mount.link.as_ref().map(|link| *link.borrow()) {
            None => api::Link::Local,
            Some(Link::Online) => api::Link::Online,
            Some(Link::Offline) => {
                api::Link::Offline { since, error: why("the store can't be reached") }
            }
            Some(Link::Denied) => {
                api::Link::Denied { since, error: why("the store refuses the credentials") }
            }
            Some(Link::NoContainer) => {
                api::Link::Missing { since, error: why("the store does not exist") }
            }
        };
        api::Mount {
            share: mount.name.clone(),
            url: mount.url.clone(),
            mount: mount.path.clone(),
            read_only: mount.read_only,
            link,
        }
    }
}

impl From<MetaError> for OperationError {
    fn from(error: MetaError) -> Self {
        Self::Failed(error.into())
    }
}

fn bytes_to_send(inode: &Inode) -> u64 {
    let whole = inode.attr.kind == FileKind::File && !inode.is_uploaded();
    if whole { inode.attr.size } else { 0 }
}

fn is_at_or_below(tx: &Tx<'_>, ino: Ino, above: Ino) -> Result<bool, MetaError> {
    let mut at = ino;
    for _ in 0..DEPTH_MAX {
        if at == above {
            return Ok(true);
        }
        match tx.a_name(at)? {
            Some((parent, _)) => at = parent,
            None => return Ok(false),
        }
    }
    Ok(false)
}

fn text_of(path: &[Vec<u8>]) -> String {
    path.iter().map(|name| String::from_utf8_lossy(name)).collect::<Vec<_>>().join("/")
}

fn timestamp(time: Time) -> Timestamp {
    Timestamp::new(time.secs, time.nanos.cast_signed()).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn timestamp_of_millis(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH)
}
