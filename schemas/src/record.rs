//! Stored records: how the outbox's keys and values are written, byte by byte.
//!
//! One ordered tree, a one-byte prefix, numbers big-endian so that they sort:
//!
//! | key | value | what |
//! |---|---|---|
//! | `0x00` | [`Meta`] | counters, custody clock, report position; rewritten in every commit |
//! | `0x01` | [`ClockRecord`] | what the custody clock remembers; written when it changes |
//! | `0x02` | [`Serials`] | the first sequence number that nobody was given yet |
//! | `0x03` | [`FirstSendings`] | publications of a broker that came for the first time: by them the age of a packet's slot is told |
//! | `d` dest:u32 | [`DestinationRecord`] | FIFO position, counts, back-off, budget of one destination |
//! | `n` name | [`DestinationNumber`] | directory |
//! | `m` dest seq:u64 | [`EntryRecord`] | a queued entry; the FIFO is the range from `head_seq` |
//! | `i` dest class:u8 seq | nothing | a queued entry that goes first: class 0 is break-glass, 1 high priority |
//! | `r` dest seq | [`RefusedWait`] | a queued entry that was refused and waits for its next try |
//! | `h` dest seq | [`EntryRecord`] | an entry out of the FIFO: held, parked or dead; it keeps its place |
//! | `b` dest seq chunk:u16 | bytes | the body, where it doesn't fit beside the envelope |
//! | `x` dest seq | bytes | a damaged entry as it was found; the newest few, with their chunks, for whoever can mend them |
//! | `p` packet:u16 | [`PacketSlot`] | what the broker session's packet id stood for, to recognise a redelivery |
//! | `u` bucket:u32 hash:16 | [`KeySlot`] | an HTTP Idempotency-Key; old buckets are removed whole |
//! | `q` no:u64 | [`QuarantineRecord`] | acknowledged, never an entry; metadata alone |
//! | `l` no:u64 | [`LedgerRecord`] | an end state, and at once the report that the room still has to hear |
//!
//! A value is `type:u8 version:u8 body crc32:u32`. The checksum covers the key too, so that a value under the wrong key is found.
//! The body is postcard. How to change a format: see `schemas/README.md`.

pub mod key;

use crate::{
    custody::{ClockRecord, CustodyTime, Odometer},
    entry::{Account, EndedBy, EntryState, Envelope},
    id::{DestinationId, DeviceId, EntryRef, MessageId},
    messages::outbox::{DeviceReceipt, SignalSource},
    outcome::DeliveryError,
    submission::{Origin, Priority, QuarantineReason, ReplyTo},
    tidings::Serials,
    view::{EntryView, LedgerView, QuarantineView},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Number of this layout; a store with another one is refused.
pub const LAYOUT: u32 = 2;
/// Largest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 4_096;
/// Largest chunk of a body, in bytes.
pub const CHUNK_BYTES_MAX: usize = 4_000;
/// How a body is sealed: not at all.
pub const SEAL_PLAIN: u8 = 0;

/// Why a stored value can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Too short to be one.
    #[error("a stored record is cut short")]
    Short,
    /// The checksum is wrong.
    #[error("the checksum of a stored record is wrong")]
    Checksum,
    /// Another type or version than expected.
    #[error("a stored record has type {found_type} version {found_version}, expected type {wanted_type}")]
    Kind {
        /// Type byte found.
        found_type: u8,
        /// Version byte found.
        found_version: u8,
        /// Type byte expected.
        wanted_type: u8,
    },
    /// The checksum is right and the content isn't: written by a defect.
    #[error("a stored record does not decode")]
    Decode,
}

/// A type of stored record.
pub trait Record: Serialize + DeserializeOwned {
    /// Its type byte.
    const TYPE: u8;
    /// Its version byte.
    const VERSION: u8;
}

macro_rules! record {
    ($name:ident, $type:literal) => {
        record!($name, $type, 1);
    };
    ($name:ident, $type:literal, $version:literal) => {
        impl Record for $name {
            const TYPE: u8 = $type;
            const VERSION: u8 = $version;
        }
    };
}

fn frame(key: &[u8], kind: u8, version: u8, body: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(body.len() + 6);
    value.extend_from_slice(&[kind, version]);
    value.extend_from_slice(body);
    let checksum = checksum(key, &value);
    value.extend_from_slice(&checksum.to_be_bytes());
    value
}

fn checksum(key: &[u8], value: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(value);
    hasher.finalize()
}

