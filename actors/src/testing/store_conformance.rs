//! What every outbox store must do: one suite, run over the memory store here and over the real one in the integration tests.
//!
//! [`run`] checks the sentences of the port one by one; [`replay`] compares a sequence of random steps with a `BTreeMap`. Both
//! panic with the sentence that is broken: they are called from tests alone.

use super::memory_store::MemoryStore;
use crate::ports::outbox_store::{BATCH_BYTES_MAX, Batch, OutboxStore, Pair, VALUE_BYTES_MAX};
use std::{collections::BTreeMap, sync::Arc};
use tidegate_schemas::messages::outbox::StoreError;

/// A store under test, and the way to end its process and begin another.
pub trait Fixture {
    /// The open store.
    fn store(&self) -> Arc<dyn OutboxStore>;
    /// Closes the store and opens it again, as a new process does.
    fn restart(&mut self);
}

impl Fixture for Arc<MemoryStore> {
    fn store(&self) -> Arc<dyn OutboxStore> {
        self.clone()
    }
    fn restart(&mut self) {
        MemoryStore::restart(self);
    }
}

/// Checks every sentence of the port, each on a fresh store that `make` returns.
///
/// # Panics
/// When one doesn't hold.
pub fn run<F: Fixture>(make: impl Fn() -> F) {
    for check in [
        what_is_put_is_read,
        keys_are_ordered_by_their_bytes,
        the_later_change_of_a_key_wins,
        scans_keep_their_bounds_and_limit,
        long_scans_are_whole,
        a_restart_keeps_everything,
        limits_refuse_and_change_nothing,
        reopening_a_healthy_store_does_nothing,
        a_snapshot_is_of_one_moment,
        a_store_is_written_anew_while_commits_go_on,
    ] {
        check(&mut make());
    }
}

/// One step of a random history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Commits these changes.
    Commit(Vec<(Vec<u8>, Option<Vec<u8>>)>),
    /// Reads one key.
    Get(Vec<u8>),
    /// Reads a range.
    Scan {
        /// First key.
        from: Vec<u8>,
        /// The key after the last.
        to: Vec<u8>,
        /// Most pairs.
        limit: usize,
        /// From the back.
        backwards: bool,
    },
    /// Calls `reopen`.
    Reopen,
    /// Takes a snapshot, with these changes committed in the middle.
    Snapshot(Vec<(Vec<u8>, Option<Vec<u8>>)>),
    /// Has the store written anew.
    Compact,
    /// Ends the process and begins another.
    Restart,
}

impl Step {
    /// A step from any four numbers, so that a property test needs no strategy of its own. Few keys, so that they meet again.
    #[must_use]
    pub fn from_numbers([kind, a, b, c]: [u16; 4]) -> Self {
        let changes = || {
            let change = |n: u16| {
                let key = key_of(b.wrapping_add(n.wrapping_mul(7)));
                (key, (c.wrapping_add(n) % 4 != 0).then(|| value_of(c, n)))
            };
            (0..=a % 24).map(change).collect()
        };
        match kind % 18 {
            0..=7 => Self::Commit(changes()),
            15 => Self::Snapshot(changes()),
            16 => Self::Compact,
            8..=10 => Self::Get(key_of(a)),
            11..=13 => {
                Self::Scan { from: key_of(a), to: key_of(b), limit: usize::from(c % 40), backwards: c & 0x100 != 0 }
            }
            14 => Self::Reopen,
            _ => Self::Restart,
        }
    }
}

/// Keys of one to three bytes, some of them prefixes of others, some with the extreme bytes.
fn key_of(number: u16) -> Vec<u8> {
    let [high, low] = number.to_be_bytes();
    let first = [0, b'd', b'm', 255][usize::from(low % 4)];
    match low / 4 % 3 {
        0 => vec![first],
        1 => vec![first, high % 16],
        _ => vec![first, high % 16, 255],
    }
}

fn value_of(seed: u16, n: u16) -> Vec<u8> {
    let length = [0, 1, 100, 700, VALUE_BYTES_MAX][usize::from(seed.wrapping_mul(31).wrapping_add(n) % 5)];
    let [high, low] = seed.wrapping_add(n).to_be_bytes();
    [high, low].iter().copied().cycle().take(length).collect()
}

