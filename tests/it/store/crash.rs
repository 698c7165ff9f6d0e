//! kill -9, and the order of writes and syncs.

use super::{
    child::{self, ENTRIES, entry, last_round, removed_by},
    data_of, open_with,
};
use crate::strace::{self, Call};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use std::{collections::BTreeMap, ffi::OsStr, fs, path::Path, time::Duration};
use tidegate_actors::ports::outbox_store::OutboxStore;
use tidegate_schemas::config::file::OutboxEngine;

/// Checks that the store holds exactly what rounds 1 to `last` left.
pub fn check_rounds(store: &dyn OutboxStore, last: u64) {
    let mut model = BTreeMap::new();
    for round in 1..=last {
        model.extend((0..ENTRIES).map(|n| entry(round, n)));
        if let Some(removed) = removed_by(round) {
            for n in 0..ENTRIES {
                model.remove(&entry(removed, n).0);
            }
        }
    }
    let found: BTreeMap<_, _> = store.scan(b"m", b"n", usize::MAX, false).unwrap().into_iter().collect();
    assert!(found == model, "after round {last}: {} entries found, {} expected", found.len(), model.len());
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_is_torn_by_kill_9() {
    if let Some(dir) = child::folder() {
        return child::commits_until_it_is_killed(&dir);
    }
    kill_9(OutboxEngine::Sled);
    kill_9(OutboxEngine::Redb);
}

fn kill_9(engine: OutboxEngine) {
    const ROUNDS: u64 = 10;
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("outbox");
    let mut random = StdRng::seed_from_u64(9);
    let mut acked_total = 0;
    for _ in 0..ROUNDS {
        let test = "store::crash::nothing_acknowledged_is_lost_and_nothing_is_torn_by_kill_9";
        let mut process = child::start(&[], test, engine, &dir);
        let first: u64 = process.expect("ack ").parse().unwrap();
        std::thread::sleep(Duration::from_millis(random.random_range(0..200)));
        let acked = process.kill("ack ").last().map_or(first, |last| last.parse().unwrap());
        let store = open_with(engine, &dir).unwrap();
        let last = last_round(&*store);
        // The one under way when it was killed may be there, but no other.
        assert!(last == acked || last == acked + 1, "{acked} acknowledged, {last} found");
        check_rounds(&*store, last);
        acked_total = acked;
    }
    assert!(acked_total > ROUNDS, "it did something: {acked_total}");
}

#[test]
fn a_commit_returns_only_after_its_log_is_synced() {
    if let Some(dir) = child::folder() {
        return child::commits_forty_times(&dir);
    }
    synced(OutboxEngine::Sled);
    synced(OutboxEngine::Redb);
}

fn synced(engine: OutboxEngine) {
    let folder = tempfile::tempdir().unwrap();
    let (dir, trace) = (folder.path().join("outbox"), folder.path().join("trace"));
    let calls = "trace=pwrite64,write,fdatasync,fsync";
    let prefix: Vec<&OsStr> = ["strace", "-f", "-y", "-s", "4096", "-e", calls, "-o"].map(OsStr::new).to_vec();
    let prefix = [prefix, vec![trace.as_os_str()]].concat();
    child::start(&prefix, "store::crash::a_commit_returns_only_after_its_log_is_synced", engine, &dir).expect("done");
    let acks = check_trace(&fs::read_to_string(&trace).unwrap(), &dir.join(data_of(engine)));
    assert_eq!(acks, 41);
    // The check can fail: the same trace without its syncs.
    let unsynced: String = fs::read_to_string(&trace)
        .unwrap()
        .lines()
        .filter(|line| !line.contains("sync"))
        .flat_map(|l| [l, "\n"])
        .collect();
    assert!(std::panic::catch_unwind(|| check_trace(&unsynced, &dir.join(data_of(engine)))).is_err());
}

/// Reads a trace: between two acknowledgements there are writes to the log, and a sync of it that began after the last of them
/// had ended, and ended before the acknowledgement. Returns the number of acknowledgements.
fn check_trace(trace: &str, log: &Path) -> usize {
    let calls = strace::calls(trace);
    let syncs: Vec<_> = calls.iter().filter(|call| call.is_sync() && call.is_of(log)).collect();
    assert!(syncs.iter().all(|sync| sync.result == Some(0)), "a sync failed");
    let says = |call: &&Call| call.name == "write" && call.first.starts_with("1<") && call.bytes().starts_with(b"ack ");
    let (mut acks, mut before) = (0, 0);
    for ack in calls.iter().filter(says) {
        let since = |call: &&Call| (before..ack.began).contains(&call.began);
        let writes = calls.iter().filter(since).filter(|call| call.name == "pwrite64" && call.is_of(log));
        let written = writes.map(|write| write.ended).max().expect("something was written");
        assert!(written < ack.began, "a write is under way at line {}", ack.began);
        let is_synced = syncs.iter().any(|sync| written < sync.began && sync.ended < ack.began);
        assert!(is_synced, "the log was not synced before line {}", ack.began);
        (acks, before) = (acks + 1, ack.ended);
    }
    acks
}
