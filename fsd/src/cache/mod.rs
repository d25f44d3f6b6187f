//! What is here of the cloud: file content in backing files, and the names of directories as they were listed.
//!
//! Invariant: a block counts as present only after its bytes are in the backing file.
//! Invariant: a backing file is removed only with [`Uploaded`](crate::meta::Uploaded), and never while it is open.

mod aside;
mod backing;
mod check;
mod evict;
mod fill;
mod index;
mod merge;
mod names;
mod pins;
mod present;
mod recency;
mod remember;
mod replace;
mod scan;
mod scrub;
mod sums;
mod verify;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use policies::Pins;

use self::backing::Base;
use self::index::{FileRecord, Index};
use self::present::{Presence, blocks_of};
use self::recency::Recency;
use crate::clock::Clock;
use crate::meta::{Inode, Meta, MetaError, Stamp};
use crate::remote::{Pacer, RemoteError, RemoteRef};
use crate::tasks::Tasks;
use crate::types::{Ino, ShareId};

pub use self::backing::{Backing, Rest};
pub use self::check::{BackingTrouble, Stale, Stray};
pub use self::evict::Eviction;
pub use self::fill::ReadAhead;
pub use self::merge::{Changes, Defaults, Merged};
pub use self::present::BLOCK_BYTES;
pub use self::replace::Staged;
pub use self::scan::backing_files;
pub use self::scrub::Checked;
pub use self::verify::{Difference, Differing, Verified};

/// Limits of the cache.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most bytes of disk that backing files may take.
    pub disk_bytes_max: u64,
    /// Above so many percent of that, or of the disk if that is less, what was used longest ago is evicted, writers are slowed down, and
    /// what is only read leaves the room to them.
    pub high_mark: u8,
    /// Down to so many percent is evicted.
    pub low_mark: u8,
    /// Bytes that stay free on the disk, whatever the cache would like.
    pub free_bytes_min: u64,
}

/// Why the cache could not serve.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CacheError {
    /// The local disk failed.
    #[error("the cache disk failed")]
    Disk(#[source] Arc<io::Error>),
    /// The cache is full of what is not uploaded yet.
    #[error(
        "there is no room left in the cache or on its disk: what is there is not uploaded yet, open, pinned, or looked at by a hook; `fsd status` says how much"
    )]
    Full,
    /// The cloud could not give what is not here.
    #[error("what is not here could not be fetched")]
    Remote(#[source] Arc<RemoteError>),
    /// The metadata store failed.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// The file is neither here nor in the cloud.
    #[error("inode {0} has bytes that are neither here nor in the cloud")]
    Lost(Ino),
    /// The cloud did not answer in time.
    #[error("the cloud did not answer in time")]
    Deadline,
}

/// What a [`CacheError`] comes down to, for those who only pass it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// No room, here or on the disk below.
    Full,
    /// The local disk or database failed; the system's number for it, if there is one.
    Disk(Option<i32>),
    /// The bytes are neither here nor in the cloud, or the cloud can't give them.
    Lost,
    /// The cloud has another version by now, or none.
    Stale,
    /// The cloud can't be reached.
    Unreachable,
    /// The cloud refuses our credentials.
    Denied,
    /// The bucket, container or directory is gone.
    NoContainer,
    /// The cloud did not answer in time.
    Deadline,
}

impl CacheError {
    /// What it comes down to.
    #[must_use]
    pub fn trouble(&self) -> Trouble {
        match self {
            Self::Full => Trouble::Full,
            Self::Deadline => Trouble::Deadline,
            Self::Lost(_) => Trouble::Lost,
            Self::Disk(error) => Trouble::Disk(error.raw_os_error()),
            Self::Meta(error) if error.is_disk_full() => Trouble::Full,
            Self::Meta(_) => Trouble::Disk(None),
            Self::Remote(error) => match error.as_ref() {
                RemoteError::Unreachable { .. } => Trouble::Unreachable,
                RemoteError::Denied { .. } => Trouble::Denied,
                RemoteError::NoContainer { .. } => Trouble::NoContainer,
                RemoteError::Precondition { .. } | RemoteError::NotFound { .. } => Trouble::Stale,
                RemoteError::Unsupported { .. }
                | RemoteError::Occupied { .. }
                | RemoteError::Damaged { .. }
                | RemoteError::Rejected { .. } => Trouble::Lost,
            },
        }
    }
}

