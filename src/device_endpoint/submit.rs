//! From a submission to the answer: custody, and only then a 2xx.

use super::{App, credentials::Caller};
use crate::admin::{access::ask, problem::HttpProblem};
use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header::HeaderName},
};
use serde::Serialize;
use std::sync::Arc;
use tidegate_schemas::{
    id::{DestinationId, DeviceId, EntryRef, MessageId},
    messages::{
        outbox::{Enqueue, EnqueueError, IntakeLimit},
        registry::{Current, RegistrySnapshot},
    },
    submission::{BODY_BYTES_MAX, QuarantineReason, Redelivery, Submission, TOPIC_BYTES_MAX},
};

/// Longest `Idempotency-Key`, in bytes.
pub const KEY_BYTES_MAX: usize = 255;
/// What a device is asked to wait when its destination's queue is full, in seconds.
const FULL_RETRY_AFTER_S: u32 = 60;

/// The body of a 201 or 200.
#[derive(Debug, Serialize)]
struct Receipt {
    /// The message's id, as the room and the receiver will show it.
    id: MessageId,
    /// Its place in the outbox.
    entry: EntryRef,
    /// Whether it was there already.
    duplicate: bool,
}

/// What is in force now.
pub(super) async fn registry(app: &App) -> Result<Arc<RegistrySnapshot>, HttpProblem> {
    ask(app.reach.look().access.current.as_ref(), Current).await
}

/// Takes custody, and answers when it is on disk.
pub(super) async fn submit(
    app: &App,
    registry: &RegistrySnapshot,
    submission: Submission,
) -> Result<HttpResponse, HttpProblem> {
    let terms = registry.intake(&submission.destination);
    let terms = terms.ok_or_else(|| refusal(QuarantineReason::UnknownDestination))?;
    let break_glass_per_hour = terms.break_glass.map(|allowed| allowed.per_hour);
    let message = Enqueue { submission, limits: terms.limits, break_glass_per_hour, stream: None };
    let accepted = ask(app.reach.look().access.enqueue.as_ref(), message).await?;
    let accepted = accepted.map_err(not_taken)?;
    let status = if accepted.duplicate { StatusCode::OK } else { StatusCode::CREATED };
    let receipt = Receipt { id: accepted.id, entry: accepted.entry, duplicate: accepted.duplicate };
    Ok(HttpResponse::build(status).json(receipt))
}

/// Where this caller may send.
pub(super) fn allowed(caller: &Caller, registry: &RegistrySnapshot) -> Vec<DestinationId> {
    match caller {
        Caller::Trusted => registry.destinations.keys().chain(registry.broken.keys()).cloned().collect(),
        Caller::Device(credential) => credential.destinations.clone(),
    }
}

/// That this caller may speak for this device.
pub(super) fn speaks_for(caller: &Caller, device: &DeviceId) -> Result<(), HttpProblem> {
    match caller {
        Caller::Device(credential) if credential.device != *device => {
            Err(HttpProblem::forbidden("these credentials belong to another device than the one that is named"))
        }
        Caller::Device(_) | Caller::Trusted => Ok(()),
    }
}

/// The mark by which a repetition of this request is recognised.
///
/// The header is a structured-field string with quotes (the IETF draft), or the bare key that many clients send.
pub(super) fn redelivery(request: &HttpRequest) -> Result<Option<Redelivery>, HttpProblem> {
    let mut values = request.headers().get_all(HeaderName::from_static("idempotency-key"));
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().ok().map(str::trim).unwrap_or_default();
    let bare = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let fits = (1..=KEY_BYTES_MAX).contains(&bare.len()) && bare.bytes().all(|b| b.is_ascii_graphic() && b != b'"');
    if values.next().is_some() || !fits {
        let detail = format!("Idempotency-Key is one text of 1 to {KEY_BYTES_MAX} visible ASCII characters");
        return Err(HttpProblem::bad_request(detail));
    }
    Ok(Some(Redelivery::Key(bare.to_owned())))
}

