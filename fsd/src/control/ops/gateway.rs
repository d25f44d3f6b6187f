//! The verbs, on the running parts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use policies::Rate;
use tokio::sync::{mpsc, oneshot, watch};

use super::works::Works;
use super::{OperationError, Operations};
use crate::cache::Cache;
use crate::clock::Clock;
use crate::control::api::lists::LIST_MAX;
use crate::control::api::{hooks as asked, sides, sinks as told, steer, types as api};
use crate::events::Events;
use crate::hooks::{self, Hooks, Rule};
use crate::meta::{Inode, Item, Job, JobId, JobState, Meta, MetaError, STAYS_HERE, Tombstone, Tx};
use crate::pace::Paces;
use crate::remote::{Link, LinkState, Pacers};
use crate::sinks::Sink;
use crate::sync::{Code, Sync};
use crate::types::{FileKind, Ino, Key, ShareId, Time, key_of_path};
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
    /// Why all file content goes through the daemon; none as long as the kernel reads and writes by itself what is wholly here.
    pub daemon_path: watch::Receiver<Option<String>>,
    /// How its store is to be reached; none for a local share.
    pub link: Option<watch::Receiver<LinkState>>,
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
    /// The hooks; none if none is configured.
    pub hooks: Option<Hooks>,
    /// Who is told what happens.
    pub sinks: Vec<Arc<Sink>>,
    /// The bus.
    pub events: Arc<Events>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// All transfers together.
    pub pacers: Pacers,
    /// What sets the pace of each share.
    pub paces: Paces,
    /// The mounts, in the order of the configuration.
    pub mounts: Vec<MountedShare>,
    /// Who unmounts.
    pub unmount: mpsc::Sender<UnmountRequest>,
    /// This gateway's name.
    pub gateway: String,
}

/// The running gateway, as its operator sees it.
#[derive(Debug)]
pub struct Gateway {
    pub(super) parts: Parts,
    pub(super) works: Works,
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
        Self { parts, works: Works::default(), started, last }
    }

    fn totals(&self) -> Result<api::QueueTotals, OperationError> {
        let (counts, written) = self
            .parts
            .meta
            .scan(|tx| Ok::<_, MetaError>((tx.item_counts(None)?, tx.only_written()?.len())))?;
        Ok(api::QueueTotals {
            items: counts.items + counts.tombstones + written as u64,
            bytes: counts.bytes,
            in_flight: self.parts.sync.in_flight() as u64,
            parked: counts.parked,
            cancelled: counts.held,
            kept_here: counts.kept,
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

    pub(super) fn share_name(&self, share: ShareId) -> String {
        let found = self.parts.mounts.iter().find(|mount| mount.share == share);
        found.map_or_else(|| share.to_string(), |mount| mount.name.clone())
    }

    /// The inode at `path`, an absolute path in a mount.
    pub(super) async fn find(&self, path: &Path) -> Result<Ino, OperationError> {
        use std::os::unix::ffi::OsStrExt;
        let (mount, below) = self.mount_of(path)?;
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
        self.parts.vfs.finish_closed().map_err(|e| OperationError::Failed(e.into()))?;
        let Some(path) = path else {
            let totals = self.totals()?;
            return Ok(api::WaitProgress {
                items: totals.items + self.parts.meta.scan(|tx| tx.unseen())?.len() as u64,
                bytes: totals.bytes,
                parked: totals.parked + totals.cancelled,
                blocked: self.blocked(None),
            });
        };
        let ino = self.find(path).await?;
        let progress = self.parts.meta.scan(|tx| left_below(tx, ino))?;
        Ok(api::WaitProgress { blocked: self.blocked(progress.1), ..progress.0 })
    }

    pub(super) fn blocked(&self, share: Option<ShareId>) -> Option<String> {
        if let Some(why) = self.held_by_pace(share) {
            return Some(why);
        }
        let of_share = |mount: &&MountedShare| share.is_none_or(|share| mount.share == share);
        self.parts.mounts.iter().filter(of_share).find_map(|mount| {
            let why = match mount.link.as_ref()?.borrow().link {
                Link::Online => return None,
                Link::Offline => "can't be reached",
                Link::Denied => "refuses the credentials",
                Link::NoContainer => "does not exist",
            };
            Some(format!("{} {why}", mount.url.as_deref().unwrap_or(&mount.name)))
        })
    }

    pub(super) fn item(
        &self,
        tx: &Tx<'_>,
        item: Item,
    ) -> Result<Option<api::QueueItem>, MetaError> {
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
                _ if item.held => api::ItemState::Cancelled,
                (true, _) => api::ItemState::Parked,
                (false, true) => api::ItemState::Writing,
                (false, false) if self.parts.events.is_uploading(item.ino) => {
                    api::ItemState::Sending
                }
                (false, false) => api::ItemState::Waiting,
            },
            bytes,
            bytes_sent: sent,
            tries: u64::from(item.tries).try_into().unwrap_or(u32::MAX),
            error: item.error,
            remedy: remedy(item.code.as_deref()),
            code: item.code,
            since: timestamp_of_millis(item.since),
            due: (!item.parked && !item.held).then(|| timestamp_of_millis(item.due)),
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
            remedy: remedy(tombstone.code.as_deref()),
            code: tombstone.code,
            since: timestamp_of_millis(tombstone.since),
            due: (!tombstone.parked).then(|| timestamp_of_millis(tombstone.due)),
        }
    }
}

