//! A checked config: what `run` works with. [`super::raw::RawConfig::check`] makes it.

use super::{Problem, devices::Devices, origins::Origins, settings::Settings};
use crate::{
    agreement::Destination,
    clock::TrustPolicy,
    history::Canonical,
    id::DestinationId,
    messages::registry::{Declared, DeclaredDestination},
    onion::OnionEndpoint,
    route::Routes,
    tidings::Tidings,
};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc};

/// A checked config: what `run` works with.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Folder of everything that the gateway keeps (outbox, registry, Tor state, tokens).
    pub state_dir: PathBuf,
    /// The broker; absent when `mqtt.enabled = false`.
    pub mqtt: Option<MqttConfig>,
    /// The device HTTP endpoint; absent when `http.enabled = false`.
    pub http: Option<HttpConfig>,
    /// How onion services are reached.
    pub tor: TorConfig,
    /// Where deliveries are acknowledged; absent without a `[matrix]` section.
    pub matrix: Option<MatrixConfig>,
    /// Whether the gateway hosts onion services at which destinations signal.
    pub signal_service: bool,
    /// The admin endpoint.
    pub admin: AdminConfig,
    /// The durable outbox.
    pub outbox: OutboxConfig,
    /// The ledger's files.
    pub ledger: LedgerConfig,
    /// The wall clock.
    pub clock: ClockConfig,
    /// Logs.
    pub log: LogConfig,
    /// Routes, first match wins.
    pub routes: Routes,
    /// Destinations declared in the file, with the secrets that their files hold. Signing seed and pseudonym are the
    /// Registry's to fill in.
    pub destinations: Vec<Destination>,
    /// Device credentials, from the state folder.
    pub devices: Devices,
    /// What is allowed but deserves a second look: told by `check`, and logged once by `run`.
    pub warnings: Vec<Problem>,
    /// How and where each destination is declared.
    pub declarations: BTreeMap<DestinationId, Declaration>,
    /// What can't be changed while the gateway runs.
    pub settings: Settings,
    /// Where each key stands.
    pub origins: Arc<Origins>,
}

impl Config {
    /// What the Registry needs of it: the part that a reload replaces.
    #[must_use]
    pub fn declared(&self) -> Declared {
        let destinations = self.destinations.iter().filter_map(|destination| {
            let Declaration { raw, source } = self.declarations.get(&destination.id)?.clone();
            Some(DeclaredDestination { destination: destination.clone(), raw, source })
        });
        Declared {
            destinations: destinations.collect(),
            routes: Arc::new(self.routes.clone()),
            origins: Arc::clone(&self.origins),
        }
    }
}

/// How and where a destination is declared.
#[derive(Debug, Clone, PartialEq)]
pub struct Declaration {
    /// As it is written.
    pub raw: Canonical,
    /// Where.
    pub source: DestinationSource,
}

/// Where a destination comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum DestinationSource {
    /// A config file: it can be changed there alone.
    File {
        /// Its path.
        file: String,
        /// The line, from 1.
        line: u32,
    },
    /// The environment of the process.
    Environment {
        /// Name of the setting.
        name: String,
    },
    /// The admin API: it lives in the store.
    Api,
}
impl fmt::Display for DestinationSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, line } => write!(f, "{file}:{line}"),
            Self::Environment { name } => write!(f, "{name} in the environment"),
            Self::Api => f.write_str("the admin API"),
        }
    }
}

/// `[mqtt]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MqttConfig {
    /// Start our own broker as a child process (not durable: it acknowledges before the outbox has it).
    pub embedded: bool,
    /// The broker as written: an address, `localhost`, or a name in the hosts file. TLS verifies this name; nothing else uses it.
    pub host: String,
    /// Its address, found without asking a name server (PR-5).
    pub address: IpAddr,
    /// TCP port; with `embedded`, where our broker listens.
    pub port: u16,
    /// 5, or 3.1.1 as 4 (the protocol's own number).
    pub protocol: MqttProtocol,
    /// User name.
    pub username: Option<String>,
    /// File with the password.
    pub password_file: Option<PathBuf>,
    /// TLS, with the file of the CA certificate (PEM); needs a build with the feature `mqtt-tls`.
    pub tls_ca_file: Option<PathBuf>,
    /// How long the broker keeps our session while we are away, in seconds.
    pub session_expiry_s: u32,
    /// Publications at QoS 1 that the broker may have under way to us (MQTT 5 receive maximum).
    pub receive_maximum: u16,
    /// What devices are told.
    pub tidings: Tidings,
    /// Take signals from the broker.
    pub signals: bool,
}

