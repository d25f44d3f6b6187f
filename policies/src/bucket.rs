//! The pace of a link: a rate, and the bucket of bytes that keeps to it.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;
use std::time::Duration;

use crate::units::{self, UnitError};

const NANOS: i128 = 1_000_000_000;

/// How much unused rate is kept for later, in time. Over ten seconds it is 1 % of the bytes, half
/// of what the pace may be off; it is also how late a waiter may come without losing any rate.
const BURST: Duration = Duration::from_millis(100);

/// The largest piece that [`TokenBucket::piece_bytes_max`] suggests.
const PIECE_BYTES_MAX: u64 = 16 << 10;

/// How long one piece takes at the rate, unless [`PIECE_BYTES_MAX`] is less.
const PIECE: Duration = Duration::from_millis(50);

const _: () = assert!(PIECE.as_nanos() * 2 <= BURST.as_nanos(), "a piece always fits, with slack");

/// How many bytes may pass in a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rate {
    /// As many as the link takes.
    Unlimited,
    /// At most so many.
    BytesPerSecond(NonZeroU64),
    /// None, until the rate changes.
    Paused,
}

/// Bits are counted in thousands (`kbit`), bytes in thousands (`kB`) or by 1024 (`KiB`).
/// What is written is eight times the bytes per second, so that odd bit rates are exact.
const BIT_UNITS: &[(&str, u64)] = &[
    ("bit", 1),
    ("kbit", 1_000),
    ("Mbit", 1_000_000),
    ("Gbit", 1_000_000_000),
    ("B", 8),
    ("kB", 8_000),
    ("KiB", 8 << 10),
    ("MB", 8_000_000),
    ("MiB", 8 << 20),
    ("GB", 8_000_000_000),
    ("GiB", 8 << 30),
];

/// Why a text is no rate. The message says what would be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RateError {
    /// Neither a word that is known nor an amount.
    #[error("{0} (or \"unlimited\", or \"off\")")]
    Amount(#[from] UnitError),
    /// A rate below one byte in a second.
    #[error("a rate is at least 8bit/s; \"off\" lets nothing pass, \"unlimited\" everything")]
    TooSmall,
}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        match text.trim() {
            "unlimited" => Ok(Self::Unlimited),
            "off" => Ok(Self::Paused),
            amount => {
                let amount = amount.strip_suffix("/s").unwrap_or(amount);
                let bits = units::parse_scaled(amount, BIT_UNITS, "10Mbit/s")?;
                NonZeroU64::new(bits / 8).map(Self::BytesPerSecond).ok_or(RateError::TooSmall)
            }
        }
    }
}

impl fmt::Display for Rate {
    /// As [`Rate::from_str`] reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = match self {
            Self::Unlimited => return f.write_str("unlimited"),
            Self::Paused => return f.write_str("off"),
            Self::BytesPerSecond(bytes) => bytes.get(),
        };
        let bits = u128::from(bytes) * 8;
        let units: [(&str, u128); 5] = [
            ("GiB", 8 << 30),
            ("MiB", 8 << 20),
            ("KiB", 8 << 10),
            ("Mbit", 1_000_000),
            ("kbit", 1_000),
        ];
        match units.into_iter().find(|(_, scale)| bits % scale == 0) {
            Some((unit, scale)) => write!(f, "{}{unit}/s", bits / scale),
            None => write!(f, "{bytes}B/s"),
        }
    }
}

/// The answer to a request for bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "only `Now` allows the bytes to pass"]
pub enum Take {
    /// They may pass, and are counted.
    Now,
    /// Nothing was taken. Ask again after this time, or when the rate changes.
    After(Duration),
    /// Nothing was taken. Ask again when the rate changes.
    Paused,
}

