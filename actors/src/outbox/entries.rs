//! Entries: the only place where one is rewritten, and with it its key, its marks, every count of it, and the ledger.
//!
//! A queued entry has marks: one under `i` when it goes first, one under `r` while it waits after a refusal. They are written with
//! the entry and removed whenever it leaves the queue, so that a pick never has to look for either.

use super::{core::Core, upkeep::PRUNED_PER_ENTRY};
use tidegate_schemas::{
    entry::{EndedBy, EntryState, Envelope, Event, IllegalTransition},
    messages::outbox::StoreError,
    outcome::DeliveryError,
    record::{EntryRecord, LedgerRecord, RefusedWait, key},
    submission::Priority,
};

/// Entries of one destination that may wait after a refusal, each with its mark, which every pick reads.
pub(super) const REFUSED_WAIT_MAX: u64 = 1_000;
/// Work of lanes after which what is known of a destination's throughput is halved, in milliseconds.
const BUSY_MS_MAX: u64 = 3_600_000;

/// Why an entry moves, as its record and the ledger keep it.
#[derive(Debug, Clone, Default)]
pub(super) struct Cause {
    pub reason: Option<DeliveryError>,
    /// The receiver's signed receipt.
    pub receipt: Option<bytes::Bytes>,
    pub ended_by: Option<EndedBy>,
}

impl Cause {
    pub fn of(reason: Option<DeliveryError>) -> Self {
        Self { reason, ..Self::default() }
    }
}

/// The marks that belong to a record.
#[derive(Debug, Default, PartialEq, Eq)]
struct Marks {
    class: Option<u8>,
    wait: Option<RefusedWait>,
}

impl Marks {
    fn of(record: Option<&EntryRecord>) -> Self {
        let Some(record) = record.filter(|record| record.state == EntryState::Queued) else { return Self::default() };
        let Envelope { device, priority, .. } = &record.envelope;
        let due_custody_ms = record.due_custody_ms;
        let wait = RefusedWait { device: device.clone(), priority: *priority, due_custody_ms };
        Self { class: key::class_of(*priority), wait: (due_custody_ms > 0).then_some(wait) }
    }
}

impl Core {
    /// An entry that has not ended.
    pub fn find(&self, number: u32, seq: u64) -> Result<Option<EntryRecord>, StoreError> {
        match self.read(&key::queued(number, seq))? {
            Some(record) => Ok(Some(record)),
            None => self.read(&key::aside(number, seq)),
        }
    }

    /// Moves an entry to its next state.
    pub fn transition(
        &mut self,
        number: u32,
        seq: u64,
        event: Event,
        cause: Cause,
    ) -> Result<Result<EntryState, IllegalTransition>, StoreError> {
        // One that is not there has ended: whoever asks is late.
        let Some(record) = self.find(number, seq)? else {
            return Ok(Err(IllegalTransition { state: EntryState::Purged, event }));
        };
        let next = match record.state.on(event) {
            Ok(next) => next,
            Err(illegal) => return Ok(Err(illegal)),
        };
        let (refusals, mut due_custody_ms) = match event {
            Event::Park => (record.refusals.saturating_add(1), 0),
            // A person has it tried again: it begins anew.
            Event::Retry => (0, 0),
            _ => (record.refusals, record.due_custody_ms),
        };
        let comes_back = next == EntryState::Queued && record.state != EntryState::Queued;
        if comes_back && self.waits_are_full(number) {
            due_custody_ms = 0;
        }
        if record.state == EntryState::Dead
            && let Some(dest) = self.dests.get_mut(&number)
        {
            // It did not age while it was dead.
            dest.quiet = None;
        }
        let reason = cause.reason.or(record.reason.filter(|_| due_custody_ms > 0));
        let after = EntryRecord { state: next, reason, refusals, due_custody_ms, ..record.clone() };
        self.rewrite(number, seq, &record, &after);
        if next.is_end() || next == EntryState::Dead {
            self.add_to_ledger(number, seq, &record.envelope, next, cause);
        }
        Ok(Ok(next))
    }

    /// Whether no more entries of a destination may wait after a refusal.
    pub fn waits_are_full(&self, number: u32) -> bool {
        self.dests.get(&number).is_some_and(|dest| dest.record.refused_waiting >= REFUSED_WAIT_MAX)
    }

    /// Writes an entry as it is after, with all that belongs to it.
    pub fn rewrite(&mut self, number: u32, seq: u64, before: &EntryRecord, after: &EntryRecord) {
        if before.state != after.state {
            self.count(number, seq, &after.envelope, Some(before.state), after.state);
        }
        let key_of = |state| if state == EntryState::Queued { key::queued } else { key::aside }(number, seq);
        if after.state.is_end() {
            self.remove(key_of(before.state));
            for chunk in 0..before.chunks {
                self.remove(key::chunk(number, seq, chunk));
            }
            self.mark(number, seq, Some(before), None);
            return;
        }
        if key_of(before.state) != key_of(after.state) {
            self.remove(key_of(before.state));
        }
        self.put(key_of(after.state), after);
        self.mark(number, seq, Some(before), Some(after));
    }

    /// Writes a new entry, which has its chunks already.
    pub fn insert(&mut self, number: u32, seq: u64, record: &EntryRecord) {
        self.count(number, seq, &record.envelope, None, record.state);
        self.put(key::queued(number, seq), record);
        self.mark(number, seq, None, Some(record));
    }

