//! What is shown: snapshots of the actors and the bodies of the admin API. No payload, no onion address, by construction.

use crate::{
    agreement::Evaluation,
    config::file::DestinationSource,
    dispatch::{Mode, Reason},
    entry::{Account, EndedBy, EntryState},
    history::{ChangeKind, KeyChange},
    id::{DestinationId, DeviceId, EntryRef, MessageId},
    impact::Impact,
    messages::outbox::SignalSource,
    outcome::DeliveryError,
    record::Throughput,
    submission::{Origin, Priority, QuarantineReason},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The snapshot with which an actor answers `Observe`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "actor", rename_all = "snake_case")]
pub enum Observation {
    /// Of the Registry.
    Registry(RegistryObservation),
    /// Of the Outbox.
    Outbox(OutboxObservation),
    /// Of the Subscriber.
    Subscriber(SubscriberObservation),
    /// Of the Uplink.
    Uplink(UplinkObservation),
    /// Of the Dispatcher.
    Dispatcher(DispatcherObservation),
    /// Of a Courier.
    Courier(CourierObservation),
    /// Of the Herald.
    Herald(HeraldObservation),
    /// Of the Reporter.
    Reporter(ReporterObservation),
    /// Of an actor of a test.
    Toy(u64),
}

/// The Registry, seen from outside.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RegistryObservation {
    /// Rises with every change.
    pub revision: u64,
    /// Destinations.
    pub destinations: u64,
    /// Routes.
    pub routes: u64,
    /// Destinations of the store that can't be used any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub broken: Vec<BrokenDestination>,
}

/// A destination of the store that can't be used any more: what waits for it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BrokenDestination {
    /// The alias.
    pub destination: DestinationId,
    /// Why.
    pub reason: String,
}

/// Messages that wait for a destination that isn't there: nothing is delivered and nothing expires until it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AbsentDestination {
    /// The alias.
    pub destination: DestinationId,
    /// Messages that wait: queued, held, parked and dead ones.
    pub waiting: u64,
}

/// The Outbox, seen from outside.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OutboxObservation {
    /// CU-2.
    pub account: Account,
    /// Accepted minus all states; 0 unless there is a defect.
    pub gap: i64,
    /// Durable commits since the store was opened by this process.
    pub commits: u64,
    /// Writes in those commits.
    pub writes: u64,
    /// End states that the room doesn't know yet.
    pub reports_pending: u64,
    /// End states that the room will never hear of: more ended during an outage of the homeserver than the ledger holds.
    #[serde(default)]
    pub reports_lost: u64,
    /// End states that their devices will never hear of, for the same reason.
    #[serde(default)]
    pub receipts_lost: u64,
    /// End states that are not archived yet.
    #[serde(default)]
    pub archive_waiting: u64,
    /// End states that were let go before they could be archived: in this process, or earlier and not yet told of in the archive.
    #[serde(default)]
    pub archive_lost: u64,
    /// Why the ledger could not be archived the last time, if it could not.
    #[serde(default)]
    pub archive_failure: Option<String>,
    /// Messages that were let in as break-glass, since this process began.
    #[serde(default)]
    pub break_glass_taken: u64,
    /// Messages that asked for break-glass and were let in as of high priority, since this process began.
    #[serde(default)]
    pub break_glass_denied: u64,
    /// Which limit of the whole gateway is nearly reached, or reached, in words.
    #[serde(default)]
    pub nearly_full: Option<String>,
    /// Size on disk, in bytes.
    pub disk_bytes: u64,
    /// Keys and values of all records, in bytes.
    #[serde(default)]
    pub held_bytes: u64,
    /// Body bytes that wait.
    pub waiting_bytes: u64,
    /// Damaged records by which a redelivery would have been recognised, since this process began.
    #[serde(default)]
    pub slots_unreadable: u64,
    /// The last failure of the store, if the last commit failed.
    pub failure: Option<String>,
    /// Folders of damaged stores that were set aside, by name, as long as they are there.
    pub set_aside: Vec<String>,
}

