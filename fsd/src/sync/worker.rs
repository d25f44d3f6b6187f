//! Carries out plans, one step at a time: plan, hold the keys, look whether the plan still stands, do it, store the outcome.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::bodies::Bodies;
use super::error::SyncError;
use super::keys::Keys;
use super::plan::{Step, Subject, plan};
use super::receipts::Receipts;
use super::records::{keys_of, new_key, subject};
use super::retry::{Verdict, verdict};
use super::rules::Rules;
use super::transfer::{Sent, Upload, Version};
use crate::cache::{Cache, CacheError, Merged};
use crate::clock::Clock;
use crate::events::Events;
use crate::meta::{Inode, Meta, MetaError, ObjectRecord, Tx};
use crate::remote::{Condition, RemoteError, RemoteRef};
use crate::types::aside::Why;
use crate::types::{Digest, ETag, FileKind, Ino, Key, Metadata, ShareId};

/// Steps for one item before it makes room for others.
const STEPS_MAX: usize = 64;

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
pub(super) enum Differs {
    /// It does not, and its item is gone.
    NoMore,
    /// Only a new plan can tell.
    Perhaps,
}

/// What is known of an object that was made, beside its version.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Made {
    /// What is in it.
    digest: Option<Digest>,
    /// The store said that it is what completing the upload on record has made. An object that was found in place may be of another one,
    /// whose answer was lost.
    completes: bool,
}

