//! From a request to readings: the receiver's side of [`super::encode`].

use super::{BATCH_CONTENT_TYPE, BATCH_PATH, CONTENT_TYPE_FALLBACK, WireFormat, batch, cloudevents, private_iot, raw};
use crate::{
    id::{ID_BYTES_MAX, MessageId},
    submission::{CONTENT_TYPE_BYTES_MAX, LABEL_BYTES_MAX, Payload},
};

/// A request as it came in.
#[derive(Clone, Copy)]
pub struct ReceivedRequest<'a> {
    /// The method.
    pub method: &'a str,
    /// The path, without a query.
    pub path: &'a str,
    /// Header names in lower case.
    pub headers: &'a [(String, String)],
    /// The body.
    pub body: &'a bytes::Bytes,
}

/// A reading as a receiver has it. What the format doesn't carry is absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedEvent {
    /// The message's id; the same when it is sent again.
    pub id: Option<MessageId>,
    /// Who measured, as the gateway says: any text of 1 to [`ID_BYTES_MAX`] bytes, hostile until escaped.
    pub device: Option<String>,
    /// What was measured, as the gateway says: any text, hostile until escaped.
    pub label: Option<String>,
    /// The content type.
    pub content_type: String,
    /// The content; hostile.
    pub body: Payload,
}

/// Why a request holds no readings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireProblem {
    /// No format is taken under this method and path.
    #[error("readings are taken by PUT /, POST / and POST /v1/events")]
    NoFormat,
    /// Not what the format asks for.
    #[error("{0}")]
    Malformed(&'static str),
    /// A batch under another content type.
    #[error("a batch has the content type application/cloudevents-batch+json")]
    ContentType,
    /// Above a limit.
    #[error("a reading, a name or a batch is above its limit")]
    TooLarge,
}

impl WireProblem {
    /// The HTTP status that says so.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::NoFormat => 404,
            Self::Malformed(_) => 400,
            Self::ContentType => 415,
            Self::TooLarge => 413,
        }
    }
}

/// The headers of a request, by name.
pub(super) struct Headers<'a>(&'a [(String, String)]);

impl<'a> Headers<'a> {
    pub(super) fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.trim())
    }
}

/// The format in which a request with this method, path and headers speaks, if any.
#[must_use]
pub fn format_of(method: &str, path: &str, headers: &[(String, String)]) -> Option<WireFormat> {
    match (method, path) {
        ("PUT", "/") => Some(WireFormat::PrivateIot),
        ("POST", "/") if Headers(headers).get("ce-specversion").is_some() => Some(WireFormat::Cloudevents),
        ("POST", "/") => Some(WireFormat::Raw),
        ("POST", BATCH_PATH) => Some(WireFormat::CloudeventsBatch),
        _ => None,
    }
}

/// The readings of a request, in its order.
///
/// # Errors
/// Says what is wrong, and by [`WireProblem::status`] whose fault it is. Never panics, whatever comes in.
pub fn decode(request: ReceivedRequest<'_>) -> Result<Vec<ReceivedEvent>, WireProblem> {
    let headers = Headers(request.headers);
    let format = format_of(request.method, request.path, request.headers).ok_or(WireProblem::NoFormat)?;
    let content_type = headers.get("content-type").filter(|text| !text.is_empty());
    let own_type = || content_type.unwrap_or(CONTENT_TYPE_FALLBACK).to_owned();
    let events = match format {
        WireFormat::PrivateIot => vec![private_iot::read(message_id(&headers)?, request.body)?],
        WireFormat::Raw => vec![raw::read(message_id(&headers)?, own_type(), request.body)?],
        WireFormat::Cloudevents => vec![cloudevents::read(&headers, own_type(), request.body)?],
        WireFormat::CloudeventsBatch => {
            let media = content_type.and_then(|text| text.split(';').next()).unwrap_or_default().trim();
            if !media.eq_ignore_ascii_case(BATCH_CONTENT_TYPE) {
                return Err(WireProblem::ContentType);
            }
            batch::read(request.body)?
        }
    };
    for event in &events {
        within_limits(event)?;
    }
    Ok(events)
}

/// The id of a request with one reading: `webhook-id`, or `idempotency-key` with or without its quotes.
fn message_id(headers: &Headers<'_>) -> Result<Option<MessageId>, WireProblem> {
    let text = headers.get("webhook-id").or_else(|| headers.get("idempotency-key"));
    let id = text.map(|text| text.trim_matches('"').parse()).transpose();
    id.map_err(|_| WireProblem::Malformed("webhook-id and idempotency-key must be a UUID"))
}

fn within_limits(event: &ReceivedEvent) -> Result<(), WireProblem> {
    if event.device.as_ref().is_some_and(String::is_empty) {
        return Err(WireProblem::Malformed("the device has no name"));
    }
    let long = event.device.as_ref().is_some_and(|device| device.len() > ID_BYTES_MAX)
        || event.label.as_ref().is_some_and(|label| label.len() > LABEL_BYTES_MAX)
        || event.content_type.len() > CONTENT_TYPE_BYTES_MAX;
    if long { Err(WireProblem::TooLarge) } else { Ok(()) }
}
