//! Pages of lists: how a client asks for one, and how an answer points to the next.

use crate::{admin::problem::HttpProblem, console};
use actix_web::{HttpResponse, http::header, web};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most items of one page.
pub const PAGE_ITEMS_MAX: usize = tidegate_schemas::messages::outbox::PAGE_ENTRIES_MAX;
/// Items of one page when the client doesn't say.
pub const PAGE_ITEMS_DEFAULT: usize = 50;

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "{T}Page")]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// What to send as `cursor` for the next page; absent on the last one.
    pub next: Option<String>,
}

/// What to look at of a list that is numbered from the newest.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Newest {
    /// `next` of the page before.
    pub cursor: Option<u64>,
    /// Most items.
    #[schemars(range(min = 1, max = PAGE_ITEMS_MAX))]
    pub limit: Option<usize>,
}

/// The limit that applies.
///
/// # Errors
/// 400 if the client's is out of range.
pub fn limit(asked: Option<usize>) -> Result<usize, HttpProblem> {
    let limit = asked.unwrap_or(PAGE_ITEMS_DEFAULT);
    if (1..=PAGE_ITEMS_MAX).contains(&limit) {
        Ok(limit)
    } else {
        Err(HttpProblem::bad_request(format!("limit is from 1 to {PAGE_ITEMS_MAX}")))
    }
}

impl<T> Page<T> {
    /// A page of a list that is numbered from the newest: there may be more when it is full.
    pub fn of_newest(items: Vec<T>, limit: usize, number: impl Fn(&T) -> u64) -> Self {
        let last = items.last().map(number).filter(|no| *no > 1 && items.len() == limit);
        Self { next: last.map(|no| no.to_string()), items }
    }
}

impl<T: Serialize> Page<T> {
    /// The answer, with a `Link` to the next page (RFC 8288). `query` is the request's, without a leading question mark.
    #[must_use]
    pub fn respond(&self, query: &str) -> HttpResponse {
        let mut response = HttpResponse::Ok();
        if let Some(next) = &self.next {
            let kept = query.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("cursor="));
            let cursor = format!("cursor={next}");
            let link: Vec<&str> = kept.chain([cursor.as_str()]).collect();
            response.insert_header((header::LINK, format!("<?{}>; rel=\"next\"", link.join("&"))));
        }
        response.json(self)
    }
}

/// Query strings that can't be read are told as problems, the console's as pages.
pub(super) fn query_config() -> web::QueryConfig {
    web::QueryConfig::default().error_handler(|error, request| {
        let problem = HttpProblem::bad_request(format!("the query can't be read: {error}"));
        if console::is_console(request.path()) { console::Refused(problem).into() } else { problem.into() }
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_full_page_points_to_the_next_and_keeps_the_filters() {
        let page = Page::of_newest(vec![9_u64, 8], 2, |no| *no);
        assert_eq!(page.next.as_deref(), Some("8"));
        let link = page.respond("limit=2&cursor=10").headers().get(header::LINK).unwrap().to_str().unwrap().to_owned();
        assert_eq!(link, "<?limit=2&cursor=8>; rel=\"next\"");
        assert_eq!(Page::of_newest(vec![2_u64], 2, |no| *no).next, None);
        assert_eq!(Page::of_newest(vec![2_u64, 1], 2, |no| *no).next, None);
    }

    #[test]
    fn a_page_has_a_limit() {
        assert_eq!(limit(None).unwrap(), PAGE_ITEMS_DEFAULT);
        assert!(limit(Some(0)).is_err() && limit(Some(PAGE_ITEMS_MAX + 1)).is_err());
    }
}
