//! What a failure costs: circuits, back-off, and whether anything stays parked.

use super::*;
use crate::testing::cases::cases;
use proptest::prelude::*;

#[actix::test]
async fn a_tor_that_is_not_ready_after_all_costs_one_circuit_and_a_pause() {
    tokio::time::pause();
    let rig = Rig::new(vec![destination("ward", ServiceAgreement { fresh_circuits_per_hour: 12, ..agreement() })]);
    rig.transport.take_down(&ward(), DeliveryError::UplinkNotReady);
    rig.hand_in("ward", "p", "70".into()).await;
    pass(600).await;
    let opened = rig.transport.opened();
    assert!((30..=41).contains(&opened.len()), "{}", opened.len());
    assert_eq!(opened.iter().map(|(_, isolation, _)| isolation.0).collect::<BTreeSet<_>>().len(), 1);
    let load = rig.load("ward").await;
    assert_eq!((load.fresh_circuits_last_hour, load.failures), (1, 0), "{load:?}");
    rig.transport.bring_up(&ward());
    pass(20).await;
    assert_eq!(rig.taken("ward"), ["70"]);
}

#[actix::test]
async fn a_service_that_ends_its_circuit_after_each_answer_stays_within_the_tor_budget() {
    tokio::time::pause();
    let rig = Rig::new(vec![destination("ward", ServiceAgreement { fresh_circuits_per_hour: 12, ..agreement() })]);
    rig.transport.set_hangs_up(true);
    for n in 0..100 {
        rig.hand_in("ward", "p", n.to_string()).await;
        pass(10).await;
    }
    assert_eq!(rig.load("ward").await.fresh_circuits_last_hour, 12);
    // One that was found to be another one was built already.
    let built = rig.transport.circuits_built();
    assert!((12..=13).contains(&built), "{built}");
    rig.transport.set_hangs_up(false);
    pass(7_200).await;
    assert_eq!(rig.taken("ward").len(), 100, "nothing is lost by it");
}

#[actix::test]
async fn a_connect_that_the_window_cuts_off_is_not_joined_for_nothing() {
    tokio::time::pause();
    let minutely = RawWindow { cron: Some("* * * * *".into()), lasts: Some("30s".into()), ..RawWindow::default() };
    let raw = RawWindows { timezone: Some("UTC".into()), allow: vec![minutely], ..RawWindows::default() };
    let windows = WindowSet::from_raw(raw, "windows").unwrap();
    let agreed = ServiceAgreement { windows, fresh_circuits_per_hour: 12, ..agreement() };
    let rig = Rig::new(vec![destination("ward", agreed)]);
    rig.transport.set_latency(Duration::from_secs(100));
    rig.hand_in("ward", "p", "70".into()).await;
    pass(3_600).await;
    let opened = rig.transport.opened();
    assert!((2..=12).contains(&opened.len()), "{}", opened.len());
}

#[actix::test]
async fn lanes_that_fail_together_are_one_failure_of_the_destination() {
    tokio::time::pause();
    let steps = [15, 60, 300].map(SignedDuration::from_secs).to_vec();
    let retry = RetryPolicy { steps, jitter: 0.0 };
    let rig = Rig::new(vec![destination("ward", ServiceAgreement { lanes: 4, retry, ..agreement() })]);
    for n in 0..8 {
        rig.hand_in("ward", &format!("d{n}"), n.to_string()).await;
    }
    pass(5).await;
    assert!(rig.transport.opened().len() > 1, "several lanes are at work");
    rig.transport.take_down(&ward(), DeliveryError::ConnectTimeout);
    for n in 0..8 {
        rig.hand_in("ward", &format!("d{n}"), n.to_string()).await;
    }
    pass(5).await;
    assert_eq!(rig.load("ward").await.failures, 1);
    pass(20).await;
    assert_eq!(rig.load("ward").await.failures, 2);
}

async fn refuse_everything(format: WireFormat, lanes: u8, devices: usize, count: usize) -> Result<(), TestCaseError> {
    let rig = Rig::new(vec![destination("ward", ServiceAgreement { format, lanes, ..agreement() })]);
    rig.transport.answer(&ward(), Arc::new(|_| Some(Ok(422))));
    for n in 0..count {
        rig.hand_in("ward", &format!("d{}", n % devices), n.to_string()).await;
    }
    // Until a moment between two rounds.
    for _ in 0..1_000 {
        pass(1).await;
        let Observation::Dispatcher(seen) = rig.dispatcher.send(Observe).await.unwrap() else { panic!() };
        if seen.couriers.is_empty() && rig.load("ward").await.due_in_ms > 0 {
            break;
        }
    }
    let (seen, load) = (rig.account().await, rig.load("ward").await);
    prop_assert_eq!((seen.account.parked, seen.account.queued, seen.gap), (0, count as u64, 0));
    prop_assert!(load.everything_refused && load.failures > 0, "{:?}", load);
    rig.transport.answer(&ward(), Arc::new(|_| None));
    pass(120).await;
    prop_assert_eq!(rig.account().await.account.delivered, count as u64);
    Ok(())
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn a_service_that_refuses_everything_ends_with_nothing_parked(
        batches: bool,
        lanes in 1_u8..=4,
        devices in 1_usize..=5,
        count in 10_usize..60,
    ) {
        let format = if batches { WireFormat::CloudeventsBatch } else { WireFormat::Raw };
        actix::System::new().block_on(async move {
            tokio::time::pause();
            refuse_everything(format, lanes, devices, count).await
        })?;
    }
}
