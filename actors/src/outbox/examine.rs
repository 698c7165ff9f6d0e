//! A look at the whole store: whether every record can be read, and whether the counters are what is there.
//!
//! It reads what the store shows of one moment, and changes nothing, so that a gateway may go on beside it. Memory: a few numbers for each destination and for each entry that goes first or has its body in parts, and
//! one page of records.

use crate::ports::outbox_store::OutboxStore;
use std::collections::{BTreeMap, BTreeSet};
use tidegate_schemas::{
    custody::{ClockRecord, CustodyTime},
    entry::EntryState,
    messages::{
        outbox::StoreError,
        tools::{Checked, CheckedDestination, Progress},
    },
    record::{
        self, DestinationNumber, DestinationRecord, EntryRecord, FirstSendings, KeySlot, LedgerRecord, Meta,
        PacketSlot, QuarantineRecord, Record, RecordError, RefusedWait, key,
    },
    tidings::Serials,
};

/// Most problems that are told one by one; the others are counted.
const TOLD_MAX: usize = 100;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Examined {
    /// Records, of every kind.
    pub records: u64,
    /// Keys and values, in bytes.
    pub bytes: u64,
    /// The account and the other counters; none in a store that never had a commit.
    pub meta: Option<Meta>,
    /// What is there of each destination.
    pub destinations: Vec<Held>,
    /// Ledger records.
    pub ledger: u64,
    /// Quarantine records.
    pub quarantine: u64,
    /// What is wrong, in words; at most a hundred.
    pub problems: Vec<String>,
    /// What is wrong, in all.
    pub problems_total: u64,
}

/// What is there of one destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its record.
    pub record: DestinationRecord,
    /// Queued entries that are there.
    pub queued: u64,
    /// Held, parked and dead ones.
    pub aside: u64,
    /// Their bodies, in bytes.
    pub body_bytes: u64,
    /// When each age ends at which they are grouped: how many waiting entries are younger than an hour, a day, a week, and older.
    pub by_age: [u64; 4],
}

/// The ages by which waiting entries are grouped, in milliseconds.
pub const AGES_MS: [u64; 3] = [3_600_000, 86_400_000, 7 * 86_400_000];

/// The group of an age.
pub(super) fn age_group(age_ms: u64) -> usize {
    AGES_MS.iter().filter(|age| age_ms >= **age).count()
}

/// Reads everything.
///
/// # Errors
/// When the store can't be read at all.
pub fn examine(store: &dyn OutboxStore, progress: &Progress) -> Result<Examined, StoreError> {
    let mut found = Finder::default();
    progress.begin(store.held().pairs);
    store.snapshot(&mut |pairs| {
        pairs.iter().for_each(|(at, value)| found.look(at, value));
        progress.add(pairs.len() as u64);
        Ok(())
    })?;
    Ok(found.conclude())
}

impl Examined {
    /// As it is told to operators.
    #[must_use]
    pub fn told(self, disk_bytes: u64) -> Checked {
        let account = self.meta.map(|meta| meta.account).unwrap_or_default();
        let destinations = self.destinations.into_iter().map(|held| CheckedDestination {
            destination: held.record.name,
            queued: held.queued,
            aside: held.aside,
            body_bytes: held.body_bytes,
            by_age: held.by_age,
        });
        Checked {
            records: self.records,
            bytes: self.bytes,
            disk_bytes,
            accepted: account.accepted,
            waiting: account.queued + account.held + account.parked + account.dead,
            ledger: self.ledger,
            quarantine: self.quarantine,
            destinations: destinations.collect(),
            problems: self.problems,
            problems_total: self.problems_total,
        }
    }
}

#[derive(Default)]
struct Finder {
    seen: Examined,
    held: BTreeMap<u32, Held>,
    named: BTreeMap<String, u32>,
    /// Entries whose bodies are in chunks, and how many of them have not come yet.
    chunks: BTreeMap<(u32, u64), u16>,
    /// What came before its entry: keys are in the order of their first byte.
    early_chunks: BTreeMap<(u32, u64), u16>,
    urgent: BTreeMap<u32, BTreeSet<u64>>,
    refused: BTreeMap<u32, u64>,
    urgent_marks: BTreeMap<u32, BTreeSet<u64>>,
    refused_marks: BTreeMap<u32, u64>,
    counted: BTreeMap<(u32, EntryState), u64>,
    damaged: BTreeMap<u32, u64>,
    /// When the last commit was: it comes before the entries, whose ages are those at that time.
    time: CustodyTime,
}

