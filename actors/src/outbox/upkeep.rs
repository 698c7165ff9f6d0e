//! Upkeep: reports to the room, pruning of what is bounded, and the end of messages that outlived their agreement.

use super::core::{Core, UNREPORTED_FACTOR};
use tidegate_schemas::{
    agreement::Lifetime,
    entry::Event,
    id::DestinationId,
    messages::outbox::{PendingReports, ReportBatch, Reported, StoreError, Sweep, Swept},
    record::{self, EntryRecord, LedgerRecord, key},
};

/// Entries that one sweep looks at, for each destination and each of its two places; the next sweep goes on from there.
const SWEEP_ENTRIES_MAX: usize = 4_096;
/// Entries read at a time; those of them that are over end in one commit.
const SLICE: usize = 256;
/// How often the custody clock is written when nothing else is, in milliseconds.
const CUSTODY_WRITTEN_EVERY_MS: u64 = 600_000;
/// Idempotency slots removed by one sweep.
const SWEEP_SLOTS_MAX: usize = 1_024;

/// Where an entry lies.
#[derive(Debug, Clone, Copy)]
enum Place {
    Queue,
    Aside,
}

impl Core {
    /// The reserved range again, or a new one whose transaction id is on disk before anybody sends it.
    pub fn pending_reports(&mut self, message: PendingReports) -> Result<Option<ReportBatch>, StoreError> {
        let (first, last, transaction_id) = match self.meta.report_reserved.clone() {
            Some(reserved) => reserved,
            None => {
                let first = (self.meta.reported_no + 1).max(self.meta.ledger_first);
                let last = self.meta.ledger_no.min(first + message.count_max.max(1) as u64 - 1);
                if first > last {
                    return Ok(None);
                }
                let random = self.entropy.bytes16();
                let transaction_id = format!("tidegate-{}", tidegate_schemas::id::MessageId::from_random(random));
                let reserved = (first, last, transaction_id);
                self.meta.report_reserved = Some(reserved.clone());
                self.touch();
                reserved
            }
        };
        let mut reports = Vec::new();
        for no in first..=last {
            // A record of a reserved range is never pruned; one that can't be read is told as lost by its absence.
            if let Ok(Some(ledger)) = self.read::<LedgerRecord>(&key::ledger(no)) {
                reports.push(ledger.view(no));
            }
        }
        Ok(Some(ReportBatch { transaction_id, first, last, reports, more: self.meta.ledger_no - last }))
    }

    /// The room has heard of everything up to here.
    pub fn reported(&mut self, message: &Reported) {
        if message.last > self.meta.reported_no && message.last <= self.meta.ledger_no {
            self.meta.reported_no = message.last;
        }
        if self.meta.report_reserved.as_ref().is_some_and(|(_, last, _)| *last <= self.meta.reported_no) {
            self.meta.report_reserved = None;
        }
        self.touch();
        self.prune_ledger();
    }

    /// Keeps the ledger within its limit; what the room has not heard yet stays longer, but not for ever (LI-1).
    pub fn prune_ledger(&mut self) {
        let max = self.limits.ledger_entries_max;
        loop {
            let kept = self.meta.ledger_no + 1 - self.meta.ledger_first;
            let no = self.meta.ledger_first;
            let heard = !self.limits.reporting || no <= self.meta.reported_no;
            if kept <= max || (!heard && kept <= max.saturating_mul(UNREPORTED_FACTOR)) {
                return;
            }
            if !heard {
                let reserved = self.meta.report_reserved.as_ref().is_some_and(|(_, last, _)| no <= *last);
                if reserved {
                    return;
                }
                self.meta.reports_lost += 1;
                self.meta.reported_no = no;
            }
            self.remove(key::ledger(no));
            self.meta.ledger_first += 1;
        }
    }

    /// Makes sure that a change of `meta` alone is committed.
    pub fn touch(&mut self) {
        let value = record::encode(&key::META, &self.meta);
        // Overwritten by the commit's own record of the same key.
        self.put_raw(key::META.to_vec(), value);
    }

