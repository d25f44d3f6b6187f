//! Rates by weekday and time of day, as a wall clock in a named time zone shows them.
//!
//! Invariant: the wall clock decides. A window holds whenever the clock shows a time in it: twice the hours
//! that are turned back in autumn, never the hour that is skipped in spring.

use jiff::civil::{Date, DateTime, Weekday};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Serialize};

use crate::bucket::{Rate, RateError};
use crate::budget::Budget;
use crate::units::{UnitError, parse_bytes, show_bytes};

/// The most windows of one schedule.
pub const WINDOWS_MAX: usize = 64;

/// The smallest budget that is useful.
pub const BUDGET_BYTES_LEAST: u64 = 1 << 20;

/// How far [`Schedule::next_change`] looks: two weeks, since a change of the clocks may skip a window once.
const HORIZON_DAYS: i32 = 15;

const DAY_MINUTES: u16 = 24 * 60;

/// A schedule as it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleSection {
    /// The rate outside of every window; `unlimited` if left out.
    pub default: Option<String>,
    /// The IANA name of the zone that windows and budgets are meant in; needed if there are any.
    pub time_zone: Option<String>,
    /// The most bytes from midnight to midnight.
    pub budget_day: Option<String>,
    /// The most bytes of a month.
    pub budget_month: Option<String>,
    /// Windows. Where two overlap, the later one in the file wins.
    #[serde(default)]
    pub window: Vec<WindowSection>,
}

/// A window as it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowSection {
    /// Days on which it starts: `mon-fri`, `sat, sun`; every day if left out.
    pub days: Option<String>,
    /// When it starts: `22:00`; midnight if left out.
    pub from: Option<String>,
    /// When it ends, on the next day if that is not after `from`; midnight if left out.
    pub to: Option<String>,
    /// The rate in the window.
    pub rate: String,
}

/// What is wrong with one value of a schedule.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{key} is {value:?}: {problem}")]
pub struct ScheduleError {
    /// Where it stands: `window.0.rate`, counted from zero.
    pub key: String,
    /// The value as written.
    pub value: String,
    /// What is wrong, and what would be right.
    #[source]
    pub problem: ScheduleProblem,
}

/// What may be wrong with a value of a schedule. The message says what would be right.
#[derive(Clone, Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum ScheduleProblem {
    #[error(transparent)]
    Rate(#[from] RateError),
    #[error("no such time zone; use an IANA name such as \"Europe/Berlin\" or \"UTC\"")]
    TimeZone(#[source] jiff::Error),
    #[error("windows need a `time_zone`, such as \"Europe/Berlin\" or \"UTC\"")]
    NoTimeZone,
    #[error(
        "a budget needs a `time_zone` that says when midnight is, such as \"Europe/Berlin\" or \"UTC\""
    )]
    NoMidnight,
    #[error(transparent)]
    Bytes(#[from] UnitError),
    #[error("the smallest useful budget is {}", show_bytes(BUDGET_BYTES_LEAST))]
    BudgetTooSmall,
    #[error(
        "days are mon, tue, wed, thu, fri, sat, sun, as a list (\"sat, sun\") or a range (\"mon-fri\")"
    )]
    Days,
    #[error("a time of day is written HH:MM, from 00:00 to 24:00")]
    TimeOfDay,
    #[error(
        "the window starts and ends at the same time; for whole days leave out `from` and `to`"
    )]
    Empty,
    #[error("a schedule has at most {WINDOWS_MAX} windows")]
    TooMany,
}

/// The rate of each moment. Equal schedules have equal rates at all times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    default: Rate,
    zone: TimeZone,
    windows: Vec<Window>,
    budget: Budget,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Window {
    /// Days on which it starts, Monday first.
    days: [bool; 7],
    /// Minutes since midnight.
    from: u16,
    /// Minutes since midnight, on the next day if not after `from`.
    to: u16,
    rate: Rate,
}

impl From<Rate> for Schedule {
    /// The same rate at all times.
    fn from(rate: Rate) -> Self {
        Self { default: rate, zone: TimeZone::UTC, windows: Vec::new(), budget: Budget::default() }
    }
}

impl Default for Schedule {
    fn default() -> Self {
        Rate::Unlimited.into()
    }
}

impl Schedule {
    /// Checks what is written; `zones` knows the names of time zones.
    ///
    /// # Errors
    /// All values that are wrong, in the order of the section.
    pub fn check(
        section: &ScheduleSection,
        zones: &TimeZoneDatabase,
    ) -> Result<Self, Vec<ScheduleError>> {
        let mut errors = Vec::new();
        let mut note = |key: &str, value: &str, problem: ScheduleProblem| {
            errors.push(ScheduleError { key: key.to_owned(), value: value.to_owned(), problem });
        };
        let default = match section.default.as_deref().map(|text| (text, text.parse())) {
            None => Rate::Unlimited,
            Some((_, Ok(rate))) => rate,
            Some((text, Err(error))) => {
                note("default", text, RateError::into(error));
                Rate::Paused
            }
        };
        let zone = match section.time_zone.as_deref() {
            None => {
                if !section.window.is_empty() {
                    note("time_zone", "", ScheduleProblem::NoTimeZone);
                } else if section.budget_day.is_some() || section.budget_month.is_some() {
                    note("time_zone", "", ScheduleProblem::NoMidnight);
                }
                TimeZone::UTC
            }
            Some(name) => zones.get(name).unwrap_or_else(|error| {
                note("time_zone", name, ScheduleProblem::TimeZone(error));
                TimeZone::UTC
            }),
        };
        let mut bytes =
            |key: &str, text: Option<&str>| match text.map(|text| (text, parse_bytes(text))) {
                None => None,
                Some((text, Ok(bytes))) if bytes < BUDGET_BYTES_LEAST => {
                    note(key, text, ScheduleProblem::BudgetTooSmall);
                    None
                }
                Some((_, Ok(bytes))) => Some(bytes),
                Some((text, Err(error))) => {
                    note(key, text, error.into());
                    None
                }
            };
        let day = bytes("budget_day", section.budget_day.as_deref());
        let month = bytes("budget_month", section.budget_month.as_deref());
        let budget = Budget { day, month, zone: zone.clone() };
        if section.window.len() > WINDOWS_MAX {
            note("window", &section.window.len().to_string(), ScheduleProblem::TooMany);
        }
        let mut windows = Vec::new();
        for (index, window) in section.window.iter().take(WINDOWS_MAX).enumerate() {
            match Window::check(window) {
                Ok(window) => windows.push(window),
                Err((key, value, problem)) => {
                    note(&format!("window.{index}.{key}"), value, problem)
                }
            }
        }
        if errors.is_empty() { Ok(Self { default, zone, windows, budget }) } else { Err(errors) }
    }

