//! What a device hands in, with nothing special about it.

use bytes::Bytes;
use tidegate_schemas::submission::{Origin, Payload, Priority, Submission};

/// A text from this device for this destination, by MQTT at QoS 1.
///
/// # Panics
/// When one of the two is no id.
#[must_use]
pub fn submission(device: &str, destination: &str, body: impl Into<Bytes>) -> Submission {
    Submission {
        device: device.parse().expect("a device's id"),
        destination: destination.parse().expect("a destination's id"),
        label: None,
        content_type: "text/plain".into(),
        payload: Payload::new(body),
        origin: Origin::MqttQos1,
        redelivery: None,
        expiry_s: None,
        priority: Priority::Normal,
        reply_to: None,
    }
}