#[async_trait]
impl Operations for Gateway {
    async fn status(&self) -> Result<api::Status, OperationError> {
        let Parts { cache, mounts, .. } = &self.parts;
        let queue = self.totals()?;
        let lost = cache.lost_and_found();
        let (dir, files) = lost.map_err(|error| OperationError::Failed(error.into()))?;
        Ok(api::Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started: self.started,
            mounts: mounts.iter().map(|mount| self.mount(mount)).collect::<Result<_, _>>()?,
            cache: api::Cache {
                bytes_used: cache.used_bytes(),
                bytes_max: cache.limits().disk_bytes_max,
                bytes_dirty: queue.bytes,
                files: cache.file_count() as u64,
                lost_and_found: (files > 0).then_some(api::LostAndFound { dir, files }),
            },
            memory: memory(&self.parts.meta),
            queue,
            rates: self.rates(),
            work: self.works.under_way(),
            hooks: self.hooks().await?,
            worker: self.worker(),
            programs: self.parts.hooks.as_ref().map(Hooks::program_limits).unwrap_or_default(),
            sinks: self.all_sinks()?,
        })
    }

    async fn queue(&self, limit: usize) -> Result<api::Queue, OperationError> {
        let totals = self.totals()?;
        let items = self.parts.meta.scan(|tx| -> Result<_, MetaError> {
            let mut items = Vec::new();
            for share in self.shares_by_priority() {
                let room = limit.saturating_sub(items.len());
                for item in tx.ordered_items(share, room)? {
                    items.extend(self.item(tx, item)?);
                }
            }
            let room = limit.saturating_sub(items.len());
            for ino in tx.only_written()?.into_iter().take(room) {
                if let Some(inode) = tx.inode(ino)? {
                    items.extend(self.item(tx, item_of_written(&inode))?);
                }
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
        let Some(hooks) = &self.parts.hooks else { return Ok(Vec::new()) };
        let (counts, paused) = self
            .parts
            .meta
            .scan(|tx| -> Result<_, MetaError> { Ok((tx.job_counts()?, tx.paused_hooks()?)) })?;
        let engines = hooks.worker().engines;
        let unusable = hooks.unusable();
        let hook = |rule: &Rule| api::Hook {
            unusable: unusable.get(rule.hook.name()).cloned(),
            paused: paused.iter().any(|name| name == rule.hook.name()),
            ..self.hook(rule, &counts, &engines)
        };
        Ok(hooks.rules().iter().map(hook).collect())
    }

    async fn hook_jobs(&self, filter: &api::JobFilter) -> Result<Vec<api::Job>, OperationError> {
        filter.hook.iter().try_for_each(|name| self.check_hook(name))?;
        let state = filter.state.map(stored_state);
        let jobs = self.parts.meta.scan(|tx| -> Result<_, MetaError> {
            let jobs = tx.jobs(filter.hook.as_deref(), state, filter.limit)?;
            jobs.into_iter()
                .map(|job| Ok((tx.inode(job.ino)?.map(|inode| inode.share), job)))
                .collect()
        });
        let jobs: Vec<(Option<ShareId>, Job)> = jobs?;
        Ok(jobs.into_iter().map(|(share, job)| self.job(share, job)).collect())
    }

    async fn hook_results(
        &self,
        filter: &asked::ResultFilter,
    ) -> Result<Vec<api::HookResult>, OperationError> {
        self.results_of_hooks(filter).await
    }

    async fn hook_retry(&self, retry: &api::Retry) -> Result<api::Retried, OperationError> {
        let id = match retry {
            api::Retry::All => None,
            api::Retry::Job(id) => Some(JobId(i64::try_from(*id).unwrap_or(i64::MAX))),
        };
        if let (Some(job), api::Retry::Job(id)) = (id, retry)
            && self.parts.meta.scan(|tx| tx.job(job))?.is_none()
        {
            return Err(OperationError::NoJob { id: *id });
        }
        let now = self.parts.clock.wall().millis();
        let jobs = self.parts.meta.write(move |tx| tx.retry_jobs(id, None, now))?;
        if let Some(hooks) = &self.parts.hooks {
            hooks.reload();
        }
        self.parts.events.arrived.notify_one();
        Ok(api::Retried { jobs: jobs as u64 })
    }

    async fn pause_hooks(
        &self,
        pause: &asked::HookPause,
    ) -> Result<Vec<api::Hook>, OperationError> {
        self.have_hooks_rest(pause)?;
        self.hooks().await
    }

    async fn run_hook(&self, run: &asked::HookRun) -> Result<asked::HookBegun, OperationError> {
        self.have_hook_look(run).await
    }

    async fn say(&self, say: &asked::Say) -> Result<asked::Spoken, OperationError> {
        self.speak_for_gates(say).await
    }

    async fn events(&self, query: &told::EventQuery) -> Result<told::EventList, OperationError> {
        self.logged_events(query)
    }

    async fn sinks(&self) -> Result<Vec<told::Sink>, OperationError> {
        self.all_sinks()
    }

    async fn change_sink(
        &self,
        change: &told::SinkChange,
    ) -> Result<Vec<told::Sink>, OperationError> {
        self.steer_sink(change)?;
        self.all_sinks()
    }

    async fn pins(&self) -> Result<Vec<api::Pin>, OperationError> {
        self.all_pins()
    }

    async fn set_pin(&self, change: &api::PinChange) -> Result<api::Pin, OperationError> {
        self.change_pin(change).await
    }

    async fn start_work(&self, start: &api::WorkStart) -> Result<api::WorkId, OperationError> {
        self.begin_work(start).await
    }

    async fn work(&self, id: api::WorkId) -> Result<api::WorkProgress, OperationError> {
        self.progress_of(id).await
    }

    async fn stop_work(&self, id: api::WorkId) -> Result<api::WorkProgress, OperationError> {
        self.end_work(id)
    }

    async fn reports(
        &self,
        path: Option<&Path>,
    ) -> Result<Vec<api::GatewayReport>, OperationError> {
        self.told_by_gateways(path).await
    }

    async fn evict(&self, path: &Path) -> Result<api::Evicted, OperationError> {
        self.evict_below(path).await
    }

    async fn explain(&self, path: &Path) -> Result<api::Explanation, OperationError> {
        self.explain_file(path).await
    }

    async fn change_queue(
        &self,
        change: &steer::QueueChange,
    ) -> Result<steer::QueueChanged, OperationError> {
        Self::change_queue(self, change).await
    }

    async fn paces(&self) -> Result<Vec<steer::PaceState>, OperationError> {
        Ok(self.all_paces())
    }

    async fn set_pace(
        &self,
        change: &steer::PaceChange,
    ) -> Result<Vec<steer::PaceState>, OperationError> {
        self.change_pace(change)
    }

    async fn receipts(
        &self,
        filter: &steer::ReceiptFilter,
    ) -> Result<steer::Receipts, OperationError> {
        self.some_receipts(filter).await
    }

    async fn conflicts(&self) -> Result<Vec<sides::Conflict>, OperationError> {
        self.all_conflicts(LIST_MAX)
    }

    async fn settle_conflict(
        &self,
        settle: &sides::Settle,
    ) -> Result<sides::Conflict, OperationError> {
        self.settle(settle).await
    }

    async fn trash(&self) -> Result<Vec<sides::Trashed>, OperationError> {
        self.all_trashed(LIST_MAX)
    }

    async fn restore(&self, path: &Path) -> Result<sides::Restored, OperationError> {
        self.restore_from_trash(path).await
    }

    async fn empty_trash(&self) -> Result<sides::Emptied, OperationError> {
        self.empty_all_trash().await
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
    fn worker(&self) -> Option<api::Worker> {
        let (pid, hello) = self.parts.hooks.as_ref()?.worker().running?;
        let adapter = match hello.adapter {
            Ok(adapter) => format!("{} ({}, {})", adapter.name, adapter.kind, adapter.driver),
            Err(why) => format!("none: {why}"),
        };
        let hooks::Sandbox { landlock, seccomp, memory_bytes_max } = hello.sandbox;
        let memory = format!("memory: at most {}", policies::units::show_bytes(memory_bytes_max));
        Some(api::Worker {
            pid,
            adapter,
            sandbox: vec![format!("landlock: {landlock}"), format!("seccomp: {seccomp}"), memory],
        })
    }

    fn hook(
        &self,
        rule: &Rule,
        counts: &[(String, JobState, u64)],
        engines: &BTreeMap<String, Result<hooks::Engine, String>>,
    ) -> api::Hook {
        let name = rule.hook.name();
        let count = |state| {
            let found = counts.iter().find(|(hook, of, _)| hook == name && *of == state);
            found.map_or(0, |(_, _, jobs)| *jobs)
        };
        let engine = engines.get(name);
        api::Hook {
            name: name.to_owned(),
            version: rule.hook.version().to_string(),
            shares: rule.shares.iter().map(|&share| self.share_name(share)).collect(),
            engine: engine
                .and_then(|engine| engine.as_ref().ok())
                .map(|&engine| api_engine(engine)),
            error: engine.and_then(|engine| engine.as_ref().err()).cloned(),
            unusable: None,
            paused: false,
            jobs: api::JobCounts {
                waiting: count(JobState::Waiting),
                running: count(JobState::Running),
                done: count(JobState::Done),
                failed: count(JobState::Failed),
                parked: count(JobState::Parked),
            },
        }
    }

    fn job(&self, share: Option<ShareId>, job: Job) -> api::Job {
        api::Job {
            id: job.id.0.unsigned_abs(),
            hook: job.hook,
            share: share.map_or_else(|| "-".to_owned(), |share| self.share_name(share)),
            path: job.path,
            state: shown_state(job.state),
            tries: job.tries,
            error: job.error,
            arrived: timestamp_of_millis(job.arrived),
            changed: timestamp_of_millis(job.changed),
        }
    }

    fn mount(&self, mount: &MountedShare) -> Result<api::Mount, OperationError> {
        let vfs = &self.parts.vfs;
        let quotas = vfs.share(mount.share).and_then(|share| vfs.usages(share));
        let quotas = quotas.map_err(|error| OperationError::Failed(error.into()))?;
        let quota = |(uid, bytes_used, bytes_max)| api::Quota { uid, bytes_used, bytes_max };
        let link = match mount.link.as_ref().map(|link| link.borrow().clone()) {
            None => api::Link::Local,
            Some(LinkState { link, since, why: error }) => {
                let since = timestamp(since);
                match link {
                    Link::Online => api::Link::Online,
                    Link::Offline => api::Link::Offline { since, error },
                    Link::Denied => api::Link::Denied { since, error },
                    Link::NoContainer => api::Link::Missing { since, error },
                }
            }
        };
        Ok(api::Mount {
            share: mount.name.clone(),
            url: mount.url.clone(),
            mount: mount.path.clone(),
            read_only: mount.read_only,
            daemon_path: mount.daemon_path.borrow().clone(),
            link,
            late_since: self.parts.sync.late_since(mount.share).map(timestamp_of_millis),
            quotas: quotas.into_iter().map(quota).collect(),
        })
    }
}

impl From<MetaError> for OperationError {
    fn from(error: MetaError) -> Self {
        Self::Failed(error.into())
    }
}

pub(super) fn api_engine(engine: hooks::Engine) -> api::Engine {
    match engine {
        hooks::Engine::Gpu => api::Engine::Gpu,
        hooks::Engine::Cpu => api::Engine::Cpu,
        hooks::Engine::Command => api::Engine::Command,
        hooks::Engine::Container => api::Engine::Container,
    }
}

fn shown_state(state: JobState) -> api::JobState {
    match state {
        JobState::Waiting => api::JobState::Waiting,
        JobState::Running => api::JobState::Running,
        JobState::Done => api::JobState::Done,
        JobState::Failed => api::JobState::Failed,
        JobState::Parked => api::JobState::Parked,
    }
}

fn stored_state(state: api::JobState) -> JobState {
    match state {
        api::JobState::Waiting => JobState::Waiting,
        api::JobState::Running => JobState::Running,
        api::JobState::Done => JobState::Done,
        api::JobState::Failed => JobState::Failed,
        api::JobState::Parked => JobState::Parked,
    }
}

/// What is left to do at and below `top`, deletions and what has moved away included; and the share it is in.
fn left_below(tx: &Tx<'_>, top: Ino) -> Result<(api::WaitProgress, Option<ShareId>), MetaError> {
    let mut progress = api::WaitProgress::default();
    let Some(share) = tx.inode(top)?.map(|inode| inode.share) else { return Ok((progress, None)) };
    let place = tx.path(top)?.unwrap_or_default();
    // A path that is too long for a key has no object.
    let place = key_of_path(place.iter().map(Vec::as_slice), false).ok();
    let is_below = |key: &Key| {
        let at = |place: &Key| key.as_str().trim_end_matches('/') == place.as_str();
        place.as_ref().is_some_and(|place| at(place) || key.is_below(place))
    };
    for ino in tx.only_written()?.into_iter().chain(tx.unseen()?) {
        progress.items += u64::from(is_at_or_below(tx, ino, top)?);
    }
    let leaves = |item: &Item| item.share == share && item.code.as_deref() != Some(STAYS_HERE);
    for item in tx.items(usize::MAX)?.into_iter().filter(leaves) {
        let Some(inode) = tx.inode(item.ino)? else { continue };
        let left_it = inode.object.as_ref().is_some_and(|object| is_below(&object.key));
        if left_it || is_at_or_below(tx, item.ino, top)? {
            progress.items += 1;
            progress.parked += u64::from(item.parked || item.held);
            progress.bytes += bytes_to_send(&inode);
        }
    }
    for tombstone in tx.tombstones(usize::MAX)? {
        if tombstone.share == share && is_below(&tombstone.key) {
            progress.items += 1;
            progress.parked += u64::from(tombstone.parked);
        }
    }
    Ok((progress, Some(share)))
}

/// What stands in the queue for a file that is being written and differs by nothing else.
pub(super) fn item_of_written(inode: &Inode) -> Item {
    let since = inode.attr.ctime.millis();
    Item {
        ino: inode.ino,
        share: inode.share,
        since,
        due: since,
        tries: 0,
        parked: false,
        held: false,
        error: None,
        code: None,
        rank: since,
    }
}

/// What can be done about a failure of the kind `code`.
fn remedy(code: Option<&str>) -> Option<String> {
    code.and_then(Code::of_word).map(|code| code.remedy().to_owned())
}

fn bytes_to_send(inode: &Inode) -> u64 {
    let whole = inode.attr.kind == FileKind::File && !inode.is_uploaded();
    if whole { inode.attr.size } else { 0 }
}

pub(super) fn is_at_or_below(tx: &Tx<'_>, ino: Ino, above: Ino) -> Result<bool, MetaError> {
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

fn memory(meta: &Meta) -> api::Memory {
    let (bytes_metadata, bytes_metadata_max) = meta.memory();
    // proc(5): the second number of statm is resident pages.
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0);
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    let page = page.map_or(4096, i64::unsigned_abs);
    api::Memory { bytes_resident: pages * page, bytes_metadata, bytes_metadata_max }
}

pub(super) fn timestamp(time: Time) -> Timestamp {
    Timestamp::new(time.secs, time.nanos.cast_signed()).unwrap_or(Timestamp::UNIX_EPOCH)
}

pub(super) fn timestamp_of_millis(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH)
}
