//! The JSON of verbs that steer what goes up: the queue, and the pace.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What is to be done with the queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum QueueChange {
    /// Nothing of a share, or of any, goes up until it is resumed; that outlives the daemon.
    Pause {
        /// The share; all if left out.
        share: Option<String>,
    },
    /// It goes on.
    Resume {
        /// The share; what was paused for all if left out.
        share: Option<String>,
    },
    /// What is at and below a path is held back, whatever becomes of it, until it is retried.
    Cancel {
        /// The path, in a mount.
        path: PathBuf,
    },
    /// What was given up or held back is tried again.
    Retry {
        /// At and below this path, in a mount; everything if left out.
        path: Option<PathBuf>,
    },
    /// What is at and below a path goes before all else of its share.
    First {
        /// The path, in a mount.
        path: PathBuf,
    },
}

/// What a change of the queue was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueChanged {
    /// Files and directories.
    pub items: u64,
}

/// Which receipts are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptFilter {
    /// Only of what is at and below this path, in a mount.
    pub path: Option<PathBuf>,
    /// Only of what went up at this moment or later.
    pub since: Option<Timestamp>,
    /// Where the last answer said to go on.
    pub from: Option<String>,
}

/// Versions of files that went up, in the order in which they did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipts {
    /// The first of them.
    pub receipts: Vec<Receipt>,
    /// Where to go on; none if that was all.
    pub next: Option<String>,
}

/// A version of a file that went up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Its number: each has a greater one than those before.
    pub seq: i64,
    /// The share.
    pub share: String,
    /// The file's path in the share when it was uploaded.
    pub path: String,
    /// The object's key, below the share's URL.
    pub key: String,
    /// How long it is, if that is known.
    pub size: Option<u64>,
    /// SHA-256 in hexadecimal, if that is known: of its bytes; of a file that went up in parts, of the parts' sums, with `-` and their
    /// length in bytes behind it.
    pub sha256: Option<String>,
    /// What the store calls it.
    pub etag: String,
    /// When.
    pub at: Timestamp,
}

/// The pace of the gateway or of a share, one way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaceState {
    /// The share; none for the gateway.
    pub share: Option<String>,
    /// `up` or `down`.
    pub way: String,
    /// What is allowed, as it is written: `10Mbit/s`, `unlimited`, `off`.
    pub rate: String,
    /// What sets it.
    pub reason: PaceReason,
    /// Until when, if that is known.
    pub until: Option<Timestamp>,
    /// The budget of the day.
    pub day: Option<BudgetState>,
    /// The budget of the month.
    pub month: Option<BudgetState>,
}

/// What sets a pace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaceReason {
    /// A person has paused it.
    Paused,
    /// The budget is spent.
    Budget,
    /// A person has set it.
    ByHand,
    /// The configuration.
    Schedule,
}

/// A budget and what is spent of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetState {
    /// Bytes that may pass.
    pub bytes: u64,
    /// Bytes that have passed.
    pub spent: u64,
}

/// A pace that is to be set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaceChange {
    /// Of this share; the gateway's if left out.
    pub share: Option<String>,
    /// The pace of uploads; as it is if left out.
    pub up: Option<String>,
    /// The pace of downloads; as it is if left out.
    pub down: Option<String>,
    /// For so long; until it is set again, or the daemon ends, if left out.
    pub seconds: Option<u64>,
    /// Back to the schedule, both ways.
    #[serde(default)]
    pub reset: bool,
}
