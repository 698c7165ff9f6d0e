//! Refusals as `application/problem+json` (RFC 9457), for the admin endpoint and the device endpoint alike.
//!
//! The `type` is a URN whose last part names the kind of problem; `docs/admin-api.md` lists them. A detail says what to do. It
//! never quotes a body, a token or an onion address.

use crate::cli::config_errors::Report;
use actix_web::{
    HttpResponse, ResponseError,
    http::{StatusCode, header},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use tidegate_actors::ports::destination_check::PATH;
use tidegate_actors::ports::ledger_archive::ArchiveError;
use tidegate_schemas::{
    audit::Scope,
    condition::{quoted, version_tag},
    config::{Problem, Problems},
    messages::{
        outbox::{OperateError, SignalError, StoreError},
        registry::ChangeError,
    },
    signal::{SIGNAL_BYTES_MAX, SignalBodyError},
};

/// What `type` begins with.
pub const TYPE_PREFIX: &str = "urn:tidegate:problem:";
/// What a client is asked to wait while lines restart, in seconds.
pub const RETRY_AFTER_S: u32 = 2;

/// One value of a body that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ValueError {
    /// JSON pointer (RFC 6901) into the body.
    pub pointer: String,
    /// What is wrong with it, and what would be right.
    pub detail: String,
    /// Where it stands, for a value of a config file: `FILE:LINE:COLUMN`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
}

/// What few refusals have, in a box: the version that is there and its entity tag (`ETag`), where a request was made of something else; the
/// methods that an address knows (`Allow`, RFC 9110 section 10.2.1).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Option<u64>", into = "Option<u64>")]
pub struct Rare(Option<Box<RareParts>>);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct RareParts {
    version: Option<u64>,
    etag: Option<String>,
    allow: Option<String>,
}

impl Rare {
    fn of(parts: RareParts) -> Self {
        Self(Some(Box::new(parts)))
    }
    fn version(&self) -> Option<u64> {
        self.0.as_ref()?.version
    }
    fn has_no_version(&self) -> bool {
        self.version().is_none()
    }
}
impl From<Option<u64>> for Rare {
    fn from(version: Option<u64>) -> Self {
        version.map_or_else(Self::default, |_| Self::of(RareParts { version, ..RareParts::default() }))
    }
}
impl From<Rare> for Option<u64> {
    fn from(rare: Rare) -> Self {
        rare.version()
    }
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HttpProblem {
    /// Kind, as a URN.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// This case in words, and what to do.
    pub detail: String,
    /// The values that are wrong, where the body is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ValueError>,
    /// The version that is there, where the request was made of another.
    #[serde(default, skip_serializing_if = "Rare::has_no_version")]
    #[schemars(with = "Option<u64>")]
    pub version: Rare,
    /// Seconds after which another try makes sense (`Retry-After`).
    #[serde(skip)]
    pub retry_after_s: Option<u32>,
    /// How to authenticate (`WWW-Authenticate`).
    #[serde(skip)]
    pub challenge: Option<&'static str>,
}

impl HttpProblem {
    /// A problem of a kind (`not-found`), with its title and this case's detail.
    pub fn new(status: StatusCode, kind: &str, title: &str, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("{TYPE_PREFIX}{kind}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            errors: Vec::new(),
            version: Rare::default(),
            retry_after_s: None,
            challenge: None,
        }
    }

