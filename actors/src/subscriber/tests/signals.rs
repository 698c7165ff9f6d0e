//! Signals over MQTT: what is heard, what is quarantined, when the acknowledgement leaves.

use super::house::{House, Manner, lock, pass, until};
use crate::testing::fake_source::publication;
use tidegate_schemas::{
    messages::outbox::{Signal, SignalSource, SignalWord},
    submission::{Origin, QuarantineReason},
};

const TOPIC: &str = "tidegate/destinations/cardiology/signal";

fn accept(house: &House) {
    let mut snapshot = house.registry.lock().unwrap();
    let id = "cardiology".parse().unwrap();
    let mut registered = (*snapshot.destinations[&id]).clone();
    registered.destination.agreement.signal.accept = true;
    snapshot.destinations.insert(id, registered.into());
    house.bell.ring();
}

fn said(house: &House) -> Vec<Signal> {
    lock(&house.journal).signals.iter().map(|(signal, _)| signal.clone()).collect()
}

#[actix::test]
async fn a_signal_is_handed_over_and_acknowledged_when_it_is_on_disk() {
    let house = House::up_with_signals();
    accept(&house);
    pass(10).await;
    house.set_manner(Manner { fails: true, ..Manner::default() });
    house.broker.publish(TOPIC, r#"{"ready_for":"10m"}"#);
    pass(60_000).await;
    assert_eq!(house.broker.kept(), 1, "nothing is on disk");
    house.set_manner(Manner::default());
    until(async || house.broker.kept() == 0).await;
    let [Signal { destination, word, from, sequence, .. }] = &said(&house)[..] else { panic!("{:?}", said(&house)) };
    assert_eq!(
        (destination.as_str(), word, from, sequence),
        ("cardiology", &SignalWord::Ready(600), &SignalSource::Mqtt, &None)
    );
    let seen = house.observe().await;
    assert_eq!((seen.signals, seen.accepted, seen.quarantined), (1, 0, 0), "it is no message");
    assert!(house.broker.filters()[0].contains(&"tidegate/destinations/+/signal".to_owned()));
}

#[actix::test]
async fn what_is_no_signal_or_not_agreed_is_quarantined_with_its_reason() {
    let house = House::up_with_signals();
    house.broker.publish(TOPIC, "ready!");
    house.broker.publish(TOPIC, r#"{"ready_for":"10m"}"#);
    house.broker.publish("tidegate/destinations/nowhere/signal", r#"{"clear":true}"#);
    house.broker.publish("tidegate/destinations/No One/signal", r#"{"clear":true}"#);
    house.broker.publish("cardiology/bpm", "70");
    until(async || house.broker.kept() == 0).await;
    let reasons: Vec<_> = lock(&house.journal).quarantined.iter().map(|(reason, ..)| *reason).collect();
    let wanted = [
        QuarantineReason::BadSignal,
        QuarantineReason::UnknownDestination,
        QuarantineReason::BadDestination,
        QuarantineReason::SignalNotHonoured,
    ];
    // The refusal of a signal is asked for after its answer came.
    let sorted = |mut reasons: Vec<QuarantineReason>| {
        reasons.sort();
        reasons
    };
    assert_eq!(sorted(reasons), sorted(wanted.to_vec()));
    assert_eq!(lock(&house.journal).custody.len(), 1, "what follows flows");
    assert_eq!(house.observe().await.signals, 0);
}

#[actix::test]
async fn a_retained_signal_is_ignored_and_one_that_waited_says_less() {
    let house = House::up_with_signals();
    accept(&house);
    pass(10).await;
    let mut retained = publication(TOPIC, r#"{"ready_for":"10m"}"#, Origin::MqttQos1);
    retained.retained = true;
    house.broker.publish_as(retained);
    until(async || house.broker.kept() == 0).await;
    assert_eq!((said(&house).len(), house.observe().await.retained_ignored), (0, 1));
    let mut waited = publication(TOPIC, r#"{"ready_for":"10m"}"#, Origin::MqttQos1);
    waited.expiry_s = Some(60);
    house.broker.publish_as(waited);
    until(async || house.broker.kept() == 0).await;
    assert_eq!(said(&house)[0].word, SignalWord::Ready(60));
    house.broker.publish(TOPIC, r#"{"ready_until":"2026-11-23T13:00:00Z"}"#);
    until(async || house.broker.kept() == 0).await;
    let SignalWord::Ready(left_s) = said(&house)[1].word else { panic!() };
    assert!((3_500..=3_600).contains(&left_s), "{left_s}");
}

#[actix::test]
async fn without_the_door_such_a_topic_is_like_any_other() {
    let house = House::up();
    house.broker.publish("cardiology/signal", r#"{"ready_for":"10m"}"#);
    until(async || house.broker.kept() == 0).await;
    assert_eq!((said(&house).len(), lock(&house.journal).custody.len()), (0, 1));
}
