//! The broker's connection: MQTT 5 and 3.1.1 by rumqttc, as a [`Source`].
//!
//! # What it promises
//!
//! - One poller, which never waits for an acknowledgement. Acknowledgements leave in the order in which [`Source::ack`] was
//!   called, and only on the connection that delivered the publication: each connection gets an event loop of its own, because
//!   rumqttc 0.25 hands what an old connection had read to the new one, under packet ids that may mean something else there.
//! - A persistent session (`clean_start = 0`, explicit expiry), under a client id that is random per installation. A number
//!   drawn when the broker's session began, kept in the state folder, marks every publication at QoS 1, so that a redelivery
//!   is recognised by DUP, packet id and content within the broker's session, across restarts of ours.
//! - The subscription is made at every connection, because a broker may have gone back to an older save of the session. MQTT 5
//!   is told not to send retained messages again for what was subscribed before; over 3.1.1 they come again. Filters that
//!   another one covers are left out: a broker may deliver once for each match (rumqttd does, mosquitto 2.0.11 does not).
//! - The gateway's own state topic says `online` at every connection, and by the last will `offline` when it is gone, however that
//!   came about. What the gateway tells devices goes out on the same connection and never holds up an acknowledgement (`outgoing`).
//! - Back-off from 0.2 s to 15 s with jitter. A connection that held for 15 s starts it anew.
//!
//! # Limits
//!
//! - A packet of at most 1 MiB ([`tidegate_schemas::submission::PACKET_BYTES_MAX`]) is read. MQTT 5 brokers are told so and
//!   drop what is larger, silently, as the standard has it (mosquitto 2.0.11 does). MQTT 3.1.1 has no such limit, and a packet
//!   that is refused comes again for ever: so when one comes, the connection is opened again with a limit of that packet's
//!   size, the packet is read, *cut* to 1 MiB, and goes its way to quarantine. Its sender should be told by the broker: see
//!   `message_size_limit` of mosquitto. One above [`READ_BYTES_MAX`] is never read: it stops what is behind it, and status says so.
//! - At most [`ACKS_MAX`] acknowledgements wait for the poller, which is more than there are packet ids.
//! - Publications at QoS 0 that a broken connection had brought are still handed on; at QoS 1 the broker sends them again.
//!
//! # What it can't do
//!
//! MQTT 5 has a word for another client that took our id, 3.1.1 has none, and mosquitto 2.0.11 says it in neither: three
//! connections in a row that the broker closes within ten seconds are taken for that, too. A packet that rumqttc can't parse at all (a topic that is not UTF-8 over 3.1.1, say, which the
//! standard forbids and mosquitto drops) ends the connection, by name, as often as the broker sends it.

use super::embedded_broker::{BrokerStatus, EmbeddedBroker};
use crate::crash_point::{self, CrashPoint};
use futures_util::future::BoxFuture;
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tidegate_actors::ports::{
    entropy::Entropy,
    source::{AckToken, AnnounceError, Announcement, Source, SourceEvent},
};
use tidegate_schemas::{
    config::file::{MqttConfig, MqttProtocol},
    view::EmbeddedBrokerView,
};
use tokio::sync::mpsc;

pub(super) mod backoff;
mod filters;
mod identity;
mod outgoing;
mod poller;
mod v311;
mod v5;
mod wire;

pub use identity::{IdentityError, client_id};

/// Acknowledgements that may wait for the poller (a count).
pub const ACKS_MAX: usize = 65_536;
/// Interval of the pings that keep an idle connection.
pub const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// Longest that a TCP connection and the broker's greeting may take together.
pub const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Longest that the broker may take to answer a subscription.
pub const SUBSCRIBE_MAX: Duration = Duration::from_secs(15);
/// Largest packet that is ever read, over MQTT 3.1.1, in bytes: it is in memory twice for a moment.
pub const READ_BYTES_MAX: usize = 16 * 1024 * 1024;
/// User properties of one publication that are kept (a count): routes look at two.
pub const USER_PROPERTIES_MAX: usize = 32;

/// A user name and its password. `Debug` shows the name alone.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The user name.
    pub name: String,
    /// The password.
    pub password: String,
}
impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Why a broker can't be used as configured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MqttConfigError {
    /// The build lacks TLS.
    #[error(
        "mqtt.tls_ca_file is set, but this build has no MQTT over TLS; build it with `--features mqtt-tls`, or reach the \
         broker on this machine without TLS"
    )]
    NoTls,
}

/// The broker of the config. One per process: it outlives the actors that use it.
pub struct MqttSource {
    shared: Arc<Shared>,
}
impl fmt::Debug for MqttSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MqttSource").field("broker", &self.describe()).finish_non_exhaustive()
    }
}

/// What the handle and its poller share.
struct Shared {
    config: MqttConfig,
    own_login: Option<Login>,
    embedded: Option<BrokerStatus>,
    client_id: String,
    state_dir: PathBuf,
    entropy: Arc<dyn Entropy>,
    connections: AtomicU64,
    live: Mutex<Option<Live>>,
}