/// A token bucket: over any time, no more bytes are given than the rate allows plus a burst of 100 ms.
///
/// Bytes are best asked for in pieces of at most [`TokenBucket::piece_bytes_max`]. A larger piece is given
/// too, when the bucket is full, and then paid off; the pace is kept on average, but not to 2 % in ten
/// seconds. Who asks first is served first if askers wait for each other; the bucket keeps no queue.
///
/// ```
/// use std::time::Duration;
/// use policies::{Take, TokenBucket};
/// let mut bucket = TokenBucket::new(Duration::ZERO, "10kB/s".parse()?);
/// assert_eq!(bucket.take(Duration::ZERO, 1_000), Take::Now);
/// assert_eq!(bucket.take(Duration::ZERO, 500), Take::After(Duration::from_millis(50)));
/// # Ok::<(), policies::bucket::RateError>(())
/// ```
#[derive(Clone, Debug)]
pub struct TokenBucket {
    rate: Rate,
    /// Bytes that may pass, times 10^9, so that nothing is lost to rounding. Negative: to be paid off.
    credit: i128,
    filled_at: Duration,
}

impl TokenBucket {
    /// A full bucket.
    #[must_use]
    pub fn new(now: Duration, rate: Rate) -> Self {
        Self { rate, credit: burst(rate), filled_at: now }
    }

    /// The rate in force.
    #[must_use]
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// Changes the rate, at once: what is waited for was computed with the old one, so ask again.
    pub fn set_rate(&mut self, now: Duration, rate: Rate) {
        self.fill(now);
        self.credit = match (self.rate, rate) {
            (Rate::Unlimited, Rate::BytesPerSecond(_) | Rate::Paused) => 0,
            (Rate::BytesPerSecond(_) | Rate::Paused, Rate::BytesPerSecond(_)) => {
                self.credit.min(burst(rate))
            }
            (_, Rate::Unlimited) | (Rate::BytesPerSecond(_) | Rate::Paused, Rate::Paused) => {
                self.credit
            }
        };
        self.rate = rate;
    }

    /// The largest piece to ask for, so that the pace is smooth and kept at slow rates too.
    #[must_use]
    pub fn piece_bytes_max(&self) -> u64 {
        match self.rate {
            Rate::BytesPerSecond(bytes) => {
                let millis = u64::try_from(PIECE.as_millis()).unwrap_or(u64::MAX);
                (bytes.get().saturating_mul(millis) / 1_000).clamp(1, PIECE_BYTES_MAX)
            }
            Rate::Unlimited | Rate::Paused => PIECE_BYTES_MAX,
        }
    }

    /// Asks for `bytes` to pass.
    pub fn take(&mut self, now: Duration, bytes: u64) -> Take {
        self.fill(now);
        let rate = match self.rate {
            Rate::Unlimited => return Take::Now,
            Rate::Paused => return Take::Paused,
            Rate::BytesPerSecond(rate) => i128::from(rate.get()),
        };
        let price = i128::from(bytes) * NANOS;
        let missing = price.min(burst(self.rate)) - self.credit;
        if missing > 0 {
            let nanos = u64::try_from((missing + rate - 1) / rate).unwrap_or(u64::MAX);
            return Take::After(Duration::from_nanos(nanos));
        }
        self.credit -= price;
        Take::Now
    }

    /// Adds what the rate allowed since the last time. Time that runs backwards adds nothing.
    fn fill(&mut self, now: Duration) {
        let elapsed = now.saturating_sub(self.filled_at);
        self.filled_at = self.filled_at.max(now);
        if let Rate::BytesPerSecond(rate) = self.rate {
            let earned = i128::from(rate.get()).saturating_mul(nanos(elapsed));
            self.credit = self.credit.saturating_add(earned).min(burst(self.rate));
        }
    }
}

/// What a full bucket holds: a burst, at least one byte.
fn burst(rate: Rate) -> i128 {
    match rate {
        Rate::BytesPerSecond(rate) => (i128::from(rate.get()) * nanos(BURST)).max(NANOS),
        Rate::Unlimited | Rate::Paused => 0,
    }
}

