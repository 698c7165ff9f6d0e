//! A wall clock that goes with tokio's (paused) time, and can be stepped like a real one by an operator or a time server.

use crate::ports::clock::Clock;
use jiff::{SignedDuration, Timestamp};
use std::sync::Mutex;
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
    trusted: bool,
}

impl SimClock {
    /// A trusted clock that shows this time now.
    #[must_use]
    pub fn at(epoch: Timestamp) -> Self {
        Self { start: Instant::now(), state: Mutex::new(State { epoch, trusted: true }) }
    }

    /// Steps the wall clock; timers don't notice.
    pub fn step(&self, by: SignedDuration) {
        let mut state = self.lock();
        state.epoch = state.epoch.saturating_add(by).unwrap_or(state.epoch);
    }

    /// Says whether the clock is to be believed.
    pub fn set_trusted(&self, trusted: bool) {
        self.lock().trusted = trusted;
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

    fn trusted(&self) -> bool {
        self.lock().trusted
    }
}
