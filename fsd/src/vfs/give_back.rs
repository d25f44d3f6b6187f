//! A version that was set aside comes back under a name.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use super::{
    AttrChange, Caller, HandleId, OpenHow, RenameHow, Result, SetTime, Vfs, VfsError, WriteHow,
    XattrHow,
};
use crate::cache::Merged;
use crate::types::{Ino, PosixMeta};

/// What is copied at once.
const STEP_BYTES: usize = 1 << 20;

impl Vfs {
    /// Makes the content of `source` the file `name` in `parent`, with the attributes `posix`: written whole beside it first, under the
    /// name `beside`, then moved there.
    ///
    /// # Durability
    /// When it returns, the file survives a power cut.
    ///
    /// # Errors
    /// As [`Vfs::create`], [`Vfs::write`] and [`Vfs::rename`]; then nothing has changed.
    pub async fn give_back(
        self: &Arc<Self>,
        (parent, name): (Ino, &[u8]),
        beside: &[u8],
        source: &File,
        posix: &PosixMeta,
        how: RenameHow,
    ) -> Result<()> {
        let caller = Caller { uid: posix.uid.unwrap_or(0), gid: posix.gid.unwrap_or(0), umask: 0 };
        match self.unlink(parent, beside) {
            // Left by one that died at it.
            Ok(()) | Err(VfsError::NoEntry) => {}
            Err(error) => return Err(error),
        }
        let perm = posix.perm.unwrap_or(0o600);
        let (ino, _, id) = self.create(parent, beside, perm, caller, OpenHow::default())?;
        let filled = self.fill(id, source).await.and_then(|()| self.fsync(id));
        self.release(id)?;
        let moved = async {
            filled?;
            let change = AttrChange {
                perm: Some(perm),
                mtime: posix.mtime.map(SetTime::To),
                atime: posix.atime.map(SetTime::To),
                ..AttrChange::default()
            };
            self.set_attr(ino, change).await?;
            for (name, value) in &posix.xattrs {
                self.set_xattr(ino, name, value, XattrHow::Any)?;
            }
            self.rename((parent, beside), (parent, name), how).await
        };
        if let Err(error) = moved.await {
            self.unlink(parent, beside)?;
            return Err(error);
        }
        self.barrier()?;
        self.tell_names(&[(parent, beside), (parent, name)])
    }

    /// Moves a name for an operator, whom the kernel has not seen.
    ///
    /// # Errors
    /// As [`Vfs::rename`].
    pub async fn move_over(self: &Arc<Self>, from: (Ino, &[u8]), to: (Ino, &[u8])) -> Result<()> {
        self.rename(from, to, RenameHow::Replace).await?;
        self.barrier()?;
        self.tell_names(&[from, to])
    }

    /// Takes a file's name away for an operator, whom the kernel has not seen.
    ///
    /// # Errors
    /// As [`Vfs::unlink`].
    pub fn take_away(&self, parent: Ino, name: &[u8]) -> Result<()> {
        self.unlink(parent, name)?;
        self.barrier()?;
        self.tell_names(&[(parent, name)])
    }

    /// Looks in the cloud for what is at the path `names`, of which something may not be known here.
    ///
    /// # Errors
    /// [`VfsError::NoEntry`] if it is not there; the cloud's error if it does not answer.
    pub async fn look_for(self: &Arc<Self>, root: Ino, names: &[Vec<u8>]) -> Result<Ino> {
        let mut at = root;
        for name in names {
            if self.meta.read(|tx| tx.lookup(at, name))?.is_none() {
                let dir = self.inode(at)?;
                let merged = self.cache.probe(&dir, name).await?;
                self.announce(dir.share, merged);
                self.tell_names(&[(at, name)])?;
            }
            at = self.lookup(at, name).await?.ino;
        }
        Ok(at)
    }

    async fn fill(self: &Arc<Self>, id: HandleId, source: &File) -> Result<()> {
        let mut buffer = vec![0; STEP_BYTES];
        let mut at = 0;
        loop {
            let count = source.read_at(&mut buffer, at)?;
            if count == 0 {
                return Ok(());
            }
            self.write(id, at, &buffer[..count], WriteHow::default()).await?;
            at += count as u64;
        }
    }

    fn tell_names(&self, names: &[(Ino, &[u8])]) -> Result<()> {
        for &(parent, name) in names {
            let names = vec![(parent, name.to_vec())];
            self.announce(
                self.share_of(parent)?.id,
                Merged { inodes: vec![parent], names, ..Merged::default() },
            );
        }
        Ok(())
    }
}