impl From<io::Error> for CacheError {
    fn from(error: io::Error) -> Self {
        Self::Disk(Arc::new(error))
    }
}

impl From<RemoteError> for CacheError {
    fn from(error: RemoteError) -> Self {
        Self::Remote(Arc::new(error))
    }
}

/// A result of the cache.
pub type Result<T, E = CacheError> = std::result::Result<T, E>;

/// The cache.
#[derive(Debug)]
pub struct Cache {
    data: PathBuf,
    limits: Limits,
    meta: Arc<Meta>,
    index: Index,
    stores: BTreeMap<ShareId, Store>,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
    open: Mutex<HashMap<Ino, Weak<Backing>>>,
    recency: Mutex<Recency>,
    /// Backing files that there are.
    files: AtomicUsize,
    used: AtomicU64,
    /// Bytes that are being fetched.
    incoming: AtomicU64,
    free: Mutex<Option<evict::Free>>,
    /// Closed files of which is not noted yet what is here.
    unnoted: Mutex<Vec<Arc<Backing>>>,
    /// Somebody is about to note it.
    remembering: AtomicBool,
    names: names::Listings,
    pins: RwLock<BTreeMap<ShareId, Pins>>,
}

/// Where a share's objects are.
#[derive(Clone, Debug)]
pub struct Store {
    /// The store.
    pub remote: RemoteRef,
    /// Attributes of objects that carry none.
    pub defaults: Defaults,
    /// The pace of what is asked for while nobody waits; none if that is free.
    pub down: Option<Arc<Pacer>>,
}

/// What a cache is built of.
#[derive(Debug)]
pub struct Parts {
    /// The folder for `data/` and `index/`.
    pub dir: PathBuf,
    /// Limits.
    pub limits: Limits,
    /// The precious store.
    pub meta: Arc<Meta>,
    /// The store of each cloud share; a local share has none.
    pub stores: BTreeMap<ShareId, Store>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where fetches run.
    pub tasks: Tasks,
}

