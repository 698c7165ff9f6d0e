//! Intake: whether a message is taken into custody, and what has to go for it.
//!
//! In this order: what was taken before is answered as it was, whatever is full (what was refused before and is sent again is taken, if
//! there is room now, and no longer counts as refused); then the limits of the agreement (the device's rate, what it
//! has waiting, what the destination has waiting); then those of the whole gateway. A limit of the agreement refuses, and a broker's
//! publication is acknowledged with the refusal on record: its device had its acknowledgement from the broker already, and withholding
//! ours would block the broker for everyone. A limit of the gateway acknowledges nothing, so that the broker and the devices keep what
//! they have.
//!
//! Where the agreement says `drop_oldest` the oldest queued ones make room, of the device for the device's limit: as many as needed, at
//! most [`DISPLACED_MAX`] for one message, and none of a higher priority than the new one's. If that doesn't make room, nothing is dropped.

use super::{
    core::Core,
    custody_clock::Moment,
    entries::Cause,
    redelivery::{Known, content_hash},
    stage::within_the_hour,
    streams::StreamPlace,
};
use tidegate_schemas::{
    agreement::{Limits, OnFull},
    custody::Odometer,
    entry::{EntryState, Envelope, Event},
    id::{DeviceId, EntryRef, MessageId},
    messages::outbox::{Accepted, Enqueue, EnqueueError, IntakeLimit, StoreError},
    record::{self, CHUNK_BYTES_MAX, EntryRecord, QuarantineRecord, SEAL_PLAIN, VALUE_BYTES_MAX, key},
    submission::{Origin, Priority, Submission},
};

/// Messages that make room for one: with it they fit a batch.
const DISPLACED_MAX: u64 = 32;
/// Entries that are looked at for them.
const LOOKED_AT_MAX: usize = 4_096;
/// Entries read at a time.
const SLICE: usize = 64;
/// A batch that holds more than this is committed before messages are dropped for another, in bytes.
const BATCH_BYTES_BEFORE: usize = 16 * 1_024;

/// Messages that will make room.
#[derive(Debug, Default)]
struct Displaced {
    seqs: Vec<u64>,
    bytes: u64,
}

impl Core {
    pub fn stage_enqueue(&mut self, message: Enqueue, to: StreamPlace) {
        if to.is_behind_a_failure() {
            return to.answer(Err(StoreError::Unavailable.into()));
        }
        match self.enqueue(message) {
            Ok(Ok(accepted)) => {
                self.reply(Box::new(move |result| to.answer(result.map(|()| accepted).map_err(EnqueueError::from))));
            }
            // The refusal itself is a write: it is heard when it is on disk.
            Ok(Err(refused)) => self.reply(Box::new(move |result| {
                to.answer(result.map_err(EnqueueError::from).and(Err(refused)));
            })),
            Err(error) => to.answer(Err(error)),
        }
    }

