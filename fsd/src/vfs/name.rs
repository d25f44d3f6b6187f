//! Changes of names: mkdir, symlink, unlink, rmdir, rename.

use std::collections::HashMap;
use std::sync::Arc;

use super::acl::Inherited;
use super::handle::{Open, as_open, size_of};
use super::{Caller, Entry, Opened, Result, Vfs, VfsError, check_name, check_reserved};
use crate::cache::CacheError;
use crate::events::Invalidation;
use crate::meta::{Inode, NewInode, Tx};
use crate::types::{Attr, FileKind, Ino, ShareId};

/// The longest target of a symbolic link.
pub(super) const TARGET_BYTES_MAX: usize = 4095;

/// What is made with a name, but for regular files.
struct Made {
    kind: FileKind,
    perm: u32,
    rdev: u32,
    target: Option<Vec<u8>>,
}

/// How a rename treats what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenameHow {
    /// It is replaced.
    Replace,
    /// It is an error.
    NoReplace,
    /// The two swap places.
    Exchange,
}

impl Vfs {
    /// Makes a directory.
    ///
    /// # Errors
    /// [`VfsError::Exists`] if the name is taken.
    pub fn make_dir(&self, parent: Ino, name: &[u8], perm: u32, caller: Caller) -> Result<Entry> {
        self.make(parent, name, Made { kind: FileKind::Dir, perm, rdev: 0, target: None }, caller)
    }

    /// Makes a named pipe, a socket's name or a device node; `rdev` is what a device node stands for.
    ///
    /// # Errors
    /// [`VfsError::Exists`] if the name is taken; [`VfsError::Invalid`] if `kind` is another one.
    pub fn make_node(
        &self,
        parent: Ino,
        name: &[u8],
        kind: FileKind,
        rdev: u32,
        perm: u32,
        caller: Caller,
    ) -> Result<Entry> {
        let rdev = match kind {
            FileKind::Fifo | FileKind::Socket => 0,
            FileKind::CharDevice | FileKind::BlockDevice => rdev,
            FileKind::File | FileKind::Dir | FileKind::Symlink => {
                return Err(VfsError::Invalid("not a kind of node"));
            }
        };
        self.make(parent, name, Made { kind, perm, rdev, target: None }, caller)
    }

    /// Makes a symbolic link.
    ///
    /// # Errors
    /// [`VfsError::Exists`] if the name is taken.
    pub fn symlink(
        &self,
        parent: Ino,
        name: &[u8],
        target: &[u8],
        caller: Caller,
    ) -> Result<Entry> {
        if target.is_empty() || target.len() > TARGET_BYTES_MAX {
            return Err(VfsError::Invalid("a link's target has 1 to 4095 bytes"));
        }
        let target = Some(target.to_vec());
        self.make(
            parent,
            name,
            Made { kind: FileKind::Symlink, perm: 0o777, rdev: 0, target },
            caller,
        )
    }

    /// Gives the file `ino` a further name.
    ///
    /// # Errors
    /// [`VfsError::Exists`] if the name is taken, [`VfsError::IsDir`] for a directory, [`VfsError::NoEntry`] if the file has no name any more.
    pub fn link(&self, ino: Ino, parent: Ino, name: &[u8]) -> Result<Entry> {
        check_name(name)?;
        let share = self.writable_share(parent)?;
        check_reserved(share.root, parent, name)?;
        if self.share_of(ino)?.id != share.id {
            return Err(VfsError::Unsupported("a link between shares"));
        }
        let (difference, now, to) = (self.difference(share), self.clock.wall(), name.to_vec());
        let files = self.handles.files();
        let file = self.meta.write(move |tx| -> Result<Inode> {
            let file = tx.link(ino, (parent, &to), now)?;
            difference.note(tx, ino)?;
            Ok(file)
        })?;
        let file = as_open(&files, file);
        drop(files);
        self.events.differs.notify_one();
        Ok(Entry::of(name, &file))
    }

    /// A symbolic link's target.
    ///
    /// # Errors
    /// [`VfsError::Invalid`] if it is no link; the cloud's error if the target is only there.
    pub async fn read_link(self: &Arc<Self>, ino: Ino) -> Result<Vec<u8>> {
        let inode = self.known(ino).await?;
        if inode.attr.kind != FileKind::Symlink {
            return Err(VfsError::Invalid("not a symbolic link"));
        }
        if let Some(target) = inode.target {
            return Ok(target);
        }
        let object = inode.object.ok_or(CacheError::Lost(ino))?;
        let remote = self.cache.remote(inode.share).ok_or(CacheError::Lost(ino))?;
        let range = 0..TARGET_BYTES_MAX as u64;
        let target = remote
            .get(&object.key, range, object.etag.as_ref())
            .await
            .map_err(CacheError::from)?
            .to_vec();
        let kept = target.clone();
        self.meta.write(move |tx| -> Result<()> {
            let mut inode = tx.inode(ino)?.ok_or(VfsError::NoEntry)?;
            inode.target = Some(kept);
            Ok(tx.put_inode(&inode)?)
        })?;
        Ok(target)
    }

