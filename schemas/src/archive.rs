//! The ledger's archive: how an end state is written as a line of a [chain](crate::chain).
//!
//! Payload-free: a line has the alias of its destination, and of the receiver's signed receipt the hash alone, because a receipt can be
//! checked against a guessed reading.

use crate::{
    chain::{Chain, Line},
    entry::{EndedBy, EntryState},
    id::{DestinationId, DeviceId, MessageId},
    outcome::DeliveryError,
    record::LedgerRecord,
};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// An end state, or a warning, as a line holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchivedEntry {
    /// Ledger number.
    pub no: u64,
    /// Its id on the wire.
    pub id: MessageId,
    /// Where it went, by alias.
    pub destination: DestinationId,
    /// Its place there.
    pub seq: u64,
    /// Who sent it.
    pub device: DeviceId,
    /// The end state; `queued` for a warning that it waits for long.
    pub state: EntryState,
    /// Wall clock at custody, in milliseconds since 1970.
    pub accepted_ms: i64,
    /// Wall clock at the end, in milliseconds since 1970.
    pub ended_ms: i64,
    /// Failed attempts of the destination since its last success, and this one.
    pub attempts: u32,
    /// Why, unless delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<DeliveryError>,
    /// What ended it, if it expired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_by: Option<EndedBy>,
    /// It went out, or was let in, as break-glass.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub break_glass: bool,
    /// SHA-256 of the receiver's signed receipt, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt_sha256: Option<String>,
}

impl ArchivedEntry {
    /// What the archive keeps of a record of the ledger.
    #[must_use]
    pub fn of(no: u64, record: LedgerRecord) -> Self {
        Self {
            no,
            id: record.id,
            destination: record.destination,
            seq: record.seq,
            device: record.device,
            state: record.state,
            accepted_ms: record.accepted_ms,
            ended_ms: record.ended_ms,
            attempts: record.attempts,
            reason: record.reason,
            ended_by: record.ended_by,
            break_glass: record.break_glass,
            receipt_sha256: record.receipt.map(|receipt| HEXLOWER.encode(&Sha256::digest(&receipt))),
        }
    }
}

impl Line for ArchivedEntry {
    const CHAIN: Chain = Chain::Ledger;
    fn no(&self) -> u64 {
        self.no
    }
    fn at_ms(&self) -> i64 {
        self.ended_ms
    }
}
