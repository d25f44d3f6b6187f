//! A version that takes the place of another, of which nobody is told but by its bytes.

use std::sync::Arc;

use super::{Result, Vfs};
use crate::cache::Merged;
use crate::meta::Tx;
use crate::types::Ino;

impl Vfs {
    /// Puts `data` in place of version `content` of the file `ino`, as a version of its own, whose number it returns. Names, owner,
    /// permissions and mtime stay; whoever has it open for reading goes on reading what he opened. `with` is done in the same
    /// transaction, with the number of the new version. None, and nothing is done, if the file is another version by now, or open for writing.
    ///
    /// # Durability
    /// Survives a power cut.
    ///
    /// # Errors
    /// If the disk fails, or there is no room.
    pub async fn replace(
        self: &Arc<Self>,
        ino: Ino,
        content: u64,
        data: &[u8],
        with: impl FnOnce(&Tx<'_>, u64) -> Result<()> + Send + 'static,
    ) -> Result<Option<u64>> {
        // Held open, it can't be evicted: then the next backing file might be somebody else's.
        let _held = self.cache.backing(ino)?;
        let before = self.inode(ino)?;
        if before.content != content || self.meta.read(|tx| tx.is_writing(ino))? {
            return Ok(None);
        }
        let share = self.share(before.share)?;
        let (difference, now, size) =
            (self.difference(share), self.clock.wall(), data.len() as u64);
        let staged = self.cache.stage(ino, before.backing + 1, data).await?;
        let (old, new) = (before.backing, staged.number());
        let files = self.handles.files();
        let replaced = self.meta.write(move |tx| -> Result<Option<u64>> {
            let found = tx.inode(ino)?.filter(|now| now.attr.nlink > 0);
            let Some(mut inode) = found.filter(|now| (now.content, now.backing) == (content, old))
            else {
                return Ok(None);
            };
            if tx.is_writing(ino)? {
                return Ok(None);
            }
            inode.content += 1;
            inode.attrs += 1;
            inode.backing = new;
            (inode.attr.size, inode.attr.ctime) = (size, now);
            tx.set_presence(ino, None)?;
            tx.put_inode(&inode)?;
            difference.note(tx, ino)?;
            difference.note_arrival(tx, ino, inode.content)?;
            with(tx, inode.content)?;
            Ok(Some(inode.content))
        });
        drop(files);
        if !matches!(replaced, Ok(Some(_))) {
            self.cache.drop_staged(staged);
            return replaced;
        }
        self.cache.staged_is_in_place(staged, old)?;
        self.barrier()?;
        let names = self.meta.read(|tx| tx.a_name(ino))?.into_iter().collect();
        self.announce(share.id, Merged { inodes: vec![ino], names, ..Merged::default() });
        self.events.differs.notify_one();
        self.events.arrived.notify_one();
        replaced
    }
}
