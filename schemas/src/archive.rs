//! The ledger's archive: how an end state is written as a line of a file, and how a chain of such lines is verified.
//!
//! A line is one JSON object. Its last two members are `prev`, the hash of the line before, and `hash`, its own:
//!
//! ```text
//! {"no":7,"id":"..","destination":"ward",..,"prev":"<64 hex digits>","hash":"<64 hex digits>"}
//! hash = SHA-256( "tidegate ledger line 1\n" || the line without its last member: {..,"prev":".."} )
//! ```
//! The hash is over bytes, not over what they mean: nothing has to be parsed or written again to check it, and a later version may
//! add members. Since a line holds the hash of the one before, a line can't be changed, removed, put in or moved without changing every
//! line after it; so whoever has noted the last hash knows of all lines up to it ([`Verifier::expecting`]).
//!
//! Numbers (`no`) rise by one. Where some can't be archived any more (the store had to let them go, or can't read them), a line says so:
//! `{"no":19,"lost_from":12,..}` stands for 12 to 19. A gap that no line speaks of is a missing line.
//!
//! The chain goes on across files: they are one sequence of lines. After the oldest files were removed it starts at the `prev` of the
//! oldest line that is left.
//!
//! Payload-free: a line has the alias of its destination, and of the receiver's signed receipt the hash alone, because a receipt can be
//! checked against a guessed reading.

mod verify;

pub use verify::{Verifier, Whole, Wrong};

use crate::{
    entry::{EndedBy, EntryState},
    id::{DestinationId, DeviceId, MessageId},
    outcome::DeliveryError,
    record::LedgerRecord,
};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{fmt, str::FromStr};

/// Sets what is hashed apart from everything else that is hashed.
const DOMAIN: &[u8] = b"tidegate ledger line 1\n";
/// What stands before a line's own hash.
const BEFORE_HASH: &[u8] = b",\"hash\":\"";
/// What stands after it.
const AFTER_HASH: &[u8] = b"\"}";
/// Hexadecimal digits of a hash.
const HASH_DIGITS: usize = 64;
/// Longest line, in bytes; a real one has about 500.
pub const LINE_BYTES_MAX: usize = 4_096;
/// Highest number: JSON readers agree on numbers up to here.
pub const NO_MAX: u64 = (1 << 53) - 1;

/// The hash of a line.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChainHash([u8; 32]);

impl ChainHash {
    /// What the first line of all names as the hash before it.
    pub const NONE: Self = Self([0; 32]);

    /// The hash of a line without its last member, which ends before the closing brace.
    fn of(content: &[u8]) -> Self {
        Self(Sha256::new().chain_update(DOMAIN).chain_update(content).chain_update(b"}").finalize().into())
    }
}

impl fmt::Display for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text is no hash of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a hash of the ledger has 64 digits, 0 to 9 and a to f")]
pub struct NoChainHash;

impl FromStr for ChainHash {
    type Err = NoChainHash;

    fn from_str(text: &str) -> Result<Self, NoChainHash> {
        let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| NoChainHash)?;
        bytes.try_into().map(Self).map_err(|_| NoChainHash)
    }
}

impl Serialize for ChainHash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

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

/// Numbers that can't be archived any more.
#[derive(Debug, Serialize)]
struct Lost {
    no: u64,
    lost_from: u64,
}

/// Where a chain ends: what the next line goes on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tip {
    /// The last number; 0 before the first line.
    pub no: u64,
    /// The last hash.
    pub hash: ChainHash,
}

impl Tip {
    /// Before the first line of all.
    pub const START: Self = Self { no: 0, hash: ChainHash::NONE };

    /// Writes the line of an entry, ended, and goes on to it. Before it comes a line for the numbers between that are lost, if there are
    /// any; a chain may begin with any number. What has its line already, or a number that no reader could read, is passed over.
    pub fn write(&mut self, entry: &ArchivedEntry, to: &mut Vec<u8>) {
        if entry.no <= self.no || entry.no > NO_MAX {
            return;
        }
        if self.no > 0 && entry.no > self.no + 1 {
            let lost = Lost { no: entry.no - 1, lost_from: self.no + 1 };
            self.write_line(lost.no, &lost, to);
        }
        self.write_line(entry.no, entry, to);
    }

    fn write_line(&mut self, no: u64, content: &impl Serialize, to: &mut Vec<u8>) {
        let from = to.len();
        // These have text keys alone, and a Vec takes everything: serde_json can't fail on them.
        if serde_json::to_writer(&mut *to, content).is_err() {
            to.truncate(from);
            return;
        }
        // Without the closing brace.
        to.pop();
        to.extend_from_slice(format!(",\"prev\":\"{}\"", self.hash).as_bytes());
        *self = Self { no, hash: ChainHash::of(&to[from..]) };
        to.extend_from_slice(BEFORE_HASH);
        to.extend_from_slice(self.hash.to_string().as_bytes());
        to.extend_from_slice(AFTER_HASH);
        to.push(b'\n');
    }
}

/// What a chain needs to know of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// The first number that it stands for: `no`, unless it tells of lost ones.
    pub from: u64,
    /// Its number, the last that it stands for.
    pub no: u64,
    /// Whether it tells of lost numbers.
    pub lost: bool,
    /// The hash of the line before.
    pub prev: ChainHash,
    /// Its own.
    pub hash: ChainHash,
}

impl Link {
    /// Reads a line, without its end. None when it isn't as it was written: then it does not fit its own hash.
    #[must_use]
    pub fn read(line: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Members {
            no: u64,
            lost_from: Option<u64>,
            prev: String,
        }
        let line = line.strip_suffix(AFTER_HASH)?;
        let (content, hash) = line.split_at_checked(line.len().checked_sub(HASH_DIGITS)?)?;
        let content = content.strip_suffix(BEFORE_HASH)?;
        let hash: ChainHash = std::str::from_utf8(hash).ok()?.parse().ok()?;
        if ChainHash::of(content) != hash {
            return None;
        }
        let Members { no, lost_from, prev } = serde_json::from_slice(&[content, b"}"].concat()).ok()?;
        let from = lost_from.unwrap_or(no);
        let prev = prev.parse().ok()?;
        let is_sound = (1..=no).contains(&from) && no <= NO_MAX;
        is_sound.then_some(Self { from, no, lost: lost_from.is_some(), prev, hash })
    }

    /// Where a chain that ends here ends.
    #[must_use]
    pub fn tip(&self) -> Tip {
        Tip { no: self.no, hash: self.hash }
    }
}

#[cfg(test)]
mod tests;
