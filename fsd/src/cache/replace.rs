//! A content that takes the place of another at once: whatever is killed, the file has the one or the other.
//!
//! Invariant: until the metadata store knows of it, a mark in a folder of its own says that the new backing file may go.

use std::fs::{DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use super::{Cache, Result, backing};
use crate::types::Ino;

/// Marks, below the state directory.
const FOLDER: &str = "replacing";

/// A backing file that no inode has yet.
#[derive(Debug)]
pub struct Staged {
    ino: Ino,
    number: u64,
    mark: PathBuf,
}

impl Staged {
    /// The number of the backing file.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }
}

impl Cache {
    /// Makes the backing file `number` of `ino`, which is the next one.
    ///
    /// # Durability
    /// It survives a power cut.
    ///
    /// # Errors
    /// If the disk fails, or there is no room.
    pub async fn stage(&self, ino: Ino, number: u64, data: &[u8]) -> Result<Staged> {
        self.make_room(data.len() as u64).await?;
        let folder = replacing(&self.data);
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let path = self.path(ino, number);
        let mark = folder.join(path.file_name().unwrap_or_default());
        let staged = Staged { ino, number, mark };
        match write(&staged.mark, &path, data) {
            Ok(()) => Ok(staged),
            Err(error) => {
                self.drop_staged(staged);
                Err(error.into())
            }
        }
    }

    /// The metadata store knows of it, in place of the backing file `before`.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn staged_is_in_place(&self, staged: Staged, before: u64) -> Result<()> {
        self.forget(staged.ino, before);
        let file = File::open(self.path(staged.ino, staged.number))?;
        self.used.fetch_add(backing::allocated(&file)?, Ordering::Relaxed);
        self.files.fetch_add(1, Ordering::Relaxed);
        remove(&staged.mark);
        Ok(())
    }

    /// It is not wanted any more.
    pub fn drop_staged(&self, staged: Staged) {
        remove(&self.path(staged.ino, staged.number));
        remove(&staged.mark);
    }
}

fn write(mark: &Path, path: &Path, data: &[u8]) -> io::Result<()> {
    let mut file = backing::create_file(mark)?;
    file.write_all(data)?;
    file.sync_all()?;
    sync_folder_of(mark)?;
    std::fs::hard_link(mark, path)?;
    sync_folder_of(path)
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(path))?.sync_all()
}

/// What can't be removed now goes at the next start.
fn remove(path: &Path) {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, path = %path.display(), "a file could not be removed");
        }
        Ok(()) | Err(_) => {}
    }
}

/// Where the marks are.
pub(super) fn replacing(data: &Path) -> PathBuf {
    data.with_file_name(FOLDER)
}
