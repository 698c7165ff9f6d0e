//! Reading request bodies with a limit on size and time, the same way for both endpoints.

use crate::admin::problem::{HttpProblem, ValueError};
use actix_web::{http::StatusCode, web};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// How long a body may take to arrive, in seconds.
pub const BODY_LIMIT_S: u64 = 30;
/// How much of a body that is too large is read and thrown away, in bytes, so that its sender gets to see the answer instead of
/// a broken connection.
pub const DISCARDED_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Largest JSON body of the admin endpoint, in bytes.
pub const ADMIN_BODY_BYTES_MAX: usize = 64 * 1024;

/// The whole body, of at most `bytes_max`.
///
/// # Errors
/// 413 if it is larger, 408 if it doesn't arrive in time, 400 if the connection breaks or the framing is wrong.
pub async fn read(body: web::Payload, bytes_max: usize) -> Result<Bytes, HttpProblem> {
    match tokio::time::timeout(Duration::from_secs(BODY_LIMIT_S), read_now(body, bytes_max)).await {
        Ok(result) => result,
        Err(_) => Err(HttpProblem::new(
            StatusCode::REQUEST_TIMEOUT,
            "too-slow",
            "The body did not arrive in time",
            format!("a body has to arrive within {BODY_LIMIT_S} s"),
        )),
    }
}

async fn read_now(mut body: web::Payload, bytes_max: usize) -> Result<Bytes, HttpProblem> {
    let mut read = BytesMut::new();
    let mut bytes = 0_usize;
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|_| HttpProblem::bad_request("the body broke off or is not framed as HTTP says"))?;
        bytes = bytes.saturating_add(chunk.len());
        if bytes <= bytes_max {
            read.extend_from_slice(&chunk);
        } else if bytes > DISCARDED_BYTES_MAX {
            break;
        }
    }
    if bytes > bytes_max { Err(HttpProblem::too_large(bytes_max)) } else { Ok(read.freeze()) }
}

/// The body as JSON of a known form.
///
/// # Errors
/// As [`read`], and 400 if it is not that.
pub async fn json<T: DeserializeOwned>(body: web::Payload) -> Result<T, HttpProblem> {
    let bytes = read(body, ADMIN_BODY_BYTES_MAX).await?;
    serde_json::from_slice(&bytes).map_err(|error| {
        let mut problem = HttpProblem::bad_request(format!("the body is not the JSON that is expected here: {error}"));
        problem.errors.push(ValueError { pointer: String::new(), detail: error.to_string(), place: None });
        problem
    })
}
