//! After a stop that was not clean: what was open for writing is looked at again, what had no name goes.

use std::sync::Arc;

use super::{Result, Vfs};

/// What a start found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Files that were open for writing.
    pub writing: usize,
    /// Files without a name that were still open.
    pub unlinked: usize,
    /// Files whose bytes are gone from the cache disk.
    pub lost: usize,
}

impl Vfs {
    /// Brings records and backing files together again. To be called before anything is opened.
    ///
    /// # Errors
    /// If the metadata store fails.
    pub fn recover(self: &Arc<Self>) -> Result<Recovered> {
        let mut recovered = Recovered::default();
        for (ino, stamp) in self.meta.read(|tx| tx.all_writing())? {
            recovered.writing += 1;
            let finished = match self.cache.backing(ino) {
                Ok(backing) => self.finish_writing(ino, &backing, stamp),
                Err(error) => Err(error.into()),
            };
            if let Err(error) = finished {
                recovered.lost += 1;
                tracing::error!(%ino, error = &error as &dyn std::error::Error, "a file that was open for writing could not be recovered");
            }
        }
        let unlinked = self.meta.read(|tx| tx.unlinked())?;
        for ino in unlinked {
            let backing = self.meta.write(move |tx| -> Result<u64> {
                let backing = tx.inode(ino)?.map_or(0, |inode| inode.backing);
                tx.remove_inode(ino)?;
                Ok(backing)
            })?;
            self.cache.forget(ino, backing);
            recovered.unlinked += 1;
        }
        Ok(recovered)
    }
}
