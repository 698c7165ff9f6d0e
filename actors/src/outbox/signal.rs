//! What a destination or an operator says about when it is ready: kept beside the queue, so that it outlives a restart.
//!
//! A signal only opens or closes, for its time by the custody clock, within what the agreement lets it; it never says where data goes.
//! Those that shorten nothing but our own waiting are counted: at most so many are honoured in an hour, whoever gave them.
//!
//! A signal that came over the network has a number (`sequence`). The highest is kept on disk, so that a repetition is none of ours at
//! any later time, whatever a clock says.

use super::{core::Core, stage::within_the_hour};
use tidegate_schemas::{
    messages::outbox::{SetPaused, Signal, SignalError, SignalTaken, SignalWord},
    record::SignalRecord,
};

impl Core {
    /// Takes note of a signal.
    pub fn signal(&mut self, message: &Signal) -> Result<SignalTaken, SignalError> {
        let number = self.number_of(&message.destination);
        // Noted whatever becomes of it: what is not honoured now must not come again when it would be.
        if let (Some(sequence), Some(dest)) = (message.sequence, self.dest(number)) {
            if sequence <= dest.signal_sequence {
                return Err(SignalError::Repeated);
            }
            dest.signal_sequence = sequence;
        }
        if !message.policy.accept {
            return Err(SignalError::NotAccepted);
        }
        let now_ms = self.moment.custody_ms;
        let longest_s = u32::try_from(message.policy.ttl_max.as_secs()).unwrap_or(u32::MAX);
        let Some(dest) = self.dest(number) else { return Err(SignalError::NotAccepted) };
        let (ready, wanted_s) = match message.word {
            SignalWord::Ready(ttl_s) => (true, ttl_s),
            SignalWord::NotNow(ttl_s) => (false, ttl_s),
            SignalWord::Clear => {
                dest.signal = None;
                self.tally.queue_changed = true;
                return Ok(SignalTaken { holds_s: 0 });
            }
        };
        // Saying "not now" makes nobody build a circuit, but a "ready" that follows it would: all are counted.
        if let Err(wait_ms) = within_the_hour(&mut dest.signals_custody_s, now_ms, message.policy.per_hour) {
            return Err(SignalError::TooMany { wait_s: u32::try_from(wait_ms.div_ceil(1_000)).unwrap_or(u32::MAX) });
        }
        let holds_s = wanted_s.min(longest_s);
        let until_custody_ms = now_ms.saturating_add(u64::from(holds_s) * 1_000);
        dest.signal = Some(SignalRecord { ready, since_custody_ms: now_ms, until_custody_ms, from: message.from });
        self.tally.queue_changed = true;
        Ok(SignalTaken { holds_s })
    }

    /// Stops a destination, or lets it go on.
    pub fn set_paused(&mut self, message: &SetPaused) {
        let number = self.number_of(&message.destination);
        if let Some(dest) = self.dest(number) {
            dest.paused = message.paused;
        }
        self.tally.queue_changed = true;
    }
}
