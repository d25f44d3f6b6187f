use proptest::prelude::*;

use super::*;

fn window(days: &str, from: &str, to: &str, rate: &str) -> WindowSection {
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    WindowSection { days: given(days), from: given(from), to: given(to), rate: rate.to_owned() }
}

fn section(zone: &str, window: Vec<WindowSection>) -> ScheduleSection {
    let default = Some("1MB/s".to_owned());
    ScheduleSection {
        default,
        time_zone: Some(zone.to_owned()),
        window,
        ..ScheduleSection::default()
    }
}

fn schedule(zone: &str, windows: Vec<WindowSection>) -> Schedule {
    Schedule::check(&section(zone, windows), &TimeZoneDatabase::bundled()).unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn rates(schedule: &Schedule, cases: &[(&str, &str)]) {
    for (moment, rate) in cases {
        assert_eq!(schedule.rate_at(at(moment)), rate.parse().unwrap(), "at {moment}");
    }
}

/// Changes after `from`, as the wall shows them.
fn changes(schedule: &Schedule, from: &str, count: usize) -> Vec<String> {
    let next = |now: &Timestamp| schedule.next_change(*now);
    std::iter::successors(next(&at(from)), next)
        .take(count)
        .map(|moment| moment.to_zoned(schedule.zone.clone()).strftime("%a %d %H:%M %Z").to_string())
        .collect()
}

#[test]
fn without_windows_the_rate_never_changes() {
    let schedule = Schedule::from(Rate::Paused);
    assert_eq!(schedule.rate_at(at("2026-11-22T12:00Z")), Rate::Paused);
    assert_eq!(schedule.next_change(at("2026-11-22T12:00Z")), None);
    assert_eq!(Schedule::default().rate_at(at("2026-11-22T12:00Z")), Rate::Unlimited);
}

#[test]
fn a_window_holds_from_its_start_to_just_before_its_end() {
    let schedule = schedule("Europe/Berlin", vec![window("mon-fri", "08:00", "18:00", "64kbit")]);
    rates(
        &schedule,
        &[
            ("2026-11-23T07:59:59+01", "1MB/s"),
            ("2026-11-23T08:00:00+01", "64kbit"),
            ("2026-11-23T17:59:59.999+01", "64kbit"),
            ("2026-11-23T18:00:00+01", "1MB/s"),
            ("2026-11-22T12:00:00+01", "1MB/s"),
            ("2026-07-20T08:00:00+02", "64kbit"),
        ],
    );
    assert_eq!(
        changes(&schedule, "2026-11-27T12:00+01", 3),
        ["Fri 27 18:00 CET", "Mon 30 08:00 CET", "Mon 30 18:00 CET"]
    );
}

#[test]
fn a_window_over_midnight_belongs_to_the_day_it_starts_on() {
    let schedule = schedule("UTC", vec![window("fri", "22:00", "06:00", "off")]);
    rates(
        &schedule,
        &[
            ("2026-11-27T05:00Z", "1MB/s"),
            ("2026-11-27T22:00Z", "off"),
            ("2026-11-28T05:59Z", "off"),
            ("2026-11-28T06:00Z", "1MB/s"),
            ("2026-11-28T22:00Z", "1MB/s"),
        ],
    );
    assert_eq!(
        changes(&schedule, "2026-11-28T00:00Z", 2),
        ["Sat 28 06:00 UTC", "Fri 04 22:00 UTC"]
    );
}

#[test]
fn the_later_of_two_windows_wins() {
    let windows = vec![
        window("", "", "", "64kbit"),
        window("", "12:00", "14:00", "off"),
        window("", "13:00", "13:30", "unlimited"),
    ];
    let schedule = schedule("UTC", windows);
    rates(
        &schedule,
        &[
            ("2026-11-27T00:00Z", "64kbit"),
            ("2026-11-27T12:00Z", "off"),
            ("2026-11-27T13:00Z", "unlimited"),
            ("2026-11-27T13:30Z", "off"),
            ("2026-11-27T14:00Z", "64kbit"),
        ],
    );
}

#[test]
fn ends_that_change_nothing_are_no_changes() {
    let windows = vec![window("", "12:00", "24:00", "off"), window("", "00:00", "12:00", "off")];
    assert_eq!(schedule("UTC", windows).next_change(at("2026-11-27T00:00Z")), None);
}

#[test]
fn an_hour_skipped_in_spring_is_never_shown() {
    let skipped = schedule("Europe/Berlin", vec![window("", "02:00", "03:00", "off")]);
    rates(&skipped, &[("2026-03-29T00:59Z", "1MB/s"), ("2026-03-29T01:00Z", "1MB/s")]);
    assert_eq!(
        changes(&skipped, "2026-03-28T12:00+01", 2),
        ["Mon 30 02:00 CEST", "Mon 30 03:00 CEST"]
    );
    let half = schedule("Europe/Berlin", vec![window("", "02:30", "03:30", "off")]);
    assert_eq!(
        changes(&half, "2026-03-28T12:00+01", 2),
        ["Sun 29 03:00 CEST", "Sun 29 03:30 CEST"]
    );
}

#[test]
fn an_hour_turned_back_in_autumn_is_shown_twice() {
    let whole = schedule("Europe/Berlin", vec![window("", "02:00", "03:00", "off")]);
    assert_eq!(
        changes(&whole, "2026-10-25T00:00+02", 2),
        ["Sun 25 02:00 CEST", "Sun 25 03:00 CET"]
    );
    let half = schedule("Europe/Berlin", vec![window("", "02:30", "04:00", "off")]);
    assert_eq!(
        changes(&half, "2026-10-25T00:00+02", 4),
        ["Sun 25 02:30 CEST", "Sun 25 02:00 CET", "Sun 25 02:30 CET", "Sun 25 04:00 CET"]
    );
}

#[test]
fn a_weekly_window_that_spring_skips_comes_a_week_later() {
    let schedule = schedule("Europe/Berlin", vec![window("sun", "02:10", "02:50", "off")]);
    assert_eq!(changes(&schedule, "2026-03-22T12:00+01", 1), ["Sun 05 02:10 CEST"]);
}

#[test]
fn every_wrong_value_is_named() {
    let mut bad = section(
        "Mars/Olympus",
        vec![
            window("mon-fri", "8:00", "18:00", "64kbit"),
            window("monday", "", "", "64kbit"),
            window("", "08:00", "24:01", "64kbit"),
            window("", "08:00", "08:00", "64kbit"),
            window("", "", "", "fast"),
        ],
    );
    bad.default = Some("quick".to_owned());
    let errors = Schedule::check(&bad, &TimeZoneDatabase::bundled()).unwrap_err();
    let keys: Vec<_> = errors.iter().map(|error| error.key.as_str()).collect();
    let expected = ["default", "time_zone", "window.0.from", "window.1.days", "window.2.to"];
    assert_eq!(keys[..5], expected);
    assert_eq!(keys[5..], ["window.3.to", "window.4.rate"]);
    assert!(errors[1].to_string().starts_with("time_zone is \"Mars/Olympus\": no such time zone"));
}

#[test]
fn windows_need_a_time_zone() {
    let mut bad = section("UTC", vec![window("", "08:00", "09:00", "off")]);
    bad.time_zone = None;
    let errors = Schedule::check(&bad, &TimeZoneDatabase::bundled()).unwrap_err();
    assert!(matches!(errors[..], [ScheduleError { problem: ScheduleProblem::NoTimeZone, .. }]));
}

fn any_window() -> impl Strategy<Value = WindowSection> {
    let time = || (0..24 * 4).prop_map(|q| format!("{:02}:{:02}", q / 4, q % 4 * 15));
    let days = prop::sample::select(vec!["", "sun", "mon-fri", "sat,sun", "fri-mon"]);
    let rate = prop::sample::select(vec!["off", "64kbit", "1MB/s"]);
    (days, time(), time(), rate)
        .prop_filter("not empty", |(_, from, to, _)| from != to)
        .prop_map(|(days, from, to, rate)| window(days, &from, &to, rate))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn between_now_and_the_next_change_the_rate_stays(
        windows in prop::collection::vec(any_window(), 1..4),
        zone in prop::sample::select(vec!["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]),
        hour in 0i64..366 * 24,
    ) {
        let schedule = schedule(zone, windows);
        let now = at("2026-01-01T00:00Z") + hour.hours();
        let rate = schedule.rate_at(now);
        let next = schedule.next_change(now);
        if let Some(next) = next {
            prop_assert_ne!(schedule.rate_at(next), rate);
        }
        // Every quarter of an hour, which is as fine as the windows and the changes of clocks are.
        let end = next.unwrap_or(now + (15 * 24).hours());
        let mut moment = now;
        while moment < end {
            prop_assert_eq!(schedule.rate_at(moment), rate, "at {}", moment);
            moment += 15.minutes();
        }
    }
}
