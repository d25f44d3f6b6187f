//! Objects whose files were deleted here, as the share's rule has it: they go, stay, or are moved to the trash inside the store; and
//! the way back from there.

use std::time::Duration;

use bytes::Bytes;
use policies::Deletes;

use super::error::SyncError;
use super::worker::{Worked, Worker};
use crate::meta::{MetaError, Tombstone, Trashed};
use crate::remote::{Condition, Object, RemoteError, RemoteRef};
use crate::types::{Key, ShareId};

/// Below the root of a share, where no file can be.
const TRASH: &str = ".fsd/trash";
/// The longest key that every store takes.
const KEY_BYTES_MAX: usize = 1024;
/// Objects that are deleted for good between two looks at the clock.
const EMPTIED_AT_ONCE: usize = 100;

/// Where the object `key` lies in the trash, whose file `ino` of the gateway was deleted at `at`.
fn trash_key(key: &Key, gateway: &str, tombstone: &Tombstone) -> Key {
    let stamp = jiff::Timestamp::from_millisecond(tombstone.since).map_or_else(
        |_| tombstone.since.to_string(),
        |at| at.strftime("%Y%m%dT%H%M%SZ").to_string(),
    );
    let folder = format!("{TRASH}/{stamp}-{gateway}-{}", tombstone.ino);
    let whole = format!("{folder}/{key}");
    if whole.len() <= KEY_BYTES_MAX {
        return Key::from_raw(whole);
    }
    let path = key.as_str().trim_end_matches('/');
    let end = if key.is_dir() { "/" } else { "" };
    let name = path.rsplit('/').next().unwrap_or_default();
    Key::from_raw(format!("{folder}/{name}{end}"))
}

impl Worker {
    /// What the rule says of the object of a deleted file, if not that it is to be deleted. Whose file lives on has only moved.
    pub(super) fn rule_for(
        &self,
        share: ShareId,
        tombstone: &Tombstone,
    ) -> Result<Deletes, MetaError> {
        let rule = self.rules(share).deletes;
        if rule == Deletes::Propagate {
            return Ok(rule);
        }
        let lives = self.meta.read(|tx| tx.inode(tombstone.ino))?;
        let lives = lives.is_some_and(|inode| inode.attr.nlink > 0);
        Ok(if lives { Deletes::Propagate } else { rule })
    }

    /// Leaves the object where it is, and remembers not to show it.
    pub(super) async fn keep(
        &self,
        remote: &RemoteRef,
        tombstone: &Tombstone,
    ) -> Result<Worked, SyncError> {
        let (share, key) = (tombstone.share, tombstone.key.clone());
        let etag = match &tombstone.etag {
            Some(etag) => Some(etag.clone()),
            None => self.last_of_ours(remote, tombstone).await?.map(|there| there.etag),
        };
        self.meta.write(move |tx| -> Result<(), MetaError> {
            tx.remove_tombstone(share, &key)?;
            match &etag {
                // Directories of which something stays are shown again: they are but what their objects have in common.
                Some(etag) if !key.is_dir() => tx.keep_object(share, &key, etag),
                Some(_) | None => Ok(()),
            }
        })?;
        Ok(Worked::Done)
    }

    /// Moves the object to the trash: a copy first, then it is deleted, if it still is that version.
    pub(super) async fn throw_away(
        &self,
        remote: &RemoteRef,
        tombstone: &Tombstone,
    ) -> Result<Worked, SyncError> {
        let (share, key) = (tombstone.share, tombstone.key.clone());
        let mut trashed = None;
        if let Some(there) = self.last_of_ours(remote, tombstone).await? {
            let to = trash_key(&key, &self.gateway, tombstone);
            let metadata = there.metadata.clone().unwrap_or_default();
            // Nobody else has such a key: what is there is an earlier try of ours.
            let always = Condition::Always;
            let etag = if key.is_dir() {
                remote.put(&to, Bytes::new().into(), &metadata, &always).await?
            } else {
                changed(remote.copy(&key, &there.etag, &to, &metadata, &always).await)?
            };
            changed(remote.delete(&key, &Condition::Match(there.etag)).await)?;
            tracing::info!(%key, %to, "a deleted file's object was moved to the trash");
            // When it was deleted is not known of what only may have been there.
            let at = if tombstone.since > 0 { tombstone.since } else { self.millis() };
            let (path, size) = (key.clone(), there.size);
            trashed = Some(Trashed { share, key: to, path, etag, size, at });
        }
        self.cache.deleted(share, &key);
        self.meta.write(move |tx| -> Result<(), MetaError> {
            tx.remove_tombstone(share, &key)?;
            trashed.iter().try_for_each(|trashed| tx.add_trashed(trashed))
        })?;
        Ok(Worked::Done)
    }

