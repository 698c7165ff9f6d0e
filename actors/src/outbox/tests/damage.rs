//! What damage leaves behind is bounded and counts as waiting no longer; a disk that hangs is seen.

use super::*;
use tidegate_schemas::record;

/// An outbox with so many entries of 5,000 bytes, of which each record of this prefix is damaged, after one pick.
async fn damaged(entries: u64, prefix: u8) -> (Rig, Addr<Outbox>) {
    let rig = Rig::new();
    let outbox = rig.start();
    for _ in 0..entries {
        enqueue(&outbox, submission("p", vec![7; 5_000])).await.unwrap();
    }
    outbox.send(Shutdown).await.unwrap();
    let mut contents = rig.store.contents();
    for (_, value) in contents.iter_mut().filter(|(at, _)| at[0] == prefix) {
        value[8] ^= 1;
    }
    let rig = Rig { store: Arc::new(MemoryStore::with_contents(1, contents)), lease: Lease::default(), ..rig };
    let outbox = rig.start();
    ready(&outbox).await;
    assert!(pick(&outbox).await.is_empty());
    while observe(&outbox).await.account.quarantined < entries {
        tokio::task::yield_now().await;
    }
    (rig, outbox)
}

#[actix::test]
async fn damaged_entries_wait_no_longer_and_only_the_newest_are_kept() {
    for prefix in *b"mb" {
        let (rig, outbox) = damaged(70, prefix).await;
        let seen = observe(&outbox).await;
        assert_eq!((seen.account.queued, seen.waiting_bytes, seen.gap), (0, 0, 0));
        let count = |prefix: u8| rig.store.contents().keys().filter(|key| key[0] == prefix).count();
        assert_eq!((count(b'x'), count(b'b'), count(b'm')), (64, 128, 0), "with their chunks");
    }
}

#[actix::test]
async fn one_damaged_entry_releases_its_own_bytes_alone() {
    let rig = Rig::new();
    let outbox = rig.start();
    for _ in 0..2 {
        enqueue(&outbox, submission("p", vec![7; 5_000])).await.unwrap();
    }
    outbox.send(Shutdown).await.unwrap();
    let mut contents = rig.store.contents();
    let at = contents.keys().find(|at| at[0] == b'b').cloned().unwrap();
    contents.get_mut(&at).unwrap()[8] ^= 1;
    let rig = Rig { store: Arc::new(MemoryStore::with_contents(1, contents)), lease: Lease::default(), ..rig };
    let outbox = rig.start();
    ready(&outbox).await;
    assert_eq!(pick(&outbox).await.len(), 1);
    while observe(&outbox).await.account.quarantined == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(observe(&outbox).await.waiting_bytes, 5_000);
    settle(&outbox, 2, Event::Deliver).await;
    assert_eq!(observe(&outbox).await.waiting_bytes, 0);
}

#[actix::test]
async fn a_disk_that_does_not_answer_is_no_healthy_one() {
    tokio::time::pause();
    let rig = Rig::new();
    let outbox = rig.start();
    enqueue(&outbox, submission("p", "1")).await.unwrap();
    let (entered, has_entered) = tokio::sync::oneshot::channel();
    let (release, released) = std::sync::mpsc::sync_channel::<()>(1);
    let gate = std::sync::Mutex::new((Some(entered), released));
    rig.store.on_commit(Arc::new(move |_| {
        let mut gate = gate.lock().unwrap();
        if let Some(entered) = gate.0.take() {
            entered.send(()).unwrap();
            gate.1.recv().unwrap();
        }
    }));
    let written = outbox.send(Enqueue {
        submission: submission("p", "2"),
        limits: LIMITS,
        break_glass_per_hour: None,
        stream: None,
    });
    has_entered.await.unwrap();
    assert_eq!(observe(&outbox).await.failure, None, "a slow flush is none of that");
    tokio::time::advance(Duration::from_secs(31)).await;
    let failure = observe(&outbox).await.failure;
    assert!(failure.as_ref().is_some_and(|failure| failure.contains("not answered")), "{failure:?}");
    release.send(()).unwrap();
    written.await.unwrap().unwrap();
    assert_eq!(observe(&outbox).await.failure, None);
}

#[actix::test]
async fn a_damaged_head_is_found_after_others_made_room() {
    let rig = Rig::new();
    let outbox = rig.start();
    let limits = QueueLimits { messages: 3, on_full: OnFull::DropOldest, ..limits_of(3, 1_000) };
    let hand_in = |outbox: Addr<Outbox>| async move {
        let message = Enqueue { submission: submission("p", "x"), limits, break_glass_per_hour: None, stream: None };
        outbox.send(message).await.unwrap().unwrap();
    };
    for _ in 0..3 {
        hand_in(outbox.clone()).await;
    }
    outbox.send(Shutdown).await.unwrap();
    let mut contents = rig.store.contents();
    contents.get_mut(&record::key::queued(0, 1)).unwrap()[8] ^= 1;
    let rig = Rig { store: Arc::new(MemoryStore::with_contents(1, contents)), lease: Lease::default(), ..rig };
    let outbox = rig.start();
    ready(&outbox).await;
    hand_in(outbox.clone()).await;
    assert_eq!(observe(&outbox).await.account.dropped, 1);
    assert_eq!(pick(&outbox).await.len(), 2);
    while observe(&outbox).await.account.quarantined < 1 {
        tokio::task::yield_now().await;
    }
    let seen = observe(&outbox).await;
    assert_eq!((seen.account.queued, seen.account.dropped, seen.gap), (2, 1, 0));
}

#[derive(serde::Serialize, serde::Deserialize)]
struct MetaOfVersionOne {
    layout: u32,
}

impl record::Record for MetaOfVersionOne {
    const TYPE: u8 = 1;
    const VERSION: u8 = 1;
}

#[actix::test]
async fn a_store_of_another_version_is_named_and_not_called_damaged() {
    let rig = Rig::new();
    let outbox = rig.start();
    enqueue(&outbox, submission("p", "x")).await.unwrap();
    outbox.send(Shutdown).await.unwrap();
    let mut contents = rig.store.contents();
    contents.insert(record::key::META.to_vec(), record::encode(&record::key::META, &MetaOfVersionOne { layout: 1 }));
    let found = Core::stored_moment(&MemoryStore::with_contents(1, contents));
    assert!(matches!(found, Err(StoreError::Format { .. })), "{found:?}");
}
