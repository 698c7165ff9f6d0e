//! What a route asks for: a scope; and, where it changes something, the act that is put on record.

use crate::audit::Act;
use actix_web::{HttpRequest, http::Method};
use std::collections::HashMap;
use tidegate_schemas::audit::Scope;

/// The rule of each route, by method and pattern.
pub(super) type Rules = HashMap<(Method, &'static str), Rule>;

/// The rule of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rule {
    /// What a token has to allow at least.
    pub scope: Scope,
    act: Option<&'static str>,
    /// Whether `dry_run=true` makes it no act. The handler must take that parameter.
    knows_dry_run: bool,
}

impl Rule {
    /// Looking.
    pub const fn look() -> Self {
        Self::without_act(Scope::Read)
    }
    /// Work that changes nothing.
    pub const fn without_act(scope: Scope) -> Self {
        Self { scope, act: None, knows_dry_run: false }
    }
    /// An act.
    pub const fn act_of(scope: Scope, act: &'static str) -> Self {
        Self { scope, act: Some(act), knows_dry_run: false }
    }
    /// An act that can be tried out with `dry_run=true`.
    pub const fn change(scope: Scope, act: &'static str) -> Self {
        Self { scope, act: Some(act), knows_dry_run: true }
    }

    /// The act that a request is. What it is done to are the named parts of the path; the query is how.
    pub fn act(&self, who: &str, pattern: &str, request: &HttpRequest) -> Option<Act> {
        let (act, query) = (self.act?, request.query_string());
        if self.knows_dry_run && query.split('&').any(|pair| pair == "dry_run=true") {
            return None;
        }
        let mut act = act.to_owned();
        let mut target = Vec::new();
        for (name, part) in pattern.split('/').zip(request.path().split('/')) {
            match name {
                "{act}" => act = format!("{act}.{part}"),
                _ if name.starts_with('{') => target.push(part),
                _ => {}
            }
        }
        let target = Some(target.join("/")).filter(|target| !target.is_empty());
        Some(Act { who: who.to_owned(), act, target, detail: Some(query.to_owned()).filter(|query| !query.is_empty()) })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use actix_web::test::TestRequest;

    fn act(rule: Rule, pattern: &str, uri: &str) -> Option<(String, Option<String>, Option<String>)> {
        let request = TestRequest::with_uri(uri).to_http_request();
        rule.act("ops", pattern, &request).map(|act| (act.act, act.target, act.detail))
    }

    #[test]
    fn an_act_says_what_is_done_to_what_and_how() {
        let entry = Rule::act_of(Scope::Operate, "entry");
        let pattern = "/api/v1/outbox/{destination}/{seq}/{act}";
        assert_eq!(
            act(entry, pattern, "/api/v1/outbox/ward/42/purge"),
            Some(("entry.purge".into(), Some("ward/42".into()), None))
        );
        let remove = Rule::change(Scope::Admin, "destination.remove");
        let pattern = "/api/v1/destinations/{destination}";
        let (_, target, detail) = act(remove, pattern, "/api/v1/destinations/ward?queued=purge").unwrap();
        assert_eq!((target.as_deref(), detail.as_deref()), (Some("ward"), Some("queued=purge")));
    }

    #[test]
    fn a_dry_run_is_no_act_where_it_is_known_alone() {
        let (change, always) = (Rule::change(Scope::Admin, "reload"), Rule::act_of(Scope::Operate, "backup"));
        assert_eq!(act(change, "/api/v1/reload", "/api/v1/reload?dry_run=true"), None);
        assert!(act(change, "/api/v1/reload", "/api/v1/reload?dry_run=false").is_some());
        assert!(act(always, "/api/v1/outbox/backup", "/api/v1/outbox/backup?dry_run=true").is_some());
        assert_eq!(act(Rule::look(), "/api/v1/status", "/api/v1/status"), None);
    }
}
