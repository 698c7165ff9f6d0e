//! Expiry reaches every entry, however many lie before it.

use super::*;
use tidegate_schemas::submission::ReplyTo;

async fn settle_range(outbox: &Addr<Outbox>, seqs: std::ops::RangeInclusive<u64>, event: Event) {
    let settlements = seqs.map(|seq| Settlement { seq, event, error: None, receipt: None }).collect();
    outbox
        .send(Settle {
            destination: "ward".parse().unwrap(),
            settlements,
            head_of_line: HeadOfLine::default(),
            retry: RetryPolicy::default(),
            busy_ms: 0,
        })
        .await
        .unwrap()
        .unwrap();
}

#[actix::test]
async fn dead_letters_shield_nothing_behind_them() {
    tokio::time::pause();
    let rig = Rig::new();
    let outbox = rig.start();
    let enqueued = (0..1_000).map(|_| enqueue(&outbox, submission("p", "x")));
    futures_util::future::join_all(enqueued).await;
    settle_range(&outbox, 1..=999, Event::Refuse).await;
    settle_range(&outbox, 1_000..=1_000, Event::Park).await;
    tokio::time::sleep(Duration::from_secs(3_700)).await;
    let seen = observe(&outbox).await;
    assert_eq!((seen.account.dead, seen.account.expired, seen.gap), (999, 1, 0));
}

#[actix::test]
async fn a_lifetime_of_its_own_ends_an_entry_deep_in_the_queue_too() {
    tokio::time::pause();
    let rig = Rig::new();
    let outbox = rig.start();
    let before = (0..600).map(|_| enqueue(&outbox, submission("p", "x")));
    futures_util::future::join_all(before).await;
    enqueue(&outbox, Submission { expiry_s: Some(5), ..submission("p", "y") }).await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    // The sweep has not been there yet.
    assert_eq!(observe(&outbox).await.account.queued, 601);
    let deep = Pick {
        destination: "ward".parse().unwrap(),
        after_seq: 600,
        count_max: 9,
        bytes_max: 99,
        break_glass_only: false,
        head_of_line: HeadOfLine::default(),
    };
    assert!(outbox.send(deep).await.unwrap().unwrap().is_empty(), "it is not delivered any more");
    let still =
        StillQueued { destination: "ward".parse().unwrap(), seqs: vec![600, 601], head_of_line: HeadOfLine::default() };
    assert_eq!(outbox.send(still).await.unwrap().unwrap(), [600]);
    tokio::time::sleep(Duration::from_secs(30)).await;
    let seen = observe(&outbox).await;
    assert_eq!((seen.account.queued, seen.account.expired, seen.gap), (600, 1, 0));
}

#[actix::test]
async fn however_much_an_end_takes_of_a_batch_all_end_and_nobody_else_waits_for_it() {
    tokio::time::pause();
    let rig = Rig::new();
    let outbox = rig.start_with(Limits { receipting: true, ..Limits::default() });
    let reply_to = Some(ReplyTo { topic: "t".repeat(1_024), correlation: Some("c".repeat(256).into()) });
    let limits = limits_of(1_000, 1 << 30);
    for _ in 0..300 {
        let submission =
            Submission { reply_to: reply_to.clone(), expiry_s: Some(60), ..submission("p", vec![7; 8_000]) };
        outbox.send(Enqueue { submission, limits, break_glass_per_hour: None, stream: None }).await.unwrap().unwrap();
    }
    tokio::time::sleep(Duration::from_secs(120)).await;
    let seen = observe(&outbox).await;
    assert_eq!((seen.account.expired, seen.account.queued, seen.gap), (300, 0, 0));
}
