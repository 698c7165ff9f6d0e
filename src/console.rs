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
//! | `/console/assets/...` | style and icon: no session needed | here |

pub(crate) mod guard;
pub(crate) mod login;

mod frame;
mod overview;
mod sheet;

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
    let post = |path, rule, route| Endpoint { method: Method::POST, path, rule, route };
    vec![
        get("/console", actix::get().to(overview::show)),
        get("/console/login", actix::get().to(login::show)),
        post("/console/login", Rule::look(), actix::post().to(login::log_in)),
        post("/console/logout", Rule::look(), actix::post().to(login::log_out)),
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
