//! The admin HTTP endpoint: what operators and the command line see and change while the gateway runs.
//!
//! It listens on loopback by default, asks for a token (one is made on first start, others can be given for less), answers known names alone, takes and gives
//! JSON, and refuses what a web page of somebody else could send (`guard`). It shows metadata: never a body of a message, never
//! an onion address. Refusals are problem details (RFC 9457, `problem`). It stands beside the list of actors: while a line that
//! a request needs is being restarted the answer is 503 with `Retry-After`, and the endpoint itself stays.
//!
//! | method and path | what | file |
//! |---|---|---|
//! | GET `/livez`, `/readyz` | is it alive, is it ready (no token) | `health` |
//! | GET `/metrics` | OpenMetrics | `metrics` |
//! | GET `/api/v1/openapi.json` | all this for programs | `openapi` |
//! | GET `/api/v1/status` | every actor, the clock, versions | `status` |
//! | GET `/api/v1/destinations`, `/{id}` | agreements in short, windows, what waits | `destinations` |
//! | PUT, DELETE `/api/v1/destinations/{id}` | make, change and remove destinations | `agreements` |
//! | GET `/api/v1/destinations/{id}/agreement` | the agreement as it is written | `agreements` |
//! | GET `/api/v1/destinations/{id}/history` | how the agreement came about | `agreements` |
//! | GET `/api/v1/destinations/{id}/openings`, `/forecast` | what comes | `foresight` |
//! | POST `/api/v1/destinations/{id}/simulate` | what another agreement would mean | `foresight` |
//! | PUT, DELETE `/api/v1/destinations/{id}/windows` | windows from now on; always open | `destinations` |
//! | GET `/api/v1/config` | what is in force, and where each key stands | `config` |
//! | POST `/api/v1/reload` | take over what the config files say now | `agreements` |
//! | POST `/api/v1/destinations/{id}/test` | can it be reached | `connection_test` |
//! | POST `/api/v1/drain` | end in order | `drain` |
//! | POST `/api/v1/destinations/{id}/signal`, `/pause`, `/resume` | ready, not now; stop, go on | `signals` |
//! | GET `/api/v1/outbox`, `/{destination}/{seq}`, `/{uuid}` | entries | `outbox` |
//! | GET the same with `/explain` | why it is where it is, and what comes next | `foresight` |
//! | POST `/api/v1/outbox/{destination}/{seq}/{act}` | hold, release, retry, purge | `outbox` |
//! | POST `/api/v1/outbox/check`, `/backup`, `/compact`; GET `/stats` | long work, counts by age | `tools` |
//! | GET `/api/v1/quarantine` | what never became an entry | `records` |
//! | GET `/api/v1/ledger` | what ended lately | `records` |
//! | GET `/api/v1/audit` | who did what | `records` |
//! | `/console`, `/console/...` | pages for people | `console` |
//!
//! The whole description is in `docs/admin-api.md`.
//!
//! # Limits
//! [`CONNECTIONS_MAX`] connections at once, bodies of [`body::ADMIN_BODY_BYTES_MAX`], an answer of an actor within
//! [`access::ASK_LIMIT_S`], pages of at most [`pages::PAGE_ITEMS_MAX`] items.

pub mod access;
pub mod body;
pub mod foresight;
pub mod listener;
pub mod openapi;
pub mod outbox;
pub mod pages;
pub mod problem;
pub mod status;
pub mod token;
pub mod tools;

pub(crate) mod agreements;
pub(crate) mod conditions;
pub(crate) mod config;
pub(crate) mod connection_test;
pub(crate) mod destinations;
pub(crate) mod drain;
pub(crate) mod guard;
pub(crate) mod metrics;
pub(crate) mod records;
pub(crate) mod rule;
pub(crate) mod signals;

mod health;

use crate::admin::{
    access::Reach,
    listener::{ListenError, Serving},
    problem::HttpProblem,
    rule::{Rule, Rules},
    token::{AdminToken, KnownTokens},
};
use crate::{
    adapters::system_entropy::SystemEntropy,
    audit::AuditLog,
    console::{self, Console},
    reload::Reloader,
};
use actix_web::{
    HttpServer, Resource, ResponseError as _, Route,
    http::{Method, header},
    middleware::{DefaultHeaders, from_fn},
    web::{self, Data},
};
use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};
use tidegate_actors::ports::clock::Clock;
use tidegate_schemas::audit::Scope;
use tokio::{
    sync::{Mutex, Notify},
    time::Instant,
};

/// Most connections at once; each has at most one request under way.
pub const CONNECTIONS_MAX: usize = 64;
/// How long the head of a request may take, in seconds.
const HEAD_LIMIT_S: u64 = 5;

