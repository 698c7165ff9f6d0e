//! Upkeep: reports to the room, pruning of what is bounded, and the end of messages that outlived their agreement.

use super::{
    core::{Core, Quiet, UNREPORTED_FACTOR},
    entries::Cause,
};
use crate::ports::outbox_store::Pair;
use jiff::SignedDuration;
use tidegate_schemas::{
    agreement::{Ages, Lifetime},
    entry::{EntryState, Event},
    messages::outbox::{PendingReports, ReportBatch, Reported, StoreError, Sweep, SweepTerms, Swept},
    record::{self, EntryRecord, LedgerRecord, key},
};

/// Entries that one sweep looks at, for each destination and each of its two places; the next sweep goes on from there.
const SWEEP_ENTRIES_MAX: usize = 4_096;
/// Entries read at a time; those of them that are over end in one commit.
const SLICE: usize = 256;
/// How often the custody clock is written when nothing else is, in milliseconds.
const CUSTODY_WRITTEN_EVERY_MS: u64 = 600_000;
/// Ledger entries that one write removes beyond the one that it may add: so a ledger whose limit was lowered, or that a room or a
/// broker held up, shrinks with what happens, and never in one batch.
pub(super) const PRUNED_PER_ENTRY: u64 = 4;
/// Ledger entries removed at once where nothing is added.
pub(super) const PRUNED_AT_ONCE: u64 = 1_024;
/// How often one sweep does so.
const PRUNED_BY_SWEEP: u64 = 16;
/// Destinations whose openness is written in one commit.
const OPENNESS_AT_ONCE: usize = 512;
/// Idempotency slots removed by one sweep.
const SWEEP_SLOTS_MAX: usize = 1_024;

