//! Attributes: getattr, setattr, statfs.

use std::os::fd::AsFd;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use nix::sys::stat::futimens;
use nix::sys::time::TimeSpec;

use super::acl;
use super::handle::{as_open, has_changed, stamp_now};
use super::{Entry, HandleId, OpenHow, Result, Vfs, VfsError};
use crate::cache::{CacheError, Trouble};
use crate::meta::Inode;
use crate::types::{Attr, FileKind, Ino, Time};

/// How long an operation waits for attributes that only the cloud knows.
const ATTR_DEADLINE: Duration = Duration::from_secs(20);

/// How old the count of what is not uploaded may get.
const COUNT_AGE_MAX: Duration = Duration::from_millis(500);

/// The unit of `st_blocks`.
const BLOCK_BYTES: u64 = 512;
/// Of a shorter file it is not asked whether it has holes: there are many of these, and it takes longer than all else.
const SPARSE_BYTES_MIN: u64 = 1 << 20;

/// A time to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// The time of day.
    Now,
    /// This time.
    To(Time),
}

/// What to change of an inode's attributes; none stays as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct AttrChange {
    /// Permission bits.
    pub perm: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Length.
    pub size: Option<u64>,
    /// Last access.
    pub atime: Option<SetTime>,
    /// Last change of the content.
    pub mtime: Option<SetTime>,
    /// A change of the length takes setuid and setgid away.
    pub kill_privileges: bool,
}

/// Room on a share, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// In all.
    pub total: u64,
    /// Of it free.
    pub free: u64,
}

/// The permission bits after a write by somebody who may not keep privileges alive.
pub(super) fn without_privileges(perm: u32) -> u32 {
    let group_runs = perm & libc::S_IXGRP != 0;
    perm & !libc::S_ISUID & !(if group_runs { libc::S_ISGID } else { 0 })
}

impl Vfs {
    /// The attributes of `ino` as they are now.
    ///
    /// # Errors
    /// [`VfsError::NoEntry`] if it is gone.
    pub fn attr(&self, ino: Ino) -> Result<Attr> {
        Ok(self.inode(ino)?.attr)
    }

    /// Blocks of 512 bytes that a file takes: of one that is wholly here those of the disk, which may have holes; else as many as it is long.
    #[must_use]
    pub fn blocks(&self, ino: Ino, attr: &Attr) -> u64 {
        let all = attr.size.div_ceil(BLOCK_BYTES);
        if attr.kind != FileKind::File || attr.size < SPARSE_BYTES_MIN {
            return all;
        }
        let of_disk = self.inode(ino).ok().and_then(|inode| self.cache.allocated(&inode));
        of_disk.map_or(all, |bytes| bytes.div_ceil(BLOCK_BYTES))
    }

    /// `ino` as a directory shows it, without a name.
    ///
    /// # Errors
    /// [`VfsError::NoEntry`] if it is gone.
    pub fn entry(&self, ino: Ino) -> Result<Entry> {
        Ok(Entry::of(b"", &self.inode(ino)?))
    }

    /// The inode, with its attributes read from the cloud if nobody asked before.
    pub(super) async fn known(&self, ino: Ino) -> Result<Inode> {
        let inode = self.inode(ino)?;
        if inode.attrs_known {
            return Ok(inode);
        }
        match self.read_attrs(&inode, &[ino]).await {
            // What can't be stored is no reason not to read: the listing's size is right.
            Err(VfsError::Cache(error))
                if matches!(error.trouble(), Trouble::Disk(_) | Trouble::Full) =>
            {
                Ok(inode)
            }
            read => read.and_then(|()| self.inode(ino)),
        }
    }

    /// Reads attributes of inodes of one share from the cloud, those that nobody asked for before.
    pub(super) async fn read_attrs(&self, like: &Inode, inos: &[Ino]) -> Result<()> {
        let share = self.share(like.share)?;
        let merged = tokio::select! {
            biased;
            merged = self.cache.read_attrs(inos) => merged?,
            () = self.clock.sleep(ATTR_DEADLINE) => return Err(CacheError::Deadline.into()),
        };
        self.announce(share.id, merged);
        Ok(())
    }

