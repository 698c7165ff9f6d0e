//! Who may speak to the admin endpoint. One function around the whole application, so that no route can be without it.
//!
//! Against malware on the LAN and web pages in an operator's browser (DNS rebinding, cross-site requests), in this order:
//! 1. `Host` must be one that we are known by: 403. A page that rebinds its own name to us is refused here.
//! 2. An `Origin` other than our own, or `Sec-Fetch-Site` other than `none` or `same-origin`: 403.
//! 3. `/livez` and `/readyz` end here; they say nothing but a state. Everything else needs a bearer token: 401. There is no
//!    cookie, so a browser never sends a credential by itself. More than [`WRONG_TOKENS_PER_MINUTE_MAX`] wrong tokens: 429.
//! 4. The token's scope must be enough for the route: 403. From here on it is known who it is.
//! 5. A body must be declared as JSON: 415. No CORS header is ever sent.
//!
//! An act is put on record before it is done, and how it ended before that is answered ([`crate::audit`]); one that was refused for its
//! scope, too.
//!
//! After 2. the pages of the console go their own way (`console::guard`): a session's cookie and forms, never a bearer token or JSON; and
//! from 4. on the same again.

use crate::{
    admin::{App, problem::HttpProblem, token::Who},
    audit::Act,
    console,
};
use actix_web::{
    Error, HttpMessage as _, HttpRequest, ResponseError as _,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::{Method, StatusCode, header},
    middleware::Next,
    web,
};
use governor::{
    Quota, RateLimiter,
    clock::DefaultClock,
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed},
};
use std::{collections::BTreeSet, net::SocketAddr, num::NonZeroU32};

/// Wrong tokens that are answered with 401 in a minute; later ones get 429. The right token always passes.
pub const WRONG_TOKENS_PER_MINUTE_MAX: NonZeroU32 = NonZeroU32::new(5).expect("five is not zero");
/// What is asked of a client without the token.
const CHALLENGE: &str = "Bearer realm=\"tidegate admin\"";

/// Counts wrong tokens.
pub(crate) type WrongTokens = RateLimiter<NotKeyed, InMemoryState, DefaultClock, NoOpMiddleware>;

/// A fresh count of wrong tokens.
pub(super) fn wrong_tokens() -> WrongTokens {
    RateLimiter::direct(Quota::per_minute(WRONG_TOKENS_PER_MINUTE_MAX))
}

/// The values of `Host` that are ours: the address, `127.0.0.1` and `localhost`, with the port, and those of the config (as they
/// are written, and with the port).
pub(super) fn hosts(address: SocketAddr, more: &[String]) -> BTreeSet<String> {
    let port = address.port();
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned(), "[::1]".to_owned()];
    let mut hosts: BTreeSet<String> = names.iter().map(|name| format!("{name}:{port}")).collect();
    if !address.ip().is_unspecified() {
        hosts.insert(address.to_string());
    }
    for name in more {
        hosts.insert(name.to_ascii_lowercase());
        hosts.insert(format!("{}:{port}", name.to_ascii_lowercase()));
    }
    hosts
}

/// An act that is to be put on record, and where.
pub(crate) type Recorded = (web::Data<App>, Act);

/// The guard.
pub(super) async fn guard(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let is_console = console::is_console(request.path());
    let judged = match from_here(request.request()) {
        Ok(app) if is_console => console::guard::admit(&app, &mut request).await,
        Ok(app) => judge(&app, request.request()).map_err(|(act, problem)| (act, problem.error_response())),
        Err(problem) => Err((None, problem.error_response())),
    };
    let refused = match judged {
        Ok(None) => return next.call(request).await.map(ServiceResponse::map_into_boxed_body),
        Ok(Some((app, act))) => match app.audit.begin(act.clone()).await {
            Ok(of) => {
                let answered = next.call(request).await?;
                app.audit.end(of, Act { target: None, detail: None, ..act }, answered.status().as_u16()).await;
                return Ok(answered.map_into_boxed_body());
            }
            Err(error) if is_console => console::refused(HttpProblem::unrecorded(&error)),
            Err(error) => HttpProblem::unrecorded(&error).error_response(),
        },
        Err((Some((app, act)), refused)) => {
            if let Ok(of) = app.audit.begin(act.clone()).await {
                app.audit.end(of, Act { target: None, detail: None, ..act }, refused.status().as_u16()).await;
            }
            refused
        }
        Err((None, refused)) => refused,
    };
    let (request, _body) = request.into_parts();
    tracing::debug!(status = refused.status().as_u16(), path = request.path(), "an admin request was refused");
    Ok(ServiceResponse::new(request, refused))
}