/// Does the steps on the store and on a map, and compares what they say; all of the contents at the end.
///
/// # Panics
/// When they differ.
pub fn replay(fixture: &mut dyn Fixture, steps: &[Step]) {
    let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    for step in steps {
        let store = fixture.store();
        match step {
            Step::Commit(changes) => {
                assert_eq!(store.commit(&Batch { changes: changes.clone() }), Ok(()), "commit");
                apply(&mut model, changes);
            }
            Step::Snapshot(changes) => {
                let (seen, expected) = (snapshot(&*store, changes), model.clone());
                if !expected.is_empty() {
                    apply(&mut model, changes);
                }
                assert_eq!(seen, expected.into_iter().collect::<Vec<Pair>>(), "snapshot");
            }
            Step::Compact => assert_eq!(store.compact(&mut |_| {}), Ok(()), "compact"),
            Step::Get(key) => assert_eq!(store.get(key), Ok(model.get(key).cloned()), "get {key:?}"),
            Step::Scan { from, to, limit, backwards } => {
                let expected = scan_of(&model, from, to, *limit, *backwards);
                assert_eq!(store.scan(from, to, *limit, *backwards), Ok(expected), "{step:?}");
            }
            Step::Reopen => assert_eq!(store.reopen(), Ok(()), "reopen"),
            Step::Restart => {
                drop(store);
                fixture.restart();
            }
        }
    }
    let all = fixture.store().scan(&[0], &[255, 255, 255, 255], usize::MAX, false);
    assert_eq!(all, Ok(model.into_iter().collect::<Vec<Pair>>()), "the contents at the end");
}

fn apply(model: &mut BTreeMap<Vec<u8>, Vec<u8>>, changes: &[(Vec<u8>, Option<Vec<u8>>)]) {
    for (key, value) in changes {
        match value {
            Some(value) => model.insert(key.clone(), value.clone()),
            None => model.remove(key),
        };
    }
}

/// All pairs of a snapshot; with the first of them these changes are committed.
fn snapshot(store: &dyn OutboxStore, changes: &[(Vec<u8>, Option<Vec<u8>>)]) -> Vec<Pair> {
    let (mut seen, mut to_commit) = (Vec::new(), Some(Batch { changes: changes.to_vec() }));
    let mut each = |pairs: Vec<Pair>| {
        seen.extend(pairs);
        to_commit.take_if(|_| !seen.is_empty()).map_or(Ok(()), |batch| store.commit(&batch))
    };
    assert_eq!(store.snapshot(&mut each), Ok(()), "a snapshot");
    seen
}

fn scan_of(model: &BTreeMap<Vec<u8>, Vec<u8>>, from: &[u8], to: &[u8], limit: usize, backwards: bool) -> Vec<Pair> {
    let inside = |(key, _): &(&Vec<u8>, &Vec<u8>)| key.as_slice() >= from && key.as_slice() < to;
    let mut pairs: Vec<Pair> = model.iter().filter(inside).map(|(key, value)| (key.clone(), value.clone())).collect();
    if backwards {
        pairs.reverse();
    }
    pairs.truncate(limit);
    pairs
}

fn batch(changes: &[(&[u8], Option<&[u8]>)]) -> Batch {
    Batch { changes: changes.iter().map(|(key, value)| (key.to_vec(), value.map(<[u8]>::to_vec))).collect() }
}

fn keys(pairs: Result<Vec<Pair>, StoreError>) -> Result<Vec<Vec<u8>>, StoreError> {
    pairs.map(|pairs| pairs.into_iter().map(|(key, _)| key).collect())
}

fn what_is_put_is_read<F: Fixture>(fixture: &mut F) {
    let store = fixture.store();
    assert_eq!(store.get(b"a"), Ok(None), "a new store is empty");
    assert_eq!(store.scan(&[0], &[255, 255], 10, false), Ok(vec![]), "a new store is empty");
    assert_eq!(store.commit(&Batch::default()), Ok(()), "an empty batch is no error");
    assert_eq!(store.commit(&batch(&[(b"a", Some(b"1")), (b"b", Some(b""))])), Ok(()));
    assert_eq!(store.get(b"a"), Ok(Some(b"1".to_vec())));
    assert_eq!(store.get(b"b"), Ok(Some(Vec::new())), "an empty value is a value");
    assert_eq!(store.commit(&batch(&[(b"a", None), (b"none", None)])), Ok(()), "removing what isn't there is no error");
    assert_eq!(store.get(b"a"), Ok(None), "removed");
    assert_eq!(store.get(b""), Ok(None), "the empty key is no key");
}