    /// The body or a parameter can't be read.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", "The request can't be read", detail)
    }
    /// One value of the body is wrong.
    pub fn bad_value(pointer: &str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        let mut problem = Self::bad_request(detail.clone());
        problem.errors.push(ValueError { pointer: pointer.to_owned(), detail, place: None });
        problem
    }
    /// There is no such thing.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "There is no such thing", detail)
    }
    /// Not for this one.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", "This is not allowed", detail)
    }
    /// Not with this token.
    #[must_use]
    pub fn beyond_scope(has: Scope, wanted: Scope) -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "scope",
            "This token does not allow it",
            format!("this needs a token of scope {wanted}; this one has {has}"),
        )
    }
    /// An act that can't be put on record.
    #[must_use]
    pub fn unrecorded(error: &ArchiveError) -> Self {
        let detail = format!("what can't be put on record is not done; the audit log could not be written: {error}");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "audit", "It was not done", detail).after(RETRY_AFTER_S)
    }
    /// Who are you?
    pub fn unauthorized(challenge: &'static str, detail: impl Into<String>) -> Self {
        let mut problem = Self::new(StatusCode::UNAUTHORIZED, "credentials", "Valid credentials are needed", detail);
        problem.challenge = Some(challenge);
        problem
    }
    /// The resource doesn't know this method; `allow` has those that it knows.
    pub fn method_not_allowed(allow: impl Into<String>) -> Self {
        let allow = allow.into();
        let detail = format!("it knows {allow}");
        let mut problem =
            Self::new(StatusCode::METHOD_NOT_ALLOWED, "method", "This address does not know this method", detail);
        problem.version = Rare::of(RareParts { allow: Some(allow), ..RareParts::default() });
        problem
    }
    /// The body is too large.
    pub fn too_large(bytes_max: usize) -> Self {
        let detail = format!("the body may have at most {bytes_max} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The body is too large", detail)
    }
    /// It is not what the request was made of (RFC 9110 section 15.5.13); `tag` is that of what is there.
    pub fn changed(detail: impl Into<String>, version: Option<u64>, tag: Option<&str>) -> Self {
        let title = "It was changed meanwhile";
        let mut problem = Self::new(StatusCode::PRECONDITION_FAILED, "changed", title, detail);
        problem.version = Rare::of(RareParts { version, etag: tag.map(quoted), allow: None });
        problem
    }
    /// Come back later.
    pub fn too_many(retry_after_s: u32) -> Self {
        let detail = format!("try again in {retry_after_s} s");
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too-many", "Too many requests", detail).after(retry_after_s)
    }
    /// The lines that this needs are being restarted.
    #[must_use]
    pub fn restarting() -> Self {
        Self::unavailable("a part of the gateway that this needs is starting again: try again shortly")
    }
    /// An actor didn't answer in time; what was asked may have been done all the same.
    #[must_use]
    pub fn no_answer() -> Self {
        Self::unavailable("the gateway did not answer in time; what was asked may have been done all the same")
    }
    /// Not now.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "The gateway can't do this now", detail)
            .after(RETRY_AFTER_S)
    }
    /// Values that are well-formed and can't be kept; `body_root` is the part of their paths that stands for the body itself.
    #[must_use]
    pub fn values(problems: &Problems, body_root: &str) -> Self {
        let mut problem = Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "values",
            "Values of the body can't be kept",
            "see errors for each value; nothing changed",
        );
        problem.errors = problems
            .iter()
            .map(|p| ValueError { pointer: pointer(&p.path, body_root), detail: detail(p), place: None })
            .collect();
        problem
    }
    /// The config files are wrong.
    #[must_use]
    pub fn config(report: &Report) -> Self {
        let mut problem = Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "config",
            "The config can't be used",
            "see errors for each value; nothing changed",
        );
        let errors = report.problems().iter().map(|located| ValueError {
            pointer: pointer(&located.problem.path, ""),
            detail: detail(&located.problem),
            place: Some(report.place(located)),
        });
        problem.errors = errors.collect();
        problem
    }
    /// It is as it is, and that stands in the way.
    fn conflict(kind: &str, title: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, kind, title, detail)
    }

    fn after(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }
}

/// What is wrong, and what would be right.
fn detail(problem: &Problem) -> String {
    let hint = if problem.hint.is_empty() { String::new() } else { format!(": {}", problem.hint) };
    format!("{}{hint}", problem.message)
}

/// `destination.a.windows.allow[0].cron` as a JSON pointer below the part named `body_root`: `/allow/0/cron`.
fn pointer(path: &str, body_root: &str) -> String {
    let mut parts: Vec<&str> = path.split(['.', '[', ']']).filter(|part| !part.is_empty()).collect();
    if let Some(root) = parts.iter().position(|part| *part == body_root) {
        parts.drain(..=root);
    }
    parts
        .iter()
        .fold(String::new(), |pointer, part| format!("{pointer}/{}", part.replace('~', "~0").replace('/', "~1")))
}

impl fmt::Display for HttpProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.title, self.detail)
    }
}
impl std::error::Error for HttpProblem {}

impl ResponseError for HttpProblem {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status_code());
        if let Some(seconds) = self.retry_after_s {
            response.insert_header((header::RETRY_AFTER, seconds.to_string()));
        }
        if let Some(challenge) = self.challenge {
            response.insert_header((header::WWW_AUTHENTICATE, challenge));
        }
        let RareParts { etag, allow, .. } = self.version.0.as_deref().cloned().unwrap_or_default();
        if let Some(allow) = allow {
            response.insert_header((header::ALLOW, allow));
        }
        if let Some(etag) = etag {
            response.insert_header((header::ETAG, etag));
        }
        // A refusal may come before the body was read; the connection can't be used for a second request then.
        response.force_close();
        let body = serde_json::to_string(self).unwrap_or_default();
        response.insert_header((header::CONTENT_TYPE, "application/problem+json")).body(body)
    }
}

