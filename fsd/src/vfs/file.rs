//! Open, read, write, fsync.

use std::io::{Seek as _, Write as _};
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::time::Duration;

use super::acl::Inherited;
use super::handle::{HandedOut, Handle, Open, WriteHow};
use super::{
    Caller, HandleId, OpenHow, Result, Vfs, VfsError, check_name, check_reserved, writable,
};
use crate::cache::{Backing, Cache, Trouble};
use crate::meta::{Inode, NewInode, Stamp};
use crate::types::{Attr, FileKind, Ino};

/// How often a read that waits for a store looks whether it can be reached.
const OFFLINE_LOOK: Duration = Duration::from_millis(500);

impl Vfs {
    /// Makes a file and opens it.
    ///
    /// # Errors
    /// [`VfsError::Exists`] if the name is taken; whatever the disk says.
    pub fn create(
        &self,
        parent: Ino,
        name: &[u8],
        perm: u32,
        caller: Caller,
        how: OpenHow,
    ) -> Result<(Ino, Attr, HandleId)> {
        check_name(name)?;
        let (cache, shares) = (self.cache.clone(), self.shares.clone());
        let now = self.clock.wall();
        let attr = Attr::new(FileKind::File, perm & 0o7777, (caller.uid, caller.gid), now);
        let name = name.to_vec();
        let mut files = self.handles.files();
        let (inode, backing, stamp) = self.meta.write(move |tx| -> Result<_> {
            let mut dir = tx.dir(parent)?;
            let share = writable(&shares, dir.share)?;
            check_reserved(share.root, parent, &name)?;
            let (perm, lists) = Inherited::of(tx, parent, FileKind::File, attr.perm, caller.umask)?;
            let mut new = NewInode::made_here(share.id, Attr { perm, ..attr });
            if dir.attr.perm & libc::S_ISGID != 0 {
                new.attr.gid = dir.attr.gid;
            }
            new.backing = Cache::FIRST_BACKING;
            let inode = tx.create(&mut dir, &name, new, now)?;
            lists.store(tx, inode.ino)?;
            let backing = cache.create(inode.ino)?;
            let mut stamp = backing.stamp(now)?;
            // What is new differs from the cloud whatever becomes of it.
            stamp.young = true;
            tx.begin_writing(inode.ino, &stamp)?;
            Ok((inode, backing, stamp))
        })?;
        let backing = self.cache.created(backing);
        files.insert(
            inode.ino,
            Open {
                share: inode.share,
                backing: backing.clone(),
                handles: 1,
                writers: 1,
                stamp: Some(stamp),
                privileged: false,
                granted: self.has_quota(inode.share, inode.attr.uid).then_some(0),
            },
        );
        drop(files);
        let how = OpenHow { write: true, truncate: false, ..how };
        Ok((inode.ino, inode.attr, self.handles.add(inode.ino, how, backing)))
    }

    /// Opens a file. For writing, that is recorded before the answer, so that a change is never missed.
    ///
    /// # Errors
    /// [`VfsError::IsDir`], [`VfsError::ReadOnly`]; whatever the cloud says if its attributes were never read; [`Trouble::Stale`] if the
    /// cloud has another version by now: that one is known when the answer comes.
    ///
    /// # Cancel safety
    /// Nothing is opened yet while it waits, but for `how.truncate`.
    pub async fn open(self: &Arc<Self>, ino: Ino, how: OpenHow) -> Result<HandleId> {
        let mut inode = self.known(ino).await?;
        match inode.attr.kind {
            FileKind::Dir => return Err(VfsError::IsDir),
            FileKind::Symlink
            | FileKind::Fifo
            | FileKind::Socket
            | FileKind::CharDevice
            | FileKind::BlockDevice => return Err(VfsError::Invalid("not a regular file")),
            FileKind::File => {}
        }
        if (how.write || how.truncate) && self.share(inode.share)?.read_only {
            return Err(VfsError::ReadOnly);
        }
        let mut backing = self.cache.backing(ino)?;
        if !how.write {
            self.read_siblings(&inode, backing.is_whole());
        }
        if how.read && !how.truncate && !self.cache.has_start(&backing) {
            self.bring_start(&inode, &backing).await?;
            inode = self.inode(ino)?;
            backing = self.cache.backing(ino)?;
        }
        while !self.count_in(&inode, &backing, how)? {
            // Another content took its place meanwhile, and will be there in a moment.
            tokio::task::yield_now().await;
            inode = self.inode(ino)?;
            backing = self.cache.backing(ino)?;
        }
        let id = self.handles.add(ino, how, backing.clone());
        if how.truncate
            && let Err(error) = self.empty(id, &backing).await
        {
            self.release(id)?;
            return Err(error);
        }
        Ok(id)
    }