    /// Takes a file's name away; the file lives on while somebody has it open.
    ///
    /// # Errors
    /// [`VfsError::IsDir`], [`VfsError::NoEntry`].
    pub fn unlink(&self, parent: Ino, name: &[u8]) -> Result<()> {
        self.remove(parent, name, false)
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// [`VfsError::NotEmpty`]; the cloud's error if its names were never listed.
    pub async fn remove_dir(self: &Arc<Self>, parent: Ino, name: &[u8]) -> Result<()> {
        let found = self.lookup(parent, name).await?;
        if found.attr.kind == FileKind::Dir {
            self.open_dir(found.ino).await?;
        }
        self.remove(parent, name, true)
    }

    /// Moves a name.
    ///
    /// # Errors
    /// As POSIX `rename`; between shares [`VfsError::Invalid`] never comes here: they are different mounts.
    pub async fn rename(
        self: &Arc<Self>,
        from: (Ino, &[u8]),
        to: (Ino, &[u8]),
        how: RenameHow,
    ) -> Result<()> {
        check_name(to.1)?;
        let share = self.writable_share(from.0)?;
        if self.share_of(to.0)?.id != share.id {
            return Err(VfsError::Unsupported("a rename between shares"));
        }
        check_reserved(share.root, to.0, to.1)?;
        check_reserved(share.root, from.0, from.1)?;
        // What is replaced must be known, and a directory to be replaced must be known to be empty.
        match self.lookup(to.0, to.1).await {
            Ok(there) if there.attr.kind == FileKind::Dir && how == RenameHow::Replace => {
                self.open_dir(there.ino).await?
            }
            Ok(_) | Err(VfsError::NoEntry) => {}
            Err(error) => return Err(error),
        }
        let difference = self.difference(share);
        let now = self.clock.wall();
        let has_pins = !self.cache.pins(share.id).is_empty();
        let (from, to) = ((from.0, from.1.to_vec()), (to.0, to.1.to_vec()));
        let files = self.handles.files();
        let open = opened(&files);
        let (gone, lost) = self.meta.write(move |tx| -> Result<_> {
            let (from, to) = ((from.0, from.1.as_slice()), (to.0, to.1.as_slice()));
            if has_pins {
                move_pins(tx, difference.share, from, to, how)?;
            }
            if how == RenameHow::Exchange {
                for moved in tx.exchange(from, to, now)? {
                    note_moved(tx, &moved, difference)?;
                }
                return Ok((None, None));
            }
            let replaced = tx.rename(from, to, how == RenameHow::NoReplace, now)?;
            note_moved(tx, &replaced.moved, difference)?;
            match replaced.lost {
                Some(lost) => {
                    let ino = lost.file.ino;
                    let open = *open.get(&ino).unwrap_or(&Opened::Not);
                    Ok((difference.note_gone(tx, lost, open)?, Some(ino)))
                }
                None => Ok((None, None)),
            }
        })?;
        self.fetch_rest(&files, lost);
        drop(files);
        if has_pins {
            self.cache.load_pins()?;
            self.pinned.notify_one();
        }
        self.after_removal(gone);
        Ok(())
    }

    fn make(&self, parent: Ino, name: &[u8], made: Made, caller: Caller) -> Result<Entry> {
        let Made { kind, perm, rdev, target } = made;
        check_name(name)?;
        let share = self.writable_share(parent)?;
        check_reserved(share.root, parent, name)?;
        let now = self.clock.wall();
        let size = target.as_ref().map_or(0, |t| t.len() as u64);
        let attr = Attr::new(kind, perm & 0o7777, (caller.uid, caller.gid), now);
        let attr = Attr { size, rdev, ..attr };
        let new = NewInode { target, version: 1, ..NewInode::made_here(share.id, attr) };
        let difference = self.difference(share);
        let bytes = name.to_vec();
        let inode = self.meta.write(move |tx| -> Result<Inode> {
            let mut new = new;
            let mut dir = tx.dir(parent)?;
            let (perm, lists) = Inherited::of(tx, parent, kind, new.attr.perm, caller.umask)?;
            new.attr.perm = perm;
            if dir.attr.perm & libc::S_ISGID != 0 {
                new.attr.gid = dir.attr.gid;
                new.attr.perm |= if kind == FileKind::Dir { libc::S_ISGID } else { 0 };
            }
            let inode = tx.create(&mut dir, &bytes, new, now)?;
            lists.store(tx, inode.ino)?;
            difference.note(tx, inode.ino)?;
            Ok(inode)
        })?;
        self.events.differs.notify_one();
        Ok(Entry::of(name, &inode))
    }

    fn remove(&self, parent: Ino, name: &[u8], dir: bool) -> Result<()> {
        let share = self.writable_share(parent)?;
        let difference = self.difference(share);
        let now = self.clock.wall();
        let name = name.to_vec();
        let files = self.handles.files();
        let open = opened(&files);
        let (gone, lost) = self.meta.write(move |tx| -> Result<_> {
            let lost = tx.unlink(parent, &name, dir, now)?;
            let ino = lost.file.ino;
            let open = *open.get(&ino).unwrap_or(&Opened::Not);
            Ok((difference.note_gone(tx, lost, open)?, Some(ino)))
        })?;
        self.fetch_rest(&files, lost);
        drop(files);
        self.after_removal(gone);
        Ok(())
    }

    /// Begins fetching what is not here of an open file that lost a name: its object will be deleted, or replaced.
    pub(super) fn fetch_rest(&self, files: &HashMap<Ino, Open>, lost: Option<Ino>) {
        let open = lost.and_then(|ino| files.get(&ino)).filter(|open| !open.backing.is_whole());
        if let Some(backing) = open.map(|open| &open.backing)
            && let Ok(size) = size_of(backing)
        {
            self.cache.prefetch(backing, 0..size);
        }
    }

    pub(super) fn after_removal(&self, gone: Option<(Ino, u64)>) {
        if let Some((ino, backing)) = gone
            && backing > 0
        {
            self.cache.forget(ino, backing);
        }
        self.events.differs.notify_one();
        self.events.arrived.notify_one();
    }

    /// Tells the kernel that a name changed behind its back.
    pub fn announce_name(&self, parent: Ino, name: &[u8]) {
        if let Ok(share) = self.share_of(parent) {
            self.events.invalidate(&Invalidation::Name {
                share: share.id,
                parent,
                name: name.to_vec(),
            });
        }
    }
}

/// How each file is open that is.
pub(super) fn opened(files: &HashMap<Ino, Open>) -> HashMap<Ino, Opened> {
    let how = |open: &Open| if open.backing.is_whole() { Opened::Whole } else { Opened::InPart };
    files.iter().map(|(&ino, open)| (ino, how(open))).collect()
}

/// Pins of paths follow a directory that is about to be renamed. That of a file stays with the name: who saves a file puts another one in
/// its place.
fn move_pins(
    tx: &Tx<'_>,
    share: ShareId,
    from: (Ino, &[u8]),
    to: (Ino, &[u8]),
    how: RenameHow,
) -> Result<()> {
    let path = |(parent, name): (Ino, &[u8])| -> Result<Option<String>> {
        let Some(mut path) = tx.path(parent)? else { return Ok(None) };
        path.push(name.to_vec());
        // A pattern is text: what is not was never pinned by its own path.
        Ok(String::from_utf8(path.join(&b'/')).ok())
    };
    let is_dir = |(parent, name): (Ino, &[u8])| -> Result<bool> {
        let inode = tx.lookup(parent, name)?.map(|ino| tx.inode(ino)).transpose()?.flatten();
        Ok(inode.is_some_and(|inode| inode.attr.kind == FileKind::Dir))
    };
    let Some((old, new)) = path(from)?.zip(path(to)?) else { return Ok(()) };
    let mut moves = Vec::new();
    if is_dir(from)? {
        moves.push((&old, &new));
    }
    if how == RenameHow::Exchange && is_dir(to)? {
        moves.push((&new, &old));
    }
    let patterns = tx.pins()?.remove(&share).unwrap_or_default();
    let moved = |pattern: &String| {
        moves.iter().find_map(|(from, to)| policies::pins::renamed(pattern, from, to))
    };
    let moved: Vec<_> = patterns.iter().filter_map(|old| Some((old, moved(old)?))).collect();
    for (old, _) in &moved {
        tx.unpin(share, old)?;
    }
    for (_, new) in &moved {
        tx.pin(share, new)?;
    }
    Ok(())
}

/// A moved file may be an arrival under its new name; a moved directory takes along what is below it, which sync finds out.
fn note_moved(tx: &Tx<'_>, moved: &Inode, difference: super::Difference) -> Result<()> {
    difference.note(tx, moved.ino)?;
    if moved.attr.kind == FileKind::File && !tx.is_writing(moved.ino)? {
        difference.note_arrival(tx, moved.ino, moved.content)?;
    }
    Ok(())
}
