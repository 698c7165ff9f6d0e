//! What becomes of deliveries under way when the gateway ends, and when the floor falls.

use super::*;
use tokio::time::Instant;

/// A reading is on its way to a service that takes so many seconds for it.
async fn under_way(exchange_s: u64) -> Rig {
    tokio::time::pause();
    let rig = Rig::new(vec![destination("ward", agreement())]);
    rig.hand_in("ward", "p", "first".into()).await;
    pass(5).await;
    assert_eq!(rig.taken("ward"), ["first"]);
    rig.transport.set_latency(Duration::from_secs(exchange_s));
    rig.hand_in("ward", "p", "70".into()).await;
    pass(1).await;
    rig
}

#[actix::test]
async fn in_a_drain_what_is_under_way_is_delivered_and_settled() {
    let rig = under_way(3).await;
    rig.dispatcher.send(Shutdown).await.unwrap();
    assert_eq!(rig.taken("ward"), ["first", "70"]);
    let account = rig.account().await.account;
    assert_eq!((account.delivered, account.queued), (2, 0), "it is settled, too");
    assert!(!rig.dispatcher.connected());
}

#[actix::test]
async fn a_drain_waits_a_bounded_time_and_starts_nothing_new() {
    let rig = under_way(60).await;
    rig.hand_in("ward", "q", "71".into()).await;
    let asked = Instant::now();
    rig.dispatcher.send(Shutdown).await.unwrap();
    assert!((FINISH_MAX..FINISH_MAX + Duration::from_millis(50)).contains(&asked.elapsed()), "{:?}", asked.elapsed());
    rig.transport.set_latency(Duration::ZERO);
    pass(120).await;
    assert_eq!(rig.taken("ward"), ["first"], "the request was dropped with its courier, the other never began");
    assert_eq!(rig.account().await.account.queued, 2, "both wait for the next start");
}

#[actix::test]
async fn a_warm_lane_without_work_delays_nobody() {
    tokio::time::pause();
    let rig = Rig::new(vec![destination("ward", agreement())]);
    rig.hand_in("ward", "p", "first".into()).await;
    pass(5).await;
    let asked = Instant::now();
    rig.dispatcher.send(Shutdown).await.unwrap();
    assert!(asked.elapsed() < Duration::from_millis(50), "{:?}", asked.elapsed());
}

#[actix::test]
async fn when_the_floor_fell_there_is_nothing_to_wait_for() {
    let rig = under_way(60).await;
    rig.outbox.send(Shutdown).await.unwrap();
    pass(1).await;
    assert!(!rig.outbox.connected());
    let asked = Instant::now();
    rig.dispatcher.send(Shutdown).await.unwrap();
    assert!(asked.elapsed() < Duration::from_millis(50), "{:?}", asked.elapsed());
}