impl From<StoreError> for HttpProblem {
    fn from(error: StoreError) -> Self {
        if error == StoreError::Full {
            let detail = "the disk of the gateway is full; free space on it, then try again";
            return Self::new(StatusCode::INSUFFICIENT_STORAGE, "disk-full", "The disk is full", detail)
                .after(RETRY_AFTER_S);
        }
        if let StoreError::Refused(why) = error {
            return Self::new(StatusCode::CONFLICT, "outbox", "The outbox can't do this as things are", why);
        }
        // The words of the store stay in the log: they may name paths.
        tracing::warn!(%error, "a request met a failure of the store");
        Self::unavailable("the store of the gateway failed; see its log and `tidegate status`")
    }
}

impl From<OperateError> for HttpProblem {
    fn from(error: OperateError) -> Self {
        match error {
            OperateError::Unknown(_) => Self::not_found(error.to_string()),
            OperateError::Illegal(illegal) => {
                Self::new(StatusCode::CONFLICT, "state", "The entry's state does not allow this", illegal.to_string())
            }
            OperateError::Store(store) => store.into(),
        }
    }
}

impl From<SignalBodyError> for HttpProblem {
    fn from(error: SignalBodyError) -> Self {
        match error {
            SignalBodyError::TooLong => Self::too_large(SIGNAL_BYTES_MAX),
            SignalBodyError::Form => Self::bad_request(error.to_string()),
            SignalBodyError::ClockUntrusted => {
                Self::new(StatusCode::CONFLICT, "clock", "The gateway's clock can't be trusted", error.to_string())
            }
            SignalBodyError::Length { .. } | SignalBodyError::Bounds { .. } | SignalBodyError::Past => {
                let mut problem = Self::new(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "values",
                    "Values of the body can't be kept",
                    "see errors for each value; nothing changed",
                );
                problem.errors = vec![ValueError { pointer: error.pointer(), detail: error.to_string(), place: None }];
                problem
            }
        }
    }
}

impl From<SignalError> for HttpProblem {
    fn from(error: SignalError) -> Self {
        match error {
            SignalError::NotAccepted | SignalError::Repeated => Self::new(
                StatusCode::CONFLICT,
                "not-agreed",
                "The agreement does not allow this",
                format!("{error}: signal = {{ accept = true }} in the destination's agreement lets it"),
            ),
            SignalError::TooMany { wait_s } => {
                let detail = format!("{error}; try again in {wait_s} s");
                Self::new(StatusCode::TOO_MANY_REQUESTS, "too-many", "Too many requests", detail).after(wait_s)
            }
            SignalError::Store(store) => store.into(),
        }
    }
}

impl From<ChangeError> for HttpProblem {
    fn from(error: ChangeError) -> Self {
        let detail = error.to_string();
        match error {
            ChangeError::Unknown(_) => Self::not_found(detail),
            ChangeError::Exists(_) => Self::conflict("exists", "It is there already", detail),
            ChangeError::Changed { version, .. } => {
                let tag = version.map(version_tag);
                let detail = format!("{detail}; look at it again, then change that; nothing changed");
                Self::changed(detail, version, tag.as_deref())
            }
            ChangeError::ConfigChanged { tag } => {
                let detail = format!("{detail}; ask for a dry run again; nothing changed");
                Self::changed(detail, None, Some(&tag))
            }
            ChangeError::Declared { .. } => Self::conflict("declared", "It is declared in the config", detail),
            ChangeError::Routed { .. } => Self::conflict("routed", "A route leads there", detail),
            ChangeError::Values(problems) => Self::values(&problems, PATH),
            ChangeError::Store(reason) => {
                tracing::warn!(%reason, "a change of a destination could not be stored");
                Self::unavailable("the change could not be stored, nothing changed; see the gateway's log")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_the_config_becomes_a_pointer_into_the_body() {
        assert_eq!(pointer("destination.a.windows.allow[0].cron", "windows"), "/allow/0/cron");
        assert_eq!(pointer("windows.timezone", "windows"), "/timezone");
        assert_eq!(pointer("destination.a.windows", "windows"), "");
        assert_eq!(pointer("allow[2]", "windows"), "/allow/2");
    }

    #[test]
    fn each_wrong_value_has_its_pointer_and_its_hint() {
        let problem = HttpProblem::values(&Problem::new("x.windows.timezone", "unknown", "use UTC").into(), "windows");
        assert_eq!(
            problem.errors,
            [ValueError { pointer: "/timezone".into(), detail: "unknown: use UTC".into(), place: None }]
        );
        assert_eq!(problem.status, 422);
    }

    #[test]
    fn a_failure_of_the_store_does_not_show_its_words() {
        let problem = HttpProblem::from(StoreError::Io("/secret/path: denied".into()));
        assert!(!serde_json::to_string(&problem).unwrap_or_default().contains("secret"));
        assert_eq!((problem.status, problem.retry_after_s), (503, Some(RETRY_AFTER_S)));
    }
}
