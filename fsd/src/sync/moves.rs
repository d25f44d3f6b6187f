//! Steps that move what is in the cloud already: copies, and what is to be said of directories, which move by what is in them.

use super::error::SyncError;
use super::plan::{Subject, aside_key};
use super::worker::Worker;
use crate::cache::CacheError;
use crate::meta::{Inode, MetaError, ObjectRecord};
use crate::remote::{Condition, Object, RemoteError, RemoteRef};
use crate::types::{ETag, Ino, Key, ShareId};

impl Worker {
    pub(super) async fn move_object(
        &self,
        remote: &RemoteRef,
        subject: &Subject,
        from: &Key,
        etag: &ETag,
        to: &Key,
        replacing: Option<ETag>,
    ) -> Result<(), SyncError> {
        let inode = &subject.inode;
        let condition = match remote.head(to).await {
            Err(RemoteError::NotFound { .. }) => Condition::Absent,
            Ok(there) if Some(&there.etag) == replacing.as_ref() => Condition::Match(there.etag),
            Ok(there) if self.buried(inode.share, to, &there)?.is_some() => {
                Condition::Match(there.etag)
            }
            // A copy whose outcome was not stored: the same version of the same file.
            Ok(there) if self.is_ours(inode, &there) => {
                return Ok(self.moved(inode.ino, inode.share, from, etag, to, &there.etag)?);
            }
            Ok(_) => return Err(SyncError::Conflict { key: to.clone() }),
            Err(error) => return Err(error.into()),
        };
        let Some(there) = self.source(remote, inode, subject.file, from, etag).await? else {
            return Ok(());
        };
        self.attempt(inode.ino, inode.share, to)?;
        let metadata = self.signed(there.metadata, inode, to);
        let copied = copied(remote.copy(from, etag, to, &metadata, &condition).await)?;
        Ok(self.moved(inode.ino, inode.share, from, etag, to, &copied)?)
    }

    pub(super) async fn aside(
        &self,
        remote: &RemoteRef,
        share: ShareId,
        ino: Ino,
        from: &Key,
        etag: &ETag,
        to: &Key,
    ) -> Result<(), SyncError> {
        debug_assert_eq!(*to, aside_key(ino));
        let found = self.meta.read(|tx| -> Result<_, MetaError> {
            Ok(tx.inode(ino)?.zip(Some(tx.file_of(ino)?)))
        })?;
        let Some((inode, file)) = found else { return Err(SyncError::Changed) };
        let Some(there) = self.source(remote, &inode, file, from, etag).await? else {
            return Ok(());
        };
        self.attempt(ino, share, to)?;
        let metadata = self.signed(there.metadata, &inode, to);
        // Nobody else has such a key: what is there is an earlier try of ours.
        let copied = copied(remote.copy(from, etag, to, &metadata, &Condition::Always).await)?;
        let now = self.millis();
        self.moved(ino, share, from, etag, to, &copied)?;
        self.meta.write(move |tx| tx.differs(ino, share, now, now))?;
        Ok(())
    }