/// The connection that acknowledgements and publications may leave on.
struct Live {
    connection: u64,
    client: wire::Client,
    outgoing: Arc<outgoing::Outgoing>,
    acks_waiting: Arc<AtomicU64>,
}

impl MqttSource {
    /// The broker of this config.
    ///
    /// `client_id` comes from [`client_id`]; `state_dir` is where the session's number is kept; `embedded` is the broker of our
    /// own, if there is one: its login replaces user name and password of the config.
    ///
    /// # Errors
    /// [`MqttConfigError`] when this build can't do what the config asks.
    pub fn new(
        config: MqttConfig,
        client_id: String,
        state_dir: &Path,
        embedded: Option<&EmbeddedBroker>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, MqttConfigError> {
        if config.tls_ca_file.is_some() && cfg!(not(feature = "mqtt-tls")) {
            return Err(MqttConfigError::NoTls);
        }
        let shared = Shared {
            config,
            own_login: embedded.map(EmbeddedBroker::login),
            embedded: embedded.map(EmbeddedBroker::status),
            client_id,
            state_dir: state_dir.to_owned(),
            entropy,
            connections: AtomicU64::new(0),
            live: Mutex::new(None),
        };
        Ok(Self { shared: Arc::new(shared) })
    }
}

impl Shared {
    fn live(&self) -> MutexGuard<'_, Option<Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the broker is, as the session's record has it: another place is another session.
    fn place(&self) -> String {
        self.config.connect().to_string()
    }

    /// Opens the way for acknowledgements and publications on a new connection, until the guard is dropped.
    fn go_live(self: &Arc<Self>, client: wire::Client, receive_maximum: u16) -> Line {
        let connection = self.connections.fetch_add(1, Relaxed) + 1;
        let outgoing = Arc::new(outgoing::Outgoing::new(client.clone(), receive_maximum));
        let acks_waiting = Arc::<AtomicU64>::default();
        let (outgoing_of, acks_of) = (Arc::clone(&outgoing), Arc::clone(&acks_waiting));
        *self.live() = Some(Live { connection, client, outgoing: outgoing_of, acks_waiting: acks_of });
        Line { shared: Arc::clone(self), connection, outgoing, acks_waiting }
    }
}

/// A connection that is up. Dropped with it, so that no acknowledgement goes astray.
struct Line {
    shared: Arc<Shared>,
    connection: u64,
    outgoing: Arc<outgoing::Outgoing>,
    acks_waiting: Arc<AtomicU64>,
}
impl Drop for Line {
    fn drop(&mut self) {
        self.outgoing.close();
        let mut live = self.shared.live();
        if live.as_ref().is_some_and(|live| live.connection == self.connection) {
            *live = None;
        }
    }
}

impl Source for MqttSource {
    fn describe(&self) -> String {
        let config = &self.shared.config;
        let version = match config.protocol {
            MqttProtocol::V5 => "MQTT 5",
            MqttProtocol::V311 => "MQTT 3.1.1",
        };
        let place = self.shared.place();
        if config.embedded {
            format!("embedded broker at {place}, {version}; {}", super::embedded_broker::CAVEAT)
        } else {
            format!("broker at {place}, {version}")
        }
    }

    fn embedded(&self) -> Option<EmbeddedBrokerView> {
        self.shared.embedded.as_ref().map(BrokerStatus::look)
    }

    fn run(&self, filters: Vec<String>, events: mpsc::Sender<SourceEvent>) -> BoxFuture<'static, ()> {
        Box::pin(poller::run(Arc::clone(&self.shared), filters, events))
    }

    fn ack(&self, token: AckToken) -> bool {
        match &*self.shared.live() {
            Some(live) if live.connection == token.connection => {
                crash_point::reach(CrashPoint::BeforeAcknowledgement);
                // Counted first: it may leave at once.
                live.acks_waiting.fetch_add(1, Relaxed);
                let acknowledged = live.client.ack(token.packet_id);
                if !acknowledged {
                    live.acks_waiting.fetch_sub(1, Relaxed);
                }
                crash_point::reach(CrashPoint::AfterAcknowledgement);
                acknowledged
            }
            _ => false,
        }
    }

    fn acks_waiting(&self) -> u64 {
        self.shared.live().as_ref().map_or(0, |live| live.acks_waiting.load(Relaxed))
    }

    fn connection(&self) -> Option<u64> {
        self.shared.live().as_ref().map(|live| live.connection)
    }

    fn announce(&self, announcement: Announcement) -> BoxFuture<'static, Result<(), AnnounceError>> {
        let outgoing = self.shared.live().as_ref().map(|live| Arc::clone(&live.outgoing));
        match outgoing {
            Some(outgoing) => Box::pin(outgoing.announce(announcement)),
            None => Box::pin(std::future::ready(Err(AnnounceError::NotConnected))),
        }
    }
}
