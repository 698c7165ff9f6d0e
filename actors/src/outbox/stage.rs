//! Staging: what each write changes. Nothing here waits for the disk; errors of reading leave memory as it was.

use super::{
    core::Core,
    op::Op,
    redelivery::{Known, content_hash},
};
use tidegate_schemas::{
    entry::{EntryState, Envelope, Event, IllegalTransition},
    id::{EntryRef, MessageId},
    messages::outbox::{
        Accepted, Budget, Enqueue, EnqueueError, Fail, IntakeLimit, Operate, OperateError, Settle, Settled, Settlement,
        Spend, StoreError,
    },
    outcome::{DeliveryError, Disposition},
    record::{self, CHUNK_BYTES_MAX, EntryRecord, LedgerRecord, QuarantineRecord, SEAL_PLAIN, VALUE_BYTES_MAX, key},
    submission::{Origin, Priority, QuarantineReason, Submission},
};
use tokio::sync::oneshot::Sender;

/// Refusals in a row, without a success between, that are taken for the destination's own fault (DESIGN decision 8).
const PARKS_IN_A_ROW_MAX: usize = 10;
/// An hour, in milliseconds: what the Tor budget is counted over.
const HOUR_MS: u64 = 3_600_000;
/// How long a destination pauses when Tor is not ready after all, in milliseconds of custody.
const UPLINK_PAUSE_MS: u64 = 15_000;

/// Counts one more in a list of moments (custody clock, in seconds) of the last hour, if there may be one more; else how long until
/// there may, in milliseconds.
pub(super) fn within_the_hour(moments_s: &mut Vec<u32>, now_ms: u64, most: u16) -> Result<(), u64> {
    // A moment is kept as the next whole second, so that the hour is never shorter than one.
    let ends_ms = |at_s: &u32| (u64::from(*at_s)).saturating_mul(1_000).saturating_add(HOUR_MS);
    moments_s.retain(|at_s| ends_ms(at_s) > now_ms);
    if moments_s.len() >= usize::from(most) {
        let first_ms = moments_s.iter().map(ends_ms).min().unwrap_or(now_ms);
        return Err(first_ms.saturating_sub(now_ms).max(1));
    }
    moments_s.push(u32::try_from(now_ms.div_ceil(1_000)).unwrap_or(u32::MAX));
    Ok(())
}

/// A reply that carries a value once the batch is on disk.
fn on_disk<T: Send + 'static, E: From<StoreError> + Send + 'static>(
    to: Sender<Result<T, E>>,
    value: T,
) -> super::core::Reply {
    Box::new(move |result| drop(to.send(result.map(|()| value).map_err(E::from))))
}

impl Core {
    /// Stages one write, or answers it at once when it changes nothing.
    pub fn stage(&mut self, op: Op) {
        match op {
            Op::Enqueue(message, to) => self.stage_enqueue(message, to),
            Op::Quarantine(message, to) => match self.quarantine(message) {
                Ok(()) => self.reply(on_disk(to, ())),
                Err(error) => drop(to.send(Err(error))),
            },
            Op::Ignore(message, to) => match self.ignore(&message) {
                Ok(()) => self.reply(on_disk(to, ())),
                Err(error) => drop(to.send(Err(error))),
            },
            Op::Settle(message, to) => match self.settle(message) {
                Ok(settled) => self.reply(on_disk(to, settled)),
                Err(error) => drop(to.send(Err(error))),
            },
            Op::Fail(message, to) => {
                self.fail(&message);
                self.reply(on_disk(to, ()));
            }
            Op::Spend(message, to) => {
                let budget = self.spend(&message);
                self.reply(on_disk(to, budget));
            }
            Op::Operate(message, to) => match self.operate(&message) {
                Ok(state) => self.reply(on_disk(to, state)),
                Err(error) => drop(to.send(Err(error))),
            },
            Op::PendingReports(message, to) => match self.pending_reports(message) {
                Ok(batch) => self.reply(on_disk(to, batch)),
                Err(error) => drop(to.send(Err(error))),
            },
            Op::Reported(message, to) => {
                self.reported(&message);
                self.reply(on_disk(to, ()));
            }
            Op::Signal(message, to) => match self.signal(&message) {
                Ok(taken) => self.reply(on_disk(to, taken)),
                Err(error) => drop(to.send(Err(error))),
            },
            Op::SetPaused(message, to) => {
                self.set_paused(&message);
                self.reply(on_disk(to, ()));
            }
            Op::Reserve(message, to) => match self.reserve(message) {
                Ok(first) => self.reply(on_disk(to, first)),
                Err(error) => drop(to.send(Err(error))),
            },
            Op::Sweep(message, to) => {
                // A sweep scans the store, so what is staged has to be there.
                self.commit();
                let swept = self.sweep(&message);
                drop(to.send(swept));
            }
            Op::Damaged(destination, seq) => {
                // It scans the store, so what is staged has to be there.
                self.commit();
                self.set_damaged_aside(&destination, seq);
            }
        }
    }

