//! Release, and what makes a changed file known. What a close means is stored for many files at once, a moment later:
//! until then the record of who writes says that the file must be looked at, and so does a crash.

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use super::handle::{Open, has_changed, overlay, stamp_now};
use super::{Difference, HandleId, Result, Vfs, VfsError};
use crate::cache::Backing;
use crate::meta::{Stamp, Tx};
use crate::types::Ino;

/// How long a close may wait for others.
const CLOSE_DELAY: Duration = Duration::from_millis(20);
/// So many closed files don't wait for more: each keeps its backing file open.
const CLOSED_MAX: usize = 64;
/// After a failure, such as a full disk.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// What is known of a file whose last writer, or last handle, was closed.
struct Closed {
    ino: Ino,
    /// None: nobody had it open for writing.
    written: Option<Written>,
    /// Nobody has it open any more.
    last: bool,
}

struct Written {
    before: Stamp,
    now: Stamp,
    presence: Option<Vec<u8>>,
    difference: Difference,
}

/// What became of a [`Closed`] file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// It is here and has a name.
    Kept { uploaded: bool },
    /// It had no name any more and is gone; the number of its backing file.
    Gone { backing: u64 },
}

impl Vfs {
    /// Closes a handle. The last writer's close makes the new version known to sync and hooks, a moment later.
    ///
    /// # Errors
    /// [`VfsError::BadHandle`].
    pub fn release(&self, id: HandleId) -> Result<()> {
        let handle = self.handles.remove(id).ok_or(VfsError::BadHandle)?;
        {
            let mut files = self.handles.files();
            let open = files.get_mut(&handle.ino).ok_or(VfsError::BadHandle)?;
            open.handles -= 1;
            open.writers -= u32::from(handle.how.write);
            if open.handles > 0 && (open.writers > 0 || open.stamp.is_none()) {
                return Ok(());
            }
            // What was only read has nothing to store, and can be evicted from here on.
            if open.stamp.is_none()
                && let Ok(Some(inode)) = self.meta.read(|tx| tx.inode(handle.ino))
                && inode.attr.nlink > 0
            {
                files.remove(&handle.ino);
                drop(files);
                self.keep(&handle.backing, inode.is_uploaded());
                return Ok(());
            }
        }
        let waiting = {
            let mut closed = self.handles.closed();
            closed.push((handle.ino, self.millis()));
            closed.len()
        };
        if waiting < CLOSED_MAX {
            self.handles.closing.notify_one();
            return Ok(());
        }
        self.finish_closed()
    }

    /// Whether nobody writes `ino` any more, and what was written is not stored yet.
    pub(super) fn is_closing(&self, ino: Ino) -> bool {
        self.handles.files().get(&ino).is_some_and(|open| open.writers == 0 && open.stamp.is_some())
    }

    /// Stores what the closes until now mean: whoever looks at the queue from here on sees all of it.
    ///
    /// # Errors
    /// If the metadata store fails; then the files stay as if open, and the next call tries again.
    pub fn finish_closed(&self) -> Result<()> {
        let mut files = self.handles.files();
        let mut waiting = std::mem::take(&mut *self.handles.closed());
        if waiting.is_empty() {
            return Ok(());
        }
        // The last close of each.
        waiting.sort_unstable_by(|a, b| b.cmp(a));
        waiting.dedup_by_key(|(ino, _)| *ino);
        let ended = match self.store_closed(&files, &waiting) {
            Ok(ended) => ended,
            Err(error) => {
                self.handles.closed().append(&mut waiting);
                return Err(error);
            }
        };
        let mut backings = Vec::new();
        for (Closed { ino, written, last }, ended) in ended {
            let Some(open) = files.get_mut(&ino) else { continue };
            backings.push((open.backing.clone(), written.is_some(), last, ended));
            if written.is_some() {
                open.stamp = None;
            }
            if last {
                files.remove(&ino);
            }
        }
        drop(files);
        let differs = |(_, written, _, ended): &(_, bool, _, Ended)| {
            *written || matches!(ended, Ended::Gone { .. })
        };
        if backings.iter().any(differs) {
            self.events.differs.notify_one();
            self.events.arrived.notify_one();
        }
        for (backing, written, last, ended) in backings {
            if let Err(error) = self.after_close(&backing, written, last, ended) {
                tracing::error!(ino = %backing.ino(), error = &error as &dyn Error, "a closed file could not be looked at");
            }
        }
        Ok(())
    }