fn unframe<'v>(key: &[u8], value: &'v [u8], kind: u8, version: u8) -> Result<&'v [u8], RecordError> {
    let split = value.len().checked_sub(4).filter(|split| *split >= 2).ok_or(RecordError::Short)?;
    let (framed, sum) = value.split_at(split);
    if checksum(key, framed).to_be_bytes() != sum {
        return Err(RecordError::Checksum);
    }
    if framed[0] != kind || framed[1] != version {
        return Err(RecordError::Kind { found_type: framed[0], found_version: framed[1], wanted_type: kind });
    }
    Ok(&framed[2..])
}

/// The value of a record under its key.
#[must_use]
pub fn encode<R: Record>(key: &[u8], record: &R) -> Vec<u8> {
    // These records hold no maps with non-text keys and no unsized sequences: postcard can't fail on them.
    let body = postcard::to_stdvec(record).unwrap_or_default();
    frame(key, R::TYPE, R::VERSION, &body)
}

/// The record in a value.
///
/// # Errors
/// When it is damaged or something else.
pub fn decode<R: Record>(key: &[u8], value: &[u8]) -> Result<R, RecordError> {
    let body = unframe(key, value, R::TYPE, R::VERSION)?;
    postcard::from_bytes(body).map_err(|_| RecordError::Decode)
}

const CHUNK_TYPE: u8 = b'b';

/// The value of a chunk of a body.
#[must_use]
pub fn encode_chunk(key: &[u8], bytes: &[u8]) -> Vec<u8> {
    frame(key, CHUNK_TYPE, 1, bytes)
}

/// The bytes of a chunk.
///
/// # Errors
/// When it is damaged.
pub fn decode_chunk<'v>(key: &[u8], value: &'v [u8]) -> Result<&'v [u8], RecordError> {
    unframe(key, value, CHUNK_TYPE, 1)
}

/// Counters and clocks of the whole outbox.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// [`LAYOUT`].
    pub layout: u32,
    /// Commits, ever.
    pub commit_no: u64,
    /// CU-2.
    pub account: Account,
    /// The next destination's number.
    pub next_destination: u32,
    /// The last ledger number that was given.
    pub ledger_no: u64,
    /// The first ledger number that is still there.
    pub ledger_first: u64,
    /// The last ledger number that the room has heard.
    pub reported_no: u64,
    /// A range whose transaction id may have reached the homeserver: first, last, transaction id.
    pub report_reserved: Option<(u64, u64, String)>,
    /// End states that were pruned before the room heard of them.
    pub reports_lost: u64,
    /// The last quarantine number that was given.
    pub quarantine_no: u64,
    /// The first quarantine number that is still there.
    pub quarantine_first: u64,
    /// Custody clock, in milliseconds (see `actors::outbox::custody_clock`).
    pub custody_ms: u64,
    /// Wall clock at that moment, in milliseconds since 1970.
    pub wall_ms: i64,
    /// Whether that wall clock was trusted.
    pub wall_trusted: bool,
    /// The oldest bucket of idempotency slots that may still be there.
    pub oldest_bucket: u32,
    /// The last ledger number whose device has heard of it, or has nobody to tell; where no receipts are given, the last one.
    pub receipted_no: u64,
    /// End states that were pruned before their devices heard of them.
    pub receipts_lost: u64,
}
record!(Meta, 1, 2);
record!(ClockRecord, 9);
record!(Serials, 11);

/// Where a destination's records lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestinationNumber(pub u32);
record!(DestinationNumber, 2);

