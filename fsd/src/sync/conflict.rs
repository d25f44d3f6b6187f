//! Both sides changed a file: what the share's rule makes of that, and what is recorded of it.

use policies::Conflicts;
use policies::sides::Ours;

use super::error::SyncError;
use super::plan::Subject;
use super::worker::{Worker, is_for};
use crate::cache::CacheError;
use crate::events::Invalidation;
use crate::meta::{Conflict, Inode, MetaError, ObjectRecord, Tx};
use crate::remote::{Object, RemoteError, RemoteRef};
use crate::types::aside::{self, Why, name_aside};
use crate::types::{FileKind, Ino, Key, PosixMeta};

impl Worker {
    /// Settles that the cloud has another version of `subject` at `key`.
    pub(super) async fn settle_by_rule(
        &self,
        remote: &RemoteRef,
        subject: &Subject,
        key: &Key,
    ) -> Result<(), SyncError> {
        let Subject { inode, file, .. } = subject;
        let is_file = inode.attr.kind == FileKind::File;
        let has_one_name = *file == inode.ino && inode.attr.nlink == 1;
        let is_whole = !is_file || self.cache.backing(*file)?.is_whole();
        let rule = self.rules(inode.share).conflicts;
        let moves = inode.object.as_ref().is_some_and(|object| object.key != *key);
        let rule = rule.about(Ours { is_file, is_whole, has_one_name, moves });
        if rule == Conflicts::KeepBoth {
            return self.settle(remote, subject, key, Why::Conflict).await;
        }
        match remote.head(key).await {
            Ok(there) if rule == Conflicts::LocalWins => self.overrule(subject, there),
            Ok(there) => self.give_in(subject, there),
            // A file deleted there and changed here is put again.
            Err(RemoteError::NotFound { .. }) => {
                self.settle(remote, subject, key, Why::Conflict).await
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Ours takes the place of the very version that was seen: from here on that counts as an old one of ours.
    fn overrule(&self, subject: &Subject, there: Object) -> Result<(), SyncError> {
        let conflict = self.conflict(subject, &there, Conflicts::LocalWins)?;
        let (ino, file, share) = (subject.inode.ino, subject.file, subject.inode.share);
        if subject.inode.attr.kind == FileKind::File {
            // From here on nothing of it can come from the version that it was made from.
            self.cache.backing(file)?.file().sync_data().map_err(CacheError::from)?;
        }
        self.meta.write(move |tx| -> Result<(), MetaError> {
            let Some(mut inode) = tx.inode(ino)?.filter(|inode| inode.attr.nlink > 0) else {
                return Ok(());
            };
            if !is_for(tx, ino, &there.key)? {
                return Ok(());
            }
            let known = inode.object.as_ref().is_some_and(|object| object.key == there.key);
            if !known && (inode.object.is_some() || tx.inode_by_key(share, &there.key)?.is_some()) {
                // It is somebody's by now.
                return Ok(());
            }
            tx.set_presence(file, None)?;
            let (key, etag) = (there.key.clone(), Some(there.etag.clone()));
            // No version of ours has these numbers: all of it is to go up.
            inode.object = Some(ObjectRecord { key, etag, content: 0, attrs: 0, digest: None });
            tx.put_inode(&inode)?;
            tracing::warn!(key = %there.key, etag = %there.etag, "both sides changed a file: ours takes the place of the cloud's");
            tx.add_conflict(&conflict)
        })?;
        Ok(())
    }

    /// The cloud's version takes the place of ours, which is set aside on this gateway.
    fn give_in(&self, subject: &Subject, there: Object) -> Result<(), SyncError> {
        let (ino, planned) = (subject.inode.ino, subject.inode.content);
        let mut conflict = self.conflict(subject, &there, Conflicts::CloudWins)?;
        let name = format!("{}-{ino}", conflict.at);
        self.cache.set_aside(self.cache.backing(ino)?.as_ref(), &name).map_err(CacheError::from)?;
        conflict.aside = Some(name.clone());
        let share = subject.inode.share;
        let key = there.key.clone();
        let yielded = self.cache.yield_to(ino, there, move |tx, inode| {
            // What somebody writes now is not what was set aside.
            let same = inode.content == planned && inode.attr.nlink == 1;
            if !same || tx.is_writing(ino)? || !is_for(tx, ino, &key)? {
                return Ok(false);
            }
            tracing::warn!(path = %String::from_utf8_lossy(&conflict.path), aside = conflict.aside, "both sides changed a file: the cloud's takes the place of ours, which is set aside");
            tx.add_conflict(&conflict)?;
            Ok(true)
        });
        match yielded {
            Ok(Some(merged)) => {
                self.announce(share, merged);
                Ok(())
            }
            outcome => {
                self.cache.drop_aside(&name).map_err(CacheError::from)?;
                outcome?;
                Err(SyncError::Changed)
            }
        }
    }

    /// Both sides changed: our version goes on under another name, and the cloud's comes in under this one. What is missing of
    /// one that is incomplete counts as zeros from here on.
    pub(super) async fn settle(
        &self,
        remote: &RemoteRef,
        subject: &Subject,
        key: &Key,
        why: Why,
    ) -> Result<(), SyncError> {
        let Subject { inode, file, .. } = subject;
        if why == Why::Incomplete && *file == inode.ino && self.cache.backing(*file)?.has_nothing()
        {
            // Whoever had it open wrote nothing, so nothing is ours.
            return Ok(self.give_way(inode)?);
        }
        let (there, buried) = match remote.head(key).await {
            Ok(there) => {
                let buried = self.is_buried(inode.share, key, &there.etag)?;
                (Some(there), buried)
            }
            Err(RemoteError::NotFound { .. }) => (None, false),
            Err(error) => return Err(error.into()),
        };
        let (ino, share, key, gateway) =
            (inode.ino, inode.share, key.clone(), self.gateway.clone());
        let file = *file;
        let now = self.clock.wall();
        let stamp = aside::stamp(now.secs);
        let renamed = self.meta.write(move |tx| -> Result<Option<(Inode, Vec<u8>)>, MetaError> {
            if !buried {
                tx.remove_tombstone(share, &key)?;
            }
            if !is_for(tx, ino, &key)? {
                return Ok(None);
            }
            let Some(mut inode) = tx.inode(ino)? else { return Ok(None) };
            let before = inode.clone();
            // What we knew is not there any more: this version is put anew, where nothing may be.
            if inode.object.as_ref().is_some_and(|object| object.key == key) {
                inode.object = None;
                tx.put_inode(&inode)?;
            }
            if why == Why::Incomplete {
                tx.set_presence(file, None)?;
            }
            let stays = there.is_none() && why == Why::Conflict;
            let Some((parent, name)) = tx.a_name(ino)?.filter(|_| !stays) else { return Ok(None) };
            let aside = name_aside(&name, why, &gateway, &stamp);
            tracing::warn!(%key, kept_as = %String::from_utf8_lossy(&aside), "both sides changed a file: both are kept");
            if let Some(there) = &there {
                let rule = Conflicts::KeepBoth;
                let conflict = record(tx, &before, file, there, rule, now.millis())?;
                tx.add_conflict(&Conflict { ino: Some(ino), ..conflict })?;
            }
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

    fn conflict(
        &self,
        subject: &Subject,
        there: &Object,
        rule: Conflicts,
    ) -> Result<Conflict, MetaError> {
        let now = self.millis();
        let (inode, file) = (subject.inode.clone(), subject.file);
        self.meta.read(|tx| record(tx, &inode, file, there, rule, now))
    }
}

/// What is recorded of a conflict about `inode`, whose content is that of `file`.
fn record(
    tx: &Tx<'_>,
    inode: &Inode,
    file: Ino,
    there: &Object,
    rule: Conflicts,
    now: i64,
) -> Result<Conflict, MetaError> {
    let attrs = PosixMeta::write(&inode.attr, &tx.xattrs(file)?);
    Ok(Conflict {
        id: 0,
        share: inode.share,
        path: tx.path(inode.ino)?.unwrap_or_default().join(&b'/'),
        rule: rule.to_string(),
        at: now,
        ino: None,
        aside: None,
        size: inode.attr.size,
        // A map from text to text is always JSON.
        attrs: serde_json::to_string(&attrs).unwrap_or_default(),
        base: inode.object.as_ref().and_then(|object| object.etag.clone()),
        their_etag: there.etag.clone(),
        their_size: there.size,
        their_mtime: there.modified.millis(),
    })
}
