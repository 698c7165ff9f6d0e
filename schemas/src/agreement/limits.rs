//! How much may wait.

use super::{BreakGlass, ServiceAgreement};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How much may wait for one destination. Reaching a limit loses nothing that was acknowledged, except by
/// [`OnFull::DropOldest`], which is counted and told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Limits {
    /// Messages that wait (queued, held, parked and dead ones).
    pub messages: u64,
    /// Their bodies, in bytes.
    pub bytes: u64,
    /// What is done at the limit.
    pub on_full: OnFull,
    /// What one device may have waiting, and how fast it may hand in.
    pub device: DeviceLimits,
}
impl Default for Limits {
    fn default() -> Self {
        let (on_full, device) = (OnFull::default(), DeviceLimits::default());
        Self { messages: 50_000, bytes: 64 * 1024 * 1024, on_full, device }
    }
}

/// The part of an agreement that decides about taking a message, before anything is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IntakeTerms {
    /// What may wait.
    pub limits: Limits,
    /// Whether an alarm may come as break-glass, and how often.
    pub break_glass: Option<BreakGlass>,
}

impl ServiceAgreement {
    /// By what messages are taken.
    #[must_use]
    pub fn intake(&self) -> IntakeTerms {
        IntakeTerms { limits: self.limits, break_glass: self.break_glass }
    }
}

/// What is done with a message for which there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFull {
    /// It is refused: HTTP hears it, MQTT gets an end state *refused* on record.
    #[default]
    Reject,
    /// The oldest queued ones make room (end state *dropped*).
    DropOldest,
}

/// Limits of each device at one destination; absent ones are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct DeviceLimits {
    /// Messages that wait.
    pub messages: Option<u64>,
    /// Their bodies, in bytes.
    pub bytes: Option<u64>,
    /// Messages a minute; a whole minute's worth may come at once.
    pub per_minute: Option<u32>,
}