    /// The object of a deleted file as it is now, if it is the version we knew or another one of ours.
    async fn last_of_ours(
        &self,
        remote: &RemoteRef,
        tombstone: &Tombstone,
    ) -> Result<Option<Object>, SyncError> {
        let key = &tombstone.key;
        match remote.head(key).await {
            Ok(there) if Some(&there.etag) == tombstone.etag.as_ref() => Ok(Some(there)),
            Ok(there) if self.is_marked(&there) => Ok(Some(there)),
            Ok(_) => {
                tracing::warn!(%key, "a deleted file's object was changed in the cloud and stays there");
                Ok(None)
            }
            Err(RemoteError::NotFound { .. }) => Ok(None),
            Err(error) if tombstone.etag.is_none() && error.is_about_key() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Puts an object from the trash back under the key that it had, where nothing may be; a directory's may, since it has no content.
    pub(super) async fn take_back(&self, trashed: Trashed) -> Result<(), SyncError> {
        let Trashed { share, key, path, etag, .. } = trashed;
        let remote = self.cache.remote(share).ok_or(SyncError::Changed)?;
        let _held = self.keys.hold(share, vec![path.clone()]).await;
        let there = remote.head(&key).await?;
        let metadata = there.metadata.unwrap_or_default();
        if path.is_dir() {
            remote.put(&path, Bytes::new().into(), &metadata, &Condition::Always).await?;
        } else {
            remote.copy(&key, &etag, &path, &metadata, &Condition::Absent).await?;
        }
        remote.delete(&key, &Condition::Match(etag)).await?;
        Ok(self.meta.write(move |tx| tx.remove_trashed(share, &key))?)
    }

    /// Deletes for good what of `share` lies in the trash since before `until`; tells how many objects that were.
    pub(super) async fn empty(&self, share: ShareId, until: i64) -> Result<u64, SyncError> {
        let Some(remote) = self.cache.remote(share) else { return Ok(0) };
        let mut emptied = 0;
        loop {
            let found = self.meta.read(|tx| tx.trashed(share, until, EMPTIED_AT_ONCE))?;
            if found.is_empty() {
                return Ok(emptied);
            }
            for Trashed { key, etag, .. } in found {
                match remote.delete(&key, &Condition::Match(etag)).await {
                    // Somebody put something else there: that is his.
                    Ok(()) | Err(RemoteError::Precondition { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
                self.meta.write(move |tx| tx.remove_trashed(share, &key))?;
                emptied += 1;
            }
        }
    }

    /// Lets go what was kept long enough: in the trash, and set aside on this gateway.
    pub(super) async fn let_go(&self) -> Result<(), SyncError> {
        let now = self.millis();
        let before = |kept: Duration| now - i64::try_from(kept.as_millis()).unwrap_or(i64::MAX);
        for share in self.cache.cloud_shares() {
            let emptied = self.empty(share, before(self.rules(share).trash_retention)).await?;
            if emptied > 0 {
                tracing::info!(%share, objects = emptied, "their time in the trash is over");
            }
        }
        for conflict in self.meta.scan(|tx| tx.conflicts(usize::MAX))? {
            let is_over = conflict.at < before(self.rules(conflict.share).conflicts_retention);
            // One that both go on from waits for a person as long as it takes.
            if is_over && conflict.ino.is_none() {
                if let Some(name) = &conflict.aside {
                    tracing::info!(path = %String::from_utf8_lossy(&conflict.path), "the time of a version that was set aside is over");
                    self.cache.drop_aside(name).map_err(crate::cache::CacheError::from)?;
                }
                self.meta.write(move |tx| tx.remove_conflict(conflict.id))?;
            }
        }
        Ok(())
    }
}

/// What came of a request about one version; if there is another one by now, it is looked at again.
fn changed<T>(outcome: Result<T, RemoteError>) -> Result<T, SyncError> {
    match outcome {
        Err(RemoteError::Precondition { .. } | RemoteError::NotFound { .. }) => {
            Err(SyncError::Changed)
        }
        outcome => Ok(outcome?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{ETag, Ino};

    #[test]
    fn a_place_in_the_trash_tells_when_and_from_where_and_is_no_longer_than_may_be() {
        let tombstone = |key: &str| Tombstone {
            share: ShareId(1),
            key: Key::from_raw(key),
            etag: Some(ETag("e".into())),
            ino: Ino(7),
            since: 1_795_000_000_000,
            due: 0,
            tries: 0,
            parked: false,
            error: None,
            code: None,
        };
        let near = tombstone("dir/a.jpg");
        let place = trash_key(&near.key, "gw", &near);
        assert_eq!(place.as_str(), ".fsd/trash/20261118T110640Z-gw-7/dir/a.jpg");
        let deep = tombstone(&format!("{}/a.jpg", vec!["d".repeat(100); 10].join("/")));
        let place = trash_key(&deep.key, "gw", &deep);
        assert_eq!(place.as_str(), ".fsd/trash/20261118T110640Z-gw-7/a.jpg");
        let dir = tombstone(&format!("{}/last/", vec!["d".repeat(100); 10].join("/")));
        let place = trash_key(&dir.key, "gw", &dir);
        assert_eq!(place.as_str(), ".fsd/trash/20261118T110640Z-gw-7/last/");
    }
}