/// The Subscriber, seen from outside.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SubscriberObservation {
    /// Whether the broker is connected.
    pub connected: bool,
    /// Broker and MQTT version, in words; "not durable: the broker acknowledges before the outbox has it" when embedded.
    pub broker: String,
    /// Connections since this actor began.
    pub connections: u64,
    /// Times that a session was expected and the broker had none: publications between may be lost at the broker.
    pub sessions_lost: u64,
    /// Times that another client took over our client id.
    pub taken_over: u64,
    /// Publications received.
    pub received: u64,
    /// In custody.
    pub accepted: u64,
    /// Recognised as redelivered.
    pub duplicates: u64,
    /// Acknowledged and quarantined.
    pub quarantined: u64,
    /// Acknowledged and refused, because a destination was full.
    pub refused: u64,
    /// Signals that were honoured.
    #[serde(default)]
    pub signals: u64,
    /// Retained messages that no route asked for.
    pub retained_ignored: u64,
    /// Publications below the gateway's own prefix: no reading, whatever the routes say.
    #[serde(default)]
    pub own_ignored: u64,
    /// Response topics that are not answered: not listed, reserved, or taken by a route. Their messages were taken.
    #[serde(default)]
    pub replies_refused: u64,
    /// Devices that could not be told that their message is accepted, or refused: too many waited, or the connection was lost.
    #[serde(default)]
    pub receipts_lost: u64,
    /// Acknowledgements not sent because the connection that delivered the publication is gone.
    pub acks_void: u64,
    /// Waiting for their flush.
    pub in_hand: u64,
    /// Why the last connection ended.
    pub last_error: Option<String>,
    /// The embedded broker, if it is ours.
    pub embedded: Option<EmbeddedBrokerView>,
}

/// The embedded broker's process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EmbeddedBrokerView {
    /// Its process id, while it runs.
    pub pid: Option<u32>,
    /// Times that it was started again. What it held at each was lost.
    pub restarts: u64,
    /// Why it ended or could not be started, the last time.
    pub last_error: Option<String>,
}

/// What Tor does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum UplinkStatus {
    /// Nothing yet.
    #[default]
    Starting,
    /// Connecting.
    Bootstrapping {
        /// 0 to 100.
        percent: u8,
        /// What it is doing, in words.
        doing: String,
    },
    /// Onion services can be reached.
    Ready,
    /// It failed and is tried again.
    Failed {
        /// Why, without addresses.
        reason: String,
    },
    /// This version of Tor's code is too old for the network: the gateway must be updated. Intake goes on.
    Obsolete {
        /// What makes it so, and what to do.
        reason: String,
    },
}

/// The Uplink, seen from outside.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UplinkObservation {
    /// What Tor does.
    pub status: UplinkStatus,
    /// arti or a system tor.
    pub transport: String,
    /// Bootstraps tried.
    pub attempts: u64,
}

/// The Dispatcher, seen from outside.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DispatcherObservation {
    /// Destinations with a courier now.
    pub couriers: Vec<CourierObservation>,
    /// Destinations whose couriers keep falling: suspended, one try every 15 minutes.
    pub suspended: Vec<DestinationId>,
    /// Some of the destinations for which something is queued and that are not served, and the first reason each.
    pub waiting: Vec<WaitingDestination>,
    /// How many there are.
    pub waiting_total: u64,
    /// Reconciliations done.
    pub rounds: u64,
    /// Destinations looked at in them: those that changed or were due, now and then all.
    pub looked_at: u64,
    /// Time that the rounds took, in microseconds.
    pub took_us: u64,
}

/// A destination that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WaitingDestination {
    /// The alias.
    pub destination: DestinationId,
    /// The first of its reasons.
    pub reason: Reason,
}

/// A Courier, seen from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CourierObservation {
    /// Whose.
    pub destination: DestinationId,
    /// How it goes about it.
    pub mode: Mode,
    /// Lanes that are open.
    pub lanes: u8,
    /// Lanes that may be at work: one at first, one more with each success, up to those agreed.
    pub lanes_allowed: u8,
    /// Entries under way.
    pub in_flight: u64,
    /// Delivered by this courier.
    pub delivered: u64,
}

/// The Herald, seen from outside.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeraldObservation {
    /// Destinations whose present state the broker has.
    pub states_told: u64,
    /// States published since this actor began.
    pub states_published: u64,
    /// Receipts of ends published since this actor began.
    pub receipts_published: u64,
    /// Publications that the broker refused us.
    pub refused: u64,
    /// Why the last publication is not at the broker.
    pub last_error: Option<String>,
}

