//! Answers: to gateways lean, to browsers with every door shut.

use crate::web::BROWSER_HEADERS;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use std::convert::Infallible;

/// The body of an answer.
pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;
/// An answer.
pub(crate) type Answer = Response<Body>;

/// A body that is there already.
pub(crate) fn full(body: impl Into<Bytes>) -> Body {
    Full::new(body.into()).boxed_unsync()
}

/// An answer to a gateway: a status, a type and a body; no header more, because each costs a part of a Tor cell.
pub(crate) fn lean(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(full(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

/// An answer to a browser.
pub(crate) fn browser(status: StatusCode, content_type: &'static str, body: Body) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    for (name, value) in BROWSER_HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    answer
}

/// A page.
pub(crate) fn page(status: StatusCode, template: &impl askama::Template) -> Answer {
    match template.render() {
        Ok(html) => browser(status, "text/html; charset=utf-8", full(html)),
        Err(_) => browser(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", full("the page could not be made")),
    }
}

/// "Go there and look": the answer to a form.
pub(crate) fn see_other(place: &str) -> Answer {
    let mut answer = browser(StatusCode::SEE_OTHER, "text/plain", full(Bytes::new()));
    let place = HeaderValue::from_str(place).unwrap_or(HeaderValue::from_static("/"));
    answer.headers_mut().insert(header::LOCATION, place);
    answer
}

/// JSON for a program.
pub(crate) fn json(status: StatusCode, value: &impl serde::Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(body) => browser(status, "application/json", full(body)),
        Err(_) => problem(StatusCode::INTERNAL_SERVER_ERROR, "the answer could not be written"),
    }
}

/// A problem as RFC 9457 has it.
pub(crate) fn problem(status: StatusCode, detail: &str) -> Answer {
    let body = serde_json::json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or("Problem"),
        "status": status.as_u16(),
        "detail": detail,
    });
    lean(status, "application/problem+json", body.to_string())
}

/// A problem that may be over in a while.
pub(crate) fn problem_for_now(status: StatusCode, detail: &str, retry_after_s: u32) -> Answer {
    let mut answer = problem(status, detail);
    answer.headers_mut().insert(header::RETRY_AFTER, retry_after_s.into());
    answer
}