impl MqttConfig {
    /// Where the embedded broker listens.
    #[must_use]
    pub fn listen(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }

    /// Where the gateway connects to: an embedded broker that listens everywhere is reached over loopback.
    #[must_use]
    pub fn connect(&self) -> SocketAddr {
        let address = match self.address {
            IpAddr::V4(address) if address.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(address) if address.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            address => address,
        };
        SocketAddr::new(address, self.port)
    }
}

/// MQTT versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MqttProtocol {
    /// MQTT 5.
    V5,
    /// MQTT 3.1.1.
    V311,
}

/// `[http]`: where devices without MQTT hand in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Requests a minute, of one device or address.
    pub requests_per_minute: u32,
}

/// `[tor]`
#[derive(Debug, Clone, PartialEq)]
pub struct TorConfig {
    /// arti in the process, or a system tor.
    pub transport: TorTransport,
    /// Vanguards.
    pub vanguards: Vanguards,
}

/// How onion services are reached.
#[derive(Debug, Clone, PartialEq)]
pub enum TorTransport {
    /// arti, in the process.
    Arti,
    /// The SOCKS port of a system `tor` on loopback.
    Socks(SocketAddr),
}

/// How strongly the first relays of a path are kept (Tor's vanguards specification).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vanguards {
    /// The default.
    Lite,
    /// For high risk: slower, harder to trace.
    Full,
}

/// Name of the file, in the state folder, with what the gateway keeps of its log-in at the homeserver.
pub const MATRIX_SESSION_FILE: &str = "matrix.json";

/// `[matrix]`
#[derive(Debug, Clone, PartialEq)]
pub struct MatrixConfig {
    /// Where the homeserver is: loopback, a private address, or an onion service.
    pub homeserver: Homeserver,
    /// Local part or full id of the gateway's user.
    pub user: String,
    /// File with its password, used once: the access token is kept.
    pub password_file: PathBuf,
    /// Local part of the room's alias; the room is created when it is missing.
    pub room: String,
    /// Users who are invited to a room that the gateway creates.
    pub invite: Vec<String>,
}

/// A homeserver that the gateway may speak to without a look-up and without an exit.
#[derive(Debug, Clone, PartialEq)]
pub enum Homeserver {
    /// Plain HTTP on loopback or a private network.
    Address(SocketAddr),
    /// Over Tor, on an isolation of its own.
    Onion(OnionEndpoint),
}

/// `[admin]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// More values of `Host` that are answered (beside the address, `localhost` and `127.0.0.1`, with the port).
    pub hosts: Vec<String>,
}

/// `[outbox]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxConfig {
    /// What keeps it on disk.
    pub engine: OutboxEngine,
    /// The engine's page cache, in bytes.
    pub cache_bytes: u64,
    /// End states kept in the ledger.
    pub ledger_entries_max: u64,
    /// Quarantine records kept.
    pub quarantine_entries_max: u64,
    /// Messages that may wait, of all destinations.
    pub max_messages: u64,
    /// Their bodies, in bytes.
    pub max_bytes: u64,
    /// Room on the disk below which nothing is taken, in bytes.
    pub min_free_disk: u64,
    /// What is done about a damaged store at the start.
    pub on_corrupt: OnCorrupt,
}

/// The database that keeps the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutboxEngine {
    /// sled 0.34, with a sync of our own after each commit.
    #[default]
    Sled,
    /// redb 4.
    Redb,
}

/// What is done about a damaged store at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnCorrupt {
    /// The gateway doesn't start: an operator decides.
    #[default]
    Stop,
    /// It is moved away, never removed, and the gateway begins with an empty one.
    SetAside,
}

/// `[ledger]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerConfig {
    /// Whether end states are kept in files.
    pub archive: bool,
    /// How many days a file is kept after its own.
    pub retention_days: u32,
}

/// `[clock]`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClockConfig {
    /// What holds when nobody vouches for the wall clock.
    pub trust: TrustPolicy,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// A tracing filter, such as `info` or `tidegate=debug`.
    pub filter: String,
    /// JSON lines instead of text.
    pub json: bool,
}
