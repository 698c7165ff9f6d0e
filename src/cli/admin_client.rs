//! The command line's side of the admin endpoint: one request, one connection, loopback or an address that was given.
//!
//! No name is looked up: the endpoint is named by address, or as `localhost`.

use super::{Global, exit::Failure, paths};
use crate::admin::{
    problem::{HttpProblem, TYPE_PREFIX},
    token::{AdminToken, TOKEN_FILE},
    tools::Told,
};
use bytes::Bytes;
use http::{Method, Request, Response, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};
use tidegate_schemas::messages::tools::Done;
use tokio::net::TcpStream;

/// How long one request may take; longer than the endpoint waits for an actor.
pub const REQUEST_LIMIT: Duration = Duration::from_secs(15);
/// How long nothing may be heard of long work, in seconds.
const SILENCE_LIMIT_S: u64 = 60;
/// Longest answer that is read, in bytes (16 MiB: ten thousand destinations).
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A way to the admin endpoint of one gateway.
#[derive(Debug)]
pub struct AdminClient {
    address: SocketAddr,
    token: AdminToken,
    /// What else it may be, when nobody answers.
    otherwise: &'static str,
}

impl AdminClient {
    /// The gateway of the config, unless the options name another.
    ///
    /// # Errors
    /// When the config, the address or the token can't be used.
    pub fn new(global: &Global) -> Result<Self, Failure> {
        let settings = paths::settings(global)?;
        let address = match &global.admin {
            Some(url) => address_of_url(url)?,
            None => address(&settings.admin_listen)?,
        };
        let path = global.token_file.clone().unwrap_or_else(|| settings.state_dir.join(TOKEN_FILE));
        let token = AdminToken::read(&path).map_err(|error| {
            Failure::failed(format!(
                "{error}; is this the state folder of the gateway (--config), and may you read it? \
                 The gateway makes the token when it first starts"
            ))
        })?;
        Ok(Self { address, token, otherwise: "" })
    }

    /// Says this, too, when nobody answers.
    #[must_use]
    pub fn or_else(self, otherwise: &'static str) -> Self {
        Self { otherwise, ..self }
    }

    /// Asks for something.
    ///
    /// # Errors
    /// See [`AdminClient::send`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.get_within(path, REQUEST_LIMIT).await
    }

    /// Asks for something that may take so long.
    ///
    /// # Errors
    /// See [`AdminClient::send`].
    pub async fn get_within<T: DeserializeOwned>(&self, path: &str, limit: Duration) -> Result<T, Failure> {
        self.send_within(Method::GET, path, None::<&()>, limit).await
    }

    /// Asks for something that has a version; with its tag, as it stands in `ETag`.
    ///
    /// # Errors
    /// See [`AdminClient::send`].
    pub async fn get_tagged<T: DeserializeOwned>(&self, path: &str) -> Result<(T, String), Failure> {
        let (value, tag) = self.answer(Method::GET, path, None::<&()>, None, REQUEST_LIMIT).await?;
        let tag = tag.ok_or_else(|| Failure::failed(format!("the answer of {} has no version", self.address)))?;
        Ok((value, tag))
    }

    /// Sends a request with a JSON body, or with none.
    ///
    /// # Errors
    /// When nobody answers (69), when the gateway says "not now" (75), when its config is wrong (78), and when it refuses (1).
    pub async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, Failure> {
        self.send_if(method, path, body, None).await
    }

    /// The same, if what is there has this tag still (`If-Match`).
    ///
    /// # Errors
    /// As [`AdminClient::send`]; when it has another one.
    pub async fn send_if<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
        tag: Option<&str>,
    ) -> Result<T, Failure> {
        Ok(self.answer(method, path, body, tag, REQUEST_LIMIT).await?.0)
    }

    /// Sends a request whose answer may take so long.
    ///
    /// # Errors
    /// See [`AdminClient::send`].
    pub async fn send_within<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
        limit: Duration,
    ) -> Result<T, Failure> {
        Ok(self.answer(method, path, body, None, limit).await?.0)
    }

    async fn answer<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
        tag: Option<&str>,
        limit: Duration,
    ) -> Result<(T, Option<String>), Failure> {
        let exchange = self.exchange(method, path, body, tag);
        let answer = tokio::time::timeout(limit, exchange).await;
        let (status, tag, body) = answer.map_err(|_| {
            Failure::later(format!("the gateway at {} did not answer within {} s", self.address, limit.as_secs()))
        })??;
        if !(200..300).contains(&status) {
            return Err(refusal(status, &body));
        }
        Ok((self.understood(&body)?, tag))
    }

    fn understood<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, Failure> {
        serde_json::from_slice(body).map_err(|error| {
            Failure::failed(format!(
                "the answer of {} is not what this version expects ({error}): is it a gateway, and of this version?",
                self.address
            ))
        })
    }

    /// Has long work done, and hears how far it is.
    ///
    /// # Errors
    /// As [`AdminClient::send`]; when nothing is heard for a minute.
    pub async fn work<T: DeserializeOwned>(&self, path: &str, mut heard: impl FnMut(Done)) -> Result<T, Failure> {
        let silent =
            || Failure::later(format!("the gateway at {} has said nothing for {SILENCE_LIMIT_S} s", self.address));
        let limit = Duration::from_secs(SILENCE_LIMIT_S);
        let asked = tokio::time::timeout(limit, self.begin(Method::POST, path, None::<&()>, None)).await;
        let answer = asked.map_err(|_| silent())??;
        let status = answer.status().as_u16();
        let (mut body, mut read) = (answer.into_body(), Vec::new());
        loop {
            let frame = tokio::time::timeout(limit, body.frame()).await.map_err(|_| silent())?;
            let Some(frame) = frame.transpose().map_err(|error| self.broken(&error))? else { break };
            read.extend_from_slice(&frame.into_data().unwrap_or_default());
            if read.len() > ANSWER_BYTES_MAX {
                return Err(self.broken(&"its answer is too long"));
            }
            while let Some(end) = read.iter().position(|byte| *byte == b'\n').filter(|_| status == 200) {
                let line: Vec<u8> = read.drain(..=end).collect();
                match self.understood::<Told<T>>(&line)? {
                    Told::Progress(done) => heard(done),
                    Told::Result(result) => return Ok(result),
                    Told::Problem(problem) => return Err(refusal_of(problem.status, Some(problem))),
                }
            }
        }
        if status == 200 { Err(self.broken(&"it ended before the work did")) } else { Err(refusal(status, &read)) }
    }

    fn broken(&self, error: &dyn std::fmt::Display) -> Failure {
        Failure::unreachable(format!("the connection to the gateway at {} broke: {error}", self.address))
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
        tag: Option<&str>,
    ) -> Result<(u16, Option<String>, Bytes), Failure> {
        let answer = self.begin(method, path, body, tag).await?;
        let status = answer.status().as_u16();
        let found = answer.headers().get(header::ETAG).and_then(|tag| tag.to_str().ok()).map(str::to_owned);
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        Ok((status, found, body.map_err(|error| self.broken(&error))?.to_bytes()))
    }

    /// Sends a request; its answer, whose body is still to come.
    async fn begin(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
        tag: Option<&str>,
    ) -> Result<Response<Incoming>, Failure> {
        let broken = |error: &dyn std::fmt::Display| self.broken(error);
        let stream = TcpStream::connect(self.address).await.map_err(|error| {
            Failure::unreachable(format!(
                "no gateway answers at {} ({error}): is it running? Start it with `tidegate run`, or name it with --admin{}",
                self.address, self.otherwise
            ))
        })?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
        // Ends when the answer is read, or nobody reads it any more.
        tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.address.to_string())
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token.reveal()));
        if let Some(tag) = tag {
            request = request.header(header::IF_MATCH, tag);
        }
        let bytes = match body {
            None => Bytes::new(),
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                serde_json::to_vec(body).map_err(|error| broken(&error))?.into()
            }
        };
        let request = request.body(Full::new(bytes)).map_err(|error| broken(&error))?;
        sender.send_request(request).await.map_err(|error| broken(&error))
    }
}

