//! All that can be said to the Outbox, the single writer of everything durable.
//!
//! A reply means that the change is on disk. Messages that change something are handed to the writer's bounded channel and
//! committed in groups; the mailbox holds nothing back.

use crate::{
    agreement::{HeadOfLine, Lifetime, Limits, RetryPolicy, ServiceAgreement, SignalPolicy},
    entry::{EndedBy, Entry, EntryState, Event, IllegalTransition},
    forecast::Forecast,
    id::{DestinationId, EntryRef, MessageId},
    outcome::DeliveryError,
    submission::{Origin, QuarantineReason, Redelivery, Submission},
    view::{DestinationLoad, EntryView, LedgerView, QuarantineView, Shown},
};
use actix::prelude::*;
use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why the store could not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The disk is full.
    #[error("the disk of the outbox is full")]
    Full,
    /// A record is damaged.
    #[error("the outbox is damaged: {0}")]
    Corrupt(String),
    /// Another process has it.
    #[error("another process has the outbox open")]
    Locked,
    /// Not a format that this version reads.
    #[error("the outbox has format {found}, this version reads {wanted}")]
    Format {
        /// What is there.
        found: String,
        /// What this version reads.
        wanted: String,
    },
    /// Input or output failed.
    #[error("input/output of the outbox failed: {0}")]
    Io(String),
    /// An earlier failure left it unusable until it is opened again.
    #[error("the outbox must be opened again after a failure")]
    Poisoned,
    /// The writer is gone or too busy to take more.
    #[error("the outbox is not taking writes now")]
    Unavailable,
    /// It can't be done as things are; nothing has changed.
    #[error("{0}")]
    Refused(String),
}

/// "Take custody of this."
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Accepted, EnqueueError>")]
pub struct Enqueue {
    /// The reading.
    pub submission: Submission,
    /// What the destination's agreement lets wait.
    pub limits: Limits,
    /// How many break-glass messages an hour its agreement lets through a closed window; none without one.
    pub break_glass_per_hour: Option<u16>,
    /// Of a source that hands in again what was not taken: a number that is new whenever it begins to do so, and higher than before.
    /// When one message of a stream could not be taken, none behind it is, so that they come again in their order (OR-1).
    pub stream: Option<u64>,
}

/// It is on disk: it may be acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Its id on the wire.
    pub id: MessageId,
    /// Its place.
    pub entry: EntryRef,
    /// Whether it was there already (a redelivery).
    pub duplicate: bool,
}

/// Why custody was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnqueueError {
    /// A limit of the agreement is reached. `recorded`: the refusal is on disk (end state *refused*), so that a broker's
    /// publication may and must be acknowledged.
    #[error("{}", limit.sentence())]
    Refused {
        /// Which.
        limit: IntakeLimit,
        /// Whether the refusal was recorded.
        recorded: bool,
    },
    /// A limit of the whole gateway is reached: nothing may be acknowledged, and nothing is on record.
    #[error("the gateway is full: {0}")]
    GatewayFull(String),
    /// The same Idempotency-Key came before with another body.
    #[error("this Idempotency-Key was used for another body")]
    KeyReused,
    /// The store failed; nothing may be acknowledged.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A limit of the agreement that a message met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntakeLimit {
    /// What may wait for the destination.
    Destination,
    /// What may wait of this device.
    Device,
    /// How fast this device may hand in: again after so many seconds.
    Rate {
        /// Seconds.
        wait_s: u32,
    },
}

impl IntakeLimit {
    /// What is to be told.
    #[must_use]
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Destination => "the queue of this destination is full",
            Self::Device => "this device has too much waiting at this destination",
            Self::Rate { .. } => "this device hands in faster than agreed",
        }
    }

    /// The reason on record.
    #[must_use]
    pub fn reason(self) -> QuarantineReason {
        match self {
            Self::Destination => QuarantineReason::DestinationFull,
            Self::Device => QuarantineReason::DeviceFull,
            Self::Rate { .. } => QuarantineReason::TooFast,
        }
    }
}

