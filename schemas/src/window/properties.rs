//! The evaluation against the slow second opinion of [`super::oracle`], at moments of which half lie at a change of the wall's clock.
//!
//! `PROPTEST_CASES` says how many cases each property gets; the daily run has few.
#![expect(clippy::unwrap_used, reason = "tests")]
use super::{
    oracle::{Drawn, REACH, Walk, guarded},
    *,
};
use crate::{
    agreement::{Circumstances, ServiceAgreement, SignalPolicy, Validity, Why},
    messages::outbox::SignalSource,
    view::SignalView,
};
use jiff::civil;
use proptest::prelude::*;

const ZONES: [&str; 11] = [
    "Europe/Madrid",
    "America/New_York",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    "Africa/Cairo",
    "America/Santiago",
    "America/St_Johns",
    "Asia/Kathmandu",
    "Asia/Beirut",
    "Pacific/Apia",
    "UTC",
];
/// So near to the moment that was asked for, nothing is beyond the evaluation's reach.
const NEAR: i64 = 1_440;

fn cases(few: u32) -> ProptestConfig {
    // proptest reads PROPTEST_CASES itself; 256 is what it takes without it.
    let asked = ProptestConfig::default().cases;
    ProptestConfig::with_cases(if asked == 256 { few } else { asked })
}

/// What is drawn: an agreement, as windows for the oracle and as text for the evaluation.
#[derive(Debug, Clone)]
struct Case {
    zone: &'static str,
    /// The moment, in seconds; a whole minute and some seconds.
    second: i64,
    allow: Vec<Drawn>,
    deny: Vec<Drawn>,
    guard: i64,
    cutoff: i64,
    grace: i64,
    /// In minutes from the moment's.
    valid: (Option<i64>, Option<i64>),
}

/// A moment, half of them near a change of the clock; Samoa skipped a whole day at the end of 2011.
fn any_place() -> impl Strategy<Value = (&'static str, i64)> {
    let span = prop_oneof![9 => 1_760_000_000_i64..1_830_000_000, 1 => 1_324_900_000_i64..1_325_700_000];
    (prop::sample::select(&ZONES[..]), span, -3_000_i64..3_000, any::<bool>(), 0_i64..60).prop_map(
        |(name, any, aside, at_change, seconds)| {
            let zone = TimeZone::get(name).unwrap();
            let from = Timestamp::from_second(any - 86_400 * 3).unwrap();
            let change = zone.following(from).next().filter(|_| at_change);
            let minute = change.map_or(any / 60, |change| change.timestamp().as_second() / 60 + aside);
            (name, minute * 60 + seconds)
        },
    )
}

fn some<T: Clone + std::fmt::Debug + 'static>(of: Vec<T>, most: usize) -> impl Strategy<Value = Vec<T>> {
    prop::sample::subsequence(of, 1..=most)
}

fn any_recurring() -> impl Strategy<Value = Drawn> {
    let weekdays = prop_oneof![Just((0..7).collect::<Vec<i8>>()), some((0..7).collect(), 6)];
    let dates = prop::option::weighted(0.2, (some((1..=31).collect(), 25), any::<bool>()));
    let months = prop::option::weighted(0.2, some((1..=12).collect(), 11));
    // Often near the hours at which clocks are changed.
    let time = prop_oneof![0_i64..1_440, 0_i64..240];
    let calendar = (weekdays, dates, months, time.clone(), time)
        .prop_filter("a window has a length", |(.., from, to)| from != to)
        .prop_map(|(weekdays, dates, months, from, to)| Drawn::Calendar { weekdays, dates, months, from, to });
    let hours = prop_oneof![3 => some((0..24).collect(), 5), 1 => Just((0..24).collect::<Vec<i64>>())];
    let cron_days = prop::option::weighted(0.3, some((0..7).collect(), 6));
    let cron = (some((0..60).collect(), 3), hours, cron_days, prop_oneof![1_i64..180, 1_i64..1_440])
        .prop_map(|(minutes, hours, weekdays, length)| Drawn::Cron { minutes, hours, weekdays, length });
    prop_oneof![3 => calendar, 2 => cron]
}

