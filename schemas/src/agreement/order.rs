//! What comes before what: order, what a refused message does to those behind it, and what may go first.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What has to come in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// The messages of one device (OR-1); those of one priority among themselves.
    #[default]
    PerDevice,
    /// Nothing: any lane takes the next message.
    None,
}

/// What becomes of a message that the service refuses (400, 413, 415, 422, or by the agreement's list).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HeadOfLine {
    /// It stays the next of its device and is tried again by the retry steps; its device's later messages wait behind it.
    Block,
    /// It is tried again by the retry steps; later messages pass it meanwhile.
    Rotate,
    /// After so many refusals it is parked, for a person to look at; until then as `Rotate`.
    ParkAfter(u32),
}
impl Default for HeadOfLine {
    fn default() -> Self {
        Self::ParkAfter(1)
    }
}

/// Messages that may go out through a closed window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BreakGlass {
    /// So many an hour; what comes beyond that waits for the window as a message of high priority.
    pub per_hour: u16,
}
