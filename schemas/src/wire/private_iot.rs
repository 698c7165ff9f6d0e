//! The paper's format: `PUT /` with `{"id_device": "patient", "data": "mmHg: 120.00 mmHg"}`, as its hub sends and its Flask app
//! takes it. Text only: a body that is not UTF-8 can't be written.

use super::decode::{ReceivedEvent, WireProblem};
use crate::{
    entry::Entry,
    id::MessageId,
    outcome::DeliveryError,
    submission::{BODY_BYTES_MAX, LABEL_BYTES_MAX, Payload},
};
use serde::{Deserialize, Serialize};

/// What stands between the label and the value.
const SEPARATOR: &str = ": ";
/// Longest `data`: a body with its label.
const DATA_BYTES_MAX: usize = BODY_BYTES_MAX + LABEL_BYTES_MAX + SEPARATOR.len();

#[derive(Serialize)]
struct Out<'a> {
    id_device: &'a str,
    data: &'a str,
}

#[derive(Deserialize)]
struct In {
    id_device: serde_json::Value,
    data: serde_json::Value,
}

/// The `data` of an entry: its label, if it has one, and its text.
pub(super) fn data(entry: &Entry) -> Result<String, DeliveryError> {
    let text = std::str::from_utf8(entry.body.reveal()).map_err(|_| DeliveryError::Unrepresentable)?;
    Ok(match &entry.envelope.label {
        Some(label) => format!("{label}{SEPARATOR}{text}"),
        None => text.to_owned(),
    })
}

pub(super) fn write(entry: &Entry) -> Result<Vec<u8>, DeliveryError> {
    let data = data(entry)?;
    let out = Out { id_device: entry.envelope.device.as_str(), data: &data };
    serde_json::to_vec(&out).map_err(|_| DeliveryError::Internal)
}

/// Reads the paper's body. Some of its scripts send a number as the device and an object as the data: both are taken as their text.
pub(super) fn read(id: Option<MessageId>, body: &[u8]) -> Result<ReceivedEvent, WireProblem> {
    let read: In = serde_json::from_slice(body).map_err(|_| {
        WireProblem::Malformed("the body must be JSON of the form {\"id_device\": \"...\", \"data\": \"...\"}")
    })?;
    let device = match read.id_device {
        serde_json::Value::String(text) => text,
        serde_json::Value::Number(number) => number.to_string(),
        _ => return Err(WireProblem::Malformed("id_device must be a text or a number")),
    };
    let (data, content_type) = match read.data {
        serde_json::Value::String(text) => (text, "text/plain; charset=utf-8"),
        other => (other.to_string(), "application/json"),
    };
    if data.len() > DATA_BYTES_MAX {
        return Err(WireProblem::TooLarge);
    }
    Ok(ReceivedEvent {
        id,
        device: Some(device),
        label: None,
        content_type: content_type.to_owned(),
        body: Payload::new(data.into_bytes()),
    })
}
