//! What came of an attempt: how it failed, whose fault that is, and what is done about it.
//!
//! The place that sees the failure names it; everything after that obeys. [`DeliveryError::disposition`] is an exhaustive match,
//! so a new failure can't be forgotten.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How an attempt failed. Carries no address and no payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryError {
    /// Tor isn't ready.
    #[error("tor is not ready")]
    UplinkNotReady,
    /// The window closed before or during the attempt.
    #[error("the window closed")]
    WindowClosed,
    /// The budget of fresh circuits is used up for now.
    #[error("the tor budget of this destination is used up for now")]
    TorBudget,
    /// No directory has the service's descriptor.
    #[error("the onion service's descriptor was not found")]
    DescriptorNotFound,
    /// None of its introduction points passed the request on.
    #[error("no introduction point of the onion service answered")]
    IntroductionFailed,
    /// It did not come to the rendezvous point.
    #[error("the rendezvous with the onion service failed")]
    RendezvousFailed,
    /// The deadline to reach it passed.
    #[error("the onion service was not reached in time")]
    ConnectTimeout,
    /// It wants a client key, and there is none.
    #[error("the onion service asks for client authorization, and no key is configured")]
    ClientAuthMissing,
    /// It wants another client key.
    #[error("the onion service does not accept our client authorization key")]
    ClientAuthWrong,
    /// The onion service is there, but nothing listens behind it.
    #[error("the onion service is up, but the web server behind it is not")]
    ServiceDown,
    /// The connection broke during the exchange.
    #[error("the connection broke before the answer was complete")]
    ConnectionLost,
    /// The deadline of the exchange passed.
    #[error("the answer did not come in time")]
    AnswerTimeout,
    /// The answer is longer than we read.
    #[error("the answer is larger than the limit")]
    AnswerTooLarge,
    /// The answer is not HTTP, or not of the agreed form.
    #[error("the answer is not of the agreed form")]
    AnswerMalformed,
    /// A redirect, which is never followed.
    #[error("the service answered with a redirect ({0}), which is never followed")]
    Redirect(u16),
    /// Another status than success.
    #[error("the service answered with status {0}")]
    Status(u16),
    /// Success without the agreed receipt.
    #[error("the service answered success without its signed receipt")]
    ReceiptMissing,
    /// The receipt does not verify.
    #[error("the service's receipt does not verify")]
    ReceiptWrong,
    /// The message can't be written in the destination's format.
    #[error("the message can't be written in the destination's format")]
    Unrepresentable,
    /// The stored body can't be read back.
    #[error("the stored message is damaged")]
    Damaged,
    /// A defect of the gateway or of the Tor library.
    #[error("an internal error")]
    Internal,
}

/// What is done about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Disposition {
    /// The destination is tried again later; counted, its back-off grows.
    Defer,
    /// The destination is tried again later; not counted.
    Snooze,
    /// This message waits for a person; the next one goes on.
    Park,
    /// This message is over: the service said so for good.
    Refuse,
    /// This message is stopped: something is wrong with it on our side.
    Hold,
}

impl DeliveryError {
    /// Whose fault it is decides what is done (DESIGN decision 8).
    #[must_use]
    pub fn disposition(self) -> Disposition {
        match self {
            Self::UplinkNotReady | Self::WindowClosed | Self::TorBudget => Disposition::Snooze,
            Self::DescriptorNotFound
            | Self::IntroductionFailed
            | Self::RendezvousFailed
            | Self::ConnectTimeout
            | Self::ClientAuthMissing
            | Self::ClientAuthWrong
            | Self::ServiceDown
            | Self::ConnectionLost
            | Self::AnswerTimeout
            | Self::AnswerTooLarge
            | Self::AnswerMalformed
            | Self::Redirect(_)
            | Self::ReceiptMissing
            | Self::ReceiptWrong
            | Self::Internal => Disposition::Defer,
            Self::Status(400 | 413 | 415 | 422) | Self::Unrepresentable => Disposition::Park,
            Self::Status(410) => Disposition::Refuse,
            Self::Status(_) => Disposition::Defer,
            Self::Damaged => Disposition::Hold,
        }
    }

    /// Whether the circuit must not be used again.
    #[must_use]
    pub fn spoils_the_lane(self) -> bool {
        !matches!(
            self,
            Self::Status(_)
                | Self::Redirect(_)
                | Self::ReceiptMissing
                | Self::ReceiptWrong
                | Self::Unrepresentable
                | Self::Damaged
                | Self::WindowClosed
        )
    }

    /// What an operator can do.
    #[must_use]
    pub fn hint(self) -> &'static str {
        match self {
            Self::UplinkNotReady => "wait for Tor to connect, or see `tidegate status` for what keeps it",
            Self::WindowClosed => "nothing to do: it goes on in the next opening",
            Self::TorBudget => "nothing to do, or raise tor_budget.fresh_circuits_per_hour of this destination",
            Self::DescriptorNotFound => "is the onion service running, and is its window the same as ours?",
            Self::IntroductionFailed | Self::RendezvousFailed | Self::ConnectTimeout => {
                "the onion service was there a while ago: it may be down, overloaded or restarting"
            }
            Self::ClientAuthMissing => "ask the service's operator for access and set client_auth of this destination",
            Self::ClientAuthWrong => "compare the public key at the service with the one of client_auth",
            Self::ServiceDown => "tell the service's operator that the web server behind the onion service is down",
            Self::ConnectionLost | Self::AnswerTimeout => {
                "the service or the circuit is slow; it is tried on a fresh circuit"
            }
            Self::AnswerTooLarge | Self::AnswerMalformed => {
                "is this address a receiver for readings? try its page in Tor Browser"
            }
            Self::Redirect(_) => "give the address at which the service takes readings, without a redirect",
            Self::Status(401 | 403) => "the service does not let us write: check write_key of this destination",
            Self::Status(404) => "the service has no such path: is the format of the agreement right?",
            Self::Status(400 | 413 | 415 | 422) => {
                "the service refuses this message: look at its format, then retry or purge it"
            }
            Self::Status(410) => "the service says that it will never take this message",
            Self::Status(_) => "the service has a problem of its own; it is tried again",
            Self::ReceiptMissing => "is this a `tidegate receiver`? if not, set success = \"2xx\" for this destination",
            Self::ReceiptWrong => "receipt_key does not belong to this receiver, or something stands between",
            Self::Unrepresentable => "choose format = \"raw\" or \"cloudevents\" for this destination",
            Self::Damaged => "the disk may be failing: back up, and see the log",
            Self::Internal => "see the log; please report this",
        }
    }
}

/// What a failed attempt says to the outbox: the error, and when the service asks to be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// How it failed.
    pub error: DeliveryError,
    /// `Retry-After` of the answer, in seconds, if there was one.
    pub retry_after_s: Option<u32>,
}
impl From<DeliveryError> for Failure {
    fn from(error: DeliveryError) -> Self {
        Self { error, retry_after_s: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_status_but_410_ends_a_message_and_only_four_concern_the_message() {
        for status in 100..600 {
            let disposition = DeliveryError::Status(status).disposition();
            match status {
                410 => assert_eq!(disposition, Disposition::Refuse),
                400 | 413 | 415 | 422 => assert_eq!(disposition, Disposition::Park),
                _ => assert_eq!(disposition, Disposition::Defer, "{status}"),
            }
        }
    }
}
