//! Where publications come from, and where devices are told things: an MQTT broker.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tidegate_schemas::{submission::Publication, view::EmbeddedBrokerView};
use tokio::sync::mpsc;

/// What an acknowledgement needs: the packet, and the connection that delivered it. On another connection the same packet id is
/// another publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AckToken {
    /// Number of the connection, from 1.
    pub connection: u64,
    /// Packet id.
    pub packet_id: u16,
}

/// What the broker's connection tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceEvent {
    /// Connected and subscribed.
    Connected {
        /// Number of the connection, from 1.
        connection: u64,
        /// Whether the broker still had our session.
        session_present: bool,
        /// Whether it should have had it.
        session_expected: bool,
    },
    /// A publication.
    Publication {
        /// What was published.
        publication: Publication,
        /// How to acknowledge it; absent at QoS 0.
        token: Option<AckToken>,
    },
    /// The connection ended; a new one is tried after a back-off.
    Disconnected {
        /// Why, in words.
        reason: String,
        /// Another client took over our client id.
        taken_over: bool,
    },
}

/// What is published to devices, at QoS 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// Where.
    pub topic: String,
    /// What.
    pub payload: Bytes,
    /// Whether the broker keeps it for whoever subscribes later.
    pub retained: bool,
    /// MQTT 5 correlation data; left out over 3.1.1.
    pub correlation: Option<Bytes>,
}

/// Why the broker doesn't have it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnnounceError {
    /// No connection is up.
    #[error("the broker is not connected")]
    NotConnected,
    /// The connection ended before the broker's answer: it may have it all the same.
    #[error("the connection to the broker ended before its answer")]
    Lost,
    /// The broker does not let us publish there; trying again does not help.
    #[error("the broker refuses it ({0}); see its access rules for our user")]
    Refused(String),
}

/// A broker's connection.
pub trait Source: Send + Sync + 'static {
    /// Which broker, in words; says so when it is not durable.
    fn describe(&self) -> String;

    /// How the broker's process is, where it is our own.
    fn embedded(&self) -> Option<EmbeddedBrokerView> {
        None
    }

    /// Connects, subscribes to these filters at QoS 1, reconnects with back-off, and sends what happens, for ever. Ends when
    /// `events` is closed. The future is the one poller; it may be dropped at any time.
    fn run(&self, filters: Vec<String>, events: mpsc::Sender<SourceEvent>) -> BoxFuture<'static, ()>;

    /// Acknowledges. Called after the flush, in order of receipt (CU-1). Returns false when the connection that delivered the
    /// publication is gone: the broker will deliver it again.
    fn ack(&self, token: AckToken) -> bool;

    /// Acknowledgements that were given to the connection that is up and have not left.
    fn acks_waiting(&self) -> u64 {
        0
    }

    /// Number of the connection that is up, from 1. What was announced on an earlier one, the broker may have forgotten.
    fn connection(&self) -> Option<u64>;

    /// Publishes on the connection that is up. The answer comes when the broker has it. Few are under way at once: those behind
    /// them wait in their futures and never stand in front of an acknowledgement. If there is room it is handed over before this
    /// returns, so that what is announced first and acknowledged then reaches the broker in this order.
    fn announce(&self, announcement: Announcement) -> BoxFuture<'static, Result<(), AnnounceError>>;
}
