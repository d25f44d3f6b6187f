//! All that lies below a directory.

use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;

use super::{Result, Vfs, VfsError, Work};
use crate::meta::Inode;
use crate::types::{FileKind, Ino, chain};

/// Entries that are looked at in one go.
const PAGE: usize = 1000;
/// Directories that a walk looks at at once.
const DIRS_AT_ONCE: usize = 8;

impl Vfs {
    /// Calls `look` with `tops` and with all that looks say lies below, some at once. What fails is noted, and the walk goes on.
    pub(super) async fn walk<L: Future<Output = Result<Vec<Ino>>>>(
        &self,
        tops: Vec<Ino>,
        work: &Work,
        look: impl Fn(Ino) -> L,
    ) {
        let mut waiting = tops;
        work.expect(waiting.len() as u64, 0);
        let mut looking = FuturesUnordered::new();
        loop {
            while looking.len() < DIRS_AT_ONCE
                && let Some(at) = waiting.pop()
            {
                let look = look(at);
                looking.push(async move { (at, look.await) });
            }
            let Some((at, looked)) = looking.next().await else { return };
            match looked {
                Ok(below) => {
                    work.expect(below.len() as u64, 0);
                    waiting.extend(below);
                }
                Err(VfsError::NoEntry) => {}
                Err(error) => work.failed(|| format!("{}: {}", self.shown(at), chain(&error))),
            }
            work.did_file();
        }
    }

    /// The directories in `dir` whose names are known here, those that are `wanted`.
    pub(super) fn dirs_in(
        &self,
        dir: Ino,
        wanted: impl Fn(&Inode) -> Result<bool>,
    ) -> Result<Vec<Ino>> {
        let mut dirs = Vec::new();
        let mut behind = 0;
        loop {
            let page = self.meta.scan(|tx| tx.dirs_in(dir, behind, PAGE))?;
            let Some((last, _)) = page.last() else { return Ok(dirs) };
            behind = *last;
            for (_, inode) in page {
                if wanted(&inode)? {
                    dirs.push(inode.ino);
                }
            }
        }
    }

    /// The regular files at and below `top`, also in directories that were never listed, and what could not be listed.
    ///
    /// # Errors
    /// If the metadata store fails.
    pub async fn all_files_below(
        self: &Arc<Self>,
        top: Ino,
    ) -> Result<(Vec<Ino>, Vec<(Ino, VfsError)>)> {
        let failed = self.list_below(top, |_| true).await?;
        let vfs = self.clone();
        let files = self.tasks.blocking(move || vfs.files_below(top)).await??;
        Ok((files, failed))
    }

    /// The regular files at and below `top` whose names are known here, each once.
    ///
    /// # Errors
    /// If the metadata store fails.
    pub fn files_below(&self, top: Ino) -> Result<Vec<Ino>> {
        let mut files = Vec::new();
        let mut dirs = vec![top];
        if self.inode(top)?.attr.kind == FileKind::File {
            return Ok(vec![top]);
        }
        while let Some(dir) = dirs.pop() {
            let mut behind = 0;
            loop {
                let last = self.meta.scan(|tx| -> Result<Option<u64>> {
                    let entries = tx.entries(dir, behind, PAGE)?;
                    for entry in &entries {
                        let Some(inode) = tx.inode(tx.file_of(entry.ino)?)? else { continue };
                        match inode.attr.kind {
                            FileKind::Dir => dirs.push(inode.ino),
                            FileKind::File => files.push(inode.ino),
                            FileKind::Symlink
                            | FileKind::Fifo
                            | FileKind::Socket
                            | FileKind::CharDevice
                            | FileKind::BlockDevice => {}
                        }
                    }
                    Ok(entries.last().map(|entry| entry.cookie))
                })?;
                let Some(last) = last else { break };
                behind = last;
            }
        }
        files.sort_unstable();
        files.dedup();
        Ok(files)
    }

    /// Lists the directories at and below `top` that were not listed, or long ago. `enter` says into which to go, by their paths in the
    /// share. Returns what could not be listed.
    ///
    /// # Errors
    /// If the metadata store fails.
    pub(super) async fn list_below(
        self: &Arc<Self>,
        top: Ino,
        enter: impl Fn(&[Vec<u8>]) -> bool + Send,
    ) -> Result<Vec<(Ino, VfsError)>> {
        let mut failed = Vec::new();
        let mut dirs = vec![top];
        while let Some(dir) = dirs.pop() {
            match self.open_dir(dir).await {
                Ok(()) => {}
                Err(VfsError::NotDir | VfsError::NoEntry) => continue,
                Err(error) => {
                    failed.push((dir, error));
                    continue;
                }
            }
            let mut path = self.meta.read(|tx| tx.path(dir))?.unwrap_or_default();
            let mut behind = 0;
            loop {
                let entries = self.meta.scan(|tx| tx.entries(dir, behind, PAGE))?;
                let Some(last) = entries.last() else { break };
                behind = last.cookie;
                for entry in entries {
                    let inode = self.meta.read(|tx| tx.inode(entry.ino))?;
                    if inode.is_some_and(|inode| inode.attr.kind == FileKind::Dir) {
                        path.push(entry.name);
                        if enter(&path) {
                            dirs.push(entry.ino);
                        }
                        path.pop();
                    }
                }
            }
        }
        Ok(failed)
    }

    /// How `ino` is called in messages.
    pub(super) fn shown(&self, ino: Ino) -> String {
        let path = self.meta.read(|tx| tx.path(ino)).ok().flatten().unwrap_or_default();
        let names = path.iter().map(|name| String::from_utf8_lossy(name));
        names.collect::<Vec<_>>().join("/")
    }
}