/// "This publication never became an entry; keep its metadata." On disk when answered, so that it may be acknowledged.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), StoreError>")]
pub struct Quarantine {
    /// Why.
    pub reason: QuarantineReason,
    /// Its topic, cut to 256 bytes.
    pub topic: String,
    /// Length of its body.
    pub body_bytes: u64,
    /// How it came.
    pub origin: Origin,
    /// Its mark: what is redelivered is kept once.
    pub redelivery: Option<Redelivery>,
}

/// "This publication is acknowledged and not taken, as nobody asked for it": its packet id stands for nothing any more.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), StoreError>")]
pub struct Ignore {
    /// Its mark.
    pub redelivery: Redelivery,
}

/// "What waits, and when may each destination be tried?" From memory, one for each destination that has a record.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Vec<DestinationLoad>")]
pub struct Loads;

/// "Which loads changed since this revision, and how do those of these destinations stand?" From memory; costs what is answered, not
/// what exists.
#[derive(Debug, Clone, Message)]
#[rtype(result = "LoadsAt")]
pub struct ChangedLoads {
    /// The revision of an earlier answer; 0 for all, `u64::MAX` for none.
    pub since: u64,
    /// Answered in any case; one without a record has an empty load.
    pub also: Vec<DestinationId>,
}

/// The answer to [`ChangedLoads`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadsAt {
    /// What to ask by the next time, of the same incarnation.
    pub revision: u64,
    /// By alias, each once.
    pub loads: Vec<DestinationLoad>,
}

/// "Give me the next entries of this destination." Break-glass messages first, then those of high priority, then the others, each
/// kind in order; held, parked and dead ones are not among them. What was refused and is due again comes first of its kind, but is at
/// most half of a pick while others are there.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Vec<Entry>, StoreError>")]
pub struct Pick {
    /// Whose.
    pub destination: DestinationId,
    /// Only those after this place; those of a higher priority and those that were refused come wherever they are.
    pub after_seq: u64,
    /// Most entries.
    pub count_max: usize,
    /// Most body bytes (the first entry comes whatever its size).
    pub bytes_max: usize,
    /// Only break-glass messages: the window is closed.
    pub break_glass_only: bool,
    /// What a refused message that waits for its next try does to those behind it.
    pub head_of_line: HeadOfLine,
}

/// "Which of these may still be sent?" Asked right before a request leaves: what an operator held or purged since the pick, or what
/// has expired, is not among them. Answered from what is on disk.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Vec<u64>, StoreError>")]
pub struct StillQueued {
    /// Whose.
    pub destination: DestinationId,
    /// Their places.
    pub seqs: Vec<u64>,
    /// As [`Pick`]: what waits after a refusal is not among them, nor what must not pass it. Under [`HeadOfLine::Block`] only the
    /// first of each device is, so that none of one request overtakes another.
    pub head_of_line: HeadOfLine,
}

/// "This is what came of one entry."
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// Its place.
    pub seq: u64,
    /// What happened: `Deliver`, `Park`, `Refuse` or `Hold`.
    pub event: Event,
    /// The error, unless delivered.
    pub error: Option<DeliveryError>,
    /// The receiver's signed receipt, kept in the ledger.
    pub receipt: Option<bytes::Bytes>,
}

/// "This is what came of an attempt." One message for a whole batch: one commit.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Settled, StoreError>")]
pub struct Settle {
    /// Whose.
    pub destination: DestinationId,
    /// One for each entry that the answer spoke of.
    pub settlements: Vec<Settlement>,
    /// What the agreement does with those that were refused (`Park`).
    pub head_of_line: HeadOfLine,
    /// When those are tried again.
    pub retry: RetryPolicy,
    /// For how long lanes were at work since the courier's last settlement, in milliseconds: what a rate is made of.
    pub busy_ms: u32,
}

/// What became of the settlements.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settled {
    /// Those that an operator's act had overtaken; nothing was changed for them.
    pub overtaken: Vec<(u64, IllegalTransition)>,
    /// Ten entries in a row were refused: all of them are back in the queue, the destination is backed off, and the courier
    /// has to stop.
    pub everything_refused: bool,
}