    /// How many bytes may pass in a day and in a month.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// The rate at a moment.
    #[must_use]
    pub fn rate_at(&self, now: Timestamp) -> Rate {
        let wall = self.zone.to_datetime(now);
        self.windows.iter().rev().find(|w| w.holds(wall)).map_or(self.default, |w| w.rate)
    }

    /// The first moment after `now` at which the rate is another one; none if it stays.
    #[must_use]
    pub fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        let rate = self.rate_at(now);
        let mut moments = self.moments_after(now);
        moments.sort_unstable();
        moments.into_iter().find(|&moment| moment > now && self.rate_at(moment) != rate)
    }

    /// All moments up to the horizon at which the rate may change, and some before `now`.
    fn moments_after(&self, now: Timestamp) -> Vec<Timestamp> {
        let today = self.zone.to_datetime(now).date();
        let last = today.saturating_add(HORIZON_DAYS.days());
        let mut minutes: Vec<u16> = self.windows.iter().flat_map(|w| [w.from, w.to]).collect();
        minutes.sort_unstable();
        minutes.dedup();
        let mut moments: Vec<Timestamp> = today
            .series(1.day())
            .take_while(|date| *date <= last)
            .flat_map(|date| minutes.iter().map(move |&minutes| at_minute(date, minutes)))
            .map(|wall| self.zone.to_ambiguous_timestamp(wall))
            .flat_map(|moment| [moment.earlier(), moment.later()])
            .flatten()
            .collect();
        // Where the clocks change, the wall may show a time in or out of a window without passing its ends.
        if !self.windows.is_empty() {
            let changes = self.zone.following(now).map(|change| change.timestamp());
            moments.extend(changes.take_while(|&at| self.zone.to_datetime(at).date() <= last));
        }
        moments
    }
}

impl Window {
    fn check(section: &WindowSection) -> Result<Self, (&'static str, &str, ScheduleProblem)> {
        let days = match section.days.as_deref() {
            None => [true; 7],
            Some(text) => parse_days(text).ok_or(("days", text, ScheduleProblem::Days))?,
        };
        let time = |key, text| match text {
            None => Ok(None),
            Some(text) => {
                parse_minutes(text).map(Some).ok_or((key, text, ScheduleProblem::TimeOfDay))
            }
        };
        let from = time("from", section.from.as_deref())?.unwrap_or(0);
        let to = time("to", section.to.as_deref())?.unwrap_or(DAY_MINUTES);
        if from % DAY_MINUTES == to % DAY_MINUTES && (from, to) != (0, DAY_MINUTES) {
            let text = section.to.as_deref().unwrap_or_default();
            return Err(("to", text, ScheduleProblem::Empty));
        }
        let rate = section.rate.parse().map_err(|error: RateError| {
            ("rate", section.rate.as_str(), ScheduleProblem::from(error))
        })?;
        Ok(Self { days, from: from % DAY_MINUTES, to, rate })
    }

    /// Whether a clock that shows `wall` shows a time in this window.
    fn holds(&self, wall: DateTime) -> bool {
        let minute = u16::try_from(i32::from(wall.hour()) * 60 + i32::from(wall.minute()));
        let minute = minute.unwrap_or(DAY_MINUTES);
        let starts_on =
            |day: Weekday| self.days[usize::from(day.to_monday_zero_offset().unsigned_abs())];
        let (today, yesterday) = (wall.weekday(), wall.weekday().previous());
        if self.from < self.to {
            starts_on(today) && (self.from..self.to).contains(&minute)
        } else {
            (starts_on(today) && minute >= self.from) || (starts_on(yesterday) && minute < self.to)
        }
    }
}

fn at_minute(date: Date, minutes: u16) -> DateTime {
    date.at(0, 0, 0, 0).saturating_add(i64::from(minutes).minutes())
}

fn parse_minutes(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |text: &str| {
        (text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
    };
    let (hours, minutes): (u16, u16) = (number(hours)?, number(minutes)?);
    let sum = hours * 60 + minutes;
    (minutes < 60 && sum <= DAY_MINUTES).then_some(sum)
}

fn parse_days(text: &str) -> Option<[bool; 7]> {
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (mut day, last) = (parse_day(first)?, parse_day(last)?);
        days[day] = true;
        while day != last {
            day = (day + 1) % 7;
            days[day] = true;
        }
    }
    Some(days)
}

fn parse_day(text: &str) -> Option<usize> {
    const NAMES: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    NAMES.iter().position(|name| name.eq_ignore_ascii_case(text.trim()))
}

#[cfg(test)]
mod tests;
