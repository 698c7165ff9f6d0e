//! An agreement as it is written. Absent keys are the defaults; [`RawAgreement::check`] makes an agreement of it.

use super::{Ages, OnFull, Order, Success};
use crate::{window::RawWindows, wire::WireFormat};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An agreement as it is written: in `[destination.NAME]` of the config file and in the admin API. Absent keys are the defaults.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawAgreement {
    /// Delivery windows.
    #[serde(default)]
    pub windows: RawWindows,
    /// `private-iot`, `raw`, `cloudevents` or `cloudevents-batch`.
    #[serde(default)]
    pub format: WireFormat,
    /// From when to when the agreement holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid: Option<RawValid>,
    /// What a signal may do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<RawSignal>,
    /// Retry steps and jitter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<RawRetry>,
    /// Statuses with another meaning than usual.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<RawStatuses>,
    /// When it is tried but once an opening.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breaker: Option<RawBreaker>,
    /// How long a message lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<RawLifetime>,
    /// Ages of the oldest message at which people are told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notify_after: Option<Vec<String>>,
    /// How long the receiver remembers message ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receiver_memory: Option<String>,
    /// `per_device` or `none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
    /// `block`, `rotate` or `{ park_after = N }`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_of_line: Option<RawHeadOfLine>,
    /// Alarms through a closed window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub break_glass: Option<RawBreakGlass>,
    /// Most lanes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lanes: Option<u8>,
    /// What may wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<RawLimits>,
    /// `2xx` or `receipt`; `receipt` where a receipt key is given, else `2xx`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success: Option<Success>,
    /// Limit of fresh circuits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tor_budget: Option<RawTorBudget>,
    /// Deadlines of an attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadlines: Option<RawDeadlines>,
}

/// `retry = { steps = ["15s", "1m"], jitter = 0.1 }`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawRetry {
    /// The waits, in order.
    pub steps: Vec<String>,
    /// Share added at random, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<f64>,
}

/// `lifetime = { max_age = "14d" }`, `{ attempts = 30 }` or `{ missed_windows = 3 }`: one of them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawLifetime {
    /// From custody to the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<String>,
    /// Failed attempts of the destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// Openings that closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed_windows: Option<u32>,
    /// `always` or `while_open`; with `max_age`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ages: Option<Ages>,
}

/// `limits = { messages = 50000, bytes = "64MiB", on_full = "reject" }`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawLimits {
    /// Messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<u64>,
    /// Bytes, with a unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<String>,
    /// `reject` or `drop_oldest`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_full: Option<OnFull>,
    /// Of each device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<RawDeviceLimits>,
}

/// `limits.device = { messages = 1000, bytes = "4MiB", per_minute = 60 }`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawDeviceLimits {
    /// Messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<u64>,
    /// Bytes, with a unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<String>,
    /// Messages a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_minute: Option<u32>,
}

/// `valid = { from = "2027-01-01", until = "2028-01-01T08:00" }`, in the time zone of the windows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawValid {
    /// Its first moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The first moment after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// `signal = { accept = true, ttl_max = "15m", only = false, per_hour = 4 }`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawSignal {
    /// Whether signals are heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accept: Option<bool>,
    /// Longest time of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_max: Option<String>,
    /// Nothing else opens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<bool>,
    /// Honoured in an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_hour: Option<u16>,
}

/// `status = { ok = [304], park = [409], refuse = [451] }`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawStatuses {
    /// Delivered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ok: Vec<u16>,
    /// This message is refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub park: Vec<u16>,
    /// This message is refused for good.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refuse: Vec<u16>,
}

/// `breaker = { failures = 5, since_success = "1h" }`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawBreaker {
    /// Failures in a row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<u32>,
    /// Without a success for so long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_success: Option<String>,
}

/// `break_glass = { per_hour = 6 }`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawBreakGlass {
    /// So many an hour.
    pub per_hour: u16,
}

/// `head_of_line = "block"`, `"rotate"` or `{ park_after = 3 }`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RawHeadOfLine {
    /// See [`crate::agreement::HeadOfLine::Block`].
    Block,
    /// See [`crate::agreement::HeadOfLine::Rotate`].
    Rotate,
    /// See [`crate::agreement::HeadOfLine::ParkAfter`].
    ParkAfter(u32),
}

/// `tor_budget = { fresh_circuits_per_hour = 12 }`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawTorBudget {
    /// Fresh circuits an hour.
    pub fresh_circuits_per_hour: u16,
}

/// `deadlines = { connect = "120s", exchange = "60s" }`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawDeadlines {
    /// To reach the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect: Option<String>,
    /// From request to answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange: Option<String>,
}
