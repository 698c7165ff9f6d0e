//! The decision under every kind of situation, and what becomes of it when time passes.
#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::{
    agreement::{BreakGlass, Circumstances, SignalPolicy, Validity},
    messages::outbox::SignalSource,
    view::SignalView,
    window::{RawDenial, RawWindow, RawWindows, WindowSet},
};
use proptest::prelude::*;

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
const MIDNIGHT: &str = "2026-11-24T00:00:00Z";

/// A situation that time can pass over.
#[derive(Debug, Clone)]
struct World {
    agreement: ServiceAgreement,
    load: DestinationLoad,
    uplink_ready: bool,
    clock_trusted: bool,
    now: Timestamp,
    /// Share of six minutes after which the opening's first start was drawn.
    drawn: Option<f64>,
    couriers: CourierMemory,
}

fn at(ms: u64) -> Timestamp {
    MIDNIGHT.parse::<Timestamp>().unwrap().saturating_add(length(ms)).unwrap()
}

fn nightly(from: &str, to: &str) -> WindowSet {
    let window = RawWindow { from: Some(from.into()), to: Some(to.into()), ..RawWindow::default() };
    let raw = RawWindows { timezone: Some("UTC".into()), allow: vec![window], ..RawWindows::default() };
    WindowSet::from_raw(raw, "windows").unwrap()
}

impl World {
    /// One message waits, nothing ever failed, Tor is ready, no windows.
    fn new(now_ms: u64) -> Self {
        let name = "ward".parse().unwrap();
        let record = crate::record::DestinationRecord::new(name);
        let load = DestinationLoad {
            destination: record.name,
            queued: 1,
            held: 0,
            parked: 0,
            dead: 0,
            delivered: 0,
            waiting_bytes: 0,
            due_in_ms: 0,
            snoozed_ms: 0,
            last_failure_ago_ms: None,
            last_success_ago_ms: None,
            paused: false,
            signal: None,
            urgent: 0,
            break_glass: 0,
            refused_waiting: 0,
            throughput: record.throughput,
            failures: 0,
            last_error: None,
            everything_refused: false,
            fresh_circuits_last_hour: 0,
            oldest_age_ms: Some(24 * 60 * MINUTE),
        };
        Self {
            agreement: ServiceAgreement::default(),
            load,
            uplink_ready: true,
            clock_trusted: true,
            now: at(now_ms),
            drawn: None,
            couriers: CourierMemory::default(),
        }
    }

    fn with_window(mut self, from: &str, to: &str) -> Self {
        self.agreement.windows = nightly(from, to);
        self
    }

    fn failed(mut self, failures: u32, ago_ms: u64, due_in_ms: u64) -> Self {
        self.load.failures = failures;
        self.load.last_failure_ago_ms = Some(ago_ms);
        self.load.due_in_ms = due_in_ms;
        self.load.last_error = Some(DeliveryError::DescriptorNotFound);
        self
    }

    fn signalled(mut self, ready: bool, since_ms: u64, left_ms: u64) -> Self {
        self.agreement.signal = SignalPolicy { accept: true, ..SignalPolicy::default() };
        self.load.signal = Some(SignalView { ready, since_ms, left_ms, from: SignalSource::Operator });
        self
    }

    fn evaluation(&self) -> Evaluation {
        self.agreement.evaluate(&Circumstances {
            at: self.now,
            clock_trusted: self.clock_trusted,
            paused: self.load.paused,
            signal: self.load.signal,
        })
    }

    fn decide(&self) -> Decision {
        let evaluation = self.evaluation();
        let spread = |drawn: f64| evaluation.since.unwrap().saturating_add(length(6 * MINUTE).mul_f64(drawn)).unwrap();
        decide(&Situation {
            agreement: &self.agreement,
            evaluation: &evaluation,
            load: &self.load,
            uplink_ready: self.uplink_ready,
            now: self.now,
            drawn_start: self.drawn.filter(|_| evaluation.since.is_some()).map(spread),
            couriers: self.couriers,
        })
    }

