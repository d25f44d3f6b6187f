//! Dates as stores write them.

use std::time::{SystemTime, UNIX_EPOCH};

const DAY_SECONDS: u64 = 24 * 60 * 60;
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// As in a header: `Thu, 01 Jan 1970 00:00:00 GMT`.
pub(super) fn http(time: SystemTime) -> String {
    let (days, year, month, day, clock) = parts(time);
    let weekday = usize::try_from(days % 7).unwrap_or(0);
    format!("{}, {day:02} {} {year} {clock} GMT", WEEKDAYS[weekday], MONTHS[month - 1])
}

/// As in a listing: `1970-01-01T00:00:00.000Z`.
pub(super) fn iso(time: SystemTime) -> String {
    let (_, year, month, day, clock) = parts(time);
    format!("{year}-{month:02}-{day:02}T{clock}.000Z")
}

/// Days since 1970, year, month, day, and the time of the day.
fn parts(time: SystemTime) -> (u64, u64, usize, u64, String) {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, second) = (seconds / DAY_SECONDS, seconds % DAY_SECONDS);
    let clock = format!("{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60);
    let (mut year, mut day) = (1970, days);
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    while day >= 365 + u64::from(is_leap(year)) {
        day -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while day >= lengths[month] {
        day -= lengths[month];
        month += 1;
    }
    (days, year, month + 1, day + 1, clock)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_leap_day_is_one() {
        let time = UNIX_EPOCH + Duration::from_secs(1_709_210_096);
        assert_eq!(http(time), "Thu, 29 Feb 2024 12:34:56 GMT");
        assert_eq!(iso(time), "2024-02-29T12:34:56.000Z");
    }
}
