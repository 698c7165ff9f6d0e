//! In and out of the console: a token of the admin endpoint in a form; a cookie that neither scripts nor other sites get, for twelve hours
//! at most.
//!
//! Wrong tokens count with those of the API: after a few of them in a minute the answer is 429, and the right one passes all the same.

use super::{
    LOGIN, ROOT,
    frame::{self, Frame, Refused},
    guard::{COOKIE, Form, Visitor, cookie},
};
use crate::{
    admin::{App, guard, problem::HttpProblem, token::Who},
    web::{
        self, form,
        sessions::{self, SESSION},
    },
};
use actix_web::{
    HttpRequest, HttpResponse, ResponseError as _,
    cookie::{Cookie, SameSite, time},
    http::StatusCode,
    web::Data,
};
use askama::Template;

#[derive(Template)]
#[template(path = "templates/login.html")]
struct LoginPage {
    frame: Frame,
    next: String,
    wrong: Option<&'static str>,
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
pub(super) async fn show(request: HttpRequest, visitor: Option<Visitor>) -> HttpResponse {
    let next = next(form::value(request.query_string(), "next"));
    if visitor.is_some() { frame::see_other(&next) } else { page(StatusCode::OK, &next, None) }
}

/// `POST /console/login`
pub(super) async fn log_in(app: Data<App>, sent: Form) -> HttpResponse {
    let next = next(sent.value("next"));
    match guard::verify(&app, &sent.value("token").unwrap_or_default()) {
        Ok(who) => enter(&app, who, &next),
        Err(problem) if problem.status_code() == StatusCode::TOO_MANY_REQUESTS => {
            page(StatusCode::TOO_MANY_REQUESTS, &next, Some("Too many wrong tokens. Try again in a minute."))
        }
        Err(_) => page(StatusCode::UNAUTHORIZED, &next, Some("That is no token of this gateway.")),
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
