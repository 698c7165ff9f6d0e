//! Upkeep: reports to the room, pruning of what is bounded, and the end of messages that outlived their agreement.

use super::core::{Core, UNREPORTED_FACTOR, damaged};
use tidegate_schemas::{
    entry::Event,
    id::DestinationId,
    messages::outbox::{PendingReports, ReportBatch, Reported, StoreError, Sweep, Swept},
    record::{self, EntryRecord, LedgerRecord, key},
};

/// Entries that one sweep looks at, for each destination and each of its two places.
const SWEEP_ENTRIES_MAX: usize = 256;
/// How often the custody clock is written when nothing else is, in milliseconds.
const CUSTODY_WRITTEN_EVERY_MS: u64 = 600_000;
/// Idempotency slots removed by one sweep.
const SWEEP_SLOTS_MAX: usize = 1_024;

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
    fn touch(&mut self) {
        let value = record::encode(&key::META, &self.meta);
        // Overwritten by the commit's own record of the same key.
        self.put_raw(key::META.to_vec(), value);
    }

    /// Ends what is over. Reads the store, so nothing may be staged; commits by itself.
    pub fn sweep(&mut self, message: &Sweep) -> Result<Swept, StoreError> {
        let mut swept = Swept::default();
        for (destination, max_age) in &message.max_ages {
            let max_age_ms = u64::try_from(max_age.as_millis()).unwrap_or(u64::MAX);
            swept.expired += self.sweep_destination(destination, max_age_ms)?;
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

    fn sweep_destination(&mut self, destination: &DestinationId, max_age_ms: u64) -> Result<u64, StoreError> {
        let Some(number) = self.names.get(destination).copied() else { return Ok(0) };
        let Some(head) = self.dests.get(&number).map(|d| d.record.head_seq) else { return Ok(0) };
        let mut expired = 0;
        let mut oldest = None;
        for (place, from, to) in [
            ('m', key::queued(number, head), key::queued(number, u64::MAX)),
            ('h', key::aside(number, 0), key::aside(number, u64::MAX)),
        ] {
            for (at, value) in self.store.scan(&from, &to, SWEEP_ENTRIES_MAX, false)? {
                let Some(seq) = key::seq_of(&at) else { continue };
                // A damaged entry is set aside by whoever wants to deliver it; here it is passed over.
                let Ok(entry) = record::decode::<EntryRecord>(&at, &value).map_err(|e| damaged(&e)) else { continue };
                let accepted = entry.envelope.accepted_custody_ms;
                let own_end = entry.envelope.expires_custody_ms.unwrap_or(u64::MAX);
                let end = accepted.saturating_add(max_age_ms).min(own_end);
                if self.moment.custody_ms >= end && entry.state.on(Event::Expire).is_ok() {
                    if self.transition(number, seq, Event::Expire, entry.reason, None)?.is_ok() {
                        expired += 1;
                    }
                } else if place == 'm' && oldest.is_none_or(|o| accepted < o) {
                    oldest = Some(accepted);
                }
            }
        }
        if let Some(dest) = self.dests.get_mut(&number) {
            dest.oldest_custody_ms = oldest;
        }
        // Shows the age even where nothing was written.
        self.changed_again(number);
        self.commit();
        Ok(expired)
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
