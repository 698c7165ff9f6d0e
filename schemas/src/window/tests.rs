//! Windows against the calendar, against the clock changes of Madrid, and against a slow second opinion.
#![expect(clippy::unwrap_used, reason = "tests")]
use super::*;
use proptest::prelude::*;

fn set(zone: &str, allow: Vec<RawWindow>) -> WindowSet {
    WindowSet::from_raw(RawWindows { timezone: Some(zone.into()), allow }, "windows").unwrap()
}
fn days(days: &str, from: &str, to: &str) -> RawWindow {
    RawWindow { days: Some(days.into()), from: Some(from.into()), to: Some(to.into()), ..RawWindow::default() }
}
fn cron(cron: &str, lasts: &str) -> RawWindow {
    RawWindow { cron: Some(cron.into()), lasts: Some(lasts.into()), ..RawWindow::default() }
}
fn ts(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[test]
fn no_window_is_always_open() {
    let answer = WindowSet::default().evaluate(ts("2026-11-23T12:00:00Z"));
    assert!(answer.open && answer.until.is_none() && answer.why == Why::NoWindows);
}

#[test]
fn a_window_across_midnight_belongs_to_the_day_on_which_it_opens() {
    let set = set("Europe/Madrid", vec![days("mon-fri", "22:00", "02:00")]);
    // Friday night reaches into Saturday; Saturday night is closed.
    assert!(set.evaluate(ts("2026-11-28T00:30:00Z")).open);
    let closed = set.evaluate(ts("2026-11-28T23:00:00Z"));
    assert!(!closed.open);
    assert_eq!(closed.next_opening, Some(ts("2026-11-30T21:00:00Z")));
    assert_eq!(closed.next_closing, Some(ts("2026-12-01T01:00:00Z")));
}

#[test]
fn an_opening_in_the_spring_gap_moves_forward() {
    // 2027-03-28: Madrid goes from 02:00 to 03:00.
    let set = set("Europe/Madrid", vec![days("daily", "02:15", "02:45")]);
    let answer = set.evaluate(ts("2027-03-28T00:00:00Z"));
    assert_eq!(answer.next_opening, Some(ts("2027-03-28T01:15:00Z")));
    assert_eq!(answer.next_closing, Some(ts("2027-03-28T01:45:00Z")));
}

#[test]
fn an_opening_in_the_autumn_fold_opens_once() {
    // 2026-10-25: Madrid goes from 03:00 back to 02:00, so 02:15 exists twice.
    let set = set("Europe/Madrid", vec![days("daily", "02:15", "02:45")]);
    assert!(set.evaluate(ts("2026-10-25T00:20:00Z")).open);
    let second = set.evaluate(ts("2026-10-25T01:20:00Z"));
    assert!(!second.open);
    assert_eq!(second.next_opening, Some(ts("2026-10-26T01:15:00Z")));
}

#[test]
fn cron_windows_last_as_long_as_they_say() {
    let set = set("UTC", vec![cron("0 */6 * * *", "20m")]);
    let open = set.evaluate(ts("2026-11-23T06:19:59.5Z"));
    assert!(open.open);
    assert_eq!(open.until, Some(ts("2026-11-23T06:20:00Z")));
    let closed = set.evaluate(ts("2026-11-23T06:20:00Z"));
    assert!(!closed.open);
    assert_eq!(closed.next_opening, Some(ts("2026-11-23T12:00:00Z")));
}

#[test]
fn windows_that_touch_are_one_opening() {
    let set = set("UTC", vec![days("mon", "08:00", "10:00"), days("mon", "10:00", "12:00")]);
    assert_eq!(set.evaluate(ts("2026-11-23T09:00:00Z")).until, Some(ts("2026-11-23T12:00:00Z")));
}

#[test]
fn all_day_every_day_has_no_end() {
    let set = set("UTC", vec![RawWindow { days: Some("daily".into()), ..RawWindow::default() }]);
    let answer = set.evaluate(ts("2026-11-23T09:00:00Z"));
    assert!(answer.open && answer.until.is_none());
}

#[test]
fn problems_name_the_value() {
    let raw = RawWindows {
        timezone: Some("Europe/Madird".into()),
        allow: vec![days("mon-fry", "22:00", "02:00"), cron("0 25 * * *", "20m"), days("mon", "9h", "10:00")],
    };
    let problems = WindowSet::from_raw(raw, "destination.a.windows").unwrap_err();
    let paths: Vec<_> = problems.iter().map(|p| p.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "destination.a.windows.timezone",
            "destination.a.windows.allow[0].days",
            "destination.a.windows.allow[1].cron",
            "destination.a.windows.allow[2].from"
        ]
    );
}

fn any_window() -> impl Strategy<Value = RawWindow> {
    let time = (0_u8..24, 0_u8..60).prop_map(|(h, m)| format!("{h:02}:{m:02}"));
    let day = prop::sample::select(vec!["mon-fri", "sat,sun", "daily", "wed", "fri-mon"]);
    prop_oneof![
        (day, time.clone(), time).prop_map(|(d, f, t)| days(d, &f, &t)),
        (0_u8..60, 0_u8..24, 1_u16..600).prop_map(|(m, h, l)| cron(&format!("{m} {h} * * *"), &format!("{l}m"))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_next_opening_is_open_and_the_moment_before_it_is_not(
        allow in prop::collection::vec(any_window(), 1..4),
        zone in prop::sample::select(vec!["Europe/Madrid", "America/New_York", "Australia/Lord_Howe", "UTC", "Asia/Kathmandu"]),
        second in 1_760_000_000_i64..1_830_000_000,
    ) {
        let set = set(zone, allow);
        let answer = set.evaluate(Timestamp::from_second(second).unwrap());
        if let Some(opening) = answer.next_opening {
            prop_assert!(set.evaluate(opening).open);
            let before = opening.checked_sub(SignedDuration::from_secs(1)).unwrap();
            prop_assert!(!set.evaluate(before).open, "open one second before {opening}");
        }
        if let (true, Some(until)) = (answer.open, answer.until) {
            prop_assert!(!set.evaluate(until).open);
            let before = until.checked_sub(SignedDuration::from_secs(1)).unwrap();
            prop_assert!(set.evaluate(before).open);
        }
    }

}

proptest! {
    // Each case walks through a day, minute by minute.
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn minute_by_minute_nothing_opens_or_closes_but_where_it_was_announced(
        allow in prop::collection::vec(any_window(), 1..3),
        second in 1_760_000_000_i64..1_830_000_000,
    ) {
        let set = set("Europe/Madrid", allow);
        let start = Timestamp::from_second(second / 60 * 60).unwrap();
        let mut last = set.evaluate(start);
        for minute in 1..1_500_i64 {
            let at = start.checked_add(SignedDuration::from_mins(minute)).unwrap();
            let now = set.evaluate(at);
            let announced = last.until.is_some_and(|until| until <= at);
            prop_assert_eq!(now.open != last.open, announced && now.open != last.open, "silent change at {}", at);
            if !announced { prop_assert_eq!(now.open, last.open); prop_assert_eq!(now.until, last.until); }
            last = now;
        }
    }
}
