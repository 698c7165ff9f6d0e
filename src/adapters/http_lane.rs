//! A lane: one HTTP/1.1 connection over one stream to an onion service, kept alive from request to request.
//!
//! It says nothing of who speaks: `host`, `content-length` and the headers of the request are all that is sent (DESIGN
//! decision 14). Redirects are answers like any other. An answer is read up to
//! [`ANSWER_BYTES_MAX`] bytes.
//!
//! The caller's deadline is to drop the exchange: the lane then counts as closed, since an answer may still be under way on
//! it. Dropping the lane ends the connection.

use crate::crash_point::{self, CrashPoint};
use http::{HeaderName, HeaderValue, Request};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use std::fmt;
use tidegate_actors::ports::transport::{CircuitId, Lane};
use tidegate_schemas::onion::OnionEndpoint;
use tidegate_schemas::outcome::DeliveryError;
use tidegate_schemas::wire::{ANSWER_BYTES_MAX, WireAnswer, WireRequest};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use bytes::Bytes;
use futures_util::future::BoxFuture;

/// The largest head of an answer, in bytes.
const ANSWER_HEAD_BYTES_MAX: usize = 32 * 1024;
/// The most headers of an answer.
const ANSWER_HEADERS_MAX: usize = 64;

/// A stream of bytes in both directions, whatever carries it.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for S {}

/// A [`ByteStream`] of some kind.
pub type BoxedStream = Box<dyn ByteStream>;

/// An HTTP/1.1 client connection.
pub struct HttpLane {
    sender: SendRequest<Full<Bytes>>,
    host: HeaderValue,
    /// Moves the connection's bytes.
    driver: JoinHandle<()>,
    /// An exchange began and hasn't ended well: what comes next on the connection isn't the next answer.
    spoiled: bool,
    circuit: Option<CircuitId>,
}

impl fmt::Debug for HttpLane {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("HttpLane").field("open", &self.is_open()).finish_non_exhaustive()
    }
}

impl HttpLane {
    /// Makes a lane of a stream to `endpoint`. The connection is driven by a task on `runtime`.
    ///
    /// # Errors
    /// When the connection is broken already.
    pub async fn open(stream: BoxedStream, endpoint: &OnionEndpoint, runtime: &Handle) -> Result<Self, DeliveryError> {
        let host = match endpoint.port {
            80 => endpoint.address.reveal(),
            _ => endpoint.reveal(),
        };
        let mut host = HeaderValue::try_from(host).map_err(|_impossible| DeliveryError::Internal)?;
        host.set_sensitive(true);
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(ANSWER_HEAD_BYTES_MAX)
            .max_headers(ANSWER_HEADERS_MAX)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|_broken| DeliveryError::ConnectionLost)?;
        let driver = runtime.spawn(async move {
            // The exchange under way gets the error too.
            let _broken = connection.await;
        });
        Ok(Self { sender, host, driver, spoiled: false, circuit: None })
    }

    /// Says on which circuit the stream runs.
    #[must_use]
    pub fn on_circuit(mut self, circuit: Option<CircuitId>) -> Self {
        self.circuit = circuit;
        self
    }

    async fn exchange_inner(&mut self, request: WireRequest) -> Result<WireAnswer, DeliveryError> {
        self.sender.ready().await.map_err(|_closed| DeliveryError::ConnectionLost)?;
        let request = self.request(request)?;
        let lost = |_armed| DeliveryError::ConnectionLost;
        crash_point::hit(CrashPoint::DeliveryBegun).map_err(lost)?;
        let answer = self.sender.send_request(request).await.map_err(|error| from_hyper(&error))?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                return DeliveryError::AnswerTooLarge;
            }
            error.downcast_ref().map_or(DeliveryError::ConnectionLost, from_hyper)
        })?;
        crash_point::hit(CrashPoint::DeliveryAnswered).map_err(lost)?;
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        Ok(WireAnswer {
            status: head.status.as_u16(),
            headers: head.headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect(),
            body: body.to_bytes(),
        })
    }

    fn request(&self, request: WireRequest) -> Result<Request<Full<Bytes>>, DeliveryError> {
        let unsendable = |_invalid: http::Error| DeliveryError::Unrepresentable;
        let body = Full::new(request.body.reveal().clone());
        let mut built = Request::builder().method(request.method).uri(request.path).body(body).map_err(unsendable)?;
        built.headers_mut().insert(http::header::HOST, self.host.clone());
        for (name, value) in request.headers {
            let value = HeaderValue::try_from(value).map_err(|_invalid| DeliveryError::Unrepresentable)?;
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_invalid| DeliveryError::Unrepresentable)?;
            built.headers_mut().append(name, value);
        }
        Ok(built)
    }
}

impl Lane for HttpLane {
    fn exchange<'a>(&'a mut self, request: WireRequest) -> BoxFuture<'a, Result<WireAnswer, DeliveryError>> {
        Box::pin(async move {
            if self.spoiled {
                return Err(DeliveryError::ConnectionLost);
            }
            self.spoiled = true;
            let result = self.exchange_inner(request).await;
            // A request that couldn't be written has not touched the connection.
            self.spoiled = !matches!(result, Ok(_) | Err(DeliveryError::Unrepresentable));
            result
        })
    }

    fn is_open(&self) -> bool {
        !self.spoiled && !self.sender.is_closed()
    }

    fn circuit(&self) -> Option<CircuitId> {
        self.circuit.clone()
    }
}

