//! What a device hands in, before custody: the publication as it came, and the submission that a route made of it.

use crate::id::{DestinationId, DeviceId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Largest message body taken into custody, in bytes (128 KiB). What is larger is acknowledged and quarantined.
pub const BODY_BYTES_MAX: usize = 128 * 1024;
/// Largest MQTT packet that the gateway reads, in bytes (1 MiB). A larger one is the broker's to drop.
pub const PACKET_BYTES_MAX: usize = 1024 * 1024;
/// Longest topic, in bytes.
pub const TOPIC_BYTES_MAX: usize = 1024;
/// Longest content type, in bytes.
pub const CONTENT_TYPE_BYTES_MAX: usize = 128;
/// Longest label (the measure of a reading), in bytes.
pub const LABEL_BYTES_MAX: usize = 128;

/// The bytes of a reading. Health data: `Debug` and `Display` show the length alone (PR-2).
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Payload(bytes::Bytes);

impl Payload {
    /// Wraps bytes.
    #[must_use]
    pub fn new(bytes: impl Into<bytes::Bytes>) -> Self {
        Self(bytes.into())
    }
    /// The bytes themselves, for the one who stores, hashes or sends them.
    #[must_use]
    pub fn reveal(&self) -> &bytes::Bytes {
        &self.0
    }
    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }
    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} bytes]", self.0.len())
    }
}

/// How a reading came in; decides what the gateway could promise the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// MQTT at QoS 0: nobody waited for an acknowledgement; in custody from our flush on.
    MqttQos0,
    /// MQTT at QoS 1 or 2: our PUBACK left after the flush.
    MqttQos1,
    /// HTTP: our 2xx left after the flush.
    Http,
}

/// What makes a redelivery recognisable. Equal content alone never does (DESIGN decision 12).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Redelivery {
    /// A QoS 1 publication within one broker session.
    Mqtt {
        /// A random number drawn when the broker session began (`session_present = 0`).
        session: u64,
        /// The packet id, which the broker reuses once we acknowledged.
        packet_id: u16,
        /// The broker says that it sent this before.
        dup: bool,
    },
    /// An HTTP `Idempotency-Key`, within one device and destination.
    Key(String),
}

/// What goes first. Order (OR-1) is kept among the messages of one priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// In turn.
    #[default]
    Normal,
    /// Before those.
    High,
    /// Before all, and through a closed window where the agreement lets it: flagged everywhere.
    BreakGlass,
}

/// Where a device wants to hear what becomes of its message (MQTT 5 response topic and correlation data).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplyTo {
    /// The topic.
    pub topic: String,
    /// What it recognises its message by.
    pub correlation: Option<bytes::Bytes>,
}

/// One application message as the broker handed it over, or an HTTP request that speaks of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// The topic.
    pub topic: String,
    /// The bytes.
    pub payload: Payload,
    /// MQTT 5 or HTTP content type, if given.
    pub content_type: Option<String>,
    /// MQTT 5 user properties; used only by routes that trust them.
    pub user_properties: Vec<(String, String)>,
    /// MQTT 5 message expiry as it remained, in seconds.
    pub expiry_s: Option<u32>,
    /// MQTT 5 response topic, if given.
    pub reply_to: Option<ReplyTo>,
    /// Whether the broker sent it because we subscribed, from its retained store.
    pub retained: bool,
    /// How it came.
    pub origin: Origin,
    /// Its mark for recognising a redelivery.
    pub redelivery: Option<Redelivery>,
}

/// A reading with its device and destination known: what [`crate::messages::outbox::Enqueue`] carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// Who sent it, by the gateway's rules.
    pub device: DeviceId,
    /// Where it goes.
    pub destination: DestinationId,
    /// What is measured, where the route tells (`mmHg`).
    pub label: Option<String>,
    /// Content type of the body.
    pub content_type: String,
    /// The body.
    pub payload: Payload,
    /// How it came.
    pub origin: Origin,
    /// Its mark for recognising a redelivery.
    pub redelivery: Option<Redelivery>,
    /// Its own lifetime in seconds, where the device set one.
    pub expiry_s: Option<u32>,
    /// What goes first, by its route.
    pub priority: Priority,
    /// Where its device wants to hear of it.
    pub reply_to: Option<ReplyTo>,
}

/// Why an acknowledged publication never became an entry. Kept with metadata only, never with the body.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, thiserror::Error, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum QuarantineReason {
    /// No route has a matching topic filter.
    #[error("no route matches this topic")]
    NoRoute,
    /// The route does not allow this destination.
    #[error("the route does not allow this destination")]
    NotAllowed,
    /// The destination is not declared.
    #[error("there is no destination of this name")]
    UnknownDestination,
    /// The route yields a device id that is not an id.
    #[error("the route yields no valid device id")]
    BadDevice,
    /// The route yields a destination id that is not an id.
    #[error("the route yields no valid destination id")]
    BadDestination,
    /// The body is above [`BODY_BYTES_MAX`].
    #[error("the body is larger than {BODY_BYTES_MAX} bytes")]
    TooLarge,
    /// The route wants text, and this is none.
    #[error("the body is not what the route's payload handling expects")]
    Malformed,
    /// The topic is longer than [`TOPIC_BYTES_MAX`].
    #[error("the topic is longer than {TOPIC_BYTES_MAX} bytes")]
    TopicTooLong,
    /// The destination's limit was reached; its end state is *refused*.
    #[error("the queue of the destination was full")]
    DestinationFull,
    /// The device's own limit at this destination was reached; its end state is *refused*.
    #[error("the device has too much waiting at this destination")]
    DeviceFull,
    /// The device handed in faster than the agreement lets it; its end state is *refused*.
    #[error("the device hands in faster than agreed")]
    TooFast,
    /// The stored message can't be read back; its raw bytes are kept.
    #[error("the stored message is damaged")]
    Damaged,
    /// On a topic for signals, and none.
    #[error("this is not a signal")]
    BadSignal,
    /// A signal that the agreement takes none of, or one too many within the hour.
    #[error("the agreement does not let this signal be honoured")]
    SignalNotHonoured,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_shows_its_length_alone() {
        assert_eq!(format!("{:?}", Payload::new("mmHg: 120")), "[9 bytes]");
    }
}