/// A header's text, if it is there and is text.
pub(super) fn text_header(request: &HttpRequest, name: &HeaderName) -> Option<String> {
    request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// What would be quarantined if it had come by MQTT is refused here, with the same reason.
pub(super) fn refusal(reason: QuarantineReason) -> HttpProblem {
    use QuarantineReason as Q;
    match reason {
        Q::NoRoute => HttpProblem::not_found("no route matches this topic: see [[route]] in the config"),
        Q::UnknownDestination => HttpProblem::not_found("there is no destination of this name"),
        Q::NotAllowed => HttpProblem::forbidden("this device or route may not send to this destination"),
        Q::BadDevice => HttpProblem::bad_value("/device", "the route yields no valid device name from this"),
        Q::BadDestination => HttpProblem::bad_value("/topic", "the route yields no valid destination from this"),
        Q::TooLarge => HttpProblem::too_large(BODY_BYTES_MAX),
        Q::Malformed => {
            HttpProblem::bad_value("/payload", "the payload is not what the route's payload handling expects")
        }
        Q::TopicTooLong => {
            HttpProblem::bad_value("/topic", format!("device and topic have at most {TOPIC_BYTES_MAX} bytes together"))
        }
        Q::DestinationFull => refused(IntakeLimit::Destination),
        Q::DeviceFull => refused(IntakeLimit::Device),
        Q::TooFast => refused(IntakeLimit::Rate { wait_s: FULL_RETRY_AFTER_S }),
        Q::BadSignal | Q::SignalNotHonoured => HttpProblem::forbidden("signals are not given here"),
        Q::Damaged => HttpProblem::unavailable("the message could not be kept; see the gateway's log"),
    }
}

fn not_taken(error: EnqueueError) -> HttpProblem {
    match error {
        EnqueueError::Refused { limit, .. } => refused(limit),
        EnqueueError::GatewayFull(reason) => gateway_full(&reason),
        EnqueueError::KeyReused => HttpProblem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "key-reused",
            "This Idempotency-Key was used for another message",
            "use a fresh key for each message, and the same one only to repeat it unchanged",
        ),
        EnqueueError::Store(error) => error.into(),
    }
}

fn refused(limit: IntakeLimit) -> HttpProblem {
    let (status, kind, title, detail, wait_s) = match limit {
        IntakeLimit::Destination => (
            StatusCode::INSUFFICIENT_STORAGE,
            "destination-full",
            "The queue of this destination is full",
            "as many messages wait for this destination as its agreement allows: keep this one and try again later",
            FULL_RETRY_AFTER_S,
        ),
        IntakeLimit::Device => (
            StatusCode::INSUFFICIENT_STORAGE,
            "device-full",
            "This device has too much waiting at this destination",
            "as many of its messages wait as the agreement allows for one device: keep this one and try again later",
            FULL_RETRY_AFTER_S,
        ),
        IntakeLimit::Rate { wait_s } => (
            StatusCode::TOO_MANY_REQUESTS,
            "too-fast",
            "This device hands in faster than agreed",
            "keep this message and hand it in again later",
            wait_s,
        ),
    };
    let mut problem = HttpProblem::new(status, kind, title, detail);
    problem.retry_after_s = Some(wait_s);
    problem
}

fn gateway_full(reason: &str) -> HttpProblem {
    let mut problem = HttpProblem::new(
        StatusCode::INSUFFICIENT_STORAGE,
        "gateway-full",
        "The gateway is full",
        format!("{reason}: keep this message and try again later"),
    );
    problem.retry_after_s = Some(FULL_RETRY_AFTER_S);
    problem
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use actix_web::test::TestRequest;

    fn key(value: &str) -> Result<Option<Redelivery>, u16> {
        let request = TestRequest::put().insert_header(("idempotency-key", value)).to_http_request();
        redelivery(&request).map_err(|problem| problem.status)
    }

    #[test]
    fn a_key_is_the_same_with_and_without_its_quotes() {
        assert_eq!(key("\"a-1\"").unwrap(), Some(Redelivery::Key("a-1".into())));
        assert_eq!(key("a-1").unwrap(), Some(Redelivery::Key("a-1".into())));
    }

    #[test]
    fn a_key_that_is_none_is_refused() {
        for bad in ["", "\"\"", "a b", "a\"b", &"k".repeat(KEY_BYTES_MAX + 1)] {
            assert_eq!(key(bad), Err(400), "{bad:?}");
        }
        assert_eq!(redelivery(&TestRequest::put().to_http_request()).unwrap(), None);
    }
}