    fn stage_enqueue(&mut self, message: Enqueue, to: Sender<Result<Accepted, EnqueueError>>) {
        match self.enqueue(message) {
            Ok(Ok(accepted)) => self.reply(on_disk(to, accepted)),
            // The refusal itself is a write: it is heard when it is on disk.
            Ok(Err(refused)) => self.reply(Box::new(move |result| {
                drop(to.send(result.map_err(EnqueueError::from).and(Err(refused))));
            })),
            Err(error) => drop(to.send(Err(error))),
        }
    }

    /// Outer error: nothing is staged. Inner error: the refusal is staged.
    fn enqueue(&mut self, message: Enqueue) -> Result<Result<Accepted, EnqueueError>, EnqueueError> {
        let Enqueue { submission, limits, .. } = message;
        let content = content_hash(&submission);
        let known = self.find_known(&submission, content)?;
        if let Some(Known::Made(accepted)) = known {
            return Ok(Ok(accepted));
        }
        let number = self.number_of(&submission.destination);
        let body_bytes = submission.payload.len() as u64;
        let full = self
            .dest(number)
            .is_some_and(|d| d.waiting() >= limits.messages || d.waiting_bytes + body_bytes > limits.bytes);
        if full {
            // An HTTP client hears it and keeps its message; a broker's publication was acknowledged to the device already.
            let recorded = submission.origin != Origin::Http;
            if !recorded {
                return Err(EnqueueError::Refused { limit: IntakeLimit::Destination, recorded });
            }
            // Its refusal is on disk, or in this very batch.
            if known != Some(Known::Unmade) {
                self.refuse(&submission);
                self.remember(&submission, content, None);
            }
            return Ok(Err(EnqueueError::Refused { limit: IntakeLimit::Destination, recorded }));
        }
        let id = MessageId::from_random(self.entropy.bytes16());
        let seq = self.append(number, id, &submission)?;
        self.meta.account.accepted += 1;
        self.meta.account.queued += 1;
        self.remember(&submission, content, Some((number, seq, id)));
        self.tally.queue_changed = true;
        Ok(Ok(Accepted { id, entry: EntryRef { destination: submission.destination, seq }, duplicate: false }))
    }

    fn append(&mut self, number: u32, id: MessageId, submission: &Submission) -> Result<u64, EnqueueError> {
        let moment = self.moment;
        let odometer = self.dest(number).map(|dest| dest.odometer).unwrap_or_default();
        let gone = || EnqueueError::Store(StoreError::Corrupt("a destination's record is missing".into()));
        let dest = self.dest(number).ok_or_else(gone)?;
        let seq = dest.next_seq;
        dest.next_seq += 1;
        dest.queued += 1;
        dest.waiting_bytes += submission.payload.len() as u64;
        let envelope = Envelope {
            id,
            device: submission.device.clone(),
            label: submission.label.clone(),
            content_type: submission.content_type.clone(),
            origin: submission.origin,
            accepted_ms: moment.wall_ms,
            clock_trusted: moment.wall_trusted,
            accepted_custody_ms: moment.custody_ms,
            expires_custody_ms: submission.expiry_s.map(|s| moment.custody_ms + u64::from(s) * 1_000),
            body_bytes: u32::try_from(submission.payload.len()).unwrap_or(u32::MAX),
            priority: submission.priority,
            reply_to: submission.reply_to.clone(),
            odometer,
        };
        let mut record = EntryRecord {
            state: EntryState::Queued,
            reason: None,
            refusals: 0,
            due_custody_ms: 0,
            envelope,
            seal: SEAL_PLAIN,
            chunks: 0,
            body: submission.payload.reveal().clone(),
        };
        let at = key::queued(number, seq);
        if record::encode(&at, &record).len() > VALUE_BYTES_MAX {
            record.body = bytes::Bytes::new();
            for (index, chunk) in submission.payload.reveal().chunks(CHUNK_BYTES_MAX).enumerate() {
                let chunk_at = key::chunk(number, seq, u16::try_from(index).unwrap_or(u16::MAX));
                let value = record::encode_chunk(&chunk_at, chunk);
                self.put_raw(chunk_at, value);
                record.chunks += 1;
            }
        }
        self.put(at, &record);
        Ok(seq)
    }

