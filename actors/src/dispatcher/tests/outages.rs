//! What a destination that is gone, slow or hostile costs: attempts, circuits, and nobody else's time.
#![expect(clippy::print_stderr, reason = "the counts are shown beside their bounds")]

use super::*;
use crate::testing::cases::cases;
use proptest::prelude::*;
use tidegate_schemas::agreement::Order;

fn usual() -> ServiceAgreement {
    ServiceAgreement { format: WireFormat::Raw, ..ServiceAgreement::default() }
}

#[actix::test]
async fn a_week_without_a_destination_costs_a_probe_an_opening() {
    tokio::time::pause();
    let rig = Rig::new(vec![destination("ward", ServiceAgreement { windows: nightly("03:00", "05:00"), ..usual() })]);
    rig.hand_in("ward", "p", "before".into()).await;
    pass(86_400).await;
    assert_eq!(rig.taken("ward"), ["before"]);
    let before = rig.transport.opened().len();
    rig.transport.take_down(&ward(), DeliveryError::DescriptorNotFound);
    for n in 0..7 * 24 {
        rig.hand_in("ward", "p", n.to_string()).await;
        pass(3_600).await;
    }
    let attempts = rig.transport.opened().len() - before;
    eprintln!("attempts in a week's outage with a nightly window: {attempts}");
    // The first opening takes the steps until the breaker opens (5 failures), each of the other six its probe.
    assert!((7..=5 + 6).contains(&attempts), "{attempts}");
    rig.transport.bring_up(&ward());
    pass(86_400).await;
    assert_eq!(rig.taken("ward").len(), 1 + 7 * 24, "one probe, and the whole backlog behind it");
}

#[actix::test]
async fn the_breaker_probes_once_an_opening_and_always_open_once_in_its_time() {
    tokio::time::pause();
    let rig = Rig::new(vec![
        destination("ward", ServiceAgreement { windows: nightly("13:00", "23:00"), ..usual() }),
        destination("lab", usual()),
    ]);
    for to in ["ward", "lab"] {
        rig.transport.take_down(&to.parse().unwrap(), DeliveryError::ConnectTimeout);
        rig.hand_in(to, "p", "70".into()).await;
    }
    pass(86_400).await;
    let opened = |of: &str| rig.transport.opened().iter().filter(|(id, _, _)| id.as_str() == of).count();
    let (ward, lab) = (opened("ward"), opened("lab"));
    assert_eq!(ward, 6, "the fifth opens the breaker, and six hours later, still within the opening, there is a probe");
    pass(3 * 86_400).await;
    assert_eq!(opened("ward") - ward, 2 * 3);
    assert!((70..=72).contains(&(opened("lab") - lab)), "{}", opened("lab") - lab);
}

#[actix::test]
async fn a_service_that_drops_every_rendezvous_for_a_day_stays_within_the_tor_budget_over_a_restart() {
    tokio::time::pause();
    for breaker in [Breaker { failures: u32::MAX, ..Breaker::default() }, Breaker::default()] {
        let retry = RetryPolicy { steps: vec![SignedDuration::from_secs(15)], jitter: 0.1 };
        let mut rig = Rig::new(vec![destination("ward", ServiceAgreement { breaker, retry, ..usual() })]);
        rig.transport.take_down(&ward(), DeliveryError::RendezvousFailed);
        rig.hand_in("ward", "p", "70".into()).await;
        for _ in 0..24 {
            pass(3_000).await;
            rig.restart().await;
            pass(599).await;
        }
        let opened = rig.transport.opened();
        eprintln!("circuits in a hostile day, breaker after {}: {}", breaker.failures, opened.len());
        assert!((24..=24 * 12).contains(&opened.len()), "{}", opened.len());
        let distinct = opened.iter().map(|(_, isolation, _)| isolation.0).collect::<BTreeSet<_>>();
        assert_eq!(distinct.len(), opened.len(), "each on a fresh isolation");
        for (_, _, at) in &opened {
            let hour = opened
                .iter()
                .filter(|(_, _, other)| *other >= *at && other.duration_since(*at) < SignedDuration::from_secs(3_600));
            assert!(hour.count() <= 12, "decision 13");
        }
    }
}

/// How long each reading for the lab takes, in milliseconds.
async fn latencies(with_a_dead_one: bool) -> Vec<i128> {
    let rig = Rig::new(vec![destination("ward", usual()), destination("lab", usual())]);
    rig.transport.take_down(&ward(), DeliveryError::ConnectTimeout);
    let mut handed_in = Vec::new();
    for n in 0..200 {
        if with_a_dead_one {
            rig.hand_in("ward", "p", n.to_string()).await;
        }
        handed_in.push(rig.clock.now());
        rig.hand_in("lab", "p", n.to_string()).await;
        pass(7).await;
    }
    let arrived = rig.transport.attempts().into_iter().filter(|attempt| attempt.destination.as_str() == "lab");
    let arrived: Vec<_> = arrived.map(|attempt| attempt.at).collect();
    assert_eq!(arrived.len(), handed_in.len());
    arrived.iter().zip(&handed_in).map(|(at, handed_in)| at.duration_since(*handed_in).as_millis()).collect()
}

