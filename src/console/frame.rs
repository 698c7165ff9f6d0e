//! What stands around every page, and how pages, refusals and redirects are answered.

use super::{ASSETS, ROOT, guard::Visitor};
use crate::{
    admin::problem::HttpProblem,
    web::{BROWSER_HEADERS, SCRIPTLESS_POLICY},
};
use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder, ResponseError,
    http::{StatusCode, header},
};
use askama::Template;
use jiff::Timestamp;
use std::fmt;

/// How often a page loads itself again where that is asked for, in seconds.
const REFRESH_S: u32 = 15;
/// The pages that stand in the navigation.
const NAV: [(&str, &str); 11] = [
    ("/console", "Overview"),
    ("/console/outbox", "Outbox"),
    ("/console/destinations", "Destinations"),
    ("/console/ledger", "Ledger"),
    ("/console/quarantine", "Quarantine"),
    ("/console/audit", "Audit"),
    ("/console/devices", "Devices"),
    ("/console/actors", "Parts"),
    ("/console/tor", "Tor"),
    ("/console/matrix", "Matrix"),
    ("/console/privacy", "Privacy"),
];

/// What stands around a page.
pub(super) struct Frame {
    /// Name of the page.
    pub(super) page: String,
    /// Which entry of the navigation it belongs to.
    here: &'static str,
    /// The version of style and icon.
    pub(super) assets: &'static str,
    /// Who is logged in.
    pub(super) visitor: Option<Visitor>,
    /// How it is kept up to date; absent for what doesn't change.
    pub(super) live: Option<Live>,
    /// What was just done.
    pub(super) done: Option<&'static str>,
}

/// How a page is kept up to date.
pub(super) struct Live {
    /// `12:00:00`, UTC.
    pub(super) as_of: String,
    /// The page itself.
    pub(super) again: String,
    /// Whether it loads itself again.
    pub(super) by_itself: bool,
    /// The page with that switched.
    pub(super) switch: String,
    /// Seconds between two loads.
    pub(super) refresh_s: u32,
}

impl Frame {
    /// Around a page for somebody who is not logged in.
    pub(super) fn outside(page: &str) -> Self {
        Self { page: page.to_owned(), here: "", assets: ASSETS.as_str(), visitor: None, live: None, done: None }
    }

    /// Around a page of the navigation.
    pub(super) fn of(visitor: Visitor, here: &'static str, page: impl Into<String>) -> Self {
        Self { page: page.into(), here, visitor: Some(visitor), ..Self::outside("") }
    }

    /// A page that changes: with the moment at which it was made, and ways to make it again.
    pub(super) fn live(mut self, request: &HttpRequest, now: Timestamp) -> Self {
        let (path, query) = (request.path(), request.query_string());
        let others: Vec<&str> =
            query.split('&').filter(|pair| !pair.is_empty() && *pair != "live" && !pair.starts_with("done=")).collect();
        let by_itself = query.split('&').any(|pair| pair == "live");
        let place = |live: bool| {
            let pairs: Vec<&str> = others.iter().copied().chain(live.then_some("live")).collect();
            if pairs.is_empty() { path.to_owned() } else { format!("{path}?{}", pairs.join("&")) }
        };
        self.live = Some(Live {
            as_of: now.strftime("%Y-%m-%d %H:%M:%S").to_string(),
            again: place(by_itself),
            by_itself,
            switch: place(!by_itself),
            refresh_s: REFRESH_S,
        });
        self.done = done(query);
        self
    }

    /// The navigation: address, name, whether it is this page's.
    pub(super) fn nav(&self) -> impl Iterator<Item = (&'static str, &'static str, bool)> {
        NAV.iter().map(|(place, name)| (*place, *name, *place == self.here))
    }

    /// What each form carries.
    pub(super) fn csrf(&self) -> &str {
        self.visitor.as_ref().map_or("", |visitor| &visitor.csrf)
    }

    /// Who is logged in, and with how much.
    pub(super) fn who(&self) -> String {
        self.visitor
            .as_ref()
            .map_or_else(String::new, |visitor| format!("{} ({})", visitor.who.name, visitor.who.scope))
    }
}

/// What a redirect after a form says that was done.
fn done(query: &str) -> Option<&'static str> {
    let what = query.split('&').find_map(|pair| pair.strip_prefix("done="))?;
    Some(match what {
        "hold" => "Held: it is not tried until it is released.",
        "release" => "Released: it waits for its turn again.",
        "retry" => "It is tried again when its turn comes.",
        "purge" => "Purged: it is gone from the outbox.",
        "signal" => "The signal is taken.",
        "pause" => "Paused: nothing is delivered there until it is resumed.",
        "resume" => "It goes on.",
        "saved" => "Saved: it is in force, and on disk.",
        "removed" => "Removed. What waits for it, and was not purged, is delivered when it comes back.",
        _ => return None,
    })
}

/// The start of an answer to a browser, with every door shut. A page's address goes to no other site; within this one it may, as
/// browsers name no origin in a form's request otherwise, and `admin/guard` asks for it.
pub(super) fn browser(mut answer: HttpResponseBuilder) -> HttpResponseBuilder {
    for header in BROWSER_HEADERS {
        answer.insert_header(header);
    }
    answer.insert_header((header::CONTENT_SECURITY_POLICY, SCRIPTLESS_POLICY));
    answer.insert_header((header::REFERRER_POLICY, "same-origin"));
    answer
}

/// A page.
pub(super) fn page(status: StatusCode, template: &impl Template) -> HttpResponse {
    let mut answer = browser(HttpResponse::build(status));
    match template.render() {
        Ok(html) => answer.insert_header((header::CONTENT_TYPE, "text/html; charset=utf-8")).body(html),
        Err(_) => browser(HttpResponse::InternalServerError()).body("the page could not be made"),
    }
}

/// "Go there and look": the answer to a form.
pub(super) fn see_other(place: &str) -> HttpResponse {
    browser(HttpResponse::SeeOther()).insert_header((header::LOCATION, place)).finish()
}

/// A refusal, as a page.
#[derive(Debug)]
pub(crate) struct Refused(pub(crate) HttpProblem);

#[derive(Template)]
#[template(path = "templates/refused.html")]
struct RefusedPage {
    frame: Frame,
    detail: String,
    back: &'static str,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl ResponseError for Refused {
    fn status_code(&self) -> StatusCode {
        self.0.status_code()
    }

    fn error_response(&self) -> HttpResponse {
        let mut detail = self.0.detail.clone();
        for wrong in &self.0.errors {
            detail = format!("{detail} · {}", wrong.detail);
        }
        let template = RefusedPage { frame: Frame::outside(&self.0.title), detail, back: ROOT };
        let mut answer = page(self.status_code(), &template);
        if let Some(seconds) = self.0.retry_after_s {
            answer.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        // As with every refusal: the body may not have been read.
        answer.head_mut().set_connection_type(actix_web::http::ConnectionType::Close);
        answer
    }
}
