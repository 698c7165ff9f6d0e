//! A small blocking HTTP/1.1 client for the lab: one request a connection, over plain TCP to loopback.
//!
//! It serves the demo and the tests, which ask Synapse, the receiver and the gateway's own endpoints. Deliveries don't use
//! it. Limits: [`ANSWER_BYTES_MAX`], [`ANSWER_TIME_MAX`]; redirects are not followed; no TLS.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// The largest answer that is read, headers included, in bytes.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long an answer may take, from the connection on.
pub const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);

/// How long a read or write may stand still.
const STALL_MAX: Duration = Duration::from_secs(30);
/// How much is read at once, in bytes.
const READ_BYTES: usize = 64 * 1024;

/// Why a request got no usable answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// No connection, or it broke.
    #[error("cannot {method} {path} at {address}")]
    Connection {
        /// The request's method.
        method: &'static str,
        /// The request's path.
        path: String,
        /// The server.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The answer is not HTTP/1.1, or larger or slower than the limits.
    #[error("cannot understand the answer to {method} {path}: {reason}")]
    Malformed {
        /// The request's method.
        method: &'static str,
        /// The request's path.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The server answered, but not with success.
    #[error("{method} {path} was answered with {status}: {body}")]
    Refused {
        /// The request's method.
        method: &'static str,
        /// The request's path.
        path: String,
        /// The status code.
        status: u16,
        /// What the answer says.
        body: String,
    },
}

/// A request in the making. Its `Debug` shows neither headers (tokens) nor body.
#[derive(Clone)]
pub struct HttpRequest {
    address: SocketAddr,
    method: &'static str,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl fmt::Debug for HttpRequest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {} at {}", self.method, self.path, self.address)
    }
}

/// An answer, whatever its status.
#[derive(Debug, Clone)]
pub struct HttpAnswer {
    /// The status code.
    pub status: u16,
    /// Names in lower case, in the order in which they came.
    pub headers: Vec<(String, String)>,
    /// The body, whole.
    pub body: Vec<u8>,
}

