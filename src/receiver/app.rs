//! The web application: a request in, an answer out, whatever carries them.

use super::{
    answer::{self, Answer},
    api, intake, live,
    pages::{self, Query},
    rights::Rights,
    serve::Peer,
    store::Reader,
    writer::WriterHandle,
};
use crate::web::{
    self, form,
    sessions::{SESSION, Sessions},
};
use bytes::Bytes;
use data_encoding::BASE64;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use hyper::body::Body;
use std::sync::Arc;
use tidegate_actors::ports::{clock::Clock, entropy::Entropy};
use tidegate_schemas::wire::BATCH_PATH;
use tokio::sync::{Semaphore, watch};

/// The name of the session's cookie.
const COOKIE: &str = "tidegate-session";
/// Request bodies that are read at once, each up to 1 MiB.
const BODIES_MAX: usize = 32;
/// Pages and listings that are made at once.
const READS_MAX: usize = 4;

const STYLE: &str = concat!(include_str!("../web/base.css"), include_str!("templates/style.css"));
const SCRIPT: &str = include_str!("templates/live.js");

/// The application.
pub(crate) struct App {
    /// What the pages are headed with.
    pub(crate) title: String,
    /// Names the version of style and script in their addresses, so that browsers may keep them.
    pub(crate) assets: String,
    /// Who may do what.
    pub(crate) rights: Rights,
    /// Whether the paper's format needs no write key.
    pub(crate) open_private_iot: bool,
    /// Who gave the password.
    pub(crate) sessions: Sessions<()>,
    /// Reads the store.
    pub(crate) reader: Reader,
    /// Writes it.
    pub(crate) writer: WriterHandle,
    /// The wall clock.
    pub(crate) clock: Arc<dyn Clock>,
    /// Randomness.
    pub(crate) entropy: Arc<dyn Entropy>,
    /// Bounds the bodies that are read at once.
    pub(crate) bodies: Semaphore,
    /// Bounds the reads at once.
    pub(crate) reads: Semaphore,
    /// Bounds the live streams.
    pub(crate) live_streams: Arc<Semaphore>,
    /// True when the receiver ends.
    pub(crate) closing: watch::Receiver<bool>,
}

impl App {
    /// The bounds of what happens at once.
    pub(crate) fn bounds(live_streams_max: usize) -> (Semaphore, Semaphore, Arc<Semaphore>) {
        (Semaphore::new(BODIES_MAX), Semaphore::new(READS_MAX), Arc::new(Semaphore::new(live_streams_max)))
    }

    /// What stands for the present style and script.
    pub(crate) fn assets_version() -> String {
        web::version(&[STYLE.as_bytes(), SCRIPT.as_bytes(), web::ICON])
    }

