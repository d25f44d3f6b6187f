//! What the gateway decides by rule: how fast, when, how much.
//!
//! Invariant: pure. Time is an argument, there is no clock, no I/O and no randomness here.

pub mod bucket;
pub mod pins;
pub mod quota;
pub mod schedule;
pub mod units;

pub use bucket::{Rate, Take, TokenBucket};
pub use pins::Pins;
pub use quota::Quotas;
pub use schedule::{Schedule, ScheduleError, ScheduleSection, WindowSection};