    /// Ends what is over. Reads the store, so nothing may be staged; commits by itself.
    pub fn sweep(&mut self, message: &Sweep) -> Result<Swept, StoreError> {
        let mut swept = Swept::default();
        for terms in &message.terms {
            swept.expired += self.sweep_destination(&terms.destination, &terms.lifetime)?;
        }
        self.sweep_slots()?;
        self.disk_bytes = self.store.disk_bytes();
        self.set_aside = self.store.set_aside();
        // The custody clock is written now and then, and not with every look: idle disks stay idle.
        if self.moment.custody_ms.saturating_sub(self.meta.custody_ms) >= CUSTODY_WRITTEN_EVERY_MS {
            self.touch();
        }
        self.commit();
        self.failure.clone().map_or(Ok(swept), Err)
    }

    fn sweep_destination(&mut self, destination: &DestinationId, lifetime: &Lifetime) -> Result<u64, StoreError> {
        let Some(number) = self.names.get(destination).copied() else { return Ok(0) };
        let mut expired = 0;
        for place in [Place::Queue, Place::Aside] {
            expired += self.sweep_place(number, place, lifetime)?;
        }
        let oldest = self.oldest_queued(number)?;
        if let Some(dest) = self.dests.get_mut(&number) {
            dest.oldest_custody_ms = oldest;
        }
        // Shows the age even where nothing was written.
        self.changed_again(number);
        self.commit();
        Ok(expired)
    }

    /// Goes on where the last sweep of this place ended, and from its head again after its end: nothing shields what lies behind it.
    fn sweep_place(&mut self, number: u32, place: Place, lifetime: &Lifetime) -> Result<u64, StoreError> {
        let time = self.time();
        let mut expired = 0;
        for _ in 0..SWEEP_ENTRIES_MAX / SLICE {
            let Some(dest) = self.dests.get(&number) else { break };
            let (from, odometer) = (dest.swept_to[place as usize], dest.record.odometer);
            let (from, to) = match place {
                Place::Queue => (key::queued(number, from.max(dest.record.head_seq)), key::queued(number, u64::MAX)),
                Place::Aside => (key::aside(number, from), key::aside(number, u64::MAX)),
            };
            let slice = self.store.scan(&from, &to, SLICE, false)?;
            let last = slice.last().filter(|_| slice.len() == SLICE).and_then(|(at, _)| key::seq_of(at));
            for (at, value) in slice {
                let Some(seq) = key::seq_of(&at) else { continue };
                // A damaged entry is set aside by whoever wants to deliver it; here it is passed over.
                let Ok(entry) = record::decode::<EntryRecord>(&at, &value) else { continue };
                let ended_by = entry.envelope.ended_by(&time, &odometer, lifetime);
                let is_over = ended_by.is_some() && entry.state.on(Event::Expire).is_ok();
                if is_over && self.transition(number, seq, Event::Expire, entry.reason, None)?.is_ok() {
                    expired += 1;
                }
            }
            self.commit();
            if let Some(failure) = &self.failure {
                return Err(failure.clone());
            }
            if let Some(dest) = self.dests.get_mut(&number) {
                dest.swept_to[place as usize] = last.map_or(0, |seq| seq + 1);
            }
            if last.is_none() {
                break;
            }
        }
        Ok(expired)
    }

    /// Entries come in order, so that the first one that can be read is the oldest.
    fn oldest_queued(&self, number: u32) -> Result<Option<u64>, StoreError> {
        let Some(dest) = self.dests.get(&number) else { return Ok(None) };
        let (from, to) = (key::queued(number, dest.record.head_seq), key::queued(number, u64::MAX));
        let first = self.store.scan(&from, &to, 8, false)?;
        let read = |(at, value): &(Vec<u8>, Vec<u8>)| record::decode::<EntryRecord>(at, value).ok();
        Ok(first.iter().find_map(read).map(|entry| entry.envelope.accepted_custody_ms))
    }

    /// Idempotency keys older than the buckets that are looked into.
    fn sweep_slots(&mut self) -> Result<(), StoreError> {
        let oldest_kept = self.oldest_bucket_kept();
        if self.meta.oldest_bucket >= oldest_kept {
            return Ok(());
        }
        let (from, to) = (key::idempotency_bucket(self.meta.oldest_bucket), key::idempotency_bucket(oldest_kept));
        let slots = self.store.scan(&from, &to, SWEEP_SLOTS_MAX, false)?;
        if slots.len() < SWEEP_SLOTS_MAX {
            self.meta.oldest_bucket = oldest_kept;
        }
        for (at, _) in slots {
            self.remove(at);
        }
        Ok(())
    }
}
