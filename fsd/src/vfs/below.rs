//! All that lies below a directory.

use std::sync::Arc;

use super::{Result, Vfs, VfsError};
use crate::types::{FileKind, Ino};

/// Entries that are looked at in one go.
const PAGE: usize = 1000;

impl Vfs {
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
