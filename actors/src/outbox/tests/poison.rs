//! One poison message in a hundred under each `head_of_line`: exactly which are delivered, and in which order of each device.

use super::*;

/// What a service that refuses every hundredth message gets in an hour, of 3 devices: the places, in order.
async fn hour(head_of_line: HeadOfLine) -> (Vec<u64>, OutboxObservation) {
    let rig = Rig::new();
    let outbox = rig.start();
    for n in 0..300 {
        enqueue(&outbox, submission(["a", "b", "c"][n % 3], "x")).await.unwrap();
    }
    let mut delivered = Vec::new();
    let until = Instant::now() + Duration::from_secs(3_500);
    while Instant::now() < until {
        let picked = pick_by(&outbox, 10, head_of_line, false).await;
        for seq in &picked {
            let still = StillQueued { destination: "ward".parse().unwrap(), seqs: vec![*seq], head_of_line };
            if outbox.send(still).await.unwrap().unwrap().is_empty() {
                continue;
            }
            let event = if seq % 100 == 50 { Event::Park } else { Event::Deliver };
            assert!(!settle_by(&outbox, &[(*seq, event)], head_of_line).await.everything_refused);
            if event == Event::Deliver {
                delivered.push(*seq);
            }
        }
        if picked.is_empty() {
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
    }
    (delivered, observe(&outbox).await)
}

#[actix::test]
async fn rotate_passes_them_and_keeps_them() {
    tokio::time::pause();
    let (delivered, seen) = hour(HeadOfLine::Rotate).await;
    assert_eq!(delivered, (1..=300).filter(|seq| seq % 100 != 50).collect::<Vec<_>>());
    assert_eq!((seen.account.queued, seen.account.parked, seen.gap), (3, 0, 0));
}

#[actix::test]
async fn park_after_parks_them_after_their_tries() {
    tokio::time::pause();
    for tries in [1, 3] {
        let (delivered, seen) = hour(HeadOfLine::ParkAfter(tries)).await;
        assert_eq!(delivered, (1..=300).filter(|seq| seq % 100 != 50).collect::<Vec<_>>());
        assert_eq!((seen.account.queued, seen.account.parked, seen.gap), (0, 3, 0));
    }
}

#[actix::test]
async fn block_stops_their_devices_there_and_no_other() {
    tokio::time::pause();
    let (delivered, seen) = hour(HeadOfLine::Block).await;
    // 50 is of b, 150 of c, 250 of a: each device goes until its own.
    let of = |rest: u64| delivered.iter().copied().filter(|seq| seq % 3 == rest).collect::<Vec<_>>();
    let until = |rest: u64, end: u64| (1..end).filter(|seq| seq % 3 == rest).collect::<Vec<_>>();
    assert_eq!((of(1), of(2), of(0)), (until(1, 250), until(2, 50), until(0, 150)));
    assert_eq!((seen.account.parked, seen.gap), (0, 0));
    assert_eq!(seen.account.queued, 300 - delivered.len() as u64);
}

#[actix::test]
async fn the_same_message_refused_for_days_is_not_the_destinations_fault() {
    tokio::time::pause();
    let rig = Rig::new();
    let outbox = rig.start();
    enqueue(&outbox, submission("p", "x")).await.unwrap();
    for _ in 0..30 {
        assert!(!settle_by(&outbox, &[(1, Event::Park)], HeadOfLine::Block).await.everything_refused);
    }
    for n in 0..9 {
        enqueue(&outbox, submission(&format!("d{n}"), "x")).await.unwrap();
    }
    for seq in 2..=9 {
        assert!(!settle_by(&outbox, &[(seq, Event::Park)], HeadOfLine::Block).await.everything_refused);
    }
    assert_eq!(load(&outbox).await.refused_waiting, 9);
    assert!(settle_by(&outbox, &[(10, Event::Park)], HeadOfLine::Block).await.everything_refused, "ten messages are");
    assert_eq!((load(&outbox).await.refused_waiting, load(&outbox).await.queued), (0, 10));
    assert_eq!(pick_by(&outbox, 99, HeadOfLine::Block, false).await.len(), 10, "none of it stands");
}

#[actix::test]
async fn more_than_a_thousand_do_not_wait_but_are_parked() {
    let rig = Rig::new();
    let outbox = rig.start();
    let send = |_| {
        let (submission, limits) = (submission("p", "x"), limits_of(2_000, 1 << 20));
        outbox.send(Enqueue { submission, limits, break_glass_per_hour: None, stream: None })
    };
    futures_util::future::join_all((0..1_010).map(send)).await;
    let mut events: Vec<_> = (1..=1_005).map(|seq| (seq, Event::Park)).collect();
    events.push((1_010, Event::Deliver));
    settle_by(&outbox, &events, HeadOfLine::Rotate).await;
    let seen = load(&outbox).await;
    assert_eq!((seen.refused_waiting, seen.parked, seen.queued), (1_000, 5, 1_004));
    // A person brings those back, of which there is no place among the waiting.
    operate(&outbox, 1, Event::Hold).await.unwrap();
    settle_by(&outbox, &[(1_006, Event::Park), (1_007, Event::Deliver)], HeadOfLine::Rotate).await;
    operate(&outbox, 1, Event::Release).await.unwrap();
    assert_eq!(load(&outbox).await.refused_waiting, 1_000);
    assert_eq!(pick_by(&outbox, 1, HeadOfLine::Rotate, false).await, [1]);
}

#[actix::test]
async fn a_large_answer_about_large_messages_fits_its_commits() {
    let rig = Rig::new();
    let outbox = rig.start();
    for _ in 0..101 {
        enqueue(&outbox, submission("p", vec![7; 3_500])).await.unwrap();
    }
    let mut events: Vec<_> = (1..=100).map(|seq| (seq, Event::Park)).collect();
    events.push((101, Event::Deliver));
    assert!(settle_by(&outbox, &events, HeadOfLine::default()).await.overtaken.is_empty());
    let seen = observe(&outbox).await;
    assert_eq!((seen.account.parked, seen.account.delivered, seen.gap), (100, 1, 0));
}
