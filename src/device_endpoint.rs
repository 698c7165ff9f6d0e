//! The device HTTP endpoint: where devices without MQTT hand in.
//!
//! Two ways in. `PUT /` takes the paper's `{"device", "topic", "payload"}`: it becomes a publication on `DEVICE/TOPIC` and goes
//! through the same routes as MQTT. `PUT /v1/messages/{destination}` takes any body and names its destination itself. Either
//! answers 201 (or 200 for a redelivery) only after the entry is on disk (CU-1). What is refused is refused to the device, with
//! a 4xx or 5xx that says why: nothing of it is kept, and it does not count in the account of CU-2, since nothing was
//! acknowledged.
//!
//! # Who may
//! On loopback, while no device has credentials, whoever reaches the endpoint is trusted, as with a local broker. As soon as
//! one device has credentials, or when it listens elsewhere, every request needs them (`credentials`); a device then speaks for
//! itself alone and reaches its own destinations alone. A request that a web page makes (it has an `Origin`) is always
//! refused: devices are no browsers, and a page that rebinds its name must not be able to invent readings.
//!
//! # Limits
//! [`CONNECTIONS_MAX`] connections, each with one request under way; bodies of `submission::BODY_BYTES_MAX`; the config's
//! requests a minute for each device or address ([`rate`]); 128 KiB and 96 lines of headers (actix-http's own: 431 or 400);
//! an answer of the Outbox within `access::ASK_LIMIT_S`.

pub mod credentials;
pub mod rate;

mod direct;
mod paper;
mod submit;

use crate::{
    admin::{
        access::Reach,
        listener::{self, ListenError, Serving},
        problem::HttpProblem,
    },
    device_endpoint::{
        credentials::{Caller, read_devices},
        rate::{Key, Rate},
    },
    reread::Reread,
};
use actix_web::{
    HttpRequest, HttpServer, ResponseError as _,
    http::header,
    middleware::DefaultHeaders,
    web::{self, Data},
};
use std::{net::SocketAddr, path::PathBuf, time::Duration};
use tidegate_schemas::config::devices::Devices;

/// Most connections at once; each has at most one request under way.
pub const CONNECTIONS_MAX: usize = 256;
/// How long the head of a request may take, in seconds.
const HEAD_LIMIT_S: u64 = 10;
/// Its name in errors.
const NAME: &str = "device HTTP endpoint";
/// Where its address is said.
const KEY: &str = "listen in [http]";

/// What the endpoint is started with.
#[derive(Clone)]
pub struct Settings {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Requests a minute, of one device or address.
    pub requests_per_minute: u32,
    /// The file of device credentials. It is read again when it changes.
    pub devices_file: PathBuf,
    /// The way to the actors.
    pub reach: Reach,
}

/// What the handlers share.
struct App {
    reach: Reach,
    credentials: Reread<Devices>,
    rate: Rate,
    loopback: bool,
}

/// Starts the endpoint. Within an actix System; the requests run on a thread of their own.
///
/// # Errors
/// When the address can't be had; when it is not loopback and no device has credentials; when the devices file is not to be read.
pub fn start(settings: Settings) -> Result<Serving, ListenError> {
    let Settings { listen, requests_per_minute, devices_file, reach } = settings;
    let credentials =
        Reread::open(devices_file, read_devices).map_err(|error| ListenError::Devices(error.to_string()))?;
    let loopback = listen.ip().is_loopback();
    if !loopback && credentials.now().is_empty() {
        return Err(ListenError::NoCredentials { endpoint: NAME, key: KEY, address: listen });
    }
    let (listener, address) = listener::bind(listen, NAME, KEY)?;
    let app = Data::new(App { reach, credentials, rate: Rate::per_minute(requests_per_minute), loopback });
    let server = HttpServer::new(move || {
        actix_web::App::new()
            .app_data(app.clone())
            .app_data(
                web::QueryConfig::default()
                    .error_handler(|error, _| HttpProblem::bad_request(format!("the query: {error}")).into()),
            )
            .app_data(web::PathConfig::default().error_handler(|_, _| HttpProblem::not_found("no such name").into()))
            .configure(configure)
            .wrap(DefaultHeaders::new().add((header::CACHE_CONTROL, "no-store")))
    })
    .workers(1)
    .max_connections(CONNECTIONS_MAX)
    .client_request_timeout(Duration::from_secs(HEAD_LIMIT_S))
    .shutdown_timeout(HEAD_LIMIT_S)
    .disable_signals()
    .listen(listener)
    .map_err(|source| ListenError::Bind { endpoint: NAME, key: KEY, address, source })?
    .run();
    Ok(Serving::new(address, server))
}

fn configure(config: &mut web::ServiceConfig) {
    let otherwise = || web::to(|| async { HttpProblem::method_not_allowed("PUT").error_response() });
    config
        .service(web::resource("/").default_service(otherwise()).route(web::put().to(paper::put)))
        .service(
            web::resource("/v1/messages/{destination}").default_service(otherwise()).route(web::put().to(direct::put)),
        )
        .default_service(web::to(|| async {
            HttpProblem::not_found("devices hand in with PUT / or PUT /v1/messages/DESTINATION").error_response()
        }));
}

/// Who makes this request, if it may be made at all. Before its body is read.
fn admit(app: &App, request: &HttpRequest) -> Result<Caller, HttpProblem> {
    if request.headers().contains_key(header::ORIGIN) {
        return Err(HttpProblem::forbidden("requests from web pages are refused: devices send no Origin"));
    }
    let peer = request.peer_addr().map(|peer| peer.ip());
    let caller = credentials::identify(&app.credentials.now(), app.loopback, request);
    // A stranger who guesses is slowed down by address; a device that is known is counted by its name.
    let key = match &caller {
        Ok(Caller::Device(credential)) => Key::Device(credential.device.clone()),
        Ok(Caller::Trusted) | Err(_) => Key::address(peer),
    };
    app.rate.check(key).map_err(HttpProblem::too_many)?;
    caller
}