/// The age at which lives end, where nothing but an age that is always counted ends them.
fn age_of_end(lifetime: &Lifetime) -> Option<u64> {
    let age = lifetime.max_age().filter(|_| lifetime.ages == Ages::Always)?;
    u64::try_from(age.as_millis()).ok()
}

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
            // A record that can't be read is told as lost by its absence.
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
        self.prune_ledger(PRUNED_AT_ONCE);
    }

    /// Brings the ledger nearer to its limit, by so many entries; what the room or a device has not heard yet, or is not archived, stays
    /// longer, but not for ever (LI-1).
    pub fn prune_ledger(&mut self, at_most: u64) {
        let max = self.limits.ledger_entries_max;
        for _ in 0..at_most {
            let kept = self.meta.ledger_no + 1 - self.meta.ledger_first;
            let no = self.meta.ledger_first;
            let reported = !self.limits.reporting || no <= self.meta.reported_no;
            let receipted = !self.limits.receipting || no <= self.meta.receipted_no;
            let archived = self.archived.has(no);
            let is_free = reported && receipted && archived;
            if kept <= max || (!is_free && kept <= max.saturating_mul(UNREPORTED_FACTOR)) {
                return;
            }
            if !reported {
                // Should the homeserver have heard of them after all, the rest of the range is told again, under a new transaction id.
                self.meta.report_reserved = None;
                self.meta.reports_lost += 1;
                self.meta.reported_no = no;
            }
            if !receipted {
                self.lose_receipt(no);
            }
            self.archived.lost += u64::from(!archived);
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
        let mut first_failure = None;
        // One that can't be swept shields none of the others.
        for terms in &message.terms {
            let expired = self.refresh().and_then(|()| self.sweep_destination(terms));
            match expired {
                Ok(expired) => swept.expired += expired,
                Err(failure) => drop(first_failure.get_or_insert(failure)),
            }
        }
        if let Some(failure) = first_failure {
            return Err(failure);
        }
        for _ in 0..PRUNED_BY_SWEEP {
            let first = self.meta.ledger_first;
            self.prune_ledger(PRUNED_AT_ONCE);
            if self.meta.ledger_first == first {
                break;
            }
            self.touch();
            self.commit();
        }
        self.sweep_slots()?;
        self.disk_bytes = self.store.disk_bytes();
        self.held_bytes = self.store.held().bytes;
        self.set_aside = self.store.set_aside();
        self.free_bytes = self.store.free_bytes();
        // The custody clock is written now and then, and not with every look: idle disks stay idle.
        if self.moment.custody_ms.saturating_sub(self.meta.custody_ms) >= CUSTODY_WRITTEN_EVERY_MS {
            self.touch();
            self.touch_openness();
        }
        self.commit();
        self.failure.clone().map_or(Ok(swept), Err)
    }

    fn sweep_destination(&mut self, terms: &SweepTerms) -> Result<u64, StoreError> {
        let Some(number) = self.names.get(&terms.destination).copied() else { return Ok(0) };
        self.count_openness(number, terms);
        let mut expired = 0;
        if !self.is_quiet(number, &terms.lifetime) {
            expired = self.sweep_entries(number, &terms.lifetime)?;
        }
        let oldest = self.oldest_queued(number)?;
        if let Some(dest) = self.dests.get_mut(&number) {
            dest.oldest_custody_ms = oldest.as_ref().map(|(_, entry)| entry.envelope.accepted_custody_ms);
        }
        self.warn_of_age(number, oldest, &terms.notify_after);
        // Shows the age even where nothing was written.
        self.changed_again(number);
        self.commit();
        Ok(expired)
    }

    /// Whether no life can have ended since a sweep looked at all of them.
    fn is_quiet(&self, number: u32, lifetime: &Lifetime) -> bool {
        let quiet = self.dests.get(&number).and_then(|dest| dest.quiet.as_ref());
        quiet.is_some_and(|quiet| {
            self.moment.custody_ms < quiet.until_custody_ms
                && age_of_end(lifetime) == Some(quiet.max_age_ms)
                && quiet.clock == self.clock
        })
    }

    /// Ends what is over. Where that takes an age, and all entries were looked at, it is known until when there is nothing to end.
    fn sweep_entries(&mut self, number: u32, lifetime: &Lifetime) -> Result<u64, StoreError> {
        let from_the_head = self.dests.get(&number).is_some_and(|dest| dest.swept_to == [0, 0]);
        if let Some(dest) = self.dests.get_mut(&number) {
            dest.quiet = None;
        }
        let (mut expired, mut first_end_ms) = (0, u64::MAX);
        for place in [Place::Queue, Place::Aside] {
            let swept = self.sweep_place(number, place, lifetime)?;
            (expired, first_end_ms) = (expired + swept.0, first_end_ms.min(swept.1));
        }
        let clock = self.clock.clone();
        if let Some(dest) = self.dests.get_mut(&number).filter(|dest| from_the_head && dest.swept_to == [0, 0]) {
            dest.quiet =
                age_of_end(lifetime).map(|max_age_ms| Quiet { until_custody_ms: first_end_ms, max_age_ms, clock });
        }
        Ok(expired)
    }

    /// What the destination lived through is added to its odometer. That an opening closed is on disk with this sweep; for how long it
    /// was open is written with whatever is written next, or when the custody clock is: a crash forgets at most that much of it.
    fn count_openness(&mut self, number: u32, terms: &SweepTerms) {
        if terms.closings > 0
            && let Some(dest) = self.dest(number)
        {
            dest.odometer.closings += u64::from(terms.closings);
        }
        if let Some(dest) = self.dests.get_mut(&number).filter(|_| terms.opened_ms > 0) {
            dest.record.odometer.open_ms += terms.opened_ms;
            dest.opened_unwritten = true;
        }
    }

    /// Makes sure that what is known of openness is committed, where anything waits that may age by it.
    pub fn touch_openness(&mut self) {
        let unwritten = self.dests.iter().filter(|(_, dest)| dest.opened_unwritten && dest.record.waiting() > 0);
        let numbers: Vec<u32> = unwritten.map(|(number, _)| *number).collect();
        for part in numbers.chunks(OPENNESS_AT_ONCE) {
            for number in part {
                let _ = self.dest(*number);
            }
            if part.len() == OPENNESS_AT_ONCE {
                self.commit();
            }
        }
    }

    /// People are told, once for each of the agreement's ages, when the oldest queued message passes it.
    fn warn_of_age(&mut self, number: u32, oldest: Option<(u64, EntryRecord)>, ages: &[SignedDuration]) {
        let age_ms = oldest.as_ref().map(|(_, entry)| self.time().age_ms(entry.envelope.accepted_custody_ms));
        let is_passed = |age: &&SignedDuration| age_ms.is_some_and(|ms| i128::from(ms) >= age.as_millis());
        let passed = u8::try_from(ages.iter().filter(is_passed).count()).unwrap_or(u8::MAX);
        let Some(told) = self.dests.get(&number).map(|dest| dest.record.notified).filter(|told| *told != passed) else {
            return;
        };
        if let Some(dest) = self.dest(number) {
            // Less than before: the oldest one is younger, and its ages are told of anew.
            dest.notified = passed;
        }
        if let Some((seq, entry)) = oldest.filter(|_| passed > told) {
            let last_error = self.dests.get(&number).and_then(|dest| dest.record.last_error);
            let waits_s = age_ms.unwrap_or_default() / 1_000;
            let destination = self.dests.get(&number).map(|dest| dest.record.name.to_string()).unwrap_or_default();
            tracing::warn!(
                destination,
                seq,
                waits_s,
                "the oldest message of a destination waits for longer than agreed"
            );
            self.add_to_ledger(
                number,
                seq,
                &entry.envelope,
                EntryState::Queued,
                Cause::of(entry.reason.or(last_error)),
            );
        }
    }

    /// Goes on where the last sweep of this place ended, and from its head again after its end: nothing shields what lies behind it.
    /// How many lives ended, and when by the custody clock the first of the others may, where an age ends it.
    fn sweep_place(&mut self, number: u32, place: Place, lifetime: &Lifetime) -> Result<(u64, u64), StoreError> {
        let time = self.time();
        let (mut expired, mut first_end_ms) = (0, u64::MAX);
        let max_age_ms = age_of_end(lifetime).unwrap_or(u64::MAX);
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
                let cause = Cause { reason: entry.reason, receipt: None, ended_by };
                if is_over && self.transition(number, seq, Event::Expire, cause)?.is_ok() {
                    expired += 1;
                    // One end may take much of a batch: chunks of its body to remove, a response topic to remember.
                    self.spill()?;
                } else if ended_by.is_none() {
                    first_end_ms = first_end_ms.min(entry.envelope.may_end_at(&time, max_age_ms));
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
        Ok((expired, first_end_ms))
    }

    /// Entries come in order, so that the first one that can be read is the oldest.
    fn oldest_queued(&self, number: u32) -> Result<Option<(u64, EntryRecord)>, StoreError> {
        let Some(dest) = self.dests.get(&number) else { return Ok(None) };
        let (from, to) = (key::queued(number, dest.record.head_seq), key::queued(number, u64::MAX));
        let first = self.store.scan(&from, &to, 8, false)?;
        let read = |(at, value): &Pair| Some((key::seq_of(at)?, record::decode::<EntryRecord>(at, value).ok()?));
        Ok(first.iter().find_map(read))
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
