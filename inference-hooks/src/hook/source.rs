//! A hook folder's files, and the hash that is its version.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::HookError;

/// Most files in a hook folder.
pub const FILES_MAX: usize = 64;
/// Largest file in a hook folder.
pub const FILE_BYTES_MAX: u64 = 1 << 20;

/// What identifies a hook's content: a SHA-256 over the names and bytes of all files of its folder, in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HookVersion(String);

impl HookVersion {
    /// The 64 hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HookVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The files of a hook folder by name. A folder is flat; names that begin with a dot are not part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookSource {
    files: BTreeMap<String, Vec<u8>>,
}

impl HookSource {
    /// Takes files that are in memory already.
    pub fn new(files: BTreeMap<String, Vec<u8>>) -> Self {
        Self { files }
    }

    /// Reads a hook folder.
    ///
    /// # Errors
    /// It cannot be read, holds a folder or a name that is not UTF-8, or is larger than a hook may be.
    pub fn read(folder: &Path) -> Result<Self, HookError> {
        let mut files = BTreeMap::new();
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| HookError::Read { path, source }
        };
        for entry in fs::read_dir(folder).map_err(failed(folder))? {
            let path = entry.map_err(failed(folder))?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
                return Err(HookError::FileName { path });
            };
            if name.starts_with('.') {
                continue;
            }
            if files.len() == FILES_MAX {
                return Err(HookError::TooManyFiles { folder: folder.to_owned() });
            }
            files.insert(name.to_owned(), read_file(&path)?);
        }
        Ok(Self { files })
    }

    /// The hash over all files: any change of any file gives another one.
    pub fn version(&self) -> HookVersion {
        let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
        for (name, bytes) in &self.files {
            for part in [name.as_bytes(), bytes.as_slice()] {
                hash.update(&part.len().to_le_bytes());
                hash.update(part);
            }
        }
        HookVersion(hash.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// All files by name.
    pub fn files(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.files
    }

    /// A file as text, or `None` if there is no such file.
    ///
    /// # Errors
    /// The file is not UTF-8.
    pub fn text(&self, name: &str) -> Result<Option<&str>, HookError> {
        let Some(bytes) = self.files.get(name) else { return Ok(None) };
        let text = std::str::from_utf8(bytes);
        text.map(Some).map_err(|_| HookError::NotText { file: name.to_owned() })
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, HookError> {
    let failed = |source| HookError::Read { path: path.to_owned(), source };
    let metadata = fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() {
        return Err(HookError::NotAFile { path: path.to_owned() });
    }
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(failed)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(HookError::FileTooLarge { path: PathBuf::from(path) });
    }
    Ok(bytes)
}