impl HttpAnswer {
    /// The first header of this name (in lower case).
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as text; what isn't UTF-8 is replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; `Null` when it isn't JSON.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

impl HttpRequest {
    /// A request without headers and body. `path` begins with `/` and is sent as it is: see [`encode`].
    pub fn new(method: &'static str, address: SocketAddr, path: impl Into<String>) -> Self {
        Self { address, method, path: path.into(), headers: Vec::new(), body: Vec::new() }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds `Authorization: Bearer`.
    #[must_use]
    pub fn bearer(self, token: &str) -> Self {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self.header("Content-Type", content_type)
    }

    /// Sets a JSON body.
    #[must_use]
    pub fn json(self, body: &serde_json::Value) -> Self {
        self.body("application/json", body.to_string())
    }

    /// Sends it and reads the whole answer, whatever its status.
    ///
    /// # Errors
    /// When there is no connection, or no well-formed answer within the limits.
    pub fn send(&self) -> Result<HttpAnswer, HttpError> {
        let bytes = self.exchange().map_err(|source| HttpError::Connection {
            method: self.method,
            path: self.path.clone(),
            address: self.address,
            source,
        })?;
        parse_answer(&bytes, self.method == "HEAD").map_err(|reason| HttpError::Malformed {
            method: self.method,
            path: self.path.clone(),
            reason,
        })
    }

    /// As [`send`](Self::send), and only a 2xx will do.
    ///
    /// # Errors
    /// As `send`, and [`HttpError::Refused`] for any other status.
    pub fn send_ok(&self) -> Result<HttpAnswer, HttpError> {
        let answer = self.send()?;
        if (200..300).contains(&answer.status) {
            return Ok(answer);
        }
        let (method, path, status) = (self.method, self.path.clone(), answer.status);
        Err(HttpError::Refused { method, path, status, body: answer.text() })
    }

    fn exchange(&self) -> io::Result<Vec<u8>> {
        let deadline = Instant::now() + ANSWER_TIME_MAX;
        let mut stream = TcpStream::connect_timeout(&self.address, STALL_MAX)?;
        stream.set_read_timeout(Some(STALL_MAX))?;
        stream.set_write_timeout(Some(STALL_MAX))?;
        stream.set_nodelay(true)?;
        stream.write_all(&self.bytes())?;
        let mut answer = Vec::new();
        let mut part = vec![0; READ_BYTES];
        loop {
            // A server may keep the connection open although it was asked to close it.
            if Instant::now() > deadline {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the answer takes too long"));
            }
            let count = match stream.read(&mut part) {
                // A server that refuses a body it hasn't read resets the connection after its answer.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset && !answer.is_empty() => 0,
                other => other?,
            };
            if count == 0 {
                return Ok(answer);
            }
            answer.extend_from_slice(&part[..count]);
            if answer.len() > ANSWER_BYTES_MAX {
                return Err(io::Error::other("the answer is too large"));
            }
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut head =
            format!("{} {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.method, self.path, self.address);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("Content-Length: {}\r\n\r\n", self.body.len()));
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// Percent-encodes one segment of a path or one value of a query.
#[must_use]
pub fn encode(segment: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    segment
        .bytes()
        .map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

fn parse_answer(bytes: &[u8], head_only: bool) -> Result<HttpAnswer, &'static str> {
    let split = bytes.windows(4).position(|window| window == b"\r\n\r\n").ok_or("it has no end of headers")?;
    let head = std::str::from_utf8(&bytes[..split]).map_err(|_invalid| "its headers are not text")?;
    let rest = &bytes[split + 4..];
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .filter(|line| line.starts_with("HTTP/1."))
        .and_then(|line| line.split(' ').nth(1))
        .and_then(|code| code.parse().ok())
        .ok_or("it has no status line")?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut answer = HttpAnswer { status, headers, body: Vec::new() };
    if status == 100 {
        return parse_answer(rest, head_only);
    }
    if head_only {
        return Ok(answer);
    }
    let chunked = answer.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
    answer.body = match answer.header("content-length") {
        _ if chunked => join_chunks(rest)?,
        Some(length) => {
            let length: usize = length.parse().map_err(|_invalid| "its length is not a number")?;
            rest.get(..length).ok_or("its body is cut short")?.to_vec()
        }
        None => rest.to_vec(),
    };
    Ok(answer)
}

fn join_chunks(mut rest: &[u8]) -> Result<Vec<u8>, &'static str> {
    const CUT_SHORT: &str = "its chunks are cut short";
    let mut body = Vec::new();
    loop {
        let line_end = rest.windows(2).position(|window| window == b"\r\n").ok_or(CUT_SHORT)?;
        let size = std::str::from_utf8(&rest[..line_end]).ok().and_then(|line| line.split(';').next());
        let size = size.and_then(|size| usize::from_str_radix(size.trim(), 16).ok()).ok_or("a chunk has no size")?;
        if size == 0 {
            return Ok(body);
        }
        let chunk = rest.get(line_end + 2..).ok_or(CUT_SHORT)?;
        body.extend_from_slice(chunk.get(..size).ok_or(CUT_SHORT)?);
        rest = chunk.get(size + 2..).ok_or(CUT_SHORT)?;
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    /// Serves one answer and returns what was asked.
    fn ask(
        answer: &'static str,
        request: impl FnOnce(SocketAddr) -> HttpRequest,
    ) -> (Result<HttpAnswer, HttpError>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = vec![0; 4096];
            let count = stream.read(&mut asked).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&asked[..count]).into_owned()
        });
        let answered = request(address).send_ok();
        (answered, server.join().unwrap())
    }

    #[test]
    fn a_request_carries_what_was_set() {
        let (answer, asked) = ask("HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Length: 2\r\n\r\n{}", |address| {
            HttpRequest::new("PUT", address, "/x").bearer("t").json(&serde_json::json!({"a": 1}))
        });
        let answer = answer.unwrap();
        assert_eq!((answer.header("x-a"), answer.json()), (Some("b"), serde_json::json!({})));
        assert!(asked.starts_with("PUT /x HTTP/1.1\r\nHost: 127.0.0.1:"), "{asked}");
        assert!(asked.contains("\r\nAuthorization: Bearer t\r\n") && asked.ends_with("\r\n\r\n{\"a\":1}"), "{asked}");
    }

    #[test]
    fn chunks_are_joined() {
        let answer = "HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n";
        let (answer, _) = ask(answer, |address| HttpRequest::new("GET", address, "/"));
        assert_eq!(answer.unwrap().text(), "abcde");
    }

    #[test]
    fn a_refusal_tells_status_and_body() {
        let (answer, _) = ask("HTTP/1.1 403 Forbidden\r\n\r\nno", |address| HttpRequest::new("GET", address, "/"));
        assert!(matches!(answer, Err(HttpError::Refused { status: 403, body, .. }) if body == "no"));
    }

    #[test]
    fn a_body_cut_short_is_no_answer() {
        for cut in ["HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", "HTTP/1.1 200 OK\r\n", "SMTP\r\n\r\n"] {
            let (answer, _) = ask(cut, |address| HttpRequest::new("GET", address, "/"));
            assert!(matches!(answer, Err(HttpError::Malformed { .. })), "{cut}");
        }
    }

    #[test]
    fn segments_are_encoded() {
        assert_eq!(encode("!aZ0:x/ü"), "%21aZ0%3Ax%2F%C3%BC");
    }
}
