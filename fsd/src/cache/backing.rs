//! A file's backing file on the local disk: sparse, same offsets as the file, one for each inode.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use nix::sys::memfd::{MFdFlags, memfd_create};
use tokio::sync::watch;

use super::CacheError;
use super::present::{Presence, blocks_of};
use super::sums::Sums;
use crate::meta::{Inode, Stamp};
use crate::types::{ETag, Ino, Key, ShareId, Time};

/// A change this shortly after another may leave the same times on disks with coarse clocks.
const YOUNG_NANOS: i128 = 50_000_000;

/// Whether a backing file that somebody has open for writing is at rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// It is as it was, and any change would show in its times.
    Still,
    /// It is as it was, but a change might not show yet.
    Young,
    /// It has changed.
    Changed,
}

/// A backing file that is open, with what is here of it. At most one for each inode exists at a time.
#[derive(Debug)]
pub struct Backing {
    pub(super) ino: Ino,
    pub(super) number: u64,
    pub(super) file: File,
    pub(super) state: Mutex<State>,
    /// Every block is here. Never turns false again.
    whole: AtomicBool,
    /// Whether what is fetched is kept. Not if the disk could not take the file in.
    pub(super) kept: bool,
    /// Bytes of disk that the cache counts for it.
    pub(super) accounted: AtomicU64,
    /// Bytes written since they were counted exactly.
    pub(super) estimated: AtomicU64,
    /// The object when it was opened; it counts when the file has none any more, since it was deleted.
    pub(super) base: OnceLock<Base>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) present: Presence,
    /// How long the object is that absent blocks come from.
    pub(super) object_bytes: u64,
    /// Fetches under way: blocks, and where their end is told.
    pub(super) in_flight: Vec<(Range<u64>, watch::Receiver<Progress>)>,
    /// Blocks came in since the presence map was stored.
    pub(super) unsaved: bool,
    /// What the precious store says is here; none if it says all.
    noted: Option<Presence>,
    /// Of blocks that came from the cloud, or were looked at.
    pub(super) sums: Sums,
}

impl State {
    pub(super) fn new(present: Presence, object_bytes: u64, noted: Option<Presence>) -> Self {
        let (in_flight, unsaved, sums) = (Vec::new(), false, Sums::default());
        Self { present, object_bytes, in_flight, unsaved, noted, sums }
    }
}

/// How a fetch stands; told to all who wait for it.
#[derive(Clone, Debug)]
pub(super) enum Progress {
    Running,
    Done,
    Failed(CacheError),
}

/// A presence map as it was handed out to be stored.
#[derive(Debug)]
pub struct Noted(Option<Presence>);

/// Where blocks come from that are not here.
#[derive(Clone, Debug)]
pub(super) struct Base {
    pub(super) share: ShareId,
    pub(super) key: Key,
    pub(super) etag: Option<ETag>,
}

impl Base {
    /// That of a file that the cloud has.
    pub(super) fn of(inode: &Inode) -> Option<Self> {
        let object = inode.object.as_ref()?;
        Some(Self { share: inode.share, key: object.key.clone(), etag: object.etag.clone() })
    }
}

impl Backing {
    pub(super) fn new(
        ino: Ino,
        number: u64,
        file: File,
        present: Option<(Presence, u64)>,
    ) -> io::Result<Self> {
        let accounted = AtomicU64::new(allocated(&file)?);
        let whole = AtomicBool::new(present.is_none());
        let (present, object_bytes) = present.unwrap_or_default();
        let noted = (!whole.load(Ordering::Relaxed)).then(|| present.clone());
        let state = State::new(present, object_bytes, noted);
        Ok(Self {
            ino,
            number,
            file,
            state: Mutex::new(state),
            whole,
            kept: true,
            accounted,
            estimated: AtomicU64::new(0),
            base: OnceLock::new(),
        })
    }

    /// What stands for the backing file of a clean file of `size` bytes when the disk can't have one: empty, and it stays so.
    pub(super) fn unkept(ino: Ino, number: u64, size: u64) -> io::Result<Self> {
        let fd = memfd_create(c"fsd-unkept", MFdFlags::MFD_CLOEXEC)?;
        let file = File::from(fd);
        file.set_len(size)?;
        let backing = Self::new(ino, number, file, Some((Presence::default(), size)))?;
        Ok(Self { kept: false, ..backing })
    }

