//! `PUT /` with the paper's body, `{"device": "patient", "topic": "tension/mmHg", "payload": "Tension: 120.00 mmHg "}`.
//!
//! It becomes a publication on `patient/tension/mmHg` and takes the way of any publication: the first route that matches
//! decides about device, destination and payload handling.

use super::{
    App, admit,
    credentials::Caller,
    submit::{allowed, redelivery, refusal, registry, speaks_for, submit},
};
use crate::admin::{body, problem::HttpProblem};
use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Payload as Incoming},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use tidegate_schemas::{
    id::DeviceId,
    submission::{BODY_BYTES_MAX, Origin, Payload, Publication, QuarantineReason},
};

/// Largest JSON body, in bytes: a payload of the largest size with every character escaped (`\u0041`), and room for the rest.
pub const JSON_BYTES_MAX: usize = 6 * BODY_BYTES_MAX + 8 * 1024;

/// The paper's body. Unknown members are errors: a misspelt one must not be lost in silence.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<'a> {
    device: String,
    topic: String,
    #[serde(borrow)]
    payload: &'a RawValue,
}

/// Takes a reading in the paper's form.
pub(super) async fn put(app: Data<App>, request: HttpRequest, body: Incoming) -> Result<HttpResponse, HttpProblem> {
    let caller = admit(&app, &request)?;
    let redelivery = redelivery(&request)?;
    let bytes = body::read(body, JSON_BYTES_MAX).await?;
    let (device, mut publication) = publication(&bytes)?;
    speaks_for(&caller, &device)?;
    publication.redelivery = redelivery;
    let registry = registry(&app).await?;
    let submission = registry.routes.route(&publication).map_err(refusal)?;
    if caller != Caller::Trusted && !allowed(&caller, &registry).contains(&submission.destination) {
        return Err(refusal(QuarantineReason::NotAllowed));
    }
    submit(&app, &registry, submission).await
}

/// The publication that a body stands for, and the device that it names.
fn publication(bytes: &[u8]) -> Result<(DeviceId, Publication), HttpProblem> {
    let body: Body<'_> = serde_json::from_slice(bytes).map_err(|error| {
        // serde_json quotes names of members, and the kind of a value that was not expected; its own words could quote the
        // value itself, which is a reading.
        let place = format!("line {}, column {}", error.line(), error.column());
        HttpProblem::bad_request(format!(
            "the body is not {{\"device\": TEXT, \"topic\": TEXT, \"payload\": TEXT or NUMBER}} ({place})"
        ))
    })?;
    let device = body.device.parse().map_err(|error| HttpProblem::bad_value("/device", format!("{error}")))?;
    if body.topic.is_empty() || body.topic.contains(['+', '#', '\0']) {
        return Err(HttpProblem::bad_value("/topic", "a topic is not empty and has none of +, # and NUL"));
    }
    let publication = Publication {
        topic: format!("{device}/{}", body.topic),
        payload: payload(body.payload.get())?,
        content_type: Some("text/plain; charset=utf-8".to_owned()),
        user_properties: Vec::new(),
        expiry_s: None,
        reply_to: None,
        retained: false,
        origin: Origin::Http,
        redelivery: None,
    };
    Ok((device, publication))
}

/// A JSON text without its quotes, or a number exactly as it was written (`120.00` stays `120.00`).
fn payload(raw: &str) -> Result<Payload, HttpProblem> {
    let payload = match raw.as_bytes().first() {
        Some(b'"') => serde_json::from_str::<String>(raw).ok().map(Payload::new),
        Some(b'-' | b'0'..=b'9') => Some(Payload::new(raw.to_owned())),
        _ => None,
    };
    let payload = payload.ok_or_else(|| HttpProblem::bad_value("/payload", "a payload is a text or a number"))?;
    if payload.len() > BODY_BYTES_MAX { Err(HttpProblem::too_large(BODY_BYTES_MAX)) } else { Ok(payload) }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_papers_body_becomes_a_publication() {
        let body = br#"{"device":"patient","topic":"tension/mmHg","payload":"Tension: 120.00 mmHg "}"#;
        let (device, made) = publication(body).unwrap();
        assert_eq!((device.as_str(), made.topic.as_str()), ("patient", "patient/tension/mmHg"));
        assert_eq!(&made.payload.reveal()[..], b"Tension: 120.00 mmHg ");
    }

    #[test]
    fn a_number_stays_as_it_was_written() {
        for number in ["120.00", "-3", "1e5"] {
            let body = format!(r#"{{"device":"p","topic":"t","payload":{number}}}"#);
            assert_eq!(publication(body.as_bytes()).unwrap().1.payload.reveal(), number.as_bytes());
        }
    }

    #[test]
    fn a_bad_body_is_refused_without_quoting_it() {
        for (body, status) in [
            ("", 400),
            ("not json", 400),
            (r#"{"device":"p","topic":"t"}"#, 400),
            (r#"{"device":"p","topic":"t","payload":true}"#, 400),
            (r#"{"device":"p","topic":"t","payload":{"secret":1}}"#, 400),
            (r#"{"device":"a/b","topic":"t","payload":"secret"}"#, 400),
            (r#"{"device":"p","topic":"a/#","payload":"secret"}"#, 400),
            (r#"{"device":"p","topic":"","payload":"secret"}"#, 400),
            (r#"{"device":"p","topic":"t","payload":"secret","more":"secret"}"#, 400),
            (r#"{"device":"p","topic":7,"payload":"secret"}"#, 400),
        ] {
            let problem = publication(body.as_bytes()).unwrap_err();
            assert_eq!(problem.status, status, "{body}");
            assert!(!serde_json::to_string(&problem).unwrap().contains("secret"), "{body}");
        }
        let large = format!(r#"{{"device":"p","topic":"t","payload":"{}"}}"#, "x".repeat(BODY_BYTES_MAX + 1));
        assert_eq!(publication(large.as_bytes()).unwrap_err().status, 413);
    }

    proptest! {
        #[test]
        fn no_body_panics(body in proptest::collection::vec(any::<u8>(), 0..80), text in ".{0,40}") {
            let _ = publication(&body);
            let _ = publication(format!(r#"{{"device":"p","topic":{text:?},"payload":{text}}}"#).as_bytes());
        }
    }
}
