//! Limits of devices, of destinations and of the whole gateway: who is refused, what makes room, and that nobody else notices.

use super::*;
use tidegate_schemas::submission::Priority;

fn limits(messages: u64, on_full: OnFull, device: DeviceLimits) -> QueueLimits {
    QueueLimits { messages, bytes: 1_000, on_full, device }
}

fn device(messages: Option<u64>, per_minute: Option<u32>) -> DeviceLimits {
    DeviceLimits { messages, bytes: None, per_minute }
}

async fn hand_in(outbox: &Addr<Outbox>, submission: Submission, limits: QueueLimits) -> Result<u64, EnqueueError> {
    let message = Enqueue { submission, limits, break_glass_per_hour: None, stream: None };
    outbox.send(message).await.unwrap().map(|accepted| accepted.entry.seq)
}

fn refused(limit: IntakeLimit) -> Result<u64, EnqueueError> {
    Err(EnqueueError::Refused { limit, recorded: true })
}

#[actix::test]
async fn a_rate_refuses_before_the_device_and_the_device_before_the_destination() {
    tokio::time::pause();
    let rig = Rig::new();
    let outbox = rig.start();
    let all = limits(3, OnFull::Reject, device(Some(2), Some(2)));
    hand_in(&outbox, submission("a", "x"), all).await.unwrap();
    hand_in(&outbox, submission("a", "x"), all).await.unwrap();
    assert_eq!(hand_in(&outbox, submission("a", "x"), all).await, refused(IntakeLimit::Rate { wait_s: 30 }));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(hand_in(&outbox, submission("a", "x"), all).await, refused(IntakeLimit::Device));
    hand_in(&outbox, submission("b", "x"), all).await.unwrap();
    assert_eq!(hand_in(&outbox, submission("c", "x"), all).await, refused(IntakeLimit::Destination));
    let records = outbox.send(ListQuarantine { before: None, limit: 9 }).await.unwrap().unwrap();
    let reasons: Vec<_> = records.iter().rev().map(|record| record.reason).collect();
    assert_eq!(reasons, [QuarantineReason::TooFast, QuarantineReason::DeviceFull, QuarantineReason::DestinationFull]);
    assert!(records.iter().all(|record| record.id.is_some() && record.device.is_some()));
    let seen = observe(&outbox).await;
    assert_eq!((seen.account.accepted, seen.account.refused, seen.gap), (6, 3, 0));
}

#[actix::test]
async fn shares_are_counted_over_a_restart_and_are_free_again_when_delivered() {
    let rig = Rig::new();
    let outbox = rig.start();
    let two = limits(99, OnFull::Reject, device(Some(2), None));
    hand_in(&outbox, submission("a", "x"), LIMITS).await.unwrap();
    hand_in(&outbox, submission("a", "x"), LIMITS).await.unwrap();
    operate(&outbox, 2, Event::Hold).await.unwrap();
    outbox.send(Shutdown).await.unwrap();
    let outbox = rig.start();
    ready(&outbox).await;
    assert_eq!(hand_in(&outbox, submission("a", "x"), two).await, refused(IntakeLimit::Device), "held ones wait, too");
    settle(&outbox, 1, Event::Deliver).await;
    hand_in(&outbox, submission("a", "x"), two).await.unwrap();
    assert_eq!(hand_in(&outbox, submission("a", "x"), two).await, refused(IntakeLimit::Device));
    hand_in(&outbox, submission("b", "x"), two).await.unwrap();
}

#[actix::test]
async fn the_oldest_queued_make_room_and_never_more_than_needed() {
    let rig = Rig::new();
    let outbox = rig.start();
    let drop = limits(4, OnFull::DropOldest, DeviceLimits::default());
    for _ in 0..4 {
        hand_in(&outbox, submission("a", vec![0; 200]), drop).await.unwrap();
    }
    operate(&outbox, 1, Event::Hold).await.unwrap();
    hand_in(&outbox, submission("a", vec![0; 200]), drop).await.unwrap();
    assert_eq!(pick_by(&outbox, 9, HeadOfLine::Rotate, false).await, [3, 4, 5], "what is held stays");
    hand_in(&outbox, submission("a", vec![0; 700]), drop).await.unwrap();
    assert_eq!(pick_by(&outbox, 9, HeadOfLine::Rotate, false).await, [6], "by bytes: 200 are held");
    assert_eq!(hand_in(&outbox, submission("a", vec![0; 801]), drop).await, refused(IntakeLimit::Destination));
    assert_eq!(pick_by(&outbox, 9, HeadOfLine::Rotate, false).await, [6], "what can't have room takes none");
    let seen = observe(&outbox).await;
    assert_eq!((seen.account.dropped, seen.account.refused, seen.reports_pending, seen.gap), (4, 1, 5, 0));
}

#[actix::test]
async fn a_devices_own_oldest_make_room_and_an_alarm_makes_none_for_a_reading() {
    let rig = Rig::new();
    let outbox = rig.start();
    let drop = limits(9, OnFull::DropOldest, device(Some(2), None));
    for name in ["b", "a", "a"] {
        hand_in(&outbox, submission(name, "x"), drop).await.unwrap();
    }
    hand_in(&outbox, submission("a", "x"), drop).await.unwrap();
    assert_eq!(pick_by(&outbox, 9, HeadOfLine::Rotate, false).await, [1, 3, 4]);
    let high = |name| Submission { priority: Priority::High, ..submission(name, "x") };
    hand_in(&outbox, high("a"), drop).await.unwrap();
    hand_in(&outbox, high("a"), drop).await.unwrap();
    assert_eq!(pick_by(&outbox, 9, HeadOfLine::Rotate, false).await, [5, 6, 1]);
    assert_eq!(hand_in(&outbox, submission("a", "x"), drop).await, refused(IntakeLimit::Device));
    assert_eq!(observe(&outbox).await.gap, 0);
}

