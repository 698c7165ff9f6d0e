//! One connection to a broker, in either version of MQTT: what the poller needs of rumqttc and nothing else.
//!
//! A wire is used for one connection and then dropped with all that rumqttc remembers of it.

use super::{Login, READ_BYTES_MAX, v5, v311};
use std::time::Duration;
use tidegate_actors::ports::source::Announcement;
use tidegate_schemas::{
    submission::{PACKET_BYTES_MAX, Payload, Publication},
    tidings::Presence,
};

/// What a connection needs to be opened.
pub(super) struct Opening {
    pub client_id: String,
    pub host: String,
    pub port: u16,
    pub login: Option<Login>,
    /// PEM of the CA, for TLS.
    pub ca: Option<Vec<u8>>,
    pub session_expiry_s: u32,
    pub receive_maximum: u16,
    /// Largest packet that is read, in bytes.
    pub packet_bytes_max: usize,
    /// Its `offline` is the last will.
    pub presence: Option<Presence>,
}

/// A connection.
pub(super) enum Wire {
    V5(Box<v5::Wire>),
    V311(Box<v311::Wire>),
}

/// What comes in. The redelivery mark of a publication lacks the session, which the poller knows.
pub(super) enum Incoming {
    /// The broker's greeting.
    Greeted {
        session_present: bool,
        /// What the broker made of our wish, if it said so.
        session_expiry_s: Option<u32>,
        /// Publications of ours that it takes at once.
        receive_maximum: u16,
    },
    /// An acknowledgement has left.
    Acknowledged,
    /// A publication of ours left under this packet id.
    Sent { packet_id: u16 },
    /// The broker's answer to it; a reason if it did not take it.
    Answered { packet_id: u16, refused: Option<String> },
    /// The answer to our subscription: the filters that were refused, by their place.
    Subscribed { refused: Vec<usize>, without_acks: bool },
    /// A publication, with its packet id and DUP at QoS 1.
    Publication { publication: Publication, delivery: Option<Delivery> },
    /// Nothing that matters here.
    Other,
}

/// How a publication at QoS 1 came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Delivery {
    pub packet_id: u16,
    pub dup: bool,
}

/// The end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lost {
    /// In words, for the operator: no payload, no topic.
    pub reason: String,
    pub cause: Cause,
}

/// What an end means for the next connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// Another client has our id; the broker said so.
    TakenOver,
    /// The broker closed, and didn't say why.
    Closed,
    /// A packet larger than the limit came.
    TooLarge { packet_bytes: usize },
    /// Anything else.
    Other,
}

impl Lost {
    /// An end that means nothing special.
    pub fn other(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), cause: Cause::Other }
    }
    pub fn closed() -> Self {
        Self { reason: "the broker closed the connection".to_owned(), cause: Cause::Closed }
    }
    pub fn too_large(packet_bytes: usize) -> Self {
        let reason = if packet_bytes <= READ_BYTES_MAX {
            format!(
                "a packet of {packet_bytes} bytes came, the limit is {PACKET_BYTES_MAX}; it is read once with a larger limit, \
                 cut and quarantined (a limit of the broker's own keeps such packets out: mosquitto's message_size_limit)"
            )
        } else {
            format!(
                "a packet of {packet_bytes} bytes waits at the broker, more than the {READ_BYTES_MAX} that are ever read: nothing \
                 behind it arrives until it is removed there; use mqtt.protocol = \"5\", by which brokers drop such packets, and \
                 mosquitto's message_size_limit, which keeps them out"
            )
        };
        Self { reason, cause: Cause::TooLarge { packet_bytes } }
    }
    pub fn io(error: &std::io::Error) -> Self {
        let cause = match error.kind() {
            std::io::ErrorKind::ConnectionReset
            | std::io::ErrorKind::ConnectionAborted
            | std::io::ErrorKind::UnexpectedEof
            | std::io::ErrorKind::BrokenPipe => Cause::Closed,
            _ => Cause::Other,
        };
        Self { reason: format!("the broker can't be reached: {error}"), cause }
    }
    pub fn silent(limit: Duration) -> Self {
        Self::other(format!("the broker did not answer within {} s", limit.as_secs()))
    }
    pub fn not_greeted() -> Self {
        Self::other(
            "what answered did not greet as an MQTT broker does; is it another service, or another MQTT version?",
        )
    }
    pub fn above_our_qos() -> Self {
        Self::other("the broker delivers at QoS 2, though the subscription says QoS 1")
    }
}

/// Sends acknowledgements and publications on one connection.
#[derive(Clone)]
pub(super) enum Client {
    V5(rumqttc::v5::AsyncClient),
    V311(rumqttc::AsyncClient),
}

impl Client {
    /// Hands a publication to the poller; false when its connection is gone.
    pub fn publish(&self, announcement: &Announcement) -> bool {
        match self {
            Self::V5(client) => v5::publish(client, announcement),
            Self::V311(client) => v311::publish(client, announcement),
        }
    }

    /// Hands the acknowledgement to the poller; false when its connection is gone.
    pub fn ack(&self, packet_id: u16) -> bool {
        match self {
            Self::V5(client) => v5::ack(client, packet_id),
            Self::V311(client) => v311::ack(client, packet_id),
        }
    }
}

impl Wire {
    /// The next that comes in; connects at the first call.
    pub async fn next(&mut self) -> Result<Incoming, Lost> {
        match self {
            Self::V5(wire) => wire.next().await,
            Self::V311(wire) => wire.next().await,
        }
    }

    /// After the end: publications at QoS 0 that had been read. At QoS 1 the broker sends them again.
    pub fn left_over(&mut self) -> Vec<Publication> {
        match self {
            Self::V5(wire) => wire.left_over(),
            Self::V311(wire) => wire.left_over(),
        }
    }

    /// Asks for these filters at QoS 1; false if the wire is gone or a filter is none.
    pub fn subscribe(&self, filters: &[String]) -> bool {
        match self {
            Self::V5(wire) => wire.subscribe(filters),
            Self::V311(wire) => wire.subscribe(filters),
        }
    }

    /// Asks for no more of this filter; false if the wire is gone.
    pub fn unsubscribe(&self, filter: &str) -> bool {
        match self {
            Self::V5(wire) => wire.unsubscribe(filter),
            Self::V311(wire) => wire.unsubscribe(filter),
        }
    }

    pub fn client(&self) -> Client {
        match self {
            Self::V5(wire) => Client::V5(wire.client()),
            Self::V311(wire) => Client::V311(wire.client()),
        }
    }
}

/// The body, in memory of its own (the read buffer must not be held by it), cut to what is ever looked at.
pub(super) fn body(bytes: &[u8]) -> Payload {
    Payload::new(bytes::Bytes::copy_from_slice(&bytes[..bytes.len().min(PACKET_BYTES_MAX)]))
}

/// How to reach the broker: TCP, or TLS where a CA is given.
pub(super) fn transport(ca: Option<Vec<u8>>) -> rumqttc::Transport {
    match ca {
        #[cfg(feature = "mqtt-tls")]
        Some(ca) => rumqttc::Transport::Tls(rumqttc::TlsConfiguration::SimpleNative { ca, client_auth: None }),
        // Without the feature there is no way to get here: `MqttSource::new` refuses.
        _ => rumqttc::Transport::Tcp,
    }
}
