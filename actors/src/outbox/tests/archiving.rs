//! The archive: every end state once and in order, whatever falls, and nothing of it stops the gateway.

use super::*;
use crate::{
    outbox::archiving::{ARCHIVE_EVERY, WAITING_RINGS},
    ports::ledger_archive::ArchiveError,
};

fn rig() -> (Rig, Arc<MemoryArchive>) {
    tokio::time::pause();
    let archive = Arc::new(MemoryArchive::default());
    (Rig { archive: Some(Arc::clone(&archive)), ..Rig::new() }, archive)
}

const fn limits(ledger_entries_max: u64) -> Limits {
    Limits {
        ledger_entries_max,
        quarantine_entries_max: 10,
        reporting: false,
        receipting: false,
        max_messages: 100_000,
        max_bytes: 1 << 30,
        min_free_disk: 0,
    }
}

fn full() -> Option<ArchiveError> {
    Some(ArchiveError::Full { free: 1, wanted: 2 })
}

async fn deliver(outbox: &Addr<Outbox>, count: usize) {
    for _ in 0..count {
        let seq = enqueue(outbox, submission("p", "secret reading")).await.unwrap().entry.seq;
        settle(outbox, seq, Event::Deliver).await;
    }
}

async fn rounds(count: u32) {
    tokio::time::sleep(count * ARCHIVE_EVERY + Duration::from_secs(1)).await;
}

fn kept(rig: &Rig) -> usize {
    rig.store.contents().keys().filter(|key| key[0] == b'l').count()
}

fn numbers(last: u64) -> Vec<u64> {
    (1..=last).collect()
}

#[actix::test]
async fn every_end_is_archived_once_and_in_order_over_restarts() {
    let (rig, archive) = rig();
    let mut last = 0;
    for (count, archived) in [(3, true), (40, false), (0, true), (700, false)] {
        let outbox = rig.start_with(limits(100));
        ready(&outbox).await;
        deliver(&outbox, count).await;
        last += count as u64;
        if archived {
            rounds(1).await;
            assert_eq!(archive.numbers(), numbers(last));
            let seen = observe(&outbox).await;
            assert_eq!((seen.archive_waiting, seen.archive_lost, seen.archive_failure), (0, 0, None));
        }
        // Where it ends before the next look, the next one finds out from the archive how far it is.
        outbox.send(Shutdown).await.unwrap();
    }
    let outbox = rig.start_with(limits(100));
    rounds(1).await;
    let whole = archive.whole();
    assert_eq!((whole.lines, whole.first_no, whole.last_no, whole.lost), (743, 1, 743, 0));
    assert_eq!((observe(&outbox).await.archive_lost, kept(&rig)), (0, 100));
    assert!(!archive.text().contains("secret") && archive.text().contains("\"destination\":\"ward\""));
}

#[actix::test]
async fn much_that_waits_is_archived_at_once_and_an_idle_outbox_writes_nothing() {
    let (rig, archive) = rig();
    let outbox = rig.start_with(limits(10));
    rounds(1).await;
    tokio::time::sleep(ARCHIVE_EVERY / 4).await;
    let began = Instant::now();
    deliver(&outbox, usize::try_from(WAITING_RINGS).unwrap() + 60).await;
    ready(&outbox).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(archive.whole().last_no >= WAITING_RINGS && began.elapsed() < ARCHIVE_EVERY / 2);
    rounds(1).await;
    let (commits, appends) = (rig.store.commits(), archive.appends());
    rounds(10).await;
    assert_eq!((rig.store.commits(), archive.appends()), (commits, appends));
}

#[actix::test]
async fn a_failing_archive_stops_nothing_and_what_it_misses_is_counted_and_told() {
    let (rig, archive) = rig();
    let outbox = rig.start_with(limits(10));
    deliver(&outbox, 5).await;
    rounds(1).await;
    archive.set_failure(full());
    deliver(&outbox, 45).await;
    rounds(1).await;
    let seen = observe(&outbox).await;
    assert_eq!((seen.archive_waiting, seen.archive_lost, kept(&rig)), (45, 0, 45), "what is not archived stays");
    assert!(seen.archive_failure.is_some_and(|error| error.contains("too little room")) && seen.failure.is_none());
    deliver(&outbox, 25).await;
    let seen = observe(&outbox).await;
    assert_eq!((seen.archive_waiting, seen.archive_lost, kept(&rig)), (50, 20, 50), "5 were archived");
    // What is missing is still known after a restart.
    outbox.send(Shutdown).await.unwrap();
    archive.set_failure(None);
    let outbox = rig.start_with(limits(10));
    ready(&outbox).await;
    assert_eq!(observe(&outbox).await.archive_lost, 20);
    rounds(1).await;
    let (whole, seen) = (archive.whole(), observe(&outbox).await);
    assert_eq!((whole.first_no, whole.last_no, whole.lost), (1, 75, 20));
    assert_eq!((seen.archive_waiting, seen.archive_failure, kept(&rig)), (0, None, 10));
    assert!(archive.text().contains("\"no\":25,\"lost_from\":6"));
}

