//! A clock that stands still with whoever asks it, so that a test can see what becomes of a gateway whose handler blocks for ever.
//!
//! The gateway gives it to its outbox when the environment names a file ([`MARK`]); once that file is there, the next to ask for the
//! time never gets an answer, and the thread that it runs on stands. Like all of the lab it is not in a release.

use std::{env, path::PathBuf, sync::Arc, thread};

use jiff::Timestamp;
use tidegate_actors::ports::clock::Clock;
use tidegate_schemas::clock::{ClockTrust, ConsensusTimes};

/// The environment variable that names the file.
pub const MARK: &str = "TIDEGATE_TESTNET_STANDSTILL";

/// The clock.
struct Standstill {
    clock: Arc<dyn Clock>,
    mark: PathBuf,
}

impl Clock for Standstill {
    fn now(&self) -> Timestamp {
        while self.mark.exists() {
            thread::park();
        }
        self.clock.now()
    }

    fn trust(&self) -> ClockTrust {
        self.clock.trust()
    }

    fn told_by_tor(&self, times: ConsensusTimes) {
        self.clock.told_by_tor(times);
    }
}

/// This clock, as the environment wants it.
#[must_use]
pub fn as_environment_says(clock: &Arc<dyn Clock>) -> Arc<dyn Clock> {
    match env::var_os(MARK) {
        Some(mark) => Arc::new(Standstill { clock: Arc::clone(clock), mark: mark.into() }),
        None => Arc::clone(clock),
    }
}