/// "This destination could not be served."
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), StoreError>")]
pub struct Fail {
    /// Whose.
    pub destination: DestinationId,
    /// How; its disposition is `Defer` or `Snooze`.
    pub error: DeliveryError,
    /// `Retry-After`, in seconds.
    pub retry_after_s: Option<u32>,
    /// The agreement's retry policy.
    pub retry: RetryPolicy,
}

/// "May I build a fresh circuit?" Counted on disk before the answer, so that a restart doesn't refill the budget.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Budget, StoreError>")]
pub struct Spend {
    /// Whose.
    pub destination: DestinationId,
    /// The agreement's limit.
    pub fresh_circuits_per_hour: u16,
}

/// The answer to [`Spend`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Budget {
    /// Yes; it is counted.
    Granted,
    /// No; at the earliest after this time.
    UsedUp {
        /// Until the oldest of the counted circuits is an hour old.
        wait: SignedDuration,
    },
}

/// "Which end states has nobody told the room about?"
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<Option<ReportBatch>, StoreError>")]
pub struct PendingReports {
    /// Most reports; an already reserved range is given again as it was.
    pub count_max: usize,
}

/// A range of reports whose transaction id is on disk: sending it again is harmless.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportBatch {
    /// Matrix transaction id of this very range.
    pub transaction_id: String,
    /// First ledger number.
    pub first: u64,
    /// Last ledger number.
    pub last: u64,
    /// The reports: aliases, ids, times to the minute; no payload, no address.
    pub reports: Vec<LedgerView>,
    /// How many more wait behind these.
    pub more: u64,
}

/// "The room has them."
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), StoreError>")]
pub struct Reported {
    /// Up to this ledger number.
    pub last: u64,
    /// The event that shows them.
    pub event_id: String,
}

/// An operator's act on one entry.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<EntryState, OperateError>")]
pub struct Operate {
    /// Which.
    pub entry: EntryRef,
    /// `Hold`, `Release`, `Retry` or `Purge`.
    pub event: Event,
}

/// Why an act was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OperateError {
    /// No such entry (it may have ended: see the ledger).
    #[error("there is no entry {0} in the outbox; if it has ended, the ledger shows it")]
    Unknown(EntryRef),
    /// It can't be done in its state.
    #[error(transparent)]
    Illegal(#[from] IllegalTransition),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// "End what is over, prune what is above its limit." Sent by the Outbox's own timer.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Swept, StoreError>")]
pub struct Sweep {
    /// What the agreements say.
    pub terms: Vec<SweepTerms>,
}

/// What a sweep has to know of one destination.
#[derive(Debug, Clone)]
pub struct SweepTerms {
    /// Whose.
    pub destination: DestinationId,
    /// How long its messages live.
    pub lifetime: Lifetime,
    /// Ages of the oldest message at which people are told.
    pub notify_after: Vec<SignedDuration>,
    /// For how long it was open since the last sweep, in milliseconds.
    pub opened_ms: u64,
    /// Openings that closed since the last sweep.
    pub closings: u32,
}

/// "The destination (or somebody who may speak for it) says when it is ready."
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<SignalTaken, SignalError>")]
pub struct Signal {
    /// Whose.
    pub destination: DestinationId,
    /// What it says.
    pub word: SignalWord,
    /// What the agreement lets a signal do.
    pub policy: SignalPolicy,
    /// Who says it.
    pub from: SignalSource,
    /// Its number, where the sender counts: one that is not above the last is a repetition.
    pub sequence: Option<u64>,
}

/// What a signal says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignalWord {
    /// "I am ready for so long."
    Ready(SignalTtl),
    /// "Not for so long, please."
    NotNow(SignalTtl),
    /// "Forget what I said."
    Clear,
}

/// How long a signal holds, in seconds from its arrival: times of other clocks are not believed.
pub type SignalTtl = u32;

/// Who gave a signal. Carries no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SignalSource {
    /// The admin endpoint or the command line.
    Operator,
    /// An MQTT topic.
    Mqtt,
    /// The destination itself, over Tor.
    Destination,
}

/// The signal is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalTaken {
    /// For how long it holds, in seconds: at most what the agreement lets it.
    pub holds_s: u32,
}

