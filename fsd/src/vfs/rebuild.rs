//! All that the cloud knows of a share comes here: each name, with attributes, links and targets. What is known is not asked again, so that
//! one that was interrupted goes on where it was.

use std::sync::Arc;

use super::{Result, Vfs, VfsError, Work};
use crate::cache::Trouble;
use crate::types::{FileKind, Ino, chain};

/// Files whose attributes are asked for in one go.
const FILES_AT_ONCE: usize = 256;

impl Vfs {
    /// Learns all names at and below `tops`, and what a listing does not tell of them.
    pub async fn rebuild_below(self: &Arc<Self>, tops: Vec<Ino>, work: &Work) {
        work.run(self.walk(tops, work, |at| self.rebuild_one(at, work))).await;
    }

    async fn rebuild_one(self: &Arc<Self>, at: Ino, work: &Work) -> Result<Vec<Ino>> {
        let inode = self.inode(at)?;
        if inode.attr.kind != FileKind::Dir {
            self.learn(at).await?;
            return Ok(Vec::new());
        }
        let merged = self.cache.relist(&inode, 0).await?;
        work.saw(merged.changes);
        self.announce(inode.share, merged);
        work.expect(self.meta.scan(|tx| tx.count_unknown(at))?, 0);
        let mut behind = Some(0);
        while let Some(from) = behind {
            let unknown = self.meta.scan(|tx| tx.unknown_in(at, from, FILES_AT_ONCE))?;
            behind = unknown.last().map(|(cookie, _)| *cookie);
            self.learn_all(unknown.into_iter().map(|(_, ino)| ino).collect(), work).await;
        }
        let vfs = self.clone();
        self.tasks.blocking(move || vfs.dirs_in(at, |_| Ok(true))).await?
    }

    /// Asks for the attributes of all of `files`, and for targets of links. Where that fails, of each alone: one must not keep the others
    /// from being known.
    async fn learn_all(self: &Arc<Self>, files: Vec<Ino>, work: &Work) {
        if let Err(error) = self.read_at_pace(&files).await {
            tracing::debug!(error = chain(&error), "attributes are asked for one by one");
        }
        for ino in files {
            match self.learn(ino).await {
                Ok(()) | Err(VfsError::NoEntry) => {}
                Err(error) => work.failed(|| format!("{}: {}", self.shown(ino), chain(&error))),
            }
            work.did_file();
        }
    }

    async fn read_at_pace(&self, files: &[Ino]) -> Result<()> {
        let Some(first) = files.first() else { return Ok(()) };
        let share = self.inode(*first)?.share;
        let merged = self.cache.read_attrs_at_pace(files).await?;
        self.announce(share, merged);
        Ok(())
    }

    /// Makes sure that all of `ino` is known but its content.
    async fn learn(self: &Arc<Self>, ino: Ino) -> Result<()> {
        let inode = self.inode(ino)?;
        let inode = match inode.attrs_known {
            true => inode,
            false => {
                self.read_at_pace(&[ino]).await?;
                self.inode(ino)?
            }
        };
        if inode.attr.kind == FileKind::Symlink && inode.target.is_none() {
            match self.read_link(ino).await {
                // It was replaced meanwhile: whoever reads it next sees by what.
                Err(VfsError::Cache(error)) if error.trouble() == Trouble::Stale => {}
                read => drop(read?),
            }
        }
        Ok(())
    }
}
