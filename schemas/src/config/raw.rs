//! The config file as serde reads it: every key that may be written, none of it checked yet.
//!
//! Unknown keys are errors. What must be there (`matrix.homeserver`, a destination's `onion`) is optional here, so that its
//! absence is reported together with everything else and with its path.

use super::file::{OnCorrupt, OutboxEngine};
use crate::{
    agreement::{
        Order, RawAgreement, RawBreakGlass, RawBreaker, RawDeadlines, RawHeadOfLine, RawLifetime, RawLimits, RawRetry,
        RawSignal, RawStatuses, RawTorBudget, RawValid, Success,
    },
    clock::TrustPolicy,
    route::PayloadHandling,
    submission::Priority,
    window::RawWindows,
    wire::WireFormat,
};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};
use std::{collections::BTreeMap, fmt, path::PathBuf};

/// The whole file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawConfig {
    /// Version of this format; 1.
    pub version: Option<u32>,
    /// Folder of everything that the gateway keeps.
    pub state_dir: Option<PathBuf>,
    /// The broker.
    pub mqtt: RawMqtt,
    /// The device HTTP endpoint.
    pub http: RawHttp,
    /// Tor.
    pub tor: RawTor,
    /// Where deliveries are acknowledged.
    pub matrix: Option<RawMatrix>,
    /// The onion services at which destinations signal.
    pub signal_service: RawSignalService,
    /// The admin endpoint.
    pub admin: RawAdmin,
    /// The outbox.
    pub outbox: RawOutbox,
    /// The ledger's files.
    pub ledger: RawLedger,
    /// The wall clock.
    pub clock: RawClock,
    /// Logs.
    pub log: RawLog,
    /// Routes, first match wins.
    pub route: Vec<RawRoute>,
    /// Destinations by alias.
    pub destination: BTreeMap<String, RawDestination>,
}

/// A secret: never in the config itself, always in a file of its own.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawSecret {
    /// The file, relative to the folder of the config file (of `tidegate.toml`, in `conf.d` and over the admin API too).
    pub file: PathBuf,
}

/// `[mqtt]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawMqtt {
    /// Whether a broker is used at all.
    pub enabled: Option<bool>,
    /// Start our own broker.
    pub embedded: Option<bool>,
    /// Address, `localhost`, or a name in the hosts file.
    pub host: Option<String>,
    /// TCP port.
    pub port: Option<u16>,
    /// MQTT version.
    pub protocol: Option<RawProtocol>,
    /// User name.
    pub username: Option<String>,
    /// Password.
    pub password: Option<RawSecret>,
    /// CA certificate; its presence means TLS.
    pub tls_ca_file: Option<PathBuf>,
    /// How long the broker keeps our session.
    pub session_expiry: Option<String>,
    /// Publications under way to us.
    pub receive_maximum: Option<u16>,
    /// The first levels of the gateway's own topics.
    pub prefix: Option<String>,
    /// Whether devices are told how the destinations are.
    pub states: Option<bool>,
    /// Whether devices without a response topic hear of their messages.
    pub receipts: Option<bool>,
    /// Response topics that are answered.
    pub response_topics: Option<Vec<String>>,
    /// Take signals from the broker.
    pub signals: bool,
}

/// MQTT version as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum RawProtocol {
    /// MQTT 5.
    #[serde(rename = "5")]
    V5,
    /// MQTT 3.1.1.
    #[serde(rename = "3.1.1")]
    V311,
}

/// `[http]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawHttp {
    /// Whether devices may hand in by HTTP.
    pub enabled: Option<bool>,
    /// Where it listens.
    pub listen: Option<String>,
    /// Requests a minute, of one device or address.
    pub requests_per_minute: Option<u32>,
}

/// `[tor]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawTor {
    /// `arti` or `socks`.
    pub transport: Option<RawTransport>,
    /// The SOCKS port of a system tor.
    pub socks: Option<String>,
    /// `lite` or `full`.
    pub vanguards: Option<RawVanguards>,
}

/// How onion services are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RawTransport {
    /// arti, in the process.
    Arti,
    /// A system tor.
    Socks,
}

/// How strongly the first relays of a path are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RawVanguards {
    /// The default.
    Lite,
    /// For high risk.
    Full,
}

/// `[matrix]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawMatrix {
    /// Where the homeserver is.
    pub homeserver: Option<String>,
    /// The gateway's user.
    pub user: Option<String>,
    /// Its password.
    pub password: Option<RawSecret>,
    /// Local part of the room's alias.
    pub room: Option<String>,
    /// Who is invited to a room that the gateway creates.
    pub invite: Vec<String>,
}

/// `[signal_service]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawSignalService {
    /// Whether the gateway hosts onion services for signals.
    pub enabled: bool,
}

/// `[admin]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawAdmin {
    /// Where it listens.
    pub listen: Option<String>,
    /// More values of `Host` that are answered.
    pub hosts: Vec<String>,
}

/// `[outbox]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawOutbox {
    /// What keeps it on disk.
    pub engine: OutboxEngine,
    /// Page cache of the store, with a unit.
    pub cache: Option<String>,
    /// End states kept.
    pub ledger_entries: Option<u64>,
    /// Quarantine records kept.
    pub quarantine_entries: Option<u64>,
    /// Messages that may wait, of all destinations.
    pub max_messages: Option<u64>,
    /// Their bodies, with a unit.
    pub max_bytes: Option<String>,
    /// Room on the disk below which nothing is taken, with a unit.
    pub min_free_disk: Option<String>,
    /// What is done about a damaged store at the start.
    pub on_corrupt: OnCorrupt,
}

