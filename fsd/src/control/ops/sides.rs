//! The verbs about what both sides have: conflicts, and the trash.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::OperationError;
use super::gateway::{Gateway, MountedShare, Parts, timestamp, timestamp_of_millis};
use crate::control::api::sides as api;
use crate::meta::{Conflict, MetaError, Trashed};
use crate::types::aside::{Why, name_aside};
use crate::types::{Ino, Key, Metadata, PosixMeta, ShareId, key_of_path, name_of_segment};
use crate::vfs::{RenameHow, VfsError};

/// How long a restore waits for deletions that are under way.
const THROWN_AWAY_PATIENCE: Duration = Duration::from_secs(20);
const THROWN_AWAY_PAUSE: Duration = Duration::from_millis(50);

/// A conflict as it stands.
struct Standing {
    conflict: Conflict,
    /// Where our version is now, if it is a file.
    kept: Option<Vec<Vec<u8>>>,
}

impl Gateway {
    pub(super) fn all_conflicts(&self, limit: usize) -> Result<Vec<api::Conflict>, OperationError> {
        let standing = self.standing(limit)?;
        Ok(standing.into_iter().filter_map(|standing| self.shown(&standing)).collect())
    }

    /// Conflicts that nobody has settled: neither by this verb, nor by deleting our version, nor by putting it in the other's place.
    fn standing(&self, limit: usize) -> Result<Vec<Standing>, OperationError> {
        let (standing, settled) = self.parts.meta.scan(|tx| -> Result<_, MetaError> {
            let (mut standing, mut settled) = (Vec::new(), Vec::new());
            for conflict in tx.conflicts(limit)? {
                let kept = conflict.ino.map(|ino| tx.path(ino)).transpose()?.flatten();
                let is_kept = kept.as_ref().is_some_and(|path| path.join(&b'/') != conflict.path);
                if conflict.ino.is_none() || is_kept {
                    standing.push(Standing { conflict, kept });
                } else {
                    settled.push(conflict.id);
                }
            }
            Ok((standing, settled))
        })?;
        if !settled.is_empty() {
            self.parts.meta.write(move |tx| -> Result<(), MetaError> {
                settled.into_iter().try_for_each(|id| tx.remove_conflict(id))
            })?;
        }
        Ok(standing)
    }

    fn shown(&self, standing: &Standing) -> Option<api::Conflict> {
        let Standing { conflict, kept } = standing;
        let mount = self.mount_with(conflict.share)?;
        let posix = posix_of(conflict);
        let retention = self.retention(conflict.share).0;
        Some(api::Conflict {
            id: conflict.id.unsigned_abs(),
            share: mount.name.clone(),
            path: path_in(mount, &conflict.path),
            kept_as: kept.as_ref().map(|path| path_in(mount, &path.join(&b'/'))),
            rule: conflict.rule.clone(),
            at: timestamp_of_millis(conflict.at),
            ours: api::Version {
                bytes: conflict.size,
                modified: posix.mtime.map(timestamp),
                etag: conflict.base.as_ref().map(ToString::to_string),
            },
            theirs: api::Version {
                bytes: conflict.their_size,
                modified: Some(timestamp_of_millis(conflict.their_mtime)),
                etag: Some(conflict.their_etag.to_string()),
            },
            until: conflict.aside.as_ref().map(|_| after(conflict.at, retention)),
        })
    }

    pub(super) async fn settle(
        &self,
        settle: &api::Settle,
    ) -> Result<api::Conflict, OperationError> {
        let (mount, below) = self.mount_of(&settle.path)?;
        let asked = below.as_os_str().as_bytes();
        let is_meant = |standing: &Standing| {
            let kept = standing.kept.as_ref().is_some_and(|path| path.join(&b'/') == asked);
            standing.conflict.share == mount.share && (kept || standing.conflict.path == asked)
        };
        // The latest of it, if there are several.
        let standing = self.standing(usize::MAX)?.into_iter().find(is_meant);
        let standing = standing.ok_or_else(|| {
            OperationError::Nonsense(format!(
                "no conflict about {} is known; `fsd conflicts` shows all",
                settle.path.display()
            ))
        })?;
        let shown =
            self.shown(&standing).ok_or(OperationError::NoMount { path: settle.path.clone() })?;
        let Standing { conflict, kept } = standing;
        match (kept, &conflict.aside) {
            (Some(kept), _) => self.settle_kept(mount, &conflict, &kept, settle.keep).await?,
            (None, Some(aside)) => {
                let file = self
                    .parts
                    .cache
                    .open_aside(aside)
                    .map_err(|error| OperationError::Failed(Box::new(error)))?;
                self.settle_aside(mount, &conflict, &file, settle.keep).await?;
            }
            (None, None) if settle.keep == api::Keep::Mine => {}
            (None, None) => {
                return Err(OperationError::Nonsense(format!(
                    "ours took the place of the cloud's version of {}, as the share's rule says: only the store itself may still have \
                     that, if it keeps versions; `--keep mine` settles it",
                    settle.path.display()
                )));
            }
        }
        if let Some(aside) = &conflict.aside {
            let dropped = self.parts.cache.drop_aside(aside);
            dropped.map_err(|error| OperationError::Failed(Box::new(error)))?;
        }
        let id = conflict.id;
        self.parts.meta.write(move |tx| tx.remove_conflict(id))?;
        Ok(shown)
    }

