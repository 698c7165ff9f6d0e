//! CloudEvents 1.0, JSON batch: an array of events in one request, and in the answer an array with a result for each.
//!
//! The bytes of a reading survive exactly: text travels as a string, JSON in place only where it comes out the same, all else in
//! base64.

use super::{
    BATCH_BYTES_MAX, BATCH_EVENTS_MAX, CONTENT_TYPE_FALLBACK,
    cloudevents::{EVENT_TYPE, SPEC_VERSION},
    decode::{ReceivedEvent, WireProblem},
    encode::content_type,
};
use crate::{
    entry::Entry,
    id::MessageId,
    submission::{BODY_BYTES_MAX, Payload},
};
use data_encoding::BASE64;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// Deepest JSON that is put into an event as it is; readers commonly stop at 128, for the whole document.
const INLINE_JSON_DEPTH_MAX: usize = 32;
/// Stands in for a source while lengths are counted: every source is as long.
const SOURCE_MODEL: &str = "urn:uuid:00000000-0000-4000-8000-000000000000";

/// What a receiver says about one event: an element of the JSON array in its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventResult {
    /// The event's id, as it was sent.
    pub id: String,
    /// What would have been the HTTP status, had the event come alone.
    pub status: u16,
    /// The receipt, see [`super::receipt`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<String>,
}

#[derive(Serialize)]
struct Out<'a> {
    specversion: &'static str,
    id: MessageId,
    source: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    subject: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<&'a str>,
    datacontenttype: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Inline<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Inline<'a> {
    Text(&'a str),
    Json(Value),
}

#[derive(Deserialize)]
struct In {
    specversion: String,
    id: String,
    source: String,
    #[serde(rename = "type")]
    kind: String,
    subject: Option<String>,
    label: Option<String>,
    datacontenttype: Option<String>,
    // `null` is a value here, not an absence.
    #[serde(default, deserialize_with = "present")]
    data: Option<Value>,
    data_base64: Option<String>,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

fn is_json(content_type: &str) -> bool {
    let media = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media.ends_with("/json") || media.ends_with("+json")
}

fn inline<'a>(content_type: &str, body: &'a [u8]) -> Option<Inline<'a>> {
    if is_json(content_type) {
        let nesting = body.iter().filter(|byte| matches!(byte, b'[' | b'{')).count();
        let value: Value = (nesting <= INLINE_JSON_DEPTH_MAX).then(|| serde_json::from_slice(body).ok())??;
        return (serde_json::to_vec(&value).ok()? == body).then_some(Inline::Json(value));
    }
    let text = std::str::from_utf8(body).ok().filter(|_| content_type.to_ascii_lowercase().starts_with("text/"))?;
    // Control characters take six bytes each in JSON: base64 is then the shorter way.
    let escaped_bytes = serde_json::to_string(text).ok()?.len();
    (escaped_bytes <= BASE64.encode_len(body.len()) + 2).then_some(Inline::Text(text))
}

fn event(entry: &Entry, source: &str) -> Option<Vec<u8>> {
    let content_type = content_type(&entry.envelope);
    let body = entry.body.reveal();
    let data = inline(content_type, body);
    let data_base64 = data.is_none().then(|| BASE64.encode(body));
    serde_json::to_vec(&Out {
        specversion: SPEC_VERSION,
        id: entry.envelope.id,
        source,
        kind: EVENT_TYPE,
        subject: entry.envelope.device.as_str(),
        label: entry.envelope.label.as_deref(),
        datacontenttype: content_type,
        data,
        data_base64,
    })
    .ok()
}

/// How many of these entries make a batch: within both limits, but one at least.
pub(super) fn len(entries: &[Entry]) -> usize {
    let mut bytes = 1; // the opening bracket; each event brings a comma or the closing one
    for (index, entry) in entries.iter().take(BATCH_EVENTS_MAX).enumerate() {
        bytes += event(entry, SOURCE_MODEL).map_or(0, |event| event.len()) + 1;
        if bytes > BATCH_BYTES_MAX {
            return index.max(1);
        }
    }
    entries.len().min(BATCH_EVENTS_MAX)
}

/// The batch's body, or `None` if the entries are more than one batch holds.
pub(super) fn write(entries: &[Entry], source: &str) -> Option<Vec<u8>> {
    let mut body = vec![b'['];
    for (index, entry) in entries.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend(event(entry, source)?);
    }
    body.push(b']');
    let fits = entries.len() <= BATCH_EVENTS_MAX && (entries.len() == 1 || body.len() <= BATCH_BYTES_MAX);
    fits.then_some(body)
}

/// Reads a batch. One event that can't be read spoils it all: our own gateway sends none.
pub(super) fn read(body: &[u8]) -> Result<Vec<ReceivedEvent>, WireProblem> {
    let events: Vec<In> = serde_json::from_slice(body)
        .map_err(|_| WireProblem::Malformed("the body must be a JSON array of CloudEvents 1.0"))?;
    if events.len() > BATCH_EVENTS_MAX {
        return Err(WireProblem::TooLarge);
    }
    events.into_iter().map(read_event).collect()
}

fn read_event(event: In) -> Result<ReceivedEvent, WireProblem> {
    if event.specversion != SPEC_VERSION || event.source.is_empty() || event.kind.is_empty() {
        return Err(WireProblem::Malformed("an event needs specversion 1.0, source and type"));
    }
    let id = event.id.parse().map_err(|_| WireProblem::Malformed("the id of an event must be a UUID"))?;
    let json = event.datacontenttype.as_deref().is_none_or(is_json);
    let body = match (event.data, event.data_base64) {
        (Some(_), Some(_)) => return Err(WireProblem::Malformed("an event has data or data_base64, not both")),
        (None, None) => Vec::new(),
        (None, Some(base64)) => {
            BASE64.decode(base64.as_bytes()).map_err(|_| WireProblem::Malformed("data_base64 must be base64"))?
        }
        (Some(Value::String(text)), None) if !json => text.into_bytes(),
        (Some(value), None) => value.to_string().into_bytes(),
    };
    if body.len() > BODY_BYTES_MAX {
        return Err(WireProblem::TooLarge);
    }
    let content_type = match event.datacontenttype {
        Some(text) => text,
        None if body.is_empty() => CONTENT_TYPE_FALLBACK.to_owned(),
        None => "application/json".to_owned(),
    };
    Ok(ReceivedEvent {
        id: Some(id),
        device: event.subject,
        label: event.label,
        content_type,
        body: Payload::new(body),
    })
}