    /// Answers a request.
    pub(crate) async fn handle<B>(self: Arc<Self>, request: Request<B>) -> Answer
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let path = request.uri().path().to_owned();
        match (request.method(), path.as_str()) {
            (&Method::PUT | &Method::POST, "/") | (&Method::POST, BATCH_PATH) => intake::take(&self, request).await,
            (&Method::POST, "/login") => self.log_in(request).await,
            (&Method::POST, "/logout") => self.log_out(request.headers()),
            (&Method::GET | &Method::HEAD, _) => self.show(&path, &request).await,
            (_, "/") => not_allowed("GET, HEAD, PUT, POST"),
            (_, BATCH_PATH | "/login" | "/logout") => not_allowed("POST"),
            _ => not_allowed("GET, HEAD"),
        }
    }

    async fn show<B>(self: Arc<Self>, path: &str, request: &Request<B>) -> Answer {
        match path {
            "/assets/style.css" => return asset("text/css; charset=utf-8", STYLE.as_bytes()),
            "/assets/live.js" => return asset("text/javascript; charset=utf-8", SCRIPT.as_bytes()),
            "/assets/icon.png" => return asset("image/png", web::ICON),
            "/livez" => return answer::lean(StatusCode::OK, "text/plain", "ok\n"),
            BATCH_PATH | "/logout" => return not_allowed("POST"),
            _ => {}
        }
        let query = request.uri().query().unwrap_or_default().to_owned();
        if !self.may_read(request.headers()) {
            return if path.starts_with("/v1/") {
                unauthorized(request.headers())
            } else {
                let next = if path == "/login" { "/".to_owned() } else { place(path, &query) };
                pages::login(&self, StatusCode::UNAUTHORIZED, &next, false)
            };
        }
        Peer::of(request).is_known();
        match path {
            "/login" => answer::see_other("/"),
            "/v1/live" => live::stream(&self),
            _ => self.read(path.to_owned(), query).await,
        }
    }

    /// Answers from the store, on a thread that may block.
    async fn read(self: Arc<Self>, path: String, query: String) -> Answer {
        let app = self.clone();
        let Ok(_turn) = self.reads.acquire().await else { return not_found(&self) };
        let answer = tokio::task::spawn_blocking(move || {
            let query = Query(&query);
            let mut parts = path.trim_start_matches('/').split('/');
            let parts = [(); 4].map(|()| parts.next());
            let number = |text: &str| text.parse::<u64>().ok();
            match parts {
                [Some(""), None, ..] => pages::home(&app, &query),
                [Some("devices"), None, ..] => pages::devices(&app, &query),
                [Some("devices"), Some(device), None, _] => pages::device(&app, number(device)?, &query),
                [Some("devices"), Some(device), Some("chart.png"), None] => pages::chart(&app, number(device)?, &query),
                [Some("readings"), Some(reading), None, _] => pages::reading(&app, number(reading)?),
                [Some("readings"), Some(reading), Some("body"), None] => pages::body(&app, number(reading)?),
                [Some("v1"), Some("readings"), None, _] => api::readings(&app, &query),
                [Some("v1"), Some("devices"), None, _] => api::devices(&app),
                _ => None,
            }
        });
        match answer.await {
            Ok(Some(answer)) => answer,
            Ok(None) => not_found(&self),
            Err(_) => answer::problem(StatusCode::INTERNAL_SERVER_ERROR, "the store could not be read"),
        }
    }

    async fn log_in<B>(&self, request: Request<B>) -> Answer
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let peer = Peer::of(&request);
        let form = intake::form(request).await.unwrap_or_default();
        let next = form::value(&form, "next").filter(|next| web::is_local(next)).unwrap_or_else(|| "/".to_owned());
        if !self.rights.may_read(&form::value(&form, "password").unwrap_or_default()) {
            return pages::login(self, StatusCode::UNAUTHORIZED, &next, true);
        }
        peer.is_known();
        let token = self.sessions.open(self.entropy.as_ref(), ());
        let mut answer = answer::see_other(&next);
        set_cookie(&mut answer, &token, SESSION.as_secs());
        answer
    }

    fn log_out(&self, headers: &HeaderMap) -> Answer {
        if let Some(token) = cookie(headers) {
            self.sessions.close(token);
        }
        let mut answer = answer::see_other("/login");
        set_cookie(&mut answer, "", 0);
        answer
    }

    /// Whether the request shows an open session or the password.
    fn may_read(&self, headers: &HeaderMap) -> bool {
        cookie(headers).is_some_and(|token| self.sessions.find(token).is_some())
            || basic_password(headers).is_some_and(|password| self.rights.may_read(&password))
    }
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    web::cookie(headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok()), COOKIE)
}

/// Neither script nor another site gets the cookie.
fn set_cookie(answer: &mut Answer, token: &str, age_s: u64) {
    let cookie = format!("{COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict; Max-Age={age_s}");
    if let Ok(value) = HeaderValue::from_str(&cookie) {
        answer.headers_mut().insert(header::SET_COOKIE, value);
    }
}

fn basic_password(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, credentials) = value.split_once(' ')?;
    let credentials =
        scheme.eq_ignore_ascii_case("basic").then(|| BASE64.decode(credentials.trim().as_bytes()).ok())??;
    let (_, password) = std::str::from_utf8(&credentials).ok()?.split_once(':')?;
    Some(password.to_owned())
}

/// A browser's script gets no challenge: its answer would be a window that asks for a name.
fn unauthorized(headers: &HeaderMap) -> Answer {
    let mut answer = answer::problem(StatusCode::UNAUTHORIZED, "the read password is needed, as HTTP Basic");
    if !headers.contains_key("sec-fetch-mode") {
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"readings\""));
    }
    answer
}

fn place(path: &str, query: &str) -> String {
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}

fn asset(content_type: &'static str, bytes: &'static [u8]) -> Answer {
    let mut answer = answer::browser(StatusCode::OK, content_type, answer::full(Bytes::from_static(bytes)));
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("private, max-age=604800, immutable"));
    answer
}

fn not_allowed(methods: &'static str) -> Answer {
    let mut answer = answer::problem(StatusCode::METHOD_NOT_ALLOWED, "this method is not taken here");
    answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
    answer
}

fn not_found(app: &App) -> Answer {
    pages::message(app, StatusCode::NOT_FOUND, "Not here", "There is no such page, or what it showed was removed.")
}
