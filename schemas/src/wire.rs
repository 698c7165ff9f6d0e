//! What travels to the onion service, and how its answer is judged. Pure: bytes in, bytes out.
//!
//! [`encode`] makes the request, [`decode()`] reads it at the receiver, [`judge`] reads the answer; each format has a room of its own
//! in which both directions stand side by side, so that `decode(encode(reading)) == reading` can be tested.
//!
//! Nothing here is common to two destinations of a gateway (DESIGN decision 14): ids are random, the source name and the keys are
//! the destination's own, the header set is fixed, and the only time is the attempt's, rounded to the minute. What the reading itself
//! says (device, label, body) is the operator's choice and is sent as it is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

mod batch;
mod cloudevents;
mod decode;
mod encode;
mod judge;
mod private_iot;
mod raw;
pub mod receipt;
pub mod signal;
pub mod signature;

pub use batch::EventResult;
pub use decode::{ReceivedEvent, ReceivedRequest, WireProblem, decode, format_of};
pub use encode::{batch_len, encode};
pub use judge::{judge, refuses_as_a_whole};

/// The formats in which a destination can be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WireFormat {
    /// The paper's: `PUT /` with `{"id_device", "data"}`.
    PrivateIot,
    /// The device's bytes and content type, as they are.
    Raw,
    /// CloudEvents 1.0, HTTP binary mode: one event a request.
    #[default]
    Cloudevents,
    /// CloudEvents 1.0, JSON batch: up to [`BATCH_EVENTS_MAX`] events a request, a result for each.
    CloudeventsBatch,
}

/// Most events of one batch.
pub const BATCH_EVENTS_MAX: usize = 100;
/// Most body bytes of one batch (64 KiB); a single larger message goes alone.
pub const BATCH_BYTES_MAX: usize = 64 * 1024;
/// Longest answer that is read, in bytes (256 KiB: a batch's results with their receipts fit).
pub const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// An HTTP request without its connection: what a lane sends. `Debug` shows no value of a header: one may be a key.
#[derive(Clone, PartialEq, Eq)]
pub struct WireRequest {
    /// `PUT` or `POST`.
    pub method: &'static str,
    /// Path, from `/`.
    pub path: String,
    /// Header names in lower case, in order. `host` and `content-length` are the lane's.
    pub headers: Vec<(&'static str, String)>,
    /// The body; sensitive.
    pub body: crate::submission::Payload,
}
impl fmt::Debug for WireRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        write!(f, "{} {} {names:?} {:?}", self.method, self.path, self.body)
    }
}

/// An HTTP answer as a lane read it. `Debug` shows no body: a service may echo what it was sent.
#[derive(Clone, PartialEq, Eq)]
pub struct WireAnswer {
    /// Status code.
    pub status: u16,
    /// Header names in lower case.
    pub headers: Vec<(String, String)>,
    /// At most [`ANSWER_BYTES_MAX`].
    pub body: bytes::Bytes,
}
impl fmt::Debug for WireAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{} bytes]", self.status, self.body.len())
    }
}

/// Path of the batch format; the others go to `/`.
pub const BATCH_PATH: &str = "/v1/events";
/// Content type of the batch format (CloudEvents JSON batch).
pub const BATCH_CONTENT_TYPE: &str = "application/cloudevents-batch+json";
/// Content type of a reading whose own can't be written in a header.
pub const CONTENT_TYPE_FALLBACK: &str = "application/octet-stream";

#[cfg(test)]
mod tests;
