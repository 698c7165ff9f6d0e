//! Quarantine, refusals, retained messages, filters, what is counted.

use super::house::{House, Manner, lock, pass, route, snapshot, until};
use crate::{subscriber::IN_HAND_MAX, testing::fake_source::publication};
use tidegate_schemas::{
    agreement::IntakeTerms,
    messages::registry::Broken,
    submission::{BODY_BYTES_MAX, Origin, QuarantineReason},
};

#[actix::test]
async fn what_can_not_be_routed_is_quarantined_and_acknowledged() {
    let house = House::up();
    house.broker.publish("cardiology/bpm/too/deep", "1");
    house.broker.publish("elsewhere/bpm", "22");
    house.broker.publish("nowhere/bpm", "333");
    house.broker.publish("cardiology/bpm", vec![b'x'; BODY_BYTES_MAX + 1]);
    house.broker.publish(&format!("cardiology/{}", "é".repeat(600)), "1");
    house.broker.publish("cardiology/bpm", "70");
    until(async || house.broker.kept() == 0).await;
    let quarantined = lock(&house.journal).quarantined.clone();
    let reasons: Vec<_> = quarantined.iter().map(|(reason, _, bytes)| (*reason, *bytes)).collect();
    assert_eq!(
        reasons,
        [
            (QuarantineReason::NoRoute, 1),
            (QuarantineReason::NotAllowed, 2),
            (QuarantineReason::UnknownDestination, 3),
            (QuarantineReason::TooLarge, BODY_BYTES_MAX as u64 + 1),
            (QuarantineReason::TopicTooLong, 1),
        ]
    );
    assert!(quarantined[4].1.len() <= 256 && quarantined[4].1.len() > 250, "cut between characters");
    assert_eq!(lock(&house.journal).custody.len(), 1, "what follows flows");
    let seen = house.observe().await;
    assert_eq!((seen.received, seen.accepted, seen.quarantined), (6, 1, 5));
}

#[actix::test]
async fn readings_for_a_destination_that_can_not_be_used_any_more_are_taken_whole() {
    let house = House::up();
    let broken = Broken { reason: "its time zone is gone".into(), intake: IntakeTerms::default() };
    house.registry.lock().unwrap().broken.insert("nowhere".parse().unwrap(), broken);
    house.bell.ring();
    pass(10).await;
    house.broker.publish("nowhere/bpm", "333");
    until(async || house.broker.kept() == 0).await;
    let journal = lock(&house.journal);
    let taken: Vec<_> = journal.custody.iter().map(|(content, _)| content.clone()).collect();
    assert_eq!((taken, journal.quarantined.len()), (vec![bytes::Bytes::from("333")], 0));
}

#[actix::test]
async fn a_quarantine_that_fails_is_not_acknowledged() {
    let house = House::up();
    house.set_manner(Manner { fails: true, ..Manner::default() });
    house.broker.publish("elsewhere/bpm", "1");
    pass(60_000).await;
    assert_eq!(house.broker.kept(), 1);
    house.set_manner(Manner::default());
    until(async || house.broker.kept() == 0).await;
    assert_eq!(lock(&house.journal).quarantined.len(), 1);
}

#[actix::test]
async fn a_full_destination_is_acknowledged_once_the_refusal_is_recorded() {
    let house = House::up();
    house.set_manner(Manner { full: Some(false), ..Manner::default() });
    house.broker.publish("cardiology/bpm", "70");
    pass(10_000).await;
    assert_eq!(house.broker.kept(), 1, "not recorded, not acknowledged");
    house.set_manner(Manner { full: Some(true), ..Manner::default() });
    until(async || house.broker.kept() == 0).await;
    assert_eq!(house.observe().await.refused, 1);
}

#[actix::test]
async fn retained_messages_are_taken_only_where_a_route_asks() {
    let house = House::up();
    let mut retained = publication("cardiology/bpm", "70", Origin::MqttQos1);
    retained.retained = true;
    house.broker.publish_as(retained.clone());
    until(async || house.broker.kept() == 0).await;
    assert_eq!(lock(&house.journal).custody.len(), 0);
    assert_eq!(house.observe().await.retained_ignored, 1);

    let mut asking = route("{destination}/+");
    asking.retained = true;
    *house.registry.lock().unwrap() = snapshot(vec![asking]);
    house.bell.ring();
    pass(10).await;
    house.broker.publish_as(retained);
    until(async || house.broker.kept() == 0).await;
    assert_eq!(lock(&house.journal).custody.len(), 1);
    assert_eq!(house.broker.connections(), 1, "the filters are the same: no new connection");
}

