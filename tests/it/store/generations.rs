//! A store that is written anew: smaller, whole, at whatever moment it is killed, and left as it was where that can't be done.

use super::{OnDisk, child, crash, crashed_copy, data_of, open_with, some_pairs};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use std::{fs, path::Path, time::Duration};
use tidegate_actors::ports::outbox_store::{Batch, OutboxStore, Pair};
use tidegate_schemas::{config::file::OutboxEngine, messages::outbox::StoreError};

const ENGINES: [OutboxEngine; 2] = [OutboxEngine::Sled, OutboxEngine::Redb];

fn all(store: &dyn OutboxStore) -> Vec<Pair> {
    store.scan(&[0], &[255; 5], usize::MAX, false).unwrap()
}

/// Puts so many values of 1,000 bytes, and removes all but the last hundred again.
fn churn(store: &dyn OutboxStore, values: u32) {
    let batch = |from: u32, put: bool| {
        let value = |n: u32| put.then(|| n.to_be_bytes().repeat(250));
        Batch { changes: (from..from + 100).map(|n| (n.to_be_bytes().to_vec(), value(n))).collect() }
    };
    for from in (0..values).step_by(100) {
        store.commit(&batch(from, true)).unwrap();
    }
    for from in (0..values - 100).step_by(100) {
        store.commit(&batch(from, false)).unwrap();
    }
}

#[test]
fn what_was_removed_takes_no_room_any_more() {
    for engine in ENGINES {
        let mut fixture = OnDisk::on(engine);
        let store = fixture.store.clone().unwrap();
        churn(&*store, 20_000);
        let (before, held) = (store.disk_bytes(), all(&*store));
        let mut heard = 0;
        store.compact(&mut |pairs| heard += pairs).unwrap();
        assert_eq!(heard, held.len() as u64, "its progress");
        assert!(before > 8 << 20 && store.disk_bytes() < 4 << 20, "{before} and {}", store.disk_bytes());
        assert_eq!(all(&*store), held);
        assert!(!fixture.dir().join(data_of(engine)).exists(), "the old file is gone");
        store.commit(&some_pairs(0..3)).unwrap();
        let held = all(&*store);
        drop(store);
        fixture.store = None;
        let store = open_with(engine, &fixture.dir()).unwrap();
        assert_eq!(all(&*store), held, "after a restart");
        let other = ENGINES.into_iter().find(|other| *other != engine).unwrap();
        drop(store);
        let refused = open_with(other, &fixture.dir()).unwrap_err().to_string();
        assert!(refused.contains("layout=2"), "{refused}");
    }
}

#[test]
fn a_second_walk_is_refused_and_a_commit_is_not() {
    let fixture = OnDisk::new();
    let store = fixture.store.clone().unwrap();
    store.commit(&some_pairs(0..10)).unwrap();
    let mut refused = Vec::new();
    let seen = store.snapshot(&mut |_| {
        refused.push(store.compact(&mut |_| {}));
        refused.push(store.snapshot(&mut |_| Ok(())));
        store.commit(&some_pairs(10..12))
    });
    assert_eq!(seen, Ok(()));
    assert!(refused.iter().all(|refused| matches!(refused, Err(StoreError::Refused(_)))), "{refused:?}");
    store.compact(&mut |_| {}).unwrap();
    assert_eq!(all(&*store).len(), 12);
    // Closed in the middle of it, a walk ends.
    let ended = store.snapshot(&mut |_| store.close());
    assert_eq!(ended, Err(StoreError::Poisoned));
    assert_eq!(store.compact(&mut |_| {}), Err(StoreError::Poisoned));
    store.reopen().unwrap();
    assert_eq!(all(&*store).len(), 12);
}

#[test]
fn what_lies_beside_the_generation_that_counts_is_removed() {
    for engine in ENGINES {
        let mut fixture = OnDisk::on(engine);
        let dir = fixture.dir();
        let store = fixture.store.take().unwrap();
        churn(&*store, 500);
        // What a crash leaves in the middle of the first rewriting, and at the end of the second one.
        let first = fixture.folder.path().join("first");
        crashed_copy(&dir, &first);
        fs::create_dir(first.join("generation-1")).unwrap();
        fs::write(first.join("generation-1").join(data_of(engine)), "half of it").unwrap();
        fs::create_dir(first.join("generation-x")).unwrap();
        let held = all(&*store);
        store.compact(&mut |_| {}).unwrap();
        drop(store);
        for name in fs::read_dir(&first).unwrap().map(|entry| entry.unwrap().file_name()) {
            if name.to_str().unwrap().starts_with("snap.") || name.to_str() == Some(data_of(engine)) {
                fs::copy(first.join(&name), dir.join(&name)).unwrap();
            }
        }
        for (dir, generation) in [(first, 0), (dir, 1)] {
            let store = open_with(engine, &dir).unwrap();
            assert_eq!(all(&*store), held);
            assert_eq!(dir.join(data_of(engine)).exists(), generation == 0);
            assert_eq!(dir.join("generation-1").exists(), generation == 1);
            assert_eq!(dir.join("generation-x").exists(), generation == 0, "not ours: left alone");
        }
    }
}

