//! Windows against the calendar, against the clock changes of Madrid, and against a slow second opinion.
#![expect(clippy::unwrap_used, reason = "tests")]
use super::*;
use crate::agreement::{Circumstances, Evaluation, ServiceAgreement, Why};
use jiff::{ToSpan, civil};
use proptest::prelude::*;

/// An agreement of windows alone.
struct Set(ServiceAgreement);

impl Set {
    fn evaluate(&self, at: Timestamp) -> Evaluation {
        self.0.evaluate(&Circumstances::at(at))
    }
}

fn of(raw: RawWindows) -> Set {
    Set(ServiceAgreement { windows: WindowSet::from_raw(raw, "windows").unwrap(), ..ServiceAgreement::default() })
}
fn set(zone: &str, allow: Vec<RawWindow>) -> Set {
    of(RawWindows { timezone: Some(zone.into()), allow, ..RawWindows::default() })
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
    let answer = Set(ServiceAgreement::default()).evaluate(ts("2026-11-23T12:00:00Z"));
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
fn what_was_answered_before_the_guard_is_not_answered_within_it() {
    let allow = vec![days("daily", "10:00", "12:00")];
    let set = of(RawWindows { timezone: Some("UTC".into()), allow, guard: Some("5m".into()), ..RawWindows::default() });
    let answers = ["09:59:59", "10:00:00", "10:05:00", "11:54:59", "11:55:00", "12:00:00"].map(|time| {
        let answer = set.evaluate(ts(&format!("2026-11-23T{time}Z")));
        (answer.open, answer.why)
    });
    let (outside, guarded, inside) = ((false, Why::OutsideWindows), (false, Why::Guarded), (true, Why::InsideWindow));
    assert_eq!(answers, [outside, guarded, inside, inside, guarded, outside]);
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
fn a_cron_window_of_several_hours_opens_once_in_the_fold_and_moves_out_of_the_gap() {
    let set = set("Europe/Madrid", vec![cron("30 2,14 * * *", "20m")]);
    // 2026-10-25, from 03:00 back to 02:00: 02:30 exists twice.
    assert!(set.evaluate(ts("2026-10-25T00:30:00Z")).open);
    let second = set.evaluate(ts("2026-10-25T01:35:00Z"));
    assert!(!second.open);
    assert_eq!(second.next_opening, Some(ts("2026-10-25T13:30:00Z")));
    // 2027-03-28, from 02:00 to 03:00: 02:30 does not exist.
    let night = set.evaluate(ts("2027-03-27T23:00:00Z"));
    assert_eq!(night.next_opening, Some(ts("2027-03-28T01:30:00Z")));
    assert_eq!(night.next_closing, Some(ts("2027-03-28T01:50:00Z")));
    assert!(set.evaluate(ts("2027-03-28T01:49:59Z")).open);
}

#[test]
fn a_chain_of_openings_is_followed_once_and_its_end_is_found_when_it_comes_near() {
    // Always open in effect, but for July: thousands of joined openings.
    let set = set("UTC", vec![cron("0 * * 1-6,8-12 *", "1h")]);
    let mut followed = std::collections::BTreeSet::new();
    let mut at = ts("2026-11-23T12:00:00Z");
    while at < ts("2026-11-25T12:00:00Z") {
        let answer = set.evaluate(at);
        assert!(answer.open && answer.until.is_none(), "{at}: {answer:?}");
        followed.insert(set.0.windows.known.lock().unwrap().unwrap().0);
        at = at.checked_add(SignedDuration::from_secs(10)).unwrap();
    }
    assert_eq!(followed.len(), 12, "once in four hours, for 17,280 answers");
    let closes = ts("2027-07-01T00:00:00Z");
    let near = set.evaluate(ts("2027-06-25T12:00:00Z"));
    assert_eq!((near.until, near.next_opening), (Some(closes), Some(ts("2027-08-01T00:00:00Z"))));
    assert!(!set.evaluate(closes).open);
    assert_eq!(set.evaluate(ts("2027-06-30T23:59:59Z")).until, Some(closes));
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
        ..RawWindows::default()
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

/// Some of these numbers, in cron's way: `5`, `5,17`, `*/7` or `*`.
fn some_of(below: u8) -> impl Strategy<Value = (String, Vec<u8>)> {
    let every = move |step: usize| (0..below).step_by(step).collect::<Vec<u8>>();
    prop_oneof![
        4 => prop::collection::btree_set(0..below, 1..5).prop_map(|numbers| {
            let numbers: Vec<u8> = numbers.into_iter().collect();
            (numbers.iter().map(u8::to_string).collect::<Vec<_>>().join(","), numbers)
        }),
        1 => (2_usize..20).prop_map(move |step| (format!("*/{step}"), every(step))),
        1 => Just(("*".to_owned(), every(1))),
    ]
}

fn any_window() -> impl Strategy<Value = RawWindow> {
    let time = (0_u8..24, 0_u8..60).prop_map(|(h, m)| format!("{h:02}:{m:02}"));
    let day = prop::sample::select(vec!["mon-fri", "sat,sun", "daily", "wed", "fri-mon"]);
    prop_oneof![
        (day, time.clone(), time)
            .prop_filter("a window has a length", |(_, from, to)| from != to)
            .prop_map(|(d, f, t)| days(d, &f, &t)),
        (some_of(60), some_of(24), 1_u16..600)
            .prop_map(|((minutes, _), (hours, _), l)| cron(&format!("{minutes} {hours} * * *"), &format!("{l}m"))),
    ]
}

const ZONES: [&str; 6] =
    ["Europe/Madrid", "America/New_York", "Australia/Lord_Howe", "UTC", "Asia/Kathmandu", "America/Santiago"];

/// A zone and a moment, mostly near a change of its clock.
fn any_place() -> impl Strategy<Value = (&'static str, i64)> {
    (prop::sample::select(&ZONES[..]), 0_usize..4, -20_000_i64..20_000, 1_760_000_000_i64..1_830_000_000).prop_map(
        |(name, nth, aside, any)| {
            let zone = TimeZone::get(name).unwrap();
            let change = zone.following(ts("2026-01-01T00:00:00Z")).nth(nth);
            (name, change.map_or(any, |change| change.timestamp().as_second() + aside))
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_next_opening_is_open_and_the_moment_before_it_is_not(
        allow in prop::collection::vec(any_window(), 1..4),
        (zone, second) in any_place(),
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

    /// Against every day's own list of openings, each made a moment by the one rule.
    #[test]
    fn a_cron_window_opens_where_the_clock_on_the_wall_says(
        (minutes, every_minute) in some_of(60),
        (hours, every_hour) in some_of(24),
        length in 1_i64..400,
        (zone, second) in any_place(),
    ) {
        let set = set(zone, vec![cron(&format!("{minutes} {hours} * * *"), &format!("{length}m"))]);
        let at = Timestamp::from_second(second).unwrap();
        let zone = TimeZone::get(zone).unwrap();
        let today = at.to_zoned(zone.clone()).date();
        let mut starts: Vec<Timestamp> = Vec::new();
        for day in -2..=2 {
            let date = today.checked_add(day.days()).unwrap();
            for (hour, minute) in every_hour.iter().flat_map(|hour| every_minute.iter().map(move |minute| (hour, minute))) {
                let time = civil::Time::constant(i8::try_from(*hour).unwrap(), i8::try_from(*minute).unwrap(), 0, 0);
                starts.push(zone.to_ambiguous_timestamp(date.to_datetime(time)).compatible().unwrap());
            }
        }
        let length = SignedDuration::from_mins(length);
        let open = starts.iter().any(|start| *start <= at && at < start.checked_add(length).unwrap());
        let answer = set.evaluate(at);
        prop_assert_eq!(answer.open, open);
        if !open {
            prop_assert_eq!(answer.next_opening, starts.iter().filter(|start| **start > at).min().copied());
        }
    }
}

proptest! {
    // Each case walks through a day, minute by minute.
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn minute_by_minute_nothing_opens_or_closes_but_where_it_was_announced(
        allow in prop::collection::vec(any_window(), 1..3),
        (zone, second) in any_place(),
    ) {
        let set = set(zone, allow);
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