    /// The same world when nothing but time has passed.
    fn later(mut self, ms: u64) -> Self {
        self.now = self.now.saturating_add(length(ms)).unwrap();
        for left in [
            &mut self.load.due_in_ms,
            &mut self.load.snoozed_ms,
            &mut self.couriers.suspended_ms,
            &mut self.couriers.rests_ms,
        ] {
            *left = left.saturating_sub(ms);
        }
        for ago in [&mut self.load.last_failure_ago_ms, &mut self.load.last_success_ago_ms] {
            *ago = ago.map(|ago| ago + ms);
        }
        self.load.signal = self.load.signal.filter(|signal| signal.left_ms > ms).map(|signal| SignalView {
            since_ms: signal.since_ms + ms,
            left_ms: signal.left_ms - ms,
            ..signal
        });
        self
    }

    fn hindrances(&self) -> Vec<Hindrance> {
        self.decide().chain().iter().map(|reason| reason.hindrance).collect()
    }
}

fn go(mode: Mode) -> Decision {
    Decision::Go { mode }
}

fn waits_until(world: &World, hindrance: Hindrance, ms: u64) {
    let until = Some(at(ms));
    assert_eq!(world.decide(), Decision::Wait { chain: vec![Reason { hindrance, until }], next_look: until });
}

fn back_off(failures: u32) -> Hindrance {
    Hindrance::BackOff { failures, error: Some(DeliveryError::DescriptorNotFound) }
}

fn breaker(failures: u32) -> Hindrance {
    Hindrance::Breaker { failures, error: Some(DeliveryError::DescriptorNotFound) }
}

#[test]
fn a_message_goes_out_when_nothing_is_in_the_way() {
    assert_eq!(World::new(0).decide(), go(Mode::Full));
    assert_eq!(World::new(4 * HOUR).with_window("03:00", "05:00").decide(), go(Mode::Full));
}

#[test]
fn what_is_in_the_way_is_told_in_order() {
    let mut world = World::new(0).with_window("03:00", "05:00");
    waits_until(&world, Hindrance::WindowClosed, 3 * HOUR);
    world.uplink_ready = false;
    world.load.snoozed_ms = MINUTE;
    world.couriers.suspended_ms = 5 * MINUTE;
    world.load.queued = 0;
    let expected = [
        Hindrance::NothingQueued,
        Hindrance::WindowClosed,
        Hindrance::TorNotReady,
        Hindrance::TorPause,
        Hindrance::CourierSuspended,
    ];
    assert_eq!(world.hindrances(), expected);
    world.load.paused = true;
    assert_eq!(world.hindrances()[0], Hindrance::Paused);
}

#[test]
fn a_failure_of_the_last_opening_does_not_hold_this_one_back() {
    let world = World::new(3 * HOUR + MINUTE).with_window("03:00", "05:00");
    assert_eq!(world.clone().failed(3, 20 * HOUR, HOUR).decide(), go(Mode::Probe));
    assert_eq!(world.clone().failed(50, 20 * HOUR, HOUR).decide(), go(Mode::Probe), "the breaker probes each opening");
    waits_until(&world.clone().failed(3, MINUTE / 2, MINUTE), back_off(3), 3 * HOUR + 2 * MINUTE);
    waits_until(&world.failed(50, MINUTE / 2, MINUTE), breaker(50), 27 * HOUR);
}

#[test]
fn a_signal_lets_a_failed_destination_be_probed_at_once_and_only_once() {
    let failed = World::new(0).with_window("03:00", "05:00").failed(9, 2 * HOUR, HOUR);
    assert_eq!(failed.hindrances(), [Hindrance::WindowClosed], "the coming opening begins anew");
    let signalled = failed.signalled(true, MINUTE, 9 * MINUTE);
    assert_eq!(signalled.decide(), go(Mode::Probe));
    assert_eq!(signalled.failed(10, 1_000, HOUR).hindrances(), [breaker(10)]);
    let inside = World::new(4 * HOUR).with_window("03:00", "05:00").failed(9, MINUTE, HOUR);
    assert_eq!(inside.hindrances(), [breaker(9)]);
    assert_eq!(inside.signalled(true, 1_000, MINUTE).decide(), go(Mode::Probe), "a signal within the window, too");
}

