//! What the verbs about hooks take and give, beside the hooks and jobs themselves.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::lists::list_default;

/// Which hook is to rest, or to go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookPause {
    /// Its name; none for all.
    pub hook: Option<String>,
    /// It is to rest.
    pub paused: bool,
}

/// Has a hook look at what is there already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookRun {
    /// Its name.
    pub hook: String,
    /// A file, or a directory for all below it.
    pub path: PathBuf,
}

/// What a hook is to look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookBegun {
    /// Files that it will look at.
    pub files: u64,
    /// Files whose versions it has a job for already.
    pub had: u64,
    /// What could not be listed, a line each.
    pub problems: Vec<String>,
}

/// Which results are asked for, of versions that are there now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultFilter {
    /// Only of this file, or of all below this directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Only those of this hook.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hook: Option<String>,
    /// Only those whose fields fulfil this: see [`policies::search`].
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// At most so many, the latest first.
    #[serde(default = "list_default")]
    pub limit: usize,
}

/// A person's word about whether files may leave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Say {
    /// A file, or a directory for all in it that waits.
    pub path: PathBuf,
    /// `pass`, `hold` or `drop`.
    pub verdict: String,
}

/// How many files that was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spoken {
    /// The number.
    pub files: u64,
}

/// What a gate has said of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateWord {
    /// The hook; none for a person, whose word goes before any other.
    pub hook: Option<String>,
    /// `pass`, `hold` or `drop`.
    pub verdict: String,
    /// Why.
    pub why: String,
    /// When.
    pub at: Timestamp,
}
