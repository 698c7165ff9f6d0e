//! What is explained is what happens next: random situations, asked and then watched.

use super::*;
use crate::testing::cases::cases;
use proptest::prelude::*;
use tidegate_schemas::{
    agreement::SignalPolicy,
    dispatch::{Decision, Hindrance},
    messages::{
        dispatcher::{Explain, Explained},
        outbox::{SetPaused, Signal, SignalSource, SignalWord},
    },
};

/// Longest that a test watches somebody wait.
const WATCHED: Duration = Duration::from_secs(7_200);

pub(super) async fn explain(rig: &Rig) -> Explained {
    rig.dispatcher.send(Explain { destination: ward() }).await.unwrap().unwrap()
}

pub(super) async fn say(rig: &Rig, word: SignalWord) {
    let policy = SignalPolicy { accept: true, per_hour: 1_000, ..SignalPolicy::default() };
    let signal = Signal { destination: ward(), word, policy, from: SignalSource::Operator, sequence: None };
    rig.outbox.send(signal).await.unwrap().unwrap();
}

pub(super) async fn pause(rig: &Rig, paused: bool) {
    rig.outbox.send(SetPaused { destination: ward(), paused }).await.unwrap().unwrap();
}

#[derive(Debug, Clone)]
enum Act {
    HandIn,
    Down,
    Up,
    Paused(bool),
    Says(SignalWord),
    Step(i64),
    Trusted(bool),
    Tor(bool),
    Pass(u64),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        3 => Just(Act::HandIn),
        2 => Just(Act::Down),
        1 => Just(Act::Up),
        1 => prop::bool::weighted(0.3).prop_map(Act::Paused),
        1 => (60_u32..900).prop_map(|ttl| Act::Says(SignalWord::Ready(ttl))),
        1 => (60_u32..900).prop_map(|ttl| Act::Says(SignalWord::NotNow(ttl))),
        1 => Just(Act::Says(SignalWord::Clear)),
        1 => (-20_000_i64..20_000).prop_map(Act::Step),
        1 => prop::bool::weighted(0.7).prop_map(Act::Trusted),
        1 => prop::bool::weighted(0.7).prop_map(Act::Tor),
        3 => (1_u64..20_000).prop_map(Act::Pass),
    ];
    prop::collection::vec(act, 1..16)
}

async fn act(rig: &Rig, act: &Act) {
    match act {
        Act::HandIn => rig.hand_in("ward", "p", "70".into()).await,
        Act::Down => rig.transport.take_down(&ward(), DeliveryError::RendezvousFailed),
        Act::Up => rig.transport.bring_up(&ward()),
        Act::Paused(paused) => pause(rig, *paused).await,
        Act::Says(word) => say(rig, *word).await,
        Act::Step(seconds) => rig.clock.step(SignedDuration::from_secs(*seconds)),
        Act::Trusted(trusted) => rig.clock.set_trusted(*trusted),
        Act::Tor(true) => rig.transport.set_status(UplinkStatus::Ready),
        Act::Tor(false) => rig.transport.set_status(UplinkStatus::Starting),
        Act::Pass(seconds) => pass(*seconds).await,
    }
    // As those do that bring such news.
    rig.parts.bell.ring();
    tokio::time::sleep(Duration::from_millis(200)).await;
}

async fn what_is_explained_happens(rig: &Rig) -> Result<(), TestCaseError> {
    let explained = explain(rig).await;
    if explained.served.is_some() {
        return Ok(());
    }
    let opened = rig.transport.opened().len();
    match explained.decision {
        Decision::Go { mode } => {
            rig.parts.bell.ring();
            tokio::time::sleep(Duration::from_millis(1)).await;
            let seen = rig.seen().await;
            prop_assert!(
                seen.couriers.iter().any(|it| it.mode == mode) || rig.transport.opened().len() > opened,
                "{seen:?}"
            );
        }
        Decision::Wait { chain, next_look } => {
            let left = next_look.map(|at| Duration::try_from(at.duration_since(rig.clock.now())).unwrap());
            let quiet = left.map_or(WATCHED, |left| left.min(WATCHED).saturating_sub(Duration::from_millis(5)));
            tokio::time::sleep(quiet).await;
            prop_assert_eq!(rig.transport.opened().len(), opened, "{:?} {:?}", chain, next_look);
            let Some(next_look) = next_look.filter(|_| left.is_some_and(|left| left <= WATCHED)) else { return Ok(()) };
            tokio::time::sleep(Duration::from_millis(40)).await;
            let then = explain(rig).await;
            let went = then.served.is_some() || rig.transport.opened().len() > opened;
            prop_assert!(went || then.decision.chain() != chain, "{chain:?} {next_look} {then:?}");
            prop_assert!(went || then.decision.mode().is_none(), "what may go goes: {then:?}");
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(40))]

    #[test]
    fn what_is_explained_is_what_the_dispatcher_then_does(acts in acts(), windows: bool, breaker in 2_u32..9) {
        actix::System::new().block_on(async move {
            tokio::time::pause();
            let signal = SignalPolicy { accept: true, per_hour: 1_000, ..SignalPolicy::default() };
            let breaker = Breaker { failures: breaker, ..Breaker::default() };
            let retry = RetryPolicy::default();
            let mut agreed = ServiceAgreement { signal, breaker, retry, fresh_circuits_per_hour: 6, ..agreement() };
            if windows {
                agreed.windows = nightly("13:00", "15:00");
            }
            let rig = Rig::new(vec![destination("ward", agreed)]);
            rig.hand_in("ward", "p", "70".into()).await;
            for it in &acts {
                act(&rig, it).await;
                what_is_explained_happens(&rig).await?;
            }
            Ok::<(), TestCaseError>(())
        })?;
    }
}

