//! What lies in the cache's directory at a start: what belongs to nothing any more goes, what nobody else has is set aside.

use std::fs::{DirEntry, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use super::replace::replacing;
use super::{Cache, Result, backing, lock};
use crate::meta::MetaError;
use crate::types::Ino;

/// Backing files, below the state directory.
pub(super) const DATA: &str = "data";
/// Backing files that the metadata store does not know, below the state directory.
const LOST_AND_FOUND: &str = "lost+found";

/// How many backing files with something in them lie below the state directory `dir`.
///
/// # Errors
/// If the disk fails.
pub fn backing_files(dir: &Path) -> io::Result<usize> {
    let data = dir.join(DATA);
    let mut count = 0;
    if data.try_exists()? {
        each_file(&data, |file| -> io::Result<()> {
            count += usize::from(allocated_at(&file.path())? > 0);
            Ok(())
        })?;
    }
    Ok(count)
}

impl Cache {
    /// Where files lie that the metadata store did not know at a start, and how many.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn lost_and_found(&self) -> Result<(PathBuf, u64)> {
        let dir = self.data.with_file_name(LOST_AND_FOUND);
        let mut files = 0;
        if dir.try_exists()? {
            each_file(&dir, |_| -> io::Result<()> {
                files += 1;
                Ok(())
            })?;
        }
        Ok((dir, files))
    }

    pub(super) fn scan(&self) -> Result<()> {
        let (known, youngest) = self
            .meta
            .scan(|tx| -> Result<_, MetaError> { Ok((tx.backings()?, tx.youngest_inode()?)) })?;
        // Of these the metadata store was never told.
        let replacing = replacing(&self.data);
        let is_later = |(ino, number): (Ino, u64)| {
            ino > youngest || known.get(&ino).is_some_and(|known| number > *known)
        };
        let aside = lost_and_found(&self.data, self.clock.wall().millis());
        let mut set_aside = 0;
        each_file(&self.data, |file| -> io::Result<()> {
            let name = file.file_name();
            let parsed = name.to_str().and_then(backing::parse_name);
            if parsed.is_some_and(|(ino, number)| known.get(&ino) == Some(&number)) {
                self.used.fetch_add(allocated_at(&file.path())?, Ordering::Relaxed);
                self.files.fetch_add(1, Ordering::Relaxed);
            } else if parsed.is_some_and(is_later)
                && allocated_at(&file.path())? > 0
                && !replacing.join(&name).try_exists()?
            {
                std::fs::create_dir_all(&aside)?;
                std::fs::rename(file.path(), aside.join(name))?;
                set_aside += 1;
            } else {
                std::fs::remove_file(file.path())?;
            }
            Ok(())
        })?;
        if replacing.try_exists()? {
            std::fs::remove_dir_all(&replacing)?;
        }
        if set_aside > 0 {
            tracing::error!(files = set_aside, dir = %aside.display(), "the metadata store has lost changes: what it does not know of is kept there, without names");
        }
        let is_current = |ino, number| known.get(&ino) == Some(&number);
        let mut recency = lock(&self.recency);
        let newest = self.index.newest(recency.room(), is_current);
        if newest.len() == recency.room() {
            recency.has_more();
        }
        for (used, ino) in newest {
            recency.used(ino, used);
        }
        // Nothing is noted of these.
        if !recency.wants_old() {
            for ino in known.into_keys() {
                if !recency.is_recent(ino) {
                    recency.was_first(ino);
                }
            }
        }
        Ok(())
    }
}

/// Where backing files are set aside at a moment.
pub(super) fn lost_and_found(data: &Path, millis: i64) -> PathBuf {
    data.with_file_name(LOST_AND_FOUND).join(millis.to_string())
}

pub(super) fn each_file<E: From<io::Error>>(
    data: &Path,
    mut seen: impl FnMut(DirEntry) -> Result<(), E>,
) -> Result<(), E> {
    for folder in std::fs::read_dir(data)? {
        for file in std::fs::read_dir(folder?.path())? {
            seen(file?)?;
        }
    }
    Ok(())
}

pub(super) fn allocated_at(path: &Path) -> io::Result<u64> {
    backing::allocated(&File::open(path)?)
}