    /// Fetches what is read first, so that whoever opens a file gets the version that the cloud has now. What can't be fetched is left to
    /// who reads it.
    async fn bring_start(self: &Arc<Self>, inode: &Inode, backing: &Arc<Backing>) -> Result<()> {
        match self.cache.read(backing, 0..0, 0..1).await {
            Err(error) if error.trouble() == Trouble::Stale => {
                let merged = self.cache.refresh(inode).await?;
                self.announce(inode.share, merged);
                Err(error.into())
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Nothing of what the cloud has belongs into an emptied file, even if nobody lives to say so later.
    async fn empty(self: &Arc<Self>, id: HandleId, backing: &Arc<Backing>) -> Result<()> {
        self.cache.truncate(backing, 0).await?;
        self.flush(id)
    }

    /// Reads `size` bytes at `offset`; fewer at the end of the file. What is not here is waited for as the share says while the store
    /// can't be reached.
    ///
    /// # Errors
    /// If the blocks are neither here nor to be had.
    pub async fn read(self: &Arc<Self>, id: HandleId, offset: u64, size: u32) -> Result<Vec<u8>> {
        let handle = self.handles.get(id).ok_or(VfsError::BadHandle)?;
        let range = offset..offset.saturating_add(u64::from(size));
        let ahead = {
            let mut ahead = handle.ahead.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            ahead.after(&range)
        };
        let waits = self.share_of(handle.ino).map_or(Duration::ZERO, |share| share.offline_wait);
        let deadline = self.clock.monotonic() + waits;
        let mut read = self.cache.read(&handle.backing, ahead.clone(), range.clone()).await;
        while read.as_ref().is_err_and(|error| error.trouble() == Trouble::Unreachable)
            && self.clock.monotonic() < deadline
        {
            // While the store is known to be down, to ask again costs nothing.
            self.clock.sleep(OFFLINE_LOOK).await;
            read = self.cache.read(&handle.backing, ahead.clone(), range.clone()).await;
        }
        if read.as_ref().is_err_and(|error| error.trouble() == Trouble::Stale) {
            self.look_again(handle.ino);
        }
        Ok(read?)
    }

    /// Asks the cloud in the background what it has of a file, after it had not what we know: whoever opens it next gets that.
    fn look_again(self: &Arc<Self>, ino: Ino) {
        let vfs = self.clone();
        self.tasks.spawn("vfs.look", async move {
            let looked = async {
                let inode = vfs.inode(ino)?;
                let merged = vfs.cache.refresh(&inode).await?;
                vfs.announce(inode.share, merged);
                Ok::<_, VfsError>(())
            };
            if let Err(error) = looked.await {
                tracing::debug!(%ino, error = &error as &dyn std::error::Error, "what is known of it stays");
            }
        });
    }

    /// Writes `data` at `offset`, or at the end for a handle that appends.
    ///
    /// # Errors
    /// [`CacheError::Full`](crate::cache::CacheError::Full) when there is no room.
    pub async fn write(
        self: &Arc<Self>,
        id: HandleId,
        offset: u64,
        data: &[u8],
        how: WriteHow,
    ) -> Result<u32> {
        let handle = self.writer(id)?;
        let offset = handle.place(offset, how)?;
        self.grow(handle.ino, offset.saturating_add(data.len() as u64))?;
        self.cache.write(&handle.backing, offset, data).await?;
        self.after_write(&handle, offset..offset + data.len() as u64, how)?;
        Ok(u32::try_from(data.len()).unwrap_or(u32::MAX))
    }

    /// As [`Vfs::read`] into `buffer`, if all of it is here; none if the cloud must be asked.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn read_here(&self, id: HandleId, offset: u64, buffer: &mut [u8]) -> Result<Option<usize>> {
        let handle = self.handles.get(id).ok_or(VfsError::BadHandle)?;
        if !handle.backing.is_whole() {
            return Ok(None);
        }
        // What the disk can't give the cloud may have.
        Ok(handle.backing.read_at(buffer, offset).ok())
    }

    /// As [`Vfs::write`], if the file is wholly here and there is room; none if something must be waited for.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn write_here(
        &self,
        id: HandleId,
        offset: u64,
        data: &[u8],
        how: WriteHow,
    ) -> Result<Option<u32>> {
        let handle = self.writer(id)?;
        let offset = handle.place(offset, how)?;
        self.grow(handle.ino, offset.saturating_add(data.len() as u64))?;
        if !self.cache.write_here(&handle.backing, offset, data)? {
            return Ok(None);
        }
        self.after_write(&handle, offset..offset + data.len() as u64, how)?;
        Ok(Some(u32::try_from(data.len()).unwrap_or(u32::MAX)))
    }

    /// The backing file of `id`, for a front end whose kernel reads and writes it by itself: if it is wholly here.
    #[must_use]
    pub fn handed_out(&self, id: HandleId) -> Option<HandedOut> {
        let handle = self.handles.get(id).filter(|handle| handle.backing.is_whole())?;
        if handle.how.write {
            // What is stored of it must say that all of it is here, before somebody writes whom we don't see.
            self.save_presence(&handle).ok()?;
            self.handles.handed_out.notify_one();
        }
        Some(HandedOut(handle.backing.clone()))
    }

    /// Whether each write of `id` must come here, though the kernel could write by itself: room is scarce, or the file's owner has a
    /// quota.
    #[must_use]
    pub fn is_watched(&self, id: HandleId) -> bool {
        let Some(handle) = self.handles.get(id).filter(|handle| handle.how.write) else {
            return false;
        };
        let files = self.handles.files();
        let has_quota = files.get(&handle.ino).is_some_and(|open| open.granted.is_some());
        has_quota || !self.cache.is_roomy()
    }

    /// What `id` reads and writes, be it here or not.
    #[must_use]
    pub fn opened(&self, id: HandleId) -> Option<HandedOut> {
        self.handles.get(id).map(|handle| HandedOut(handle.backing.clone()))
    }

    /// Whether the close of `id` has anything to wait for.
    #[must_use]
    pub fn needs_flush(&self, id: HandleId) -> bool {
        self.handles
            .get(id)
            .is_some_and(|handle| handle.how.write && !handle.backing.is_noted_whole())
    }

    /// What `close` waits for: a file that was partly here when it was opened remembers which blocks were written.
    ///
    /// # Errors
    /// If the metadata store fails.
    pub fn flush(&self, id: HandleId) -> Result<()> {
        let handle = self.handles.get(id).ok_or(VfsError::BadHandle)?;
        self.save_presence(&handle)
    }

    /// Makes every byte written to the file durable, and its name. Durable is not uploaded.
    ///
    /// # Durability
    /// Survives a power cut.
    ///
    /// # Errors
    /// If the disk fails: then nothing is promised, and the next call may still fail.
    pub fn fsync(&self, id: HandleId) -> Result<()> {
        let handle = self.handles.get(id).ok_or(VfsError::BadHandle)?;
        self.meta.begin_sync();
        handle.backing.file().sync_all()?;
        // A map must not tell of bytes that are not on the disk.
        self.save_presence(&handle)?;
        self.barrier()
    }

    /// Makes every name and attribute durable.
    ///
    /// # Durability
    /// Survives a power cut.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn barrier(&self) -> Result<()> {
        Ok(self.meta.sync()?)
    }