/// The Reporter, seen from outside.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReporterObservation {
    /// Events sent since this actor began.
    pub events_sent: u64,
    /// End states told in them.
    pub reports_sent: u64,
    /// Why the last one was not sent.
    pub last_error: Option<String>,
}

/// What waits for one destination, and when it may be tried: from memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DestinationLoad {
    /// The alias.
    pub destination: DestinationId,
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
    /// Body bytes of all that wait.
    pub waiting_bytes: u64,
    /// Milliseconds until the back-off ends; 0 when it may be tried now.
    pub due_in_ms: u64,
    /// Milliseconds until a pause ends that is no failure of the destination: Tor budget, Tor itself.
    pub snoozed_ms: u64,
    /// Milliseconds since the last failure that counted.
    pub last_failure_ago_ms: Option<u64>,
    /// Milliseconds since the last delivery.
    pub last_success_ago_ms: Option<u64>,
    /// An operator stopped it.
    pub paused: bool,
    /// The signal that holds now.
    pub signal: Option<SignalView>,
    /// Queued entries of high priority or break-glass.
    pub urgent: u64,
    /// Queued break-glass entries among them.
    pub break_glass: u64,
    /// Queued entries that the service refused, and that wait for their next try.
    pub refused_waiting: u64,
    /// What was delivered of late.
    pub throughput: Throughput,
    /// Failures in a row.
    pub failures: u32,
    /// Why the last attempt failed.
    pub last_error: Option<DeliveryError>,
    /// All of the last ten entries were refused: the destination itself is taken to be at fault.
    pub everything_refused: bool,
    /// Fresh circuits counted in the last hour.
    pub fresh_circuits_last_hour: u16,
    /// Age of the oldest queued entry, in milliseconds of custody.
    pub oldest_age_ms: Option<u64>,
}

/// A signal that holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SignalView {
    /// "Ready", or "not now".
    pub ready: bool,
    /// Milliseconds since it came.
    pub since_ms: u64,
    /// Milliseconds that it still holds.
    pub left_ms: u64,
    /// Who gave it.
    pub from: SignalSource,
}

/// An entry as operators see it: metadata alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EntryView {
    /// Its place.
    pub entry: EntryRef,
    /// Its id on the wire.
    pub id: MessageId,
    /// Who sent it.
    pub device: DeviceId,
    /// Where it stands.
    pub state: EntryState,
    /// Wall clock at custody, in milliseconds since 1970.
    pub accepted_ms: i64,
    /// Whether that clock was trusted.
    pub clock_trusted: bool,
    /// Milliseconds in custody.
    pub age_ms: u64,
    /// How it came in.
    pub origin: Origin,
    /// Length of the body.
    pub body_bytes: u32,
    /// Content type of the body.
    pub content_type: String,
    /// Why it is parked, dead or held, or was refused the last time.
    pub reason: Option<DeliveryError>,
    /// Times that the service refused it.
    pub refusals: u32,
    /// Milliseconds until it is tried again after a refusal.
    pub due_in_ms: u64,
    /// What goes first.
    pub priority: Priority,
}

/// One end state, as the ledger keeps it and the room hears it: no payload, no address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LedgerView {
    /// Ledger number, from 1.
    pub no: u64,
    /// Its place.
    pub entry: EntryRef,
    /// Its id on the wire.
    pub id: MessageId,
    /// Who sent it.
    pub device: DeviceId,
    /// The end state; `Dead` too is told, though it can be retried, and `Queued` as a warning: it waits for longer than agreed.
    pub state: EntryState,
    /// Wall clock at custody, in milliseconds since 1970.
    pub accepted_ms: i64,
    /// Wall clock at the end, in milliseconds since 1970.
    pub ended_ms: i64,
    /// Failed attempts of the destination since the last success, and this one.
    pub attempts: u32,
    /// Whether the receiver signed for it.
    pub receipt: bool,
    /// Why, unless delivered.
    pub reason: Option<DeliveryError>,
    /// What ended it, if it expired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_by: Option<EndedBy>,
    /// It went out, or was let in, as break-glass.
    #[serde(default)]
    pub break_glass: bool,
}

