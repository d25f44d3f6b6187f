//! Carries out plans, one step at a time: plan, hold the keys, look whether the plan still stands, do it, store the outcome.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::bodies::Bodies;
use super::error::SyncError;
use super::keys::Keys;
use super::plan::{Step, Subject, aside_key, plan};
use super::records::{is_wanted, keys_of, new_key, subject};
use super::transfer::{self, Version};
use crate::cache::{Cache, CacheError, Merged};
use crate::clock::Clock;
use crate::events::{Events, Invalidation};
use crate::meta::{Inode, Meta, MetaError, ObjectRecord, Tombstone, Tx};
use crate::remote::{Condition, Object, RemoteError, RemoteRef};
use crate::types::aside::{Why, name_aside};
use crate::types::{ETag, FileKind, Ino, Key, Metadata, PosixMeta, ShareId, link};

/// Steps for one item before it makes room for others.
const STEPS_MAX: usize = 64;
/// In objects' metadata: which version of which inode of which gateway it is, to know our own writes again.
const VERSION_NAME: &str = "fsdversion";

/// What came of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Worked {
    /// It differs no more.
    Done,
    /// Not now: it is open for writing, or others go first.
    Later,
}

/// Whether an inode differs from the cloud after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Differs {
    /// It does not, and its item is gone.
    NoMore,
    /// Only a new plan can tell.
    Perhaps,
}

#[derive(Debug)]
pub(super) struct Worker {
    pub(super) meta: Arc<Meta>,
    pub(super) cache: Arc<Cache>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) events: Arc<Events>,
    pub(super) keys: Arc<Keys>,
    /// This gateway's name.
    pub(super) gateway: String,
    pub(super) bodies: Bodies,
}

impl Worker {
    /// Works on `ino` until it differs no more.
    pub(super) async fn work(&self, ino: Ino) -> Result<Worked, SyncError> {
        // Now and then another inode must go first; after one step of it we look again at ours.
        let mut at = ino;
        for _ in 0..STEPS_MAX {
            let Some((share, subject)) = self.subject(at)? else { return self.done(ino) };
            let step = plan(&subject);
            let _held = self.keys.hold(share, keys_of(&subject, &step)).await;
            let Some(subject) = self.begin(&subject, &step)? else { continue };
            match step {
                Step::Done if at == ino => return self.done(ino),
                Step::Park(error) if at == ino => return Err(error.into()),
                Step::Wait | Step::Park(_) => return Ok(Worked::Later),
                Step::First(other) if at == ino => at = other,
                Step::First(_) => return Ok(Worked::Later),
                Step::Done => at = ino,
                Step::Put { .. }
                | Step::SetMetadata { .. }
                | Step::Move { .. }
                | Step::Descend
                | Step::Aside { .. } => {
                    let differs = self.perform(share, &subject, step).await?;
                    if at == ino && differs == Differs::NoMore {
                        return Ok(Worked::Done);
                    }
                    at = ino;
                }
            }
        }
        Ok(Worked::Later)
    }

