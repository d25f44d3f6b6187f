//! How much goes on at once over a link that nobody described: as much as brings more through, and no more.
//!
//! A hill climb on what gets done in a time. While all places are taken, half as many again are tried; if that does not bring clearly more,
//! it is as before for a while, and then tried anew, since links change. A store that says «slow down» gets half.

use std::time::Duration;

/// Never less at once.
pub const AT_ONCE_MIN: usize = 16;
/// Never more.
pub const AT_ONCE_MAX: usize = 128;

/// What gets done with more at once must have grown by this part of what more goes on to be worth it.
const GAIN_MIN: f64 = 1.0 / 3.0;
/// A measurement is at least so many times what goes on at once, and takes at least so long.
const ROUNDS: usize = 2;
const MEASURE_MIN: Duration = Duration::from_millis(50);
/// So many measurements until more is tried again.
const REST: u32 = 20;

/// How much may go on at once, from what got done so far.
#[derive(Clone, Debug, PartialEq)]
pub struct Concurrency {
    limit: usize,
    climb: Climb,
    /// When the measurement under way began, and what got done since.
    begin: Option<Duration>,
    done: usize,
    /// It was told to slow down, and nothing was measured since.
    slowed: bool,
}

/// ```text
/// Level ─measured► Higher ─more got done► Higher
///   ▲                └───── no more ─────► Rests ─REST measurements► Level
///   └───────────────────────────────────────┘
/// any ─slow down► Rests, with half
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
enum Climb {
    /// It is to be measured what gets done.
    Level,
    /// More is tried than with `limit`, with which so much got done in a second.
    Higher { limit: usize, rate: f64 },
    /// It stays for so many measurements.
    Rests { left: u32 },
}

impl Default for Concurrency {
    fn default() -> Self {
        Self { limit: AT_ONCE_MIN, climb: Climb::Level, begin: None, done: 0, slowed: false }
    }
}

impl Concurrency {
    /// How much may go on at once.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Something got done at `now`. `full`: all places were taken until then, so that it tells something.
    pub fn done(&mut self, now: Duration, full: bool) {
        if !full {
            self.begin = None;
            return;
        }
        let Some(begin) = self.begin else {
            (self.begin, self.done) = (Some(now), 0);
            return;
        };
        self.done += 1;
        let took = now.saturating_sub(begin);
        if self.done >= ROUNDS * self.limit && took >= MEASURE_MIN {
            self.measured(self.done as f64 / took.as_secs_f64());
            self.begin = None;
        }
    }

    /// The store asked for less, or something got lost on the way to it. What was under way then and is told so too counts once.
    pub fn slow_down(&mut self) {
        if std::mem::replace(&mut self.slowed, true) {
            return;
        }
        self.limit = (self.limit / 2).max(AT_ONCE_MIN);
        (self.climb, self.begin) = (Climb::Rests { left: REST }, None);
    }

    fn measured(&mut self, rate: f64) {
        self.slowed = false;
        match self.climb {
            Climb::Rests { left: 0 } | Climb::Level => self.climb(rate),
            Climb::Rests { left } => self.climb = Climb::Rests { left: left - 1 },
            Climb::Higher { limit, rate: before }
                if rate / before - 1.0 >= (self.limit as f64 / limit as f64 - 1.0) * GAIN_MIN =>
            {
                self.climb(rate);
            }
            Climb::Higher { limit, .. } => {
                (self.limit, self.climb) = (limit, Climb::Rests { left: REST });
            }
        }
    }

    fn climb(&mut self, rate: f64) {
        let limit = self.limit;
        self.limit = (limit + limit / 2).min(AT_ONCE_MAX);
        self.climb = match self.limit == limit {
            true => Climb::Rests { left: REST },
            false => Climb::Higher { limit, rate },
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What goes on at once after `count` transfers that take `latency`, where at most `rate_max` in a second get through.
    fn settled(concurrency: &mut Concurrency, latency: Duration, rate_max: f64, count: usize) {
        let mut now = Duration::from_secs(1);
        for _ in 0..count {
            let rate = (concurrency.limit() as f64 / latency.as_secs_f64()).min(rate_max);
            now += Duration::from_secs_f64(1.0 / rate);
            concurrency.done(now, true);
        }
    }

    #[test]
    fn far_away_more_goes_on_at_once_until_the_link_is_full() {
        let mut far = Concurrency::default();
        settled(&mut far, Duration::from_millis(20), 3000.0, 4000);
        assert!((54..=100).contains(&far.limit()), "{far:?}");
        settled(&mut far, Duration::from_millis(200), 3000.0, 20_000);
        assert_eq!(far.limit(), AT_ONCE_MAX, "the link has changed");
    }

    #[test]
    fn where_more_at_once_brings_nothing_it_stays() {
        let mut near = Concurrency::default();
        let mut above = 0;
        for _ in 0..200 {
            settled(&mut near, Duration::from_micros(100), 2000.0, 100);
            above += usize::from(near.limit() > AT_ONCE_MIN);
        }
        assert!(above < 40, "only tried now and then: {above} of 200");
    }

    #[test]
    fn what_does_not_fill_its_places_tells_nothing() {
        let mut idle = Concurrency::default();
        for n in 0..1000 {
            idle.done(Duration::from_millis(n * 10), n % 10 != 0);
        }
        assert_eq!(idle.limit(), AT_ONCE_MIN);
    }

    #[test]
    fn a_store_that_asks_for_less_gets_half_for_a_while() {
        let mut far = Concurrency::default();
        settled(&mut far, Duration::from_millis(20), 1e6, 8000);
        assert_eq!(far.limit(), AT_ONCE_MAX);
        far.slow_down();
        assert_eq!(far.limit(), AT_ONCE_MAX / 2);
        settled(&mut far, Duration::from_millis(20), 1e6, AT_ONCE_MAX);
        assert_eq!(far.limit(), AT_ONCE_MAX / 2);
        far.slow_down();
        assert_eq!(far.limit(), AT_ONCE_MAX / 2, "nothing was measured since");
        for _ in 0..9 {
            settled(&mut far, Duration::from_millis(20), 1e6, 3 * AT_ONCE_MAX);
            far.slow_down();
        }
        assert_eq!(far.limit(), AT_ONCE_MIN);
    }
}
