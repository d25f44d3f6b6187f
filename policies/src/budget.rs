//! How many bytes may pass in a day and in a month, as the calendar of a named time zone has them.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// Bytes a day and a month; none is no limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// From midnight to midnight.
    pub day: Option<u64>,
    /// From the first to the last of a month.
    pub month: Option<u64>,
    /// Whose midnight it is.
    pub zone: TimeZone,
}

impl Default for Budget {
    fn default() -> Self {
        Self { day: None, month: None, zone: TimeZone::UTC }
    }
}

/// What has passed, by the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent {
    /// The day.
    pub date: Date,
    /// Bytes on that day.
    pub day: u64,
    /// Bytes in its month.
    pub month: u64,
}

impl Default for Spent {
    fn default() -> Self {
        Self { date: Date::ZERO, day: 0, month: 0 }
    }
}

impl Budget {
    /// Whether there is any.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.day.is_some() || self.month.is_some()
    }

    /// What of `spent` counts at `now`: a new day and a new month begin with nothing. A clock that goes back over midnight by a little
    /// begins no day anew.
    #[must_use]
    pub fn at(&self, spent: Spent, now: Timestamp) -> Spent {
        let today = self.zone.to_datetime(now).date();
        if today == spent.date || today.tomorrow().is_ok_and(|tomorrow| tomorrow == spent.date) {
            return spent;
        }
        let same_month = (today.year(), today.month()) == (spent.date.year(), spent.date.month());
        Spent { date: today, day: 0, month: if same_month { spent.month } else { 0 } }
    }

    /// How many bytes may pass after `spent`; none if there is no limit.
    #[must_use]
    pub fn left(&self, spent: Spent) -> Option<u64> {
        let day = self.day.map(|day| day.saturating_sub(spent.day));
        let month = self.month.map(|month| month.saturating_sub(spent.month));
        day.into_iter().chain(month).min()
    }

    /// When more may pass than is left: the next midnight, or that of the next month's first if the month's budget is what is short.
    #[must_use]
    pub fn resets(&self, spent: Spent) -> Option<Timestamp> {
        let of_month = self.month.is_some_and(|month| month <= spent.month);
        let next = match of_month {
            true => spent.date.last_of_month().tomorrow(),
            false => spent.date.tomorrow(),
        };
        // Where the clocks skip midnight, the day begins with the first moment there is.
        let start = next.and_then(|date| date.to_zoned(self.zone.clone()));
        start.ok().map(|start| start.timestamp())
    }
}

impl Spent {
    /// With `bytes` more.
    #[must_use]
    pub fn plus(self, bytes: u64) -> Self {
        Self {
            day: self.day.saturating_add(bytes),
            month: self.month.saturating_add(bytes),
            ..self
        }
    }

    /// With `bytes` less: they did not pass after all.
    #[must_use]
    pub fn minus(self, bytes: u64) -> Self {
        Self {
            day: self.day.saturating_sub(bytes),
            month: self.month.saturating_sub(bytes),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZoneDatabase;
    use proptest::prelude::*;

    use super::*;

    fn budget(zone: &str, day: u64, month: u64) -> Budget {
        let zone = TimeZoneDatabase::bundled().get(zone).unwrap();
        Budget { day: Some(day), month: Some(month), zone }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_day_ends_at_midnight_where_the_budget_is_meant() {
        let budget = budget("Europe/Berlin", 100, 1000);
        let spent = budget.at(Spent::default(), at("2026-07-01T21:59:59Z")).plus(100);
        assert_eq!(budget.left(spent), Some(0));
        assert_eq!(budget.resets(spent), Some(at("2026-07-01T22:00:00Z")));
        let next = budget.at(spent, at("2026-07-01T22:00:00Z"));
        assert_eq!((budget.left(next), next.month), (Some(100), 100));
        // In winter it is an hour later.
        let spent = budget.at(Spent::default(), at("2026-12-01T22:59:59Z"));
        assert_eq!(budget.resets(spent), Some(at("2026-12-01T23:00:00Z")));
    }

    #[test]
    fn a_month_that_is_spent_waits_for_the_next() {
        let budget = budget("UTC", 100, 150);
        let spent = budget.at(Spent::default(), at("2026-02-10T12:00:00Z")).plus(100);
        let next = budget.at(spent, at("2026-02-11T12:00:00Z"));
        assert_eq!(budget.left(next), Some(50));
        let all = next.plus(50);
        assert_eq!(
            (budget.left(all), budget.resets(all)),
            (Some(0), Some(at("2026-03-01T00:00:00Z")))
        );
        let march = budget.at(all, at("2026-03-01T00:00:00Z"));
        assert_eq!(budget.left(march), Some(100));
        assert_eq!(march.minus(5), march, "nothing is less than nothing");
    }

    #[test]
    fn days_of_odd_lengths_and_without_a_midnight_end_when_they_end() {
        // In Beirut the clocks skip midnight: the day begins at one.
        let budget = budget("Asia/Beirut", 1, 9);
        let spent = budget.at(Spent::default(), at("2026-03-28T21:59:00Z")).plus(1);
        let resets = budget.resets(spent).unwrap();
        assert_eq!(resets, at("2026-03-28T22:00:00Z"));
        assert_eq!(budget.left(budget.at(spent, resets)), Some(1));
    }

    #[test]
    fn a_clock_that_is_set_back_a_little_begins_no_day_anew() {
        let budget = budget("UTC", 100, 1000);
        let spent = budget.at(Spent::default(), at("2026-02-11T00:00:01Z")).plus(70);
        assert_eq!(budget.at(spent, at("2026-02-10T23:59:58Z")), spent);
        // One that was years ahead does not keep the gateway waiting for them.
        let far = Spent { date: "2031-01-01".parse().unwrap(), day: 100, month: 100 };
        assert_eq!(budget.left(budget.at(far, at("2026-02-10T00:00:00Z"))), Some(100));
    }

    proptest! {
        #[test]
        fn whoever_waits_until_the_reset_may_go_on(
            seconds in 0i64..4_000_000_000, day in 1u64..1000, month in 1u64..5000, used in 0u64..6000,
            zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "America/Sao_Paulo", "Asia/Beirut", "Pacific/Apia"]),
        ) {
            let budget = budget(zone, day, month);
            let now = Timestamp::from_second(seconds).unwrap();
            let spent = budget.at(Spent::default(), now).plus(used);
            let resets = budget.resets(spent).unwrap();
            prop_assert!(resets > now, "{resets} {now}");
            prop_assert!(budget.left(budget.at(spent, resets)).unwrap() > 0);
            if budget.left(spent) == Some(0) {
                let before = Timestamp::from_nanosecond(resets.as_nanosecond() - 1).unwrap();
                prop_assert_eq!(budget.left(budget.at(spent, before)), Some(0));
            }
        }
    }
}
