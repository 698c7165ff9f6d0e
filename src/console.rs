//! The console: pages for operators, served by the admin endpoint under `/console`.
//!
//! They show what the API gives, and act through the same functions. Each page is whole without JavaScript and without SVG; with a
//! script it keeps itself up to date. Nothing is loaded from elsewhere, nothing stands inline, and neither a body of a message nor an
//! onion address is ever shown. Who may see them: `guard`; how one gets in: `login`. Times are UTC unless a zone is named.
//!
//! | address | what | file |
//! |---|---|---|
//! | `/console` | is anything wrong, what needs a person | `overview` |
//! | `/console/login`, `/logout` | in and out | `login` |
//! | `/console/destinations`, `/{id}` | windows, a timeline, signals and pauses | `destinations`, `timeline` |
//! | `/console/outbox` | what waits, and why | `outbox` |
//! | `/console/outbox/{destination}/{seq}`, `/{act}` | one message, and acts on it | `entry` |
//! | `/console/quarantine`, `/ledger` | what never became an entry, what ended | `records` |
//! | `/console/actors`, `/tor`, `/matrix`, `/privacy` | the parts, and what leaves this machine | `parts` |
//! | `/console/assets/...` | style, script, icon: no session needed | here |

pub(crate) mod guard;
pub(crate) mod login;

mod destinations;
mod entry;
mod frame;
mod outbox;
mod overview;
mod parts;
mod records;
mod timeline;

pub(crate) use login::link;

use crate::{
    admin::{Endpoint, problem::HttpProblem},
    web::{
        self,
        sessions::{SESSION, Sessions},
    },
};
use actix_web::{
    HttpRequest, HttpResponse, ResponseError as _,
    http::{Method, header},
    web as actix,
};
use guard::Visitor;
use login::{LINK, Who};
use std::sync::{Arc, LazyLock};
use tidegate_actors::ports::entropy::Entropy;

/// Where it begins.
pub(crate) const ROOT: &str = "/console";
/// Where one logs in.
pub(crate) const LOGIN: &str = "/console/login";

const STYLE: &str = concat!(include_str!("web/base.css"), include_str!("console/templates/style.css"));
const SCRIPT: &str = include_str!("console/templates/live.js");
/// The version of style and script.
static ASSETS: LazyLock<String> =
    LazyLock::new(|| web::version(&[STYLE.as_bytes(), SCRIPT.as_bytes(), web::ICON]));

/// What the console remembers, in memory alone.
pub(crate) struct Console {
    sessions: Sessions<Visitor>,
    links: Sessions<Who>,
    entropy: Arc<dyn Entropy>,
}

impl Console {
    /// Nobody is logged in.
    pub(crate) fn new(entropy: Arc<dyn Entropy>) -> Self {
        Self { sessions: Sessions::lasting(SESSION), links: Sessions::lasting(LINK), entropy }
    }
}

/// Whether a path is of the console.
pub(crate) fn is_console(path: &str) -> bool {
    path.strip_prefix(ROOT).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether a path of the console needs no session.
pub(crate) fn is_public(path: &str) -> bool {
    path == LOGIN || path.strip_prefix(ROOT).is_some_and(|rest| rest.starts_with("/assets/"))
}

/// The console's lines of the table of routes. Lines of one path stand together.
pub(crate) fn routes() -> Vec<Endpoint> {
    let get = |path, route| Endpoint { method: Method::GET, path, route };
    let post = |path, route| Endpoint { method: Method::POST, path, route };
    vec![
        get("/console", actix::get().to(overview::show)),
        get("/console/login", actix::get().to(login::show)),
        post("/console/login", actix::post().to(login::log_in)),
        post("/console/logout", actix::post().to(login::log_out)),
        get("/console/assets/style.css", actix::get().to(|| asset("text/css; charset=utf-8", STYLE.as_bytes()))),
        get("/console/assets/live.js", actix::get().to(|| asset("text/javascript; charset=utf-8", SCRIPT.as_bytes()))),
        get("/console/assets/icon.png", actix::get().to(|| asset("image/png", web::ICON))),
        get("/console/destinations", actix::get().to(destinations::list)),
        get("/console/destinations/{destination}", actix::get().to(destinations::show)),
        post("/console/destinations/{destination}/signal", actix::post().to(destinations::signal)),
        post("/console/destinations/{destination}/pause", actix::post().to(destinations::pause)),
        post("/console/destinations/{destination}/resume", actix::post().to(destinations::resume)),
        get("/console/outbox", actix::get().to(outbox::list)),
        get("/console/outbox/{destination}/{seq}", actix::get().to(entry::show)),
        get("/console/outbox/{destination}/{seq}/{act}", actix::get().to(entry::confirm)),
        post("/console/outbox/{destination}/{seq}/{act}", actix::post().to(entry::act)),
        get("/console/quarantine", actix::get().to(records::quarantine)),
        get("/console/ledger", actix::get().to(records::ledger)),
        get("/console/actors", actix::get().to(parts::actors)),
        get("/console/tor", actix::get().to(parts::tor)),
        get("/console/matrix", actix::get().to(parts::matrix)),
        get("/console/privacy", actix::get().to(parts::privacy)),
    ]
}

/// The answer at an address that there isn't.
pub(crate) async fn nowhere(request: HttpRequest) -> HttpResponse {
    let problem = HttpProblem::not_found("there is no such address");
    if is_console(request.path()) { frame::Refused(problem).error_response() } else { problem.error_response() }
}

async fn asset(content_type: &'static str, bytes: &'static [u8]) -> HttpResponse {
    let mut answer = frame::browser(HttpResponse::Ok());
    answer.insert_header((header::CACHE_CONTROL, "private, max-age=604800, immutable"));
    answer.insert_header((header::CONTENT_TYPE, content_type)).body(bytes)
}
