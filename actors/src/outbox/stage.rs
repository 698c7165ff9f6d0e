//! Staging: what each write changes. Nothing here waits for the disk; errors of reading leave memory as it was.

use super::{core::Core, entries::Cause, op::Op};
use tidegate_schemas::{
    entry::{EntryState, Event},
    messages::outbox::{Budget, Fail, Operate, OperateError, Spend, StoreError},
    outcome::{DeliveryError, Disposition},
};
use tokio::sync::oneshot::Sender;

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
pub(super) fn on_disk<T: Send + 'static, E: From<StoreError> + Send + 'static>(
    to: Sender<Result<T, E>>,
    value: T,
) -> super::core::Reply {
    Box::new(move |result| drop(to.send(result.map(|()| value).map_err(E::from))))
}

impl Core {
    /// Stages one write, or answers it at once when it changes nothing.
    pub fn stage(&mut self, op: Op) {
        match op {
            Op::Enqueue(message, to) => self.stage_enqueue(*message, to),
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
            Op::Receipted(message, to) => {
                self.receipted(message);
                self.reply(on_disk(to, ()));
            }
            Op::PassReceipts(last) => self.pass_receipts(last),
            Op::Archived(last) => self.archived(last),
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
        let seq = message.entry.seq;
        if self.find(number, seq)?.is_none() {
            return Err(unknown());
        }
        let state = if message.event == Event::Retry && self.retry_now(number, seq)? {
            EntryState::Queued
        } else {
            self.transition(number, seq, message.event, Cause::default())??
        };
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
