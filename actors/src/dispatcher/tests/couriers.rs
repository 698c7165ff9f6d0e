//! What couriers do with what they have picked: what is withdrawn, and what a closing leaves unsent.

use super::*;
use tidegate_schemas::{entry::Event, id::EntryRef, messages::outbox::Operate};

async fn operate(rig: &Rig, seq: u64, event: Event) {
    let entry = EntryRef { destination: ward(), seq };
    rig.outbox.send(Operate { entry, event }).await.unwrap().unwrap();
}

#[actix::test]
async fn what_is_held_or_purged_while_it_waits_for_its_turn_is_not_sent() {
    tokio::time::pause();
    let rig = Rig::new(vec![destination("ward", agreement())]);
    rig.transport.set_latency(Duration::from_secs(10));
    for n in 1..=5 {
        rig.hand_in("ward", "p", n.to_string()).await;
    }
    // The first one is under way, all five are picked.
    pass(15).await;
    operate(&rig, 1, Event::Hold).await;
    operate(&rig, 2, Event::Hold).await;
    operate(&rig, 3, Event::Purge).await;
    pass(200).await;
    assert_eq!(rig.taken("ward"), ["1", "4", "5"]);
    let seen = rig.account().await;
    assert_eq!((seen.account.delivered, seen.account.held, seen.account.purged, seen.gap), (3, 1, 1, 0));
    operate(&rig, 2, Event::Release).await;
    pass(60).await;
    assert_eq!(rig.taken("ward"), ["1", "4", "5", "2"]);
}

#[actix::test]
async fn what_is_held_while_its_lane_opens_is_not_sent() {
    tokio::time::pause();
    let rig = Rig::new(vec![destination("ward", agreement())]);
    rig.transport.set_latency(Duration::from_secs(30));
    rig.hand_in("ward", "p", "1".into()).await;
    pass(10).await;
    assert_eq!(rig.transport.opened().len(), 1);
    operate(&rig, 1, Event::Hold).await;
    pass(300).await;
    assert!(rig.transport.attempts().is_empty());
}

#[actix::test]
async fn windows_that_are_closed_at_run_time_end_the_sending_one_by_one_too() {
    tokio::time::pause();
    let batches = ServiceAgreement { format: WireFormat::CloudeventsBatch, ..agreement() };
    let rig = Rig::new(vec![destination("ward", batches.clone())]);
    rig.transport.set_latency(Duration::from_secs(10));
    rig.transport.answer(&ward(), Arc::new(|_| Some(Ok(413))));
    for n in 0..20 {
        rig.hand_in("ward", "p", n.to_string()).await;
    }
    // Opened after 10 s, the batch refused after 20 s; one by one since.
    pass(35).await;
    let closed = ServiceAgreement { windows: nightly("03:00", "05:00"), ..batches };
    rig.registry.send(Become(snapshot(vec![destination("ward", closed)]))).await.unwrap();
    rig.parts.bell.ring();
    pass(1).await;
    let closed_at = rig.clock.now();
    pass(600).await;
    let attempts = rig.transport.attempts();
    assert!(attempts.len() > 1, "they were sent one by one: {}", attempts.len());
    assert!(attempts.iter().all(|attempt| attempt.at <= closed_at), "DW-1");
}
