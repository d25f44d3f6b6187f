//! What the verbs about the log of events, and about those who are told of it, take and give.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::lists::list_default;

/// Which events are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventQuery {
    /// From this number on; if left out, the latest ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<i64>,
    /// `arrived`, `result`, `failed`, `verdict` or `alert`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Of this share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<String>,
    /// Of this hook.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hook: Option<String>,
    /// At most so many.
    #[serde(default = "list_default")]
    pub limit: usize,
}

/// Events, in the order in which they happened.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EventList {
    /// The events.
    pub events: Vec<Event>,
    /// The number from which to go on.
    pub next: i64,
    /// The number of the first that is still in the log.
    pub first: i64,
}

/// Something that happened to a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Its number: each has a greater one than those before.
    pub seq: i64,
    /// When.
    pub at: Timestamp,
    /// `arrived`, `result`, `failed`, `verdict` or `alert`.
    pub kind: String,
    /// The share.
    pub share: String,
    /// The file's path in the share at that time.
    pub path: String,
    /// The hook, if it was one.
    pub hook: Option<String>,
    /// What there is to say of it.
    pub data: serde_json::Value,
}

/// Somebody who is told of events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sink {
    /// Its name.
    pub name: String,
    /// Where it is, without what may be a secret.
    pub target: String,
    /// The last event that it has had, or does not want.
    pub seq: i64,
    /// How many are behind that; it may not want all of them.
    pub behind: u64,
    /// How many it has been told since the daemon started.
    pub told: u64,
    /// How many were dropped before it could have them.
    pub missed: u64,
    /// Why it takes nothing.
    pub error: Option<String>,
    /// Since when.
    pub failing_since: Option<Timestamp>,
}

/// What is to be done with a sink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum SinkChange {
    /// It is told again.
    Replay {
        /// Which.
        sink: String,
        /// From this event on.
        from: i64,
    },
    /// It is not told the event that it takes no more after.
    Skip {
        /// Which.
        sink: String,
    },
    /// It is tried now.
    Retry {
        /// Which.
        sink: String,
    },
}