    /// Both versions are files.
    async fn settle_kept(
        &self,
        mount: &MountedShare,
        conflict: &Conflict,
        kept: &[Vec<u8>],
        keep: api::Keep,
    ) -> Result<(), OperationError> {
        let vfs = &self.parts.vfs;
        let (from, name) = self.place(mount, kept).await?;
        match keep {
            api::Keep::Both => Ok(()),
            api::Keep::Theirs => vfs.take_away(from, name).map_err(failed),
            api::Keep::Mine => {
                let path = names_of(&conflict.path);
                let (to, as_name) = self.place(mount, &path).await?;
                vfs.move_over((from, name), (to, as_name)).await.map_err(failed)
            }
        }
    }

    /// Ours is set aside.
    async fn settle_aside(
        &self,
        mount: &MountedShare,
        conflict: &Conflict,
        aside: &std::fs::File,
        keep: api::Keep,
    ) -> Result<(), OperationError> {
        let path = names_of(&conflict.path);
        let (name, how) = match (keep, path.last()) {
            (api::Keep::Theirs, _) | (_, None) => return Ok(()),
            (api::Keep::Mine, Some(name)) => (name.clone(), RenameHow::Replace),
            (api::Keep::Both, Some(name)) => {
                let stamp = timestamp_of_millis(conflict.at).strftime("%Y%m%dT%H%M%SZ").to_string();
                let gateway = self.parts.sync.gateway();
                (name_aside(name, Why::Conflict, gateway, &stamp), RenameHow::NoReplace)
            }
        };
        let (parent, _) = self.place(mount, &path).await?;
        let beside = format!(".fsd-settle-{}", conflict.id);
        let vfs = &self.parts.vfs;
        let posix = posix_of(conflict);
        let given = vfs.give_back((parent, &name), beside.as_bytes(), aside, &posix, how);
        given.await.map_err(failed)
    }