#[actix::test]
async fn a_dead_destination_changes_nothing_for_a_fast_one() {
    tokio::time::pause();
    let (alone, beside) = (latencies(false).await, latencies(true).await);
    let later = alone.iter().zip(&beside).map(|(alone, beside)| beside - alone).max().unwrap();
    assert!(later <= 5, "later by {later} ms at the most: {alone:?} {beside:?}");
}

#[actix::test]
async fn throughput_ramps_up_from_one_lane_and_after_a_failure_from_one_message() {
    tokio::time::pause();
    let batches = ServiceAgreement { format: WireFormat::CloudeventsBatch, lanes: 4, ..agreement() };
    let rig = Rig::new(vec![destination("ward", batches)]);
    rig.transport.take_down(&ward(), DeliveryError::ConnectTimeout);
    for n in 0..400 {
        rig.hand_in("ward", &format!("d{}", n % 200), n.to_string()).await;
    }
    pass(1).await;
    assert_eq!(rig.transport.opened().len(), 1, "one lane at first");
    rig.transport.bring_up(&ward());
    rig.transport.set_latency(Duration::from_secs(1));
    pass(120).await;
    let attempts = rig.transport.attempts();
    let events = |attempt: &Attempt| {
        let body = String::from_utf8(attempt.request.body.reveal().to_vec()).unwrap();
        body.matches("\"specversion\"").count()
    };
    assert_eq!(events(&attempts[0]), 1, "the probe is one message");
    assert!(attempts.iter().any(|attempt| events(attempt) > 10));
    assert_eq!(attempts.iter().map(events).sum::<usize>(), 400);
    let opened: Vec<Timestamp> = rig.transport.opened().iter().map(|(_, _, at)| *at).skip(1).collect();
    let first_success = attempts[0].at + SignedDuration::from_secs(1);
    assert!(opened.len() > 1 && opened[1] >= first_success, "the second lane waits for it: {opened:?}");
}

#[actix::test]
async fn where_no_order_is_agreed_the_messages_of_one_device_share_the_lanes() {
    tokio::time::pause();
    for order in [Order::PerDevice, Order::None] {
        let rig = Rig::new(vec![destination("ward", ServiceAgreement { order, lanes: 4, ..agreement() })]);
        rig.transport.set_latency(Duration::from_secs(1));
        for n in 0..60 {
            rig.hand_in("ward", "p", n.to_string()).await;
        }
        pass(120).await;
        assert_eq!(rig.taken("ward").len(), 60);
        let lanes: BTreeSet<[u8; 16]> = rig.transport.attempts().iter().map(|a| a.isolation.0).collect();
        assert_eq!(lanes.len(), if order == Order::None { 4 } else { 1 });
    }
}

async fn steps_of_the_clock(steps: Vec<(u64, i64)>, latency_s: u64) -> Result<(), TestCaseError> {
    let agreed = ServiceAgreement { windows: nightly("12:00", "12:40"), ..agreement() };
    let rig = Rig::new(vec![destination("ward", agreed.clone())]);
    rig.transport.set_latency(Duration::from_secs(latency_s));
    for n in 0..200 {
        rig.hand_in("ward", "p", n.to_string()).await;
    }
    for (after_s, by_s) in steps {
        pass(after_s).await;
        rig.clock.step(SignedDuration::from_secs(by_s));
    }
    pass(3_600).await;
    for (_, _, at) in rig.transport.opened() {
        prop_assert!(agreed.evaluate(&Circumstances::at(at)).may_start(at), "DW-1: a circuit at {at}");
    }
    for attempt in rig.transport.attempts() {
        let evaluation = agreed.evaluate(&Circumstances::at(attempt.at));
        prop_assert!(evaluation.may_start(attempt.at), "DW-1: {}", attempt.at);
        // Nobody can cut off by a clock that is set meanwhile: the end is counted from the clock at the start.
        let ended = attempt.at + SignedDuration::from_secs(i64::try_from(latency_s).unwrap());
        prop_assert!(ended <= evaluation.ends_by.unwrap(), "DW-2: {ended}");
    }
    prop_assert_eq!(rig.load("ward").await.failures, 0, "DW-4");
    Ok(())
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn whatever_the_clock_does_nothing_starts_outside_the_window_nor_outlives_it(
        steps in prop::collection::vec((1_u64..1_500, -100_000_i64..100_000), 0..12),
        latency_s in 0_u64..50,
    ) {
        actix::System::new().block_on(async move {
            tokio::time::pause();
            steps_of_the_clock(steps, latency_s).await
        })?;
    }
}
