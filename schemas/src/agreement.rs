//! The service agreement: what gateway and destination settled beforehand about when, how often and how long.

use crate::{
    id::DestinationId,
    onion::OnionEndpoint,
    window::{RawWindows, WindowSet},
    wire::WireFormat,
};
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Most destinations of one gateway.
pub const DESTINATIONS_MAX: usize = 10_000;
/// Most lanes of one destination.
pub const LANES_MAX: u8 = 8;

/// One destination: its alias, where it is, and the agreement with it.
#[derive(Clone, PartialEq)]
pub struct Destination {
    /// The alias.
    pub id: DestinationId,
    /// The onion service.
    pub endpoint: OnionEndpoint,
    /// What was agreed.
    pub agreement: ServiceAgreement,
    /// Secrets and keys, all of them this destination's alone (DESIGN decision 14).
    pub keys: DestinationKeys,
}
impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Destination").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The keys of one destination. `Debug` shows none of them.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct DestinationKeys {
    /// x25519 secret of onion client authorization, where the service asks for it.
    pub client_auth: Option<[u8; 32]>,
    /// The bearer key that a `tidegate receiver` asks of those who write.
    pub write_key: Option<String>,
    /// ed25519 public key under which the receiver signs its receipts.
    pub receipt_key: Option<[u8; 32]>,
    /// Seed of the ed25519 key with which this gateway signs for this destination alone.
    pub signing_seed: [u8; 32],
    /// 16 random bytes from which this destination's source name is made.
    pub pseudonym: [u8; 16],
}
impl fmt::Debug for DestinationKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[keys]")
    }
}

/// The agreement. Times are lengths of real time.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceAgreement {
    /// When it may be tried.
    pub windows: WindowSet,
    /// What is sent.
    pub format: WireFormat,
    /// When to try again.
    pub retry: RetryPolicy,
    /// How long a message lives, from custody.
    pub max_age: SignedDuration,
    /// Most lanes at once.
    pub lanes: u8,
    /// What may wait.
    pub limits: Limits,
    /// What counts as delivered.
    pub success: Success,
    /// Fresh circuits an hour, whatever the reason (DESIGN decision 13).
    pub fresh_circuits_per_hour: u16,
    /// Deadlines of one attempt.
    pub deadlines: Deadlines,
}

impl Default for ServiceAgreement {
    fn default() -> Self {
        Self {
            windows: WindowSet::default(),
            format: WireFormat::default(),
            retry: RetryPolicy::default(),
            max_age: SignedDuration::from_hours(14 * 24),
            lanes: 2,
            limits: Limits::default(),
            success: Success::Any2xx,
            fresh_circuits_per_hour: 12,
            deadlines: Deadlines::default(),
        }
    }
}

/// What counts as delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Success {
    /// Any status from 200 to 299.
    #[serde(rename = "2xx")]
    Any2xx,
    /// A 2xx with the receiver's valid signed receipt over the message's id and content.
    #[serde(rename = "receipt")]
    Receipt,
}

/// How much may wait for one destination. Reaching a limit refuses what comes, and loses nothing that was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Messages that wait (queued, held, parked and dead ones).
    pub messages: u64,
    /// Their bodies, in bytes.
    pub bytes: u64,
}
impl Default for Limits {
    fn default() -> Self {
        Self { messages: 50_000, bytes: 64 * 1024 * 1024 }
    }
}

/// Deadlines of one attempt, each of which ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// To reach the onion service over a fresh circuit.
    pub connect: SignedDuration,
    /// From the request to the last byte of the answer.
    pub exchange: SignedDuration,
}
impl Default for Deadlines {
    fn default() -> Self {
        Self { connect: SignedDuration::from_secs(120), exchange: SignedDuration::from_secs(60) }
    }
}

/// When a destination that failed is tried again: the steps in turn, the last one for ever; jitter only lengthens.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    /// The waits after the first, second ... failure in a row.
    pub steps: Vec<SignedDuration>,
    /// Largest share of a step that is added at random, 0 to 1.
    pub jitter: f64,
}

/// Most retry steps.
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

/// An agreement as it is written: in `[destination.NAME]` of the config file and in the admin API. Absent keys are the defaults.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawAgreement {
    /// Delivery windows.
    #[serde(default)]
    pub windows: RawWindows,
    /// `private-iot`, `raw`, `cloudevents` or `cloudevents-batch`.
    #[serde(default)]
    pub format: WireFormat,
    /// Retry steps and jitter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<RawRetry>,
    /// How long a message lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<RawLifetime>,
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawRetry {
    /// The waits, in order.
    pub steps: Vec<String>,
    /// Share added at random, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<f64>,
}

/// `lifetime = { max_age = "14d" }`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawLifetime {
    /// From custody to the end.
    pub max_age: String,
}

/// `limits = { messages = 50000, bytes = "64MiB" }`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawLimits {
    /// Messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<u64>,
    /// Bytes, with a unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<String>,
}

/// `tor_budget = { fresh_circuits_per_hour = 12 }`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawTorBudget {
    /// Fresh circuits an hour.
    pub fresh_circuits_per_hour: u16,
}

/// `deadlines = { connect = "120s", exchange = "60s" }`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawDeadlines {
    /// To reach the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect: Option<String>,
    /// From request to answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange: Option<String>,
}

mod check;

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_steps_come_in_turn_and_the_last_repeats() {
        let policy = RetryPolicy::default();
        let waits: Vec<i64> = (1..=6).map(|n| policy.delay(n, 0.0, None).as_secs()).collect();
        assert_eq!(waits, [15, 60, 300, 900, 900, 900]);
    }

    proptest! {
        #[test]
        fn a_wait_is_never_shorter_than_its_step_nor_longer_than_the_last_with_jitter(
            failures in 0_u32..100, random in 0.0_f64..=1.0, asked in proptest::option::of(0_i64..100_000_000),
        ) {
            let policy = RetryPolicy::default();
            let wait = policy.delay(failures, random, asked.map(SignedDuration::from_secs));
            let step = policy.delay(failures, 0.0, None);
            prop_assert!(wait >= step);
            prop_assert!(wait <= SignedDuration::from_secs(990));
        }
    }

    #[test]
    fn an_empty_agreement_is_the_default_one() {
        let made = RawAgreement::default().check("destination.a", false).unwrap();
        assert_eq!(made, ServiceAgreement::default());
    }

    #[test]
    fn all_problems_come_at_once_with_their_paths() {
        let raw = RawAgreement {
            lanes: Some(99),
            retry: Some(RawRetry { steps: vec!["soon".into()], jitter: Some(7.0) }),
            lifetime: Some(RawLifetime { max_age: "1s".into() }),
            limits: Some(RawLimits { messages: Some(0), bytes: Some("64 parsecs".into()) }),
            success: Some(Success::Receipt),
            ..RawAgreement::default()
        };
        let problems = raw.check("destination.a", false).unwrap_err();
        let paths: Vec<_> = problems.iter().map(|p| p.path.trim_start_matches("destination.a.")).collect();
        assert_eq!(
            paths,
            [
                "retry.steps[0]",
                "retry.jitter",
                "lifetime.max_age",
                "lanes",
                "limits.messages",
                "limits.bytes",
                "success"
            ]
        );
    }
}
