//! What a device is told of one message: its id and what became of it. No payload, no address, no destination.

use crate::{
    entry::{EndedBy, EntryState},
    id::MessageId,
    messages::outbox::{DeviceReceipt, IntakeLimit},
    submission::QuarantineReason,
};
use jiff::Timestamp;
use serde::Serialize;

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReceiptWord {
    /// On the gateway's disk: it is the gateway's to deliver now.
    Accepted,
    /// The service took it.
    Delivered,
    /// Its life ended before it could be delivered.
    Expired,
    /// It was not taken: by the gateway, or by the service for good.
    Refused,
    /// It made room for a newer one.
    Dropped,
    /// An operator removed it.
    Purged,
}

/// Why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(untagged)]
enum Reason {
    Ended(EndedBy),
    Intake(QuarantineReason),
    Word(&'static str),
}

/// What is told of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ReceiptTiding {
    /// Its id, as the receiver and the room know it; absent for what the gateway did not take.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<MessageId>,
    state: ReceiptWord,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    /// Whole seconds since 1970; absent when the clock is not trusted.
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<i64>,
}

impl ReceiptTiding {
    /// It is on disk.
    #[must_use]
    pub fn accepted(id: MessageId) -> Self {
        Self { id: Some(id), state: ReceiptWord::Accepted, reason: None, time: None }
    }

    /// A limit of the agreement was reached, and the refusal is on disk.
    #[must_use]
    pub fn refused(limit: IntakeLimit) -> Self {
        Self { id: None, state: ReceiptWord::Refused, reason: Some(Reason::Intake(limit.reason())), time: None }
    }

    /// What became of a message that was in custody; `None` for a state that is no news to a device.
    #[must_use]
    pub fn of(receipt: &DeviceReceipt) -> Option<Self> {
        let reason = receipt.ended_by.map(Reason::Ended);
        let (state, reason) = match receipt.state {
            EntryState::Delivered => (ReceiptWord::Delivered, None),
            EntryState::Expired => (ReceiptWord::Expired, reason),
            EntryState::Dead => (ReceiptWord::Refused, Some(Reason::Word("gone"))),
            EntryState::Purged => (ReceiptWord::Purged, None),
            EntryState::Dropped => (ReceiptWord::Dropped, None),
            EntryState::Refused => (ReceiptWord::Refused, None),
            EntryState::Queued | EntryState::Held | EntryState::Parked => return None,
        };
        Some(Self { id: Some(receipt.id), state, reason, time: None })
    }

    /// What it says.
    #[must_use]
    pub fn word(&self) -> ReceiptWord {
        self.state
    }

    /// The body of the publication, in JSON.
    #[must_use]
    pub fn body(mut self, time: Option<Timestamp>) -> String {
        self.time = time.map(Timestamp::as_second);
        // Words, an id and whole numbers: this can't fail.
        serde_json::to_string(&self).unwrap_or_default()
    }
}