#[actix::test]
async fn a_full_gateway_takes_nothing_knows_what_came_before_and_drains() {
    let rig = Rig::new();
    let outbox = rig.start_with(Limits { max_messages: 5, ..Limits::default() });
    let marked = |packet_id, dup| Submission {
        redelivery: Some(Redelivery::Mqtt { session: 1, packet_id, dup }),
        ..submission("p", "x")
    };
    for packet_id in 1..=3 {
        enqueue(&outbox, marked(packet_id, false)).await.unwrap();
    }
    assert_eq!(observe(&outbox).await.nearly_full, None);
    enqueue(&outbox, marked(4, false)).await.unwrap();
    let words = observe(&outbox).await.nearly_full.unwrap();
    assert!(words.contains("4 messages wait, of at most 5"), "{words}");
    enqueue(&outbox, marked(5, false)).await.unwrap();
    assert!(matches!(enqueue(&outbox, marked(6, false)).await, Err(EnqueueError::GatewayFull(_))));
    assert!(enqueue(&outbox, marked(5, true)).await.unwrap().duplicate);
    let seen = observe(&outbox).await;
    assert_eq!((seen.account.accepted, seen.account.refused, seen.gap), (5, 0, 0), "nothing is on record");
    settle(&outbox, 1, Event::Deliver).await;
    enqueue(&outbox, marked(6, false)).await.unwrap();
    for seq in 2..=4 {
        settle(&outbox, seq, Event::Deliver).await;
    }
    assert_eq!(observe(&outbox).await.nearly_full, None);
}

#[actix::test]
async fn bytes_and_the_disk_are_limits_of_the_gateway_too() {
    let rig = Rig::new();
    let outbox = rig.start_with(Limits { max_bytes: 1_000, ..Limits::default() });
    enqueue(&outbox, submission("p", vec![0; 900])).await.unwrap();
    assert!(observe(&outbox).await.nearly_full.is_some());
    assert!(matches!(enqueue(&outbox, submission("p", vec![0; 101])).await, Err(EnqueueError::GatewayFull(_))));
    enqueue(&outbox, submission("p", vec![0; 100])).await.unwrap();
    settle(&outbox, 1, Event::Deliver).await;
    rig.store.set_free_bytes(Some(63 << 20));
    assert!(matches!(enqueue(&outbox, submission("p", "x")).await, Err(EnqueueError::GatewayFull(_))));
    settle(&outbox, 2, Event::Deliver).await;
    rig.store.set_free_bytes(Some(1 << 30));
    enqueue(&outbox, submission("p", "x")).await.unwrap();
    assert_eq!(observe(&outbox).await.nearly_full, None);
}

#[actix::test]
async fn one_full_destination_stalls_no_other() {
    let rig = Rig::new();
    let outbox = rig.start();
    let one = limits(1, OnFull::Reject, DeviceLimits::default());
    let to = |destination: &str| Submission { destination: destination.parse().unwrap(), ..submission("p", "x") };
    hand_in(&outbox, to("ward"), one).await.unwrap();
    for _ in 0..50 {
        assert_eq!(hand_in(&outbox, to("ward"), one).await, refused(IntakeLimit::Destination), "acknowledged");
        hand_in(&outbox, to("lab"), LIMITS).await.unwrap();
    }
    let seen = observe(&outbox).await;
    assert_eq!((seen.account.queued, seen.account.refused, seen.gap), (51, 50, 0));
}

#[actix::test]
async fn the_room_hears_of_a_refusal_once_in_ten_minutes_and_the_records_have_them_all() {
    tokio::time::pause();
    let rig = Rig::new();
    let outbox = rig.start();
    let limits = limits_of(1, 1_000);
    let hand_in = async || {
        let message =
            Enqueue { submission: submission("patient", "70"), limits, break_glass_per_hour: None, stream: None };
        outbox.send(message).await.unwrap()
    };
    hand_in().await.unwrap();
    let told = async || {
        let ledger = outbox.send(ListLedger { before: None, limit: 100 }).await.unwrap().unwrap();
        assert!(ledger.iter().all(|view| view.state == EntryState::Refused && view.device.as_str() == "patient"));
        ledger.len()
    };
    for _ in 0..30 {
        assert!(matches!(hand_in().await, Err(EnqueueError::Refused { recorded: true, .. })));
    }
    assert_eq!((told().await, observe(&outbox).await.account.refused), (1, 30));
    tokio::time::sleep(Duration::from_secs(601)).await;
    assert!(hand_in().await.is_err());
    assert_eq!((told().await, observe(&outbox).await.account.refused), (2, 31));
    // It never was an entry: the device was told when it came, and nothing else is.
    let receipts = outbox.send(PendingReceipts { count_max: 10 }).await.unwrap().unwrap();
    assert_eq!(receipts, []);
}
