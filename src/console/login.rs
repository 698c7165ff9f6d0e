//! In and out of the console: the admin token in a form, or an address that logs in once; a cookie that neither scripts nor other
//! sites get, for twelve hours at most.
//!
//! Wrong tokens count with those of the API: after a few of them in a minute the answer is 429, and the right one passes all the same.

use super::{
    LOGIN, ROOT,
    frame::{self, Frame, Refused},
    guard::{COOKIE, Form, Visitor, cookie},
};
use crate::{
    admin::{App, problem::HttpProblem},
    web::{
        self, form,
        sessions::{self, SESSION},
    },
};
use actix_web::{
    HttpRequest, HttpResponse,
    cookie::{Cookie, SameSite, time},
    http::StatusCode,
    web::{Data, Json},
};
use askama::Template;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How long an address that logs in holds.
pub(super) const LINK: Duration = Duration::from_secs(60);

/// Who somebody is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Who {
    /// The name of the token.
    pub(crate) name: String,
}

/// An address that logs in, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Link {
    /// The path and query, below the address of the admin endpoint.
    pub(crate) path: String,
    /// How long it holds, in seconds.
    pub(crate) expires_in_s: u64,
}

#[derive(Template)]
#[template(path = "templates/login.html")]
struct LoginPage {
    frame: Frame,
    next: String,
    wrong: Option<&'static str>,
}

/// Whose token this is.
fn verify(app: &App, presented: &str) -> Option<Who> {
    app.token.matches(presented.trim()).then(|| Who { name: "admin".to_owned() })
}

fn page(status: StatusCode, next: &str, wrong: Option<&'static str>) -> HttpResponse {
    frame::page(status, &LoginPage { frame: Frame::outside("Log in"), next: next.to_owned(), wrong })
}

/// Where a log-in leads: a page of the console alone.
fn next(asked: Option<String>) -> String {
    let ours = |next: &String| web::is_local(next) && super::is_console(next.split('?').next().unwrap_or_default());
    asked.filter(ours).unwrap_or_else(|| ROOT.to_owned())
}

/// `GET /console/login`
pub(super) async fn show(app: Data<App>, request: HttpRequest, visitor: Option<Visitor>) -> HttpResponse {
    let query = request.query_string();
    let next = next(form::value(query, "next"));
    if let Some(code) = form::value(query, "once") {
        return match app.console.links.close(&code) {
            Some(who) => enter(&app, who, &next),
            None => page(StatusCode::UNAUTHORIZED, &next, Some("That link was used before, or is older than a minute.")),
        };
    }
    if visitor.is_some() { frame::see_other(&next) } else { page(StatusCode::OK, &next, None) }
}

/// `POST /console/login`
pub(super) async fn log_in(app: Data<App>, sent: Form) -> HttpResponse {
    let next = next(sent.value("next"));
    match verify(&app, &sent.value("token").unwrap_or_default()) {
        Some(who) => enter(&app, who, &next),
        None if app.wrong_tokens.check().is_err() => {
            page(StatusCode::TOO_MANY_REQUESTS, &next, Some("Too many wrong tokens. Try again in a minute."))
        }
        None => page(StatusCode::UNAUTHORIZED, &next, Some("That is not the token.")),
    }
}

/// `POST /console/logout`
pub(super) async fn log_out(app: Data<App>, request: HttpRequest) -> HttpResponse {
    if let Some(token) = cookie(request.headers()) {
        app.console.sessions.close(token);
    }
    let mut answer = frame::see_other(LOGIN);
    set_cookie(&mut answer, "", time::Duration::ZERO);
    answer
}

/// `POST /api/v1/console/link`: for whoever has the token and wants a browser without typing it.
pub(crate) async fn link(app: Data<App>) -> Result<Json<Link>, HttpProblem> {
    let code = app.console.links.open(app.console.entropy.as_ref(), Who { name: "admin".to_owned() });
    Ok(Json(Link { path: format!("{LOGIN}?once={code}"), expires_in_s: LINK.as_secs() }))
}

/// Opens a session.
fn enter(app: &App, who: Who, next: &str) -> HttpResponse {
    let entropy = app.console.entropy.as_ref();
    tracing::info!(who = who.name, "somebody logged in to the console");
    let token = app.console.sessions.open(entropy, Visitor { who, csrf: sessions::token(entropy) });
    let mut answer = frame::see_other(next);
    set_cookie(&mut answer, &token, time::Duration::try_from(SESSION).unwrap_or(time::Duration::HOUR));
    answer
}

fn set_cookie(answer: &mut HttpResponse, token: &str, age: time::Duration) {
    let cookie = Cookie::build(COOKIE, token).path(ROOT).http_only(true).same_site(SameSite::Strict).max_age(age);
    if answer.add_cookie(&cookie.finish()).is_err() {
        tracing::warn!("a cookie could not be written");
    }
}

impl From<HttpProblem> for Refused {
    fn from(problem: HttpProblem) -> Self {
        Self(problem)
    }
}
