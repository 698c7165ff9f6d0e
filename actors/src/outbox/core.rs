//! The writer's heart: what the outbox knows in memory, and how a group of writes becomes one commit.
//!
//! Life of a write: it is *staged* (its changes go into one batch and into memory, its reply is kept back), the batch is committed
//! durably, and only then all replies are given (CU-1). Staging reads through the batch, so writes of one group see each other.
//!
//! When a commit fails its outcome is unknown: every write of the group hears the error, and memory is read anew from the store
//! before anything else is done. Nothing is acknowledged, so whoever handed in hands in again.

use super::{
    OutboxParts,
    archiving::Archived,
    capacity::Fill,
    custody_clock::Moment,
    occupancy::{Occupancy, Rates},
    op::Op,
};
use crate::ports::{
    entropy::Entropy,
    outbox_store::{BATCH_BYTES_MAX, Batch, OutboxStore, Pair},
};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};
use tidegate_schemas::{
    custody::{ClockRecord, CustodyTime},
    id::DestinationId,
    messages::outbox::StoreError,
    record::{self, DestinationNumber, DestinationRecord, FirstSendings, LAYOUT, Meta, Record, RecordError, key},
};

/// Limits of the outbox as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// End states that are kept in the ledger.
    pub ledger_entries_max: u64,
    /// Quarantine records that are kept.
    pub quarantine_entries_max: u64,
    /// Whether a room hears reports; without one the ledger is pruned regardless.
    pub reporting: bool,
    /// Whether devices hear how their messages ended; if not, the ledger is pruned regardless.
    pub receipting: bool,
    /// Messages that may wait, of all destinations.
    pub max_messages: u64,
    /// Their bodies, in bytes.
    pub max_bytes: u64,
    /// Room on the disk below which nothing is taken, in bytes.
    pub min_free_disk: u64,
}
impl Default for Limits {
    fn default() -> Self {
        Self {
            ledger_entries_max: 20_000,
            quarantine_entries_max: 1_000,
            reporting: true,
            receipting: false,
            max_messages: 1_000_000,
            max_bytes: 1 << 30,
            min_free_disk: 64 << 20,
        }
    }
}

/// End states that wait for a room or a broker that can't be reached: this many times the ledger's limit, then the oldest go, counted.
pub(super) const UNREPORTED_FACTOR: u64 = 5;
/// A batch is committed when it has grown to this, in bytes; one entry of the largest size still fits above it.
const BATCH_BYTES_FULL: usize = BATCH_BYTES_MAX / 4;

/// What is known of a destination in memory.
#[derive(Debug, Clone)]
pub(super) struct Dest {
    pub record: DestinationRecord,
    /// Custody clock of the oldest queued entry, as the last sweep saw it.
    pub oldest_custody_ms: Option<u64>,
    /// From which place the next sweep goes on, in the queue and aside of it.
    pub swept_to: [u64; 2],
    /// Until when no entry's life can end, so that a sweep need not look at any.
    pub quiet: Option<Quiet>,
    /// Custody clock when the room was last told that something was refused.
    pub refusal_told_ms: Option<u64>,
    /// How long it was open is known in memory for longer than on disk.
    pub opened_unwritten: bool,
    dirty: bool,
}

/// What a sweep that looked at every entry of a destination found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Quiet {
    /// Custody clock at which the first life ends, if nothing comes.
    pub until_custody_ms: u64,
    /// The age at which lives end by the agreement that it was swept by.
    pub max_age_ms: u64,
    /// What the custody clock remembered: when that changes, ages may.
    pub clock: ClockRecord,
}

/// Shows the state after a commit.
type Publish = Box<dyn Fn(&mut Core) + Send>;

