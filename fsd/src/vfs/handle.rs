//! Handles, and what is open: one record for each open file, whoever has it open.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::cache::{Backing, ReadAhead};
use crate::meta::{Inode, Stamp};
use crate::types::{Attr, Ino, ShareId, Time};

/// A handle's number; never given twice in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HandleId(pub u64);

/// The backing file of an open file: whoever has it reads and writes the file.
#[derive(Debug)]
pub struct HandedOut(pub(super) Arc<Backing>);

impl HandedOut {
    /// Which content it is: another number after what somebody else put into the cloud came in.
    #[must_use]
    pub fn content(&self) -> u64 {
        self.0.number()
    }

    /// Its length.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn size(&self) -> std::io::Result<u64> {
        size_of(&self.0)
    }
}

impl AsFd for HandedOut {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.file().as_fd()
    }
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenHow {
    /// For reading.
    pub read: bool,
    /// For writing.
    pub write: bool,
    /// Emptied first.
    pub truncate: bool,
    /// Every write goes to the end.
    pub append: bool,
}

/// How bytes are written.
#[derive(Clone, Copy, Debug, Default)]
pub struct WriteHow {
    /// The writer may not keep setuid bits alive.
    pub kill_privileges: bool,
    /// They belong where the offset says, whatever the handle: pages of a map, written back.
    pub in_place: bool,
}

#[derive(Debug)]
pub(super) struct Handle {
    pub(super) ino: Ino,
    pub(super) how: OpenHow,
    pub(super) backing: Arc<Backing>,
    pub(super) ahead: Mutex<ReadAhead>,
}

impl Handle {
    /// Where a write of `offset` goes.
    pub(super) fn place(&self, offset: u64, how: WriteHow) -> std::io::Result<u64> {
        if self.how.append && !how.in_place { size_of(&self.backing) } else { Ok(offset) }
    }
}

/// A file that somebody has open.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) share: ShareId,
    pub(super) backing: Arc<Backing>,
    pub(super) handles: u32,
    pub(super) writers: u32,
    /// What the backing file was like before the first writer whose changes are not stored yet.
    pub(super) stamp: Option<Stamp>,
    /// Whether a write has to take setuid, setgid or a capability away.
    pub(super) privileged: bool,
    /// How long it may become before its owner's quota is asked again; none if he has no quota.
    pub(super) granted: Option<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Handles {
    files: Mutex<HashMap<Ino, Open>>,
    handles: Mutex<HashMap<HandleId, Arc<Handle>>>,
    next: AtomicU64,
    /// Files that lost a handle, and when, ms since 1970: what that means is not stored yet.
    closed: Mutex<Vec<(Ino, i64)>>,
    /// There are some.
    pub(super) closing: Notify,
    /// A file is written that we don't see growing.
    pub(super) handed_out: Notify,
}

impl Handles {
    /// What is open. Transactions run under this lock, never the other way round.
    pub(super) fn files(&self) -> MutexGuard<'_, HashMap<Ino, Open>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handles(&self) -> MutexGuard<'_, HashMap<HandleId, Arc<Handle>>> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, id: HandleId) -> Option<Arc<Handle>> {
        self.handles().get(&id).cloned()
    }

    pub(super) fn add(&self, ino: Ino, how: OpenHow, backing: Arc<Backing>) -> HandleId {
        let id = HandleId(self.next.fetch_add(1, Ordering::Relaxed) + 1);
        let handle = Handle { ino, how, backing, ahead: Mutex::default() };
        self.handles().insert(id, Arc::new(handle));
        id
    }

    pub(super) fn remove(&self, id: HandleId) -> Option<Arc<Handle>> {
        self.handles().remove(&id)
    }

    /// Files that lost a handle. Locked alone, or after [`Handles::files`].
    pub(super) fn closed(&self) -> MutexGuard<'_, Vec<(Ino, i64)>> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `inode` as it is now, if it was read while `files` are locked: of a file that is being written the backing file knows size
/// and times.
pub(super) fn as_open(files: &HashMap<Ino, Open>, mut inode: Inode) -> Inode {
    if let Some(Open { backing, stamp: Some(stamp), .. }) = files.get(&inode.ino)
        && let Ok(now) = stamp_now(backing)
    {
        overlay(&mut inode.attr, &now, stamp);
    }
    inode
}

/// The backing file's stamp, its youth aside.
pub(super) fn stamp_now(backing: &Backing) -> std::io::Result<Stamp> {
    backing.stamp(Time { secs: i64::MAX, nanos: 0 })
}

/// Whether the backing file changed since `before`.
pub(super) fn has_changed(before: &Stamp, now: &Stamp) -> bool {
    before.young || (before.size, before.mtime, before.ctime) != (now.size, now.mtime, now.ctime)
}

/// Puts size and times of a changed backing file over the stored ones.
pub(super) fn overlay(attr: &mut Attr, now: &Stamp, before: &Stamp) {
    if (before.size, before.mtime) != (now.size, now.mtime) {
        attr.size = now.size;
        attr.mtime = now.mtime;
        attr.ctime = attr.ctime.max(now.ctime);
    }
}

/// Length of the backing file.
pub(super) fn size_of(backing: &Backing) -> std::io::Result<u64> {
    Ok(backing.file().metadata()?.size())
}