fn keys_are_ordered_by_their_bytes<F: Fixture>(fixture: &mut F) {
    let store = fixture.store();
    let changes = [&[2_u8][..], &[1, 255], &[1], &[1, 0], &[255, 0], &[0]].map(|key| (key.to_vec(), Some(vec![1])));
    assert_eq!(store.commit(&Batch { changes: changes.to_vec() }), Ok(()));
    let expected: Vec<Vec<u8>> = vec![vec![0], vec![1], vec![1, 0], vec![1, 255], vec![2], vec![255, 0]];
    assert_eq!(keys(store.scan(&[], &[255, 255], 10, false)), Ok(expected.clone()), "bytewise order");
    assert_eq!(keys(store.scan(&[], &[255, 255], 10, true)), Ok(expected.into_iter().rev().collect()), "backwards");
}

fn the_later_change_of_a_key_wins<F: Fixture>(fixture: &mut F) {
    let store = fixture.store();
    let changes = batch(&[(b"a", Some(b"1")), (b"b", None), (b"a", None), (b"b", Some(b"2")), (b"c", Some(b"3"))]);
    assert_eq!(store.commit(&changes), Ok(()));
    assert_eq!(store.get(b"a"), Ok(None), "put, then removed");
    assert_eq!(store.get(b"b"), Ok(Some(b"2".to_vec())), "removed, then put");
}

fn scans_keep_their_bounds_and_limit<F: Fixture>(fixture: &mut F) {
    let store = fixture.store();
    let changes = (0..20_u8).map(|n| (vec![b'm', n], Some(vec![n]))).collect();
    assert_eq!(store.commit(&Batch { changes }), Ok(()));
    let scan = |from: &[u8], to: &[u8], limit, backwards| {
        let pairs = store.scan(from, to, limit, backwards).expect("scan");
        pairs.into_iter().map(|(_, value)| value[0]).collect::<Vec<u8>>()
    };
    assert_eq!(scan(b"m\x05", b"m\x08", 10, false), [5, 6, 7], "from is included, to is not");
    assert_eq!(scan(b"m\x05", b"m\x08", 10, true), [7, 6, 5], "backwards, within the same bounds");
    assert_eq!(scan(b"m", b"n", 3, false), [0, 1, 2], "the limit, from the front");
    assert_eq!(scan(b"m", b"n", 3, true), [19, 18, 17], "the limit, from the back");
    assert!(scan(b"m", b"n", 0, false).is_empty(), "a limit of 0");
    assert!(scan(b"n", b"m", 10, false).is_empty(), "from after to");
    assert!(scan(b"m\x05", b"m\x05", 10, true).is_empty(), "from equal to to");
    assert!(scan(b"a", b"m", 10, false).is_empty(), "before all");
    assert!(scan(b"n", b"z", 10, true).is_empty(), "after all");
}

fn long_scans_are_whole<F: Fixture>(fixture: &mut F) {
    let store = fixture.store();
    let all: Vec<Vec<u8>> = (0..1_500_u16).map(|n| n.to_be_bytes().to_vec()).collect();
    for part in all.chunks(500) {
        let changes = part.iter().map(|key| (key.clone(), Some(key.clone()))).collect();
        assert_eq!(store.commit(&Batch { changes }), Ok(()));
    }
    assert_eq!(keys(store.scan(&[], &[255], usize::MAX, false)), Ok(all.clone()), "all, forwards");
    assert_eq!(keys(store.scan(&[], &[255], 1_000, false)), Ok(all[..1_000].to_vec()), "the first 1,000");
    let backwards: Vec<Vec<u8>> = all.iter().rev().cloned().collect();
    assert_eq!(keys(store.scan(&[], &[255], usize::MAX, true)), Ok(backwards.clone()), "all, backwards");
    assert_eq!(keys(store.scan(&[], &[255], 1_000, true)), Ok(backwards[..1_000].to_vec()), "the last 1,000");
}

fn a_restart_keeps_everything<F: Fixture>(fixture: &mut F) {
    for round in 0..5_u8 {
        assert_eq!(fixture.store().commit(&batch(&[(&[round], Some(&[round])), (b"last", Some(&[round]))])), Ok(()));
        fixture.restart();
        assert_eq!(fixture.store().get(b"last"), Ok(Some(vec![round])), "after restart {round}");
    }
    assert_eq!(keys(fixture.store().scan(&[0], &[5], 10, false)), Ok((0..5).map(|n| vec![n]).collect()));
}