/// What the endpoint is started with.
#[derive(Clone)]
pub struct Settings {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// More values of `Host` that are answered.
    pub hosts: Vec<String>,
    /// The gateway's own token. The state folder may have more.
    pub token: AdminToken,
    /// Where acts are put on record.
    pub audit: Arc<AuditLog>,
    /// The way to the actors.
    pub reach: Reach,
    /// The wall clock, for windows.
    pub clock: Arc<dyn Clock>,
    /// Reloads the config; absent where there are no files.
    pub reloader: Option<Arc<Reloader>>,
    /// Rung to end the gateway in order.
    pub drain: Arc<Notify>,
    /// The state folder, for backups. An absolute path: an answer that names a file is read by somebody in another folder.
    pub state_dir: PathBuf,
}

/// What the handlers share, those of the console among them.
pub(crate) struct App {
    pub(crate) reach: Reach,
    reloader: Option<Arc<Reloader>>,
    drain: Arc<Notify>,
    pub(crate) clock: Arc<dyn Clock>,
    tokens: KnownTokens,
    rules: Rules,
    audit: Arc<AuditLog>,
    hosts: BTreeSet<String>,
    wrong_tokens: guard::WrongTokens,
    /// Who is logged in to the console.
    pub(crate) console: Console,
    started: Instant,
    state_dir: PathBuf,
    /// Held while a backup is written: one at a time.
    backing_up: Mutex<()>,
}

/// One line of the table of routes.
pub(crate) struct Endpoint {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) rule: Rule,
    pub(crate) route: Route,
}

/// The table of routes. Lines of one path stand together.
fn routes() -> Vec<Endpoint> {
    use Scope::{Admin, Operate, Read};
    let line = |method, path, rule, route| Endpoint { method, path, rule, route };
    let get = |path, route: Route| line(Method::GET, path, Rule::look(), route);
    let post = |path, rule, route: Route| line(Method::POST, path, rule, route);
    let put = |path, rule, route: Route| line(Method::PUT, path, rule, route);
    let delete = |path, rule, route: Route| line(Method::DELETE, path, rule, route);
    let destination = "/api/v1/destinations/{destination}";
    let windows = "/api/v1/destinations/{destination}/windows";
    vec![
        get("/livez", web::get().to(health::live)),
        get("/readyz", web::get().to(health::ready)),
        get("/metrics", web::get().to(metrics::show)),
        get("/api/v1/openapi.json", web::get().to(openapi::show)),
        get("/api/v1/status", web::get().to(status::show)),
        get("/api/v1/destinations", web::get().to(destinations::list)),
        get(destination, web::get().to(destinations::show)),
        put(destination, Rule::change(Admin, "destination.put"), web::put().to(agreements::put)),
        delete(destination, Rule::change(Admin, "destination.remove"), web::delete().to(agreements::remove)),
        get("/api/v1/destinations/{destination}/agreement", web::get().to(agreements::agreement)),
        get("/api/v1/destinations/{destination}/history", web::get().to(agreements::history)),
        get("/api/v1/destinations/{destination}/openings", web::get().to(foresight::openings)),
        get("/api/v1/destinations/{destination}/forecast", web::get().to(foresight::forecast)),
        post(
            "/api/v1/destinations/{destination}/simulate",
            Rule::without_act(Read),
            web::post().to(foresight::simulate),
        ),
        put(windows, Rule::change(Admin, "windows.set"), web::put().to(destinations::set_windows)),
        delete(windows, Rule::change(Admin, "windows.reset"), web::delete().to(destinations::reset_windows)),
        post(
            "/api/v1/destinations/{destination}/signal",
            Rule::act_of(Operate, "signal"),
            web::post().to(signals::signal),
        ),
        post(
            "/api/v1/destinations/{destination}/pause",
            Rule::act_of(Operate, "pause"),
            web::post().to(signals::pause),
        ),
        post(
            "/api/v1/destinations/{destination}/resume",
            Rule::act_of(Operate, "resume"),
            web::post().to(signals::resume),
        ),
        post(
            "/api/v1/destinations/{destination}/test",
            Rule::act_of(Operate, "destination.test"),
            web::post().to(connection_test::test),
        ),
        get("/api/v1/outbox", web::get().to(outbox::list)),
        post("/api/v1/outbox/check", Rule::without_act(Operate), web::post().to(tools::check)),
        post("/api/v1/outbox/backup", Rule::act_of(Operate, "backup"), web::post().to(tools::backup)),
        post("/api/v1/outbox/compact", Rule::act_of(Operate, "compact"), web::post().to(tools::compact)),
        get("/api/v1/outbox/stats", web::get().to(tools::stats)),
        get("/api/v1/outbox/{id}", web::get().to(outbox::show_id)),
        get("/api/v1/outbox/{id}/explain", web::get().to(outbox::explain_id)),
        get("/api/v1/outbox/{destination}/{seq}", web::get().to(outbox::show_place)),
        get("/api/v1/outbox/{destination}/{seq}/explain", web::get().to(outbox::explain_place)),
        post("/api/v1/outbox/{destination}/{seq}/{act}", Rule::act_of(Operate, "entry"), web::post().to(outbox::act)),
        get("/api/v1/config", web::get().to(config::show)),
        post("/api/v1/reload", Rule::change(Admin, "reload"), web::post().to(agreements::reload)),
        post("/api/v1/drain", Rule::act_of(Admin, "drain"), web::post().to(drain::begin)),
        get("/api/v1/quarantine", web::get().to(records::quarantine)),
        get("/api/v1/ledger", web::get().to(records::ledger)),
        get("/api/v1/audit", web::get().to(records::audit)),
    ]
}