/// A span of the wall's time that begins near a minute of it.
fn any_span(near: i64) -> impl Strategy<Value = Drawn> {
    (-4_000_i64..4_000, prop_oneof![1_i64..300, 1_i64..4_000])
        .prop_map(move |(aside, length)| Drawn::Span { from: near + aside, until: near + aside + length })
}

fn any_case() -> impl Strategy<Value = Case> {
    any_place()
        .prop_flat_map(|(zone, second)| {
            let near = second / 60;
            let edge = prop_oneof![2 => Just(0_i64), 1 => 1_i64..90];
            let valid = prop::option::weighted(0.2, -4_000_i64..2_000);
            let ended = prop::option::weighted(0.2, -2_000_i64..4_000);
            let allow = prop::collection::vec(prop_oneof![6 => any_recurring(), 1 => any_span(near)], 0..4);
            let deny = prop::collection::vec(prop_oneof![2 => any_recurring(), 1 => any_span(near)], 0..3);
            (allow, deny, edge.clone(), edge, 0_i64..10, valid, ended).prop_map(
                move |(allow, deny, guard, cutoff, grace, from, until)| {
                    let until = until.filter(|until| from.is_none_or(|from| from < *until));
                    Case { zone, second, allow, deny, guard, cutoff, grace, valid: (from, until) }
                },
            )
        })
        .prop_filter("a span that a change of the clock turns around is refused at load", Case::can_be_kept)
}

fn joined<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}
fn names(numbers: &[i8], of: &[&str]) -> String {
    joined(&numbers.iter().map(|number| of[usize::try_from(*number).unwrap()]).collect::<Vec<_>>())
}
fn wall_text(minute: i64) -> String {
    let at = Timestamp::from_second(minute * 60).unwrap();
    TimeZone::UTC.to_datetime(at).strftime("%Y-%m-%dT%H:%M").to_string()
}