#[actix::test]
async fn a_waiting_destination_shows_its_first_reason_and_nobody_explains_a_stranger() {
    tokio::time::pause();
    let nights = ServiceAgreement { windows: nightly("03:00", "05:00"), ..agreement() };
    let rig = Rig::new(vec![destination("ward", nights)]);
    rig.hand_in("ward", "p", "70".into()).await;
    pass(1).await;
    let seen = rig.seen().await;
    assert_eq!((seen.waiting_total, seen.waiting[0].reason.hindrance), (1, Hindrance::WindowClosed));
    assert_eq!(explain(&rig).await.decision.chain(), [seen.waiting[0].reason]);
    let stranger = Explain { destination: "nobody".parse().unwrap() };
    assert_eq!(rig.dispatcher.send(stranger).await.unwrap(), None);
    pass(86_400).await;
    assert_eq!(rig.seen().await.waiting_total, 0);
}

#[actix::test]
async fn a_signal_opens_a_closed_window_for_its_time_and_no_longer() {
    tokio::time::pause();
    let signal = SignalPolicy { accept: true, ..SignalPolicy::default() };
    let rig = Rig::new(vec![destination(
        "ward",
        ServiceAgreement { windows: nightly("03:00", "05:00"), signal, ..agreement() },
    )]);
    rig.hand_in("ward", "p", "1".into()).await;
    pass(600).await;
    assert!(rig.taken("ward").is_empty());
    say(&rig, SignalWord::Ready(300)).await;
    pass(2).await;
    assert_eq!(rig.taken("ward"), ["1"], "at once");
    pass(299).await;
    rig.hand_in("ward", "p", "2".into()).await;
    pass(3_600).await;
    assert_eq!(rig.taken("ward"), ["1"]);
    assert!(rig.seen().await.couriers.is_empty());
    let load = rig.load("ward").await;
    assert_eq!((load.failures, load.last_failure_ago_ms), (0, None), "DW-4");
}

#[actix::test]
async fn a_failed_destination_that_says_ready_gets_one_probe_at_once() {
    tokio::time::pause();
    let signal = SignalPolicy { accept: true, ..SignalPolicy::default() };
    let retry = RetryPolicy { steps: vec![SignedDuration::from_hours(5)], jitter: 0.0 };
    let rig = Rig::new(vec![destination("ward", ServiceAgreement { signal, retry, ..agreement() })]);
    rig.transport.take_down(&ward(), DeliveryError::DescriptorNotFound);
    rig.hand_in("ward", "p", "1".into()).await;
    pass(3_600).await;
    assert_eq!(rig.transport.opened().len(), 1);
    say(&rig, SignalWord::Ready(900)).await;
    pass(600).await;
    assert_eq!(rig.transport.opened().len(), 2, "one probe, then the back-off of that");
    rig.transport.bring_up(&ward());
    say(&rig, SignalWord::Ready(900)).await;
    pass(2).await;
    assert_eq!(rig.taken("ward"), ["1"]);
}

#[actix::test]
async fn not_now_and_a_pause_close_what_is_open_and_count_nothing() {
    tokio::time::pause();
    for paused in [false, true] {
        let signal = SignalPolicy { accept: true, ..SignalPolicy::default() };
        let rig = Rig::new(vec![destination("ward", ServiceAgreement { signal, ..agreement() })]);
        rig.transport.set_latency(Duration::from_secs(10));
        for n in 1..=5 {
            rig.hand_in("ward", "p", n.to_string()).await;
        }
        // The first one is under way.
        pass(15).await;
        if paused {
            pause(&rig, true).await
        } else {
            say(&rig, SignalWord::NotNow(600)).await
        }
        pass(599).await;
        assert_eq!(rig.taken("ward"), ["1"], "what was under way may end, nothing else starts");
        assert_eq!(rig.load("ward").await.failures, 0);
        if paused {
            pass(86_400).await;
            assert_eq!(rig.taken("ward"), ["1"]);
            pause(&rig, false).await;
        }
        pass(100).await;
        assert_eq!(rig.taken("ward"), ["1", "2", "3", "4", "5"]);
    }
}
