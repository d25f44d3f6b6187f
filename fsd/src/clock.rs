//! Time as an argument: nothing below `app` asks the machine for it.

use std::time::Duration;

use crate::types::Time;

/// Where a part gets the time from, and how it waits.
#[async_trait::async_trait]
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// The time of day.
    fn wall(&self) -> Time;

    /// Time since some fixed moment; never runs backwards.
    fn monotonic(&self) -> Duration;

    /// Waits.
    ///
    /// # Cancel safety
    /// Nothing happens after the future is dropped.
    async fn sleep(&self, duration: Duration);
}

/// The machine's clock, seen through tokio, so that a paused runtime pauses it.
#[derive(Debug)]
pub struct SystemClock {
    start: tokio::time::Instant,
}

impl SystemClock {
    /// A clock whose monotonic time starts at zero.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is where the ambient clock comes in")]
    pub fn new() -> Self {
        Self { start: tokio::time::Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait::async_trait]
impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is where the ambient clock comes in")]
    fn wall(&self) -> Time {
        Time::from(std::time::SystemTime::now())
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    #[expect(clippy::disallowed_methods, reason = "this is where the ambient clock comes in")]
    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}
