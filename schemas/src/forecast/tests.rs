//! Forecasts against what can be counted on fingers, and against an hourglass.
#![expect(clippy::unwrap_used, reason = "tests")]
use super::*;
use crate::{
    agreement::{Lifetime, RawAgreement},
    id::MessageId,
    submission::{Origin, Priority},
    window::{RawWindow, RawWindows},
};
use proptest::prelude::*;

const NOW: &str = "2026-11-23T12:00:00Z";
/// One message a second.
const ONE_A_SECOND: Throughput = Throughput { messages: 100, bytes: 0, busy_ms: 100_000 };

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

/// Open for so many minutes at the start of each day.
fn daily(minutes: i64, lifetime: Lifetime) -> ServiceAgreement {
    let to = format!("{:02}:{:02}", minutes / 60, minutes % 60);
    let window = RawWindow { from: Some("00:00".into()), to: Some(to), ..RawWindow::default() };
    let windows = RawWindows { timezone: None, allow: vec![window], ..RawWindows::default() };
    let agreement = RawAgreement { windows, ..RawAgreement::default() }.check("d", false).unwrap();
    ServiceAgreement { lifetime, ..agreement }
}

fn envelope(age_ms: u64, body_bytes: u32, own_s: Option<u64>) -> Envelope {
    let accepted_custody_ms = 1_000_000_000 - age_ms;
    Envelope {
        id: MessageId::from_random([1; 16]),
        device: "p".parse().unwrap(),
        label: None,
        content_type: "text/plain".into(),
        origin: Origin::MqttQos1,
        accepted_ms: 0,
        clock_trusted: true,
        accepted_custody_ms,
        expires_custody_ms: own_s.map(|s| accepted_custody_ms + s * 1_000),
        body_bytes,
        priority: Priority::Normal,
        reply_to: None,
        odometer: Odometer::default(),
    }
}

fn foresee(
    agreement: &ServiceAgreement,
    of_late: &Throughput,
    queue: impl IntoIterator<Item = Envelope>,
    odometer: Odometer,
) -> Forecast {
    let time = CustodyTime { now_ms: 1_000_000_000, ..CustodyTime::default() };
    let mut foreseer = Foreseer::new(agreement, now(), time, odometer, of_late);
    for (seq, envelope) in (1..).zip(queue) {
        assert!(foreseer.add(seq, &envelope));
    }
    foreseer.finish()
}

fn days(n: i64) -> Lifetime {
    Lifetime::of(SignedDuration::from_hours(24 * n))
}

#[test]
fn a_backlog_takes_as_many_openings_as_its_work_fills() {
    let agreement = daily(10, days(14));
    let queue = (0..1_500).map(|_| envelope(60_000, 10, None));
    let forecast = foresee(&agreement, &ONE_A_SECOND, queue, Odometer::default());
    // 600 in each opening.
    assert_eq!((forecast.openings_needed, forecast.will_miss, forecast.messages), (Some(3), 0, 1_500));
    assert_eq!(forecast.done_at, Some("2026-11-26T00:05:00Z".parse().unwrap()));
    assert_eq!(forecast.rate.unwrap().messages_per_s, 1.0);
}

#[test]
fn messages_that_are_passed_over_are_like_those_that_were_looked_at() {
    let agreement = daily(10, days(14));
    let turn_behind = |looked_at: u64, passed_over: u64| {
        let time = CustodyTime { now_ms: 1_000_000_000, ..CustodyTime::default() };
        let asked = looked_at + passed_over + 1;
        let mut foreseer = Foreseer::new(&agreement, now(), time, Odometer::default(), &ONE_A_SECOND).about(asked);
        for seq in 1..=looked_at {
            assert!(foreseer.add(seq, &envelope(60_000, 10, None)));
        }
        foreseer.pass_over(passed_over);
        assert!(!foreseer.add(asked, &envelope(60_000, 10, None)));
        let forecast = foreseer.finish();
        assert_eq!((forecast.messages, forecast.bytes), (asked, asked * 10));
        forecast.turn.unwrap()
    };
    let exact = turn_behind(1_500, 0);
    assert_eq!((exact.ahead, exact.estimated), (1_500, false));
    assert_eq!(exact.at, Some("2026-11-26T00:05:00Z".parse().unwrap()));
    assert_eq!(turn_behind(100, 1_400), Turn { estimated: true, ..exact });
    // As far as the end of an opening: its turn is in the next one.
    assert_eq!(turn_behind(100, 500).at, turn_behind(600, 0).at);
    // Nothing was looked at: nothing is known of what comes.
    assert!(!turn_behind(0, 0).estimated);
}

