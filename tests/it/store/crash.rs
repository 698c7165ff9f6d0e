//! kill -9, and the order of writes and syncs.

use super::{
    child::{self, ENTRIES, entry, last_round, removed_by},
    data_of, open_with,
};
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
    let prefix: Vec<&OsStr> = ["strace", "-f", "-y", "-s", "16", "-e", calls, "-o"].map(OsStr::new).to_vec();
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
    let log = format!("<{}>", log.display());
    // Calls that were interrupted in the trace by another thread's, by thread.
    let mut under_way: BTreeMap<&str, (bool, usize)> = BTreeMap::new();
    let (mut acks, mut written, mut sync_began, mut writes) = (0, 0, None, 0);
    for (at, line) in trace.lines().enumerate() {
        let (thread, call) = line.split_once(' ').unwrap_or((line, ""));
        let call = call.trim_start();
        let unfinished = call.contains("<unfinished ...>");
        let is_sync = call.starts_with("fdatasync(") && call.contains(&log);
        let is_write = call.starts_with("pwrite64(") && call.contains(&log);
        let ended = if call.starts_with("<... ") {
            under_way.remove(thread)
        } else if (is_sync || is_write) && unfinished {
            under_way.insert(thread, (is_sync, at));
            None
        } else {
            (is_sync || is_write).then_some((is_sync, at))
        };
        match ended {
            Some((true, began)) if call.ends_with("= 0") => sync_began = sync_began.max(Some(began)),
            Some((true, _)) => panic!("a sync failed: {line}"),
            Some((false, _)) => {
                written = at;
                writes += 1;
            }
            None => {}
        }
        if call.starts_with("write(1") && call.contains("\"ack ") {
            assert!(writes > 0, "nothing was written before {line}");
            assert!(under_way.values().all(|(is_sync, _)| *is_sync), "a write is under way at {line}");
            assert!(sync_began > Some(written), "the log was not synced before {line}");
            (acks, writes, sync_began) = (acks + 1, 0, None);
        }
    }
    acks
}