    /// Writes the marks of an entry as they are after, and counts them.
    fn mark(&mut self, number: u32, seq: u64, before: Option<&EntryRecord>, after: Option<&EntryRecord>) {
        let (was, is) = (Marks::of(before), Marks::of(after));
        if was.class != is.class {
            for (class, put) in [(was.class, false), (is.class, true)] {
                let Some(class) = class else { continue };
                let at = key::urgent(number, class, seq);
                if put {
                    self.put_raw(at, Vec::new())
                } else {
                    self.remove(at)
                }
                if let Some(dest) = self.dest(number) {
                    change(&mut dest.urgent, put);
                    if Some(class) == key::class_of(Priority::BreakGlass) {
                        change(&mut dest.break_glass, put);
                    }
                }
            }
        }
        if was.wait == is.wait {
            return;
        }
        let at = key::refused(number, seq);
        match &is.wait {
            Some(wait) => self.put(at, wait),
            None => self.remove(at),
        }
        if was.wait.is_some() != is.wait.is_some()
            && let Some(dest) = self.dest(number)
        {
            change(&mut dest.refused_waiting, is.wait.is_some());
        }
    }

    /// The marks of an entry that can't be read are found by their keys.
    pub fn remove_marks_of_damaged(&mut self, number: u32, seq: u64) -> Result<(), StoreError> {
        for priority in [Priority::BreakGlass, Priority::High] {
            let Some(at) = key::class_of(priority).map(|class| key::urgent(number, class, seq)) else { continue };
            if self.read_raw(&at)?.is_some() {
                self.remove(at);
                if let Some(dest) = self.dest(number) {
                    change(&mut dest.urgent, false);
                    if priority == Priority::BreakGlass {
                        change(&mut dest.break_glass, false);
                    }
                }
            }
        }
        let at = key::refused(number, seq);
        if self.read_raw(&at)?.is_some() {
            self.remove(at);
            if let Some(dest) = self.dest(number) {
                change(&mut dest.refused_waiting, false);
            }
        }
        Ok(())
    }

    /// Counts an entry in its new state: in the account, at its destination, and for its device. `from` is none for a new one.
    fn count(&mut self, number: u32, seq: u64, envelope: &Envelope, from: Option<EntryState>, to: EntryState) {
        let bytes = u64::from(envelope.body_bytes);
        for (state, up) in [(from, false), (Some(to), true)] {
            if let Some(state) = state {
                change(self.meta.account.slot(state), up);
            }
        }
        self.tally.queue_changed |= to == EntryState::Queued;
        self.occupancy.count(number, seq, envelope, from, to);
        let Some(dest) = self.dest(number) else { return };
        let waited_bytes = dest.waiting_bytes;
        for (state, up) in [(from, false), (Some(to), true)] {
            let slot = match state {
                Some(EntryState::Queued) => &mut dest.queued,
                Some(EntryState::Held) => &mut dest.held,
                Some(EntryState::Parked) => &mut dest.parked,
                Some(EntryState::Dead) => &mut dest.dead,
                _ => continue,
            };
            change(slot, up);
        }
        if from.is_none() {
            dest.waiting_bytes += bytes;
        }
        if to.is_end() {
            dest.release_bytes(bytes);
        }
        if to == EntryState::Delivered {
            dest.throughput.messages += 1;
            dest.throughput.bytes += bytes;
        }
        if to == EntryState::Queued {
            dest.head_seq = dest.head_seq.min(seq);
        } else if from == Some(EntryState::Queued) && dest.head_seq == seq {
            dest.head_seq = seq + 1;
        }
        let waiting_bytes = dest.waiting_bytes;
        self.waiting_bytes = (self.waiting_bytes + waiting_bytes).saturating_sub(waited_bytes);
    }

    /// Lanes were at work: what a rate is made of. The present counts most.
    pub fn count_work(&mut self, number: u32, busy_ms: u32) {
        let Some(dest) = self.dest(number) else { return };
        let throughput = &mut dest.throughput;
        throughput.busy_ms += u64::from(busy_ms);
        while throughput.busy_ms > BUSY_MS_MAX {
            throughput.busy_ms /= 2;
            throughput.messages /= 2;
            throughput.bytes /= 2;
        }
    }

    /// Writes an end state, or a warning, for the room and the device to hear.
    pub fn add_to_ledger(&mut self, number: u32, seq: u64, envelope: &Envelope, state: EntryState, cause: Cause) {
        let Some((destination, failures)) = self.dest(number).map(|d| (d.name.clone(), d.failures)) else { return };
        self.meta.ledger_no += 1;
        let record = LedgerRecord {
            destination,
            seq,
            id: envelope.id,
            device: envelope.device.clone(),
            state,
            accepted_ms: envelope.accepted_ms,
            ended_ms: self.moment.wall_ms,
            attempts: failures + u32::from(state == EntryState::Delivered || state == EntryState::Dead),
            receipt: cause.receipt,
            reason: cause.reason,
            ended_by: cause.ended_by,
            break_glass: envelope.priority == Priority::BreakGlass,
            reply_to: envelope.reply_to.clone(),
            origin: envelope.origin,
        };
        self.put(key::ledger(self.meta.ledger_no), &record);
        self.tally.reports_added = true;
        self.prune_ledger(PRUNED_PER_ENTRY);
    }
}

/// One more, or one fewer.
pub(super) fn change(slot: &mut u64, up: bool) {
    *slot = if up { *slot + 1 } else { slot.saturating_sub(1) };
}
