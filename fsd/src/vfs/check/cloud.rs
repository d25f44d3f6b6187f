//! What the cloud has.

use super::super::{Result, Vfs, VfsError, Work};
use super::{Code, Finding};
use crate::cache::Stale;
use crate::meta::Inode;
use crate::types::{FileKind, Ino};

impl Vfs {
    /// Compares the records of what is in `dir` with what the cloud has.
    pub(super) async fn compare_with_cloud(
        &self,
        dir: &Inode,
        repair: bool,
        work: &Work,
    ) -> Result<()> {
        for Stale { inode, gone } in self.cache.compare(dir).await? {
            let at = self.shown(inode.ino);
            let (code, what) = match gone {
                true => (Code::ObjectGone, "the store does not have its object any more"),
                false => (Code::ObjectChanged, "the store has another version of it"),
            };
            let repaired = repair && self.take_over(&inode).await?;
            work.find(Finding { code, at, what: what.to_owned(), repaired });
        }
        Ok(())
    }

    /// Lets the cloud's version come in; whether it did.
    async fn take_over(&self, inode: &Inode) -> Result<bool> {
        let merged = match inode.attr.kind == FileKind::Dir {
            true => self.cache.ask_unseen(inode).await?,
            false => self.cache.refresh(inode).await?,
        };
        self.announce(inode.share, merged);
        match self.inode(inode.ino) {
            Ok(now) => Ok(now.object != inode.object),
            Err(VfsError::NoEntry) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Looks at objects that stand aside while names are swapped. One whose file is known here is on its way, or is found as a file that
    /// is not queued.
    pub(super) async fn check_aside(&self, top: Ino, work: &Work) -> Result<()> {
        let share = self.share_of(top)?;
        for key in self.cache.aside(share.id).await? {
            let is_known = self.meta.scan(|tx| -> Result<bool> {
                Ok(tx.inode_by_key(share.id, &key)?.is_some()
                    || tx.tombstone(share.id, &key)?.is_some()
                    || tx.is_attempted(share.id, &key)?)
            })?;
            if !is_known {
                work.find(Finding {
                    code: Code::Aside,
                    at: key.to_string(),
                    what: "no file of this gateway stands aside there: it may be another gateway's; if none uses this store, copy it \
                           home or delete it with the store's own tools"
                        .to_owned(),
                    repaired: false,
                });
            }
        }
        Ok(())
    }
}
