//! What travels to the onion service, and how its answer is judged. Pure: bytes in, bytes out.
//!
//! Nothing here is common to two destinations of a gateway (DESIGN decision 14): ids are random, the source name and the keys are
//! the destination's own, the header set is fixed, and the only time is the attempt's, rounded to the minute.

use serde::{Deserialize, Serialize};

/// The formats in which a destination can be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
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

/// An HTTP request without its connection: what a lane sends.
#[derive(Debug, Clone, PartialEq, Eq)]
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

/// An HTTP answer as a lane read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireAnswer {
    /// Status code.
    pub status: u16,
    /// Header names in lower case.
    pub headers: Vec<(String, String)>,
    /// At most [`ANSWER_BYTES_MAX`].
    pub body: bytes::Bytes,
}
