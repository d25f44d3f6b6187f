//! Objects of deleted files go: each alone, or many by one request. Only the version that we know is ever deleted.

use policies::Deletes;

use super::error::SyncError;
use super::records::is_wanted;
use super::worker::{Worked, Worker};
use crate::cache::CacheError;
use crate::meta::{MetaError, Tombstone, Tx};
use crate::remote::{Condition, RemoteError, RemoteRef};
use crate::types::{ETag, Ino, Key, ShareId};

/// What is to become of a deleted file's object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// The key is somebody's again.
    Claimed,
    /// Not now: whoever has that name now replaces the object; deleting it first would leave a gap. And a directory goes
    /// after what is in it: a store that has real directories keeps one that is not empty.
    Later,
    /// It goes.
    Delete,
}

fn fate(tx: &Tx<'_>, share: ShareId, key: &Key) -> Result<Option<(Tombstone, Fate)>, MetaError> {
    let Some(tombstone) = tx.tombstone(share, key)? else { return Ok(None) };
    let fate = if tx.inode_by_key(share, key)?.is_some() {
        Fate::Claimed
    } else if is_wanted(tx, share, key)? || tx.is_tombstone_below(share, key)? {
        Fate::Later
    } else {
        Fate::Delete
    };
    Ok(Some((tombstone, fate)))
}

/// The tombstone is fulfilled, unless it is another one by now.
fn settle(
    tx: &Tx<'_>,
    share: ShareId,
    key: &Key,
    was: &(Option<ETag>, Ino),
) -> Result<Worked, MetaError> {
    match tx.tombstone(share, key)? {
        Some(now) if (&now.etag, now.ino) != (&was.0, was.1) => Ok(Worked::Later),
        Some(_) | None => tx.remove_tombstone(share, key).map(|()| Worked::Done),
    }
}

/// An object that is to go: its key, its version, and whose it was.
type Doomed = (Key, ETag, Ino);

impl Worker {
    /// How many objects of `share` one request deletes. Where the rule is to keep them or to move them to the trash, each goes alone.
    pub(super) fn deletes_max(&self, share: ShareId) -> usize {
        match self.rules(share).deletes {
            Deletes::Keep | Deletes::Trash => 1,
            Deletes::Propagate => {
                self.cache.remote(share).map_or(1, |remote| remote.limits().deletes_max)
            }
        }
    }

    /// Deletes the object of a deleted file, unless the key is somebody's again.
    pub(super) async fn delete(&self, share: ShareId, key: &Key) -> Result<Worked, SyncError> {
        let _held = self.keys.hold(share, vec![key.clone()]).await;
        self.delete_held(share, key).await
    }

    async fn delete_held(&self, share: ShareId, key: &Key) -> Result<Worked, SyncError> {
        // Only now: while we waited for the key, it may have become another file's, and that deleted too.
        let found = self.meta.read(|tx| fate(tx, share, key))?;
        let Some((tombstone, fate)) = found else { return Ok(Worked::Done) };
        let Tombstone { ref etag, ino, .. } = tombstone;
        match fate {
            Fate::Later => return Ok(Worked::Later),
            Fate::Claimed => {}
            Fate::Delete => {
                tracing::debug!(%key, ?etag, %ino, "a deletion");
                let remote = self.cache.remote(share).ok_or(CacheError::Lost(ino))?;
                match self.rule_for(share, &tombstone)? {
                    Deletes::Propagate => {}
                    Deletes::Keep => return self.keep(remote, &tombstone).await,
                    Deletes::Trash => return self.throw_away(remote, &tombstone).await,
                }
                let deleted = match etag {
                    Some(etag) => remote.delete(key, &Condition::Match(etag.clone())).await,
                    None => Err(RemoteError::Precondition { key: key.clone() }),
                };
                match deleted {
                    Err(RemoteError::Precondition { .. }) => {
                        match self.delete_unstored(remote, key, etag.as_ref()).await {
                            Err(SyncError::Remote(error))
                                if etag.is_none() && error.is_about_key() => {}
                            deleted => deleted?,
                        }
                    }
                    deleted => deleted?,
                }
            }
        }
        self.cache.deleted(share, key);
        let (key, was) = (key.clone(), (tombstone.etag, ino));
        Ok(self.meta.write(move |tx| settle(tx, share, &key, &was))?)
    }

