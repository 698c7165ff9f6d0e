//! What goes first, and what a refused message does to those behind it.

use super::*;
use tidegate_schemas::submission::Priority;

const ROTATE: HeadOfLine = HeadOfLine::Rotate;

async fn hand_in(outbox: &Addr<Outbox>, device: &str, priority: Priority, per_hour: Option<u16>) -> u64 {
    let submission = Submission { priority, ..submission(device, "x") };
    let message = Enqueue { submission, limits: LIMITS, break_glass_per_hour: per_hour, stream: None };
    outbox.send(message).await.unwrap().unwrap().entry.seq
}

#[actix::test]
async fn break_glass_goes_first_then_high_then_the_rest_each_in_order_and_once() {
    let rig = Rig::new();
    let outbox = rig.start();
    use Priority::{BreakGlass as B, High as H, Normal as N};
    for priority in [N, H, N, B, H, B, N] {
        hand_in(&outbox, "p", priority, Some(9)).await;
    }
    assert_eq!(pick_by(&outbox, 99, ROTATE, false).await, [4, 6, 2, 5, 1, 3, 7]);
    assert_eq!(pick_by(&outbox, 3, ROTATE, false).await, [4, 6, 2]);
    assert_eq!(pick_by(&outbox, 99, ROTATE, true).await, [4, 6]);
    let seen = load(&outbox).await;
    assert_eq!((seen.urgent, seen.break_glass), (4, 2));
    operate(&outbox, 4, Event::Hold).await.unwrap();
    assert_eq!(pick_by(&outbox, 99, ROTATE, true).await, [6]);
    operate(&outbox, 4, Event::Release).await.unwrap();
    settle(&outbox, 5, Event::Deliver).await;
    outbox.send(Shutdown).await.unwrap();
    let outbox = rig.start();
    ready(&outbox).await;
    assert_eq!(pick_by(&outbox, 99, ROTATE, false).await, [4, 6, 2, 1, 3, 7], "the marks are on disk");
    for seq in [4, 6, 2] {
        operate(&outbox, seq, Event::Purge).await.unwrap();
    }
    let seen = load(&outbox).await;
    assert_eq!((seen.urgent, seen.break_glass), (0, 0));
    assert!(rig.store.contents().keys().all(|key| key[0] != b'i'));
}

#[actix::test]
async fn break_glass_is_rationed_by_the_hour_and_over_a_restart() {
    tokio::time::pause();
    let rig = Rig::new();
    let outbox = rig.start();
    hand_in(&outbox, "p", Priority::BreakGlass, None).await;
    for _ in 0..2 {
        hand_in(&outbox, "p", Priority::BreakGlass, Some(2)).await;
    }
    let seen = observe(&outbox).await;
    assert_eq!((seen.break_glass_taken, seen.break_glass_denied), (2, 1));
    outbox.send(Shutdown).await.unwrap();
    let outbox = rig.start();
    ready(&outbox).await;
    hand_in(&outbox, "p", Priority::BreakGlass, Some(2)).await;
    assert_eq!(load(&outbox).await.break_glass, 2, "the others wait as of high priority");
    assert_eq!(load(&outbox).await.urgent, 4);
    tokio::time::sleep(Duration::from_secs(3_601)).await;
    hand_in(&outbox, "p", Priority::BreakGlass, Some(2)).await;
    assert_eq!(pick_by(&outbox, 99, ROTATE, true).await.last(), Some(&5));
}

#[actix::test]
async fn a_damaged_entry_leaves_no_mark() {
    let rig = Rig::new();
    let outbox = rig.start();
    hand_in(&outbox, "p", Priority::BreakGlass, Some(9)).await;
    settle_by(&outbox, &[(1, Event::Park)], ROTATE).await;
    outbox.send(Shutdown).await.unwrap();
    let mut contents = rig.store.contents();
    let at = contents.keys().find(|key| key[0] == b'm').cloned().unwrap();
    contents.get_mut(&at).unwrap()[8] ^= 1;
    let rig = Rig { store: Arc::new(MemoryStore::with_contents(1, contents)), lease: Lease::default(), ..rig };
    let outbox = rig.start();
    ready(&outbox).await;
    operate(&outbox, 1, Event::Retry).await.unwrap_err();
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(pick(&outbox).await.is_empty());
    while observe(&outbox).await.account.quarantined == 0 {
        tokio::task::yield_now().await;
    }
    let seen = load(&outbox).await;
    assert_eq!((seen.queued, seen.urgent, seen.break_glass, seen.refused_waiting), (0, 0, 0, 0));
    assert!(rig.store.contents().keys().all(|key| !matches!(key[0], b'i' | b'r' | b'm')));
}