    fn refuse(&mut self, submission: &Submission) {
        self.meta.account.accepted += 1;
        self.meta.account.refused += 1;
        let topic = format!("{} -> {}", submission.device, submission.destination);
        self.add_quarantine_record(QuarantineRecord {
            reason: QuarantineReason::DestinationFull,
            topic,
            body_bytes: submission.payload.len() as u64,
            origin: submission.origin,
            at_ms: self.moment.wall_ms,
        });
    }

    pub fn add_quarantine_record(&mut self, record: QuarantineRecord) {
        self.meta.quarantine_no += 1;
        self.put(key::quarantine(self.meta.quarantine_no), &record);
        while self.meta.quarantine_no + 1 - self.meta.quarantine_first > self.limits.quarantine_entries_max {
            self.remove(key::quarantine(self.meta.quarantine_first));
            self.meta.quarantine_first += 1;
        }
    }

    fn settle(&mut self, message: Settle) -> Result<Settled, StoreError> {
        let Some(number) = self.names.get(&message.destination).copied() else { return Ok(Settled::default()) };
        let mut settled = Settled::default();
        // An answer that took one of its entries comes from a service at work: what it refuses beside that is no part of a row.
        let in_a_row = message.settlements.iter().all(|settlement| settlement.event != Event::Deliver);
        for settlement in message.settlements {
            let seq = settlement.seq;
            if let Err(illegal) = self.settle_one(number, settlement, in_a_row)? {
                settled.overtaken.push((seq, illegal));
            }
        }
        // Looked at once for the whole answer: all that it refused comes back, not the first ten alone.
        if self.dest(number).is_some_and(|d| d.park_streak.len() >= PARKS_IN_A_ROW_MAX) {
            self.undo_parks(number)?;
            settled.everything_refused = true;
        }
        Ok(settled)
    }

    fn settle_one(
        &mut self,
        number: u32,
        settlement: Settlement,
        in_a_row: bool,
    ) -> Result<Result<(), IllegalTransition>, StoreError> {
        let Settlement { seq, event, error, receipt } = settlement;
        let done = self.transition(number, seq, event, error, receipt)?;
        if done.is_ok() && event == Event::Deliver && self.dest(number).is_some_and(|d| d.everything_refused) {
            // It is well again: what it refused while it was not is tried once more.
            self.undo_parks(number)?;
        }
        let now_ms = self.moment.custody_ms;
        let settled = if done.is_ok() { self.dest(number) } else { None };
        if let Some(dest) = settled {
            match event {
                Event::Deliver => {
                    dest.delivered += 1;
                    dest.last_success_custody_ms = Some(now_ms);
                    dest.failures = 0;
                    dest.due_custody_ms = 0;
                    dest.last_error = None;
                    dest.park_streak.clear();
                    dest.everything_refused = false;
                }
                Event::Park if in_a_row => dest.park_streak.push(seq),
                _ => {}
            }
        }
        Ok(done.map(|_| ()))
    }

    /// Ten or more in a row: it is the destination, not the messages.
    fn undo_parks(&mut self, number: u32) -> Result<(), StoreError> {
        let streak = self.dest(number).map(|d| std::mem::take(&mut d.park_streak)).unwrap_or_default();
        for seq in streak {
            // An operator may have acted on one of them meanwhile.
            let _ = self.transition(number, seq, Event::Unpark, None, None)?;
        }
        if let Some(dest) = self.dest(number) {
            dest.everything_refused = true;
        }
        Ok(())
    }

    /// Moves an entry to its next state: record, key, counters, ledger. The only place that does.
    pub fn transition(
        &mut self,
        number: u32,
        seq: u64,
        event: Event,
        reason: Option<DeliveryError>,
        receipt: Option<bytes::Bytes>,
    ) -> Result<Result<EntryState, IllegalTransition>, StoreError> {
        let (queued_at, aside_at) = (key::queued(number, seq), key::aside(number, seq));
        let (at, record) = match self.read::<EntryRecord>(&queued_at)? {
            Some(record) => (queued_at.clone(), record),
            None => match self.read::<EntryRecord>(&aside_at)? {
                Some(record) => (aside_at.clone(), record),
                // It has ended: whoever asks is late.
                None => return Ok(Err(IllegalTransition { state: EntryState::Purged, event })),
            },
        };
        let next = match record.state.on(event) {
            Ok(next) => next,
            Err(illegal) => return Ok(Err(illegal)),
        };
        self.count(number, record.state, next, u64::from(record.envelope.body_bytes), seq);
        self.remove(at);
        if next.is_end() {
            for chunk in 0..record.chunks {
                self.remove(key::chunk(number, seq, chunk));
            }
        } else {
            let at = if next == EntryState::Queued { queued_at } else { aside_at };
            self.put(at, &EntryRecord { state: next, reason, ..record.clone() });
        }
        if next.is_end() || next == EntryState::Dead {
            self.add_to_ledger(number, seq, &record.envelope, next, reason, receipt);
        }
        Ok(Ok(next))
    }

