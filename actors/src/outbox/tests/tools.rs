//! Long work beside the writer: counts by age and state, an export that is a whole outbox, and files that are written anew in their time.

use super::*;
use crate::outbox::{
    compacting::{
        ALLOWANCE_BYTES, BUSY_FACTOR, Hour, QUIET_FACTOR, SHORT_ALLOWANCE_BYTES, SHORT_FACTOR, is_due,
        would_close_intake,
    },
    tools::stats,
};
use crate::ports::outbox_store::Held;
use std::{
    collections::VecDeque,
    io::{ErrorKind, Write},
};
use tidegate_schemas::{
    export::{FORMAT, Header, Importer},
    messages::tools::{Check, Compact, CountStats, Export, ExportFailed},
    record::LAYOUT,
};

/// Bytes that somebody else reads.
#[derive(Clone, Default)]
struct Sink {
    bytes: Arc<Mutex<Vec<u8>>>,
    is_full: bool,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.is_full {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        self.bytes.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn header() -> Header {
    Header { format: FORMAT, layout: LAYOUT, written_by: "test".into(), written_ms: 7 }
}

/// What is said to be free at each look, in bytes.
type Looks = Arc<Mutex<VecDeque<Option<u64>>>>;

fn to_sink(sink: &Sink, free: &Looks, progress: &Progress) -> Export {
    let free = Arc::clone(free);
    Export {
        to: Box::new(sink.clone()),
        free_bytes: Box::new(move || free.lock().unwrap().pop_front().flatten()),
        header: header(),
        progress: progress.clone(),
    }
}

/// One of each state, an hour apart, the parked one of another destination's name.
async fn filled(rig: &Rig) -> Addr<Outbox> {
    let outbox = rig.start();
    for n in 0..4 {
        enqueue(&outbox, submission("p", vec![7; 10 + n])).await.unwrap();
        tokio::time::sleep(Duration::from_secs(40 * 60)).await;
    }
    settle(&outbox, 1, Event::Refuse).await;
    let hold = Operate { entry: "ward/2".parse().unwrap(), event: Event::Hold };
    outbox.send(hold).await.unwrap().unwrap();
    outbox
}

fn long_lived() -> Rig {
    let agreement =
        ServiceAgreement { lifetime: Lifetime::of(SignedDuration::from_hours(100)), ..ServiceAgreement::default() };
    Rig { registry: ToyRegistry(snapshot(vec![destination("ward", agreement)])).start().recipient(), ..Rig::new() }
}

#[actix::test]
async fn what_waits_is_counted_by_state_and_age() {
    tokio::time::pause();
    let rig = long_lived();
    let outbox = filled(&rig).await;
    let counted = outbox.send(CountStats).await.unwrap().unwrap();
    let [ward] = &counted.destinations[..] else { panic!("{counted:?}") };
    assert_eq!((ward.queued, ward.held, ward.parked, ward.dead), (2, 1, 0, 1));
    assert_eq!((ward.body_bytes, ward.by_age), (10 + 11 + 12 + 13, [1, 3, 0, 0]));
    assert_eq!(ward.oldest_s.map(|age| age / 60), Some(160));
    assert_eq!(counted.records, rig.store.contents().len() as u64);
    assert!(counted.held_bytes > 0 && counted.disk_bytes > 0);
    // Of a store that no gateway has open: as of its last commit.
    let stored = stats(&*rig.store, None).unwrap();
    assert_eq!((stored.destinations[0].queued, stored.destinations[0].by_age), (2, [1, 3, 0, 0]));
}

#[actix::test]
async fn an_export_beside_the_writer_is_the_whole_outbox_and_says_how_far_it_is() {
    tokio::time::pause();
    let rig = long_lived();
    let outbox = filled(&rig).await;
    let (sink, progress) = (Sink::default(), Progress::default());
    let free = Arc::new(Mutex::new(VecDeque::from([Some(u64::MAX), None])));
    let message = to_sink(&sink, &free, &progress);
    let exported = outbox.send(message).await.unwrap().unwrap();
    let bytes = sink.bytes.lock().unwrap().clone();
    let mut importer = Importer::begin(&bytes[..]).unwrap();
    let mut found = std::collections::BTreeMap::new();
    while let Some((key, value)) = importer.next_pair().unwrap() {
        found.insert(key, value);
    }
    assert_eq!(found, rig.store.contents());
    assert_eq!((exported.records, progress.look().done, progress.look().of), (8, 8, 8));

    let full = outbox.send(to_sink(&Sink { is_full: true, ..sink }, &free, &progress)).await.unwrap();
    assert!(matches!(full, Err(ExportFailed::Output { kind: ErrorKind::StorageFull, .. })), "{full:?}");
    let checked = outbox.send(Check { progress: Progress::default() }).await.unwrap().unwrap();
    assert_eq!((checked.problems, checked.waiting, checked.accepted), (vec![], 4, 4));
}

#[actix::test]
async fn an_export_is_refused_where_it_would_take_the_room_that_is_to_stay_free_also_on_its_way() {
    tokio::time::pause();
    let rig = long_lived();
    let outbox = filled(&rig).await;
    let held = rig.store.held();
    let size = held.bytes + 12 * held.pairs;
    let least = size + Limits::default().min_free_disk;
    for (looks, written) in [(vec![least - 1], false), (vec![least, least - 1], true)] {
        let sink = Sink::default();
        let free = Arc::new(Mutex::new(looks.into_iter().map(Some).collect()));
        let refused = outbox.send(to_sink(&sink, &free, &Progress::default())).await.unwrap().unwrap_err();
        let ExportFailed::Store(StoreError::Refused(why)) = refused else { panic!("{refused:?}") };
        assert!(why.contains("outbox.min_free_disk"), "{why}");
        assert_eq!(!sink.bytes.lock().unwrap().is_empty(), written);
    }
    let (sink, free) = (Sink::default(), Arc::new(Mutex::new([Some(least); 2].into())));
    outbox.send(to_sink(&sink, &free, &Progress::default())).await.unwrap().unwrap();
    // Beside the records there are a header and an end.
    assert!((size..size + 200).contains(&(sink.bytes.lock().unwrap().len() as u64)));
}

#[actix::test]
async fn one_counts_at_a_time() {
    tokio::time::pause();
    let rig = long_lived();
    let outbox = filled(&rig).await;
    let (one, other) = tokio::join!(outbox.send(CountStats), outbox.send(CountStats));
    assert!(one.unwrap().is_ok());
    assert!(matches!(other.unwrap(), Err(StoreError::Refused(_))));
    assert!(outbox.send(CountStats).await.unwrap().is_ok());
}

#[test]
fn it_is_time_above_a_multiple_of_what_is_held_and_later_where_much_goes_on() {
    let held = Held { pairs: 9, bytes: 1_000 };
    let limits = [
        (QUIET_FACTOR, ALLOWANCE_BYTES, Hour::Quiet),
        (BUSY_FACTOR, ALLOWANCE_BYTES, Hour::Busy),
        (SHORT_FACTOR, SHORT_ALLOWANCE_BYTES, Hour::Short),
    ];
    for (factor, allowance, hour) in limits {
        let limit = factor * held.bytes + allowance;
        assert!(!is_due(limit, held, hour) && is_due(limit + 1, held, hour));
    }
    assert!(!is_due(u64::MAX, Held { pairs: 1, bytes: u64::MAX }, Hour::Quiet));
    assert!(!would_close_intake(64 + 2_000, Held { pairs: 1, bytes: 1_000 }, 64));
    assert!(would_close_intake(64 + 1_999, Held { pairs: 1, bytes: 1_000 }, 64));
}

#[actix::test]
async fn files_that_are_too_large_are_written_anew_once_and_a_failure_is_tried_again_an_hour_later() {
    tokio::time::pause();
    let rig = long_lived();
    let outbox = rig.start();
    ready(&outbox).await;
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert_eq!(rig.store.compactions(), 0, "they are small");
    rig.store.set_disk_bytes(ALLOWANCE_BYTES * 2);
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert_eq!(rig.store.compactions(), 1);
    rig.store.set_disk_bytes(ALLOWANCE_BYTES * 2);
    rig.store.fail_next_compaction(StoreError::Refused("no room".into()));
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert_eq!(rig.store.compactions(), 1, "it failed");
    tokio::time::sleep(Duration::from_secs(1_800)).await;
    assert_eq!(rig.store.compactions(), 2);
    // On a disk that is short less than that is worth it, and at once.
    rig.store.set_disk_bytes(SHORT_ALLOWANCE_BYTES * 2);
    rig.store.set_free_bytes(Some(Limits::default().min_free_disk));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(rig.store.compactions(), 3);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(rig.store.compactions(), 3, "it takes no more than it needs any more");
    // And when it is asked for.
    outbox.send(Compact { progress: Progress::default() }).await.unwrap().unwrap();
    assert_eq!(rig.store.compactions(), 4);
}
