//! HTTP/1.1 to the homeserver, for `ruma-client`: one connection, kept alive, over whatever stream [`Dial`] gives.
//!
//! One request at a time. A request on a kept connection that breaks before its answer is sent once more on a new one: all that
//! the room asks for may be asked twice. Limits: [`REQUEST_LIMIT`] for a request with its answer, [`ANSWER_BYTES_MAX`] for the
//! answer's body; the dial has its own.

use super::{
    MatrixError,
    dial::{Dial, DialError},
};
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Request, Response, Uri, header::HOST};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::Mutex,
    task::JoinHandle,
    time::{Instant, timeout},
};

/// How long a request may take with its answer, on a connection that stands.
const REQUEST_LIMIT: Duration = Duration::from_secs(60);
/// Largest body of an answer, in bytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// A connection that was idle for longer is not used again: homeservers close theirs after a minute or so.
const IDLE_MAX: Duration = Duration::from_secs(45);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    /// No connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The connection broke.
    #[error("the connection to it broke")]
    Broken(#[from] hyper::Error),
    /// The answer's body broke or is too large.
    #[error("its answer was cut or is larger than 1 MiB")]
    Body,
    /// Too slow.
    #[error("no answer from it within {} s", REQUEST_LIMIT.as_secs())]
    Slow,
    /// Our own request makes no sense.
    #[error("a request could not be made")]
    Request,
}

/// The client. Clones share the connection.
#[derive(Clone)]
pub(super) struct Http(Arc<Shared>);

struct Shared {
    dial: Dial,
    host: HeaderValue,
    kept: Mutex<Option<Connection>>,
}

struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
    used: Instant,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Http").field(&self.0.dial).finish()
    }
}

impl Http {
    /// A client; connects when first used.
    ///
    /// # Errors
    /// When the homeserver's place makes no `Host`.
    pub fn new(dial: Dial) -> Result<Self, MatrixError> {
        let host = dial.host()?;
        Ok(Self(Arc::new(Shared { dial, host, kept: Mutex::new(None) })))
    }

    async fn connect(&self) -> Result<Connection, HttpError> {
        let stream = self.0.dial.dial().await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(async move {
            // The request under way gets the error too.
            let _broken = connection.await;
        });
        Ok(Connection { sender, driver, used: Instant::now() })
    }

    /// The request in the form that goes on the wire: a path, and the real host.
    fn on_the_wire(&self, request: Request<BytesMut>) -> Result<Request<Full<Bytes>>, HttpError> {
        let (mut head, body) = request.into_parts();
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        head.uri = path.parse::<Uri>().map_err(|_impossible| HttpError::Request)?;
        head.headers.insert(HOST, self.0.host.clone());
        Ok(Request::from_parts(head, Full::new(body.freeze())))
    }

    async fn send(&self, request: Request<BytesMut>) -> Result<Response<Bytes>, HttpError> {
        let request = self.on_the_wire(request)?;
        let mut kept = self.0.kept.lock().await;
        let usable = |c: &Connection| !c.sender.is_closed() && c.used.elapsed() < IDLE_MAX;
        // Taken out while in use: if this future is dropped, so is a connection on which an answer may still be under way.
        if let Some(connection) = kept.take().filter(usable) {
            match exchange(connection, request.clone()).await {
                Ok((answer, connection)) => {
                    *kept = Some(connection);
                    return Ok(answer);
                }
                Err(HttpError::Broken(_)) => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
        let connection = self.connect().await?;
        match exchange(connection, request).await {
            Ok((answer, connection)) => {
                *kept = Some(connection);
                Ok(answer)
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    /// A circuit on which something failed is not used again.
    fn failed(&self, error: HttpError) -> HttpError {
        self.0.dial.renew();
        error
    }
}

async fn exchange(
    mut connection: Connection,
    request: Request<Full<Bytes>>,
) -> Result<(Response<Bytes>, Connection), HttpError> {
    let asking = async {
        connection.sender.ready().await?;
        let (head, body) = connection.sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|_| HttpError::Body)?;
        Ok::<_, HttpError>(Response::from_parts(head, body.to_bytes()))
    };
    let answer = timeout(REQUEST_LIMIT, asking).await.map_err(|_| HttpError::Slow)??;
    connection.used = Instant::now();
    Ok((answer, connection))
}

impl ruma_client::HttpClient for Http {
    type RequestBody = BytesMut;
    type ResponseBody = Bytes;
    type Error = HttpError;

    async fn send_http_request(&self, request: Request<BytesMut>) -> Result<Response<Bytes>, HttpError> {
        self.send(request).await
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use tidegate_schemas::config::file::Homeserver;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
    };

    async fn place() -> (TcpListener, Http) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dial = Dial::new(&Homeserver::Address(listener.local_addr().unwrap()), None).unwrap();
        (listener, Http::new(dial).unwrap())
    }

    /// Reads one head, and answers.
    async fn serve(stream: &mut TcpStream, answer: &[u8]) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(answer).await.unwrap();
        String::from_utf8(head).unwrap()
    }

    fn ask() -> Request<BytesMut> {
        Request::get("http://homeserver.invalid/a?b=c").body(BytesMut::new()).unwrap()
    }

    const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";

    #[tokio::test]
    async fn requests_share_a_connection_and_carry_the_real_host() {
        let (listener, http) = place().await;
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            (serve(&mut stream, OK).await, serve(&mut stream, OK).await, listener.local_addr().unwrap())
        });
        for _ in 0..2 {
            assert_eq!(&http.send(ask()).await.unwrap().body()[..], b"{}");
        }
        let (first, second, address) = server.await.unwrap();
        assert!(first.starts_with("GET /a?b=c HTTP/1.1\r\n") && first.contains(&format!("host: {address}\r\n")));
        assert_eq!(first, second);
    }

    #[tokio::test]
    async fn a_kept_connection_that_the_homeserver_closed_is_replaced() {
        let (listener, http) = place().await;
        let server = tokio::spawn(async move {
            let (mut first, _) = listener.accept().await.unwrap();
            serve(&mut first, OK).await;
            // The second request is read, and the connection closed without an answer.
            serve(&mut first, b"").await;
            drop(first);
            let (mut second, _) = listener.accept().await.unwrap();
            serve(&mut second, OK).await;
        });
        http.send(ask()).await.unwrap();
        http.send(ask()).await.unwrap();
        server.await.unwrap();
    }

    #[tokio::test]
    async fn a_new_connection_that_breaks_is_an_error() {
        let (listener, http) = place().await;
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            serve(&mut stream, b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await;
        });
        assert!(matches!(http.send(ask()).await, Err(HttpError::Body)));
        server.await.unwrap();
        assert!(matches!(http.send(ask()).await, Err(HttpError::Dial(_))), "nobody listens any more");
    }

    #[tokio::test]
    async fn an_endless_answer_is_cut() {
        let (listener, http) = place().await;
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            serve(&mut stream, b"HTTP/1.1 200 OK\r\n\r\n").await;
            while stream.write_all(&[b'x'; 65_536]).await.is_ok() {}
        });
        assert!(matches!(http.send(ask()).await, Err(HttpError::Body)));
        drop(http);
        server.await.unwrap();
    }
}