    /// Outer error: nothing is staged. Inner error: the refusal is staged.
    fn enqueue(&mut self, message: Enqueue) -> Result<Result<Accepted, EnqueueError>, EnqueueError> {
        let Enqueue { mut submission, limits, break_glass_per_hour, stream: _ } = message;
        let content = content_hash(&submission);
        let known = self.find_known(&submission, content)?;
        if let Some(Known::Made(accepted)) = known {
            return Ok(Ok(accepted));
        }
        if self.batch_bytes() > BATCH_BYTES_BEFORE && limits.on_full == OnFull::DropOldest {
            self.spill_above(BATCH_BYTES_BEFORE)?;
        }
        let number = self.number_of(&submission.destination);
        let asked = submission.priority;
        let may_break_glass = asked == Priority::BreakGlass && self.may_break_glass(number, break_glass_per_hour);
        if asked == Priority::BreakGlass && !may_break_glass {
            submission.priority = Priority::High;
        }
        let displaced = match self.room_for(number, &submission, &limits)? {
            Ok(displaced) => displaced,
            Err(limit) => {
                // An HTTP client hears it and keeps its message; a broker's publication was acknowledged to the device already.
                let recorded = submission.origin != Origin::Http;
                if !recorded {
                    return Err(EnqueueError::Refused { limit, recorded });
                }
                // Its refusal is on disk, or in this very batch.
                if known != Some(Known::Unmade) {
                    self.refuse(&submission, limit);
                    self.remember(&submission, content, None);
                }
                return Ok(Err(EnqueueError::Refused { limit, recorded }));
            }
        };
        let (count, bytes) = (displaced.seqs.len() as u64, displaced.bytes);
        if let Some(full) = self.gateway_full(submission.payload.len() as u64, count, bytes) {
            return Err(EnqueueError::GatewayFull(full));
        }
        for seq in displaced.seqs {
            // It was queued when it was looked at, and nobody else writes.
            let _ = self.transition(number, seq, Event::Displace, Cause::default())?;
        }
        if asked == Priority::BreakGlass {
            self.take_break_glass(number, &submission, may_break_glass);
        }
        if let Some(per_minute) = limits.device.per_minute {
            self.rates.take(number, &submission.device, self.moment.custody_ms, per_minute);
        }
        let id = MessageId::from_random(self.entropy.bytes16());
        let seq = self.append(number, id, &submission)?;
        match known {
            // The broker sent again what was refused, and now there is room: one publication, one end.
            Some(Known::Unmade) => self.meta.account.refused = self.meta.account.refused.saturating_sub(1),
            _ => self.meta.account.accepted += 1,
        }
        self.remember(&submission, content, Some((number, seq, id)));
        Ok(Ok(Accepted { id, entry: EntryRef { destination: submission.destination, seq }, duplicate: false }))
    }

    fn may_break_glass(&self, number: u32, per_hour: Option<u16>) -> bool {
        let (Some(per_hour), Some(dest)) = (per_hour, self.dests.get(&number)) else { return false };
        within_the_hour(&mut dest.record.break_glass_custody_s.clone(), self.moment.custody_ms, per_hour).is_ok()
    }

    /// It is flagged wherever it goes: here in the log.
    fn take_break_glass(&mut self, number: u32, submission: &Submission, granted: bool) {
        let (device, destination) = (&submission.device, &submission.destination);
        if !granted {
            self.tally.break_glass_denied += 1;
            tracing::warn!(%device, %destination,
                "a break-glass message was taken as of high priority: the agreement has none, or those of this hour are used up");
            return;
        }
        self.tally.break_glass_taken += 1;
        tracing::warn!(%device, %destination, "a break-glass message was taken: it may go out through a closed window");
        let now_ms = self.moment.custody_ms;
        if let Some(dest) = self.dest(number) {
            // It was asked before whether there may be one more.
            let _ = within_the_hour(&mut dest.break_glass_custody_s, now_ms, u16::MAX);
        }
    }

    /// What has to go for it; or the limit that it meets.
    fn room_for(
        &mut self,
        number: u32,
        submission: &Submission,
        limits: &Limits,
    ) -> Result<Result<Displaced, IntakeLimit>, StoreError> {
        let (device, bytes) = (&submission.device, submission.payload.len() as u64);
        if let Some(per_minute) = limits.device.per_minute {
            let wait_ms = self.rates.wait_ms(number, device, self.moment.custody_ms, per_minute);
            if wait_ms > 0 {
                let wait_s = u32::try_from(wait_ms.div_ceil(1_000)).unwrap_or(u32::MAX);
                return Ok(Err(IntakeLimit::Rate { wait_s }));
            }
        }
        let may_drop = limits.on_full == OnFull::DropOldest;
        let mut displaced = Displaced::default();
        if limits.device.messages.is_some() || limits.device.bytes.is_some() {
            let share = self.share_of(number, device)?;
            let over = |held: u64, most: Option<u64>| held.saturating_sub(most.unwrap_or(u64::MAX));
            let over_messages = over(share.messages + 1, limits.device.messages);
            let over_bytes = over(share.bytes + bytes, limits.device.bytes);
            let fits = bytes <= limits.device.bytes.unwrap_or(u64::MAX);
            if over_messages + over_bytes > 0
                && !(may_drop
                    && fits
                    && self.displace(
                        number,
                        Some(device),
                        submission.priority,
                        [over_messages, over_bytes],
                        &mut displaced,
                    )?)
            {
                return Ok(Err(IntakeLimit::Device));
            }
        }
        let Some(dest) = self.dests.get(&number).map(|dest| &dest.record) else { return Ok(Ok(displaced)) };
        let over_messages = (dest.waiting() + 1).saturating_sub(limits.messages);
        let over_bytes = (dest.waiting_bytes + bytes).saturating_sub(limits.bytes);
        if over_messages > displaced.seqs.len() as u64 || over_bytes > displaced.bytes {
            let made = may_drop
                && bytes <= limits.bytes
                && self.displace(number, None, submission.priority, [over_messages, over_bytes], &mut displaced)?;
            if !made {
                return Ok(Err(IntakeLimit::Destination));
            }
        }
        Ok(Ok(displaced))
    }