impl Made {
    /// An object that holds this.
    pub(super) fn of(digest: Option<Digest>) -> Self {
        Self { digest, completes: false }
    }
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
    pub(super) rules: BTreeMap<ShareId, Rules>,
    pub(super) receipts: Option<Arc<Receipts>>,
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
                Step::First(other) if at == ino && !self.is_parked(other)? => at = other,
                Step::First(_) => return Ok(Worked::Later),
                Step::Done => at = ino,
                Step::Put { .. }
                | Step::SetMetadata { .. }
                | Step::Move { .. }
                | Step::Descend
                | Step::Aside { .. } => {
                    let differs = match self.perform(share, &subject, step).await {
                        // That is the other's matter, if it still has any.
                        Err(error)
                            if at != ino
                                && matches!(verdict(&error), Verdict::Park | Verdict::Gated) =>
                        {
                            return Ok(Worked::Later);
                        }
                        performed => performed?,
                    };
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
            Step::Put { key, condition } => {
                self.ask_gates(share, subject)?;
                self.put(remote, subject, &key, condition).await
            }
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
                self.settle_by_rule(remote, subject, &key).await.map(perhaps)
            }
            Err(SyncError::Incomplete { key }) => {
                self.settle(remote, subject, &key, Why::Incomplete).await.map(perhaps)
            }
            Err(SyncError::Remote(RemoteError::Occupied { key, .. }))
                if self.clear_way(share, &key)? =>
            {
                Err(SyncError::Changed)
            }
            performed => performed,
        }
    }

    /// Lets go what may stand in the way of `key` since an upload whose answer was lost; whether there is any of it. Who sent it may himself
    /// wait for this place.
    fn clear_way(&self, share: ShareId, key: &Key) -> Result<bool, MetaError> {
        let (key, now) = (key.clone(), self.millis());
        self.meta.write(move |tx| Ok(tx.bury_attempts_around(share, &key, now)? > 0))
    }

    fn is_parked(&self, ino: Ino) -> Result<bool, MetaError> {
        Ok(self.meta.read(|tx| tx.item(ino))?.is_some_and(|item| item.parked))
    }

    fn subject(&self, ino: Ino) -> Result<Option<(ShareId, Subject)>, MetaError> {
        self.meta.read(|tx| subject(tx, ino))
    }

    /// Removes the item, if it is still true that nothing is left to do: a rename may have come in between, which changes nothing
    /// of the inode itself.
    fn done(&self, ino: Ino) -> Result<Worked, SyncError> {
        let now = self.millis();
        Ok(match self.meta.write(move |tx| end_if_done(tx, ino, now))? {
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
            FileKind::Dir => match marker_of_others(remote, inode, key).await? {
                Some(etag) => etag,
                None => remote.put(key, Bytes::new().into(), &metadata, &condition).await?,
            },
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
                    remote.put(key, body.into(), &metadata, &condition).await,
                    remote,
                    inode,
                    key,
                    &metadata,
                    &condition,
                )
                .await?
            }
            FileKind::File => {
                return self.put_content(remote, subject, key, &metadata, &condition).await;
            }
        };
        Ok(self.uploaded(inode, key, &etag, Made::default())?)
    }

    /// Sends the content of a file.
    async fn put_content(
        &self,
        remote: &RemoteRef,
        subject: &Subject,
        key: &Key,
        metadata: &Metadata,
        condition: &Condition,
    ) -> Result<Differs, SyncError> {
        let inode = &subject.inode;
        let version = Version::open(&self.cache, &self.meta, subject)?;
        let upload = Upload {
            bodies: &self.bodies,
            remote,
            version: &version,
            key,
            metadata: metadata.clone(),
            condition,
        };
        let sent = match upload.run().await {
            // Of a part too: whether it could be made of what the cloud had.
            Err(SyncError::Remote(error)) => Ok(Sent { answer: Err(error), digest: None }),
            sent => sent,
        };
        let (etag, made) = match sent {
            Ok(Sent { answer: Ok(etag), digest }) => (etag, Made { digest, completes: true }),
            Ok(Sent { answer, digest }) => {
                let known = self.conditional(answer, remote, inode, key, metadata, condition).await;
                match known {
                    // The rest was to be what the cloud has.
                    Err(SyncError::Conflict { key })
                        if !version.backing().is_whole()
                            && !self.has_base(remote, subject.file).await? =>
                    {
                        return Err(SyncError::Incomplete { key });
                    }
                    known => (known?, Made::of(digest)),
                }
            }
            // What is not here of it was to come from a version that is there no more: ours may be there instead.
            Err(lost) if lost.is_base_gone() => {
                if self.has_base(remote, subject.file).await? {
                    return Err(SyncError::Changed);
                }
                let gone = Err(RemoteError::Precondition { key: key.clone() });
                match self.conditional(gone, remote, inode, key, metadata, condition).await {
                    Err(
                        SyncError::Conflict { key }
                        | SyncError::Remote(RemoteError::Precondition { key }),
                    ) => {
                        tracing::error!(%key, error = &lost as &dyn std::error::Error, "part of a changed file was never fetched, and is lost");
                        return Err(SyncError::Incomplete { key });
                    }
                    known => (known?, Made::default()),
                }
            }
            Err(error) => return Err(error),
        };
        let differs = self.uploaded(inode, key, &etag, made)?;
        // What is open for writing is noted when it is closed.
        if !self.meta.read(|tx| tx.is_writing(subject.file))? {
            self.cache.remember(version.backing())?;
        }
        Ok(differs)
    }

    /// Stores that `ino` may have an object `key` from now on: if the answer is lost and then the file deleted or renamed,
    /// nothing else would know of it.
    pub(super) fn attempt(&self, ino: Ino, share: ShareId, key: &Key) -> Result<(), SyncError> {
        let key = key.clone();
        self.meta.write(move |tx| match tx.inode(ino)? {
            Some(inode) if inode.attr.nlink > 0 => Ok(tx.attempt(ino, share, &key)?),
            Some(_) | None => Err(SyncError::Changed),
        })
    }

    /// Stores that the object `key`, version `etag`, holds what `inode` was when its upload was planned.
    fn uploaded(
        &self,
        inode: &Inode,
        key: &Key,
        etag: &ETag,
        made: Made,
    ) -> Result<Differs, MetaError> {
        self.holds(inode, key, etag, (inode.content, inode.attrs), made)
    }

    /// Stores that the object `key`, version `etag`, is what `inode` was at the version `content`, `attrs`. What its content is stays as
    /// it was on record, if that was of the same content and nothing else is known.
    pub(super) fn holds(
        &self,
        inode: &Inode,
        key: &Key,
        etag: &ETag,
        (content, attrs): (u64, u64),
        Made { digest, completes }: Made,
    ) -> Result<Differs, MetaError> {
        let (ino, share) = (inode.ino, inode.share);
        let (key, etag, now) = (key.clone(), etag.clone(), self.millis());
        // Of an earlier version, whose answer was lost, the length is not known any more.
        let size = (inode.content == content).then_some(inode.attr.size);
        let receipts = inode.attr.kind == FileKind::File && self.receipts.is_some();
        self.meta.write(move |tx| {
            tx.remove_tombstone(share, &key)?;
            end_upload(tx, ino, &key, content, completes)?;
            match tx.inode(ino)? {
                Some(mut inode) if inode.attr.nlink > 0 => {
                    let is_new = inode.object.as_ref().is_none_or(|old| {
                        old.etag.is_none() || old.content != content || old.key != key
                    });
                    let old = inode.object.as_ref().filter(|old| old.content == content);
                    let digest = digest.or(old.and_then(|old| old.digest));
                    if receipts && is_new {
                        tx.add_receipt(share, ino, &key, (size, digest), &etag, now)?;
                    }
                    if let Some(old) = inode.object.take()
                        && old.key != key
                        && old.etag.is_some()
                    {
                        tx.bury(share, &old.key, old.etag.as_ref(), ino, now)?;
                    }
                    tx.end_attempts(ino, share, Some(&key), now)?;
                    inode.object =
                        Some(ObjectRecord { key, etag: Some(etag), content, attrs, digest });
                    tx.put_inode(&inode)?;
                }
                // It lost its name meanwhile: then so does the object.
                Some(_) | None => tx.bury(share, &key, Some(&etag), ino, now)?,
            }
            end_if_done(tx, ino, now)
        })
    }

    async fn set_metadata(
        &self,
        remote: &RemoteRef,
        subject: &Subject,
        key: &Key,
        expect: &ETag,
    ) -> Result<Differs, SyncError> {
        let inode = &subject.inode;
        let mut metadata = self.metadata(subject, key)?;
        let digest = inode.object.as_ref().and_then(|object| object.digest);
        digest.iter().for_each(|digest| digest.write(&mut metadata));
        match remote.set_metadata(key, &metadata, expect).await {
            Ok(etag) => Ok(self.uploaded(inode, key, &etag, Made::of(digest))?),
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
                        &Condition::Match(expect.clone()),
                    )
                    .await;
                match etag {
                    Ok(etag) => Ok(self.uploaded(inode, key, &etag, Made::of(digest))?),
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

    /// Counts `inode` as uploaded, so that what the cloud has may come in.
    pub(super) fn give_way(&self, inode: &Inode) -> Result<(), MetaError> {
        let Inode { ino, content, attrs, .. } = *inode;
        self.meta.write(move |tx| {
            let Some(mut inode) = tx.inode(ino)? else { return Ok(()) };
            if let Some(object) = &mut inode.object {
                (object.content, object.attrs) = (content, attrs);
            }
            tx.put_inode(&inode)
        })
    }

    pub(super) fn announce(&self, share: ShareId, merged: Merged) {
        let Merged { inodes, attributes, names, .. } = merged;
        self.events.announce(share, inodes, attributes, names);
    }

    pub(super) fn rules(&self, share: ShareId) -> Rules {
        self.rules.get(&share).cloned().unwrap_or_default()
    }

    pub(super) fn millis(&self) -> i64 {
        self.clock.wall().millis()
    }
}

/// The version of a directory's marker that others may have made: a listing shows it as if there were none. Then theirs stays, and its
/// attributes are read when somebody wants them.
async fn marker_of_others(
    remote: &RemoteRef,
    inode: &Inode,
    key: &Key,
) -> Result<Option<ETag>, RemoteError> {
    let is_implied = inode.object.as_ref().is_some_and(|object| object.etag.is_none());
    if inode.attrs_known || !is_implied {
        return Ok(None);
    }
    match remote.head(key).await {
        Ok(there) => Ok(Some(there.etag)),
        Err(RemoteError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the object `key` is what the name of `ino` asks for. It may have another name by now, where nothing is in the way.
pub(super) fn is_for(tx: &Tx<'_>, ino: Ino, key: &Key) -> Result<bool, MetaError> {
    let Some((_, Subject { wanted, at_home, inode, .. })) = subject(tx, ino)? else {
        return Ok(false);
    };
    let has = inode.object.is_some_and(|object| object.key == *key);
    Ok(at_home && has || matches!(wanted, Some(Ok(wanted)) if wanted == *key))
}

/// Ends the upload in parts of `ino` now that its object `key` holds the version `content`, if that did not complete it already. One of
/// a later version goes on.
fn end_upload(
    tx: &Tx<'_>,
    ino: Ino,
    key: &Key,
    content: u64,
    completes: bool,
) -> Result<(), MetaError> {
    match tx.multipart(ino)? {
        Some((upload, _)) if completes && upload.content == content && upload.key == *key => {
            tx.complete_multipart(ino)
        }
        Some((upload, _)) if upload.content > content => Ok(()),
        Some(_) | None => tx.abandon_multipart(ino),
    }
}

/// Removes the item of `ino` if nothing is left to do. What it may have where it was to go meanwhile goes then.
fn end_if_done(tx: &Tx<'_>, ino: Ino, now: i64) -> Result<Differs, MetaError> {
    if let Some((share, subject)) = subject(tx, ino)? {
        if plan(&subject) != Step::Done {
            return Ok(Differs::Perhaps);
        }
        let kept = subject.inode.object.map(|object| object.key);
        tx.end_attempts(ino, share, kept.as_ref(), now)?;
    }
    tx.remove_item(ino)?;
    Ok(Differs::NoMore)
}
