//! Settling: what an answer of the service means for each entry that it spoke of, and whose fault a row of refusals is.
//!
//! A message that the service refuses is parked, or stays queued and is tried again by the retry steps, as `head_of_line` says; while it
//! waits it has a mark that picks look at. Where [`REFUSED_WAIT_MAX`] of a destination wait already, it is parked whatever was agreed.
//!
//! Ten messages that were refused in a row, without a success between, are the destination's fault (DESIGN decision 8): their refusals
//! are undone. It is messages that are counted, not refusals: one that is refused ten times in a week, as under `block`, says nothing
//! about the destination.
//!
//! [`REFUSED_WAIT_MAX`]: super::entries::REFUSED_WAIT_MAX

use super::{core::Core, entries::Cause};
use tidegate_schemas::{
    agreement::{HeadOfLine, RetryPolicy},
    entry::{EntryState, Event, IllegalTransition},
    messages::outbox::{Settle, Settled, Settlement, StoreError},
    outcome::DeliveryError,
    record::EntryRecord,
};

/// Messages refused in a row, without a success between, that are taken for the destination's own fault.
const REFUSED_IN_A_ROW_MAX: usize = 10;

impl Core {
    pub fn settle(&mut self, message: Settle) -> Result<Settled, StoreError> {
        let Some(number) = self.names.get(&message.destination).copied() else { return Ok(Settled::default()) };
        let Settle { settlements, head_of_line, retry, busy_ms, .. } = message;
        let mut settled = Settled::default();
        // An answer that took one of its entries comes from a service at work: what it refuses beside that is no part of a row.
        let in_a_row = settlements.iter().all(|settlement| settlement.event != Event::Deliver);
        if busy_ms > 0 {
            self.count_work(number, busy_ms);
        }
        for settlement in settlements {
            if settlement.event == Event::Park && settled.everything_refused {
                // The rest of what this answer refuses stays where it is.
                continue;
            }
            let seq = settlement.seq;
            let done = match settlement.event {
                Event::Park => self.take_refusal(number, seq, settlement.error, head_of_line, &retry)?,
                _ => self.settle_one(number, settlement)?,
            };
            match done {
                Ok(Event::Park) if in_a_row => settled.everything_refused = self.add_to_row(number, seq)?,
                Ok(_) => {}
                Err(illegal) => settled.overtaken.push((seq, illegal)),
            }
            self.spill()?;
        }
        Ok(settled)
    }

    fn settle_one(
        &mut self,
        number: u32,
        settlement: Settlement,
    ) -> Result<Result<Event, IllegalTransition>, StoreError> {
        let Settlement { seq, event, error, receipt } = settlement;
        let done = self.transition(number, seq, event, Cause { reason: error, receipt, ended_by: None })?;
        if done.is_err() || event != Event::Deliver {
            return Ok(done.map(|_| event));
        }
        if self.dests.get(&number).is_some_and(|dest| dest.record.everything_refused) {
            // It is well again: what it refused while it was not is tried once more.
            self.undo_refusals(number)?;
        }
        let now_ms = self.moment.custody_ms;
        if let Some(dest) = self.dest(number) {
            dest.delivered += 1;
            dest.last_success_custody_ms = Some(now_ms);
            dest.failures = 0;
            dest.due_custody_ms = 0;
            dest.last_error = None;
            dest.park_streak.clear();
            dest.everything_refused = false;
        }
        Ok(Ok(event))
    }

    /// The service refuses this message.
    fn take_refusal(
        &mut self,
        number: u32,
        seq: u64,
        error: Option<DeliveryError>,
        head_of_line: HeadOfLine,
        retry: &RetryPolicy,
    ) -> Result<Result<Event, IllegalTransition>, StoreError> {
        let event = Event::Park;
        let Some(record) = self.find(number, seq)? else {
            return Ok(Err(IllegalTransition { state: EntryState::Purged, event }));
        };
        let refusals = record.refusals.saturating_add(1);
        let waits_already = record.due_custody_ms > 0;
        let parks = match head_of_line {
            HeadOfLine::ParkAfter(most) => refusals >= most,
            HeadOfLine::Block | HeadOfLine::Rotate => false,
        };
        if parks || (!waits_already && self.waits_are_full(number)) {
            return Ok(self.transition(number, seq, event, Cause::of(error))?.map(|_| event));
        }
        // It stays queued; but what couldn't be parked can't be refused.
        if let Err(illegal) = record.state.on(event) {
            return Ok(Err(illegal));
        }
        let wait = retry.delay(refusals, self.entropy.unit(), None);
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
        let due_custody_ms = self.moment.custody_ms.saturating_add(wait_ms);
        let after = EntryRecord { refusals, due_custody_ms, reason: error, ..record.clone() };
        self.rewrite(number, seq, &record, &after);
        Ok(Ok(event))
    }

    /// One more refusal without a success. Whether that makes it the destination's fault: then none of them stands.
    fn add_to_row(&mut self, number: u32, seq: u64) -> Result<bool, StoreError> {
        let Some(dest) = self.dest(number) else { return Ok(false) };
        match dest.park_streak.iter_mut().find(|(refused, _)| *refused == seq) {
            Some((_, times)) => *times = times.saturating_add(1),
            None => dest.park_streak.push((seq, 1)),
        }
        if dest.park_streak.len() < REFUSED_IN_A_ROW_MAX {
            return Ok(false);
        }
        self.undo_refusals(number)?;
        Ok(true)
    }

    /// It is the destination, not the messages: they are where they were before they were refused.
    fn undo_refusals(&mut self, number: u32) -> Result<(), StoreError> {
        let row = self.dest(number).map(|d| std::mem::take(&mut d.park_streak)).unwrap_or_default();
        for (seq, times) in row {
            let Some(record) = self.find(number, seq)? else { continue };
            let refusals = record.refusals.saturating_sub(times);
            let unparked = record.state.on(Event::Unpark).ok();
            // An operator may have acted on it meanwhile: then it stays as it is.
            let Some(state) = unparked.or((record.state == EntryState::Queued).then_some(record.state)) else {
                continue;
            };
            let after = EntryRecord { state, refusals, due_custody_ms: 0, reason: None, ..record.clone() };
            self.rewrite(number, seq, &record, &after);
        }
        if let Some(dest) = self.dest(number) {
            dest.everything_refused = true;
        }
        Ok(())
    }

    /// A person wants an entry tried now that waits after a refusal. False when it doesn't wait for that.
    pub fn retry_now(&mut self, number: u32, seq: u64) -> Result<bool, StoreError> {
        let Some(record) = self.find(number, seq)? else { return Ok(false) };
        if record.state != EntryState::Queued || record.due_custody_ms == 0 {
            return Ok(false);
        }
        let after = EntryRecord { refusals: 0, due_custody_ms: 0, ..record.clone() };
        self.rewrite(number, seq, &record, &after);
        self.tally.queue_changed = true;
        Ok(true)
    }
}
