//! The JSON of verbs about what both sides have: conflicts, and the trash.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A file that both sides had changed, and that nobody has settled yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// Its number; never given twice.
    pub id: u64,
    /// The share.
    pub share: String,
    /// The file, in the mount.
    pub path: PathBuf,
    /// The file that our version is now, in the mount; none if it was set aside, or took the other's place.
    pub kept_as: Option<PathBuf>,
    /// The rule by which it went on: `keep-both`, `local-wins` or `cloud-wins`.
    pub rule: String,
    /// When it happened.
    pub at: Timestamp,
    /// Ours, whose `etag` is that of the version it was made from.
    pub ours: Version,
    /// The cloud's.
    pub theirs: Version,
    /// Until when ours can be got back, if it was set aside.
    pub until: Option<Timestamp>,
}

/// A version of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// How long it is.
    pub bytes: u64,
    /// When it was written, or taken in by the store.
    pub modified: Option<Timestamp>,
    /// What the store calls it.
    pub etag: Option<String>,
}

/// Which version of a file goes on under its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// This gateway's; the cloud's is replaced by it.
    Mine,
    /// The cloud's; this gateway's is deleted.
    Theirs,
    /// Both, under two names.
    Both,
}

/// A conflict that is to be settled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settle {
    /// The file, or what our version of it is kept as.
    pub path: PathBuf,
    /// What goes on.
    pub keep: Keep,
}

/// An object whose file was deleted here, and that can be got back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trashed {
    /// The share.
    pub share: String,
    /// Where it was, in the mount.
    pub path: PathBuf,
    /// How long it is.
    pub bytes: u64,
    /// Its key now.
    pub key: String,
    /// When its file was deleted.
    pub deleted: Timestamp,
    /// Until when it can be got back.
    pub until: Timestamp,
}

/// What came back from the trash.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// Files.
    pub files: u64,
    /// Directories, with the attributes that they had.
    pub directories: u64,
    /// What stays in the trash, and why.
    pub left: Vec<String>,
}

/// What was deleted for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Emptied {
    /// Objects.
    pub objects: u64,
}