    /// What `step` was planned from, if it still is the plan. The keys are held from here on.
    fn begin(&self, looked: &Subject, step: &Step) -> Result<Option<Subject>, MetaError> {
        let (ino, planned) = (looked.inode.ino, step.clone());
        let again = move |tx: &Tx<'_>| -> Result<Option<Subject>, MetaError> {
            let Some((share, subject)) = subject(tx, ino)?.filter(|(_, now)| plan(now) == planned)
            else {
                return Ok(None);
            };
            // If the answer is lost and then the file deleted or renamed, nothing else would know of the object.
            if let Some(key) = new_key(&subject, &planned) {
                tx.attempt(ino, share, key)?;
            }
            Ok(Some(subject))
        };
        match new_key(looked, step) {
            Some(_) => self.meta.write(again),
            None => self.meta.read(again),
        }
    }

    async fn perform(
        &self,
        share: ShareId,
        subject: &Subject,
        step: Step,
    ) -> Result<Differs, SyncError> {
        let inode = &subject.inode;
        let remote = self.cache.remote(share).ok_or(CacheError::Lost(inode.ino))?;
        tracing::debug!(ino = %inode.ino, content = inode.content, attrs = inode.attrs, object = ?inode.object, ?step, "a step");
        let perhaps = |()| Differs::Perhaps;
        let performed = match step {
            Step::Put { key, condition } => self.put(remote, subject, &key, condition).await,
            Step::SetMetadata { key, expect } => {
                self.set_metadata(remote, subject, &key, &expect).await
            }
            Step::Move { from, etag, to, replacing } => {
                let moved = self.move_object(remote, subject, &from, &etag, &to, replacing).await;
                moved.map(perhaps)
            }
            Step::Descend => self.descend(inode).await.map(perhaps),
            Step::Aside { ino, from, etag, to } => {
                self.aside(remote, share, ino, &from, &etag, &to).await.map(perhaps)
            }
            Step::Done | Step::Wait | Step::Park(_) | Step::First(_) => Ok(Differs::Perhaps),
        };
        match performed {
            Err(SyncError::Conflict { key }) => {
                self.settle(remote, subject, &key, Why::Conflict).await.map(perhaps)
            }
            Err(SyncError::Incomplete { key }) => {
                self.settle(remote, subject, &key, Why::Incomplete).await.map(perhaps)
            }
            performed => performed,
        }
    }

    /// Deletes the object of a deleted file, unless the key is somebody's again.
    pub(super) async fn delete(&self, share: ShareId, key: &Key) -> Result<Worked, SyncError> {
        enum Look {
            Claimed,
            Wanted,
            Delete,
        }
        let _held = self.keys.hold(share, vec![key.clone()]).await;
        // Only now: while we waited for the key, it may have become another file's, and that deleted too.
        let look = self.meta.read(|tx| -> Result<Option<(Tombstone, Look)>, MetaError> {
            let Some(tombstone) = tx.tombstone(share, key)? else { return Ok(None) };
            let look = if tx.inode_by_key(share, key)?.is_some() {
                Look::Claimed
            } else if is_wanted(tx, share, key)? || tx.is_tombstone_below(share, key)? {
                Look::Wanted
            } else {
                Look::Delete
            };
            Ok(Some((tombstone, look)))
        })?;
        let Some((Tombstone { etag, ino, .. }, look)) = look else { return Ok(Worked::Done) };
        match look {
            // Whoever has that name now replaces the object; deleting it first would leave a gap. And a directory goes
            // after what is in it: a store that has real directories keeps one that is not empty.
            Look::Wanted => return Ok(Worked::Later),
            Look::Claimed => {}
            Look::Delete => {
                tracing::debug!(%key, ?etag, %ino, "a deletion");
                let remote = self.cache.remote(share).ok_or(CacheError::Lost(ino))?;
                let deleted = match &etag {
                    Some(etag) => remote.delete(key, &Condition::Match(etag.clone())).await,
                    None => Err(RemoteError::Precondition { key: key.clone() }),
                };
                match deleted {
                    Err(RemoteError::Precondition { .. }) => {
                        match self.delete_unstored(remote, key).await {
                            // Of a key that the store never took and can't have, nothing can be there.
                            Err(SyncError::Remote(
                                RemoteError::Rejected { .. } | RemoteError::Unsupported { .. },
                            )) if etag.is_none() => {}
                            deleted => deleted?,
                        }
                    }
                    deleted => deleted?,
                }
            }
        }
        self.cache.deleted(share, key);
        let key = key.clone();
        self.meta
            .write(move |tx| -> Result<Worked, MetaError> {
                match tx.tombstone(share, &key)? {
                    Some(now) if (&now.etag, now.ino) != (&etag, ino) => Ok(Worked::Later),
                    Some(_) | None => tx.remove_tombstone(share, &key).map(|()| Worked::Done),
                }
            })
            .map_err(SyncError::from)
    }

    /// Deletes an object that is not the version we know, if it is another one of ours: its answer was lost. No file has it, and of one
    /// with several names it may have been another name's.
    async fn delete_unstored(&self, remote: &RemoteRef, key: &Key) -> Result<(), SyncError> {
        match remote.head(key).await {
            Err(RemoteError::NotFound { .. }) => Ok(()),
            Ok(there) if self.author(there.metadata.as_ref()).is_some() => {
                match remote.delete(key, &Condition::Match(there.etag)).await {
                    Err(RemoteError::Precondition { .. }) => Err(SyncError::Changed),
                    deleted => Ok(deleted?),
                }
            }
            // Somebody changed it after we knew it: it stays, and is seen again at the next listing.
            Ok(_) => {
                tracing::warn!(%key, "a deleted file's object was changed in the cloud and stays there");
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn subject(&self, ino: Ino) -> Result<Option<(ShareId, Subject)>, MetaError> {
        self.meta.read(|tx| subject(tx, ino))
    }

    /// Removes the item, if it is still true that nothing is left to do: a rename may have come in between, which changes nothing
    /// of the inode itself.
    fn done(&self, ino: Ino) -> Result<Worked, SyncError> {
        Ok(match self.meta.write(move |tx| end_if_done(tx, ino))? {
            Differs::NoMore => Worked::Done,
            Differs::Perhaps => Worked::Later,
        })
    }

    async fn put(
        &self,
        remote: &RemoteRef,
        subject: &Subject,
        key: &Key,
        condition: Condition,
    ) -> Result<Differs, SyncError> {
        let inode = &subject.inode;
        let metadata = self.metadata(subject, key)?;
        if inode.attr.kind == FileKind::Dir && inode.object.is_none() {
            // It may have had another name when what is in it went up, and no record of its own to show that.
            self.children_differ(inode)?;
        }
        let etag = match inode.attr.kind {
            FileKind::Dir => remote.put(key, Bytes::new(), &metadata, &condition).await?,
            FileKind::Symlink
            | FileKind::Fifo
            | FileKind::Socket
            | FileKind::CharDevice
            | FileKind::BlockDevice => {
                let body = match (inode.attr.kind, &inode.target) {
                    (FileKind::Symlink, None) => return Err(CacheError::Lost(inode.ino).into()),
                    (_, target) => Bytes::from(target.clone().unwrap_or_default()),
                };
                self.conditional(
                    remote.put(key, body, &metadata, &condition).await,
                    remote,
                    inode,
                    key,
                    &metadata,
                )
                .await?
            }
            FileKind::File => {
                let version = Version::open(&self.cache, &self.meta, subject)?;
                let sent =
                    transfer::upload(&self.bodies, remote, &version, key, &metadata, &condition)
                        .await;
                let etag = match sent {
                    Err(SyncError::Remote(error)) => {
                        self.conditional(Err(error), remote, inode, key, &metadata).await?
                    }
                    // What is not here of it was to come from a version that is there no more: ours may be there instead.
                    Err(lost) if lost.is_base_gone() => {
                        if self.has_base(remote, subject.file).await? {
                            return Err(SyncError::Changed);
                        }
                        let gone = Err(RemoteError::Precondition { key: key.clone() });
                        match self.conditional(gone, remote, inode, key, &metadata).await {
                            Err(SyncError::Conflict { key }) => {
                                tracing::error!(%key, error = &lost as &dyn std::error::Error, "part of a changed file was never fetched, and is lost");
                                return Err(SyncError::Incomplete { key });
                            }
                            known => known?,
                        }
                    }
                    sent => sent?,
                };
                let differs = self.uploaded(inode, key, &etag)?;
                self.cache.remember(version.backing())?;
                return Ok(differs);
            }
        };
        Ok(self.uploaded(inode, key, &etag)?)
    }

    /// Whether the cloud still has what the record of `file` says, be it as a later version of ours whose answer was lost: what of the
    /// file is not here is the same in both.
    async fn has_base(&self, remote: &RemoteRef, file: Ino) -> Result<bool, SyncError> {
        let record = || self.meta.read(|tx| tx.inode(file));
        let Some(inode) = record()? else { return Ok(false) };
        let Some(object) = &inode.object else { return Ok(false) };
        let has = match remote.head(&object.key).await {
            Ok(there) if Some(&there.etag) == object.etag.as_ref() => true,
            Ok(there) => self.take_again(&inode, &object.key, &there)?,
            Err(RemoteError::NotFound { .. }) => false,
            Err(error) => return Err(error.into()),
        };
        Ok(has || record()?.is_none_or(|now| now.object != inode.object))
    }

    /// Stores that `ino` may have an object `key` from now on: if the answer is lost and then the file deleted or renamed,
    /// nothing else would know of it.
    fn attempt(&self, ino: Ino, share: ShareId, key: &Key) -> Result<(), SyncError> {
        let key = key.clone();
        self.meta.write(move |tx| match tx.inode(ino)? {
            Some(inode) if inode.attr.nlink > 0 => Ok(tx.attempt(ino, share, &key)?),
            Some(_) | None => Err(SyncError::Changed),
        })
    }

    /// Stores that the object `key`, version `etag`, holds what `inode` was when its upload was planned.
    fn uploaded(&self, inode: &Inode, key: &Key, etag: &ETag) -> Result<Differs, MetaError> {
        self.holds(inode, key, etag, (inode.content, inode.attrs))
    }

    /// Stores that the object `key`, version `etag`, is what `inode` was at the version `content`, `attrs`.
    fn holds(
        &self,
        inode: &Inode,
        key: &Key,
        etag: &ETag,
        (content, attrs): (u64, u64),
    ) -> Result<Differs, MetaError> {
        let (ino, share) = (inode.ino, inode.share);
        let (key, etag, now) = (key.clone(), etag.clone(), self.millis());
        self.meta.write(move |tx| {
            tx.remove_tombstone(share, &key)?;
            tx.end_multipart(ino)?;
            match tx.inode(ino)? {
                Some(mut inode) if inode.attr.nlink > 0 => {
                    if let Some(old) = inode.object.take()
                        && old.key != key
                        && old.etag.is_some()
                    {
                        tx.bury(share, &old.key, old.etag.as_ref(), ino, now)?;
                    }
                    tx.end_attempts(ino, share, Some(&key), now)?;
                    inode.object = Some(ObjectRecord { key, etag: Some(etag), content, attrs });
                    tx.put_inode(&inode)?;
                }
                // It lost its name meanwhile: then so does the object.
                Some(_) | None => tx.bury(share, &key, Some(&etag), ino, now)?,
            }
            end_if_done(tx, ino)
        })
    }

    /// A conditional write that was refused may have been ours, with its answer lost.
    async fn conditional(
        &self,
        sent: Result<ETag, RemoteError>,
        remote: &RemoteRef,
        inode: &Inode,
        key: &Key,
        metadata: &Metadata,
    ) -> Result<ETag, SyncError> {
        match sent {
            Err(RemoteError::Precondition { .. }) => match remote.head(key).await {
                Ok(there)
                    if there.metadata.as_ref().and_then(|m| m.get(VERSION_NAME))
                        == metadata.get(VERSION_NAME) =>
                {
                    Ok(there.etag)
                }
                Ok(there) if self.take_unstored(inode, key, &there)? => Err(SyncError::Changed),
                Ok(_) | Err(RemoteError::NotFound { .. }) => {
                    Err(SyncError::Conflict { key: key.clone() })
                }
                Err(error) => Err(error.into()),
            },
            sent => Ok(sent?),
        }
    }

    async fn set_metadata(
        &self,
        remote: &RemoteRef,
        subject: &Subject,
        key: &Key,
        expect: &ETag,
    ) -> Result<Differs, SyncError> {
        let inode = &subject.inode;
        let metadata = self.metadata(subject, key)?;
        match remote.set_metadata(key, &metadata, expect).await {
            Ok(etag) => Ok(self.uploaded(inode, key, &etag)?),
            Err(RemoteError::Unsupported { .. }) => {
                self.put(remote, subject, key, Condition::Match(expect.clone())).await
            }
            Err(RemoteError::Precondition { .. } | RemoteError::NotFound { .. }) => {
                let etag = self
                    .conditional(
                        Err(RemoteError::Precondition { key: key.clone() }),
                        remote,
                        inode,
                        key,
                        &metadata,
                    )
                    .await;
                match etag {
                    Ok(etag) => Ok(self.uploaded(inode, key, &etag)?),
                    // The cloud's content is newer, and so are its attributes: ours give way at the next listing.
                    Err(SyncError::Conflict { .. }) => {
                        self.give_way(inode)?;
                        Ok(Differs::Perhaps)
                    }
                    Err(error) => Err(error),
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Takes note of an object that stands in the way but is ours, from an upload whose answer was lost: an earlier version of
    /// this file, or one of a deleted file. Then there is a new state to plan from.
    fn take_unstored(&self, inode: &Inode, key: &Key, there: &Object) -> Result<bool, MetaError> {
        let stored = inode.object.as_ref().map(|object| (object.content, object.attrs));
        if let Some(version) = self.version_of(inode.ino, there.metadata.as_ref())
            && Some(version) > stored
        {
            self.holds(inode, key, &there.etag, version)?;
            return Ok(true);
        }
        let Some(buried) = self.buried(inode.share, key, there)? else { return Ok(false) };
        if self.is_buried(inode.share, key, &there.etag)? {
            return Ok(false);
        }
        let (share, key, etag, now) = (inode.share, key.clone(), there.etag.clone(), self.millis());
        self.meta.write(move |tx| tx.bury(share, &key, Some(&etag), buried, now))?;
        Ok(true)
    }

    /// Whether it is known that the object `key`, version `etag`, is to be deleted or replaced.
    fn is_buried(&self, share: ShareId, key: &Key, etag: &ETag) -> Result<bool, MetaError> {
        let tombstone = self.meta.read(|tx| tx.tombstone(share, key))?;
        Ok(tombstone.is_some_and(|tombstone| tombstone.etag.as_ref() == Some(etag)))
    }

    /// Takes note of the version that an object of `inode` has, if it is ours: the answer to a change of its attributes was lost.
    fn take_again(&self, inode: &Inode, key: &Key, there: &Object) -> Result<bool, MetaError> {
        let stored = inode.object.as_ref().map(|object| (object.content, object.attrs));
        let version = self.version_of(inode.ino, there.metadata.as_ref());
        let Some(version) = version.filter(|version| Some(*version) >= stored) else {
            return Ok(false);
        };
        self.holds(inode, key, &there.etag, version)?;
        Ok(true)
    }

    /// The file that `there` is a version of, if it was deleted here, or has another name since it was sent there.
    fn buried(&self, share: ShareId, key: &Key, there: &Object) -> Result<Option<Ino>, MetaError> {
        let is_known = self.meta.read(|tx| -> Result<bool, MetaError> {
            Ok(tx.tombstone(share, key)?.is_some() || tx.is_attempted(share, key)?)
        })?;
        Ok(self.author(there.metadata.as_ref()).filter(|_| is_known))
    }

    /// Counts the attributes as uploaded, so that the cloud's may come in.
    fn give_way(&self, inode: &Inode) -> Result<(), MetaError> {
        let (ino, attrs) = (inode.ino, inode.attrs);
        self.meta.write(move |tx| {
            let Some(mut inode) = tx.inode(ino)? else { return Ok(()) };
            if let Some(object) = &mut inode.object {
                object.attrs = attrs;
            }
            tx.put_inode(&inode)
        })
    }

    async fn move_object(
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
            Ok(there) if self.is_ours(inode, there.metadata.as_ref()) => {
                return Ok(self.moved(inode.ino, inode.share, from, etag, to, &there.etag)?);
            }
            Ok(_) => return Err(SyncError::Conflict { key: to.clone() }),
            Err(error) => return Err(error.into()),
        };
        let there = match remote.head(from).await {
            Ok(there) if there.etag == *etag => there,
            Ok(there) if self.take_again(inode, from, &there)? => return Err(SyncError::Changed),
            // What was to be moved is not what we know: our name goes on with a new object if the bytes are here.
            Ok(_) | Err(RemoteError::NotFound { .. }) => {
                return self.lose_object(inode, subject.file);
            }
            Err(error) => return Err(error.into()),
        };
        self.attempt(inode.ino, inode.share, to)?;
        let metadata = self.signed(there.metadata, inode);
        let copied = copied(remote.copy(from, etag, to, &metadata, &condition).await)?;
        Ok(self.moved(inode.ino, inode.share, from, etag, to, &copied)?)
    }

    async fn aside(
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
        let there = match remote.head(from).await {
            Ok(there) if there.etag == *etag => there,
            Ok(there) if self.take_again(&inode, from, &there)? => return Err(SyncError::Changed),
            Ok(_) | Err(RemoteError::NotFound { .. }) => return self.lose_object(&inode, file),
            Err(error) => return Err(error.into()),
        };
        self.attempt(ino, share, to)?;
        let metadata = self.signed(there.metadata, &inode);
        // Nobody else has such a key: what is there is an earlier try of ours.
        let copied = copied(remote.copy(from, etag, to, &metadata, &Condition::Always).await)?;
        let now = self.millis();
        self.moved(ino, share, from, etag, to, &copied)?;
        self.meta.write(move |tx| tx.differs(ino, share, now, now))?;
        Ok(())
    }

    /// Stores that the object of `ino` is at `to` now, and that the one at `from` is to be deleted.
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
            tx.bury(share, &from, Some(&etag), ino, now)?;
            tx.end_attempts(ino, share, Some(&to), now)?;
            match tx.inode(ino)? {
                Some(mut inode) if inode.attr.nlink > 0 => {
                    if let Some(object) = &mut inode.object {
                        object.key = to;
                        object.etag = Some(copied);
                        // What says that it is one of several names of a file is bound to the key.
                        if tx.file_of(ino)? != ino || inode.attr.nlink > 1 {
                            object.attrs = 0;
                        }
                    }
                    tx.put_inode(&inode)
                }
                Some(_) | None => tx.bury(share, &to, Some(&copied), ino, now),
            }
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
        self.meta.write(move |tx| -> Result<(), MetaError> {
            let Some(mut inode) = tx.inode(ino)?.filter(|inode| inode.object == known) else { return Ok(()) };
            inode.object = None;
            tx.put_inode(&inode)?;
            if file == ino {
                // A map from when part of it was not here would count again.
                tx.set_presence(ino, None)?;
            }
            if !whole {
                tracing::warn!(%ino, "a renamed file's object was deleted in the cloud, and its bytes are not here");
                if let Some((parent, name)) = tx.a_name(ino)? {
                    tx.remove_entry(parent, &name)?;
                }
                tx.remove_inode(ino)?;
            }
            Ok(())
        })?;
        Ok(())
    }

    /// A directory has another name now: what is in it differs, and its old marker goes.
    async fn descend(&self, dir: &Inode) -> Result<(), SyncError> {
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

    fn children_differ(&self, dir: &Inode) -> Result<(), MetaError> {
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

    /// Both sides changed: our version goes on under another name, and the cloud's comes in under this one. What is missing of
    /// one that is incomplete counts as zeros from here on.
    async fn settle(
        &self,
        remote: &RemoteRef,
        subject: &Subject,
        key: &Key,
        why: Why,
    ) -> Result<(), SyncError> {
        let Subject { inode, file, .. } = subject;
        let (gone, buried) = match remote.head(key).await {
            Ok(there) => (false, self.is_buried(inode.share, key, &there.etag)?),
            Err(RemoteError::NotFound { .. }) => (true, false),
            Err(error) => return Err(error.into()),
        };
        let (ino, share, key, gateway) =
            (inode.ino, inode.share, key.clone(), self.gateway.clone());
        let file = *file;
        let now = self.clock.wall();
        let stamp =
            jiff::Timestamp::new(now.secs, 0).map(|t| t.strftime("%Y%m%dT%H%M%SZ").to_string());
        let stamp = stamp.unwrap_or_else(|_| now.secs.to_string());
        let renamed = self.meta.write(move |tx| -> Result<Option<(Inode, Vec<u8>)>, MetaError> {
            if !buried {
                tx.remove_tombstone(share, &key)?;
            }
            let Some(mut inode) = tx.inode(ino)? else { return Ok(None) };
            // What we knew is not there any more: this version is put anew, where nothing may be.
            if inode.object.as_ref().is_some_and(|object| object.key == key) {
                inode.object = None;
                tx.put_inode(&inode)?;
            }
            if why == Why::Incomplete {
                tx.set_presence(file, None)?;
            }
            let stays = gone && why == Why::Conflict;
            let Some((parent, name)) = tx.a_name(ino)?.filter(|_| !stays) else { return Ok(None) };
            let aside = name_aside(&name, why, &gateway, &stamp);
            tracing::warn!(%key, kept_as = %String::from_utf8_lossy(&aside), "both sides changed a file: both are kept");
            tx.remove_entry(parent, &name)?;
            tx.add_entry(parent, &aside, ino)?;
            Ok(tx.inode(parent)?.map(|parent| (parent, name)))
        })?;
        if why == Why::Incomplete {
            self.cache.backing(file)?.complete().map_err(CacheError::from)?;
        }
        if let Some((parent, name)) = renamed {
            self.events.invalidate(&Invalidation::Name { share, parent: parent.ino, name });
            let since = self.clock.wall().millis();
            let merged = self.cache.list(&parent, since.saturating_add(1)).await?;
            self.announce(share, merged);
        }
        Ok(())
    }

    fn announce(&self, share: ShareId, merged: Merged) {
        let Merged { inodes, attributes, names } = merged;
        self.events.announce(share, inodes, attributes, names);
    }

    fn is_ours(&self, inode: &Inode, metadata: Option<&Metadata>) -> bool {
        self.version_of(inode.ino, metadata).is_some_and(|(content, _)| content == inode.content)
    }

    /// Which version of `ino`, content and attributes, an object with this metadata is; none if it is not one.
    fn version_of(&self, ino: Ino, metadata: Option<&Metadata>) -> Option<(u64, u64)> {
        let version = metadata?.get(VERSION_NAME)?;
        let numbers = version.strip_prefix(&format!("{}-{ino}-", self.gateway))?;
        let (content, attrs) = numbers.split_once('-')?;
        Some((content.parse().ok()?, attrs.parse().ok()?))
    }

    /// Whose version an object with this metadata is, if this gateway made it.
    fn author(&self, metadata: Option<&Metadata>) -> Option<Ino> {
        let version = metadata?.get(VERSION_NAME)?;
        let numbers = version.strip_prefix(&format!("{}-", self.gateway))?;
        Some(Ino(numbers.split('-').next()?.parse().ok()?))
    }

    fn version(&self, ino: Ino, content: u64, attrs: u64) -> String {
        format!("{}-{ino}-{content}-{attrs}", self.gateway)
    }

    /// The metadata of a copy of what the cloud has of `inode`: others may have written it, but the copy is ours.
    fn signed(&self, metadata: Option<Metadata>, inode: &Inode) -> Metadata {
        let mut metadata = metadata.unwrap_or_default();
        if let Some(object) = &inode.object {
            let version = self.version(inode.ino, object.content, object.attrs);
            metadata.insert(VERSION_NAME.into(), version);
        }
        metadata
    }

    fn metadata(&self, subject: &Subject, key: &Key) -> Result<Metadata, MetaError> {
        let Subject { inode, file, .. } = subject;
        let xattrs: BTreeMap<Vec<u8>, Vec<u8>> = self.meta.read(|tx| tx.xattrs(*file))?;
        let mut metadata = PosixMeta::write(&inode.attr, &xattrs);
        metadata.insert(VERSION_NAME.into(), self.version(inode.ino, inode.content, inode.attrs));
        if inode.attr.nlink > 1 && inode.attr.kind != FileKind::Dir {
            let id = format!("{}-{file}-{}", self.gateway, inode.content);
            metadata.insert(link::NAME.into(), link::write(&id, key));
        }
        Ok(metadata)
    }

    pub(super) fn millis(&self) -> i64 {
        self.clock.wall().millis()
    }
}

/// Removes the item of `ino` if nothing is left to do.
fn end_if_done(tx: &Tx<'_>, ino: Ino) -> Result<Differs, MetaError> {
    if subject(tx, ino)?.is_some_and(|(_, now)| plan(&now) != Step::Done) {
        return Ok(Differs::Perhaps);
    }
    tx.remove_item(ino)?;
    Ok(Differs::NoMore)
}

/// What came of a copy. One that changed, at either end, since it was looked at is looked at again.
fn copied(copied: Result<ETag, RemoteError>) -> Result<ETag, SyncError> {
    match copied {
        Err(RemoteError::Precondition { .. } | RemoteError::NotFound { .. }) => {
            Err(SyncError::Changed)
        }
        copied => Ok(copied?),
    }
}