impl Finder {
    fn problem(&mut self, text: String) {
        self.seen.problems_total += 1;
        if self.seen.problems.len() < TOLD_MAX {
            self.seen.problems.push(text);
        }
    }

    /// Decodes; what can't be is a problem.
    fn read<R: Record>(&mut self, what: &str, at: &[u8], value: &[u8]) -> Option<R> {
        record::decode(at, value).map_err(|error: RecordError| self.problem(format!("{what}: {error}"))).ok()
    }

    fn look(&mut self, at: &[u8], value: &[u8]) {
        self.seen.records += 1;
        self.seen.bytes += (at.len() + value.len()) as u64;
        let dest = at.get(1..5).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes);
        let seq = key::seq_of(at).unwrap_or(0);
        match at.first().copied().unwrap_or_default() {
            0 => {
                self.seen.meta = self.read("the counters", at, value);
                self.time.now_ms = self.seen.meta.as_ref().map_or(0, |meta| meta.custody_ms);
            }
            1 => self.time.clock = self.read::<ClockRecord>("the custody clock", at, value).unwrap_or_default(),
            2 => drop(self.read::<Serials>("the serial numbers", at, value)),
            3 => drop(self.read::<FirstSendings>("the count of first sendings", at, value)),
            b'd' => {
                let Some(record) = self.read::<DestinationRecord>("a destination", at, value) else { return };
                self.held.insert(dest, Held { record, queued: 0, aside: 0, body_bytes: 0, by_age: [0; 4] });
            }
            b'n' => {
                let Some(number) = self.read::<DestinationNumber>("a name", at, value) else { return };
                self.named.insert(String::from_utf8_lossy(&at[1..]).into_owned(), number.0);
            }
            b'm' | b'h' => self.entry(at, value, dest, seq),
            b'b' => match record::decode_chunk(at, value) {
                Ok(_) => *self.early_chunks.entry((dest, seq)).or_default() += 1,
                Err(error) => self.problem(format!("a part of the body of {dest}/{seq}: {error}")),
            },
            b'i' => {
                let seq = key::urgent_seq_of(at).unwrap_or(0);
                self.urgent_marks.entry(dest).or_default().insert(seq);
            }
            b'r' => {
                if self.read::<RefusedWait>("the mark of a refusal", at, value).is_some() {
                    *self.refused_marks.entry(dest).or_default() += 1;
                }
            }
            // Set aside as it was found: that is told where it happened, and is no news.
            b'x' => *self.damaged.entry(dest).or_default() += 1,
            b'p' => self.packet_slot(at, value),
            b'u' => drop(self.read::<KeySlot>("an idempotency slot", at, value)),
            b'q' => {
                self.seen.quarantine += 1;
                drop(self.read::<QuarantineRecord>("a quarantine record", at, value));
            }
            b'l' => {
                self.seen.ledger += 1;
                drop(self.read::<LedgerRecord>("a ledger record", at, value));
            }
            other => self.problem(format!("a record of an unknown kind ({other})")),
        }
    }

    /// One of an earlier version is taken for an empty one, and is no damage.
    fn packet_slot(&mut self, at: &[u8], value: &[u8]) {
        match record::decode::<PacketSlot>(at, value) {
            Err(RecordError::Kind { found_type: PacketSlot::TYPE, .. }) | Ok(_) => {}
            Err(error) => self.problem(format!("a packet slot: {error}")),
        }
    }

    fn entry(&mut self, at: &[u8], value: &[u8], dest: u32, seq: u64) {
        let Some(entry) = self.read::<EntryRecord>(&format!("entry {dest}/{seq}"), at, value) else { return };
        let is_queued = at[0] == b'm';
        if is_queued != (entry.state == EntryState::Queued) {
            self.problem(format!("entry {dest}/{seq} is {:?} and lies with the others", entry.state));
        }
        *self.counted.entry((dest, entry.state)).or_default() += 1;
        if entry.chunks > 0 {
            self.chunks.insert((dest, seq), entry.chunks);
        } else if u64::from(entry.envelope.body_bytes) != entry.body.len() as u64 {
            self.problem(format!("entry {dest}/{seq} has a body of another length than it says"));
        }
        if is_queued && key::class_of(entry.envelope.priority).is_some() {
            self.urgent.entry(dest).or_default().insert(seq);
        }
        if is_queued && entry.due_custody_ms > 0 {
            *self.refused.entry(dest).or_default() += 1;
        }
        let age_ms = self.time.age_ms(entry.envelope.accepted_custody_ms);
        let Some(held) = self.held.get_mut(&dest) else {
            return self.problem(format!("entry {dest}/{seq} belongs to no destination"));
        };
        held.body_bytes += u64::from(entry.envelope.body_bytes);
        held.by_age[age_group(age_ms)] += 1;
        if is_queued {
            held.queued += 1;
        } else {
            held.aside += 1;
        }
    }

    fn conclude(mut self) -> Examined {
        let chunks = std::mem::take(&mut self.chunks);
        let mut found = std::mem::take(&mut self.early_chunks);
        for ((dest, seq), wanted) in chunks {
            let there = found.remove(&(dest, seq)).unwrap_or_default();
            if there != wanted {
                self.problem(format!("entry {dest}/{seq} has {there} of {wanted} parts of its body"));
            }
        }
        for ((dest, seq), parts) in found {
            // Those of an entry that was set aside are kept with it.
            if !self.damaged.contains_key(&dest) {
                self.problem(format!("{parts} parts of a body {dest}/{seq} belong to no entry"));
            }
        }
        let held = std::mem::take(&mut self.held);
        for (dest, held) in &held {
            self.compare(*dest, held);
        }
        self.compare_whole(&held);
        self.seen.destinations = held.into_values().collect();
        self.seen
    }

    fn compare(&mut self, dest: u32, held: &Held) {
        let record = &held.record;
        let name = &record.name;
        if self.named.get(name.as_str()) != Some(&dest) {
            self.problem(format!("destination {name} is not in the directory"));
        }
        let counted = |state| self.counted.get(&(dest, state)).copied().unwrap_or_default();
        let marks = self.urgent_marks.remove(&dest).unwrap_or_default();
        let urgent = self.urgent.remove(&dest).unwrap_or_default();
        let compared = [
            ("queued entries", record.queued, counted(EntryState::Queued)),
            ("held entries", record.held, counted(EntryState::Held)),
            ("parked entries", record.parked, counted(EntryState::Parked)),
            ("dead letters", record.dead, counted(EntryState::Dead)),
            ("bytes of bodies", record.waiting_bytes, held.body_bytes),
            ("urgent entries", record.urgent, urgent.len() as u64),
            ("refused entries that wait", record.refused_waiting, self.refused.get(&dest).copied().unwrap_or_default()),
            (
                "marks of refused entries",
                record.refused_waiting,
                self.refused_marks.get(&dest).copied().unwrap_or_default(),
            ),
        ];
        // An entry that was set aside for damage was counted by what could be read of it.
        let was_damaged = self.damaged.contains_key(&dest);
        for (what, says, is) in compared {
            if says != is && !(was_damaged && what == "bytes of bodies") {
                self.problem(format!("destination {name}: {says} {what} by its record, {is} found"));
            }
        }
        if marks != urgent {
            self.problem(format!("destination {name}: the marks of urgent entries are not those of its entries"));
        }
    }

    fn compare_whole(&mut self, held: &BTreeMap<u32, Held>) {
        let Some(meta) = self.seen.meta.clone() else {
            if self.seen.records > 0 {
                self.problem("it has records and no counters: an import that did not come to its end".to_owned());
            }
            return;
        };
        let gap = meta.account.gap();
        if gap != 0 {
            self.problem(format!("the account of accepted messages has a gap of {gap}"));
        }
        let sum = |of: fn(&DestinationRecord) -> u64| held.values().map(|held| of(&held.record)).sum::<u64>();
        let compared = [
            ("queued", meta.account.queued, sum(|record| record.queued)),
            ("held", meta.account.held, sum(|record| record.held)),
            ("parked", meta.account.parked, sum(|record| record.parked)),
            ("dead", meta.account.dead, sum(|record| record.dead)),
            ("quarantine records", meta.quarantine_no + 1 - meta.quarantine_first, self.seen.quarantine),
        ];
        for (what, says, is) in compared {
            if says != is {
                self.problem(format!("{what}: {says} by the account, {is} found"));
            }
        }
        // Fewer are no problem: a store that was put back goes on after the numbers that the ledger's files have.
        let numbers = (meta.ledger_no + 1).saturating_sub(meta.ledger_first);
        if self.seen.ledger > numbers {
            self.problem(format!("ledger records: {numbers} numbers were given, {} found", self.seen.ledger));
        }
    }
}