impl Drop for HttpLane {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

fn from_hyper(error: &hyper::Error) -> DeliveryError {
    if error.is_parse_too_large() {
        DeliveryError::AnswerTooLarge
    } else if error.is_parse() {
        DeliveryError::AnswerMalformed
    } else {
        DeliveryError::ConnectionLost
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::time::Duration;
    use tidegate_schemas::onion::OnionAddress;
    use tidegate_schemas::submission::Payload;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    fn endpoint(port: u16) -> OnionEndpoint {
        OnionEndpoint { address: OnionAddress::from_public_key([3; 32]), port }
    }

    fn reading(body: &'static str) -> WireRequest {
        WireRequest {
            method: "PUT",
            path: "/".to_owned(),
            headers: vec![("content-type", "application/json".to_owned())],
            body: Payload::new(body),
        }
    }

    async fn lane(port: u16) -> (HttpLane, DuplexStream) {
        let (near, far) = duplex(1 << 20);
        (HttpLane::open(Box::new(near), &endpoint(port), &Handle::current()).await.unwrap(), far)
    }

    /// Reads one request up to the end of `body`, then answers.
    async fn answer(far: &mut DuplexStream, body: &str, answer: &[u8]) -> String {
        let mut seen = String::new();
        while !seen.ends_with(body) {
            seen.push(char::from(far.read_u8().await.unwrap()));
        }
        far.write_all(answer).await.unwrap();
        seen
    }

    #[tokio::test]
    async fn a_request_carries_nothing_of_ours_and_the_connection_is_kept() {
        let (mut lane, mut far) = lane(80).await;
        for body in ["one", "two"] {
            let served = answer(&mut far, body, b"HTTP/1.1 201 Created\r\nX-Id: 7\r\nContent-Length: 2\r\n\r\nok");
            let (sent, got) = tokio::join!(served, lane.exchange(reading(body)));
            let host = endpoint(80).address.reveal();
            assert_eq!(
                sent,
                format!(
                    "PUT / HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\ncontent-length: 3\r\n\r\n{body}"
                )
            );
            let got = got.unwrap();
            assert_eq!((got.status, &got.body[..]), (201, &b"ok"[..]));
            assert!(got.headers.contains(&("x-id".to_owned(), "7".to_owned())));
            assert!(lane.is_open());
        }
    }

    #[tokio::test]
    async fn an_unusual_port_stands_in_the_host() {
        let (mut lane, mut far) = lane(8080).await;
        let served = answer(&mut far, "x", b"HTTP/1.1 204 No Content\r\n\r\n");
        let (sent, got) = tokio::join!(served, lane.exchange(reading("x")));
        assert!(sent.contains(".onion:8080\r\n"));
        assert_eq!(got.unwrap().status, 204);
    }

    #[tokio::test]
    async fn a_redirect_is_an_answer() {
        let (mut lane, mut far) = lane(80).await;
        let served =
            answer(&mut far, "x", b"HTTP/1.1 302 Found\r\nLocation: http://a.example/\r\nContent-Length: 0\r\n\r\n");
        let (_, got) = tokio::join!(served, lane.exchange(reading("x")));
        assert_eq!(got.unwrap().status, 302);
    }

    #[tokio::test]
    async fn broken_and_oversized_answers_are_told_apart_and_close_the_lane() {
        let huge = [
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", ANSWER_BYTES_MAX + 1).into_bytes(),
            vec![b'x'; ANSWER_BYTES_MAX + 1],
        ]
        .concat();
        let head = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "y".repeat(2 * ANSWER_HEAD_BYTES_MAX)).into_bytes();
        for (bytes, error) in [
            (b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec(), DeliveryError::AnswerMalformed),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf".to_vec(), DeliveryError::ConnectionLost),
            (huge, DeliveryError::AnswerTooLarge),
            (head, DeliveryError::AnswerTooLarge),
        ] {
            let (mut lane, mut far) = lane(80).await;
            let served = async {
                answer(&mut far, "x", &bytes).await;
                drop(far);
            };
            let ((), got) = tokio::join!(served, lane.exchange(reading("x")));
            assert_eq!(got, Err(error));
            assert!(!lane.is_open());
            assert_eq!(lane.exchange(reading("x")).await, Err(DeliveryError::ConnectionLost));
        }
    }

    #[tokio::test]
    async fn a_dropped_exchange_closes_the_lane() {
        let (mut lane, mut far) = lane(80).await;
        let cut = tokio::time::timeout(Duration::from_millis(20), lane.exchange(reading("x"))).await;
        assert!(cut.is_err());
        assert!(!lane.is_open());
        drop(lane);
        let mut seen = Vec::new();
        far.read_to_end(&mut seen).await.unwrap();
        assert!(seen.ends_with(b"x"), "the connection ends with the lane");
    }
}