#[test]
fn where_it_is_always_open_the_breaker_probes_now_and_then() {
    let world = World::new(0);
    waits_until(&world.clone().failed(5, 10 * MINUTE, 0), breaker(5), 50 * MINUTE);
    waits_until(&world.clone().failed(5, 10 * MINUTE, 55 * MINUTE), breaker(5), 55 * MINUTE);
    assert_eq!(world.clone().failed(5, HOUR, 0).decide(), go(Mode::Probe));
    assert_eq!(world.clone().failed(4, 10 * MINUTE, 0).decide(), go(Mode::Probe), "too few failures for the breaker");
    let mut delivered = world.failed(9, MINUTE, MINUTE);
    delivered.load.last_success_ago_ms = Some(30 * MINUTE);
    waits_until(&delivered, back_off(9), MINUTE);
}

#[test]
fn in_a_long_opening_the_breaker_probes_now_and_then() {
    // Open until a day that lies months ahead.
    let mut world = World::new(0).failed(5, 10 * MINUTE, 0);
    let denial = RawDenial {
        from: Some("2027-12-24T20:00".into()),
        until: Some("2027-12-26T08:00".into()),
        ..RawDenial::default()
    };
    let raw = RawWindows { timezone: Some("UTC".into()), deny: vec![denial], ..RawWindows::default() };
    world.agreement.windows = WindowSet::from_raw(raw, "windows").unwrap();
    assert!(world.evaluation().next_opening.is_some());
    waits_until(&world, breaker(5), 6 * HOUR - 10 * MINUTE);
    assert_eq!(world.clone().failed(5, 6 * HOUR, 0).decide(), go(Mode::Probe));
    world.agreement.breaker.since_success = SignedDuration::from_hours(24);
    waits_until(&world.failed(6, 6 * HOUR, 0), breaker(6), 18 * HOUR);
    // What opens again before the next probe waits for that.
    waits_until(&World::new(HOUR).with_window("00:00", "05:00").failed(9, MINUTE, 0), breaker(9), 24 * HOUR);
}

#[test]
fn break_glass_does_not_wait_for_the_drawn_start_and_the_others_do() {
    let mut world = World::new(3 * HOUR).with_window("03:00", "05:00");
    world.drawn = Some(0.5);
    world.load.break_glass = 1;
    assert_eq!(world.hindrances(), [Hindrance::StartSpread], "it is not agreed");
    world.agreement.break_glass = Some(BreakGlass { per_hour: 6 });
    assert_eq!(world.decide(), go(Mode::BreakGlass));
    world.drawn = None;
    assert_eq!(world.decide(), go(Mode::Full));
}

#[test]
fn the_drawn_start_is_waited_for_unless_somebody_says_ready() {
    let mut world = World::new(3 * HOUR).with_window("03:00", "05:00");
    world.drawn = Some(0.5);
    waits_until(&world, Hindrance::StartSpread, 3 * HOUR + 3 * MINUTE);
    assert_eq!(world.signalled(true, 0, MINUTE).decide(), go(Mode::Full));
}

#[test]
fn a_budget_that_is_used_up_is_told_apart_from_a_pause_of_tor_and_no_opening_resets_either() {
    let mut world = World::new(3 * HOUR + MINUTE).with_window("03:00", "05:00").failed(1, 20 * HOUR, 0);
    world.load.snoozed_ms = MINUTE;
    waits_until(&world, Hindrance::TorPause, 3 * HOUR + 2 * MINUTE);
    world.load.fresh_circuits_last_hour = world.agreement.fresh_circuits_per_hour;
    waits_until(&world, Hindrance::TorBudget, 3 * HOUR + 2 * MINUTE);
}