/// Why a signal was not honoured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignalError {
    /// The agreement has none.
    #[error("this destination's agreement accepts no signals")]
    NotAccepted,
    /// It was heard before, or is older than one that was.
    #[error("this signal was heard before")]
    Repeated,
    /// Too many.
    #[error("this destination's signals of the last hour are used up")]
    TooMany {
        /// Until the oldest of them is an hour old, in seconds.
        wait_s: u32,
    },
    /// The store failed; nothing changed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// "Deliver nothing there until I say so", or "go on". On disk when answered.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), StoreError>")]
pub struct SetPaused {
    /// Whose.
    pub destination: DestinationId,
    /// Whether it is paused.
    pub paused: bool,
}

/// "Which devices have not heard how their messages ended?" In order of the ledger. Devices that came by HTTP without a place to reply
/// to are not among them.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<Vec<DeviceReceipt>, StoreError>")]
pub struct PendingReceipts {
    /// Most receipts.
    pub count_max: usize,
}

/// What a device is told of one message: no payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceReceipt {
    /// Ledger number.
    pub no: u64,
    /// Its id on the wire.
    pub id: MessageId,
    /// Who sent it.
    pub device: crate::id::DeviceId,
    /// Where it went.
    pub destination: DestinationId,
    /// Its end state.
    pub state: EntryState,
    /// What ended it, if it expired.
    pub ended_by: Option<EndedBy>,
    /// Where the device wants to hear of it.
    pub reply_to: Option<crate::submission::ReplyTo>,
    /// How it came in.
    pub origin: Origin,
}

/// "The devices have heard up to this ledger number."
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<(), StoreError>")]
pub struct Receipted {
    /// Up to this ledger number.
    pub last: u64,
}

/// "Give me sequence numbers that nobody had, before a restart either." The first of so many; on disk when answered.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<u64, StoreError>")]
pub struct Reserve {
    /// How many.
    pub count: u32,
}

/// What a sweep did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Entries that expired.
    pub expired: u64,
}

/// "Show me entries" (metadata alone).
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<EntryPage, StoreError>")]
pub struct List {
    /// Only this destination.
    pub destination: Option<DestinationId>,
    /// Only these states; empty means all that are not ended.
    pub states: Vec<EntryState>,
    /// Only this device.
    pub device: Option<crate::id::DeviceId>,
    /// Where the last page ended.
    pub after: Option<EntryRef>,
    /// Most entries, 1 to [`PAGE_ENTRIES_MAX`].
    pub limit: usize,
}

/// Most entries of one page.
pub const PAGE_ENTRIES_MAX: usize = 500;

/// A page of entries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EntryPage {
    /// In order of destination and place.
    pub entries: Vec<EntryView>,
    /// Where the next page starts; absent on the last one.
    pub next: Option<EntryRef>,
}

/// "What will become of what is queued for this destination, under this agreement?" Nothing changes.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Foreseen, StoreError>")]
pub struct Foresee {
    /// Whose queue.
    pub destination: DestinationId,
    /// The agreement: the one in force, or another.
    pub agreement: std::sync::Arc<ServiceAgreement>,
    /// A place to be told more of.
    pub about: Option<u64>,
}

/// The answer to [`Foresee`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Foreseen {
    /// The forecast.
    pub forecast: Forecast,
    /// The earlier message of the same device that was refused and holds back the one that was asked about.
    pub behind: Option<u64>,
}

/// How an operator names an entry: by its place or by its id on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryName {
    /// `cardiology/42`
    Place(EntryRef),
    /// The UUID that the room and the receiver show.
    Id(MessageId),
}

/// "Show me this entry" (metadata alone). Looks into the ledger when it has ended.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Option<Shown>, StoreError>")]
pub struct Show {
    /// Which.
    pub name: EntryName,
}

/// "What was quarantined?" Newest first.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<Vec<QuarantineView>, StoreError>")]
pub struct ListQuarantine {
    /// Only those before this number.
    pub before: Option<u64>,
    /// Most records.
    pub limit: usize,
}

/// "What ended lately?" Newest first.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<Vec<LedgerView>, StoreError>")]
pub struct ListLedger {
    /// Only those before this number.
    pub before: Option<u64>,
    /// Most records.
    pub limit: usize,
}