    /// Deletes the objects of many deleted files by as few requests as the store lets us; the others one by one. Says what came of each.
    pub(super) async fn delete_many(
        &self,
        share: ShareId,
        keys: &[Key],
    ) -> Vec<(Key, Result<Worked, SyncError>)> {
        let _held = self.keys.hold(share, keys.to_vec()).await;
        let (together, alone) = match self.parted(share, keys) {
            Ok(parted) => parted,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "what is to be deleted can't be read"
                );
                (Vec::new(), keys.to_vec())
            }
        };
        let mut outcomes = Vec::with_capacity(keys.len());
        let alone = match self.delete_together(share, together, &mut outcomes).await {
            Ok(left) => [alone, left].concat(),
            Err((error, left)) => {
                // The store as a whole: each of them will meet the same.
                let first = left.into_iter().next();
                outcomes.extend(first.map(|key| (key, Err(error))));
                return outcomes;
            }
        };
        for key in alone {
            let worked = self.delete_held(share, &key).await;
            let over = matches!(worked, Err(SyncError::Remote(RemoteError::Unreachable { .. })));
            outcomes.push((key, worked));
            if over {
                break;
            }
        }
        outcomes
    }

    /// Those of `keys` that a request for many may name, with their tombstones; and the others.
    fn parted(&self, share: ShareId, keys: &[Key]) -> Result<(Vec<Doomed>, Vec<Key>), MetaError> {
        let found = self.meta.read(|tx| -> Result<Vec<_>, MetaError> {
            keys.iter().map(|key| Ok((key, fate(tx, share, key)?))).collect()
        })?;
        let (mut together, mut alone) = (Vec::new(), Vec::new());
        for (key, found) in found {
            let doomed = match found {
                Some((tombstone, Fate::Delete)) => match self.rule_for(share, &tombstone)? {
                    Deletes::Propagate => tombstone.etag.map(|etag| (etag, tombstone.ino)),
                    Deletes::Keep | Deletes::Trash => None,
                },
                Some((_, Fate::Claimed | Fate::Later)) | None => None,
            };
            match doomed {
                Some((etag, ino)) => together.push((key.clone(), etag, ino)),
                None => alone.push(key.clone()),
            }
        }
        Ok((together, alone))
    }

    /// Deletes objects by one request. Returns those that need a look of their own; or why the store did nothing, and all that are left.
    async fn delete_together(
        &self,
        share: ShareId,
        objects: Vec<Doomed>,
        outcomes: &mut Vec<(Key, Result<Worked, SyncError>)>,
    ) -> Result<Vec<Key>, (SyncError, Vec<Key>)> {
        let all = || objects.iter().map(|(key, ..)| key.clone()).collect::<Vec<_>>();
        let Some(remote) = self.cache.remote(share).filter(|_| objects.len() > 1) else {
            return Ok(all());
        };
        tracing::debug!(objects = objects.len(), "deletions");
        let named: Vec<_> =
            objects.iter().map(|(key, etag, _)| (key.clone(), etag.clone())).collect();
        let deleted = match remote.delete_many(&named).await {
            Ok(deleted) => deleted,
            Err(
                error @ (RemoteError::Unreachable { .. }
                | RemoteError::Denied { .. }
                | RemoteError::NoContainer { .. }),
            ) => return Err((error.into(), all())),
            Err(error) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "one by one, then");
                return Ok(all());
            }
        };
        let (mut gone, mut left) = (Vec::new(), Vec::new());
        for ((key, etag, ino), deleted) in objects.iter().zip(deleted) {
            match deleted {
                Ok(()) => {
                    self.cache.deleted(share, key);
                    gone.push((key.clone(), (Some(etag.clone()), *ino)));
                }
                // It may be another version of ours.
                Err(RemoteError::Precondition { .. }) => left.push(key.clone()),
                Err(error) => outcomes.push((key.clone(), Err(error.into()))),
            }
        }
        let settled = self.meta.write(move |tx| -> Result<_, MetaError> {
            gone.into_iter().map(|(key, was)| Ok((settle(tx, share, &key, &was)?, key))).collect()
        });
        let settled: Vec<(Worked, Key)> = settled.map_err(|error| (error.into(), all()))?;
        outcomes.extend(settled.into_iter().map(|(worked, key)| (key, Ok(worked))));
        Ok(left)
    }

    /// Deletes an object that is not the version we know, if it is another one of ours: its answer was lost. No file has it, and of one
    /// with several names it may have been another name's.
    async fn delete_unstored(
        &self,
        remote: &RemoteRef,
        key: &Key,
        known: Option<&ETag>,
    ) -> Result<(), SyncError> {
        match remote.head(key).await {
            Err(RemoteError::NotFound { .. }) => Ok(()),
            // The store was wrong to refuse.
            Ok(there) if Some(&there.etag) == known => {
                Err(RemoteError::Precondition { key: key.clone() }.into())
            }
            Ok(there) if self.is_marked(&there) => {
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
}
