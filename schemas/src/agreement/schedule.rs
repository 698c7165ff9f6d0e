//! When the destination may be tried, all things considered: validity, windows, signals, the clock.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// From when to when an agreement holds. Outside of it nothing is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Validity {
    /// Its first moment.
    pub from: Option<Timestamp>,
    /// The first moment after it.
    pub until: Option<Timestamp>,
}

/// What a signal ("ready until", "not now") may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignalPolicy {
    /// Whether signals are heard at all.
    pub accept: bool,
    /// Longest time that one signal opens or closes.
    pub ttl_max: SignedDuration,
    /// Nothing but a signal opens: windows say when one may.
    pub only: bool,
    /// Signals that are honoured in an hour.
    pub per_hour: u16,
}
impl Default for SignalPolicy {
    fn default() -> Self {
        Self { accept: false, ttl_max: SignedDuration::from_mins(15), only: false, per_hour: 4 }
    }
}
