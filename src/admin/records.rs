//! Lists that are numbered from the newest: what ended lately, and what never became an entry.

use crate::admin::{
    App,
    access::ask,
    pages::{self, Newest, Page},
    problem::HttpProblem,
};
use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Query},
};
use tidegate_schemas::messages::outbox::{ListLedger, ListQuarantine};

/// A page of the ledger.
pub(super) async fn ledger(
    app: Data<App>,
    newest: Query<Newest>,
    request: HttpRequest,
) -> Result<HttpResponse, HttpProblem> {
    let limit = pages::limit(newest.limit)?;
    let message = ListLedger { before: newest.cursor, limit };
    let records = ask(app.reach.look().access.ledger.as_ref(), message).await??;
    Ok(Page::of_newest(records, limit, |record| record.no).respond(request.query_string()))
}

/// A page of quarantine records.
pub(super) async fn quarantine(
    app: Data<App>,
    newest: Query<Newest>,
    request: HttpRequest,
) -> Result<HttpResponse, HttpProblem> {
    let limit = pages::limit(newest.limit)?;
    let message = ListQuarantine { before: newest.cursor, limit };
    let records = ask(app.reach.look().access.quarantine.as_ref(), message).await??;
    Ok(Page::of_newest(records, limit, |record| record.no).respond(request.query_string()))
}
