//! When a hook looks at what has arrived: at once, or all that came since, now and then.

use std::str::FromStr as _;
use std::time::Duration;

use croner::Cron;
use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};

/// What may be wrong with the times of a hook. The message says what would be right.
#[derive(Clone, Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum WhenError {
    #[error("a hook looks `every` so often or as `cron` says, not both")]
    Both,
    #[error(
        "five fields are needed, minute hour day month weekday, as in \"0 2 * * mon-fri\": {0}"
    )]
    Cron(String),
    #[error("no such time zone; use an IANA name such as \"Europe/Berlin\" or \"UTC\"")]
    TimeZone,
    #[error("`cron` needs a `time_zone`, such as \"Europe/Berlin\" or \"UTC\"; nothing else does")]
    NoTimeZone,
}

/// When a hook looks at a version that has arrived.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct When {
    occasion: Occasion,
    /// How long nothing newer must have arrived: who writes again and again is looked at when he is done.
    debounce: Duration,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Occasion {
    #[default]
    Arrival,
    /// At whole multiples of it since 1970.
    Every(Duration),
    Cron(Box<Cron>, TimeZone),
}

impl When {
    /// So long after the arrival, at once or at the next moment of a period or of a cron pattern.
    ///
    /// # Errors
    /// If these do not go together.
    pub fn check(
        every: Option<Duration>,
        cron: Option<(&str, Option<&str>)>,
        debounce: Duration,
        zones: &TimeZoneDatabase,
    ) -> Result<Self, WhenError> {
        let occasion = match (every, cron) {
            (None, None) => Occasion::Arrival,
            (Some(_), Some(_)) => return Err(WhenError::Both),
            (Some(every), None) => Occasion::Every(every),
            (None, Some((pattern, zone))) => {
                let cron =
                    Cron::from_str(pattern).map_err(|error| WhenError::Cron(error.to_string()))?;
                let zone = zones.get(zone.ok_or(WhenError::NoTimeZone)?);
                Occasion::Cron(Box::new(cron), zone.map_err(|_| WhenError::TimeZone)?)
            }
        };
        Ok(Self { occasion, debounce })
    }

    /// When it looks at what arrived at `arrived`, both in milliseconds since 1970.
    ///
    /// ```
    /// use std::time::Duration;
    /// use policies::When;
    /// let zones = jiff::tz::TimeZoneDatabase::bundled();
    /// let every = When::check(Some(Duration::from_secs(300)), None, Duration::ZERO, &zones).unwrap();
    /// assert_eq!(every.due(300_001), 600_000);
    /// assert_eq!(every.due(600_000), 600_000);
    /// ```
    #[must_use]
    pub fn due(&self, arrived: i64) -> i64 {
        let quiet = arrived.saturating_add(millis(self.debounce));
        match &self.occasion {
            Occasion::Arrival => quiet,
            Occasion::Every(period) => {
                let period = millis(*period).max(1);
                // `quiet` is after 1970, or close.
                (quiet - 1).div_euclid(period).saturating_add(1).saturating_mul(period)
            }
            Occasion::Cron(cron, zone) => {
                let from = Timestamp::from_millisecond(quiet).unwrap_or(Timestamp::UNIX_EPOCH);
                let next = cron.find_next_occurrence(&from.to_zoned(zone.clone()), true);
                // One that never comes (the 31st of February) is refused by nobody: at once is better than never.
                next.map_or(quiet, |next| next.timestamp().as_millisecond().max(quiet))
            }
        }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_millisecond()
    }

    fn cron(pattern: &str, zone: Option<&str>) -> Result<When, WhenError> {
        let zones = TimeZoneDatabase::bundled();
        When::check(None, Some((pattern, zone)), Duration::ZERO, &zones)
    }

    #[test]
    fn at_once_means_when_it_is_quiet() {
        let zones = TimeZoneDatabase::bundled();
        assert_eq!(When::default().due(7), 7);
        let quiet = When::check(None, None, Duration::from_secs(10), &zones).unwrap();
        assert_eq!(quiet.due(7), 10_007);
        let both =
            When::check(Some(Duration::from_secs(60)), None, Duration::from_secs(10), &zones);
        assert_eq!(both.unwrap().due(55_000), 120_000, "the period that follows the quiet");
    }

    #[test]
    fn a_cron_pattern_is_read_as_the_wall_clock_shows_it() {
        let nightly = cron("0 2 * * *", Some("Europe/Berlin")).unwrap();
        assert_eq!(nightly.due(at("2026-11-27T10:00:00Z")), at("2026-11-28T01:00:00Z"));
        assert_eq!(nightly.due(at("2026-07-01T10:00:00Z")), at("2026-07-02T00:00:00Z"));
        assert_eq!(nightly.due(at("2026-11-28T01:00:00Z")), at("2026-11-28T01:00:00Z"));
        let workdays = cron("*/15 8-17 * * mon-fri", Some("UTC")).unwrap();
        assert_eq!(workdays.due(at("2026-11-27T17:50:00Z")), at("2026-11-30T08:00:00Z"));
    }

    #[test]
    fn what_makes_no_sense_is_told_what_would() {
        assert!(matches!(cron("often", Some("UTC")), Err(WhenError::Cron(_))));
        assert!(matches!(cron("0 2 * * *", None), Err(WhenError::NoTimeZone)));
        assert!(matches!(cron("0 2 * * *", Some("Mars/Base")), Err(WhenError::TimeZone)));
        let zones = TimeZoneDatabase::bundled();
        let period = Some(Duration::from_secs(60));
        let both = When::check(period, Some(("0 2 * * *", Some("UTC"))), Duration::ZERO, &zones);
        assert!(matches!(both, Err(WhenError::Both)));
    }
}
