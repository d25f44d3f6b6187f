//! Identifiers and values that every part shares. Ids are types of their own, so a mix-up does not compile.

pub mod aside;
mod attr;
mod chain;
pub mod digest;
mod hash;
mod key;
pub mod link;
mod metadata;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use attr::{Attr, FileKind, Time};
pub use chain::chain;
pub use digest::{Digest, Digester, Sha256};
pub use hash::fnv1a;
pub use key::{Key, KeyError, key_names_path, key_of_path, name_of_segment, segment_of_name};
pub use metadata::{Metadata, PosixMeta, VERSION_NAME};

/// The longest name in bytes.
pub const NAME_BYTES_MAX: usize = 255;

/// An inode number: stable across restarts and never reused. Also the node id that the kernel sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ino(pub u64);

impl fmt::Display for Ino {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A share's number in the metadata store: stable across restarts, given at a share's first start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ShareId(pub u32);

impl fmt::Display for ShareId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a store calls the version of an object; compared only for equality.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ETag(pub String);

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