#[test]
fn without_a_rate_only_the_next_opening_is_foreseen() {
    let agreement = daily(10, days(2));
    let old = envelope(47 * 3_600_000, 10, None);
    let forecast = foresee(
        &agreement,
        &Throughput::default(),
        [old, envelope(0, 10, Some(60)), envelope(0, 1, None)],
        Odometer::default(),
    );
    assert_eq!((forecast.rate, forecast.openings_needed, forecast.done_at), (None, None, None));
    assert_eq!((forecast.end_before_opening, forecast.will_miss, forecast.over_now), (2, 2, 0));
    assert_eq!(
        forecast.missed[0],
        Missed { seq: 1, ends_at: Some("2026-11-23T13:00:00Z".parse().unwrap()), ended_by: EndedBy::MaxAge }
    );
    assert_eq!(forecast.missed[1].ended_by, EndedBy::OwnExpiry);
}

#[test]
fn what_is_over_under_the_new_agreement_is_told_apart() {
    let forecast = foresee(
        &daily(10, days(1)),
        &ONE_A_SECOND,
        [envelope(25 * 3_600_000, 10, None), envelope(0, 10, None)],
        Odometer::default(),
    );
    assert_eq!((forecast.over_now, forecast.end_before_opening, forecast.will_miss), (1, 0, 1));
}

#[test]
fn a_life_that_ages_while_open_alone_outlives_closed_windows() {
    let end = LifetimeEnd::MaxAge(SignedDuration::from_mins(15));
    let agreement = daily(10, Lifetime { end, ages: Ages::WhileOpen });
    let queue = (0..2_000).map(|_| envelope(0, 10, None));
    let forecast = foresee(&agreement, &ONE_A_SECOND, queue, Odometer::default());
    // 15 minutes of open windows: 600 go in the first opening, 300 in the second before the rest is over.
    assert_eq!((forecast.messages, forecast.will_miss), (2_000, 1_100));
    assert_eq!(forecast.missed[0].seq, 901);
    assert_eq!(forecast.missed[0].ends_at, Some("2026-11-25T00:05:00Z".parse().unwrap()));
}

#[test]
fn missed_windows_are_counted_from_custody() {
    let agreement = daily(10, Lifetime { end: LifetimeEnd::MissedWindows(3), ages: Ages::Always });
    let queue = (0..1_300).map(|_| envelope(0, 10, None));
    // One closed since they came: two are left.
    let forecast = foresee(&agreement, &ONE_A_SECOND, queue, Odometer { closings: 1, ..Odometer::default() });
    assert_eq!((forecast.will_miss, forecast.missed[0].seq), (100, 1_201));
    assert_eq!(forecast.missed[0].ends_at, Some("2026-11-25T00:10:00Z".parse().unwrap()));
}

#[test]
fn always_open_is_one_opening_without_an_end() {
    let agreement = ServiceAgreement::default();
    let forecast = foresee(&agreement, &ONE_A_SECOND, (0..60).map(|_| envelope(0, 0, None)), Odometer::default());
    assert_eq!((forecast.openings_needed, forecast.done_at), (Some(1), Some("2026-11-23T12:01:00Z".parse().unwrap())));
    assert_eq!(foresee(&agreement, &ONE_A_SECOND, [], Odometer::default()).openings_needed, Some(0));
}

proptest! {
    /// Against an hourglass that is turned message by message, second by second.
    #[test]
    fn the_forecast_is_that_of_an_hourglass(
        minutes in 1_i64..120,
        ages_min in proptest::collection::vec(0_u64..5_000, 1..400),
        life_days in 1_i64..4,
        seconds_each in 1_u64..40,
    ) {
        let agreement = daily(minutes, days(life_days));
        let of_late = Throughput { messages: 1_000, bytes: 0, busy_ms: 1_000_000 * seconds_each };
        // Oldest first, as they lie in a queue.
        let mut ages_min = ages_min;
        ages_min.sort_unstable_by(|a, b| b.cmp(a));
        let forecast = foresee(&agreement, &of_late, ages_min.iter().map(|m| envelope(m * 60_000, 1, None)), Odometer::default());

        let life_s = life_days * 86_400;
        // Noon: 12 hours to the first opening.
        let (mut day, mut into_s, mut missed, mut over) = (0_i64, 0_i64, 0_u64, 0_u64);
        for age_min in &ages_min {
            let age_s = i64::try_from(age_min * 60).unwrap();
            if age_s >= life_s {
                (over, missed) = (over + 1, missed + 1);
                continue;
            }
            if into_s >= minutes * 60 {
                (day, into_s) = (day + 1, 0);
            }
            let begins_in_s = 43_200 + day * 86_400 + into_s;
            if age_s + begins_in_s >= life_s {
                missed += 1;
            } else {
                into_s += i64::try_from(seconds_each).unwrap();
            }
        }
        prop_assert_eq!((forecast.over_now, forecast.will_miss), (over, missed));
    }
}