/// Method and path pattern of every route but the console's, for the tests and the documentation's test.
#[must_use]
pub fn route_list() -> Vec<(String, &'static str)> {
    routes().into_iter().map(|endpoint| (endpoint.method.to_string(), endpoint.path)).collect()
}

/// The scope that each of them asks for, in the same order.
#[must_use]
pub fn scope_list() -> Vec<Scope> {
    routes().into_iter().map(|endpoint| endpoint.rule.scope).collect()
}

/// Method, path pattern and scope of every route of the console, for the tests.
#[must_use]
pub fn console_list() -> Vec<(String, &'static str, Scope)> {
    console::routes().into_iter().map(|line| (line.method.to_string(), line.path, line.rule.scope)).collect()
}

/// Whether a path of the console needs no session.
#[must_use]
pub fn is_public_page(path: &str) -> bool {
    console::is_public(path)
}

/// The paths that need no token.
#[must_use]
pub fn is_public(path: &str) -> bool {
    matches!(path, "/livez" | "/readyz")
}

/// One resource for each path of the table, so that a wrong method gets 405 and not 404.
fn configure(config: &mut web::ServiceConfig) {
    let mut resources: Vec<(&'static str, Resource)> = Vec::new();
    let methods: Vec<(&str, Method)> =
        routes().into_iter().chain(console::routes()).map(|line| (line.path, line.method)).collect();
    for Endpoint { path, route, .. } in routes().into_iter().chain(console::routes()) {
        match resources.pop() {
            Some((last, resource)) if last == path => resources.push((path, resource.route(route))),
            earlier => {
                resources.extend(earlier);
                let known: Vec<&str> =
                    methods.iter().filter(|(of, _)| *of == path).map(|(_, method)| method.as_str()).collect();
                let known = known.join(", ");
                let otherwise = move || {
                    let refused = HttpProblem::method_not_allowed(known.clone()).error_response();
                    async { refused }
                };
                let otherwise = web::to(otherwise);
                resources.push((path, web::resource(path).default_service(otherwise).route(route)));
            }
        }
    }
    for (_, resource) in resources {
        config.service(resource);
    }
    config.default_service(web::to(console::nowhere));
}

/// Starts the endpoint. Within an actix System; the requests run on a thread of their own.
///
/// # Errors
/// When the address can't be had.
pub fn start(settings: Settings) -> Result<Serving, ListenError> {
    let (listener, address) = listener::bind(settings.listen, "admin endpoint", "listen in [admin]")?;
    let Settings { hosts, token, audit, reach, clock, reloader, drain, state_dir, .. } = settings;
    let tokens = KnownTokens::open(token, &state_dir).map_err(|error| ListenError::Tokens(error.to_string()))?;
    let rules =
        routes().into_iter().chain(console::routes()).map(|line| ((line.method, line.path), line.rule)).collect();
    let hosts = guard::hosts(address, &hosts);
    let (wrong_tokens, started) = (guard::wrong_tokens(), Instant::now());
    let (backing_up, console) = (Mutex::default(), Console::new(Arc::new(SystemEntropy)));
    let app = Data::new(App {
        reach,
        reloader,
        drain,
        clock,
        tokens,
        rules,
        audit,
        hosts,
        wrong_tokens,
        console,
        started,
        state_dir,
        backing_up,
    });
    let server = HttpServer::new(move || {
        actix_web::App::new()
            .app_data(app.clone())
            .app_data(pages::query_config())
            .app_data(web::PathConfig::default().error_handler(|_, _| HttpProblem::not_found("no such name").into()))
            .configure(configure)
            .wrap(from_fn(guard::guard))
            .wrap(
                DefaultHeaders::new()
                    .add((header::CACHE_CONTROL, "no-store"))
                    .add((header::X_CONTENT_TYPE_OPTIONS, "nosniff")),
            )
    })
    .workers(1)
    .max_connections(CONNECTIONS_MAX)
    .client_request_timeout(Duration::from_secs(HEAD_LIMIT_S))
    .shutdown_timeout(HEAD_LIMIT_S)
    .disable_signals()
    .listen(listener)
    .map_err(|source| ListenError::Bind { endpoint: "admin endpoint", key: "listen in [admin]", address, source })?
    .run();
    Ok(Serving::new(address, server))
}
