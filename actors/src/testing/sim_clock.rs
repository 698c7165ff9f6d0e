//! A wall clock that goes with tokio's (paused) time, and can be stepped like a real one by an operator or a time server.

use crate::ports::clock::Clock;
use jiff::{SignedDuration, Timestamp};
use std::sync::Mutex;
use tidegate_schemas::clock::{ClockTrust, ConsensusTimes};
use tokio::time::Instant;

/// A simulated wall clock. Cheap to share in an `Arc`.
#[derive(Debug)]
pub struct SimClock {
    start: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    epoch: Timestamp,
    trust: ClockTrust,
    told: Option<ConsensusTimes>,
}

impl SimClock {
    /// A trusted clock that shows this time now.
    #[must_use]
    pub fn at(epoch: Timestamp) -> Self {
        Self {
            start: Instant::now(),
            state: Mutex::new(State { epoch, trust: ClockTrust::KernelSynchronised, told: None }),
        }
    }

    /// Steps the wall clock; timers don't notice.
    pub fn step(&self, by: SignedDuration) {
        let mut state = self.lock();
        state.epoch = state.epoch.saturating_add(by).unwrap_or(state.epoch);
    }

    /// Says whether the clock is to be believed.
    pub fn set_trusted(&self, trusted: bool) {
        self.set_trust(if trusted { ClockTrust::KernelSynchronised } else { ClockTrust::Unvouched });
    }

    /// Says why it is to be believed, or why not.
    pub fn set_trust(&self, trust: ClockTrust) {
        self.lock().trust = trust;
    }

    /// What Tor said last.
    pub fn told(&self) -> Option<ConsensusTimes> {
        self.lock().told
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        let elapsed = SignedDuration::try_from(self.start.elapsed()).unwrap_or(SignedDuration::MAX);
        let epoch = self.lock().epoch;
        epoch.saturating_add(elapsed).unwrap_or(epoch)
    }

    fn trust(&self) -> ClockTrust {
        self.lock().trust
    }

    fn told_by_tor(&self, times: ConsensusTimes) {
        self.lock().told = Some(times);
    }
}
