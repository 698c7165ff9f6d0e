//! What is done after a failure: when the destination is tried again, and which answers mean what.

use crate::outcome::{DeliveryError, Disposition};
use jiff::SignedDuration;

/// When a destination that failed is tried again: the steps in turn, the last one for ever; jitter only lengthens.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    /// The waits after the first, second ... failure in a row.
    pub steps: Vec<SignedDuration>,
    /// Largest share of a step that is added at random, 0 to 1.
    pub jitter: f64,
}

/// Most retry steps (a count).
pub const RETRY_STEPS_MAX: usize = 32;

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { steps: [15, 60, 300, 900].map(SignedDuration::from_secs).to_vec(), jitter: 0.1 }
    }
}

impl RetryPolicy {
    /// The wait after this many failures in a row (from 1).
    ///
    /// `random` is a number from 0 to 1. `retry_after` is what the destination asked for: it lengthens the wait, to at most
    /// the last step, so that a hostile service can't park a destination for ever.
    #[must_use]
    pub fn delay(&self, failures: u32, random: f64, retry_after: Option<SignedDuration>) -> SignedDuration {
        let last = self.steps.last().copied().unwrap_or(SignedDuration::from_secs(60));
        let index = usize::try_from(failures.max(1) - 1).unwrap_or(usize::MAX);
        let step = self.steps.get(index).copied().unwrap_or(last);
        let wanted = match retry_after {
            Some(asked) => step.max(asked.min(last)),
            None => step,
        };
        let added = wanted.as_secs_f64() * self.jitter.clamp(0.0, 1.0) * random.clamp(0.0, 1.0);
        wanted.saturating_add(SignedDuration::try_from_secs_f64(added).unwrap_or_default())
    }
}

/// When a destination counts as gone for now: then it is tried once in each opening, and no oftener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Breaker {
    /// Failures in a row, and ...
    pub failures: u32,
    /// ... this long without a success. Where it is always open there is no next opening: it is then tried once in this time.
    pub since_success: SignedDuration,
}
impl Default for Breaker {
    fn default() -> Self {
        Self { failures: 5, since_success: SignedDuration::from_hours(1) }
    }
}

/// Statuses to which this agreement gives another meaning than the usual one (see [`DeliveryError::disposition`]).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatusLists {
    /// Count as delivered, as 2xx do. Where a receipt is agreed it is still asked for.
    pub ok: Vec<u16>,
    /// The service refuses this message: see `head_of_line`.
    pub park: Vec<u16>,
    /// The service will never take this message: a dead letter.
    pub refuse: Vec<u16>,
}

impl StatusLists {
    /// What is done about this failure under this agreement.
    #[must_use]
    pub fn disposition(&self, error: DeliveryError) -> Disposition {
        match error {
            DeliveryError::Status(status) if self.park.contains(&status) => Disposition::Park,
            DeliveryError::Status(status) if self.refuse.contains(&status) => Disposition::Refuse,
            other => other.disposition(),
        }
    }
}