/// What a refusal means for the command.
fn refusal(status: u16, body: &[u8]) -> Failure {
    refusal_of(status, serde_json::from_slice(body).ok())
}

fn refusal_of(status: u16, problem: Option<HttpProblem>) -> Failure {
    let wrong_config = problem.as_ref().is_some_and(|problem| problem.kind == format!("{TYPE_PREFIX}config"));
    let message = match problem {
        Some(problem) => problem.errors.iter().fold(format!("{}: {}", problem.title, problem.detail), |text, error| {
            let pointer = if error.pointer.is_empty() { "body" } else { &error.pointer };
            let place = error.place.as_deref().unwrap_or(pointer);
            format!("{text}\n  {place}: {}", error.detail)
        }),
        None => format!("the gateway answered with status {status}"),
    };
    match status {
        401 => Failure::failed(format!("{message}\nThe token is another gateway's? Name its file with --token-file")),
        429 | 503 => Failure::later(message),
        _ if wrong_config => Failure::config(message),
        _ => Failure::failed(message),
    }
}

/// The address of `http://ADDRESS:PORT`.
fn address_of_url(url: &str) -> Result<SocketAddr, Failure> {
    let wrong = || Failure::usage(format!("--admin is http://ADDRESS:PORT, not {url:?}"));
    let uri: Uri = url.parse().map_err(|_| wrong())?;
    if uri.scheme_str() != Some("http") || !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(wrong());
    }
    address(uri.authority().ok_or_else(wrong)?.as_str())
}

/// `ADDRESS:PORT` or `localhost:PORT`; where a gateway listens everywhere, it is reached over loopback.
fn address(text: &str) -> Result<SocketAddr, Failure> {
    let numeric = text.strip_prefix("localhost").map_or_else(|| text.to_owned(), |rest| format!("127.0.0.1{rest}"));
    let mut address: SocketAddr = numeric.parse().map_err(|_| {
        Failure::usage(format!("{text:?} is not ADDRESS:PORT of an admin endpoint; names are not looked up"))
    })?;
    if address.ip().is_unspecified() {
        address.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    Ok(address)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::cli::exit;

    #[test]
    fn an_endpoint_is_named_by_address_alone() {
        assert_eq!(address_of_url("http://127.0.0.1:1").unwrap(), "127.0.0.1:1".parse().unwrap());
        assert_eq!(address_of_url("http://localhost:1/").unwrap(), "127.0.0.1:1".parse().unwrap());
        assert_eq!(address("0.0.0.0:8088").unwrap(), "127.0.0.1:8088".parse().unwrap());
        for bad in
            ["https://127.0.0.1:1", "http://example.com:80", "127.0.0.1:1", "http://127.0.0.1", "http://[::1]:1/x"]
        {
            assert_eq!(address_of_url(bad).unwrap_err().code, exit::USAGE, "{bad}");
        }
    }

    #[test]
    fn a_refusal_shows_each_wrong_value_and_has_its_code() {
        let body =
            br#"{"type":"urn:x","title":"T","status":422,"detail":"d","errors":[{"pointer":"/a","detail":"e"}]}"#;
        assert_eq!(refusal(422, body), Failure::failed("T: d\n  /a: e"));
        assert_eq!(refusal(503, b"").code, exit::LATER);
        assert_eq!(refusal(500, b"<html>").message, "the gateway answered with status 500");
    }
}
