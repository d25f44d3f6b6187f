//! The real engine, from the metadata store to the uploads, without a mount: started over what a dead one left on the disk.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use fsd::cache::{self, Cache, Defaults, Limits, Store};
use fsd::clock::Clock;
use fsd::events::Events;
use fsd::meta::{Meta, MetaError};
use fsd::remote::{self, Pacer};
use fsd::rng::Rng;
use fsd::sync;
use fsd::tasks::Tasks;
use fsd::types::{Attr, FileKind, Ino, ShareId, chain};
use fsd::vfs::{self, OpenHow, Share, Vfs};
use policies::{Quotas, Rate};
use tokio::runtime::Handle;

use super::broken::Broken;
use super::clock::VirtualClock;
use super::cloud::Cloud;

const SHARE: &str = "share";
const UPLOAD_DELAY: Duration = Duration::from_secs(1);
pub(super) const LISTING_AGE_MAX: Duration = Duration::from_secs(60);
const DEFAULTS: Defaults = Defaults { uid: 1, gid: 1, file_perm: 0o644, dir_perm: 0o755 };
const PAGE: usize = 5;

/// A file as it is found on a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) ino: Ino,
    /// Length as its attributes say.
    pub(super) size: u64,
    pub(super) perm: u32,
    pub(super) body: Vec<u8>,
}

/// All that is found on a gateway, by path.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) files: BTreeMap<String, Seen>,
    pub(super) dirs: BTreeSet<String>,
}

/// A gateway that runs.
#[derive(Debug)]
pub(super) struct Gateway {
    pub(super) vfs: Arc<Vfs>,
    pub(super) root: Ino,
    pub(super) clock: Arc<dyn Clock>,
    share: ShareId,
    meta: Arc<Meta>,
    cache: Arc<Cache>,
}