#[test]
fn where_it_cannot_be_written_it_stays_as_it_was() {
    for engine in ENGINES {
        let mut fixture = OnDisk::on(engine);
        let store = fixture.store.clone().unwrap();
        churn(&*store, 1_000);
        let held = all(&*store);
        let draft = fixture.dir().join("FORMAT.new");
        fs::create_dir(&draft).unwrap();
        // A new marker can't be written: the old one counts.
        assert!(matches!(store.compact(&mut |_| {}), Err(StoreError::Io(_))));
        assert!(!fixture.dir().join("generation-1").exists());
        store.commit(&some_pairs(0..1)).unwrap();
        store.commit(&Batch { changes: vec![(some_pairs(0..1).changes.remove(0).0, None)] }).unwrap();
        fs::remove_dir(&draft).unwrap();
        assert_eq!(all(&*store), held);
        // A folder in its way that is no folder.
        fs::write(fixture.dir().join("generation-1"), "").unwrap();
        assert!(matches!(store.compact(&mut |_| {}), Err(StoreError::Io(_))));
        store.commit(&some_pairs(0..1)).unwrap();
        fs::remove_file(fixture.dir().join("generation-1")).unwrap();
        store.compact(&mut |_| {}).unwrap();
        let held = all(&*store);
        drop(store);
        fixture.store = None;
        assert_eq!(all(&*open_with(engine, &fixture.dir()).unwrap()), held);
    }
}

#[test]
fn where_it_is_not_known_which_one_counts_both_are_kept_until_it_is() {
    for engine in ENGINES {
        for turned in [false, true] {
            let mut fixture = OnDisk::on(engine);
            let store = fixture.store.clone().unwrap();
            churn(&*store, 1_000);
            let held = all(&*store);
            let [marker, aside, next] = ["FORMAT", "aside", "generation-1"].map(|name| fixture.dir().join(name));
            // The marker can't be replaced, neither by a new one nor by the old one.
            fs::rename(&marker, &aside).unwrap();
            fs::create_dir(&marker).unwrap();
            assert!(matches!(store.compact(&mut |_| {}), Err(StoreError::Io(_))));
            assert_eq!(store.commit(&some_pairs(0..1)), Err(StoreError::Poisoned));
            assert_eq!(store.compact(&mut |_| {}), Err(StoreError::Poisoned), "the next generation may be the one");
            assert!(matches!(store.reopen(), Err(StoreError::Io(_))), "nor can it be made sure of");
            assert!(next.join(data_of(engine)).exists());
            fs::remove_dir(&marker).unwrap();
            let said = fs::read_to_string(&aside).unwrap();
            let says = if turned { said.replace("layout=1", "layout=2") + "generation=1\n" } else { said };
            fs::write(&marker, says).unwrap();
            fs::remove_file(&aside).unwrap();
            store.reopen().unwrap();
            assert_eq!(all(&*store), held);
            store.commit(&some_pairs(0..1)).unwrap();
            store.compact(&mut |_| {}).unwrap();
            let held = all(&*store);
            drop(store);
            fixture.store = None;
            assert_eq!(all(&*open_with(engine, &fixture.dir()).unwrap()), held);
        }
    }
}

#[test]
fn kill_9_while_it_is_written_anew_loses_nothing() {
    if let Some(dir) = child::folder() {
        return child::commits_and_compacts_until_it_is_killed(&dir);
    }
    for engine in ENGINES {
        let folder = tempfile::tempdir().unwrap();
        let killed = kills(engine, &folder.path().join("outbox"));
        assert!(killed > 2, "{killed} of the kills came when it had been written anew");
    }
}

/// Kills it again and again; after how many of the kills another generation counted.
fn kills(engine: OutboxEngine, dir: &Path) -> u32 {
    let mut random = StdRng::seed_from_u64(5);
    let (mut turned, mut before) = (0, String::new());
    for round in 0..100 {
        if round >= 12 && turned > 2 {
            break;
        }
        let test = "store::generations::kill_9_while_it_is_written_anew_loses_nothing";
        let mut process = child::start(&[], test, engine, dir);
        let first: u64 = process.expect("ack ").parse().unwrap();
        std::thread::sleep(Duration::from_millis(random.random_range(0..250)));
        let acked = process.kill("ack ").last().map_or(first, |last| last.parse().unwrap());
        let format = fs::read_to_string(dir.join("FORMAT")).unwrap();
        turned += u32::from(format != before);
        before = format;
        let store = open_with(engine, dir).unwrap();
        let last = child::last_round(&*store);
        assert!(last == acked || last == acked + 1, "{acked} acknowledged, {last} found");
        crash::check_rounds(&*store, last);
    }
    turned
}