/// `[ledger]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawLedger {
    /// Whether end states are kept in files.
    pub archive: Option<bool>,
    /// How many days a file is kept.
    pub retention_days: Option<u32>,
}

/// `[clock]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawClock {
    /// What holds when nobody vouches for it.
    pub trust: TrustPolicy,
}

/// `[log]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawLog {
    /// A tracing filter.
    pub filter: Option<String>,
    /// `text` or `json`.
    pub format: Option<RawLogFormat>,
}

/// Form of the log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RawLogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `[[route]]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawRoute {
    /// Topic filter with captures.
    pub topic: Option<String>,
    /// Who sent it.
    pub device: Option<RawIdSource>,
    /// Where it goes.
    pub destination: Option<RawIdSource>,
    /// The destinations that this route may yield.
    pub allow: Option<Vec<String>>,
    /// What is done with the body.
    pub payload: PayloadHandling,
    /// Whether retained messages are taken.
    pub retained: bool,
    /// `normal`, `high` or `break_glass`.
    pub priority: Priority,
}

/// Where a route takes an id from: a text (a capture in braces, or a fixed name), or `{ property = true }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RawIdSource {
    /// `"{device}"`, `"{destination}"`, or a name.
    Text(String),
    /// `{ property = true }`: the device's own word is trusted.
    Property(bool),
}

impl<'de> Deserialize<'de> for RawIdSource {
    // By hand: the error of an untagged enum names neither form.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Property {
            property: bool,
        }
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = RawIdSource;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name, a capture such as \"{device}\", or { property = true }")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<RawIdSource, E> {
                Ok(RawIdSource::Text(text.to_owned()))
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<RawIdSource, A::Error> {
                let read = Property::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(RawIdSource::Property(read.property))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// `[destination.NAME]`: where it is, its keys, and the keys of [`RawAgreement`] beside them.
///
/// The agreement's keys are repeated here because serde's `flatten` would switch off the refusal of unknown keys and lose the
/// place of every error. [`RawDestination::agreement`] names every field, so a key that is added there can't be forgotten here.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawDestination {
    /// `ADDRESS.onion`, with `:PORT` unless it is 80.
    pub onion: Option<String>,
    /// Key of onion client authorization.
    pub client_auth: Option<RawSecret>,
    /// The bearer key of a `tidegate receiver`.
    pub write_key: Option<RawSecret>,
    /// The public key under which the receiver signs.
    pub receipt_key: Option<String>,
    /// See [`RawAgreement::windows`].
    pub windows: RawWindows,
    /// See [`RawAgreement::format`].
    pub format: WireFormat,
    /// See [`RawAgreement::valid`].
    pub valid: Option<RawValid>,
    /// See [`RawAgreement::signal`].
    pub signal: Option<RawSignal>,
    /// See [`RawAgreement::retry`].
    pub retry: Option<RawRetry>,
    /// See [`RawAgreement::status`].
    pub status: Option<RawStatuses>,
    /// See [`RawAgreement::breaker`].
    pub breaker: Option<RawBreaker>,
    /// See [`RawAgreement::lifetime`].
    pub lifetime: Option<RawLifetime>,
    /// See [`RawAgreement::notify_after`].
    pub notify_after: Option<Vec<String>>,
    /// See [`RawAgreement::receiver_memory`].
    pub receiver_memory: Option<String>,
    /// See [`RawAgreement::order`].
    pub order: Option<Order>,
    /// See [`RawAgreement::head_of_line`].
    pub head_of_line: Option<RawHeadOfLine>,
    /// See [`RawAgreement::break_glass`].
    pub break_glass: Option<RawBreakGlass>,
    /// See [`RawAgreement::lanes`].
    pub lanes: Option<u8>,
    /// See [`RawAgreement::limits`].
    pub limits: Option<RawLimits>,
    /// See [`RawAgreement::success`].
    pub success: Option<Success>,
    /// See [`RawAgreement::tor_budget`].
    pub tor_budget: Option<RawTorBudget>,
    /// See [`RawAgreement::deadlines`].
    pub deadlines: Option<RawDeadlines>,
}

impl RawDestination {
    /// The part that is the agreement.
    #[must_use]
    pub fn agreement(&self) -> RawAgreement {
        RawAgreement {
            windows: self.windows.clone(),
            format: self.format,
            valid: self.valid.clone(),
            signal: self.signal.clone(),
            retry: self.retry.clone(),
            status: self.status.clone(),
            breaker: self.breaker.clone(),
            lifetime: self.lifetime.clone(),
            notify_after: self.notify_after.clone(),
            receiver_memory: self.receiver_memory.clone(),
            order: self.order,
            head_of_line: self.head_of_line,
            break_glass: self.break_glass,
            lanes: self.lanes,
            limits: self.limits.clone(),
            success: self.success,
            tor_budget: self.tor_budget.clone(),
            deadlines: self.deadlines.clone(),
        }
    }
}
impl fmt::Debug for RawDestination {
    /// Without the onion address and the keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawDestination").field("agreement", &self.agreement()).finish_non_exhaustive()
    }
}
