//! CloudEvents 1.0 in HTTP binary mode: the attributes are headers, the body is the reading.
//!
//! No `ce-time`: when a reading was taken is the device's to say, in the body. Values are percent-encoded as the HTTP binding's
//! section 3.1.3.2 has it.

use super::{
    decode::{Headers, ReceivedEvent, WireProblem},
    raw,
};
use crate::{agreement::DestinationKeys, entry::Envelope};

/// The version of CloudEvents.
pub(super) const SPEC_VERSION: &str = "1.0";
/// What kind of event a reading is.
pub(super) const EVENT_TYPE: &str = "org.tidegate.reading.v1";

/// The source name that this destination alone gets to see.
pub(super) fn source(keys: &DestinationKeys) -> String {
    format!("urn:uuid:{}", uuid::Builder::from_random_bytes(keys.pseudonym).into_uuid().hyphenated())
}

/// The attributes of an event, in order.
pub(super) fn headers(envelope: &Envelope, source: &str) -> Vec<(&'static str, String)> {
    let mut headers = vec![
        ("ce-specversion", SPEC_VERSION.to_owned()),
        ("ce-id", envelope.id.to_string()),
        ("ce-source", source.to_owned()),
        ("ce-type", EVENT_TYPE.to_owned()),
        ("ce-subject", percent_encode(envelope.device.as_str())),
    ];
    if let Some(label) = &envelope.label {
        headers.push(("ce-label", percent_encode(label)));
    }
    headers
}

pub(super) fn read(
    headers: &Headers<'_>,
    content_type: String,
    body: &bytes::Bytes,
) -> Result<ReceivedEvent, WireProblem> {
    if headers.get("ce-specversion") != Some(SPEC_VERSION) {
        return Err(WireProblem::Malformed("ce-specversion must be 1.0"));
    }
    for required in ["ce-source", "ce-type"] {
        if headers.get(required).is_none_or(str::is_empty) {
            return Err(WireProblem::Malformed("ce-source and ce-type must be there"));
        }
    }
    let id = headers.get("ce-id").and_then(|id| id.parse().ok());
    let id = id.ok_or(WireProblem::Malformed("ce-id must be a UUID"))?;
    let event = raw::read(Some(id), content_type, body)?;
    let device = headers.get("ce-subject").map(percent_decode).transpose()?;
    let label = headers.get("ce-label").map(percent_decode).transpose()?;
    Ok(ReceivedEvent { device, label, ..event })
}

fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && byte != b'"' && byte != b'%' {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn percent_decode(text: &str) -> Result<String, WireProblem> {
    const PROBLEM: WireProblem = WireProblem::Malformed("a ce- header is not percent-encoded UTF-8");
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = match (first, after) {
            (b'%', [high, low, after @ ..]) => {
                let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                let (Some(high), Some(low)) = (digit(*high), digit(*low)) else { return Err(PROBLEM) };
                out.push(high * 16 + low);
                after
            }
            (b'%', _) => return Err(PROBLEM),
            _ => {
                out.push(*first);
                after
            }
        };
    }
    String::from_utf8(out).map_err(|_| PROBLEM)
}