#[test]
fn break_glass_goes_through_a_closed_window_and_through_nothing_else() {
    let mut world = World::new(0).with_window("03:00", "05:00");
    world.load.break_glass = 1;
    assert_eq!(world.hindrances(), [Hindrance::WindowClosed], "the agreement knows none");
    world.agreement.break_glass = Some(BreakGlass { per_hour: 4 });
    assert_eq!(world.decide(), go(Mode::BreakGlass));
    assert_eq!(world.clone().signalled(false, 0, MINUTE).decide(), go(Mode::BreakGlass));
    assert_eq!(world.clone().failed(1, 1_000, MINUTE).hindrances(), [back_off(1)]);
    let mut paused = world.clone();
    paused.load.paused = true;
    assert_eq!(paused.hindrances(), [Hindrance::Paused]);
    let mut over = world.clone();
    over.agreement.valid = Validity { from: None, until: Some(at(0)) };
    assert_eq!(over.hindrances(), [Hindrance::AfterAgreement]);
    over.clock_trusted = false;
    assert_eq!(over.decide().mode(), None, "nobody knows whether the agreement holds");
    world.load.snoozed_ms = 1;
    assert_eq!(world.hindrances(), [Hindrance::TorPause]);
}

#[test]
fn sentences_name_the_time_in_the_zone_of_the_agreement() {
    let zone = TimeZone::get("Europe/Madrid").unwrap();
    let reason = Reason { hindrance: Hindrance::WindowClosed, until: Some(at(HOUR)) };
    assert_eq!(reason.sentence(&zone), "the window is closed until 2026-11-24 02:00:00 Europe/Madrid");
    let reason = Reason { hindrance: breaker(7), until: Some(at(HOUR)) };
    assert_eq!(
        reason.sentence(&zone),
        "the breaker is open after 7 failures in a row (the onion service's descriptor was not found), no probe until \
         2026-11-24 02:00:00 Europe/Madrid"
    );
    let reason = Reason { hindrance: Hindrance::NothingQueued, until: None };
    assert_eq!(reason.sentence(&zone), "nothing is queued");
}

prop_compose! {
    fn agreements()(
        windows in prop::option::of((0_u8..24, 0_u8..24)),
        glass in prop::option::of(1_u16..9),
        (from, until) in (prop::option::weighted(0.2, 0..24 * HOUR), prop::option::weighted(0.2, 0..96 * HOUR)),
        breaker_failures in 1_u32..8,
        accept: bool,
    ) -> ServiceAgreement {
        let windows = windows.map(|(from, to)| nightly(&format!("{from:02}:00"), &format!("{to:02}:30")));
        ServiceAgreement {
            windows: windows.unwrap_or_default(),
            valid: Validity { from: from.map(at), until: until.map(at) },
            break_glass: glass.map(|per_hour| BreakGlass { per_hour }),
            breaker: crate::agreement::Breaker { failures: breaker_failures, ..crate::agreement::Breaker::default() },
            signal: SignalPolicy { accept, ..SignalPolicy::default() },
            ..ServiceAgreement::default()
        }
    }
}