#[actix::test]
async fn other_filters_make_a_new_connection_and_lose_nothing() {
    let house = House::up();
    house.set_manner(Manner { reply_ms: [300; 4], ..Manner::default() });
    house.broker.publish("cardiology/bpm", "70");
    pass(100).await;
    *house.registry.lock().unwrap() = snapshot(vec![route("{destination}/+"), route("ward/{destination}")]);
    house.bell.ring();
    until(async || house.broker.kept() == 0).await;
    assert_eq!(house.broker.filters(), [vec!["+/+".to_owned()], vec!["+/+".to_owned(), "ward/+".to_owned()]]);
    assert_eq!(lock(&house.journal).custody.len(), 1, "the redelivery is recognised");
}

#[actix::test]
async fn without_routes_nothing_is_connected_until_there_are_some() {
    let house = House::up();
    *house.registry.lock().unwrap() = snapshot(vec![]);
    house.bell.ring();
    pass(1_000).await;
    let seen = house.observe().await;
    assert!(!seen.connected && seen.last_error.is_some_and(|error| error.contains("no route")));
    assert!(!house.broker.is_connected());
    *house.registry.lock().unwrap() = snapshot(vec![route("{destination}/+")]);
    house.bell.ring();
    until(async || house.broker.is_connected()).await;
}

#[actix::test]
async fn at_qos_0_custody_begins_at_our_flush() {
    let house = House::up();
    pass(10).await;
    house.broker.publish_at_most_once("cardiology/bpm", "70");
    pass(10).await;
    assert_eq!(lock(&house.journal).custody, [("70".into(), None)]);
    let seen = house.observe().await;
    assert_eq!((seen.accepted, seen.acks_void), (1, 0));
    assert!(house.broker.acked().is_empty());
}

#[actix::test]
async fn a_lost_session_and_a_takeover_are_counted_and_named() {
    let house = House::up();
    pass(10).await;
    house.broker.lose_session();
    house.broker.disconnect("another client took over our client id", true);
    pass(2_000).await;
    let seen = house.observe().await;
    assert_eq!((seen.connections, seen.sessions_lost, seen.taken_over, seen.connected), (2, 1, 1, true));
    assert_eq!(seen.last_error.as_deref(), Some("another client took over our client id"));
    assert_eq!(seen.broker, "a broker in memory");
}

#[actix::test]
async fn what_is_in_hand_is_bounded() {
    let house = House::up();
    house.set_manner(Manner { reply_ms: [60_000; 4], ..Manner::default() });
    pass(10).await;
    for n in 0..(IN_HAND_MAX * 2) {
        house.broker.publish_at_most_once("cardiology/bpm", format!("{n}"));
    }
    pass(1_000).await;
    assert_eq!(house.observe().await.in_hand, IN_HAND_MAX as u64);
    assert_eq!(lock(&house.journal).custody.len(), IN_HAND_MAX);
    until(async || house.observe().await.accepted == 2 * IN_HAND_MAX as u64).await;
}

#[actix::test]
async fn when_the_source_ends_the_actor_ends() {
    struct Brief;
    impl crate::ports::source::Source for Brief {
        fn describe(&self) -> String {
            "a source that ends".to_owned()
        }
        fn run(
            &self,
            _: Vec<String>,
            _: tokio::sync::mpsc::Sender<crate::ports::source::SourceEvent>,
        ) -> futures_util::future::BoxFuture<'static, ()> {
            Box::pin(std::future::ready(()))
        }
        fn ack(&self, _: crate::ports::source::AckToken) -> bool {
            false
        }
        fn connection(&self) -> Option<u64> {
            None
        }
        fn announce(
            &self,
            _: crate::ports::source::Announcement,
        ) -> futures_util::future::BoxFuture<'static, Result<(), crate::ports::source::AnnounceError>> {
            Box::pin(std::future::ready(Err(crate::ports::source::AnnounceError::NotConnected)))
        }
    }
    use crate::{
        subscriber::{Floor, Subscriber},
        supervision::{Bell, DeathWatch, Exit, TaskEnd},
    };
    use actix::prelude::*;
    tokio::time::pause();
    let outbox = super::house::ToyOutbox(Default::default()).start();
    let registry = std::sync::Arc::new(std::sync::Mutex::new(snapshot(vec![route("{destination}/+")])));
    let floor = Floor {
        source: std::sync::Arc::new(Brief),
        registry: super::house::ToyRegistry(registry).start().recipient(),
        enqueue: outbox.clone().recipient(),
        quarantine: outbox.clone().recipient(),
        ignore: outbox.recipient(),
        tidings: Default::default(),
        clock: std::sync::Arc::new(crate::testing::sim_clock::SimClock::at("2026-11-23T12:00:00Z".parse().unwrap())),
        herald: Bell::default(),
        signals: None,
        bell: Bell::default(),
    };
    let (watch, death) = DeathWatch::pair("subscriber", 1, Bell::default());
    let _subscriber = Subscriber::new(floor, watch).start();
    assert_eq!(death.ended().await, Exit::TaskEnded { name: "intake", end: TaskEnd::Returned });
}
