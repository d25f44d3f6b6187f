//! What a share's configuration says about the way its files go.

use std::time::Duration;

use policies::{Conflicts, Deletes, Gate, Order};

/// How long what was set aside or thrown away can be got back, unless said otherwise.
pub const RETENTION: Duration = Duration::from_secs(30 * 86_400);

/// A share's rules.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rules {
    /// Whose version keeps the name when both sides changed a file.
    pub conflicts: Conflicts,
    /// How long versions that were set aside are kept.
    pub conflicts_retention: Duration,
    /// What happens to the object of a file that was deleted.
    pub deletes: Deletes,
    /// How long objects stay in the trash.
    pub trash_retention: Duration,
    /// Which share goes first: the highest.
    pub priority: i32,
    /// How many places for transfers, and how much of the gateway's rate, it gets beside others.
    pub weight: u32,
    /// Which files go first.
    pub order: Order,
    /// How long something may wait before that is said aloud.
    pub alert_after: Option<Duration>,
    /// What no file leaves without.
    pub gates: Vec<Gate>,
}

impl Rules {
    /// These, behind `gates`.
    #[must_use]
    pub fn with_gates(self, gates: Vec<Gate>) -> Self {
        Self { gates, ..self }
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            conflicts: Conflicts::default(),
            conflicts_retention: RETENTION,
            deletes: Deletes::default(),
            trash_retention: RETENTION,
            priority: 0,
            weight: 1,
            order: Order::default(),
            alert_after: None,
            gates: Vec::new(),
        }
    }
}
