//! Where readings come in: the right to write is checked first, then the body is read within its limits, and the answer leaves when
//! the readings are on disk. It holds a result with a signed receipt for each, whatever the format.

use super::{
    answer::{self, Answer},
    app::App,
    serve::Peer,
    store::{Kept, NewReading},
};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Body;
use std::time::Duration;
use tidegate_schemas::{
    id::MessageId,
    wire::{EventResult, ReceivedRequest, WireFormat, decode, format_of, receipt},
};

/// Largest request, in bytes: the largest reading, with every byte of it escaped in JSON, fits.
pub(crate) const REQUEST_BYTES_MAX: usize = 1024 * 1024;
/// How long a request may take to come in.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(120);
/// How long a request waits for its turn to be read.
const TURN_TIME_MAX: Duration = Duration::from_secs(30);
/// When a gateway is asked to come again if the store is full, in seconds.
const FULL_RETRY_S: u32 = 900;
/// When a gateway is asked to come again if the store is busy, in seconds.
const BUSY_RETRY_S: u32 = 15;
/// The name under which readings of an exempted format are stored; no gateway can have it.
const OPEN_GATEWAY: &str = "(open)";

/// Takes the readings of a request, if it is one.
pub(crate) async fn take<B>(app: &App, request: Request<B>) -> Answer
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let headers = headers(request.headers());
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let Some(format) = format_of(method.as_str(), &path, &headers) else {
        return answer::problem(StatusCode::NOT_FOUND, "nothing is taken here");
    };
    let Some(gateway) = gateway(app, request.headers(), format) else {
        let mut answer =
            answer::problem(StatusCode::UNAUTHORIZED, "a write key is needed: see write_key of the gateway");
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, http::HeaderValue::from_static("Bearer"));
        return answer;
    };
    Peer::of(&request).is_known();
    let Ok(Ok(_turn)) = tokio::time::timeout(TURN_TIME_MAX, app.bodies.acquire()).await else {
        return answer::problem_for_now(StatusCode::SERVICE_UNAVAILABLE, "too many requests at once", BUSY_RETRY_S);
    };
    let body = match read(request).await {
        Ok(body) => body,
        Err((status, detail)) => return answer::problem(status, detail),
    };
    let received = ReceivedRequest { method: method.as_str(), path: &path, headers: &headers, body: &body };
    let readings: Vec<NewReading> = match decode(received) {
        Ok(events) => events
            .into_iter()
            .map(|event| NewReading {
                gateway: gateway.clone(),
                // The paper's own hub sends no id: its readings can't be known again.
                id: event.id.unwrap_or_else(|| MessageId::from_random(app.entropy.bytes16())),
                device: event.device,
                label: event.label,
                content_type: event.content_type,
                body: event.body,
            })
            .collect(),
        Err(problem) => {
            let status = StatusCode::from_u16(problem.status()).unwrap_or(StatusCode::BAD_REQUEST);
            return answer::problem(status, &problem.to_string());
        }
    };
    store(app, readings).await
}

async fn store(app: &App, readings: Vec<NewReading>) -> Answer {
    let facts: Vec<_> =
        readings.iter().map(|reading| (reading.id, receipt::content_hash(reading.body.reveal()))).collect();
    let Ok(kept) = app.writer.store(readings).await else {
        return answer::problem_for_now(StatusCode::SERVICE_UNAVAILABLE, "the store takes nothing now", BUSY_RETRY_S);
    };
    let result = |((id, hash), kept): (&(MessageId, [u8; 32]), Kept)| {
        let (status, at) = match kept {
            Kept::Stored { at } => (201, Some(at)),
            Kept::Duplicate { at } => (200, Some(at)),
            Kept::Conflict => (422, None),
            Kept::Full => (507, None),
        };
        let receipt = at.map(|at| receipt::issue(app.rights.receipt_seed(), *id, hash, at));
        EventResult { id: id.to_string(), status, receipt }
    };
    let results: Vec<EventResult> = facts.iter().zip(kept).map(result).collect();
    let body = serde_json::to_vec(&results).unwrap_or_default();
    let status = whole_status(&results);
    let mut answer = answer::lean(status, "application/json", body);
    if status == StatusCode::INSUFFICIENT_STORAGE {
        answer.headers_mut().insert(header::RETRY_AFTER, FULL_RETRY_S.into());
    }
    answer
}

/// The status of the whole: that of its readings where they agree, else 207 (each has its own).
fn whole_status(results: &[EventResult]) -> StatusCode {
    let Some(first) = results.first() else { return StatusCode::OK };
    let agree = results.iter().all(|result| result.status == first.status);
    let status = if agree { first.status } else { 207 };
    StatusCode::from_u16(status).unwrap_or(StatusCode::MULTI_STATUS)
}

/// Who sends: the gateway of the write key, or nobody in particular where the format is exempted and no key is shown.
fn gateway(app: &App, headers: &HeaderMap, format: WireFormat) -> Option<String> {
    let key = headers.get(header::AUTHORIZATION).map(|value| {
        let value = value.to_str().unwrap_or_default();
        value
            .split_once(' ')
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map_or("", |(_, key)| key.trim())
    });
    match key {
        Some(key) => app.rights.writer(key).map(ToString::to_string),
        None => (app.open_private_iot && format == WireFormat::PrivateIot).then(|| OPEN_GATEWAY.to_owned()),
    }
}

async fn read<B>(request: Request<B>) -> Result<Bytes, (StatusCode, &'static str)>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    const TOO_LARGE: (StatusCode, &str) = (StatusCode::PAYLOAD_TOO_LARGE, "the request is larger than 1 MiB");
    if request.body().size_hint().lower() > REQUEST_BYTES_MAX as u64 {
        return Err(TOO_LARGE);
    }
    let body = Limited::new(request.into_body(), REQUEST_BYTES_MAX);
    match tokio::time::timeout(REQUEST_TIME_MAX, Box::pin(body).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(TOO_LARGE),
        Ok(Err(_)) => Err((StatusCode::BAD_REQUEST, "the body could not be read")),
        Err(_) => Err((StatusCode::REQUEST_TIMEOUT, "the body did not come in time")),
    }
}

/// Reads a form of a browser.
pub(crate) async fn form<B>(request: Request<B>) -> Option<String>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    const FORM_BYTES_MAX: usize = 2 * 1024;
    let body = Limited::new(request.into_body(), FORM_BYTES_MAX);
    let collected = tokio::time::timeout(REQUEST_TIME_MAX, Box::pin(body).collect()).await.ok()?.ok()?;
    String::from_utf8(collected.to_bytes().to_vec()).ok()
}

/// The headers as the wire formats read them; values that are no ASCII are as good as absent.
fn headers(headers: &HeaderMap) -> Vec<(String, String)> {
    headers
        .iter()
        .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())))
        .collect()
}