    /// Changes attributes.
    ///
    /// # Errors
    /// [`VfsError::ReadOnly`]; a new length may need a block of the cloud.
    pub async fn set_attr(self: &Arc<Self>, ino: Ino, change: AttrChange) -> Result<Attr> {
        self.writable_share(ino)?;
        if self.known(ino).await?.attr.kind != FileKind::File && change.size.is_some() {
            return Err(VfsError::Invalid("only a file has a length that can be set"));
        }
        if let Some(size) = change.size {
            self.set_size(ino, size).await?;
        }
        let share = self.share_of(ino)?;
        let difference = self.difference(share);
        let now = self.clock.wall();
        let settle = |time: Option<SetTime>| match time {
            None => None,
            Some(SetTime::Now) => Some(now),
            Some(SetTime::To(time)) => Some(time),
        };
        let (atime, mtime) = (settle(change.atime), settle(change.mtime));
        let before = self.inode(ino)?.attr;
        if let Some(uid) = change.uid.filter(|&uid| uid != before.uid)
            && before.kind == FileKind::File
        {
            self.check_new_owner(share, uid, before.size)?;
        }
        if let Some(mtime) = mtime {
            if self.is_closing(ino) {
                self.finish_closed()?;
            }
            self.set_backing_mtime(ino, mtime)?;
        }
        let mut files = self.handles.files();
        let inode = self.meta.write(move |tx| -> Result<Inode> {
            let mut inode = tx.inode(ino)?.ok_or(VfsError::NoEntry)?;
            let attr = &mut inode.attr;
            let new_owner = change.uid.is_some() || change.gid.is_some();
            let kills = (new_owner && attr.kind == FileKind::File) || change.kill_privileges;
            if kills && change.perm.is_none() {
                attr.perm = without_privileges(attr.perm);
            }
            attr.perm = change.perm.map_or(attr.perm, |perm| perm & 0o7777);
            attr.uid = change.uid.unwrap_or(attr.uid);
            attr.gid = change.gid.unwrap_or(attr.gid);
            attr.atime = atime.unwrap_or(attr.atime);
            attr.mtime = mtime.unwrap_or(attr.mtime);
            attr.ctime = now;
            inode.attrs += 1;
            tx.put_inode(&inode)?;
            if change.perm.is_some() {
                acl::follow_perm(tx, &inode)?;
            }
            difference.note(tx, ino)?;
            Ok(inode)
        })?;
        if let Some(open) = files.get_mut(&ino) {
            open.privileged = inode.attr.perm & (libc::S_ISUID | libc::S_ISGID) != 0;
        }
        let attr = as_open(&files, inode).attr;
        drop(files);
        self.events.differs.notify_one();
        Ok(attr)
    }

    /// Room for more files: what the cache may still take in without evicting what is not uploaded.
    ///
    /// # Errors
    /// If the disk or the metadata store fails.
    pub fn space(&self, ino: Ino) -> Result<Space> {
        let share = self.share_of(ino)?;
        let limits = self.cache.limits();
        let disk = self.cache.disk_free()?;
        let used = self.cache.used_bytes();
        let kept = if share.local { used } else { self.bytes_to_upload()?.min(used) };
        let evictable = used - kept;
        let total = limits.disk_bytes_max.min(disk.saturating_add(used));
        let free = total.saturating_sub(kept).min(disk.saturating_add(evictable));
        Ok(Space { total, free })
    }

    /// Bytes that are not uploaded, as they were a moment ago: to count them takes long when there are many.
    fn bytes_to_upload(&self) -> Result<u64> {
        let mut counted = self.to_upload.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.monotonic();
        match *counted {
            Some((at, bytes)) if now.saturating_sub(at) < COUNT_AGE_MAX => Ok(bytes),
            Some(_) | None => {
                let bytes = self.meta.scan(|tx| tx.item_counts(None))?.bytes;
                *counted = Some((now, bytes));
                Ok(bytes)
            }
        }
    }

    async fn set_size(self: &Arc<Self>, ino: Ino, size: u64) -> Result<()> {
        let id = self.open(ino, OpenHow { write: true, ..OpenHow::default() }).await?;
        let set = self.set_open_size(id, size).await;
        self.release(id)?;
        set
    }

    async fn set_open_size(&self, id: HandleId, size: u64) -> Result<()> {
        let handle = self.writer(id)?;
        self.grow(handle.ino, size)?;
        self.cache.truncate(&handle.backing, size).await?;
        self.flush(id)
    }

    /// A file that is being written has its mtime from the backing file: set it there too. If nothing was
    /// written yet, that must not look like a change of the content afterwards.
    fn set_backing_mtime(&self, ino: Ino, mtime: Time) -> Result<()> {
        let mut files = self.handles.files();
        let Some(open) = files.get_mut(&ino) else { return Ok(()) };
        let Some(before) = open.stamp else { return Ok(()) };
        let changed = has_changed(&before, &stamp_now(&open.backing)?);
        let spec = TimeSpec::new(mtime.secs, i64::from(mtime.nanos));
        futimens(open.backing.file().as_fd(), &TimeSpec::UTIME_OMIT, &spec)
            .map_err(std::io::Error::from)?;
        if !changed {
            let stamp = open.backing.stamp(self.clock.wall())?;
            self.meta.write(move |tx| -> Result<()> { Ok(tx.begin_writing(ino, &stamp)?) })?;
            open.stamp = Some(stamp);
        }
        Ok(())
    }
}