/// All FIFO, retry and budget state of one destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestinationRecord {
    /// The alias.
    pub name: DestinationId,
    /// The next entry's place.
    pub next_seq: u64,
    /// No queued entry has a lower place.
    pub head_seq: u64,
    /// Queued entries.
    pub queued: u64,
    /// Held entries.
    pub held: u64,
    /// Parked entries.
    pub parked: u64,
    /// Dead letters.
    pub dead: u64,
    /// Delivered, ever.
    pub delivered: u64,
    /// Body bytes of queued, held, parked and dead entries.
    pub waiting_bytes: u64,
    /// Failures in a row.
    pub failures: u32,
    /// Custody clock before which it is not tried.
    pub due_custody_ms: u64,
    /// Why the last attempt failed; none after a success.
    pub last_error: Option<DeliveryError>,
    /// Entries that were refused in a row, without a success between, and how often each: ten of them are the destination's fault.
    pub park_streak: Vec<(u64, u32)>,
    /// That happened, and nothing was delivered since.
    pub everything_refused: bool,
    /// Custody clock of each fresh circuit of the last hour, in seconds.
    pub circuits_custody_s: Vec<u32>,
    /// Custody clock before which it is not tried, for a reason that is no failure of its own: budget, Tor.
    pub snoozed_custody_ms: u64,
    /// Custody clock of the last failure that counted.
    pub last_failure_custody_ms: Option<u64>,
    /// Custody clock of the last delivery.
    pub last_success_custody_ms: Option<u64>,
    /// What its messages lived through.
    pub odometer: Odometer,
    /// An operator stopped it.
    pub paused: bool,
    /// The last signal that was honoured.
    pub signal: Option<SignalRecord>,
    /// Custody clock of each signal that was honoured in the last hour, in seconds.
    pub signals_custody_s: Vec<u32>,
    /// Queued entries of high priority or break-glass.
    pub urgent: u64,
    /// Queued break-glass entries among them.
    pub break_glass: u64,
    /// Custody clock of each break-glass message of the last hour, in seconds.
    pub break_glass_custody_s: Vec<u32>,
    /// Queued entries that the service refused, and that wait for their next try.
    pub refused_waiting: u64,
    /// How many of the agreement's ages the oldest message has passed: people were told.
    pub notified: u8,
    /// What was delivered of late, for a rate.
    pub throughput: Throughput,
    /// The highest number of a signal that was heard; 0 before the first.
    pub signal_sequence: u64,
}
record!(DestinationRecord, 3, 3);

/// A signal that was honoured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalRecord {
    /// "Ready", or "not now".
    pub ready: bool,
    /// Custody clock when it came.
    pub since_custody_ms: u64,
    /// Custody clock until which it holds.
    pub until_custody_ms: u64,
    /// Who gave it.
    pub from: SignalSource,
}

/// What was delivered of late: halved now and then, so that the present counts most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Throughput {
    /// Messages.
    pub messages: u64,
    /// Body bytes.
    pub bytes: u64,
    /// Milliseconds that lanes were at work.
    pub busy_ms: u64,
}

impl DestinationRecord {
    /// A destination that never had an entry.
    #[must_use]
    pub fn new(name: DestinationId) -> Self {
        Self {
            name,
            next_seq: 1,
            head_seq: 1,
            queued: 0,
            held: 0,
            parked: 0,
            dead: 0,
            delivered: 0,
            waiting_bytes: 0,
            failures: 0,
            due_custody_ms: 0,
            last_error: None,
            park_streak: Vec::new(),
            everything_refused: false,
            circuits_custody_s: Vec::new(),
            snoozed_custody_ms: 0,
            last_failure_custody_ms: None,
            last_success_custody_ms: None,
            odometer: Odometer::default(),
            paused: false,
            signal: None,
            signals_custody_s: Vec::new(),
            urgent: 0,
            break_glass: 0,
            break_glass_custody_s: Vec::new(),
            refused_waiting: 0,
            notified: 0,
            throughput: Throughput::default(),
            signal_sequence: 0,
        }
    }
    /// Entries that take room: all that are not ended.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.queued + self.held + self.parked + self.dead
    }

    /// The body of an entry that was counted out is gone. Where nothing waits, no bytes do: that mends what damage made inexact.
    pub fn release_bytes(&mut self, bytes: u64) {
        self.waiting_bytes = if self.waiting() == 0 { 0 } else { self.waiting_bytes.saturating_sub(bytes) };
    }
}

/// An entry as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryRecord {
    /// `Queued` under `m`; `Held`, `Parked` or `Dead` under `h`.
    pub state: EntryState,
    /// Why it is aside, or was refused the last time.
    pub reason: Option<DeliveryError>,
    /// Times that the service refused it since custody, or since a person had it tried again.
    pub refusals: u32,
    /// Custody clock before which it is not tried again; 0 unless it was refused and waits for its next try.
    pub due_custody_ms: u64,
    /// What is known about it.
    pub envelope: Envelope,
    /// How the body is sealed ([`SEAL_PLAIN`]).
    pub seal: u8,
    /// Chunks that hold the body; 0: it is in `body`.
    pub chunks: u16,
    /// The body, where it fits.
    pub body: bytes::Bytes,
}
record!(EntryRecord, 4, 2);

impl EntryRecord {
    /// What an operator sees of it.
    #[must_use]
    pub fn view(&self, entry: EntryRef, time: &CustodyTime) -> EntryView {
        EntryView {
            entry,
            id: self.envelope.id,
            device: self.envelope.device.clone(),
            state: self.state,
            accepted_ms: self.envelope.accepted_ms,
            clock_trusted: self.envelope.clock_trusted,
            age_ms: time.age_ms(self.envelope.accepted_custody_ms),
            origin: self.envelope.origin,
            body_bytes: self.envelope.body_bytes,
            content_type: self.envelope.content_type.clone(),
            reason: self.reason,
            refusals: self.refusals,
            due_in_ms: self.due_custody_ms.saturating_sub(time.now_ms),
            priority: self.envelope.priority,
        }
    }
}

