//! An outbox store in memory, with the faults that a real disk has, on demand.
//!
//! What survives a restart of the "process" is what was committed. A fault is queued for a coming commit; a commit that meets
//! one fails as the port says: its outcome is unknown to the caller, reads and writes fail with `Poisoned` until
//! [`OutboxStore::reopen`].

use crate::ports::outbox_store::{BATCH_BYTES_MAX, Batch, Held, OutboxStore, Pair, VALUE_BYTES_MAX};
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tidegate_schemas::messages::outbox::StoreError;

/// Pairs that a snapshot hands over at a time.
const SNAPSHOT_PAIRS: usize = 256;

/// What goes wrong with one commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitFault {
    /// The disk is full; the batch is not there.
    Full,
    /// Input or output failed; the batch is not there.
    Io,
    /// Input or output failed; the store's seed decides whether the batch is there after reopening.
    Unknown,
    /// The power went before the flush; the batch is not there.
    LostBeforeFlush,
}

/// Called before a commit, on the thread that commits: where a test makes it slow, or waits for its moment.
pub type CommitHook = Arc<dyn Fn(&Batch) + Send + Sync>;

/// A store in memory.
pub struct MemoryStore {
    state: Mutex<State>,
}

struct State {
    durable: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Of its keys and values: every look at its size would count them.
    bytes: u64,
    poisoned: bool,
    faults: VecDeque<CommitFault>,
    reopen_faults: VecDeque<StoreError>,
    random: StdRng,
    hook: Option<CommitHook>,
    commits: u64,
    reopens: u64,
    free_bytes: Option<u64>,
    disk_bytes: Option<u64>,
    compactions: u64,
    compact_faults: VecDeque<StoreError>,
}

impl MemoryStore {
    /// An empty store; the seed decides what [`CommitFault::Unknown`] did.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with_contents(seed, BTreeMap::new())
    }

    /// A store that holds this already: another process left it.
    #[must_use]
    pub fn with_contents(seed: u64, durable: BTreeMap<Vec<u8>, Vec<u8>>) -> Self {
        let bytes = durable.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum();
        Self {
            state: Mutex::new(State {
                durable,
                bytes,
                poisoned: false,
                faults: VecDeque::new(),
                reopen_faults: VecDeque::new(),
                random: StdRng::seed_from_u64(seed),
                hook: None,
                commits: 0,
                reopens: 0,
                free_bytes: None,
                disk_bytes: None,
                compactions: 0,
                compact_faults: VecDeque::new(),
            }),
        }
    }

    /// The next `commits` commits (after those that already have a fault waiting) fail in this way.
    pub fn fail_next(&self, commits: usize, fault: CommitFault) {
        self.lock().faults.extend(std::iter::repeat_n(fault, commits));
    }

    /// The next call of `reopen` that has something to do fails with this.
    pub fn fail_next_reopen(&self, error: StoreError) {
        self.lock().reopen_faults.push_back(error);
    }

    /// Faults that have not happened yet.
    #[must_use]
    pub fn faults_waiting(&self) -> usize {
        self.lock().faults.len()
    }

    /// Sets what is called before each commit.
    pub fn on_commit(&self, hook: CommitHook) {
        self.lock().hook = Some(hook);
    }

    /// Says how much room the "disk" has; it is not held to that.
    pub fn set_free_bytes(&self, bytes: Option<u64>) {
        self.lock().free_bytes = bytes;
    }

    /// Says how much of the "disk" it takes, until it is compacted.
    pub fn set_disk_bytes(&self, bytes: u64) {
        self.lock().disk_bytes = Some(bytes);
    }

    /// The next compaction fails with this.
    pub fn fail_next_compaction(&self, error: StoreError) {
        self.lock().compact_faults.push_back(error);
    }

    /// Times that it was compacted.
    #[must_use]
    pub fn compactions(&self) -> u64 {
        self.lock().compactions
    }

    /// The process ends and begins again: what was committed is there, nothing else; the store is open.
    pub fn restart(&self) {
        self.lock().poisoned = false;
    }

    /// Commits that succeeded.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.lock().commits
    }

    /// Times that a poisoned store was opened again.
    #[must_use]
    pub fn reopens(&self) -> u64 {
        self.lock().reopens
    }

    /// All that is on the "disk".
    #[must_use]
    pub fn contents(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        self.lock().durable.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("MemoryStore")
            .field("pairs", &state.durable.len())
            .field("poisoned", &state.poisoned)
            .field("commits", &state.commits)
            .finish_non_exhaustive()
    }
}

impl State {
    fn readable(&self) -> Result<(), StoreError> {
        if self.poisoned { Err(StoreError::Poisoned) } else { Ok(()) }
    }

    fn apply(&mut self, batch: &Batch) {
        for (key, value) in &batch.changes {
            let earlier = match value {
                Some(value) => {
                    self.bytes += (key.len() + value.len()) as u64;
                    self.durable.insert(key.clone(), value.clone())
                }
                None => self.durable.remove(key),
            };
            self.bytes -= earlier.map_or(0, |value| (key.len() + value.len()) as u64);
        }
    }
}

