//! CU-1 and the order of acknowledgements.

use super::house::{House, Manner, lock, pass, until};
use crate::testing::fake_source::WINDOW;

#[actix::test]
async fn acks_keep_the_order_of_receipt_when_replies_do_not() {
    let house = House::up();
    house.set_manner(Manner { reply_ms: [400, 30, 200, 0], ..Manner::default() });
    for n in 0..40 {
        house.broker.publish("cardiology/bpm", format!("{n}"));
    }
    until(async || house.broker.kept() == 0).await;
    assert_eq!(house.broker.acks_out_of_order(), 0);
    let custody: Vec<_> = lock(&house.journal).custody.iter().map(|(content, _)| content.clone()).collect();
    let sent: Vec<_> = (0..40).map(|n| bytes::Bytes::from(format!("{n}"))).collect();
    assert_eq!(custody, sent, "OR-1: custody is taken in order of receipt");
    let seen = house.observe().await;
    assert_eq!((seen.received, seen.accepted, seen.in_hand, seen.acks_void), (40, 40, 0, 0));
}

#[actix::test]
async fn nothing_is_acknowledged_before_its_reply() {
    let house = House::up();
    house.set_manner(Manner { reply_ms: [5_000; 4], ..Manner::default() });
    house.broker.publish("cardiology/bpm", "70");
    pass(4_900).await;
    assert_eq!(house.broker.acked().len(), 0);
    assert_eq!(house.observe().await.in_hand, 1);
    pass(200).await;
    assert_eq!(house.broker.acked().len(), 1);
}

#[actix::test]
async fn a_hundred_equal_readings_are_a_hundred_entries() {
    let house = House::up();
    for _ in 0..100 {
        house.broker.publish("cardiology/bpm", "70");
    }
    until(async || house.broker.kept() == 0).await;
    assert_eq!(lock(&house.journal).custody.len(), 100);
}

#[actix::test]
async fn a_failed_store_acknowledges_nothing_and_loses_nothing() {
    let house = House::up();
    house.set_manner(Manner { fails: true, reply_ms: [20, 0, 10, 5], ..Manner::default() });
    for n in 0..50 {
        house.broker.publish("cardiology/bpm", format!("{n}"));
    }
    pass(600_000).await;
    assert_eq!(house.broker.acked().len(), 0);
    assert_eq!(house.broker.kept(), 50);
    // 0.5, 1, 2, 4, 8, 16, then every 30 s: it neither spins nor gives up.
    assert!((20..=30).contains(&house.broker.connections()), "{} connections", house.broker.connections());
    assert!(house.observe().await.last_error.is_some_and(|error| error.contains("disk of the outbox is full")));
    house.set_manner(Manner::default());
    until(async || house.broker.kept() == 0).await;
    assert_eq!(house.broker.acks_out_of_order(), 0);
    let custody: Vec<_> = lock(&house.journal).custody.iter().map(|(content, _)| content.clone()).collect();
    assert_eq!(custody, (0..50).map(|n| bytes::Bytes::from(format!("{n}"))).collect::<Vec<_>>());
}

#[actix::test]
async fn an_ack_for_a_connection_that_is_gone_is_void_and_the_redelivery_is_recognised() {
    let house = House::up();
    house.set_manner(Manner { reply_ms: [3_000; 4], ..Manner::default() });
    house.broker.publish("cardiology/bpm", "70");
    pass(1_000).await;
    house.broker.disconnect("the broker restarts", false);
    pass(2_500).await;
    let seen = house.observe().await;
    assert_eq!((seen.acks_void, seen.accepted, seen.received), (1, 1, 2));
    assert_eq!(house.broker.kept(), 1, "the broker still has it, for the ack was void");
    until(async || house.broker.kept() == 0).await;
    let seen = house.observe().await;
    assert_eq!((seen.accepted, seen.duplicates, seen.connections), (1, 1, 2));
    assert_eq!(lock(&house.journal).custody.len(), 1);
}

#[actix::test]
async fn a_drain_finishes_what_is_in_hand_and_leaves_the_rest_with_the_broker() {
    let house = House::up();
    house.set_manner(Manner { reply_ms: [1_000; 4], ..Manner::default() });
    for n in 0..(WINDOW * 3) {
        house.broker.publish("cardiology/bpm", format!("{n}"));
    }
    pass(500).await;
    assert_eq!(house.observe().await.in_hand, WINDOW as u64);
    house.shut_down().await;
    assert_eq!(house.broker.acked().len(), WINDOW);
    assert_eq!(house.broker.kept(), WINDOW * 2);
    pass(100).await;
    assert!(!house.subscriber.connected() && !house.broker.is_connected());

    let next = House::on(house.broker.clone(), house.journal.clone());
    until(async || next.broker.kept() == 0).await;
    assert_eq!(lock(&next.journal).custody.len(), WINDOW * 3, "nothing lost, nothing twice");
}

#[actix::test]
async fn a_drain_while_the_store_is_failing_ends_at_once() {
    let house = House::up();
    house.set_manner(Manner { fails: true, ..Manner::default() });
    house.broker.publish("cardiology/bpm", "70");
    pass(10_000).await;
    let before = tokio::time::Instant::now();
    house.shut_down().await;
    assert!(before.elapsed().as_millis() < 200);
    assert_eq!(house.broker.kept(), 1);
}

#[actix::test]
async fn a_drain_does_not_wait_for_ever_for_a_stuck_outbox() {
    let house = House::up();
    house.set_manner(Manner { reply_ms: [86_400_000; 4], ..Manner::default() });
    house.broker.publish("cardiology/bpm", "70");
    pass(100).await;
    let before = tokio::time::Instant::now();
    house.shut_down().await;
    assert!(before.elapsed() < crate::subscriber::DRAIN_MAX * 2);
    assert_eq!(house.broker.kept(), 1);
}