    /// Whether the disk has taken the file in, so that it can be written.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.kept
    }

    /// The inode.
    #[must_use]
    pub fn ino(&self) -> Ino {
        self.ino
    }

    /// Which of the inode's backing files this is.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Whether every block is here.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.whole.load(Ordering::Acquire)
    }

    /// Whether there are bytes, and none of them is here: then nobody has written any.
    #[must_use]
    pub fn has_nothing(&self) -> bool {
        !self.is_whole() && self.state().present == Presence::default()
    }

    /// Whether what is here of it is noted.
    #[must_use]
    pub fn is_saved(&self) -> bool {
        !self.state().unsaved
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn has(&self, range: &Range<u64>) -> bool {
        self.is_whole() || self.state().present.contains(&blocks_of(range))
    }

    /// Whether nothing of `range` is here, and the object that it comes from has all of it.
    #[must_use]
    pub fn is_elsewhere(&self, range: &Range<u64>) -> bool {
        let (state, blocks) = (self.state(), blocks_of(range));
        range.end <= state.object_bytes && state.present.missing(blocks.clone()) == [blocks]
    }

    /// Says that `blocks` are here, of a file that is now `size` long.
    pub(super) fn mark(&self, state: &mut State, blocks: Range<u64>, size: u64) {
        state.present.insert(blocks);
        state.unsaved = true;
        if state.present.contains(&blocks_of(&(0..size))) {
            self.whole.store(true, Ordering::Release);
        }
    }

    /// Whether the precious store says that all of the file is here.
    #[must_use]
    pub fn is_noted_whole(&self) -> bool {
        self.state().noted.is_none()
    }

    /// Whether the precious store says that all of `range` is here.
    #[must_use]
    pub fn is_noted(&self, range: &Range<u64>) -> bool {
        self.state().noted.as_ref().is_none_or(|noted| noted.contains(&blocks_of(range)))
    }

    /// The presence map as bytes, none if the file is whole; and what to give to [`Backing::noted`] when it is stored.
    #[must_use]
    pub fn presence(&self) -> (Option<Vec<u8>>, Noted) {
        let state = self.state();
        let map = self.encode(&state);
        let noted = map.is_some().then(|| state.present.clone());
        (map, Noted(noted))
    }

    /// Says that the precious store has a presence map.
    pub fn noted(&self, map: Noted) {
        self.state().noted = map.0;
    }

    /// Counts what is not here as here, as zeros, after the precious store says the same: nobody has it any more.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn complete(&self) -> io::Result<()> {
        let size = self.file.metadata()?.len();
        let mut state = self.state();
        self.mark(&mut state, blocks_of(&(0..size)), size);
        state.noted = None;
        Ok(())
    }

    fn encode(&self, state: &State) -> Option<Vec<u8>> {
        (!self.is_whole()).then(|| state.present.encode(state.object_bytes))
    }

    /// Whether blocks came in since this was asked last, and what is to be noted: the presence map, empty if the file is whole, and
    /// checksums.
    pub(super) fn take_unsaved(&self) -> (bool, Vec<u8>, Sums) {
        let mut state = self.state();
        let blocks = self.encode(&state).unwrap_or_default();
        (std::mem::take(&mut state.unsaved), blocks, state.sums.clone())
    }

    /// Bytes of the file that are here, which is `size` long.
    pub(super) fn bytes_here(&self, size: u64) -> u64 {
        if self.is_whole() { size } else { self.state().present.bytes(size) }
    }

    /// What tells whether the file changes from here on.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn stamp(&self, now: Time) -> io::Result<Stamp> {
        let meta = self.file.metadata()?;
        let nanos = |t: Time| i128::from(t.secs) * 1_000_000_000 + i128::from(t.nanos);
        let mtime =
            Time { secs: meta.mtime(), nanos: u32::try_from(meta.mtime_nsec()).unwrap_or(0) };
        let ctime =
            Time { secs: meta.ctime(), nanos: u32::try_from(meta.ctime_nsec()).unwrap_or(0) };
        let young = nanos(now) - nanos(ctime) < YOUNG_NANOS;
        Ok(Stamp { size: meta.size(), mtime, ctime, young })
    }

    /// Reads at `offset`; shorter at the end of the file. The caller made sure that the blocks are here.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    /// The file itself, to sync it, to stat it, or to hand it on.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }
}

/// Where backing files are: 256 folders, so that none gets too large.
pub(super) fn path_of(dir: &Path, ino: Ino, number: u64) -> PathBuf {
    dir.join(format!("{:02x}", ino.0 % 256)).join(format!("{}.{number}", ino.0))
}

/// The inode and number in a backing file's name.
pub(super) fn parse_name(name: &str) -> Option<(Ino, u64)> {
    let (ino, number) = name.split_once('.')?;
    Some((Ino(ino.parse().ok()?), number.parse().ok()?))
}

/// Opens a backing file; one on a disk that has become read-only can still be read.
pub(super) fn open_file(path: &Path) -> io::Result<File> {
    match OpenOptions::new().read(true).write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => File::open(path),
        opened => opened,
    }
}

pub(super) fn create_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true).mode(0o600).open(path)
}

/// Whether anybody has the file open for writing: only then is a read lease refused; fcntl(2). A disk without leases knows nothing.
pub(super) fn is_written(path: &Path) -> io::Result<bool> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        file => file?,
    };
    let lease = |kind: libc::c_int| {
        #[expect(unsafe_code, reason = "nix has no leases")]
        // SAFETY: the descriptor is open, and this command takes a number.
        nix::Error::result(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) })
    };
    match lease(libc::F_RDLCK) {
        Err(nix::Error::EAGAIN) => Ok(true),
        Err(_) => Ok(false),
        Ok(_) => {
            lease(libc::F_UNLCK)?;
            Ok(false)
        }
    }
}

/// Bytes of disk that a file takes.
pub(super) fn allocated(file: &File) -> io::Result<u64> {
    Ok(file.metadata()?.blocks() * 512)
}
