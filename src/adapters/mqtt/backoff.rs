//! How long to wait before the next connection.

use std::time::Duration;
use tidegate_actors::ports::entropy::Entropy;

/// First wait, at most.
pub(in crate::adapters) const WAIT_MIN: Duration = Duration::from_millis(200);
/// Longest wait. A connection that held this long starts anew.
pub(in crate::adapters) const WAIT_MAX: Duration = Duration::from_secs(15);

/// Doubles from [`WAIT_MIN`] to [`WAIT_MAX`]; each wait is drawn between half of its step and all of it, so that gateways that
/// lost one broker don't come back in one moment.
#[derive(Debug, Default)]
pub(in crate::adapters) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after a connection that lived this long (zero if it never came up).
    pub fn after(&mut self, lived: Duration, entropy: &dyn Entropy) -> Duration {
        if lived >= WAIT_MAX {
            self.failures = 0;
        }
        let step = WAIT_MIN.saturating_mul(2_u32.saturating_pow(self.failures)).min(WAIT_MAX);
        self.failures = self.failures.saturating_add(1);
        step.mul_f64(0.5 + entropy.unit() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_actors::testing::seeded_entropy::SeededEntropy;

    #[test]
    fn it_doubles_to_fifteen_seconds_and_a_connection_that_held_starts_anew() {
        let entropy = SeededEntropy::new(1);
        let mut backoff = Backoff::default();
        let mut step = WAIT_MIN;
        for _ in 0..40 {
            let wait = backoff.after(Duration::from_secs(1), &entropy);
            assert!(wait >= step / 2 && wait <= step, "{wait:?} of {step:?}");
            step = (step * 2).min(WAIT_MAX);
        }
        assert!(backoff.after(WAIT_MAX, &entropy) <= WAIT_MIN);
    }
}