    /// The directory and the name of `path`.
    async fn place<'p>(
        &self,
        mount: &MountedShare,
        path: &'p [Vec<u8>],
    ) -> Result<(Ino, &'p [u8]), OperationError> {
        let Some((name, dir)) = path.split_last() else {
            return Err(OperationError::NoFile { path: mount.path.clone() });
        };
        match self.parts.vfs.resolve(mount.root, dir).await {
            Ok(dir) => Ok((dir, name)),
            Err(VfsError::NoEntry | VfsError::NotDir) => {
                Err(OperationError::NoFile { path: path_in(mount, &dir.join(&b'/')) })
            }
            Err(error) => Err(failed(error)),
        }
    }

    pub(super) fn all_trashed(&self, limit: usize) -> Result<Vec<api::Trashed>, OperationError> {
        let mut all = Vec::new();
        for mount in &self.parts.mounts {
            let room = limit.saturating_sub(all.len());
            let of_share = self.parts.meta.scan(|tx| tx.trashed(mount.share, i64::MAX, room))?;
            let retention = self.retention(mount.share).1;
            all.extend(of_share.into_iter().map(|trashed| api::Trashed {
                share: mount.name.clone(),
                path: path_in(mount, &names_of_key(&trashed.path).join(&b'/')),
                bytes: trashed.size,
                key: trashed.key.to_string(),
                deleted: timestamp_of_millis(trashed.at),
                until: after(trashed.at, retention),
            }));
        }
        Ok(all)
    }

    pub(super) async fn restore_from_trash(
        &self,
        path: &Path,
    ) -> Result<api::Restored, OperationError> {
        let (mount, below) = self.mount_of(path)?;
        let names: Vec<Vec<u8>> = below.iter().map(|name| name.as_bytes().to_vec()).collect();
        let key = key_of_path(names.iter().map(Vec::as_slice), false)
            .map_err(|error| OperationError::Nonsense(error.to_string()))?;
        self.until_thrown_away(mount, &key, path).await?;
        let mut found = self.parts.meta.scan(|tx| -> Result<_, MetaError> {
            let mut found = tx.trashed_at(mount.share, &key)?;
            if !found.is_empty() {
                found.extend(tx.trashed_above(mount.share, &key)?);
            }
            Ok(found)
        })?;
        // Of one path, what was deleted last.
        let mut seen = BTreeSet::new();
        found.retain(|trashed| seen.insert(trashed.path.clone()));
        if found.is_empty() {
            return Err(OperationError::Nonsense(format!(
                "nothing of {} is in the trash; `fsd trash list` shows what is",
                path.display()
            )));
        }
        // Directories before what was in them.
        found.sort_by(|a, b| a.path.cmp(&b.path));
        let mut restored = api::Restored::default();
        for trashed in found {
            let is_dir = trashed.path.is_dir();
            match self.restore_one(mount, trashed).await {
                Ok(()) if is_dir => restored.directories += 1,
                Ok(()) => restored.files += 1,
                // It keeps what it has.
                Err(OperationError::Nonsense(_)) if is_dir => {}
                Err(OperationError::Nonsense(why)) => restored.left.push(why),
                Err(error) => return Err(error),
            }
        }
        Ok(restored)
    }

    /// Waits until all that was deleted at `key` and below it is where it can be restored from.
    async fn until_thrown_away(
        &self,
        mount: &MountedShare,
        key: &Key,
        path: &Path,
    ) -> Result<(), OperationError> {
        let Parts { meta, clock, .. } = &self.parts;
        let (share, dir) = (mount.share, Key::from_raw(format!("{key}/")));
        let until = clock.monotonic() + THROWN_AWAY_PATIENCE;
        while meta.read(|tx| -> Result<bool, MetaError> {
            let is_one =
                tx.tombstone(share, key)?.is_some() || tx.tombstone(share, &dir)?.is_some();
            Ok(is_one || tx.is_tombstone_below(share, &dir)?)
        })? {
            if clock.monotonic() > until {
                return Err(OperationError::Nonsense(format!(
                    "not all of {} is in the trash yet, see `fsd queue`: nothing was restored; try again when that is done",
                    path.display()
                )));
            }
            clock.sleep(THROWN_AWAY_PAUSE).await;
        }
        Ok(())
    }

    async fn restore_one(
        &self,
        mount: &MountedShare,
        trashed: Trashed,
    ) -> Result<(), OperationError> {
        let names = names_of_key(&trashed.path);
        let shown = path_in(mount, &names.join(&b'/'));
        let taken =
            || OperationError::Nonsense(format!("{} is there: move it away", shown.display()));
        let (share, path) = (trashed.share, trashed.path.clone());
        let in_motion = self.parts.meta.read(|tx| tx.is_in_motion(share, &path))?;
        match self.parts.vfs.resolve(mount.root, &names).await {
            Ok(_) => return Err(taken()),
            Err(VfsError::NoEntry | VfsError::NotDir) if in_motion => return Err(taken()),
            Err(VfsError::NoEntry | VfsError::NotDir) => {}
            Err(error) => return Err(failed(error)),
        }
        match self.parts.sync.take_back(trashed).await {
            Ok(()) => {}
            Err(error) if error.is_taken() => return Err(taken()),
            Err(error) => return Err(OperationError::Failed(error.into())),
        }
        self.parts.vfs.look_for(mount.root, &names).await.map_err(failed)?;
        Ok(())
    }

    pub(super) async fn empty_all_trash(&self) -> Result<api::Emptied, OperationError> {
        let mut objects = 0;
        for mount in &self.parts.mounts {
            let emptied = self.parts.sync.empty_trash(mount.share).await;
            objects += emptied.map_err(|error| OperationError::Failed(error.into()))?;
        }
        Ok(api::Emptied { objects })
    }

    pub(super) fn mount_with(&self, share: ShareId) -> Option<&MountedShare> {
        self.parts.mounts.iter().find(|mount| mount.share == share)
    }

    /// How long what was set aside, and what is in the trash, is kept.
    fn retention(&self, share: ShareId) -> (Duration, Duration) {
        let rules = self.parts.sync.rules(share);
        (rules.conflicts_retention, rules.trash_retention)
    }
}

fn posix_of(conflict: &Conflict) -> PosixMeta {
    // What we wrote ourselves.
    let metadata: Metadata = serde_json::from_str(&conflict.attrs).unwrap_or_default();
    PosixMeta::read(&metadata)
}

fn names_of(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|&byte| byte == b'/').map(<[u8]>::to_vec).collect()
}

fn names_of_key(key: &Key) -> Vec<Vec<u8>> {
    key.as_str().trim_end_matches('/').split('/').map(name_of_segment).collect()
}

pub(super) fn path_in(mount: &MountedShare, below: &[u8]) -> PathBuf {
    mount.path.join(String::from_utf8_lossy(below).as_ref())
}

fn after(millis: i64, kept: Duration) -> jiff::Timestamp {
    timestamp_of_millis(millis.saturating_add(i64::try_from(kept.as_millis()).unwrap_or(i64::MAX)))
}

fn failed(error: VfsError) -> OperationError {
    OperationError::Failed(error.into())
}
