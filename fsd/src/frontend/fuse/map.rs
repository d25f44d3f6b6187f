//! Types and errors, translated once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use fuser::{Errno, FileAttr, FileType, INodeNo, TimeOrNow};

use crate::types::{Attr, FileKind, Ino, Time};
use crate::vfs::{SetTime, Trouble, VfsError};

/// The block size told to programs that ask for one.
const BLOCK_BYTES: u32 = 4096;

/// Above the inode's number: which of its lives the kernel knows.
const LIFE_SHIFT: u32 = 48;

/// What the kernel calls an inode.
///
/// The root of a mount is 1 there. Of several shares only one has a root with that number: the two swap.
///
/// A file whose content was replaced while somebody has it open is another one from then on: for one of its own the kernel can't read two
/// contents.
#[derive(Clone, Debug)]
pub(super) struct NodeIds {
    root: Ino,
    lives: Arc<Mutex<HashMap<Ino, u64>>>,
}

impl NodeIds {
    pub(super) fn new(root: Ino) -> Self {
        Self { root, lives: Arc::default() }
    }

    pub(super) fn ino(&self, node: INodeNo) -> Ino {
        Ino(self.swap(node.0 & !(u64::MAX << LIFE_SHIFT)))
    }

    pub(super) fn node(&self, ino: Ino) -> INodeNo {
        let life = self.lives().get(&ino).copied().unwrap_or(0);
        INodeNo(self.swap(ino.0) | life << LIFE_SHIFT)
    }

    /// Whoever looks `node` up from here on gets another one for its inode.
    pub(super) fn renew(&self, node: INodeNo) {
        let (ino, life) = (self.ino(node), node.0 >> LIFE_SHIFT);
        let mut lives = self.lives();
        let now = lives.entry(ino).or_default();
        if *now == life {
            *now = (life + 1) % (1 << (u64::BITS - LIFE_SHIFT));
        }
    }

    fn lives(&self) -> MutexGuard<'_, HashMap<Ino, u64>> {
        self.lives.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn swap(&self, number: u64) -> u64 {
        match number {
            1 => self.root.0,
            number if number == self.root.0 => 1,
            number => number,
        }
    }
}

pub(super) fn errno(error: &VfsError) -> Errno {
    match error {
        VfsError::NoEntry => Errno::ENOENT,
        VfsError::Exists | VfsError::AttributeExists => Errno::EEXIST,
        VfsError::NotDir => Errno::ENOTDIR,
        VfsError::IsDir => Errno::EISDIR,
        VfsError::NotEmpty => Errno::ENOTEMPTY,
        VfsError::Invalid(_) => Errno::EINVAL,
        VfsError::ReadOnly => Errno::EROFS,
        VfsError::BadHandle => Errno::EBADF,
        VfsError::NameTooLong => Errno::ENAMETOOLONG,
        VfsError::Unsupported(_) => Errno::EOPNOTSUPP,
        VfsError::Denied(_) => Errno::EACCES,
        VfsError::Reserved => Errno::EPERM,
        VfsError::NoAttribute => Errno::ENODATA,
        VfsError::NoData => Errno::ENXIO,
        VfsError::TooLarge => Errno::E2BIG,
        VfsError::Quota => Errno::EDQUOT,
        VfsError::Cache(error) => trouble_errno(error.trouble()),
        VfsError::Meta(error) if error.is_disk_full() => Errno::ENOSPC,
        VfsError::Meta(_) | VfsError::NotUploaded => Errno::EIO,
    }
}

fn trouble_errno(trouble: Trouble) -> Errno {
    match trouble {
        Trouble::Full => Errno::ENOSPC,
        Trouble::Disk(number) => number.map_or(Errno::EIO, Errno::from_i32),
        Trouble::Lost => Errno::EIO,
        Trouble::Stale => Errno::ESTALE,
        Trouble::Unreachable => Errno::ENETUNREACH,
        Trouble::Denied => Errno::EACCES,
        Trouble::NoContainer => Errno::ENODEV,
        Trouble::Deadline => Errno::ETIMEDOUT,
    }
}

/// Whether an error is everyday business of a file system, not worth a line in the log.
pub(super) fn is_everyday(error: &VfsError) -> bool {
    !matches!(error, VfsError::Cache(_) | VfsError::Meta(_) | VfsError::NotUploaded)
}

/// `blocks`: see [`Vfs::blocks`](crate::vfs::Vfs::blocks).
pub(super) fn attr(node: INodeNo, attr: &Attr, blocks: u64) -> FileAttr {
    FileAttr {
        ino: node,
        size: attr.size,
        blocks,
        atime: attr.atime.into(),
        mtime: attr.mtime.into(),
        ctime: attr.ctime.into(),
        crtime: SystemTime::UNIX_EPOCH,
        kind: kind(attr.kind),
        perm: u16::try_from(attr.perm & 0o7777).unwrap_or(0),
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.rdev,
        blksize: BLOCK_BYTES,
        flags: 0,
    }
}

/// What stands for a name that is not there: node number 0.
pub(super) fn absent() -> FileAttr {
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: SystemTime::UNIX_EPOCH,
        mtime: SystemTime::UNIX_EPOCH,
        ctime: SystemTime::UNIX_EPOCH,
        crtime: SystemTime::UNIX_EPOCH,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: BLOCK_BYTES,
        flags: 0,
    }
}

pub(super) fn kind(kind: FileKind) -> FileType {
    match kind {
        FileKind::File => FileType::RegularFile,
        FileKind::Dir => FileType::Directory,
        FileKind::Symlink => FileType::Symlink,
        FileKind::Fifo => FileType::NamedPipe,
        FileKind::Socket => FileType::Socket,
        FileKind::CharDevice => FileType::CharDevice,
        FileKind::BlockDevice => FileType::BlockDevice,
    }
}

pub(super) fn set_time(time: TimeOrNow) -> SetTime {
    match time {
        TimeOrNow::Now => SetTime::Now,
        TimeOrNow::SpecificTime(time) => SetTime::To(sent_time(time)),
    }
}

/// The time that the kernel sent. Its nanoseconds count forwards from whole seconds, also before 1970; fuser counts them
/// backwards there.
fn sent_time(time: SystemTime) -> Time {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(_) => Time::from(time),
        Err(before) => {
            let before = before.duration();
            let secs = i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
            Time { secs: -secs, nanos: before.subsec_nanos() }
        }
    }
}
