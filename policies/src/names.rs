//! Names that a rule is about, as globs.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// Paths that match one of some globs: those with a slash against the whole path, others against the last name. Capital letters count as
/// small ones.
#[derive(Clone, Debug, Default)]
pub struct Names {
    globs: Vec<String>,
    set: GlobSet,
}

impl PartialEq for Names {
    fn eq(&self, other: &Self) -> bool {
        self.globs == other.globs
    }
}

impl Eq for Names {}

impl Names {
    /// Paths that match one of `globs`.
    ///
    /// # Errors
    /// If a glob is none.
    pub fn new(globs: &[String]) -> Result<Self, globset::Error> {
        let mut set = GlobSetBuilder::new();
        for glob in globs {
            let anywhere = if glob.contains('/') {
                glob.trim_start_matches('/').to_owned()
            } else {
                format!("**/{glob}")
            };
            let mut glob = GlobBuilder::new(&anywhere);
            set.add(glob.case_insensitive(true).literal_separator(true).build()?);
        }
        Ok(Self { globs: globs.to_vec(), set: set.build()? })
    }

    /// Whether the file at `path` is one of them.
    #[must_use]
    pub fn has(&self, path: &[Vec<u8>]) -> bool {
        self.set.is_match(OsStr::from_bytes(&path.join(&b'/')))
    }
}
