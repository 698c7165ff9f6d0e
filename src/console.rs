//! The console: pages for operators, served by the admin endpoint under `/console`.
//!
//! They show what the API gives, and act through the same functions, under the same rules and on the same record. Each page is whole
//! without JavaScript and without SVG: there is no script at all. Nothing is loaded from elsewhere, nothing stands inline, and neither a
//! body of a message nor an onion address is ever shown. Who may see them: `guard`; how one gets in: `login`; what all pages are made of:
//! `frame` and `sheet`. Times are UTC unless a zone is named.
//!
//! | address | what | file |
//! |---|---|---|
//! | `/console` | is anything wrong, what needs a person | `overview` |
//! | `/console/login`, `/logout` | in and out | `login` |
//! | `/console/outbox`, `/console/ages` | what waits, and why; how long already | `outbox` |
//! | `/console/outbox/{destination}/{seq}`, `/{act}` | one message, and acts on it | `entry` |
//! | `/console/destinations`, `/{destination}` | how they stand; windows before and after now; signals and pauses | `destinations`, `timeline` |
//! | `/console/destinations/{destination}/edit`, `/preview`, `/save`, `/remove`, `/windows`, `/console/add-destination` | agreements changed, with a preview | `agreement` |
//! | `/console/ledger`, `/quarantine`, `/audit` | what ended, what never became an entry, who did what | `records` |
//! | `/console/actors`, `/devices`, `/tor`, `/matrix`, `/privacy` | the parts, and what leaves this machine | `parts` |
//! | `/console/assets/...` | style and icon: no session needed | here |

pub(crate) mod guard;
pub(crate) mod login;

mod agreement;
mod destinations;
mod entry;
mod frame;
mod outbox;
mod overview;
mod parts;
mod records;
mod sheet;
mod timeline;

pub(crate) use frame::Refused;

use crate::{
    admin::{Endpoint, problem::HttpProblem, rule::Rule},
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
use std::sync::{Arc, LazyLock};
use tidegate_actors::ports::entropy::Entropy;
use tidegate_schemas::audit::Scope;

/// Where it begins.
pub(crate) const ROOT: &str = "/console";
/// Where one logs in.
pub(crate) const LOGIN: &str = "/console/login";

const STYLE: &str = concat!(include_str!("web/base.css"), include_str!("console/templates/style.css"));
/// The version of style and icon.
static ASSETS: LazyLock<String> = LazyLock::new(|| web::version(&[STYLE.as_bytes(), web::ICON]));

/// What the console remembers, in memory alone.
pub(crate) struct Console {
    sessions: Sessions<Visitor>,
    entropy: Arc<dyn Entropy>,
}

impl Console {
    /// Nobody is logged in.
    pub(crate) fn new(entropy: Arc<dyn Entropy>) -> Self {
        Self { sessions: Sessions::lasting(SESSION), entropy }
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
    let get = |path, route| Endpoint { method: Method::GET, path, rule: Rule::look(), route };
    let line = |method, path, rule, route| Endpoint { method, path, rule, route };
    let post = |path, rule, route| line(Method::POST, path, rule, route);
    let operates = |path, act, route| post(path, Rule::act_of(Scope::Operate, act), route);
    let administers = |path, act, route| post(path, Rule::act_of(Scope::Admin, act), route);
    let looks_through = |method, path, route| line(method, path, Rule::without_act(Scope::Admin), route);
    let entry_act = "/console/outbox/{destination}/{seq}/{act}";
    vec![
        get("/console", actix::get().to(overview::show)),
        get("/console/login", actix::get().to(login::show)),
        post("/console/login", Rule::look(), actix::post().to(login::log_in)),
        post("/console/logout", Rule::look(), actix::post().to(login::log_out)),
        get("/console/outbox", actix::get().to(outbox::list)),
        get("/console/ages", actix::get().to(outbox::ages)),
        get("/console/outbox/{destination}/{seq}", actix::get().to(entry::show)),
        line(Method::GET, entry_act, Rule::without_act(Scope::Operate), actix::get().to(entry::confirm)),
        operates(entry_act, "entry", actix::post().to(entry::act)),
        get("/console/destinations", actix::get().to(destinations::list)),
        get("/console/destinations/{destination}", actix::get().to(destinations::show)),
        operates("/console/destinations/{destination}/signal", "signal", actix::post().to(destinations::signal)),
        operates("/console/destinations/{destination}/pause", "pause", actix::post().to(destinations::pause)),
        operates("/console/destinations/{destination}/resume", "resume", actix::post().to(destinations::resume)),
        get("/console/destinations/{destination}/edit", actix::get().to(agreement::edit)),
        looks_through(
            Method::POST,
            "/console/destinations/{destination}/edit",
            actix::post().to(agreement::edit_again),
        ),
        looks_through(
            Method::POST,
            "/console/destinations/{destination}/preview",
            actix::post().to(agreement::preview),
        ),
        administers("/console/destinations/{destination}/save", "destination.put", actix::post().to(agreement::save)),
        looks_through(
            Method::GET,
            "/console/destinations/{destination}/remove",
            actix::get().to(agreement::confirm_removal),
        ),
        administers(
            "/console/destinations/{destination}/remove",
            "destination.remove",
            actix::post().to(agreement::remove),
        ),
        looks_through(
            Method::GET,
            "/console/destinations/{destination}/windows",
            actix::get().to(agreement::confirm_reset),
        ),
        administers("/console/destinations/{destination}/windows", "windows.reset", actix::post().to(agreement::reset)),
        looks_through(Method::GET, agreement::ADD, actix::get().to(agreement::add)),
        looks_through(Method::POST, agreement::ADD, actix::post().to(agreement::add_preview)),
        get("/console/ledger", actix::get().to(records::ledger)),
        get("/console/quarantine", actix::get().to(records::quarantine)),
        get("/console/audit", actix::get().to(records::audit)),
        get("/console/devices", actix::get().to(parts::devices)),
        get("/console/actors", actix::get().to(parts::actors)),
        get("/console/tor", actix::get().to(parts::tor)),
        get("/console/matrix", actix::get().to(parts::matrix)),
        get("/console/privacy", actix::get().to(parts::privacy)),
        get("/console/assets/style.css", actix::get().to(|| asset("text/css; charset=utf-8", STYLE.as_bytes()))),
        get("/console/assets/icon.png", actix::get().to(|| asset("image/png", web::ICON))),
    ]
}

/// A refusal, as a page.
pub(crate) fn refused(problem: HttpProblem) -> HttpResponse {
    frame::Refused(problem).error_response()
}

/// The answer at an address that there isn't.
pub(crate) async fn nowhere(request: HttpRequest) -> HttpResponse {
    let problem = HttpProblem::not_found("there is no such address");
    if is_console(request.path()) { refused(problem) } else { problem.error_response() }
}

async fn asset(content_type: &'static str, bytes: &'static [u8]) -> HttpResponse {
    let mut answer = frame::browser(HttpResponse::Ok());
    answer.insert_header((header::CACHE_CONTROL, "private, max-age=604800, immutable"));
    answer.insert_header((header::CONTENT_TYPE, content_type)).body(bytes)
}