/// Steps 1 and 2.
fn from_here(request: &HttpRequest) -> Result<web::Data<App>, HttpProblem> {
    let app = request.app_data::<web::Data<App>>();
    let app = app.ok_or_else(|| HttpProblem::unavailable("the admin endpoint is not set up"))?;
    same_host(request, &app.hosts)?;
    same_site(request, &app.hosts)?;
    Ok(app.clone())
}

/// Whether it may go on; with it, or with what keeps it out, the act that it is.
fn judge(app: &web::Data<App>, request: &HttpRequest) -> Result<Option<Recorded>, (Option<Recorded>, HttpProblem)> {
    let mut recorded = None;
    if !super::is_public(request.path()) {
        let who = token(request, app).map_err(|problem| (None, problem))?;
        recorded = permit(app, &who, request)?;
    }
    json_only(request).map_err(|problem| (None, problem))?;
    Ok(recorded)
}

/// Whether somebody's scope is enough for a route; the act that it is.
pub(crate) fn permit(
    app: &web::Data<App>,
    who: &Who,
    request: &HttpRequest,
) -> Result<Option<Recorded>, (Option<Recorded>, HttpProblem)> {
    let pattern = request.match_pattern().unwrap_or_default();
    let Some(rule) = app.rules.get(&(request.method().clone(), pattern.as_str())) else {
        return Ok(None);
    };
    let recorded = rule.act(&who.name, &pattern, request).map(|act| (app.clone(), act));
    if who.scope < rule.scope {
        return Err((recorded, HttpProblem::beyond_scope(who.scope, rule.scope)));
    }
    Ok(recorded)
}

/// Whose token this is, in a header of the API or in the console's form. Wrong ones are counted together.
pub(crate) fn verify(app: &App, presented: &str) -> Result<Who, HttpProblem> {
    match app.tokens.who(presented.trim()) {
        Some(who) => Ok(who),
        None if app.wrong_tokens.check().is_err() => Err(HttpProblem::too_many(60)),
        None => Err(no_token()),
    }
}

/// Whether the token that somebody logged in with is still there, and allows as much.
pub(crate) fn stands(app: &App, who: &Who) -> bool {
    app.tokens.stands(who)
}

fn no_token() -> HttpProblem {
    HttpProblem::unauthorized(
        CHALLENGE,
        "send the token of admin.token in the gateway's state folder: Authorization: Bearer TOKEN",
    )
}

fn one<'r>(request: &'r HttpRequest, name: &header::HeaderName) -> Option<&'r str> {
    let mut values = request.headers().get_all(name);
    let first = values.next()?.to_str().ok();
    if values.next().is_some() { None } else { first }
}

fn same_host(request: &HttpRequest, hosts: &BTreeSet<String>) -> Result<(), HttpProblem> {
    let host = one(request, &header::HOST).map(str::to_ascii_lowercase);
    // A request line with a whole URL must not name another host than the header does.
    let named = request.uri().authority().is_none_or(|authority| Some(authority.as_str().to_ascii_lowercase()) == host);
    if named && host.is_some_and(|host| hosts.contains(&host)) {
        return Ok(());
    }
    Err(HttpProblem::forbidden(
        "this name of the gateway is not known (Host); add it to hosts in the [admin] section of the config",
    ))
}

fn same_site(request: &HttpRequest, hosts: &BTreeSet<String>) -> Result<(), HttpProblem> {
    let headers = request.headers();
    let origin_is_ours = !headers.contains_key(header::ORIGIN)
        || one(request, &header::ORIGIN)
            .and_then(|origin| origin.to_ascii_lowercase().strip_prefix("http://").map(|host| hosts.contains(host)))
            .unwrap_or(false);
    let site = header::HeaderName::from_static("sec-fetch-site");
    let site_is_ours = !headers.contains_key(&site) || matches!(one(request, &site), Some("none" | "same-origin"));
    if origin_is_ours && site_is_ours {
        return Ok(());
    }
    Err(HttpProblem::forbidden("requests from other web sites are refused"))
}

/// Whose token a request shows.
pub(super) fn token(request: &HttpRequest, app: &App) -> Result<Who, HttpProblem> {
    let presented = one(request, &header::AUTHORIZATION).and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token)
    });
    presented.map_or_else(|| Err(no_token()), |token| verify(app, token))
}

fn json_only(request: &HttpRequest) -> Result<(), HttpProblem> {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok(());
    }
    let headers = request.headers();
    let length = headers.get(header::CONTENT_LENGTH);
    let body =
        headers.contains_key(header::TRANSFER_ENCODING) || length.is_some_and(|length| length.as_bytes() != b"0");
    let declared = headers.contains_key(header::CONTENT_TYPE);
    if !declared && !body || declared && request.content_type().eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(HttpProblem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "json-only",
        "Only JSON is taken here",
        "send Content-Type: application/json",
    ))
}
