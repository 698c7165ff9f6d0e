//! The examination finds nothing where nothing is wrong, and whatever is missing, changed or out of place.

use super::*;
use crate::outbox::{
    examine::{Examined, examine},
    tools::stats,
};
use std::collections::BTreeMap;
use tidegate_schemas::{
    custody::ClockRecord,
    record::{self, EntryRecord, Meta, key},
    submission::Priority,
};

type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

fn look(contents: Contents) -> Examined {
    examine(&MemoryStore::with_contents(1, contents), &Progress::default()).unwrap()
}

/// Queued, held, parked, dead, urgent, in parts, delivered, quarantined: one at least of each.
async fn filled() -> Contents {
    let rig = Rig::new();
    let outbox = rig.start();
    let sent = [
        submission("a", "x"),
        submission("a", vec![7; 20_000]),
        Submission { priority: Priority::High, ..submission("b", "x") },
        submission("b", "x"),
        submission("c", "x"),
        submission("c", "x"),
    ];
    for submission in sent {
        enqueue(&outbox, submission).await.unwrap();
    }
    operate(&outbox, 4, Event::Hold).await.unwrap();
    settle(&outbox, 5, Event::Refuse).await;
    settle(&outbox, 6, Event::Deliver).await;
    outbox.send(Shutdown).await.unwrap();
    while outbox.connected() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    rig.store.contents()
}

#[actix::test]
async fn a_store_of_ours_has_no_problem() {
    let found = look(filled().await);
    assert_eq!(found.problems, Vec::<String>::new());
    let held = &found.destinations[0];
    assert_eq!((held.queued, held.aside, held.by_age, found.ledger), (3, 2, [5, 0, 0, 0], 2));
    assert_eq!(look(Contents::new()), Examined::default(), "nor has an empty one");
}

#[actix::test]
async fn a_stop_that_makes_no_message_older_is_left_out_of_ages_as_it_is_where_they_are_counted() {
    const STOP_MS: u64 = 2 * 3_600_000;
    let mut contents = filled().await;
    let mut meta: Meta = record::decode(&key::META, &contents[&key::META[..]]).unwrap();
    meta.custody_ms += STOP_MS;
    let mut clock = ClockRecord::default();
    clock.add_stop(meta.custody_ms, STOP_MS);
    for (clock, by_age) in [(ClockRecord::default(), [0, 5, 0, 0]), (clock, [5, 0, 0, 0])] {
        contents.insert(key::META.to_vec(), record::encode(&key::META, &meta));
        contents.insert(key::CLOCK.to_vec(), record::encode(&key::CLOCK, &clock));
        assert_eq!(look(contents.clone()).destinations[0].by_age, by_age);
        let counted = stats(&MemoryStore::with_contents(1, contents.clone()), None).unwrap();
        assert_eq!(counted.destinations[0].by_age, by_age);
    }
}

#[actix::test]
async fn a_record_that_is_missing_or_changed_is_found() {
    let contents = filled().await;
    for (at, value) in &contents {
        // A mark has no value.
        if !value.is_empty() {
            let mut other = contents.clone();
            other.get_mut(at).unwrap()[value.len() / 2] ^= 1;
            assert!(look(other).problems_total > 0, "{at:?} changed");
        }
        let mut less = contents.clone();
        less.remove(at);
        // What the clocks remember, serial numbers and the ledger's records may be missing for good reasons.
        let may_miss = matches!(at[0], 1 | 2 | b'l' | b'p' | b'u');
        assert_eq!(look(less).problems_total > 0, !may_miss, "{at:?} missing");
    }
}

#[actix::test]
async fn what_is_out_of_place_is_found() {
    let contents = filled().await;
    let (at, value) = contents.iter().find(|(at, _)| at[0] == b'm').unwrap();
    let entry: EntryRecord = record::decode(at, value).unwrap();
    let mut state = contents.clone();
    let held = EntryRecord { state: EntryState::Held, ..entry.clone() };
    state.insert(at.clone(), record::encode(at, &held));
    assert!(look(state).problems.iter().any(|problem| problem.contains("lies with the others")));
    let mut more = contents.clone();
    let nowhere = key::queued(9, 1);
    more.insert(nowhere.clone(), record::encode(&nowhere, &entry));
    assert!(look(more).problems.iter().any(|problem| problem.contains("belongs to no destination")));
    let mut unknown = contents;
    unknown.insert(b"zzz".to_vec(), vec![1, 2, 3]);
    assert!(look(unknown).problems.iter().any(|problem| problem.contains("unknown kind")));
}

#[actix::test]
async fn an_import_that_did_not_come_to_its_end_is_opened_by_no_outbox() {
    tokio::time::pause();
    let mut contents = filled().await;
    contents.remove(&key::META[..]);
    assert!(look(contents.clone()).problems[0].contains("did not come to its end"));
    let rig = Rig { store: Arc::new(MemoryStore::with_contents(1, contents.clone())), ..Rig::new() };
    let outbox = rig.start();
    while outbox.connected() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(rig.store.contents(), contents, "and nothing was touched");
}