fn written(window: &Drawn) -> RawDenial {
    const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    const MONTHS: [&str; 13] = ["", "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let time = |minute: i64| format!("{:02}:{:02}", minute / 60, minute % 60);
    match window {
        Drawn::Calendar { weekdays, dates, months, from, to } => RawDenial {
            days: Some(names(weekdays, &DAYS)),
            dates: dates.as_ref().map(|(dates, last)| format!("{}{}", joined(dates), if *last { ",last" } else { "" })),
            months: months.as_ref().map(|months| names(months, &MONTHS)),
            from: Some(time(*from)),
            to: Some(time(*to)),
            ..RawDenial::default()
        },
        Drawn::Cron { minutes, hours, weekdays, length } => {
            let days = weekdays.as_ref().map_or_else(|| "*".to_owned(), |days| names(days, &DAYS));
            RawDenial {
                cron: Some(format!("{} {} * * {days}", joined(minutes), joined(hours))),
                lasts: Some(format!("{length}m")),
                ..RawDenial::default()
            }
        }
        Drawn::Span { from, until } => {
            RawDenial { from: Some(wall_text(*from)), until: Some(wall_text(*until)), ..RawDenial::default() }
        }
    }
}

impl Case {
    fn at(&self) -> Timestamp {
        Timestamp::from_second(self.second).unwrap()
    }

    fn minute(&self) -> i64 {
        self.second / 60
    }

    fn agreement(&self) -> ServiceAgreement {
        let (mut allow, mut once) = (Vec::new(), Vec::new());
        for window in &self.allow {
            match window {
                // Its end is a length of real time, the oracle's is a time on the wall: the same without a change between.
                Drawn::Span { from, until } => once.push(RawOnce {
                    at: wall_text(*from),
                    lasts: format!("{}m", self.real_length(*from, *until)),
                    note: None,
                }),
                other => allow.push(written(other).recurring()),
            }
        }
        let raw = RawWindows {
            timezone: Some(self.zone.to_owned()),
            allow,
            deny: self.deny.iter().map(written).collect(),
            once,
            cutoff: Some(format!("{}m", self.cutoff)),
            grace: Some(format!("{}m", self.grace)),
            guard: Some(format!("{}m", self.guard)),
        };
        let moment =
            |minute: Option<i64>| minute.map(|minute| Timestamp::from_second((self.minute() + minute) * 60).unwrap());
        ServiceAgreement {
            windows: WindowSet::from_raw(raw, "windows").unwrap(),
            valid: Validity { from: moment(self.valid.0), until: moment(self.valid.1) },
            ..ServiceAgreement::default()
        }
    }

    /// In a zone that leaves out a whole day, a span that begins within it can end before it begins.
    fn can_be_kept(&self) -> bool {
        self.allow.iter().chain(&self.deny).all(|window| match window {
            Drawn::Span { from, until } => self.real_length(*from, *until) > 0,
            Drawn::Calendar { .. } | Drawn::Cron { .. } => true,
        })
    }

    fn real_length(&self, from: i64, until: i64) -> i64 {
        let zone = TimeZone::get(self.zone).unwrap();
        let moment = |minute: i64| {
            let wall: civil::DateTime = wall_text(minute).parse().unwrap();
            zone.to_ambiguous_timestamp(wall).compatible().unwrap().as_second() / 60
        };
        moment(until) - moment(from)
    }

    /// What the oracle says.
    fn seen(&self) -> Seen {
        let walk = Walk::new(&TimeZone::get(self.zone).unwrap(), self.at());
        let denied = walk.covered(&self.deny);
        let valid: Vec<bool> = (0..walk.len())
            .map(|index| {
                let minute = walk.first + i64::try_from(index).unwrap() - self.minute();
                self.valid.0.is_none_or(|from| from <= minute) && self.valid.1.is_none_or(|until| minute < until)
            })
            .collect();
        let allowed = if self.allow.is_empty() { vec![true; walk.len()] } else { walk.covered(&self.allow) };
        let both = |a: &[bool], b: &dyn Fn(usize) -> bool| (0..a.len()).map(|n| a[n] && b(n)).collect::<Vec<bool>>();
        let may = both(&valid, &|n| !denied[n]);
        let open = guarded(&both(&allowed, &|n| may[n]), self.guard);
        let may = guarded(&may, self.guard);
        Seen { first: walk.first, now: self.minute(), open, may, denied, valid }
    }
}

/// The oracle's opinion, minute by minute.
struct Seen {
    first: i64,
    now: i64,
    open: Vec<bool>,
    /// What is not denied, within the agreement.
    may: Vec<bool>,
    denied: Vec<bool>,
    valid: Vec<bool>,
}

impl Seen {
    fn is(&self, list: &[bool], minute: i64) -> bool {
        list[usize::try_from(minute - self.first).unwrap()]
    }

    /// The first minute from `from` on that is as wanted, within reach.
    fn next(&self, list: &[bool], from: i64, wanted: bool) -> Option<i64> {
        (from..self.now + REACH).find(|minute| self.is(list, *minute) == wanted)
    }

    /// The first minute of the run of open minutes that holds this one, within reach.
    fn start(&self, list: &[bool], minute: i64) -> Option<i64> {
        (self.now - REACH..=minute).rev().find(|minute| !self.is(list, *minute)).map(|closed| closed + 1)
    }
}

fn minute_of(at: Option<Timestamp>) -> Option<i64> {
    at.map(|at| {
        assert_eq!(at.as_second() % 60, 0, "{at}");
        at.as_second() / 60
    })
}

/// The same moment, or both beyond what the oracle can see; far ahead the evaluation may not know yet.
fn agree(what: &str, mine: Option<Timestamp>, seen: Option<i64>, now: i64) -> Result<(), TestCaseError> {
    match (minute_of(mine), seen) {
        (mine, Some(seen)) if mine.is_some() || (seen - now).abs() < NEAR => {
            prop_assert_eq!(mine, Some(seen), "{}", what)
        }
        (Some(mine), None) => prop_assert!((mine - now).abs() >= REACH - 1, "{}: {} is within reach", what, mine - now),
        _ => {}
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn open_now_since_until_and_next_are_those_of_the_oracle(case in any_case()) {
        let (agreement, seen, now) = (case.agreement(), case.seen(), case.minute());
        let answer = agreement.evaluate(&Circumstances::at(case.at()));
        let open = seen.is(&seen.open, now);
        prop_assert_eq!(answer.open, open, "{:?}", answer);
        let change = seen.next(&seen.open, now, !open);
        agree("until", answer.until, change, now)?;
        if open {
            agree("since", answer.since, seen.start(&seen.open, now), now)?;
            agree("closing", answer.next_closing, change, now)?;
            let opening = change.and_then(|closing| seen.next(&seen.open, closing, true));
            agree("next opening", answer.next_opening, opening, now)?;
            let edge = |minutes: i64| answer.until.map(|end| end.checked_add(SignedDuration::from_mins(minutes)).unwrap());
            prop_assert_eq!(answer.starts_until, edge(-case.cutoff));
            prop_assert_eq!(answer.ends_by, edge(case.grace));
            let may = change.is_none_or(|closing| case.second < (closing - case.cutoff) * 60);
            prop_assert!(change.is_none() || answer.may_start(case.at()) == may);
        } else {
            agree("opening", answer.next_opening, change, now)?;
            let closing = change.and_then(|opening| seen.next(&seen.open, opening, false));
            agree("next closing", answer.next_closing, closing, now)?;
            prop_assert!(!answer.may_start(case.at()) && answer.since.is_none() && answer.ends_by.is_none());
            let guard = case.guard;
            let begun = case.valid.0.is_none_or(|from| from + guard <= 0);
            let over = case.valid.1.is_some_and(|until| until - guard <= 0);
            match answer.why {
                Why::BeforeAgreement => prop_assert!(!begun),
                Why::AfterAgreement => prop_assert!(over),
                Why::Denied => prop_assert!(seen.is(&seen.denied, now) && begun && !over),
                Why::Guarded => prop_assert!(guard > 0 && !seen.is(&seen.denied, now)),
                why => prop_assert!(why == Why::OutsideWindows && !seen.is(&seen.denied, now)),
            }
        }
        // Deny wins, and so does the agreement's own time.
        prop_assert!(!answer.open || (!seen.is(&seen.denied, now) && seen.is(&seen.valid, now)));
    }

    #[test]
    fn every_opening_of_real_time_comes_once(case in any_case()) {
        let (agreement, seen, now) = (case.agreement(), case.seen(), case.minute());
        let mut expected = Vec::new();
        let mut at = now;
        while let Some(start) = seen.next(&seen.open, at, true) {
            let end = seen.next(&seen.open, start, false);
            expected.push((start, end));
            let Some(end) = end else { break };
            at = end;
        }
        let mut last: Option<Opening> = None;
        let mut openings = agreement.openings(case.at());
        for (start, end) in expected.into_iter().take_while(|(start, _)| start - now < NEAR) {
            let opening = openings.next();
            prop_assert!(opening.is_some(), "nothing at {start}");
            let opening = opening.unwrap();
            // The one under way began before.
            let began = minute_of(opening.start);
            prop_assert!(began == Some(start) || (start == now && began.is_none_or(|began| began < start)), "{began:?} {start}");
            agree("its end", opening.end, end, now)?;
            prop_assert!(last.is_none_or(|last| last.end < opening.start), "{last:?} {opening:?}");
            last = Some(opening);
        }
    }

    /// The clock may be set back and forth: what was answered before changes nothing.
    #[test]
    fn steps_of_the_clock_change_no_answer(
        case in any_case(),
        steps in prop::collection::vec((-REACH * 60 + 60)..(REACH * 60 - 60), 1..12),
    ) {
        let (agreement, seen) = (case.agreement(), case.seen());
        let fresh = case.agreement();
        for step in steps {
            let at = Timestamp::from_second(case.second + step).unwrap();
            let answer = agreement.evaluate(&Circumstances::at(at));
            prop_assert_eq!(answer.open, seen.is(&seen.open, at.as_second().div_euclid(60)), "{}", at);
            *fresh.windows.known.lock().unwrap() = None;
            let anew = fresh.evaluate(&Circumstances::at(at));
            prop_assert_eq!((answer.open, answer.why, answer.since), (anew.open, anew.why, anew.since));
            if anew.until.is_some() && answer.until.is_some() {
                prop_assert_eq!(answer, anew);
            }
        }
    }

    #[test]
    fn signals_open_and_close_for_their_time_and_beat_neither_denials_nor_the_agreement(
        mut case in any_case(),
        ready in any::<bool>(),
        only in any::<bool>(),
        since in 0_i64..600,
        left in 1_i64..900,
        trusted in prop::bool::weighted(0.9),
        paused in prop::bool::weighted(0.05),
    ) {
        case.second -= case.second % 60;
        let mut agreement = case.agreement();
        agreement.signal = SignalPolicy { accept: true, only, ..SignalPolicy::default() };
        let (seen, now) = (case.seen(), case.minute());
        let ms = |minutes: i64| u64::try_from(minutes * 60_000).unwrap();
        let signal = SignalView { ready, since_ms: ms(since), left_ms: ms(left), from: SignalSource::Operator };
        let circumstances =
            Circumstances { at: case.at(), clock_trusted: trusted, paused, signal: Some(signal) };
        let answer = agreement.evaluate(&circumstances);
        let timeless = case.allow.is_empty() && case.deny.is_empty() && case.valid == (None, None);
        if paused {
            prop_assert!(!answer.open && answer.why == Why::Paused && answer.until.is_none());
        } else if !trusted && !timeless {
            prop_assert_eq!((answer.open, minute_of(answer.until)), (ready, ready.then_some(now + left)));
            prop_assert_eq!(answer.starts_until, answer.until);
        } else {
            let in_signal = |minute: i64| minute < now + left && minute >= now - since;
            let open: Vec<bool> = (0..seen.open.len()).map(|index| {
                let minute = seen.first + i64::try_from(index).unwrap();
                match (ready, only) {
                    (true, true) => seen.open[index] && in_signal(minute),
                    (true, false) => seen.open[index] || (in_signal(minute) && seen.may[index]),
                    (false, true) => false,
                    (false, false) => seen.open[index] && !in_signal(minute),
                }
            }).collect();
            let is_open = seen.is(&open, now);
            prop_assert_eq!(answer.open, is_open, "{:?}", answer);
            let change = seen.next(&open, now, !is_open);
            agree("until", answer.until, change, now)?;
            let after = change.and_then(|change| seen.next(&open, change, is_open));
            if is_open {
                agree("opening", answer.next_opening, after, now)?;
                // Its own end has no cutoff; the end of a window, or a denial, has.
                let by_signal = change == Some(now + left) && (only || !seen.is(&seen.open, now + left - 1))
                    && (if only { seen.is(&seen.open, now + left) } else { seen.is(&seen.may, now + left) });
                let cutoff = SignedDuration::from_mins(if by_signal { 0 } else { case.cutoff });
                prop_assert_eq!(answer.starts_until, answer.until.map(|end| end.checked_sub(cutoff).unwrap()));
                prop_assert!(answer.why != Why::Signalled || only || !seen.is(&seen.open, now));
            } else {
                agree("closing", answer.next_closing, after, now)?;
                prop_assert!(answer.why != Why::NotNow || (!ready && seen.is(&seen.open, now)));
            }
        }
    }
}