impl Gateway {
    /// Starts one over `dir`, whose clock is `passed` on. Not before a runtime runs.
    pub(super) fn start(
        dir: &Path,
        cloud: &Cloud,
        passed: Duration,
        rng: Rng,
        broken: Option<Broken>,
    ) -> Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(VirtualClock::new(passed));
        let tasks = Tasks::new(Handle::current()).in_place();
        let events = Arc::new(Events::default());
        let meta = Arc::new(Meta::open(dir)?);
        let opened = remote::stack(Arc::new(cloud.wire(clock.clone())), &clock, &tasks);
        let share = open_share(&meta, clock.as_ref())?;
        let store = Store { remote: opened.remote, defaults: DEFAULTS, down: None };
        let cache = Arc::new(Cache::open(cache::Parts {
            dir: dir.to_owned(),
            limits: Limits {
                disk_bytes_max: 1 << 40,
                high_mark: 90,
                low_mark: 80,
                free_bytes_min: 0,
            },
            meta: meta.clone(),
            stores: BTreeMap::from([(share.id, store)]),
            clock: clock.clone(),
            tasks: tasks.clone(),
        })?);
        let (id, root) = (share.id, share.root);
        let pace = Pacer::new(clock.clone(), Rate::Unlimited, None);
        let links = BTreeMap::from([(share.id, (opened.link, pace))]);
        let vfs = Vfs::new(vfs::Parts {
            meta: meta.clone(),
            cache: cache.clone(),
            events: events.clone(),
            clock: clock.clone(),
            tasks: tasks.clone(),
            shares: vec![share],
        });
        vfs.count_usage()?;
        if broken != Some(Broken::Rescan) {
            vfs.recover()?;
        }
        sync::start(sync::Parts {
            meta: meta.clone(),
            cache: cache.clone(),
            events,
            clock: clock.clone(),
            tasks,
            rng,
            gateway: "sim".into(),
            delay_max: UPLOAD_DELAY,
            links,
            rules: BTreeMap::new(),
            receipts: None,
        });
        let files = cache.clone();
        cloud.laws(|laws| {
            let is_here = move |ino| files.backing(ino).is_ok_and(|backing| backing.is_whole());
            laws.ask_gateway(Some(Arc::new(is_here)));
        });
        Ok(Self { vfs, root, clock, share: id, meta, cache })
    }

    /// Whether all bytes of a file are here.
    pub(super) fn is_whole(&self, ino: Ino) -> bool {
        self.cache.backing(ino).is_ok_and(|backing| backing.is_whole())
    }

    /// Makes a mistake now and then.
    pub(super) fn sabotage(&self, broken: Broken, rng: &mut Rng) -> Result<()> {
        let now_and_then = rng.below(20) == 0;
        let item = self.meta.read(|tx| tx.items(1))?.pop().filter(|_| now_and_then);
        let Some(ino) = item.map(|item| item.ino) else { return Ok(()) };
        match broken {
            Broken::Items => self.meta.write(move |tx| tx.remove_item(ino))?,
            Broken::Evict => {
                if let Some(inode) = self.meta.read(|tx| tx.inode(ino))? {
                    self.cache.forget(ino, inode.backing);
                }
            }
            Broken::Conditions | Broken::Aside | Broken::Marks | Broken::Rescan => {}
        }
        Ok(())
    }

    /// The directory and the name of `path`.
    pub(super) async fn place<'p>(&self, path: &'p str) -> vfs::Result<(Ino, &'p [u8])> {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        let names: Vec<Vec<u8>> =
            dir.split('/').filter(|name| !name.is_empty()).map(|name| name.into()).collect();
        Ok((self.vfs.resolve(self.root, &names).await?, name.as_bytes()))
    }

    /// Waits until nothing differs from the cloud any more.
    pub(super) async fn settled(&self) -> Result<()> {
        const HOURS: u32 = 6;
        for _ in 0..HOURS * 3600 {
            self.vfs.finish_closed()?;
            let counts = self.meta.read(|tx| tx.item_counts(None))?;
            ensure!(counts.parked == 0, "something is parked: {counts:?}");
            if counts.items + counts.tombstones == 0 {
                return Ok(());
            }
            self.clock.sleep(Duration::from_secs(1)).await;
        }
        let left = self.meta.read(|tx| -> Result<Vec<_>, MetaError> {
            let items = tx.due_items(self.share, i64::MAX, PAGE)?;
            items.iter().map(|item| Ok((tx.path(item.ino)?, tx.inode(item.ino)?))).collect()
        })?;
        bail!("the queue is not empty after {HOURS} hours: {left:#?}")
    }

    /// What is at `path`, as soon as the link is up again; none if nothing is there.
    pub(super) async fn find(&self, path: &str) -> Result<Option<Seen>> {
        const SECONDS: u32 = 600;
        let look = || async {
            let (dir, name) = self.place(path).await?;
            let entry = self.vfs.lookup(dir, name).await?;
            self.seen(entry.ino).await
        };
        for _ in 0..SECONDS {
            match look().await {
                Ok(seen) => return Ok(Some(seen)),
                Err(vfs::VfsError::NoEntry) => return Ok(None),
                Err(vfs::VfsError::Cache(error))
                    if error.trouble() == vfs::Trouble::Unreachable =>
                {
                    self.clock.sleep(Duration::from_secs(1)).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        bail!("the link was not used again in {SECONDS} s")
    }

    /// Everything, read through the gateway; listings are as old as they may be.
    pub(super) async fn tree(&self) -> Result<Tree> {
        let mut tree = Tree::default();
        let mut dirs = vec![(String::new(), self.root)];
        while let Some((path, dir)) = dirs.pop() {
            self.vfs.open_dir(dir).await.with_context(|| format!("list {path:?}"))?;
            let mut cookie = 0;
            loop {
                let page = self.vfs.read_dir(dir, cookie, PAGE).await?;
                let Some(last) = page.entries.last() else { break };
                cookie = last.cookie;
                for entry in page.entries {
                    let name = String::from_utf8_lossy(&entry.name).into_owned();
                    let path = if path.is_empty() { name } else { format!("{path}/{name}") };
                    if entry.attr.kind == FileKind::Dir {
                        tree.dirs.insert(path.clone());
                        dirs.push((path, entry.ino));
                    } else {
                        match self.seen(entry.ino).await {
                            Ok(seen) => drop(tree.files.insert(path, seen)),
                            // It was seen only now that somebody else has deleted it.
                            Err(vfs::VfsError::NoEntry) => {}
                            Err(error) => bail!("{path} can't be read: {}", chain(&error)),
                        }
                    }
                }
            }
        }
        Ok(tree)
    }

    /// A file's content and attributes.
    pub(super) async fn seen(&self, ino: Ino) -> vfs::Result<Seen> {
        let open = || self.vfs.open(ino, OpenHow { read: true, ..OpenHow::default() });
        let id = match open().await {
            // As the kernel does for a version that is there no more.
            Err(error) if is_stale(&error) => open().await?,
            opened => opened?,
        };
        let mut body = Vec::new();
        let read = loop {
            match self.vfs.read(id, body.len() as u64, 1 << 20).await {
                Ok(more) if more.is_empty() => break Ok(()),
                Ok(more) => body.extend(more),
                Err(error) => break Err(error),
            }
        };
        self.vfs.release(id)?;
        read?;
        let attr = self.vfs.attr(ino)?;
        Ok(Seen { ino, size: attr.size, perm: attr.perm, body })
    }
}

fn is_stale(error: &vfs::VfsError) -> bool {
    matches!(error, vfs::VfsError::Cache(error) if error.trouble() == vfs::Trouble::Stale)
}

fn open_share(meta: &Meta, clock: &dyn Clock) -> Result<Share> {
    let now = clock.wall();
    let known = meta.read(|tx| tx.share(SHARE))?;
    let share = match known {
        Some(share) => share,
        None => meta.write(move |tx| -> Result<_, MetaError> {
            let Defaults { uid, gid, dir_perm, .. } = DEFAULTS;
            let root = Attr::new(FileKind::Dir, dir_perm, (uid, gid), now);
            tx.add_share(SHARE, "sim://", root)
        })?,
    };
    Ok(Share {
        id: share.id,
        name: SHARE.into(),
        root: share.root,
        local: false,
        read_only: false,
        upload_delay: UPLOAD_DELAY,
        offline_wait: Duration::ZERO,
        fsync_wait: None,
        listing_age_max: LISTING_AGE_MAX,
        refresh_every: None,
        hooked: false,
        quotas: Quotas::default(),
    })
}
