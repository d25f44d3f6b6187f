//! After a stop that was not clean: what was open for writing is looked at again, what had no name goes.
//!
//! A program may outlive the daemon with a file open that the kernel writes for it. Such a file stays open for writing until nobody
//! writes it any more.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use super::handle::{overlay, stamp_now};
use super::{Result, Vfs, VfsError};
use crate::events::Invalidation;
use crate::meta::Stamp;
use crate::types::aside::is_part;
use crate::types::{Attr, Ino};

/// Between two looks at files that programs from before still write.
const HELD_PAUSE: Duration = Duration::from_secs(2);

/// What a start found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Files that were open for writing.
    pub writing: usize,
    /// Of these, files that programs from before still write.
    pub held: usize,
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
        let mut held = Vec::new();
        for (ino, stamp) in self.meta.read(|tx| tx.all_writing())? {
            recovered.writing += 1;
            let is_held = self.is_held(ino)?;
            let finished = if is_held {
                held.push(ino);
                self.show(ino, stamp)
            } else {
                self.finish_left(ino, stamp)
            };
            if let Err(error) = finished {
                recovered.lost += 1;
                tracing::error!(%ino, error = &error as &dyn Error, "a file that was open for writing could not be recovered");
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
        recovered.held = held.len();
        if !held.is_empty() {
            self.tasks.spawn("vfs.held", self.clone().keep_looking(held));
        }
        Ok(recovered)
    }

    /// Whether a program writes the backing file, which nobody here has open.
    fn is_held(&self, ino: Ino) -> Result<bool> {
        match self.meta.read(|tx| tx.inode(ino))? {
            Some(inode) => Ok(self.cache.is_written_elsewhere(&inode)?),
            None => Ok(false),
        }
    }

    async fn keep_looking(self: Arc<Self>, mut held: Vec<Ino>) {
        while !held.is_empty() {
            tokio::select! {
                () = self.tasks.cancelled() => return,
                () = self.clock.sleep(HELD_PAUSE) => {}
            }
            held.retain(|&ino| match self.look_at_held(ino) {
                Ok(still) => still,
                Err(VfsError::NoEntry) => false,
                Err(error) => {
                    tracing::warn!(%ino, error = &error as &dyn Error, "a file that a program from before writes could not be looked at");
                    true
                }
            });
        }
    }

    /// Stores what became of a file when nobody writes it any more; whether somebody still does.
    fn look_at_held(&self, ino: Ino) -> Result<bool> {
        let share = self.share_of(ino)?;
        let difference = self.difference(share);
        // Whoever opens it anew must pass this lock, and would look like the program from before.
        let files = self.handles.files();
        if let Some(open) = files.get(&ino) {
            // Read here, it goes up as it is now; what comes after that is seen when it is closed.
            if open.stamp.is_none()
                && let Some(before) = self.meta.read(|tx| tx.writing(ino))?
            {
                self.finish_writing(&open.backing, before, difference)?;
                self.events.differs.notify_one();
            }
            return Ok(true);
        }
        let held = self.is_held(ino)?;
        let backing = self.cache.backing(ino)?;
        match self.meta.read(|tx| tx.writing(ino))? {
            Some(before) if held => self.show(ino, before)?,
            Some(before) => self.finish_writing(&backing, before, difference)?,
            // It went up meanwhile: what is newer than that counts as changed.
            None => {
                let Attr { size, mtime, .. } =
                    self.meta.read(|tx| tx.inode(ino))?.ok_or(VfsError::NoEntry)?.attr;
                let now = stamp_now(&backing)?;
                let young = (now.size, now.mtime) != (size, mtime);
                let before = Stamp { size, mtime, young, ..now };
                if held {
                    self.meta.write(move |tx| tx.begin_writing(ino, &before))?;
                } else if young {
                    self.finish_writing(&backing, before, difference)?;
                }
            }
        }
        drop(files);
        self.events.invalidate(&Invalidation::Inode { share: share.id, ino });
        self.events.differs.notify_one();
        self.events.arrived.notify_one();
        Ok(held)
    }

    /// Shows size and times of a file that is being written, without counting it as a new version yet.
    fn show(&self, ino: Ino, before: Stamp) -> Result<()> {
        let now = stamp_now(&*self.cache.backing(ino)?)?;
        self.meta.write(move |tx| -> Result<()> {
            let mut inode = tx.inode(ino)?.ok_or(VfsError::NoEntry)?;
            let shown = inode.attr;
            overlay(&mut inode.attr, &now, &before);
            if inode.attr != shown {
                tx.put_inode(&inode)?;
            }
            Ok(())
        })
    }

    fn finish_left(&self, ino: Ino, before: Stamp) -> Result<()> {
        let share = self.share_of(ino)?;
        // What was to be kept in another share is kept anew: a part of it is nobody's file.
        if let Some((parent, name)) = self.meta.read(|tx| tx.a_name(ino))?
            && is_part(&name)
            && !share.read_only
        {
            return self.unlink(parent, &name);
        }
        let difference = self.difference(share);
        let backing = self.cache.backing(ino)?;
        self.finish_writing(&backing, before, difference)
    }
}
