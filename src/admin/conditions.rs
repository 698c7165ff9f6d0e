//! Conditional requests (RFC 9110, section 13): `If-Match` and `If-None-Match` of a request, `ETag` of an answer.
//!
//! A condition of a change is not judged here but by the Registry, in the change's turn: between a look here and the change there another
//! change could come. The order is that of section 13.2.1: what would refuse the request anyway (no token, no such destination, one of a
//! file) comes first, then the condition (412), then what the body says (422). `GET` is judged here: 304 and no body where the client has
//! what there is.

use super::problem::HttpProblem;
use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{self, HeaderName},
};
use serde::Serialize;
use tidegate_schemas::condition::{Condition, Tags, quoted};

/// What a request is bound to.
pub(super) fn of(request: &HttpRequest) -> Result<Condition, HttpProblem> {
    let tags = |name: HeaderName| {
        let mut lines = Vec::new();
        for value in request.headers().get_all(&name) {
            let line = value.to_str();
            lines.push(line.map_err(|_| HttpProblem::bad_request(format!("{name} can't be read")))?);
        }
        if lines.is_empty() {
            return Ok(None);
        }
        let tags = lines.join(",").parse::<Tags>();
        tags.map(Some).map_err(|error| HttpProblem::bad_request(format!("{name}: {error}")))
    };
    Ok(Condition { if_match: tags(header::IF_MATCH)?, if_none_match: tags(header::IF_NONE_MATCH)? })
}

/// An answer to a GET with its tag: 304 where the client has it (section 15.4.5), 412 where it wanted another (section 13.1.1).
pub(super) fn shown(request: &HttpRequest, tag: &str, body: &impl Serialize) -> Result<HttpResponse, HttpProblem> {
    let Condition { if_match, if_none_match } = of(request)?;
    let etag = (header::ETAG, quoted(tag));
    if !(Condition { if_match, if_none_match: None }).holds(Some(tag)) {
        return Err(HttpProblem::changed("it is not the one that was asked for (If-Match)", None, Some(tag)));
    }
    if !(Condition { if_match: None, if_none_match }).holds(Some(tag)) {
        return Ok(HttpResponse::NotModified().insert_header(etag).finish());
    }
    Ok(HttpResponse::Ok().insert_header(etag).json(body))
}

/// An answer to something else, with the tag of what there is, if there is.
pub(super) fn tagged(tag: Option<&str>, body: &impl Serialize) -> HttpResponse {
    let mut answer = HttpResponse::Ok();
    if let Some(tag) = tag {
        answer.insert_header((header::ETAG, quoted(tag)));
    }
    answer.json(body)
}
