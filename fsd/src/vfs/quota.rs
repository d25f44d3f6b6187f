//! How much each user's files may take. What is stored counts; of a file that grows, what it may grow to is set aside before it does.

use std::collections::HashMap;

use super::handle::{Open, size_of};
use super::{Result, Share, Vfs, VfsError};
use crate::meta::{MetaError, Tx};
use crate::types::{Ino, ShareId};

/// So much is set aside at once, so that not every write has to ask.
const GRANT_BYTES: u64 = 16 << 20;

impl Vfs {
    /// Begins to count, in the shares where anybody has a limit.
    ///
    /// # Errors
    /// If the metadata store fails.
    pub fn count_usage(&self) -> Result<()> {
        for id in self.shares().filter(|share| !share.quotas.is_empty()).map(|share| share.id) {
            self.meta.write(move |tx| tx.count_usage(id))?;
        }
        Ok(())
    }

    /// Users of `share`, with the bytes that their files take and what they may take; nobody if nobody has a limit.
    ///
    /// # Errors
    /// If the metadata store fails.
    pub fn usages(&self, share: &Share) -> Result<Vec<(u32, u64, Option<u64>)>> {
        if share.quotas.is_empty() {
            return Ok(Vec::new());
        }
        let id = share.id;
        let used = self.meta.write(move |tx| tx.usages(id))?;
        Ok(used.into_iter().map(|(uid, bytes)| (uid, bytes, share.quotas.of(uid))).collect())
    }

    /// Whether the growth of a file of `uid` in `share` must be watched.
    pub(super) fn has_quota(&self, share: ShareId, uid: u32) -> bool {
        self.shares.get(&share).is_some_and(|share| share.quotas.of(uid).is_some())
    }

    /// Lets the open file `ino` grow to `size`, if its owner's quota does.
    ///
    /// # Errors
    /// [`VfsError::Quota`].
    pub(super) fn grow(&self, ino: Ino, size: u64) -> Result<()> {
        let mut files = self.handles.files();
        let Some(open) = files.get(&ino) else { return Ok(()) };
        if open.granted.is_none_or(|granted| size <= granted) {
            return Ok(());
        }
        let share = self.share(open.share)?;
        let aside = set_aside(&files, share.id);
        let (id, quotas) = (share.id, share.quotas.clone());
        let granted = self.meta.write(move |tx| -> Result<u64> {
            let inode = tx.inode(ino)?.ok_or(VfsError::NoEntry)?;
            let Some(quota) = quotas.of(inode.attr.uid) else { return Ok(u64::MAX) };
            let others = used(tx, id, inode.attr.uid, &aside, ino)?.saturating_sub(inode.attr.size);
            let most = quota.saturating_sub(others);
            if size > most {
                return Err(VfsError::Quota);
            }
            Ok(size.saturating_add(GRANT_BYTES).min(most))
        })?;
        if let Some(open) = files.get_mut(&ino) {
            open.granted = Some(granted);
        }
        Ok(())
    }

    /// Whether `uid` may become the owner of a file of `share` that is `size` long.
    pub(super) fn check_new_owner(&self, share: &Share, uid: u32, size: u64) -> Result<()> {
        let Some(quota) = share.quotas.of(uid) else { return Ok(()) };
        let aside = set_aside(&self.handles.files(), share.id);
        let id = share.id;
        let used = self.meta.write(move |tx| used(tx, id, uid, &aside, Ino(0)))?;
        if used.saturating_add(size) > quota { Err(VfsError::Quota) } else { Ok(()) }
    }
}

/// What open files of `share` may grow to. One whose writers have closed it, which is not stored yet, stays as it is.
fn set_aside(files: &HashMap<Ino, Open>, share: ShareId) -> Vec<(Ino, u64)> {
    let of_share = files.iter().filter(|(_, open)| open.share == share);
    let grown = |(&ino, open): (&Ino, &Open)| {
        let granted = open.granted?;
        let bytes = if open.writers > 0 { granted } else { size_of(&open.backing).ok()? };
        Some((ino, bytes))
    };
    of_share.filter_map(grown).collect()
}

/// What `uid` has used up, with what is set aside for files that may grow, `but` aside.
fn used(
    tx: &Tx<'_>,
    share: ShareId,
    uid: u32,
    aside: &[(Ino, u64)],
    but: Ino,
) -> Result<u64, MetaError> {
    let mut used = tx.usage(share, uid)?;
    for &(ino, granted) in aside.iter().filter(|(ino, _)| *ino != but) {
        if let Some(inode) = tx.inode(ino)?.filter(|inode| inode.attr.uid == uid) {
            // One that was cut counts for less than what is stored of it.
            used = used.saturating_sub(inode.attr.size).saturating_add(granted);
        }
    }
    Ok(used)
}
