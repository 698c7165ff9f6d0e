//! Who may see the console's pages, and whose forms are taken. Called for every request below `/console`, after `Host` and `Origin`
//! were looked at, so that no route can be without it.
//!
//! 1. Without an open session a page leads to the log-in, and a form is refused: 403. A bearer token is not looked at.
//! 2. A form must be declared as one (`application/x-www-form-urlencoded`): 415.
//! 3. It must carry the CSRF token of its session: 403. Logging in, which has no session yet, is kept from other sites by `Origin`.
//! 4. The scope of the token with which the session began must be enough, by the rule of the route, as for the API: 403. When that token
//!    is taken away, the session is over.
//!
//! What passes has its [`Visitor`] and its [`Form`] with it; a handler that takes them can't be reached without.

use super::{LOGIN, ROOT, frame, is_public, refused};
use crate::{
    admin::{
        App, body,
        guard::{self, Recorded},
        problem::HttpProblem,
        token::Who,
    },
    web::{self, form},
};
use actix_web::{
    FromRequest, HttpMessage as _, HttpRequest, HttpResponse,
    dev::{Payload, ServiceRequest},
    http::{
        Method, StatusCode,
        header::{self, HeaderMap},
    },
    web::Data,
};
use std::future::{Ready, ready};
use subtle::ConstantTimeEq as _;
use tidegate_schemas::audit::Scope;

/// The name of the session's cookie.
pub(super) const COOKIE: &str = "tidegate-console";
/// Largest form, in bytes: an agreement with as many windows as one may have.
const FORM_BYTES_MAX: usize = 64 * 1024;

/// Who is logged in.
#[derive(Debug, Clone)]
pub(crate) struct Visitor {
    /// Who it is.
    pub(super) who: Who,
    /// What each form of the session carries.
    pub(super) csrf: String,
}

impl Visitor {
    /// Whether they may act on entries and destinations.
    pub(super) fn operates(&self) -> bool {
        self.who.scope >= Scope::Operate
    }

    /// Whether they may change agreements.
    pub(super) fn administers(&self) -> bool {
        self.who.scope >= Scope::Admin
    }

    fn sent(&self, form: &Form) -> bool {
        form.value("csrf").is_some_and(|token| token.as_bytes().ct_eq(self.csrf.as_bytes()).into())
    }
}

impl FromRequest for Visitor {
    type Error = frame::Refused;
    type Future = Ready<Result<Self, Self::Error>>;
    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let visitor = request.extensions().get::<Self>().cloned();
        ready(visitor.ok_or_else(|| frame::Refused(HttpProblem::forbidden("log in first"))))
    }
}

/// A form that was sent, as it came.
#[derive(Debug, Clone)]
pub(crate) struct Form(String);

impl Form {
    /// A value; absent where it is empty.
    pub(super) fn value(&self, key: &str) -> Option<String> {
        form::value(&self.0, key).filter(|value| !value.is_empty())
    }
}

impl FromRequest for Form {
    type Error = frame::Refused;
    type Future = Ready<Result<Self, Self::Error>>;
    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let form = request.extensions().get::<Self>().cloned();
        ready(form.ok_or_else(|| frame::Refused(HttpProblem::forbidden("a form of this console is needed"))))
    }
}

/// The token of the session, as the browser sent it.
pub(super) fn cookie(headers: &HeaderMap) -> Option<&str> {
    web::cookie(headers.get_all(header::COOKIE).filter_map(|value| value.to_str().ok()), COOKIE)
}

/// Lets a request pass, with the act that it is; or says what is answered instead, and the act that is refused.
pub(crate) async fn admit(
    app: &Data<App>,
    request: &mut ServiceRequest,
) -> Result<Option<Recorded>, (Option<Recorded>, HttpResponse)> {
    let visitor = enter(app, request).await.map_err(|refused| (None, refused))?;
    let Some(visitor) = visitor else { return Ok(None) };
    let permitted = guard::permit(app, &visitor.who, request.request());
    request.extensions_mut().insert(visitor);
    permitted.map_err(|(act, problem)| (act, refused(problem)))
}

/// Steps 1 to 3. Nobody comes in where no session is needed and none is open.
async fn enter(app: &Data<App>, request: &mut ServiceRequest) -> Result<Option<Visitor>, HttpResponse> {
    let public = is_public(request.path());
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let visitor = cookie(request.headers()).and_then(|token| app.console.sessions.find(token));
    let visitor = visitor.filter(|visitor| guard::stands(app, &visitor.who));
    if visitor.is_none() && !public {
        return Err(if reads {
            frame::see_other(&login_for(request.request()))
        } else {
            refused(HttpProblem::forbidden("log in first: the session is over, or there was none"))
        });
    }
    if !reads {
        if !request.content_type().eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Err(refused(HttpProblem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "forms-only",
                "Only forms are taken here",
                "programs use /api with a token",
            )));
        }
        let payload = request
            .extract::<actix_web::web::Payload>()
            .await
            .map_err(|_| refused(HttpProblem::bad_request("there is no body")))?;
        let bytes = body::read(payload, FORM_BYTES_MAX).await.map_err(refused)?;
        let form = Form(String::from_utf8_lossy(&bytes).into_owned());
        if let Some(visitor) = visitor.as_ref().filter(|_| !public)
            && !visitor.sent(&form)
        {
            return Err(refused(HttpProblem::forbidden("this form is not of your session: load its page again")));
        }
        request.extensions_mut().insert(form);
    }
    Ok(visitor)
}

/// The log-in that leads back to what was asked for.
fn login_for(request: &HttpRequest) -> String {
    let asked = request.uri().path_and_query().map_or(ROOT, |asked| asked.as_str());
    if asked == ROOT { LOGIN.to_owned() } else { format!("{LOGIN}?next={}", form::encode(asked)) }
}