#[actix::test]
async fn a_refused_message_waits_its_step_and_shares_a_pick_with_fresh_ones() {
    tokio::time::pause();
    let rig = Rig::new();
    let outbox = rig.start();
    for _ in 0..20 {
        hand_in(&outbox, "p", Priority::Normal, None).await;
    }
    let refused: Vec<_> = (1..=8).map(|seq| (seq, Event::Park)).collect();
    settle_by(&outbox, &refused, ROTATE).await;
    let seen = load(&outbox).await;
    assert_eq!((seen.queued, seen.parked, seen.refused_waiting), (20, 0, 8));
    assert_eq!(pick_by(&outbox, 99, ROTATE, false).await, (9..=20).collect::<Vec<_>>());
    tokio::time::sleep(Duration::from_secs(14)).await;
    assert_eq!(pick_by(&outbox, 99, ROTATE, false).await.len(), 12);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(pick_by(&outbox, 8, ROTATE, false).await, [1, 2, 3, 4, 9, 10, 11, 12], "half of it");
    assert_eq!(pick_by(&outbox, 18, ROTATE, false).await.len(), 18);
    let all = pick_by(&outbox, 99, ROTATE, false).await;
    assert_eq!((all.len(), all.iter().collect::<BTreeSet<_>>().len()), (20, 20), "each once");
    settle_by(&outbox, &[(9, Event::Deliver)], ROTATE).await;
    settle_by(&outbox, &[(1, Event::Park)], ROTATE).await;
    let entry = EntryRef { destination: "ward".parse().unwrap(), seq: 1 };
    let shown = outbox.send(Show { name: EntryName::Place(entry) }).await.unwrap().unwrap();
    let Some(Shown::Waiting(view)) = shown else { panic!("{shown:?}") };
    assert_eq!((view.refusals, view.due_in_ms, view.reason), (2, 60_000, Some(DeliveryError::Status(422))));
    assert_eq!(operate(&outbox, 1, Event::Retry).await, Ok(EntryState::Queued));
    assert_eq!(pick_by(&outbox, 99, ROTATE, false).await[7], 1, "at its place among the fresh ones, now");
    assert_eq!(load(&outbox).await.refused_waiting, 7);
}

#[actix::test]
async fn a_blocked_device_waits_behind_its_message_and_nobody_else_does() {
    tokio::time::pause();
    let rig = Rig::new();
    let outbox = rig.start();
    for device in ["a", "b", "a", "b", "a"] {
        hand_in(&outbox, device, Priority::Normal, None).await;
    }
    hand_in(&outbox, "a", Priority::High, None).await;
    let block = HeadOfLine::Block;
    settle_by(&outbox, &[(1, Event::Park)], block).await;
    assert_eq!(pick_by(&outbox, 99, block, false).await, [6, 2, 4], "what is urgent passes it");
    let still = |seqs: Vec<u64>| StillQueued { destination: "ward".parse().unwrap(), seqs, head_of_line: block };
    let sent = outbox.send(still(vec![1, 2, 3, 4, 5, 6])).await.unwrap().unwrap();
    assert_eq!(sent, [2, 6], "what was picked before the refusal may not pass it, nor two of a device go together");
    tokio::time::sleep(Duration::from_secs(16)).await;
    assert_eq!(pick_by(&outbox, 99, block, false).await, [6, 1, 2, 4], "due, and still alone of its device");
    operate(&outbox, 1, Event::Hold).await.unwrap();
    assert_eq!(pick_by(&outbox, 99, block, false).await, [6, 2, 3, 4, 5], "what a person holds blocks nobody");
    operate(&outbox, 1, Event::Release).await.unwrap();
    assert_eq!(pick_by(&outbox, 99, block, false).await, [6, 1, 2, 4]);
    settle_by(&outbox, &[(1, Event::Deliver)], block).await;
    assert_eq!(pick_by(&outbox, 99, block, false).await, [6, 2, 3, 4, 5]);
}

#[actix::test]
async fn after_so_many_refusals_it_is_parked_and_a_retry_begins_anew() {
    tokio::time::pause();
    let rig = Rig::new();
    let outbox = rig.start();
    hand_in(&outbox, "p", Priority::Normal, None).await;
    let third = HeadOfLine::ParkAfter(3);
    for parked in [0, 0, 1] {
        settle_by(&outbox, &[(1, Event::Park)], third).await;
        assert_eq!(observe(&outbox).await.account.parked, parked);
    }
    assert_eq!(load(&outbox).await.refused_waiting, 0);
    operate(&outbox, 1, Event::Retry).await.unwrap();
    settle_by(&outbox, &[(1, Event::Park)], third).await;
    assert_eq!(observe(&outbox).await.account.parked, 0);
}