fn nanos(duration: Duration) -> i128 {
    i128::try_from(duration.as_nanos()).unwrap_or(i128::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);

    fn limited(bytes: u64) -> Rate {
        Rate::BytesPerSecond(NonZeroU64::new(bytes).unwrap())
    }

    #[test]
    fn rates_are_read_as_written() {
        let cases = [
            ("64kbit", limited(8_000)),
            ("64 kbit/s", limited(8_000)),
            ("10Mbit/s", limited(1_250_000)),
            ("1MiB/s", limited(1 << 20)),
            ("1.5 MB/s", limited(1_500_000)),
            ("unlimited", Rate::Unlimited),
            ("off", Rate::Paused),
        ];
        for (text, rate) in cases {
            assert_eq!(text.parse(), Ok(rate), "{text}");
        }
        for (text, says) in [
            ("0", "the unit is missing; use one of bit, kbit"),
            ("0kbit", "a rate is at least 8bit/s"),
            ("fast", "a number and a unit are needed, such as 10Mbit/s (or \"unlimited\""),
            ("10Mbit/h", "\"Mbit/h\" is no unit here"),
        ] {
            let message = text.parse::<Rate>().unwrap_err().to_string();
            assert!(message.starts_with(says), "{text}: {message}");
        }
    }

    #[test]
    fn a_pause_ends_with_the_next_rate() {
        let at = Duration::from_millis;
        let mut bucket = TokenBucket::new(at(0), Rate::Paused);
        assert_eq!(bucket.take(at(5_000), 1), Take::Paused);
        bucket.set_rate(at(5_000), limited(1_000));
        assert_eq!(bucket.take(at(5_000), 50), Take::After(at(50)));
        assert_eq!(bucket.take(at(5_050), 50), Take::Now);
        bucket.set_rate(at(5_050), Rate::Unlimited);
        assert_eq!(bucket.take(at(5_050), 1 << 40), Take::Now);
        bucket.set_rate(at(5_050), limited(1_000));
        assert_eq!(bucket.take(at(5_050), 10), Take::After(at(10)));
    }

    #[test]
    fn a_waiter_that_asks_again_gets_the_new_rate_at_once() {
        let at = Duration::from_millis;
        let mut bucket = TokenBucket::new(at(0), limited(1_000));
        assert_eq!(bucket.take(at(0), 100), Take::Now);
        assert_eq!(bucket.take(at(0), 100), Take::After(at(100)));
        bucket.set_rate(at(10), limited(100_000));
        assert_eq!(bucket.take(at(10), 100), Take::After(Duration::from_micros(900)));
    }

    #[test]
    fn a_piece_larger_than_the_burst_is_given_and_paid_off() {
        let at = Duration::from_millis;
        let mut bucket = TokenBucket::new(at(0), limited(1_000));
        assert_eq!(bucket.take(at(0), 2_000), Take::Now);
        assert_eq!(bucket.take(at(0), 1), Take::After(at(1_901)));
    }

    /// What a greedy sender passes: moments and bytes. `late` is how much each wake-up is off.
    fn send(
        rates: &[(Duration, Rate)],
        pieces: &[u64],
        late: &[u64],
        end: Duration,
    ) -> Vec<(Duration, u64)> {
        let mut bucket = TokenBucket::new(Duration::ZERO, rates[0].1);
        let mut changes = rates[1..].iter().copied().peekable();
        let (mut now, mut turn, mut passed) = (Duration::ZERO, 0, Vec::new());
        while now < end {
            while let Some((at, rate)) = changes.next_if(|(at, _)| *at <= now) {
                bucket.set_rate(at.max(bucket.filled_at), rate);
            }
            let bytes = pieces[turn % pieces.len()].min(bucket.piece_bytes_max());
            let change = changes.peek().map_or(end, |(at, _)| *at);
            match bucket.take(now, bytes) {
                Take::Now => {
                    passed.push((now, bytes));
                    turn += 1;
                }
                Take::After(wait) => {
                    let lateness = Duration::from_micros(late[turn % late.len()]);
                    now = (now + wait + lateness).min(change);
                }
                Take::Paused => now = change,
            }
        }
        passed
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_ten_seconds_are_within_two_percent(
            rate in prop_oneof![1_000u64..20_000, 20_000u64..2_000_000],
            pieces in prop::collection::vec(1u64..=PIECE_BYTES_MAX, 1..8),
            late in prop::collection::vec(0u64..20_000, 1..8),
        ) {
            // Pieces as large as a real sender's: tiny ones would only make the test slow.
            let pieces: Vec<_> = pieces.into_iter().map(|p| p.max(rate / 200)).collect();
            let end = 3 * WINDOW;
            let passed = send(&[(Duration::ZERO, limited(rate))], &pieces, &late, end);
            let allowed = rate * WINDOW.as_secs();
            let (mut from, mut sum) = (0, 0);
            for (until, &(at, bytes)) in passed.iter().enumerate() {
                sum += bytes;
                while passed[from].0 + WINDOW < at {
                    sum -= passed[from].1;
                    from += 1;
                }
                prop_assert!(sum * 100 <= allowed * 102, "{sum} of {allowed} by {at:?}");
                if from > 0 && until + 1 < passed.len() {
                    prop_assert!(sum * 100 >= allowed * 98, "{sum} of {allowed} by {at:?}");
                }
            }
            prop_assert!(passed.last().is_some_and(|(at, _)| *at + WINDOW / 10 > end));
        }

        #[test]
        fn no_window_gets_more_than_its_rates_and_a_burst(
            rates in prop::collection::vec((1u64..5_000, 0u64..400_000), 1..6),
            late in prop::collection::vec(0u64..20_000, 1..8),
        ) {
            let mut at = Duration::ZERO;
            let rates: Vec<_> = rates.into_iter().map(|(millis, rate)| {
                let start = at;
                at += Duration::from_millis(millis);
                (start, NonZeroU64::new(rate).map_or(Rate::Paused, Rate::BytesPerSecond))
            }).collect();
            let allowed = |from: Duration, to: Duration| -> f64 {
                let ends = rates.iter().skip(1).map(|(start, _)| *start).chain([at]);
                rates.iter().zip(ends).map(|(&(start, rate), end)| match rate {
                    Rate::BytesPerSecond(rate) => {
                        let (from, to) = (from.max(start), to.min(end));
                        rate.get() as f64 * to.saturating_sub(from).as_secs_f64()
                    }
                    Rate::Unlimited | Rate::Paused => 0.0,
                }).sum()
            };
            let burst = 400_000.0 * BURST.as_secs_f64();
            let passed = send(&rates, &[PIECE_BYTES_MAX], &late, at);
            for (first, &(from, _)) in passed.iter().enumerate() {
                let mut sum = 0;
                for &(to, bytes) in &passed[first..] {
                    sum += bytes;
                    prop_assert!(sum as f64 <= allowed(from, to) + burst + 1.0);
                }
            }
        }

        #[test]
        fn who_waits_as_told_is_served(rate in 1u64.., bytes: u64, taken in prop::collection::vec(any::<u64>(), 0..4)) {
            let mut bucket = TokenBucket::new(Duration::ZERO, limited(rate));
            for bytes in taken {
                let _ = bucket.take(Duration::ZERO, bytes);
            }
            if let Take::After(wait) = bucket.take(Duration::ZERO, bytes) {
                // A wait that no clock can hold is cut off.
                if wait < Duration::from_nanos(u64::MAX) {
                    prop_assert_eq!(bucket.take(wait, bytes), Take::Now);
                }
            }
        }

        #[test]
        fn a_rate_is_shown_as_it_is_read(rate in prop_oneof![1u64..1 << 60, (1u64..1 << 20).prop_map(|r| r << 20)]) {
            let rate = limited(rate);
            prop_assert_eq!(rate.to_string().parse(), Ok(rate));
        }
    }
}