    /// The object of `inode` that is to be copied, if it is the version that we know. If it is not, there is something else to plan from.
    async fn source(
        &self,
        remote: &RemoteRef,
        inode: &Inode,
        file: Ino,
        from: &Key,
        etag: &ETag,
    ) -> Result<Option<Object>, SyncError> {
        match remote.head(from).await {
            Ok(there) if there.etag == *etag => Ok(Some(there)),
            Ok(there) if self.take_again(inode, &there)? => Err(SyncError::Changed),
            // Our name goes on with a new object if the bytes are here.
            Ok(_) | Err(RemoteError::NotFound { .. }) => {
                self.lose_object(inode, file).map(|()| None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Stores that the object of `ino` is at `to` now, and that the one at `from` is to be deleted. If it has another object by now (somebody
    /// else's version came in, or that of another name that was taken away), the copy is nobody's.
    fn moved(
        &self,
        ino: Ino,
        share: ShareId,
        from: &Key,
        etag: &ETag,
        to: &Key,
        copied: &ETag,
    ) -> Result<(), MetaError> {
        let (from, etag, to, copied, now) =
            (from.clone(), etag.clone(), to.clone(), copied.clone(), self.millis());
        self.meta.write(move |tx| {
            tx.remove_tombstone(share, &to)?;
            let Some(mut inode) = tx.inode(ino)?.filter(|inode| inode.attr.nlink > 0) else {
                return tx.bury(share, &to, Some(&copied), ino, now);
            };
            let has_several = tx.file_of(ino)? != ino || inode.attr.nlink > 1;
            match &mut inode.object {
                Some(object) if (&object.key, &object.etag) == (&from, &Some(etag)) => {
                    tx.bury(share, &from, object.etag.as_ref(), ino, now)?;
                    (object.key, object.etag) = (to, Some(copied));
                    if has_several {
                        // What says that it is one of several names of a file is bound to the key.
                        object.attrs = 0;
                    }
                }
                Some(_) | None => tx.bury(share, &to, Some(&copied), ino, now)?,
            }
            let kept = inode.object.as_ref().map(|object| &object.key);
            tx.end_attempts(ino, share, kept, now)?;
            tx.put_inode(&inode)
        })
    }

    /// The object that we knew is not there any more. If the bytes are here they go up anew; else the name goes.
    fn lose_object(&self, inode: &Inode, file: Ino) -> Result<(), SyncError> {
        // Held open, it can't be evicted while it becomes the only copy.
        let backing = self.cache.backing(file)?;
        let (ino, known) = (inode.ino, inode.object.clone());
        // What an alias is, its file has.
        let whole = file != ino || backing.is_whole();
        if file == ino && whole {
            backing.file().sync_data().map_err(CacheError::from)?;
        }
        let now = self.clock.wall();
        self.meta.write(move |tx| -> Result<(), MetaError> {
            let Some(mut inode) = tx.inode(ino)?.filter(|inode| inode.object == known) else {
                return Ok(());
            };
            if !whole {
                tracing::warn!(%ino, "a renamed file's object was deleted in the cloud, and its bytes are not here");
                return tx.lose(ino, now).map(drop);
            }
            inode.object = None;
            tx.put_inode(&inode)?;
            if file == ino {
                // A map from when part of it was not here would count again.
                tx.set_presence(ino, None)?;
            }
            Ok(())
        })?;
        Ok(())
    }

    /// A directory has another name now: what is in it differs, and its old marker goes.
    pub(super) async fn descend(&self, dir: &Inode) -> Result<(), SyncError> {
        if !self.cache.is_listed(dir, 0) {
            // All its names must be known before they can move.
            let merged = self.cache.list(dir, 0).await?;
            self.announce(dir.share, merged);
        }
        self.children_differ(dir)?;
        let (ino, share, now) = (dir.ino, dir.share, self.millis());
        self.meta.write(move |tx| -> Result<(), MetaError> {
            let Some(mut dir) = tx.inode(ino)? else { return Ok(()) };
            if let Some(ObjectRecord { key, etag: Some(etag), .. }) = dir.object.take() {
                tx.bury(share, &key, Some(&etag), ino, now)?;
            }
            tx.put_inode(&dir)
        })?;
        Ok(())
    }

    pub(super) fn children_differ(&self, dir: &Inode) -> Result<(), MetaError> {
        const AT_ONCE: usize = 1000;
        let (ino, share, now) = (dir.ino, dir.share, self.millis());
        let mut at = Some(0);
        while let Some(from) = at {
            at = self.meta.write(move |tx| -> Result<Option<u64>, MetaError> {
                let entries = tx.entries(ino, from, AT_ONCE)?;
                for entry in &entries {
                    tx.differs(entry.ino, share, now, now)?;
                }
                Ok(entries.last().map(|entry| entry.cookie))
            })?;
        }
        Ok(())
    }
}

/// What came of a copy. One whose source went since it was looked at is looked at again.
fn copied(copied: Result<ETag, RemoteError>) -> Result<ETag, SyncError> {
    match copied {
        Err(RemoteError::NotFound { .. }) => Err(SyncError::Changed),
        copied => Ok(copied?),
    }
}
