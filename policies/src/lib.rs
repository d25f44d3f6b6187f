//! What the gateway decides by rule: how fast, when, how much.
//!
//! Invariant: pure. Time is an argument, there is no clock, no I/O and no randomness here.

pub mod bucket;
pub mod budget;
pub mod chains;
pub mod concurrency;
pub mod event;
pub mod files;
pub mod gate;
pub mod line;
pub mod order;
pub mod pace;
pub mod pins;
pub mod quota;
pub mod schedule;
pub mod search;
pub mod sides;
pub mod units;
pub mod when;

pub use bucket::{Rate, Take, TokenBucket};
pub use budget::{Budget, Spent};
pub use event::{EventFilter, EventKind};
pub use files::Files;
pub use gate::{Gate, GateRule, Leave, Verdict};
pub use line::{Line, Ticket};
pub use order::Order;
pub use pins::Pins;
pub use quota::Quotas;
pub use schedule::{Schedule, ScheduleError, ScheduleSection, WindowSection};
pub use sides::{Conflicts, Deletes};
pub use when::When;