    fn count(&mut self, number: u32, from: EntryState, to: EntryState, bytes: u64, seq: u64) {
        for (state, up) in [(from, false), (to, true)] {
            let slot = self.meta.account.slot(state);
            *slot = if up { *slot + 1 } else { slot.saturating_sub(1) };
        }
        self.tally.queue_changed |= to == EntryState::Queued;
        let Some(dest) = self.dest(number) else { return };
        for (state, up) in [(from, false), (to, true)] {
            let slot = match state {
                EntryState::Queued => &mut dest.queued,
                EntryState::Held => &mut dest.held,
                EntryState::Parked => &mut dest.parked,
                EntryState::Dead => &mut dest.dead,
                _ => continue,
            };
            *slot = if up { *slot + 1 } else { slot.saturating_sub(1) };
        }
        if to.is_end() {
            dest.release_bytes(bytes);
        }
        if to == EntryState::Queued {
            dest.head_seq = dest.head_seq.min(seq);
        } else if from == EntryState::Queued && dest.head_seq == seq {
            dest.head_seq = seq + 1;
        }
    }

    fn add_to_ledger(
        &mut self,
        number: u32,
        seq: u64,
        envelope: &Envelope,
        state: EntryState,
        reason: Option<DeliveryError>,
        receipt: Option<bytes::Bytes>,
    ) {
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
            receipt,
            reason,
            ended_by: None,
            break_glass: envelope.priority == Priority::BreakGlass,
            reply_to: envelope.reply_to.clone(),
            origin: envelope.origin,
        };
        self.put(key::ledger(self.meta.ledger_no), &record);
        self.tally.reports_added = true;
        self.prune_ledger();
    }

    fn fail(&mut self, message: &Fail) {
        let number = self.number_of(&message.destination);
        let (custody_ms, random) = (self.moment.custody_ms, self.entropy.unit());
        let Some(dest) = self.dest(number) else { return };
        dest.last_error = Some(message.error);
        if message.error.disposition() == Disposition::Snooze {
            if message.error == DeliveryError::UplinkNotReady {
                dest.snoozed_custody_ms = dest.snoozed_custody_ms.max(custody_ms.saturating_add(UPLINK_PAUSE_MS));
            }
            return;
        }
        dest.failures = dest.failures.saturating_add(1);
        dest.odometer.attempts += 1;
        dest.last_failure_custody_ms = Some(custody_ms);
        let asked = message.retry_after_s.map(|s| jiff::SignedDuration::from_secs(i64::from(s)));
        let wait = message.retry.delay(dest.failures, random, asked);
        dest.due_custody_ms = custody_ms.saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
    }

    fn spend(&mut self, message: &Spend) -> Budget {
        let number = self.number_of(&message.destination);
        let now = self.moment.custody_ms;
        let Some(dest) = self.dest(number) else { return Budget::Granted };
        if let Err(wait_ms) = within_the_hour(&mut dest.circuits_custody_s, now, message.fresh_circuits_per_hour) {
            dest.last_error = Some(DeliveryError::TorBudget);
            dest.snoozed_custody_ms = dest.snoozed_custody_ms.max(now.saturating_add(wait_ms));
            let wait = jiff::SignedDuration::from_millis(i64::try_from(wait_ms).unwrap_or(i64::MAX));
            return Budget::UsedUp { wait };
        }
        Budget::Granted
    }

    fn operate(&mut self, message: &Operate) -> Result<EntryState, OperateError> {
        let unknown = || OperateError::Unknown(message.entry.clone());
        let number = self.names.get(&message.entry.destination).copied().ok_or_else(unknown)?;
        let reason = None;
        let seq = message.entry.seq;
        let known =
            self.read_raw(&key::queued(number, seq))?.is_some() || self.read_raw(&key::aside(number, seq))?.is_some();
        if !known {
            return Err(unknown());
        }
        let state = self.transition(number, seq, message.event, reason, None)??;
        if message.event == Event::Retry {
            // A person wants it tried: the destination's back-off ends, too.
            if let Some(dest) = self.dest(number) {
                dest.due_custody_ms = 0;
                dest.last_failure_custody_ms = None;
            }
        }
        Ok(state)
    }
}
