//! Virtual time: it stands still while anything runs, and jumps to the next moment somebody waits for when nothing does.

use std::time::Duration;

use fsd::clock::Clock;
use fsd::types::Time;

/// Some moment in 2026 at which every simulation begins.
const BEGIN_SECS: i64 = 1_780_000_000;

/// A clock over a paused runtime, `passed` after the simulation's begin.
#[derive(Debug)]
pub(super) struct VirtualClock {
    passed: Duration,
    start: tokio::time::Instant,
}

impl VirtualClock {
    #[expect(clippy::disallowed_methods, reason = "the runtime's time is paused")]
    pub(super) fn new(passed: Duration) -> Self {
        Self { passed, start: tokio::time::Instant::now() }
    }
}

#[async_trait::async_trait]
impl Clock for VirtualClock {
    fn wall(&self) -> Time {
        let now = self.monotonic();
        let secs = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        Time { secs: BEGIN_SECS.saturating_add(secs), nanos: now.subsec_nanos() }
    }

    fn monotonic(&self) -> Duration {
        self.passed + self.start.elapsed()
    }

    #[expect(clippy::disallowed_methods, reason = "the runtime's time is paused")]
    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}
