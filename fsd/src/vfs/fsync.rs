//! `fsync` that waits until the version is uploaded, where a share asks for that. The file may stay open for writing: its version is let
//! go as long as the backing file stays as it is.

use std::sync::Arc;
use std::time::Duration;

use super::handle::{Handle, has_changed, overlay};
use super::{Difference, HandleId, Result, Vfs, VfsError};
use crate::types::Ino;

/// How long a file is left alone until each change of it shows in its times.
const REST: Duration = Duration::from_millis(60);
/// How often it is looked whether it rests by now.
const LOOKS_MAX: u32 = 5;
/// What is fetched at once of a file that was only partly here.
const STEP_BYTES: u32 = 4 << 20;

impl Vfs {
    /// How long `fsync` of `id` waits until the version is uploaded; none if it does not wait for that.
    #[must_use]
    pub fn fsync_wait(&self, id: HandleId) -> Option<Duration> {
        let handle = self.handles.get(id)?;
        self.share_of(handle.ino).ok().filter(|share| !share.local)?.fsync_wait
    }

    /// Waits until the version that the file has now is uploaded, for `wait` at most. It is durable here already: see [`Vfs::fsync`].
    ///
    /// # Errors
    /// [`VfsError::NotUploaded`] if that took too long; the version goes up all the same.
    ///
    /// # Cancel safety
    /// The version goes up all the same.
    pub async fn uploaded(self: &Arc<Self>, id: HandleId, wait: Duration) -> Result<()> {
        let handle = self.handles.get(id).ok_or(VfsError::BadHandle)?;
        let all = async {
            self.bring_all(id, &handle).await?;
            let content = self.publish_at_rest(&handle).await?;
            self.events.differs.notify_one();
            loop {
                let settled = self.events.settled.notified();
                if self.has_gone_up(handle.ino, content)? {
                    return Ok(());
                }
                settled.await;
            }
        };
        tokio::select! {
            all = all => all,
            () = self.clock.sleep(wait) => Err(VfsError::NotUploaded),
        }
    }

    /// Fetches what is not here: a version is uploaded whole.
    async fn bring_all(self: &Arc<Self>, id: HandleId, handle: &Handle) -> Result<()> {
        let mut at = 0;
        while handle.how.write && !handle.backing.is_whole() {
            let count = self.read(id, at, STEP_BYTES).await?.len() as u64;
            if count == 0 {
                return Ok(());
            }
            at += count;
        }
        Ok(())
    }

    /// Makes the file as it is now a version of its own that may go up; returns its number.
    async fn publish_at_rest(&self, handle: &Handle) -> Result<u64> {
        for _ in 0..LOOKS_MAX {
            if !handle.backing.stamp(self.clock.wall())?.young {
                break;
            }
            self.clock.sleep(REST).await;
        }
        self.publish(handle)
    }

    fn publish(&self, handle: &Handle) -> Result<u64> {
        let ino = handle.ino;
        let share = self.share_of(ino)?;
        let difference = Difference { due: self.millis(), ..self.difference(share) };
        let mut files = self.handles.files();
        let stored = || self.meta.read(|tx| tx.inode(ino))?.ok_or(VfsError::NoEntry);
        let Some(open) = files.get_mut(&ino).filter(|open| open.backing.is_whole()) else {
            return Ok(stored()?.content);
        };
        let Some(before) = open.stamp else { return Ok(stored()?.content) };
        let now = open.backing.stamp(self.clock.wall())?;
        let changed = has_changed(&before, &now);
        let content = self.meta.write(move |tx| -> Result<u64> {
            let mut inode = tx.inode(ino)?.ok_or(VfsError::NoEntry)?;
            if changed && inode.attr.nlink > 0 {
                overlay(&mut inode.attr, &now, &before);
                inode.content += 1;
                inode.attrs += 1;
                tx.set_presence(ino, None)?;
                tx.put_inode(&inode)?;
                difference.note(tx, ino)?;
                difference.note_arrival(tx, ino, inode.content)?;
            }
            tx.publish(ino, &now, inode.content)?;
            Ok(inode.content)
        })?;
        open.stamp = Some(now);
        Ok(content)
    }

    /// Whether the cloud has the version `content` of `ino` or a later one, or nobody wants it any more.
    fn has_gone_up(&self, ino: Ino, content: u64) -> Result<bool> {
        let inode = self.meta.read(|tx| tx.inode(ino))?;
        Ok(inode.is_none_or(|inode| {
            let is_there = |object: &crate::meta::ObjectRecord| {
                object.etag.is_some() && object.content >= content
            };
            inode.attr.nlink == 0 || inode.object.as_ref().is_some_and(is_there)
        }))
    }
}