/// A reply, kept back until its batch is on disk.
pub(super) type Reply = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// The writer's state. One at a time for a store: see `super::Lease`.
pub(super) struct Core {
    _lease: tokio::sync::OwnedMutexGuard<()>,
    pub store: Arc<dyn OutboxStore>,
    pub entropy: Arc<dyn Entropy>,
    pub limits: Limits,
    pub meta: Meta,
    /// As in its record.
    pub first_sendings: u64,
    first_sendings_written: u64,
    pub dests: HashMap<u32, Dest>,
    pub names: HashMap<DestinationId, u32>,
    pub moment: Moment,
    /// What the custody clock remembers, and what of that is on disk.
    pub clock: ClockRecord,
    clock_written: ClockRecord,
    /// "Ready" signals that came until then, by the custody clock, hold no more.
    ready_void_until_ms: Option<u64>,
    batch: Batch,
    overlay: HashMap<Vec<u8>, Option<Vec<u8>>>,
    replies: Vec<Reply>,
    pub tally: Tally,
    pub occupancy: Occupancy,
    pub rates: Rates,
    /// Body bytes that wait, of all destinations.
    pub waiting_bytes: u64,
    /// Room on the disk, as the last group of writes and the last sweep saw it; none where that can't be told.
    pub free_bytes: Option<u64>,
    pub fill: Fill,
    /// What is known of the archive.
    pub archived: Archived,
    /// The last ledger number that is on disk.
    pub ledger_no_on_disk: u64,
    stale: bool,
    pub failure: Option<StoreError>,
    changed: HashSet<u32>,
    publish: Option<Publish>,
    /// As the last sweep saw it.
    pub disk_bytes: u64,
    /// Likewise.
    pub held_bytes: u64,
    /// Damaged stores beside ours.
    pub set_aside: Vec<String>,
}

/// What a group of writes has changed, for the bells and the counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub commits: u64,
    pub writes: u64,
    /// Slots of redeliveries that could not be read.
    pub slots_unreadable: u64,
    pub break_glass_taken: u64,
    pub break_glass_denied: u64,
    pub queue_changed: bool,
    pub reports_added: bool,
}

/// A record that can't be read is damage of the store.
pub(super) fn damaged(error: &RecordError) -> StoreError {
    StoreError::Corrupt(error.to_string())
}

fn stored<R: Record>(store: &dyn OutboxStore, at: &[u8]) -> Result<Option<R>, StoreError> {
    store.get(at)?.map(|value| record::decode(at, &value).map_err(|e| damaged(&e))).transpose()
}

/// The first thing that is read: of another version, the store is another program's and not damaged.
fn stored_meta(store: &dyn OutboxStore) -> Result<Option<Meta>, StoreError> {
    let Some(value) = store.get(&key::META)? else { return Ok(None) };
    record::decode(&key::META, &value).map(Some).map_err(|error| match error {
        RecordError::Kind { found_type, found_version, .. } if found_type == Meta::TYPE => StoreError::Format {
            found: format!("counters of version {found_version}"),
            wanted: format!("version {}", Meta::VERSION),
        },
        error => damaged(&error),
    })
}

impl Core {
    /// Reads what is there. O(destinations): no entry is read.
    pub fn load(
        parts: OutboxParts,
        lease: tokio::sync::OwnedMutexGuard<()>,
        moment: Moment,
        clock: ClockRecord,
        ready_void_until_ms: Option<u64>,
    ) -> Result<Self, StoreError> {
        parts.store.reopen()?;
        let (disk_bytes, set_aside) = (parts.store.disk_bytes(), parts.store.set_aside());
        let held_bytes = parts.store.held().bytes;
        let archived = Archived::ask(parts.archive.as_deref());
        let mut core = Self {
            _lease: lease,
            store: parts.store,
            entropy: parts.entropy,
            limits: parts.limits,
            meta: Meta { layout: LAYOUT, ..Meta::default() },
            first_sendings: 0,
            first_sendings_written: 0,
            dests: HashMap::new(),
            names: HashMap::new(),
            moment,
            clock,
            clock_written: ClockRecord::default(),
            ready_void_until_ms,
            batch: Batch::default(),
            overlay: HashMap::new(),
            replies: Vec::new(),
            tally: Tally::default(),
            occupancy: Occupancy::default(),
            rates: Rates::default(),
            waiting_bytes: 0,
            free_bytes: None,
            fill: Fill::default(),
            archived,
            ledger_no_on_disk: 0,
            stale: false,
            failure: None,
            changed: HashSet::new(),
            publish: None,
            disk_bytes,
            held_bytes,
            set_aside,
        };
        core.read_memory()?;
        core.count_unarchived();
        core.free_bytes = core.store.free_bytes();
        core.look_at_room();
        Ok(core)
    }