prop_compose! {
    fn worlds()(
        agreement in agreements(),
        now_ms in 0..48 * HOUR,
        (queued, break_glass) in (0_u64..3, 0_u64..2),
        (failures, failed_ago, due) in (0_u32..10, 0..48 * HOUR, prop_oneof![Just(0), 1..HOUR]),
        success_ago in prop::option::of(0..48 * HOUR),
        (snoozed, circuits) in (prop_oneof![3 => Just(0), 1 => 1..HOUR], 0_u16..13),
        signal in prop::option::of((any::<bool>(), 0..HOUR, 1..HOUR)),
        (paused, everything_refused) in (prop::bool::weighted(0.1), prop::bool::weighted(0.1)),
        (uplink_ready, clock_trusted) in (prop::bool::weighted(0.9), prop::bool::weighted(0.9)),
        drawn in prop::option::of(0.0_f64..1.0),
        (suspended_ms, rests_ms) in (prop_oneof![9 => Just(0), 1 => 1..HOUR], prop_oneof![3 => Just(0), 1 => 1_u64..1_000]),
    ) -> World {
        let mut world = World::new(now_ms);
        world.agreement = agreement;
        if failures > 0 {
            world = world.failed(failures, failed_ago, due);
        }
        let load = &mut world.load;
        (load.queued, load.break_glass) = (queued, break_glass.min(queued));
        load.last_success_ago_ms = success_ago;
        (load.snoozed_ms, load.fresh_circuits_last_hour) = (snoozed, circuits);
        (load.paused, load.everything_refused) = (paused, everything_refused && failures > 0);
        let from = SignalSource::Mqtt;
        load.signal = signal.map(|(ready, since_ms, left_ms)| SignalView { ready, since_ms, left_ms, from });
        (world.uplink_ready, world.clock_trusted, world.drawn) = (uplink_ready, clock_trusted, drawn);
        world.couriers = CourierMemory { suspended_ms, rests_ms };
        world
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, ..ProptestConfig::default() })]

    /// DW-1 at its root.
    #[test]
    fn it_goes_only_inside_the_window_or_as_break_glass_and_never_past_a_pause_or_the_agreement(world in worlds()) {
        let Some(mode) = world.decide().mode() else { return Ok(()) };
        let evaluation = world.evaluation();
        prop_assert!(evaluation.may_start(world.now) || mode == Mode::BreakGlass);
        let valid = world.agreement.valid;
        // A clock that is not believed says nothing of the agreement's end; a signal still opens then.
        if world.clock_trusted || mode == Mode::BreakGlass {
            prop_assert!(valid.from.is_none_or(|from| from <= world.now));
            prop_assert!(valid.until.is_none_or(|until| world.now < until));
        }
        prop_assert!(!world.load.paused && world.uplink_ready && world.load.queued > 0 && world.load.snoozed_ms == 0);
        if mode == Mode::BreakGlass {
            prop_assert!(world.load.break_glass > 0 && world.agreement.break_glass.is_some());
            // In an open window it is break-glass only while the others wait for their drawn start.
            let undrawn = World { drawn: None, ..world.clone() };
            prop_assert!(!evaluation.open || undrawn.decide().mode().is_some_and(|mode| mode != Mode::BreakGlass));
        }
        prop_assert_eq!(mode == Mode::Probe, world.load.failures > 0 && mode != Mode::BreakGlass);
    }

    /// Nobody waits without a reason, nor longer than for it.
    #[test]
    fn whoever_waits_knows_why_and_the_named_time_changes_the_answer(world in worlds()) {
        let decision = world.decide();
        let Decision::Wait { chain, next_look } = &decision else { return Ok(()) };
        prop_assert!(!chain.is_empty());
        for reason in chain {
            prop_assert!(reason.until.is_none_or(|until| until > world.now), "{reason:?}");
        }
        let Some(next_look) = next_look else {
            prop_assert!(chain.iter().any(|reason| reason.until.is_none()));
            return Ok(());
        };
        let ms = millis(next_look.duration_since(world.now)) + 1;
        let then = world.clone().later(ms).decide();
        prop_assert_ne!(&then, &decision, "{:?}", world);
    }

    /// DW-4: by itself it is no failure, and what failed before it is forgiven by the next opening.
    #[test]
    fn a_closed_window_is_never_told_as_a_failure(world in worlds()) {
        let glass = world.load.break_glass > 0 && world.agreement.break_glass.is_some();
        if world.evaluation().may_start(world.now) || glass {
            return Ok(());
        }
        let failure = |hindrance: &Hindrance| {
            matches!(hindrance, Hindrance::BackOff { .. } | Hindrance::Breaker { .. } | Hindrance::EverythingRefused)
        };
        prop_assert!(!world.hindrances().iter().any(failure));
    }

    /// The same situation without its failures of earlier openings goes at the same moments.
    #[test]
    fn a_failure_before_the_opening_changes_how_it_goes_and_not_whether(world in worlds(), before_ms in 1..HOUR) {
        let evaluation = world.evaluation();
        let Some(since) = evaluation.since.filter(|_| evaluation.may_start(world.now)) else { return Ok(()) };
        let since_ms = millis(world.now.duration_since(since));
        let failed = world.clone().failed(7, since_ms + before_ms, HOUR);
        let mut well = world;
        (well.load.failures, well.load.everything_refused) = (0, false);
        prop_assert_eq!(failed.decide().mode().is_some(), well.decide().mode().is_some());
    }
}