    /// Adds the oldest queued ones to those that make room, until they are as many messages and bytes as asked. Whether they are.
    fn displace(
        &mut self,
        number: u32,
        device: Option<&DeviceId>,
        priority: Priority,
        [messages, bytes]: [u64; 2],
        displaced: &mut Displaced,
    ) -> Result<bool, StoreError> {
        let is_enough = |displaced: &Displaced| displaced.seqs.len() as u64 >= messages && displaced.bytes >= bytes;
        if messages > DISPLACED_MAX {
            return Ok(false);
        }
        let head_seq = self.dests.get(&number).map_or(0, |dest| dest.record.head_seq);
        let first =
            device.and_then(|device| self.occupancy.share(number, device)).map_or(0, |share| share.first_queued);
        let (mut from, to) = (key::queued(number, first.max(head_seq)), key::queued(number, u64::MAX));
        let mut unseen = true;
        for _ in 0..LOOKED_AT_MAX / SLICE {
            let (slice, next) = self.scan(&from, &to, SLICE)?;
            for (at, value) in &slice {
                let Some(seq) = key::seq_of(at) else { continue };
                let Ok(entry) = record::decode::<EntryRecord>(at, value) else {
                    // A damaged one is set aside by whoever wants to deliver it, who has to come by it.
                    if device.is_none() && std::mem::take(&mut unseen) {
                        self.begins_at(number, None, seq);
                    }
                    continue;
                };
                if device.is_some_and(|device| *device != entry.envelope.device) {
                    continue;
                }
                if std::mem::take(&mut unseen) {
                    self.begins_at(number, device, seq);
                }
                if entry.envelope.priority > priority || displaced.seqs.contains(&seq) {
                    continue;
                }
                displaced.seqs.push(seq);
                displaced.bytes += u64::from(entry.envelope.body_bytes);
                if is_enough(displaced) {
                    return Ok(true);
                }
                if displaced.seqs.len() as u64 >= DISPLACED_MAX {
                    return Ok(false);
                }
            }
            let Some(next) = next else { return Ok(false) };
            from = next;
        }
        // The next search goes on from here.
        if unseen && let Some(seq) = key::seq_of(&from) {
            self.begins_at(number, device, seq);
        }
        Ok(false)
    }

    /// No queued entry (of this device) has a lower place: what was searched through once is not searched through again.
    fn begins_at(&mut self, number: u32, device: Option<&DeviceId>, seq: u64) {
        match device {
            Some(device) => self.occupancy.begins_at(number, device, seq),
            None => {
                if let Some(dest) = self.dests.get_mut(&number) {
                    dest.record.head_seq = dest.record.head_seq.max(seq);
                }
            }
        }
    }