impl Cache {
    /// Opens the cache: removes backing files that belong to nothing any more, and counts the others. Those that the metadata store
    /// can't know yet are not removed but set aside: it lost its last changes, and nobody else has them.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn open(parts: Parts) -> Result<Self> {
        let Parts { dir, limits, meta, stores, clock, tasks } = parts;
        let data = dir.join(scan::DATA);
        for folder in 0..=255u8 {
            std::fs::create_dir_all(data.join(format!("{folder:02x}")))?;
        }
        let index = Index::open(&dir.join("index"))?;
        let cache = Self {
            data,
            limits,
            meta,
            index,
            stores,
            clock,
            tasks,
            open: Mutex::default(),
            recency: Mutex::default(),
            files: AtomicUsize::new(0),
            used: AtomicU64::new(0),
            incoming: AtomicU64::new(0),
            free: Mutex::default(),
            unnoted: Mutex::default(),
            remembering: AtomicBool::new(false),
            names: names::Listings::default(),
            pins: RwLock::default(),
        };
        cache.load_pins()?;
        cache.scan()?;
        Ok(cache)
    }

    /// Bytes of disk that backing files take.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Number of files with something here.
    #[must_use]
    pub fn file_count(&self) -> usize {
        self.files.load(Ordering::Relaxed)
    }

    /// The limits.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// The store of a share; none for a local share.
    #[must_use]
    pub fn remote(&self, share: ShareId) -> Option<&RemoteRef> {
        self.stores.get(&share).map(|store| &store.remote)
    }

    /// The shares that have a store.
    #[must_use]
    pub fn cloud_shares(&self) -> Vec<ShareId> {
        self.stores.keys().copied().collect()
    }

    /// The number of a new file's backing file.
    pub const FIRST_BACKING: u64 = 1;

    /// Makes the first backing file of a new inode, inside the transaction that makes the inode.
    /// It counts from [`Cache::created`] on.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn create(&self, ino: Ino) -> Result<Backing> {
        let file = backing::create_file(&self.path(ino, Self::FIRST_BACKING))?;
        Ok(Backing::new(ino, Self::FIRST_BACKING, file, None)?)
    }

    /// Takes in a backing file whose inode is committed. The lock on open files is never asked for inside a
    /// transaction: those who hold it begin transactions.
    #[must_use]
    pub fn created(&self, backing: Backing) -> Arc<Backing> {
        self.files.fetch_add(1, Ordering::Relaxed);
        self.adopt(&mut lock(&self.open), backing)
    }

    /// The backing file of `ino`, as it is now or begun anew.
    ///
    /// # Errors
    /// If the disk or the metadata store fails; [`CacheError::Lost`] if a dirty file has no backing file.
    pub fn backing(&self, ino: Ino) -> Result<Arc<Backing>> {
        let mut open = lock(&self.open);
        if let Some(backing) = open.get(&ino).and_then(Weak::upgrade) {
            return Ok(backing);
        }
        let (inode, precious) = self.meta.read(|tx| -> Result<_> {
            let inode = tx.inode(ino)?.ok_or(CacheError::Lost(ino))?;
            let writing = tx.is_writing(ino)?;
            let dirty = !inode.is_uploaded() || writing;
            let precious = if dirty { Some((tx.presence(ino)?, writing)) } else { None };
            Ok((inode, precious))
        })?;
        let backing = match precious {
            Some((map, writing)) => self.open_dirty(&inode, map, writing)?,
            None => match self.open_clean(&inode).and_then(|open| match open {
                Some(backing) => Ok(backing),
                None => self.begin(&inode),
            }) {
                Err(error @ (CacheError::Disk(_) | CacheError::Meta(_))) => {
                    tracing::warn!(%ino, error = &error as &dyn std::error::Error, "the cache disk can't take a file in: it is read from the cloud each time");
                    Backing::unkept(ino, inode.backing, inode.attr.size)?
                }
                opened => opened?,
            },
        };
        if !backing.is_whole()
            && let Some(base) = Base::of(&inode)
        {
            backing.base.get_or_init(|| base);
        }
        Ok(self.adopt(&mut open, backing))
    }

    /// Whether a program writes the backing file of `inode`, which is not open here: one whose daemon died may go on for as long as
    /// it likes, if the kernel writes for it.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn is_written_elsewhere(&self, inode: &Inode) -> Result<bool> {
        Ok(backing::is_written(&self.path(inode.ino, inode.backing))?)
    }

    /// Whether `backing` is as `stamp` says, and a change of it would show: after what was written to it is on the disk, also a write to
    /// a map of it sets its times.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn rests(&self, backing: &Backing, stamp: &Stamp) -> io::Result<Rest> {
        backing.file.sync_data()?;
        let now = backing.stamp(self.clock.wall())?;
        let same = (now.size, now.mtime, now.ctime) == (stamp.size, stamp.mtime, stamp.ctime);
        Ok(match same {
            false => Rest::Changed,
            true if now.young => Rest::Young,
            true => Rest::Still,
        })
    }

    /// Whether all of `inode` is here, without opening it.
    #[must_use]
    pub fn is_whole(&self, inode: &Inode) -> bool {
        if let Some(backing) = lock(&self.open).get(&inode.ino).and_then(Weak::upgrade) {
            return backing.is_whole();
        }
        let record = self.index.file(inode.ino);
        record.is_some_and(|r| r.backing == inode.backing && r.blocks.is_empty())
    }

    /// Bytes of disk that `inode` takes, if all of it is here; without opening it.
    #[must_use]
    pub fn allocated(&self, inode: &Inode) -> Option<u64> {
        if let Some(backing) = lock(&self.open).get(&inode.ino).and_then(Weak::upgrade) {
            return backing.is_whole().then(|| backing::allocated(&backing.file).ok()).flatten();
        }
        let is_whole = match inode.is_uploaded() {
            true => self.is_whole(inode),
            false => self.meta.read(|tx| tx.presence(inode.ino)).ok()?.is_none(),
        };
        let path = self.path(inode.ino, inode.backing);
        is_whole.then(|| std::fs::metadata(path).ok().map(|file| file.blocks() * 512)).flatten()
    }

    /// Bytes of `inode` that are here, without opening it.
    ///
    /// # Errors
    /// If the metadata store fails.
    pub fn bytes_here(&self, inode: &Inode) -> Result<u64> {
        let size = inode.attr.size;
        if let Some(backing) = lock(&self.open).get(&inode.ino).and_then(Weak::upgrade) {
            return Ok(backing.bytes_here(size));
        }
        let blocks = match inode.is_uploaded() {
            true => match self.index.file(inode.ino).filter(|r| r.backing == inode.backing) {
                Some(record) => record.blocks,
                None => return Ok(0),
            },
            false => self.meta.read(|tx| tx.presence(inode.ino))?.unwrap_or_default(),
        };
        let file = std::fs::metadata(self.path(inode.ino, inode.backing));
        let size = file.map_or(0, |file| file.len()).min(size);
        Ok(Presence::decode(&blocks).map_or(size, |(present, _)| present.bytes(size)))
    }

    /// Removes the backing file of an inode that is gone.
    pub fn forget(&self, ino: Ino, number: u64) {
        let mut open = lock(&self.open);
        let counted = match open.get(&ino).and_then(Weak::upgrade) {
            // Somebody has opened the next one already.
            Some(next) if next.number != number => None,
            found => {
                open.remove(&ino);
                found.map(|b| b.accounted.swap(0, Ordering::Relaxed))
            }
        };
        self.remove(ino, number, counted);
    }

    /// A file beside the backing files, without a name: it is gone when it is closed.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn nameless(&self) -> io::Result<std::fs::File> {
        tempfile::tempfile_in(&self.data)
    }

    fn path(&self, ino: Ino, number: u64) -> PathBuf {
        backing::path_of(&self.data, ino, number)
    }

    fn adopt(&self, open: &mut HashMap<Ino, Weak<Backing>>, backing: Backing) -> Arc<Backing> {
        const FORGET_CLOSED_ABOVE: usize = 4096;
        if let Some(other) = open.get(&backing.ino).and_then(Weak::upgrade) {
            return other;
        }
        if open.len() > FORGET_CLOSED_ABOVE {
            open.retain(|_, backing| backing.strong_count() > 0);
        }
        let backing = Arc::new(backing);
        open.insert(backing.ino, Arc::downgrade(&backing));
        self.used_now(backing.ino);
        backing
    }

    fn open_dirty(&self, inode: &Inode, map: Option<Vec<u8>>, writing: bool) -> Result<Backing> {
        let file = match backing::open_file(&self.path(inode.ino, inode.backing)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(CacheError::Lost(inode.ino));
            }
            Err(error) => return Err(error.into()),
        };
        let (here, size) = (file.metadata()?.len(), inode.attr.size);
        if !writing && here < size {
            let left = self.path(inode.ino, inode.backing);
            tracing::error!(ino = %inode.ino, here, size, left = %left.display(), "the cache disk lost the end of a file that is not uploaded");
            return Err(CacheError::Lost(inode.ino));
        }
        let present = match map {
            None => None,
            Some(bytes) => Some(Presence::decode(&bytes).ok_or(CacheError::Lost(inode.ino))?),
        };
        Ok(Backing::new(inode.ino, inode.backing, file, present)?)
    }

    fn open_clean(&self, inode: &Inode) -> Result<Option<Backing>> {
        let Some(record) = self.index.file(inode.ino).filter(|r| r.backing == inode.backing) else {
            return Ok(None);
        };
        let file = match backing::open_file(&self.path(inode.ino, inode.backing)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                tracing::warn!(ino = %inode.ino, "a cached file is gone from the disk: it is fetched anew");
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let (here, size) = (file.metadata()?.len(), inode.attr.size);
        if here != size {
            tracing::warn!(ino = %inode.ino, here, size, "a cached file has another length on the disk: it is fetched anew");
            return Ok(None);
        }
        let present = match record.blocks.as_slice() {
            [] => None,
            bytes => match Presence::decode(bytes) {
                Some((present, _)) => Some((present, inode.attr.size)),
                None => return Ok(None),
            },
        };
        let backing = Backing::new(inode.ino, inode.backing, file, present)?;
        backing.state().sums = record.sums;
        Ok(Some(backing))
    }

    /// Begins an empty backing file for a clean inode, under a number that no record of old names.
    fn begin(&self, inode: &Inode) -> Result<Backing> {
        let old = inode.backing;
        let (ino, number, size) = (inode.ino, old + 1, inode.attr.size);
        let file = backing::create_file(&self.path(ino, number))?;
        file.set_len(size)?;
        self.meta.write(move |tx| -> Result<()> {
            let mut now = tx.inode(ino)?.ok_or(CacheError::Lost(ino))?;
            now.backing = number;
            Ok(tx.put_inode(&now)?)
        })?;
        self.files.fetch_add(1, Ordering::Relaxed);
        if old > 0 {
            self.remove(ino, old, None);
        }
        let present = (!blocks_of(&(0..size)).is_empty()).then(|| (Presence::default(), size));
        Ok(Backing::new(ino, number, file, present)?)
    }

    /// Removes a backing file and what is known of it; returns what it took, if it was there. `counted`: bytes counted for it, if it was
    /// open.
    fn remove(&self, ino: Ino, number: u64, counted: Option<u64>) -> Option<u64> {
        let path = self.path(ino, number);
        let bytes = counted.unwrap_or_else(|| {
            std::fs::File::open(&path).and_then(|f| backing::allocated(&f)).unwrap_or(0)
        });
        match std::fs::remove_file(&path) {
            Ok(()) => {
                self.files.fetch_sub(1, Ordering::Relaxed);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => tracing::warn!(%error, %ino, "a backing file could not be removed"),
        }
        self.sub_used(bytes);
        self.index.remove_file(ino);
        lock(&self.recency).forget(ino);
        Some(bytes)
    }

    fn used_now(&self, ino: Ino) {
        let displaced = lock(&self.recency).used(ino, self.clock.wall().secs);
        // From here on the index alone knows when that was used.
        if let Some((ino, used)) = displaced
            && let Some(record) = self.index.file(ino).filter(|record| record.used < used)
        {
            self.index.put_file(ino, &FileRecord { used, ..record });
        }
    }

    /// Brings the count of used bytes up to date for one file.
    pub(crate) fn account(&self, backing: &Backing) -> Result<()> {
        backing.estimated.store(0, Ordering::Relaxed);
        let now = backing::allocated(&backing.file)?;
        let before = backing.accounted.swap(now, Ordering::Relaxed);
        if now >= before {
            self.used.fetch_add(now - before, Ordering::Relaxed);
        } else {
            self.sub_used(before - now);
        }
        Ok(())
    }

    fn sub_used(&self, bytes: u64) {
        let _ = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            Some(used.saturating_sub(bytes))
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
