//! Versions that are set aside on this gateway when the cloud's took their place: whole files in a folder of their own, until they are
//! given back or their time is over.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

use super::{Backing, Cache, backing};

/// Below the state directory.
const FOLDER: &str = "conflicts";

impl Cache {
    /// Sets the whole content of `backing` aside under `name`.
    ///
    /// # Durability
    /// It survives a power cut.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn set_aside(&self, backing: &Backing, name: &str) -> io::Result<()> {
        let folder = self.aside_folder();
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        backing.file.sync_all()?;
        let path = folder.join(name);
        // One of an earlier try.
        self.drop_aside(name)?;
        std::fs::hard_link(backing::path_of(&self.data, backing.ino, backing.number), path)?;
        File::open(&folder)?.sync_all()?;
        File::open(folder.parent().unwrap_or(&folder))?.sync_all()
    }

    /// Opens what was set aside under `name`.
    ///
    /// # Errors
    /// If it is not there, or the disk fails.
    pub fn open_aside(&self, name: &str) -> io::Result<File> {
        File::open(self.aside_folder().join(name))
    }

    /// Removes what was set aside under `name`; what is not there is removed.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn drop_aside(&self, name: &str) -> io::Result<()> {
        match std::fs::remove_file(self.aside_folder().join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn aside_folder(&self) -> PathBuf {
        self.data.with_file_name(FOLDER)
    }
}
