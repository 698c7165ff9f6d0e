//! Where publications come from: an MQTT broker.

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
}
