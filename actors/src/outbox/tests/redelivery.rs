//! A redelivery is known for what it is, and nothing else is taken for one.

use super::*;
use tidegate_schemas::record::{KeySlot, PacketSlot, key};

fn mark(packet_id: u16, dup: bool) -> Option<Redelivery> {
    Some(Redelivery::Mqtt { session: 1, packet_id, dup })
}

/// Hands in "70" under a packet id; whether it was taken for a redelivery.
async fn is_duplicate(outbox: &Addr<Outbox>, packet_id: u16, dup: bool) -> bool {
    let submission = Submission { redelivery: mark(packet_id, dup), ..submission("patient", "70") };
    enqueue(outbox, submission).await.unwrap().duplicate
}

async fn quarantine(outbox: &Addr<Outbox>, topic: &str, redelivery: Option<Redelivery>) {
    let reason = QuarantineReason::NoRoute;
    let message = Quarantine { reason, topic: topic.into(), body_bytes: 2, origin: Origin::MqttQos1, redelivery };
    outbox.send(message).await.unwrap().unwrap();
}

/// kill -9 and a start.
pub(super) async fn killed(
    rig: Rig,
    outbox: Addr<Outbox>,
    contents: std::collections::BTreeMap<Vec<u8>, Vec<u8>>,
) -> (Rig, Addr<Outbox>) {
    outbox.send(Shutdown).await.unwrap();
    let rig = Rig { store: Arc::new(MemoryStore::with_contents(1, contents)), lease: Lease::default(), ..rig };
    let outbox = rig.start();
    ready(&outbox).await;
    (rig, outbox)
}

#[actix::test]
async fn a_packet_id_that_stood_for_something_else_since_swallows_nothing() {
    let rig = Rig::new();
    let outbox = rig.start();
    assert!(!is_duplicate(&outbox, 5, false).await);
    quarantine(&outbox, "stray", mark(5, false)).await;
    assert!(!is_duplicate(&outbox, 5, true).await, "a quarantined publication took the id over");
    outbox.send(Ignore { redelivery: mark(5, false).unwrap() }).await.unwrap().unwrap();
    assert!(!is_duplicate(&outbox, 5, true).await, "an ignored publication took the id over");
    assert!(is_duplicate(&outbox, 5, true).await);
    assert_eq!(observe(&outbox).await.account.queued, 3);
}

/// A broker may have sent far more than its limit of messages in flight: mosquitto did with 10,184.
#[actix::test]
async fn a_slot_is_stale_after_three_quarters_of_all_packet_ids() {
    let rig = Rig::new();
    let outbox = rig.start();
    let strays = async |outbox: &Addr<Outbox>, ids: std::ops::RangeInclusive<u16>, dup| {
        let ids: Vec<u16> = ids.collect();
        for some in ids.chunks(999) {
            let strays = some.iter().map(async |id| quarantine(outbox, &format!("stray/{id}"), mark(*id, dup)).await);
            futures_util::future::join_all(strays).await;
        }
    };
    for packet_id in 1..=2 {
        is_duplicate(&outbox, packet_id, false).await;
    }
    strays(&outbox, 1_001..=49_000, false).await;
    assert!(is_duplicate(&outbox, 2, true).await, "still known");
    // What came by HTTP, or comes again, known or not, is no first sending.
    for _ in 0..3 {
        quarantine(&outbox, "stray", None).await;
    }
    strays(&outbox, 1_001..=2_000, true).await;
    let contents = rig.store.contents();
    let (_rig, outbox) = killed(rig, outbox, contents).await;
    assert!(!is_duplicate(&outbox, 1, true).await, "48,001 came after it");
    assert!(is_duplicate(&outbox, 2, true).await, "and that one came again");
    strays(&outbox, 49_001..=49_001, false).await;
    assert!(!is_duplicate(&outbox, 2, true).await);
}

#[actix::test]
async fn a_redelivered_stray_is_quarantined_once() {
    let rig = Rig::new();
    let outbox = rig.start();
    quarantine(&outbox, "stray", mark(5, false)).await;
    let contents = rig.store.contents();
    let (_rig, outbox) = killed(rig, outbox, contents).await;
    quarantine(&outbox, "stray", mark(5, true)).await;
    assert_eq!(observe(&outbox).await.account.quarantined, 1);
    quarantine(&outbox, "another", mark(5, true)).await;
    quarantine(&outbox, "another", mark(5, false)).await;
    let seen = observe(&outbox).await;
    assert_eq!((seen.account.quarantined, seen.account.accepted, seen.gap), (3, 3, 0));
}

#[actix::test]
async fn a_redelivered_refusal_is_counted_once_and_taken_when_there_is_room() {
    let rig = Rig::new();
    let outbox = rig.start();
    let limits = limits_of(1, 1_000);
    let send = |packet_id, dup| {
        let submission = Submission { redelivery: mark(packet_id, dup), ..submission("p", "x") };
        outbox.send(Enqueue { submission, limits, break_glass_per_hour: None, stream: None })
    };
    send(1, false).await.unwrap().unwrap();
    for dup in [false, true, true] {
        assert_eq!(
            send(2, dup).await.unwrap(),
            Err(EnqueueError::Refused { limit: IntakeLimit::Destination, recorded: true })
        );
    }
    let seen = observe(&outbox).await;
    assert_eq!((seen.account.refused, seen.account.accepted, seen.gap), (1, 2, 0));
    settle(&outbox, 1, Event::Deliver).await;
    assert!(!send(2, true).await.unwrap().unwrap().duplicate);
    let seen = observe(&outbox).await;
    assert_eq!((seen.account.refused, seen.account.accepted, seen.gap), (0, 2, 0), "one publication has one end");
}

#[actix::test]
async fn a_slot_that_cannot_be_read_stops_nothing_and_is_counted() {
    let rig = Rig::new();
    let outbox = rig.start();
    let keyed = || Submission {
        origin: Origin::Http,
        redelivery: Some(Redelivery::Key("k1".into())),
        ..submission("patient", "70")
    };
    is_duplicate(&outbox, 5, false).await;
    enqueue(&outbox, keyed()).await.unwrap();
    let mut contents = rig.store.contents();
    for (_, value) in contents.iter_mut().filter(|(at, _)| matches!(at[0], b'p' | b'u')) {
        value[4] ^= 1;
    }
    let (rig, outbox) = killed(rig, outbox, contents).await;
    assert!(!is_duplicate(&outbox, 5, true).await);
    assert!(!enqueue(&outbox, keyed()).await.unwrap().duplicate);
    assert_eq!(observe(&outbox).await.slots_unreadable, 2);
    assert!(is_duplicate(&outbox, 5, true).await && enqueue(&outbox, keyed()).await.unwrap().duplicate, "written anew");
    let contents = rig.store.contents();
    let slots = contents.iter().filter(|(at, _)| at[0] == b'u');
    assert!(slots.into_iter().all(|(at, value)| tidegate_schemas::record::decode::<KeySlot>(at, value).is_ok()));
    let at = key::packet(5);
    assert!(tidegate_schemas::record::decode::<PacketSlot>(&at, &contents[&at]).is_ok());
}
