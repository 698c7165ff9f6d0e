//! The service agreement: what gateway and destination settled beforehand about when, how often and how long.

mod check;
mod life;
mod limits;
mod order;
mod raw;
mod retry;
mod schedule;

pub use life::{Ages, Lifetime, LifetimeEnd};
pub use limits::{DeviceLimits, IntakeTerms, Limits, OnFull};
pub use order::{BreakGlass, HeadOfLine, Order};
pub use raw::{
    RawAgreement, RawBreakGlass, RawBreaker, RawDeadlines, RawDeviceLimits, RawHeadOfLine, RawLifetime, RawLimits,
    RawRetry, RawSignal, RawStatuses, RawTorBudget, RawValid,
};
pub use retry::{Breaker, RETRY_STEPS_MAX, RetryPolicy, StatusLists};
pub use schedule::{Circumstances, Evaluation, SignalPolicy, Validity, Why};

use crate::{id::DestinationId, onion::OnionEndpoint, window::WindowSet, wire::WireFormat};
use jiff::SignedDuration;
use schemars::JsonSchema;
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
    /// From when to when the agreement itself holds.
    pub valid: Validity,
    /// What a signal may do.
    pub signal: SignalPolicy,
    /// What is sent.
    pub format: WireFormat,
    /// When to try again.
    pub retry: RetryPolicy,
    /// What status means what, beside the rules that always hold.
    pub statuses: StatusLists,
    /// When it is tried but once an opening.
    pub breaker: Breaker,
    /// How long a message lives.
    pub lifetime: Lifetime,
    /// Ages of the oldest message at which people are told, rising.
    pub notify_after: Vec<SignedDuration>,
    /// How long the receiver says that it remembers message ids, if it says so.
    pub receiver_memory: Option<SignedDuration>,
    /// What has to come in order.
    pub order: Order,
    /// What becomes of a message that the service refuses.
    pub head_of_line: HeadOfLine,
    /// Whether an alarm may go out through a closed window, and how often.
    pub break_glass: Option<BreakGlass>,
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
            valid: Validity::default(),
            signal: SignalPolicy::default(),
            retry: RetryPolicy::default(),
            statuses: StatusLists::default(),
            breaker: Breaker::default(),
            lifetime: Lifetime::default(),
            notify_after: Vec::new(),
            receiver_memory: None,
            order: Order::default(),
            head_of_line: HeadOfLine::default(),
            break_glass: None,
            lanes: 2,
            limits: Limits::default(),
            success: Success::Any2xx,
            fresh_circuits_per_hour: 12,
            deadlines: Deadlines::default(),
        }
    }
}

/// What counts as delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Success {
    /// Any status from 200 to 299.
    #[serde(rename = "2xx")]
    Any2xx,
    /// A 2xx with the receiver's valid signed receipt over the message's id and content.
    #[serde(rename = "receipt")]
    Receipt,
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
            lifetime: Some(RawLifetime { max_age: Some("1s".into()), ..RawLifetime::default() }),
            limits: Some(RawLimits { messages: Some(0), bytes: Some("64 parsecs".into()), ..RawLimits::default() }),
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