impl OutboxStore for MemoryStore {
    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        let hook = self.lock().hook.clone();
        if let Some(hook) = hook {
            hook(batch);
        }
        let mut state = self.lock();
        state.readable()?;
        check_limits(batch)?;
        let Some(fault) = state.faults.pop_front() else {
            state.apply(batch);
            state.commits += 1;
            return Ok(());
        };
        state.poisoned = true;
        Err(match fault {
            CommitFault::Full => StoreError::Full,
            CommitFault::Io => StoreError::Io("injected".into()),
            CommitFault::LostBeforeFlush => StoreError::Io("injected: lost before the flush".into()),
            CommitFault::Unknown => {
                if state.random.random::<bool>() {
                    state.apply(batch);
                }
                StoreError::Io("injected: unknown outcome".into())
            }
        })
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let state = self.lock();
        state.readable()?;
        Ok(state.durable.get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize, backwards: bool) -> Result<Vec<Pair>, StoreError> {
        let state = self.lock();
        state.readable()?;
        if from >= to {
            return Ok(Vec::new());
        }
        let range = state.durable.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to)));
        let owned = |(key, value): (&Vec<u8>, &Vec<u8>)| (key.clone(), value.clone());
        Ok(if backwards {
            range.rev().take(limit).map(owned).collect()
        } else {
            range.take(limit).map(owned).collect()
        })
    }

    fn held(&self) -> Held {
        let state = self.lock();
        Held { pairs: state.durable.len() as u64, bytes: state.bytes }
    }

    fn snapshot(&self, each: &mut dyn FnMut(Vec<Pair>) -> Result<(), StoreError>) -> Result<(), StoreError> {
        let pairs: Vec<Pair> = {
            let state = self.lock();
            state.readable()?;
            state.durable.clone().into_iter().collect()
        };
        pairs.chunks(SNAPSHOT_PAIRS).try_for_each(|slice| each(slice.to_vec()))
    }

    fn compact(&self, progress: &mut dyn FnMut(u64)) -> Result<(), StoreError> {
        let mut state = self.lock();
        state.readable()?;
        if let Some(error) = state.compact_faults.pop_front() {
            return Err(error);
        }
        state.compactions += 1;
        state.disk_bytes = None;
        progress(state.durable.len() as u64);
        Ok(())
    }

    fn reopen(&self) -> Result<(), StoreError> {
        let mut state = self.lock();
        if !state.poisoned {
            return Ok(());
        }
        if let Some(error) = state.reopen_faults.pop_front() {
            return Err(error);
        }
        state.poisoned = false;
        state.reopens += 1;
        Ok(())
    }

    fn disk_bytes(&self) -> u64 {
        let state = self.lock();
        state.disk_bytes.unwrap_or(state.bytes)
    }

    fn free_bytes(&self) -> Option<u64> {
        self.lock().free_bytes
    }
}

/// As the sled adapter: what it would refuse, a test must not accept.
fn check_limits(batch: &Batch) -> Result<(), StoreError> {
    let value_bytes_max = batch.changes.iter().filter_map(|(_, value)| value.as_ref()).map(Vec::len).max();
    if value_bytes_max > Some(VALUE_BYTES_MAX) {
        return Err(StoreError::Io(format!("a value is larger than {VALUE_BYTES_MAX} bytes")));
    }
    if batch.bytes() > BATCH_BYTES_MAX {
        return Err(StoreError::Io(format!("a batch is larger than {BATCH_BYTES_MAX} bytes")));
    }
    if batch.changes.iter().any(|(key, _)| key.is_empty()) {
        return Err(StoreError::Io("a key is empty".into()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::testing::store_conformance::{self, Step};
    use proptest::prelude::*;

    #[test]
    fn it_conforms() {
        store_conformance::run(|| Arc::new(MemoryStore::new(1)));
    }

    proptest! {
        #[test]
        fn it_behaves_like_a_map(raw in prop::collection::vec(any::<[u16; 4]>(), 1..80)) {
            let steps: Vec<Step> = raw.into_iter().map(Step::from_numbers).collect();
            store_conformance::replay(&mut Arc::new(MemoryStore::new(1)), &steps);
        }
    }

    fn one(value: u8) -> Batch {
        let mut batch = Batch::default();
        batch.put(b"k".to_vec(), vec![value]);
        batch
    }

    #[test]
    fn a_failed_commit_poisons_until_it_is_reopened() {
        for (fault, error) in
            [(CommitFault::Full, StoreError::Full), (CommitFault::Io, StoreError::Io("injected".into()))]
        {
            let store = MemoryStore::new(1);
            store.commit(&one(1)).unwrap();
            store.fail_next(1, fault);
            assert_eq!(store.commit(&one(2)), Err(error));
            assert_eq!(store.commit(&one(3)), Err(StoreError::Poisoned));
            assert_eq!(store.get(b"k"), Err(StoreError::Poisoned));
            assert_eq!(store.scan(b"a", b"z", 9, false), Err(StoreError::Poisoned));
            store.fail_next_reopen(StoreError::Full);
            assert_eq!(store.reopen(), Err(StoreError::Full));
            store.reopen().unwrap();
            assert_eq!(store.get(b"k").unwrap(), Some(vec![1]));
        }
    }

    #[test]
    fn an_unknown_outcome_goes_both_ways_and_repeats_with_its_seed() {
        let outcome = |seed| {
            let store = MemoryStore::new(seed);
            store.fail_next(1, CommitFault::Unknown);
            store.commit(&one(1)).unwrap_err();
            store.reopen().unwrap();
            store.get(b"k").unwrap().is_some()
        };
        let outcomes: Vec<bool> = (0..32).map(outcome).collect();
        assert!(outcomes.contains(&true) && outcomes.contains(&false));
        assert_eq!(outcomes, (0..32).map(outcome).collect::<Vec<bool>>());
    }

    #[test]
    fn the_hook_sees_every_commit() {
        let store = MemoryStore::new(1);
        let seen = Arc::new(Mutex::new(0));
        let count = seen.clone();
        store.on_commit(Arc::new(move |batch| *count.lock().unwrap() += batch.changes.len()));
        store.commit(&one(1)).unwrap();
        store.commit(&one(2)).unwrap();
        assert_eq!(*seen.lock().unwrap(), 2);
        assert_eq!(store.commits(), 2);
    }
}
