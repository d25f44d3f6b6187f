//! A version that is kept in another share before something else takes its place, or nothing.
//!
//! Invariant: it is kept, and on the disk, before it is gone from where it was, and it takes nobody's place.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use super::results;
use super::rules::path_text;
use crate::meta::Inode;
use crate::types::Ino;
use crate::types::aside::{marked, part, stamp};
use crate::vfs::{
    AttrChange, Caller, HandleId, OpenHow, RenameHow, Result, SetTime, Share, Vfs, VfsError,
    WriteHow, XattrHow,
};

const CHUNK_BYTES: usize = 4 << 20;
/// Names that are tried before that is given up.
const NAMES_MAX: u32 = 1000;

/// Where it goes.
pub(super) struct Folder {
    ino: Ino,
    name: Vec<u8>,
    /// For people.
    shown: String,
    caller: Caller,
}

/// Where it is.
pub(super) struct Kept {
    /// The file.
    pub(super) ino: Ino,
    /// Share and path, for people.
    pub(super) shown: String,
}

impl Folder {
    /// The path below its share's name, in the share `to`.
    pub(super) async fn of(
        vfs: &Arc<Vfs>,
        to: &Share,
        from: &Share,
        inode: &Inode,
        path: &[Vec<u8>],
    ) -> Result<Self> {
        let caller = Caller { uid: inode.attr.uid, gid: inode.attr.gid, umask: 0 };
        let (name, folders) = path.split_last().ok_or(VfsError::NoEntry)?;
        let head = from.name.clone().into_bytes();
        let ino = results::folder(vfs, (to.root, &head), from, folders).await?;
        let names = [&[head], folders].concat();
        let shown = format!("{}:{}", to.name, path_text(&names));
        Ok(Self { ino, name: name.clone(), shown, caller })
    }

    /// Keeps `content`, a version of `inode`, under its name, or under one that nothing else has. What is there already stays as it is.
    pub(super) async fn keep(
        &self,
        vfs: &Arc<Vfs>,
        inode: &Inode,
        content: &File,
        arrived: i64,
    ) -> Result<Kept> {
        // Of an earlier try there may be a part.
        let part = part(inode.ino.0, inode.content);
        match vfs.unlink(self.ino, &part) {
            Ok(()) | Err(VfsError::NoEntry) => {}
            Err(error) => return Err(error),
        }
        let (written, _, handle) =
            vfs.create(self.ino, &part, 0o600, self.caller, OpenHow::default())?;
        // Nobody looks at a file, or uploads it, that is still being written: under the name of the part it never is anything else.
        let named = self.write(vfs, (written, handle), &part, (inode, content), arrived).await;
        if named.is_err() {
            // If it is still there.
            let _ = vfs.unlink(self.ino, &part);
        }
        vfs.release(handle)?;
        vfs.finish_closed()?;
        let name = named?;
        let ino = vfs.lookup(self.ino, &name).await?.ino;
        if ino == written {
            let mtime = Some(SetTime::To(inode.attr.mtime));
            let perm = Some(inode.attr.perm);
            vfs.set_attr(ino, AttrChange { perm, mtime, ..AttrChange::default() }).await?;
        }
        vfs.barrier()?;
        Ok(Kept { ino, shown: format!("{}/{}", self.shown, String::from_utf8_lossy(&name)) })
    }

    /// Writes it, and gives it its name; which one, also if the same is there already.
    async fn write(
        &self,
        vfs: &Arc<Vfs>,
        (ino, handle): (Ino, HandleId),
        part: &[u8],
        (inode, content): (&Inode, &File),
        arrived: i64,
    ) -> Result<Vec<u8>> {
        copy(vfs, content, handle).await?;
        for name in vfs.xattr_names(inode.ino)? {
            if name.starts_with(b"user.") && !name.starts_with(b"user.fsd.") {
                vfs.set_xattr(ino, &name, &vfs.xattr(inode.ino, &name)?, XattrHow::Any)?;
            }
        }
        let at = stamp(arrived.div_euclid(1000));
        for number in 0..NAMES_MAX {
            let name = match number {
                0 => self.name.clone(),
                1 => marked(&self.name, &at),
                _ => marked(&self.name, &format!("{at} {number}")),
            };
            match vfs.rename((self.ino, part), (self.ino, &name), RenameHow::NoReplace).await {
                Ok(()) => {
                    vfs.announce_name(self.ino, &name);
                    return Ok(name);
                }
                Err(VfsError::Exists) if self.is_same(vfs, &name, content).await? => {
                    vfs.unlink(self.ino, part)?;
                    return Ok(name);
                }
                Err(VfsError::Exists) => {}
                Err(error) => return Err(error),
            }
        }
        Err(VfsError::Exists)
    }

    async fn is_same(&self, vfs: &Arc<Vfs>, name: &[u8], content: &File) -> Result<bool> {
        let found = vfs.lookup(self.ino, name).await?;
        if found.attr.size != content.metadata()?.len() {
            return Ok(false);
        }
        let read = OpenHow { read: true, ..OpenHow::default() };
        let handle = vfs.open(found.ino, read).await?;
        let same = are_same(vfs, content, handle).await;
        vfs.release(handle)?;
        same
    }
}

async fn copy(vfs: &Arc<Vfs>, content: &File, to: HandleId) -> Result<()> {
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut at = 0;
    loop {
        let read = read_chunk(content, &mut buffer, at)?;
        if read.is_empty() {
            return vfs.fsync(to);
        }
        vfs.write(to, at, read, WriteHow::default()).await?;
        at += read.len() as u64;
    }
}

async fn are_same(vfs: &Arc<Vfs>, content: &File, other: HandleId) -> Result<bool> {
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut at = 0;
    loop {
        let read = read_chunk(content, &mut buffer, at)?;
        let there = vfs.read(other, at, u32::try_from(read.len()).unwrap_or(u32::MAX)).await?;
        if read.is_empty() || there != read {
            return Ok(read == there);
        }
        at += read.len() as u64;
    }
}

fn read_chunk<'a>(content: &File, buffer: &'a mut [u8], at: u64) -> io::Result<&'a [u8]> {
    let read = content.read_at(buffer, at)?;
    Ok(&buffer[..read])
}