    /// Writes a whole file into `parent` under `name`, over one that may be there: for results of hooks.
    ///
    /// # Errors
    /// As [`Vfs::create`] and [`Vfs::write`].
    pub async fn put_file(
        self: &Arc<Self>,
        parent: Ino,
        name: &[u8],
        (perm, caller): (u32, Caller),
        data: &[u8],
    ) -> Result<Ino> {
        let (ino, handle) = match self.lookup(parent, name).await {
            Ok(found) => {
                let how = OpenHow { write: true, truncate: true, ..OpenHow::default() };
                (found.ino, self.open(found.ino, how).await?)
            }
            Err(VfsError::NoEntry) => {
                let (ino, _, handle) =
                    self.create(parent, name, perm, caller, OpenHow::default())?;
                (ino, handle)
            }
            Err(error) => return Err(error),
        };
        let written = self.write(handle, 0, data, WriteHow::default()).await;
        self.release(handle)?;
        let share = self.share_of(ino)?.id;
        let name = name.to_vec();
        self.announce(
            share,
            crate::cache::Merged {
                inodes: vec![ino],
                names: vec![(parent, name)],
                ..Default::default()
            },
        );
        written.map(|_| ino)
    }

    /// A copy of the file's content as it is now, in an anonymous file: for a reader that must not see later changes.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn snapshot(self: &Arc<Self>, ino: Ino, bytes_max: u64) -> Result<std::fs::File> {
        // A file is most often much shorter than the longest step: that much memory is zeroed for each.
        const STEPS: RangeInclusive<u64> = 64 << 10..=4 << 20;
        // What is longer goes to the disk: of several at a time no machine's memory would be left.
        const IN_MEMORY_BYTES_MAX: u64 = 16 << 20;
        let size = self.inode(ino)?.attr.size;
        let id = self.open(ino, OpenHow::default()).await?;
        let copy = async {
            let mut file = match size {
                0..IN_MEMORY_BYTES_MAX => in_memory()?,
                _ => self.cache.nameless()?,
            };
            let mut at = 0;
            loop {
                let left = size.saturating_sub(at).clamp(*STEPS.start(), *STEPS.end());
                let data = self.read(id, at, u32::try_from(left).unwrap_or(u32::MAX)).await?;
                if data.is_empty() {
                    file.rewind()?;
                    return Ok(file);
                }
                at += data.len() as u64;
                if at > bytes_max {
                    return Err(VfsError::TooLarge);
                }
                file.write_all(&data)?;
            }
        };
        let copied = copy.await;
        self.release(id)?;
        copied
    }

    /// Counts a handle, and records the first writer. False, and nothing is done, if somebody would write what the file had before.
    pub(super) fn count_in(
        &self,
        inode: &Inode,
        backing: &Arc<Backing>,
        how: OpenHow,
    ) -> Result<bool> {
        if how.write && !backing.is_kept() {
            return Err(std::io::Error::from_raw_os_error(libc::EROFS).into());
        }
        let mut files = self.handles.files();
        let open = files.entry(inode.ino).or_insert_with(|| Open {
            share: inode.share,
            backing: backing.clone(),
            handles: 0,
            writers: 0,
            stamp: None,
            privileged: inode.attr.perm & (libc::S_ISUID | libc::S_ISGID) != 0,
            granted: self.has_quota(inode.share, inode.attr.uid).then_some(inode.attr.size),
        });
        if how.write && open.stamp.is_some() && open.backing.number() != backing.number() {
            return Ok(false);
        }
        if how.write && open.stamp.is_none() {
            let stamp = backing.stamp(self.clock.wall())?;
            let (presence, noted) = backing.presence();
            let (ino, number) = (inode.ino, backing.number());
            let begun = self.meta.write(move |tx| -> Result<Option<Stamp>> {
                if tx.inode(ino)?.is_none_or(|now| now.backing != number) {
                    return Ok(None);
                }
                tx.set_presence(ino, presence.as_deref())?;
                // A program from before a crash may still write it: then what it was like before that counts.
                if let Some(before) = tx.writing(ino)? {
                    return Ok(Some(before));
                }
                tx.begin_writing(ino, &stamp)?;
                Ok(Some(stamp))
            });
            match begun {
                Ok(Some(before)) => {
                    open.stamp = Some(before);
                    // Whoever reads it may still have the one before.
                    open.backing = backing.clone();
                    backing.noted(noted);
                }
                Ok(None) | Err(_) => {
                    if open.handles == 0 {
                        files.remove(&inode.ino);
                    }
                    return begun.map(|_| false);
                }
            }
        }
        open.handles += 1;
        open.writers += u32::from(how.write);
        Ok(true)
    }

    pub(super) fn writer(&self, id: HandleId) -> Result<Arc<Handle>> {
        self.handles.get(id).filter(|handle| handle.how.write).ok_or(VfsError::BadHandle)
    }

    pub(super) fn save_presence(&self, handle: &Handle) -> Result<()> {
        // Of two that save at once, the later one's map must also be noted later.
        let _files = self.handles.files();
        if !handle.how.write || handle.backing.is_noted_whole() {
            return Ok(());
        }
        let (ino, (presence, noted)) = (handle.ino, handle.backing.presence());
        self.meta
            .write(move |tx| -> Result<()> { Ok(tx.set_presence(ino, presence.as_deref())?) })?;
        handle.backing.noted(noted);
        Ok(())
    }

    fn after_write(&self, handle: &Handle, written: Range<u64>, how: WriteHow) -> Result<()> {
        // After a crash, what is not noted as here would be fetched over what was written.
        if !handle.backing.is_noted(&written) {
            self.save_presence(handle)?;
        }
        if how.kill_privileges
            && self.handles.files().get(&handle.ino).is_some_and(|open| open.privileged)
        {
            self.kill_privileges(handle.ino)?;
        }
        Ok(())
    }

    fn kill_privileges(&self, ino: Ino) -> Result<()> {
        let share = self.share_of(ino)?;
        let (difference, now) = (self.difference(share), self.clock.wall());
        self.meta.write(move |tx| -> Result<()> {
            let mut inode = tx.inode(ino)?.ok_or(VfsError::NoEntry)?;
            inode.attr.perm = super::attr::without_privileges(inode.attr.perm);
            inode.attr.ctime = now;
            inode.attrs += 1;
            tx.put_inode(&inode)?;
            tx.set_xattr(ino, b"security.capability", None)?;
            difference.note(tx, ino)
        })?;
        if let Some(open) = self.handles.files().get_mut(&ino) {
            open.privileged = false;
        }
        Ok(())
    }
}

fn in_memory() -> std::io::Result<std::fs::File> {
    let flags = nix::sys::memfd::MFdFlags::MFD_CLOEXEC;
    Ok(nix::sys::memfd::memfd_create(c"fsd-input", flags)?.into())
}
