//! The wall clock. Everything that measures a length of time uses tokio's monotonic clock instead.

use jiff::Timestamp;
use tidegate_schemas::clock::{ClockTrust, ConsensusTimes};

/// Wall-clock time, and whether to believe it.
pub trait Clock: Send + Sync + 'static {
    /// Now.
    fn now(&self) -> Timestamp;

    /// Whether the wall clock is believed, and why: judged anew with each call, which is cheap. `schemas`' `clock` has the rules.
    fn trust(&self) -> ClockTrust;

    /// Whether the wall clock is believed.
    fn trusted(&self) -> bool {
        self.trust().trusted()
    }

    /// Takes note of the times of Tor's newest consensus. It may be told the same again and again; from the first time on it carries
    /// them forward.
    fn told_by_tor(&self, times: ConsensusTimes);
}