fn limits_refuse_and_change_nothing<F: Fixture>(fixture: &mut F) {
    let store = fixture.store();
    let largest = vec![7; VALUE_BYTES_MAX];
    assert_eq!(store.commit(&batch(&[(b"a", Some(&largest))])), Ok(()), "the largest value");
    let full: Vec<_> =
        (0..63_u8).map(|n| (vec![n + 1], Some(vec![n; VALUE_BYTES_MAX]))).chain([(b"z".to_vec(), None)]).collect();
    assert_eq!(store.commit(&Batch { changes: full.clone() }), Ok(()), "a large batch");

    let too_large = vec![7; VALUE_BYTES_MAX + 1];
    let refused = [
        batch(&[(b"b", Some(b"1")), (b"a", Some(&too_large))]),
        batch(&[(b"b", Some(b"1")), (b"", Some(b"1"))]),
        Batch { changes: (0..=64_u8).map(|n| (vec![n + 1], Some(vec![n; BATCH_BYTES_MAX / 64]))).collect() },
    ];
    for (n, batch) in refused.iter().enumerate() {
        assert!(matches!(store.commit(batch), Err(StoreError::Io(_))), "refused batch {n}");
    }
    assert_eq!(store.get(b"b"), Ok(None), "nothing of a refused batch is there");
    assert_eq!(store.get(b"a"), Ok(Some(largest)));
    assert_eq!(store.commit(&batch(&[(b"b", Some(b"1"))])), Ok(()), "a refused batch doesn't poison");
}

fn reopening_a_healthy_store_does_nothing<F: Fixture>(fixture: &mut F) {
    let store = fixture.store();
    assert_eq!(store.commit(&batch(&[(b"a", Some(b"1"))])), Ok(()));
    assert_eq!(store.reopen(), Ok(()));
    assert_eq!(store.get(b"a"), Ok(Some(b"1".to_vec())));
    assert!(store.disk_bytes() > 0, "it takes room on the disk");
}

fn a_snapshot_is_of_one_moment<F: Fixture>(fixture: &mut F) {
    let store = fixture.store();
    let put = |keys: std::ops::Range<u16>, value: u8| {
        let changes = keys.map(|n| (n.to_be_bytes().to_vec(), Some(vec![value; 20]))).collect();
        assert_eq!(store.commit(&Batch { changes }), Ok(()));
    };
    put(0..1_000, 1);
    assert_eq!(store.held().pairs, 1_000);
    let changes: Vec<_> = (0..1_500_u16).filter(|n| n % 3 == 0).map(|n| (n.to_be_bytes().to_vec(), None)).collect();
    let seen = snapshot(&*store, &changes);
    let expected: Vec<Pair> = (0..1_000_u16).map(|n| (n.to_be_bytes().to_vec(), vec![1; 20])).collect();
    assert_eq!(seen, expected, "as it was when it began");
    assert_eq!(store.held().pairs, 666, "and the commit is there");
    let mut calls = 0;
    let stopped = store.snapshot(&mut |_| {
        calls += 1;
        Err(StoreError::Full)
    });
    assert_eq!((stopped, calls), (Err(StoreError::Full), 1), "an error of the reader ends it");
    assert_eq!(snapshot(&*store, &[]).len(), 666, "and the next one begins anew");
}

fn a_store_is_written_anew_while_commits_go_on<F: Fixture>(fixture: &mut F) {
    let store = fixture.store();
    let all = |n: u8| (0..60_u8).map(move |m| (vec![m, n], Some(vec![n; 200]))).collect();
    for n in 0..100 {
        assert_eq!(store.commit(&Batch { changes: all(n) }), Ok(()));
    }
    let gone = |n: u8| (0..60_u8).map(move |m| (vec![m, n], None)).collect();
    std::thread::scope(|scope| {
        let committing = scope.spawn(|| {
            for n in 0..95 {
                assert_eq!(store.commit(&Batch { changes: gone(n) }), Ok(()));
                assert_eq!(store.commit(&Batch { changes: all(n / 4 + 100) }), Ok(()));
            }
        });
        for _ in 0..4 {
            assert_eq!(store.compact(&mut |_| {}), Ok(()));
        }
        committing.join().expect("the commits");
    });
    let mut expected: Vec<Vec<u8>> = (0..60_u8).flat_map(|m| (95..124).map(move |n| vec![m, n])).collect();
    expected.sort();
    assert_eq!(keys(store.scan(&[0], &[255], usize::MAX, false)), Ok(expected.clone()), "everything is there, once");
    drop(store);
    fixture.restart();
    let store = fixture.store();
    assert_eq!(keys(store.scan(&[0], &[255], usize::MAX, false)), Ok(expected), "also after a restart");
    assert_eq!(store.compact(&mut |_| {}), Ok(()));
}