/// A refused entry that waits: what a pick has to know of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedWait {
    /// Whose later messages may have to wait behind it: those of the same priority.
    pub device: DeviceId,
    /// Its priority.
    pub priority: Priority,
    /// Custody clock before which it is not tried again.
    pub due_custody_ms: u64,
}
record!(RefusedWait, 10);

/// What a packet id stood for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PacketSlot {
    /// In which broker session.
    pub session: u64,
    /// Of topic and body.
    pub content: [u8; 16],
    /// What was made of it; none for a quarantined or refused publication.
    pub made: Option<(u32, u64, MessageId)>,
    /// [`FirstSendings`] then: how long ago that was.
    pub first_sendings: u64,
}
// Version 1 had no age, version 2 counted all acceptances. A slot of these is taken for an empty one.
record!(PacketSlot, 5, 3);

/// Publications at QoS 1 that brokers sent for the first time, since the outbox was made: what came again and was known, or would have
/// been if its slot were not stale, does not count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstSendings {
    /// How many.
    pub count: u64,
}
record!(FirstSendings, 12);

/// What an Idempotency-Key stood for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySlot {
    /// Of the body.
    pub content: [u8; 16],
    /// What was made of it.
    pub made: (u32, u64, MessageId),
}
record!(KeySlot, 6);

/// An acknowledged publication that never became an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantineRecord {
    /// Why.
    pub reason: QuarantineReason,
    /// What the refusal of a message is known by; none where there was no message yet.
    pub id: Option<MessageId>,
    /// Who sent it, where that is known.
    pub device: Option<DeviceId>,
    /// The topic, cut.
    pub topic: String,
    /// Length of its body.
    pub body_bytes: u64,
    /// How it came.
    pub origin: Origin,
    /// Wall clock, in milliseconds since 1970.
    pub at_ms: i64,
}
record!(QuarantineRecord, 7, 2);

impl QuarantineRecord {
    /// What an operator sees of it.
    #[must_use]
    pub fn view(self, no: u64) -> QuarantineView {
        QuarantineView {
            no,
            reason: self.reason,
            id: self.id,
            device: self.device,
            topic: self.topic,
            body_bytes: self.body_bytes,
            origin: self.origin,
            at_ms: self.at_ms,
        }
    }
}

/// An end state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerRecord {
    /// Whose, by alias: the ledger is read without the directory.
    pub destination: DestinationId,
    /// Its place.
    pub seq: u64,
    /// Its id on the wire.
    pub id: MessageId,
    /// Who sent it.
    pub device: DeviceId,
    /// The end state.
    pub state: EntryState,
    /// Wall clock at custody, in milliseconds since 1970.
    pub accepted_ms: i64,
    /// Wall clock at the end, in milliseconds since 1970.
    pub ended_ms: i64,
    /// Failed attempts of the destination since its last success, and this one.
    pub attempts: u32,
    /// The receiver's signed receipt.
    pub receipt: Option<bytes::Bytes>,
    /// Why, unless delivered.
    pub reason: Option<DeliveryError>,
    /// What ended it, if it expired.
    pub ended_by: Option<EndedBy>,
    /// It went out, or was let in, as break-glass.
    pub break_glass: bool,
    /// Where its device wants to hear of it.
    pub reply_to: Option<ReplyTo>,
    /// How it came in.
    pub origin: Origin,
}
record!(LedgerRecord, 8, 2);

impl LedgerRecord {
    /// What an operator and the room see of it.
    #[must_use]
    pub fn view(self, no: u64) -> LedgerView {
        LedgerView {
            no,
            entry: EntryRef { destination: self.destination, seq: self.seq },
            id: self.id,
            device: self.device,
            state: self.state,
            accepted_ms: self.accepted_ms,
            ended_ms: self.ended_ms,
            attempts: self.attempts,
            receipt: self.receipt.is_some(),
            reason: self.reason,
            ended_by: self.ended_by,
            break_glass: self.break_glass,
        }
    }

    /// What its device is told of it.
    #[must_use]
    pub fn receipt(self, no: u64) -> DeviceReceipt {
        DeviceReceipt {
            no,
            id: self.id,
            device: self.device,
            destination: self.destination,
            state: self.state,
            ended_by: self.ended_by,
            reply_to: self.reply_to,
            origin: self.origin,
        }
    }
}

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;
