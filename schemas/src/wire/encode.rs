//! From entries to a request: one entry, or a run of them in the batch format.

use super::{
    BATCH_CONTENT_TYPE, BATCH_PATH, CONTENT_TYPE_FALLBACK, WireFormat, WireRequest, batch, cloudevents, private_iot,
    signature,
};
use crate::{
    agreement::Destination,
    entry::{Entry, Envelope},
    outcome::DeliveryError,
    submission::{CONTENT_TYPE_BYTES_MAX, Payload},
};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use std::borrow::Cow;

/// Sets the id of a batch apart from every other use of the hash.
const BATCH_ID_DOMAIN: &[u8] = b"tidegate batch id v1";

/// The request that carries these entries: one, or for `cloudevents-batch` as many as [`batch_len`] allows.
///
/// The headers are always the same ones, in the same order. `at` is the attempt's time; it is rounded down to the minute.
///
/// # Errors
/// [`DeliveryError::Unrepresentable`] if the destination's format can't carry an entry; [`DeliveryError::Internal`] if the number
/// of entries is not one that the format takes.
pub fn encode(entries: &[Entry], destination: &Destination, at: Timestamp) -> Result<WireRequest, DeliveryError> {
    match (destination.agreement.format, entries) {
        (WireFormat::PrivateIot, [entry]) => private_iot(entry, destination),
        (WireFormat::Raw, [entry]) => Ok(raw(entry, destination, at)),
        (WireFormat::Cloudevents, [entry]) => Ok(cloudevent(entry, destination, at)),
        (WireFormat::CloudeventsBatch, [_, ..]) => batch(entries, destination, at),
        _ => Err(DeliveryError::Internal),
    }
}

/// How many entries from the front of this run go into one request of the format: 0 for none, at least 1 otherwise.
#[must_use]
pub fn batch_len(entries: &[Entry], format: WireFormat) -> usize {
    match format {
        WireFormat::CloudeventsBatch => batch::len(entries),
        WireFormat::PrivateIot | WireFormat::Raw | WireFormat::Cloudevents => entries.len().min(1),
    }
}

fn private_iot(entry: &Entry, destination: &Destination) -> Result<WireRequest, DeliveryError> {
    let body = private_iot::write(entry)?;
    let id = entry.envelope.id.to_string();
    let mut headers = vec![("content-type", "application/json".to_owned())];
    headers.extend(identity(&id));
    headers.extend(authorization(destination));
    Ok(WireRequest { method: "PUT", path: "/".to_owned(), headers, body: Payload::new(body) })
}

fn raw(entry: &Entry, destination: &Destination, at: Timestamp) -> WireRequest {
    let headers = vec![("content-type", content_type(&entry.envelope).to_owned())];
    let id = entry.envelope.id.to_string();
    signed("/", headers, &id, entry.body.clone(), destination, at)
}

fn cloudevent(entry: &Entry, destination: &Destination, at: Timestamp) -> WireRequest {
    let mut headers = vec![("content-type", content_type(&entry.envelope).to_owned())];
    headers.extend(cloudevents::headers(&entry.envelope, &cloudevents::source(&destination.keys)));
    let id = entry.envelope.id.to_string();
    signed("/", headers, &id, entry.body.clone(), destination, at)
}

fn batch(entries: &[Entry], destination: &Destination, at: Timestamp) -> Result<WireRequest, DeliveryError> {
    let body = batch::write(entries, &cloudevents::source(&destination.keys)).ok_or(DeliveryError::Internal)?;
    let headers = vec![("content-type", BATCH_CONTENT_TYPE.to_owned())];
    Ok(signed(BATCH_PATH, headers, &batch_id(entries), Payload::new(body), destination, at))
}

/// The id of a batch: made of the ids inside, so that the same batch has the same id when it is sent again.
fn batch_id(entries: &[Entry]) -> String {
    let mut hash = Sha256::new_with_prefix(BATCH_ID_DOMAIN);
    for entry in entries {
        hash.update(entry.envelope.id.as_bytes());
    }
    let digest: [u8; 32] = hash.finalize().into();
    let mut bytes = [0_u8; 16];
    bytes.copy_from_slice(&digest[..16]);
    crate::id::MessageId::from_random(bytes).to_string()
}

/// A `POST` with the id, the signature and the key, in this order after the format's own headers.
fn signed(
    path: &str,
    mut headers: Vec<(&'static str, String)>,
    id: &str,
    body: Payload,
    destination: &Destination,
    at: Timestamp,
) -> WireRequest {
    let second = minute_of(at);
    headers.extend(identity(id));
    headers.push(("webhook-timestamp", second.to_string()));
    headers.push(("webhook-signature", signature::sign(&destination.keys.signing_seed, id, second, body.reveal())));
    headers.extend(authorization(destination));
    WireRequest { method: "POST", path: path.to_owned(), headers, body }
}

/// The id twice: as the draft of `Idempotency-Key` has it (a structured string, hence the quotes) and as Standard Webhooks has it.
fn identity(id: &str) -> [(&'static str, String); 2] {
    [("idempotency-key", format!("\"{id}\"")), ("webhook-id", id.to_owned())]
}

fn authorization(destination: &Destination) -> Option<(&'static str, String)> {
    destination.keys.write_key.as_ref().map(|key| ("authorization", format!("Bearer {key}")))
}

/// The start of the minute, in seconds since 1970: no finer time leaves the gateway.
pub(super) fn minute_of(at: Timestamp) -> i64 {
    at.as_second().div_euclid(60) * 60
}

/// The content type as it can be written in a header; anything else becomes [`CONTENT_TYPE_FALLBACK`], because an odd content type
/// is no reason to keep a reading back.
pub(super) fn content_type(envelope: &Envelope) -> &str {
    let text = envelope.content_type.trim();
    let writable = text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    if text.is_empty() || text.len() > CONTENT_TYPE_BYTES_MAX || !writable { CONTENT_TYPE_FALLBACK } else { text }
}

/// The content of an entry as the receiver will have it: what a receipt is about.
pub(super) fn content(entry: &Entry, format: WireFormat) -> Cow<'_, [u8]> {
    match format {
        WireFormat::PrivateIot => {
            private_iot::data(entry).map_or(Cow::Borrowed(&[]), |text| Cow::Owned(text.into_bytes()))
        }
        WireFormat::Raw | WireFormat::Cloudevents | WireFormat::CloudeventsBatch => Cow::Borrowed(entry.body.reveal()),
    }
}