    /// The moment that was stored last and its record; what the custody clock goes on from.
    pub fn stored_moment(store: &dyn OutboxStore) -> Result<(Moment, ClockRecord), StoreError> {
        store.reopen()?;
        let meta = stored_meta(store)?.unwrap_or_default();
        let clock = stored(store, &key::CLOCK)?.unwrap_or_default();
        let moment = Moment { custody_ms: meta.custody_ms, wall_ms: meta.wall_ms, wall_trusted: meta.wall_trusted };
        Ok((moment, clock))
    }

    fn read_memory(&mut self) -> Result<(), StoreError> {
        let tally = self.tally;
        let empty = || Meta { layout: LAYOUT, ledger_first: 1, quarantine_first: 1, ..Meta::default() };
        self.meta = match stored_meta(&*self.store)? {
            Some(meta) => meta,
            None if self.store.scan(&key::CLOCK, &[u8::MAX], 1, false)?.is_empty() => empty(),
            // Counters are written with every commit of ours, and last by an import.
            None => {
                let what = "it has records and no counters: an import that did not come to its end; move it away and import again";
                return Err(StoreError::Corrupt(what.into()));
            }
        };
        self.clock_written = stored(&*self.store, &key::CLOCK)?.unwrap_or_default();
        let FirstSendings { count } = stored(&*self.store, &key::FIRST_SENDINGS)?.unwrap_or_default();
        (self.first_sendings, self.first_sendings_written) = (count, count);
        if self.meta.layout != LAYOUT {
            return Err(StoreError::Format {
                found: format!("layout {}", self.meta.layout),
                wanted: format!("layout {LAYOUT}"),
            });
        }
        self.ledger_no_on_disk = self.meta.ledger_no;
        self.go_on_after_archive();
        (self.dests, self.names) = (HashMap::new(), HashMap::new());
        let mut from = key::destination(0);
        loop {
            let page = self.store.scan(&from, b"e", 256, false)?;
            for (at, value) in &page {
                let mut record: DestinationRecord = record::decode(at, value).map_err(|e| damaged(&e))?;
                record.signal = record
                    .signal
                    .filter(|signal| !(signal.ready && Some(signal.since_custody_ms) <= self.ready_void_until_ms));
                let number = at.get(1..5).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes);
                let number = number.ok_or_else(|| StoreError::Corrupt("a destination's key is cut short".into()))?;
                self.names.insert(record.name.clone(), number);
                self.changed.insert(number);
                self.dests.insert(
                    number,
                    Dest {
                        record,
                        oldest_custody_ms: None,
                        swept_to: [0, 0],
                        quiet: None,
                        refusal_told_ms: None,
                        opened_unwritten: false,
                        dirty: false,
                    },
                );
            }
            match page.last() {
                Some((last, _)) if page.len() == 256 => from = [last.as_slice(), &[0]].concat(),
                _ => break,
            }
        }
        self.tally = tally;
        self.occupancy.forget(None);
        self.waiting_bytes = self.dests.values().map(|dest| dest.record.waiting_bytes).sum();
        Ok(())
    }

    /// Does a group of writes. Every one is answered before this returns.
    ///
    /// `publish` is called after each commit and before its replies: whoever hears a reply sees its effect.
    pub fn apply(
        &mut self,
        ops: Vec<Op>,
        (moment, clock): (Moment, ClockRecord),
        publish: impl Fn(&mut Self) + Send + 'static,
    ) {
        (self.moment, self.clock) = (moment, clock);
        self.publish = Some(Box::new(publish));
        self.free_bytes = self.store.free_bytes();
        for op in ops {
            if let Err(error) = self.refresh() {
                op.fail(error);
                continue;
            }
            self.tally.writes += 1;
            self.stage(op);
            if self.batch.bytes() >= BATCH_BYTES_FULL {
                self.commit();
            }
        }
        self.commit();
    }

    /// After a failed commit memory can't be trusted: it is read anew.
    pub fn refresh(&mut self) -> Result<(), StoreError> {
        if self.stale {
            self.store.reopen()?;
            self.read_memory()?;
            self.stale = false;
        }
        Ok(())
    }

    /// Commits what is staged and answers.
    pub fn commit(&mut self) {
        let replies = std::mem::take(&mut self.replies);
        let result = self.write_out();
        if let Err(error) = &result {
            self.stale = true;
            self.failure = Some(error.clone());
            // What can't be read anew now is tried again with the next write.
            let _ = self.refresh();
        } else {
            self.failure = None;
        }
        self.look_at_room();
        if let Some(publish) = self.publish.take() {
            publish(self);
            self.publish = Some(publish);
        }
        for reply in replies {
            reply(result.clone());
        }
    }

    /// Commits what is staged when it has grown to the size at which that is done.
    pub fn spill(&mut self) -> Result<(), StoreError> {
        self.spill_above(BATCH_BYTES_FULL)
    }

    /// Commits what is staged when it is larger than this, in bytes.
    pub fn spill_above(&mut self, bytes: usize) -> Result<(), StoreError> {
        if self.batch.bytes() <= bytes {
            return Ok(());
        }
        self.commit();
        self.failure.clone().map_or(Ok(()), Err)
    }

    /// Size of what is staged, in bytes.
    pub fn batch_bytes(&self) -> usize {
        self.batch.bytes()
    }

    fn write_out(&mut self) -> Result<(), StoreError> {
        let mut batch = std::mem::take(&mut self.batch);
        self.overlay.clear();
        let numbers: Vec<u32> =
            self.changed.iter().filter(|n| self.dests.get(n).is_some_and(|dest| dest.dirty)).copied().collect();
        // A jump of the wall clock that only memory knows would be forgotten by a restart.
        let clock_changed = self.clock != self.clock_written;
        let sent_first = self.first_sendings != self.first_sendings_written;
        if batch.changes.is_empty() && numbers.is_empty() && !clock_changed && !sent_first {
            return Ok(());
        }
        if clock_changed {
            batch.put(key::CLOCK.to_vec(), record::encode(&key::CLOCK, &self.clock));
        }
        if sent_first {
            let count = self.first_sendings;
            batch.put(key::FIRST_SENDINGS.to_vec(), record::encode(&key::FIRST_SENDINGS, &FirstSendings { count }));
        }
        for number in numbers {
            if let Some(dest) = self.dests.get_mut(&number) {
                dest.dirty = false;
                dest.opened_unwritten = false;
                let at = key::destination(number);
                let value = record::encode(&at, &dest.record);
                batch.put(at, value);
            }
        }
        self.meta.commit_no += 1;
        if !self.limits.receipting {
            self.meta.receipted_no = self.meta.ledger_no;
        }
        self.meta.custody_ms = self.moment.custody_ms;
        self.meta.wall_ms = self.moment.wall_ms;
        self.meta.wall_trusted = self.moment.wall_trusted;
        let gap = self.meta.account.gap();
        if !tidegate_schemas::check_invariant!(tidegate_schemas::invariant::InvariantId::Cu2, gap == 0, "gap {gap}") {
            tracing::error!(%gap, "the account of accepted messages has a gap: please report this");
        }
        batch.put(key::META.to_vec(), record::encode(&key::META, &self.meta));
        self.store.commit(&batch)?;
        self.ledger_no_on_disk = self.meta.ledger_no;
        self.clock_written = self.clock.clone();
        self.first_sendings_written = self.first_sendings;
        self.tally.commits += 1;
        Ok(())
    }

    /// The moment by which ages are counted.
    pub fn time(&self) -> CustodyTime {
        CustodyTime { now_ms: self.moment.custody_ms, clock: self.clock.clone() }
    }

    /// Keeps a reply back until the commit.
    pub fn reply(&mut self, reply: Reply) {
        self.replies.push(reply);
    }

    /// Stages a value.
    pub fn put<R: Record>(&mut self, at: Vec<u8>, record: &R) {
        let value = record::encode(&at, record);
        self.put_raw(at, value);
    }

    /// Stages raw bytes.
    pub fn put_raw(&mut self, at: Vec<u8>, value: Vec<u8>) {
        self.overlay.insert(at.clone(), Some(value.clone()));
        self.batch.put(at, value);
    }

    /// Stages a removal.
    pub fn remove(&mut self, at: Vec<u8>) {
        self.overlay.insert(at.clone(), None);
        self.batch.remove(at);
    }

    /// Reads through what is staged.
    pub fn read_raw(&self, at: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.overlay.get(at) {
            Some(staged) => Ok(staged.clone()),
            None => self.store.get(at),
        }
    }

    /// Reads a record through what is staged.
    pub fn read<R: Record>(&self, at: &[u8]) -> Result<Option<R>, StoreError> {
        self.read_raw(at)?.map(|value| record::decode(at, &value).map_err(|e| damaged(&e))).transpose()
    }

    /// Scans through what is staged, from the front. Where there may be more, the second value is where it goes on.
    pub fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<(Vec<Pair>, Option<Vec<u8>>), StoreError> {
        let stored = self.store.scan(from, to, limit, false)?;
        let next = stored.last().filter(|_| stored.len() == limit).map(|(last, _)| [last.as_slice(), &[0]].concat());
        let end = next.clone().unwrap_or_else(|| to.to_vec());
        let mut pairs: BTreeMap<Vec<u8>, Vec<u8>> = stored.into_iter().collect();
        for (at, value) in self.overlay.iter().filter(|(at, _)| at.as_slice() >= from && **at < end) {
            match value {
                Some(value) => drop(pairs.insert(at.clone(), value.clone())),
                None => drop(pairs.remove(at)),
            }
        }
        Ok((pairs.into_iter().collect(), next))
    }

    /// The number of a destination; a new one gets its records.
    pub fn number_of(&mut self, name: &DestinationId) -> u32 {
        if let Some(number) = self.names.get(name) {
            return *number;
        }
        let number = self.meta.next_destination;
        self.meta.next_destination += 1;
        let at = key::name(name.as_str());
        self.put(at, &DestinationNumber(number));
        self.names.insert(name.clone(), number);
        let record = DestinationRecord::new(name.clone());
        self.dests.insert(
            number,
            Dest {
                record,
                oldest_custody_ms: None,
                swept_to: [0, 0],
                quiet: None,
                refusal_told_ms: None,
                opened_unwritten: false,
                dirty: true,
            },
        );
        self.changed.insert(number);
        number
    }

    /// A destination's record, to be changed.
    pub fn dest(&mut self, number: u32) -> Option<&mut DestinationRecord> {
        self.changed.insert(number);
        self.dests.get_mut(&number).map(|dest| {
            dest.dirty = true;
            &mut dest.record
        })
    }

    /// Has a destination published again.
    pub fn changed_again(&mut self, number: u32) {
        self.changed.insert(number);
    }

    /// Destinations that changed since this was last asked.
    pub fn take_changed(&mut self) -> HashSet<u32> {
        std::mem::take(&mut self.changed)
    }

    /// End states that the room has not heard of.
    pub fn reports_pending(&self) -> u64 {
        if self.limits.reporting { self.meta.ledger_no - self.meta.reported_no } else { 0 }
    }
}
