//! Files that a rule is about.

use std::ffi::OsStr;
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStrExt as _;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// Files of some sizes whose paths match one of some globs: those with a slash against the whole path, others against the last name.
/// Capital letters count as small ones.
#[derive(Clone, Debug)]
pub struct Files {
    globs: Vec<String>,
    set: GlobSet,
    sizes: RangeInclusive<u64>,
}

impl PartialEq for Files {
    fn eq(&self, other: &Self) -> bool {
        (&self.globs, &self.sizes) == (&other.globs, &other.sizes)
    }
}

impl Eq for Files {}

impl Files {
    /// Files that match one of `globs` and are as long as `sizes` says, in bytes.
    ///
    /// # Errors
    /// If a glob is none.
    pub fn new(globs: &[String], sizes: RangeInclusive<u64>) -> Result<Self, globset::Error> {
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
        Ok(Self { globs: globs.to_vec(), set: set.build()?, sizes })
    }

    /// The globs.
    #[must_use]
    pub fn globs(&self) -> &[String] {
        &self.globs
    }

    /// Whether the file at `path`, which is so long, is one of them.
    #[must_use]
    pub fn has(&self, path: &[Vec<u8>], bytes: u64) -> bool {
        self.sizes.contains(&bytes) && self.set.is_match(OsStr::from_bytes(&path.join(&b'/')))
    }
}