    /// Calls [`Vfs::finish_closed`] when it is time, until everything stops.
    pub(super) async fn keep_finishing(self: Arc<Self>) {
        let mut delay = CLOSE_DELAY;
        loop {
            let stopping = tokio::select! {
                () = self.tasks.cancelled() => true,
                () = self.handles.closing.notified() => false,
            };
            if !stopping {
                self.clock.sleep(delay).await;
            }
            let (vfs, tasks) = (self.clone(), self.tasks.clone());
            let finished = tasks.blocking(move || vfs.finish_closed()).await;
            delay = match finished.map_err(VfsError::from).flatten() {
                Ok(()) => CLOSE_DELAY,
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn Error,
                        "closes could not be stored; they will be"
                    );
                    self.handles.closing.notify_one();
                    RETRY_DELAY
                }
            };
            if stopping {
                return;
            }
        }
    }

    /// After a crash: stores what a backing file has become since it was opened for writing.
    pub(super) fn finish_writing(
        &self,
        backing: &Backing,
        before: Stamp,
        difference: Difference,
    ) -> Result<()> {
        let ino = backing.ino();
        let written = self.written(backing, before, difference)?;
        let closed = Closed { ino, written: Some(written), last: false };
        self.meta.write(move |tx| finish(tx, &closed))?;
        self.cache.account(backing)?;
        Ok(())
    }

    fn store_closed(
        &self,
        files: &HashMap<Ino, Open>,
        waiting: &[(Ino, i64)],
    ) -> Result<Vec<(Closed, Ended)>> {
        let mut closed = Vec::new();
        for (ino, at) in waiting {
            if let Some(open) = files.get(ino) {
                closed.extend(self.look_at_closed((*ino, *at), open)?);
            }
        }
        self.meta.write(move |tx| {
            closed.into_iter().map(|closed| finish(tx, &closed).map(|end| (closed, end))).collect()
        })
    }

    fn look_at_closed(&self, (ino, at): (Ino, i64), open: &Open) -> Result<Option<Closed>> {
        let last = open.handles == 0;
        let written = match open.stamp.filter(|_| open.writers == 0) {
            Some(before) => {
                // It is quiet since then, not since this was stored.
                let difference = self.difference_at(self.share(open.share)?, at);
                Some(self.written(&open.backing, before, difference)?)
            }
            None => None,
        };
        // Opened anew since, and nothing else to be done.
        Ok((last || written.is_some()).then_some(Closed { ino, written, last }))
    }

    fn written(&self, backing: &Backing, before: Stamp, difference: Difference) -> Result<Written> {
        let (now, presence) = (stamp_now(backing)?, backing.presence().0);
        Ok(Written { before, now, presence, difference })
    }

    fn after_close(
        &self,
        backing: &Arc<Backing>,
        written: bool,
        last: bool,
        ended: Ended,
    ) -> Result<()> {
        let ino = backing.ino();
        if written {
            self.cache.account(backing)?;
            self.cache.trim()?;
        }
        match ended {
            Ended::Gone { backing } => self.cache.forget(ino, backing),
            Ended::Kept { uploaded } => self.keep(backing, last && uploaded),
        }
        Ok(())
    }

    /// Has noted what is here of a clean file that nobody has open any more.
    fn keep(&self, backing: &Arc<Backing>, clean: bool) {
        if clean && !backing.is_saved() {
            self.cache.remember_soon(backing.clone());
        }
    }
}

fn finish(tx: &Tx<'_>, closed: &Closed) -> Result<Ended> {
    let ino = closed.ino;
    if closed.written.is_some() {
        tx.end_writing(ino)?;
    }
    let Some(mut inode) = tx.inode(ino)? else { return Ok(Ended::Kept { uploaded: false }) };
    if inode.attr.nlink == 0 && closed.last {
        tx.remove_inode(ino)?;
        tx.hasten_deletions(ino)?;
        return Ok(Ended::Gone { backing: inode.backing });
    }
    if let Some(Written { before, now, presence, difference }) = &closed.written {
        let changed = has_changed(before, now);
        if changed {
            overlay(&mut inode.attr, now, before);
        }
        if changed && inode.attr.nlink > 0 {
            inode.content += 1;
            inode.attrs += 1;
            tx.set_presence(ino, presence.as_deref())?;
        }
        if changed {
            tx.put_inode(&inode)?;
        }
        if changed && inode.attr.nlink > 0 {
            // Where it stands in the queue depends on its length.
            difference.note(tx, ino)?;
            difference.note_arrival(tx, ino, inode.content)?;
        } else if !changed && inode.is_uploaded() {
            tx.set_presence(ino, None)?;
        }
    }
    Ok(Ended::Kept { uploaded: inode.is_uploaded() })
}
