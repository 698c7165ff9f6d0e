//! Receipts of devices: in order, once, and none lost in silence.

use super::{redelivery::killed, *};
use tidegate_schemas::{
    record::{self, LedgerRecord, Meta},
    submission::ReplyTo,
};

const RECEIPTING: fn() -> Limits = || Limits { receipting: true, ..Limits::default() };

async fn pending(outbox: &Addr<Outbox>, count_max: usize) -> Vec<(u64, EntryState)> {
    let receipts = outbox.send(PendingReceipts { count_max }).await.unwrap().unwrap();
    receipts.iter().map(|receipt| (receipt.no, receipt.state)).collect()
}

async fn hand_in(outbox: &Addr<Outbox>, origin: Origin, reply_to: Option<ReplyTo>, event: Event) {
    let submission = Submission { origin, reply_to, ..submission("p", "x") };
    let seq = enqueue(outbox, submission).await.unwrap().entry.seq;
    settle(outbox, seq, event).await;
}

#[actix::test]
async fn devices_hear_of_every_end_once_and_over_a_restart() {
    let rig = Rig::new();
    let outbox = rig.start_with(RECEIPTING());
    let reply_to = Some(ReplyTo { topic: "p/answers".into(), correlation: Some("7".into()) });
    hand_in(&outbox, Origin::MqttQos1, None, Event::Deliver).await;
    hand_in(&outbox, Origin::Http, None, Event::Deliver).await;
    hand_in(&outbox, Origin::Http, reply_to.clone(), Event::Refuse).await;
    hand_in(&outbox, Origin::MqttQos0, reply_to.clone(), Event::Deliver).await;
    let all = [(1, EntryState::Delivered), (3, EntryState::Dead), (4, EntryState::Delivered)];
    assert_eq!(pending(&outbox, 100).await, all);
    assert_eq!(pending(&outbox, 2).await, all[..2], "asked again they come again");
    outbox.send(Receipted { last: 3 }).await.unwrap().unwrap();
    outbox.send(Shutdown).await.unwrap();
    let outbox = rig.start_with(RECEIPTING());
    ready(&outbox).await;
    let left = outbox.send(PendingReceipts { count_max: 100 }).await.unwrap().unwrap();
    assert_eq!((left.len(), left[0].no, &left[0].reply_to), (1, 4, &reply_to));
}

#[actix::test]
async fn what_has_nobody_to_tell_is_passed_over_without_a_write_of_its_own() {
    let rig = Rig::new();
    let outbox = rig.start_with(RECEIPTING());
    for _ in 0..600 {
        hand_in(&outbox, Origin::Http, None, Event::Deliver).await;
    }
    let commits = rig.store.commits();
    assert_eq!(pending(&outbox, 10).await, []);
    ready(&outbox).await;
    assert_eq!(rig.store.commits(), commits);
    let gets = outbox.send(PendingReceipts { count_max: 1 }).await.unwrap().unwrap();
    assert!(gets.is_empty());
    hand_in(&outbox, Origin::MqttQos1, None, Event::Deliver).await;
    assert_eq!(pending(&outbox, 10).await, [(601, EntryState::Delivered)]);
}

#[actix::test]
async fn receipts_begin_when_they_are_switched_on() {
    let rig = Rig::new();
    let outbox = rig.start();
    hand_in(&outbox, Origin::MqttQos1, None, Event::Deliver).await;
    assert_eq!(pending(&outbox, 10).await, [], "nobody gives any");
    outbox.send(Shutdown).await.unwrap();
    let outbox = rig.start_with(RECEIPTING());
    ready(&outbox).await;
    hand_in(&outbox, Origin::MqttQos1, None, Event::Deliver).await;
    assert_eq!(pending(&outbox, 10).await, [(2, EntryState::Delivered)]);
}

#[actix::test]
async fn a_broker_that_stays_away_loses_receipts_by_number_and_not_the_disk() {
    let rig = Rig::new();
    let limits = Limits { ledger_entries_max: 10, reporting: false, ..RECEIPTING() };
    let outbox = rig.start_with(limits);
    for n in 0..80 {
        let origin = if n % 2 == 0 { Origin::Http } else { Origin::MqttQos1 };
        hand_in(&outbox, origin, None, Event::Deliver).await;
    }
    let count = || rig.store.contents().keys().filter(|key| key[0] == b'l').count();
    assert_eq!((count(), observe(&outbox).await.receipts_lost), (50, 15), "of 30 that went, 15 had a device to tell");
    assert_eq!(pending(&outbox, 1).await, [(32, EntryState::Delivered)]);
    outbox.send(Receipted { last: 80 }).await.unwrap().unwrap();
    assert_eq!(count(), 10);
}

#[actix::test]
async fn a_ledger_far_above_its_limit_shrinks_bit_by_bit_and_stops_no_delivery() {
    let rig = Rig::new();
    let outbox = rig.start_with(Limits { reporting: false, ..Limits::default() });
    hand_in(&outbox, Origin::Http, None, Event::Deliver).await;
    // Thirty thousand more, as a long outage of a broker leaves them: too many to be removed in one batch.
    let mut contents = rig.store.contents();
    let first = record::key::ledger(1);
    let mut ledger: LedgerRecord = record::decode(&first, &contents[&first]).unwrap();
    ledger.reply_to = None;
    for no in 2..=30_000 {
        let at = record::key::ledger(no);
        contents.insert(at.clone(), record::encode(&at, &ledger));
    }
    let mut meta: Meta = record::decode(&record::key::META, &contents[&record::key::META[..]]).unwrap();
    meta.ledger_no = 30_000;
    contents.insert(record::key::META.to_vec(), record::encode(&record::key::META, &meta));
    let (rig, outbox) = killed(rig, outbox, contents).await;
    outbox.send(Shutdown).await.unwrap();
    let limits = Limits { reporting: false, ledger_entries_max: 10, ..Limits::default() };
    let outbox = rig.start_with(limits);
    ready(&outbox).await;
    hand_in(&outbox, Origin::Http, None, Event::Deliver).await;
    let count = || rig.store.contents().keys().filter(|key| key[0] == b'l').count();
    assert_eq!(count(), 29_997);
    for _ in 0..2 {
        outbox.send(Sweep { terms: vec![] }).await.unwrap().unwrap();
    }
    assert_eq!(count(), 10);
}

#[actix::test]
async fn an_outage_of_the_homeserver_within_a_reserved_range_does_not_grow_the_ledger_for_ever() {
    let rig = Rig::new();
    let outbox = rig.start_with(Limits { ledger_entries_max: 10, ..Limits::default() });
    hand_in(&outbox, Origin::Http, None, Event::Deliver).await;
    let reserved = outbox.send(PendingReports { count_max: 5 }).await.unwrap().unwrap().unwrap();
    for _ in 0..80 {
        hand_in(&outbox, Origin::Http, None, Event::Deliver).await;
    }
    assert_eq!(rig.store.contents().keys().filter(|key| key[0] == b'l').count(), 50);
    assert_eq!(observe(&outbox).await.reports_lost, 31);
    let next = outbox.send(PendingReports { count_max: 5 }).await.unwrap().unwrap().unwrap();
    assert!(next.first == 32 && next.transaction_id != reserved.transaction_id);
}