/// A publication that was acknowledged and never became an entry: metadata alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QuarantineView {
    /// Number, from 1.
    pub no: u64,
    /// Why.
    pub reason: QuarantineReason,
    /// What the refusal of a message is known by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<MessageId>,
    /// Who sent it, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceId>,
    /// The topic, cut to 256 bytes.
    pub topic: String,
    /// Length of its body.
    pub body_bytes: u64,
    /// How it came.
    pub origin: Origin,
    /// Wall clock, in milliseconds since 1970.
    pub at_ms: i64,
}

/// One destination on the admin API: the agreement in short, the windows, the load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DestinationView {
    /// The alias.
    pub destination: DestinationId,
    /// `private-iot`, `raw`, `cloudevents`, `cloudevents-batch`.
    pub format: crate::wire::WireFormat,
    /// What counts as delivered.
    pub success: crate::agreement::Success,
    /// The windows as written.
    pub windows: crate::window::RawWindows,
    /// Where it is declared: what a file declares is changed there alone.
    pub source: DestinationSource,
    /// Version of the agreement; rises with every change.
    pub version: u64,
    /// Open now, until when, next opening.
    pub now: Evaluation,
    /// What waits.
    pub load: Option<DestinationLoad>,
}

/// A change of a destination: what it did, or what it would do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ChangeView {
    /// The alias.
    pub destination: DestinationId,
    /// Whether nothing was changed, and this is what would be.
    pub dry_run: bool,
    /// What was done; absent where nothing differs.
    pub kind: Option<ChangeKind>,
    /// The keys that differ.
    pub changes: Vec<KeyChange>,
    /// Version of the agreement after it.
    pub version: u64,
    /// What waits for it: queued, held, parked and dead ones. Absent when the outbox could not be asked.
    pub waiting: Option<u64>,
    /// What it means.
    pub impact: Impact,
    /// Messages that were purged, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purged: Option<u64>,
    /// What deserves a second look.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// What came of a test of the connection to a destination: nothing was sent to it, and nothing was counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConnectionTest {
    /// The alias.
    pub destination: DestinationId,
    /// Whether its onion service took the connection, and something listens behind it.
    pub reached: bool,
    /// How long that took, or how long it was tried, in milliseconds.
    pub took_ms: u64,
    /// Why it was not reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<DeliveryError>,
    /// What came of it, in a sentence; of a failure, also what can be done.
    pub words: String,
}

impl ConnectionTest {
    /// Of a test that ended so, after this long.
    #[must_use]
    pub fn of(destination: DestinationId, took_ms: u64, ended: Result<(), DeliveryError>) -> Self {
        let (error, words) = match ended {
            Ok(()) => (None, "the onion service took the connection; nothing was sent to it".to_owned()),
            Err(error) => (Some(error), format!("{error}: {}", error.hint())),
        };
        Self { destination, reached: error.is_none(), took_ms, error, words }
    }
}

/// A reload: what it did, or what it would do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReloadView {
    /// Whether nothing was changed, and this is what would be.
    pub dry_run: bool,
    /// Destinations that come, go, or differ in what is written.
    pub destinations: Vec<ChangeView>,
    /// Destinations whose key files hold something else now.
    pub new_keys: Vec<DestinationId>,
    /// Destinations that were made through the API and stand behind a declaration of the same name.
    pub shadowed: Vec<DestinationId>,
    /// Destinations that were made through the API and can't be used any more: messages for them are kept.
    pub broken: Vec<BrokenDestination>,
    /// Destinations that can be used again.
    pub mended: Vec<DestinationId>,
    /// Whether the routes differ.
    pub routes_changed: bool,
    /// Keys that differ and need a restart.
    pub needs_restart: Vec<String>,
    /// Messages that wait for destinations that are not there (any more).
    pub absent: Vec<AbsentDestination>,
    /// What deserves a second look.
    pub warnings: Vec<String>,
}

/// One entry, wherever it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Shown {
    /// It is in the outbox.
    Waiting(EntryView),
    /// It has ended: the ledger's record.
    Ended(LedgerView),
}