#[actix::test]
async fn an_archive_that_answers_only_later_is_gone_on_with() {
    let (rig, archive) = rig();
    let outbox = rig.start_with(limits(10));
    deliver(&outbox, 20).await;
    rounds(1).await;
    outbox.send(Shutdown).await.unwrap();
    archive.set_failure(full());
    let outbox = rig.start_with(limits(10));
    deliver(&outbox, 65).await;
    rounds(2).await;
    assert_eq!(observe(&outbox).await.archive_lost, 25, "as far as anybody knows");
    archive.set_failure(None);
    rounds(1).await;
    let whole = archive.whole();
    assert_eq!((whole.last_no, whole.lost, kept(&rig)), (85, 15, 10));
}

#[actix::test]
async fn a_crash_between_append_and_pruning_means_already_there() {
    let (rig, archive) = rig();
    let outbox = rig.start_with(limits(5));
    deliver(&outbox, 3).await;
    rounds(1).await;
    archive.set_failure(full());
    deliver(&outbox, 17).await;
    rounds(1).await;
    archive.set_failure(None);
    let behind = rig.store.contents();
    // The commit that prunes is lost with its process; the archive has them.
    rounds(1).await;
    let archived = archive.text();
    assert!(rig.store.contents().len() < behind.len());
    outbox.send(Shutdown).await.unwrap();
    let rig = Rig { store: Arc::new(MemoryStore::with_contents(1, behind)), ..rig };
    let outbox = rig.start_with(limits(5));
    rounds(1).await;
    assert_eq!(archive.text(), archived);
    deliver(&outbox, 4).await;
    rounds(1).await;
    assert_eq!((archive.numbers(), archive.whole().lost), (numbers(24), 0));
    assert_eq!(kept(&rig), 5);
}

#[actix::test]
async fn a_new_store_goes_on_after_the_archive() {
    let (rig, archive) = rig();
    let outbox = rig.start_with(limits(10));
    deliver(&outbox, 30).await;
    rounds(1).await;
    let older_copy = rig.store.contents();
    deliver(&outbox, 3_000).await;
    rounds(1).await;
    outbox.send(Shutdown).await.unwrap();
    for contents in [std::collections::BTreeMap::new(), older_copy] {
        let last = archive.whole().last_no;
        let store = Arc::new(MemoryStore::with_contents(1, contents));
        let rig = Rig { store, archive: Some(Arc::clone(&archive)), ..Rig::new() };
        let outbox = rig.start_with(Limits { reporting: true, ..limits(10) });
        deliver(&outbox, 20).await;
        rounds(1).await;
        let (whole, seen) = (archive.whole(), observe(&outbox).await);
        assert_eq!((whole.last_no, whole.lost, seen.archive_lost), (last + 20, 0, 0));
        let batch = outbox.send(PendingReports { count_max: 100 }).await.unwrap().unwrap().unwrap();
        assert!(batch.last > last && batch.reports.len() >= 20, "{batch:?}");
        outbox.send(Shutdown).await.unwrap();
    }
}

#[actix::test]
async fn an_archive_begins_with_what_is_left_and_a_gap_while_it_was_off_is_told() {
    let (rig, archive) = rig();
    let without = Rig { archive: None, store: Arc::clone(&rig.store), ..Rig::new() };
    let outbox = without.start_with(limits(10));
    deliver(&outbox, 30).await;
    outbox.send(Shutdown).await.unwrap();
    let outbox = rig.start_with(limits(10));
    rounds(1).await;
    let whole = archive.whole();
    assert_eq!((whole.first_no, whole.last_no, whole.lost, whole.from_the_start), (21, 30, 0, true));
    assert_eq!(observe(&outbox).await.archive_lost, 0);
    outbox.send(Shutdown).await.unwrap();
    let outbox = without.start_with(limits(10));
    deliver(&outbox, 30).await;
    outbox.send(Shutdown).await.unwrap();
    let outbox = rig.start_with(limits(10));
    rounds(1).await;
    assert_eq!((archive.whole().last_no, archive.whole().lost), (60, 20));
    assert_eq!(observe(&outbox).await.archive_lost, 20);
}

#[actix::test]
async fn a_record_that_can_not_be_read_is_told_of_as_lost() {
    let (rig, archive) = rig();
    let outbox = rig.start_with(limits(100));
    deliver(&outbox, 9).await;
    outbox.send(Shutdown).await.unwrap();
    let mut contents = rig.store.contents();
    for no in [4_u64, 5, 9] {
        contents.insert(tidegate_schemas::record::key::ledger(no), vec![1, 2, 3]);
    }
    let rig = Rig { store: Arc::new(MemoryStore::with_contents(1, contents)), ..rig };
    let outbox = rig.start_with(limits(100));
    rounds(2).await;
    assert_eq!(archive.whole().last_no, 8, "of the last one nothing is known yet");
    deliver(&outbox, 1).await;
    rounds(1).await;
    assert_eq!((archive.numbers(), archive.whole().lost), (vec![1, 2, 3, 6, 7, 8, 10], 3));
}

#[actix::test]
async fn old_files_are_looked_for_once_a_day_by_a_clock_that_is_believed() {
    let (rig, archive) = rig();
    rig.clock.set_trusted(false);
    let _outbox = rig.start_with(limits(10));
    rounds(3).await;
    assert_eq!(archive.pruned_on(), []);
    rig.clock.set_trusted(true);
    tokio::time::sleep(Duration::from_secs(3 * 86_400)).await;
    let days: Vec<String> = archive.pruned_on().iter().map(ToString::to_string).collect();
    assert_eq!(days, ["2026-11-23", "2026-11-24", "2026-11-25", "2026-11-26"]);
}
