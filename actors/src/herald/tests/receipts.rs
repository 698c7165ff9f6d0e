//! Receipts: to whom, in which order, at least once.

use super::floor::{House, json, pass};
use crate::testing::fake_source::AnnounceManner;
use tidegate_schemas::{
    entry::{EndedBy, EntryState},
    id::MessageId,
    messages::outbox::DeviceReceipt,
    submission::{Origin, ReplyTo},
    tidings::Tidings,
};

fn ended(no: u64, state: EntryState) -> DeviceReceipt {
    DeviceReceipt {
        no,
        id: MessageId::from_random([u8::try_from(no % 251).unwrap(); 16]),
        device: "pacemaker".parse().unwrap(),
        destination: "ward".parse().unwrap(),
        state,
        ended_by: (state == EntryState::Expired).then_some(EndedBy::MaxAge),
        reply_to: None,
        origin: Origin::MqttQos1,
    }
}

fn asking(topic: &str, receipt: DeviceReceipt) -> DeviceReceipt {
    let reply_to = Some(ReplyTo { topic: topic.to_owned(), correlation: Some("c".into()) });
    DeviceReceipt { reply_to, ..receipt }
}

/// Topic, correlation data and word.
fn told(house: &House) -> Vec<(String, bool, String)> {
    let all = house.broker.announced().into_iter().filter(|it| !it.retained);
    all.map(|it| (it.topic.clone(), it.correlation.is_some(), json(&it)["state"].as_str().unwrap().to_owned()))
        .collect()
}

#[actix::test]
async fn each_end_is_told_where_its_device_listens_in_the_order_of_the_ledger() {
    let house = House::up(vec![]).await;
    house.below().pending = vec![
        ended(1, EntryState::Delivered),
        asking("tidegate/receipts/pacemaker/7", ended(2, EntryState::Expired)),
        DeviceReceipt { origin: Origin::Http, ..ended(3, EntryState::Delivered) },
        asking("tidegate/state", ended(4, EntryState::Delivered)),
        ended(5, EntryState::Dead),
        ended(6, EntryState::Queued),
        ended(9, EntryState::Purged),
    ];
    house.bell.ring();
    pass(1_000).await;
    let own = "tidegate/receipts/pacemaker";
    let line = |topic: &str, correlation, word: &str| (topic.to_owned(), correlation, word.to_owned());
    assert_eq!(
        told(&house),
        [
            line(own, false, "delivered"),
            line("tidegate/receipts/pacemaker/7", true, "expired"),
            line(own, false, "refused"),
            line(own, false, "purged"),
        ]
    );
    assert_eq!(house.below().receipted.last(), Some(&9), "nobody waits for those who don't listen");
    assert_eq!(house.observe().await.receipts_published, 4);
}

#[actix::test]
async fn a_receipt_is_pending_until_the_broker_has_it_and_a_restart_forgets_none() {
    let mut house = House::up(vec![]).await;
    house.below().pending = (1..=200).map(|no| ended(no, EntryState::Delivered)).collect();
    house.broker.set_announce_manner(AnnounceManner::Silent);
    house.bell.ring();
    pass(60_000).await;
    assert!(house.below().receipted.is_empty());
    house.broker.set_announce_manner(AnnounceManner::Answers);
    house.broker.disconnect("gone", false);
    house.restart().await;
    pass(60_000).await;
    assert_eq!(house.below().receipted.last(), Some(&200));
    assert_eq!(told(&house).len(), 200);
}

#[actix::test]
async fn a_receipt_that_the_broker_refuses_holds_up_nobody() {
    let house = House::up(vec![]).await;
    house.broker.set_announce_manner(AnnounceManner::Refuses);
    house.below().pending = vec![ended(1, EntryState::Delivered)];
    house.bell.ring();
    pass(1_000).await;
    house.broker.set_announce_manner(AnnounceManner::Answers);
    house.below().pending.push(ended(2, EntryState::Delivered));
    house.bell.ring();
    pass(1_000).await;
    assert_eq!(house.below().receipted, [1_u64, 2]);
    assert_eq!((told(&house).len(), house.observe().await.refused), (1, 1));
}

#[actix::test]
async fn a_broker_that_answers_nothing_keeps_the_herald_answering() {
    let house = House::up(vec![]).await;
    house.broker.set_announce_manner(AnnounceManner::Silent);
    house.below().pending = (1..=500).map(|no| ended(no, EntryState::Delivered)).collect();
    house.bell.ring();
    for _ in 0..20 {
        pass(7_000).await;
        house.observe().await;
    }
}

#[actix::test]
async fn without_receipts_a_device_that_did_not_ask_hears_nothing() {
    let house = House::with(vec![], Tidings::default()).await;
    let asked = asking("tidegate/receipts/pacemaker", ended(2, EntryState::Delivered));
    house.below().pending = vec![ended(1, EntryState::Delivered), asked];
    house.bell.ring();
    pass(1_000).await;
    assert_eq!((told(&house).len(), house.below().receipted.last().copied()), (1, Some(2)));
}