    fn append(&mut self, number: u32, id: MessageId, submission: &Submission) -> Result<u64, EnqueueError> {
        let moment = self.moment;
        let odometer = self.dest(number).map(|dest| dest.odometer).unwrap_or_default();
        let gone = || EnqueueError::Store(StoreError::Corrupt("a destination's record is missing".into()));
        let dest = self.dest(number).ok_or_else(gone)?;
        let seq = dest.next_seq;
        dest.next_seq += 1;
        let own_ms = submission.expiry_s.map(|s| u64::from(s) * 1_000);
        if let Some(quiet) = self.dests.get_mut(&number).and_then(|dest| dest.quiet.as_mut()) {
            let ends =
                moment.custody_ms.saturating_add(own_ms.map_or(quiet.max_age_ms, |own| own.min(quiet.max_age_ms)));
            quiet.until_custody_ms = quiet.until_custody_ms.min(ends);
        }
        let envelope = envelope_of(id, submission, moment, odometer);
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
        if record::encode(&key::queued(number, seq), &record).len() > VALUE_BYTES_MAX - ROOM_TO_GROW {
            record.body = bytes::Bytes::new();
            for (index, chunk) in submission.payload.reveal().chunks(CHUNK_BYTES_MAX).enumerate() {
                let chunk_at = key::chunk(number, seq, u16::try_from(index).unwrap_or(u16::MAX));
                let value = record::encode_chunk(&chunk_at, chunk);
                self.put_raw(chunk_at, value);
                record.chunks += 1;
            }
        }
        self.insert(number, seq, &record);
        Ok(seq)
    }

    fn refuse(&mut self, submission: &Submission, limit: IntakeLimit) {
        self.meta.account.accepted += 1;
        self.meta.account.refused += 1;
        let id = MessageId::from_random(self.entropy.bytes16());
        self.add_quarantine_record(QuarantineRecord {
            reason: limit.reason(),
            id: Some(id),
            device: Some(submission.device.clone()),
            topic: format!("{} -> {}", submission.device, submission.destination),
            body_bytes: submission.payload.len() as u64,
            origin: submission.origin,
            at_ms: self.moment.wall_ms,
        });
        self.tell_refusal(id, submission);
    }

    /// The room hears of the first that was refused in a while; the records say which. A device that hands in without end must not
    /// fill the ledger.
    fn tell_refusal(&mut self, id: MessageId, submission: &Submission) {
        let (number, moment) = (self.number_of(&submission.destination), self.moment);
        let Some(dest) = self.dests.get_mut(&number) else { return };
        if dest.refusal_told_ms.is_some_and(|told| moment.custody_ms < told.saturating_add(REFUSAL_TOLD_EVERY_MS)) {
            return;
        }
        dest.refusal_told_ms = Some(moment.custody_ms);
        let odometer = dest.record.odometer;
        let envelope = envelope_of(id, submission, moment, odometer);
        self.add_to_ledger(number, NO_PLACE, &envelope, EntryState::Refused, Cause::default());
    }

    pub fn add_quarantine_record(&mut self, record: QuarantineRecord) {
        self.meta.quarantine_no += 1;
        self.put(key::quarantine(self.meta.quarantine_no), &record);
        while self.meta.quarantine_no + 1 - self.meta.quarantine_first > self.limits.quarantine_entries_max {
            self.remove(key::quarantine(self.meta.quarantine_first));
            self.meta.quarantine_first += 1;
        }
    }
}

/// How often the room is told that something was refused at a destination, in milliseconds of custody.
const REFUSAL_TOLD_EVERY_MS: u64 = 600_000;
/// In place of a place: what was refused never had one.
const NO_PLACE: u64 = 0;

/// What is known of a submission that comes in now.
fn envelope_of(id: MessageId, submission: &Submission, moment: Moment, odometer: Odometer) -> Envelope {
    let own_ms = submission.expiry_s.map(|s| u64::from(s) * 1_000);
    Envelope {
        id,
        device: submission.device.clone(),
        label: submission.label.clone(),
        content_type: submission.content_type.clone(),
        origin: submission.origin,
        accepted_ms: moment.wall_ms,
        clock_trusted: moment.wall_trusted,
        accepted_custody_ms: moment.custody_ms,
        expires_custody_ms: own_ms.map(|own_ms| moment.custody_ms + own_ms),
        body_bytes: u32::try_from(submission.payload.len()).unwrap_or(u32::MAX),
        priority: submission.priority,
        reply_to: submission.reply_to.clone(),
        odometer,
    }
}

/// What a record may grow by while it waits, in bytes: a reason, refusals, a moment.
const ROOM_TO_GROW: usize = 32;
