//! What a device is told of its message at once, and what never is a reading.

use super::house::{House, Manner, lock, pass, until};
use crate::testing::fake_source::{AnnounceManner, FakeSource, publication};
use tidegate_schemas::submission::{Origin, Publication, ReplyTo};

const OWN: &str = "tidegate/receipts/pacemaker";

fn asking(body: &str, topic: &str) -> Publication {
    let reply_to = Some(ReplyTo { topic: topic.to_owned(), correlation: Some("7".into()) });
    Publication { reply_to, ..publication("cardiology/bpm", body.to_owned(), Origin::MqttQos1) }
}

/// Topic, correlation data and body of all that was announced.
fn told(broker: &FakeSource) -> Vec<(String, Option<String>, String)> {
    let text = |bytes: &bytes::Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let announced = broker.announced().into_iter();
    announced
        .map(|it| {
            assert!(!it.retained);
            (it.topic, it.correlation.as_ref().map(text), text(&it.payload))
        })
        .collect()
}

#[actix::test]
async fn a_device_is_told_that_its_message_is_on_disk_where_it_asks_or_on_its_own_topic() {
    let house = House::up();
    house.broker.publish_as(asking("120 mmHg", &format!("{OWN}/x")));
    house.broker.publish("cardiology/bpm", "121 mmHg");
    until(async || house.broker.kept() == 0).await;
    let body = format!(
        r#"{{"id":"{}","state":"accepted","time":1795435200}}"#,
        tidegate_schemas::id::MessageId::from_random([7; 16])
    );
    assert_eq!(
        told(&house.broker),
        [(format!("{OWN}/x"), Some("7".to_owned()), body.clone()), (OWN.to_owned(), None, body)]
    );
    assert!(told(&house.broker).iter().all(|(_, _, body)| !body.contains("mmHg")), "PR-2");
}

#[actix::test]
async fn the_receipt_goes_to_the_broker_before_the_acknowledgement() {
    let house = House::up();
    let broker = house.broker.clone();
    // Called at the acknowledgement, while the broker in memory is locked: so it is looked at from a task.
    let (acknowledged, mut first) = tokio::sync::mpsc::channel(1);
    house.broker.on_ack(Box::new(move |_| {
        let _ = acknowledged.try_send(());
    }));
    house.broker.set_announce_manner(AnnounceManner::Silent);
    house.broker.publish_as(asking("1", OWN));
    first.recv().await.unwrap();
    assert_eq!(broker.kept(), 0, "a broker that never answers a receipt holds up no acknowledgement");
    assert_eq!(broker.handed_over(), 1);
}

#[actix::test]
async fn a_full_destination_is_told_as_refused() {
    let house = House::up();
    house.set_manner(Manner { full: Some(true), ..Manner::default() });
    house.broker.publish_as(asking("1", OWN));
    until(async || !told(&house.broker).is_empty()).await;
    assert_eq!(told(&house.broker)[0].2, r#"{"state":"refused","reason":"destination_full","time":1795435200}"#);
}

#[actix::test]
async fn a_hostile_response_topic_is_not_answered_and_its_message_is_taken_without_it() {
    let house = House::up();
    let hostile = [
        "tidegate/destinations/cardiology/signal",
        "tidegate/state",
        "tidegate/receipts/another-device",
        "cardiology/bpm",
        "elsewhere",
        "tidegate/receipts/#",
        "$SYS/x",
    ];
    for topic in hostile {
        house.broker.publish_as(asking("1", topic));
    }
    until(async || house.broker.kept() == 0).await;
    let seen = house.observe().await;
    assert_eq!((seen.accepted, seen.replies_refused), (hostile.len() as u64, hostile.len() as u64));
    assert!(told(&house.broker).iter().all(|(topic, correlation, _)| topic == OWN && correlation.is_none()));
}

#[actix::test]
async fn what_lies_below_our_own_prefix_is_never_a_reading() {
    let house = House::up();
    *house.registry.lock().unwrap() = super::house::snapshot(vec![super::house::route("{destination}/#")]);
    house.bell.ring();
    pass(2_000).await;
    for topic in ["tidegate/state", "tidegate/destinations/cardiology/state", "tidegate/x", "tidegate"] {
        house.broker.publish(topic, "{}");
    }
    house.broker.publish("cardiology/bpm", "70");
    until(async || house.broker.kept() == 0).await;
    assert_eq!(lock(&house.journal).custody.len(), 1);
    assert!(lock(&house.journal).quarantined.is_empty());
    assert_eq!(house.observe().await.own_ignored, 4);
}

#[actix::test]
async fn receipts_that_the_broker_does_not_answer_are_limited_and_what_is_lost_is_counted() {
    let house = House::up();
    house.broker.set_announce_manner(AnnounceManner::Silent);
    let count = crate::subscriber::RECEIPTS_MAX as u64 + 10;
    for _ in 0..count {
        house.broker.publish("cardiology/bpm", "1");
    }
    until(async || house.broker.kept() == 0).await;
    let seen = house.observe().await;
    assert_eq!((seen.accepted, seen.receipts_lost), (count, 10));
}
