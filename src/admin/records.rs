//! Lists that are numbered from the newest: what ended lately, what never became an entry, and who did what.

use crate::{
    adapters::chain_files::newest_lines,
    admin::{
        App,
        access::ask,
        pages::{self, Newest, Page},
        problem::HttpProblem,
    },
    device_endpoint::credentials::read_devices,
};
use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Query},
};
use tidegate_schemas::{
    audit::AuditEntry,
    chain::Chain,
    config::devices::{DEVICES_FILE, Devices},
    messages::outbox::{ListLedger, ListQuarantine},
    view::{LedgerView, QuarantineView},
};

/// A page of the ledger.
pub(super) async fn ledger(
    app: Data<App>,
    newest: Query<Newest>,
    request: HttpRequest,
) -> Result<HttpResponse, HttpProblem> {
    Ok(ledger_page(&app, newest.into_inner()).await?.respond(request.query_string()))
}

/// Its records from a number on, newest first.
pub(crate) async fn ledger_page(app: &App, newest: Newest) -> Result<Page<LedgerView>, HttpProblem> {
    let limit = pages::limit(newest.limit)?;
    let message = ListLedger { before: newest.cursor, limit };
    let records = ask(app.reach.look().access.ledger.as_ref(), message).await??;
    Ok(Page::of_newest(records, limit, |record| record.no))
}

/// A page of quarantine records.
pub(super) async fn quarantine(
    app: Data<App>,
    newest: Query<Newest>,
    request: HttpRequest,
) -> Result<HttpResponse, HttpProblem> {
    Ok(quarantine_page(&app, newest.into_inner()).await?.respond(request.query_string()))
}

/// Its records from a number on, newest first.
pub(crate) async fn quarantine_page(app: &App, newest: Newest) -> Result<Page<QuarantineView>, HttpProblem> {
    let limit = pages::limit(newest.limit)?;
    let message = ListQuarantine { before: newest.cursor, limit };
    let records = ask(app.reach.look().access.quarantine.as_ref(), message).await??;
    Ok(Page::of_newest(records, limit, |record| record.no))
}

/// A page of the audit log.
pub(super) async fn audit(
    app: Data<App>,
    newest: Query<Newest>,
    request: HttpRequest,
) -> Result<HttpResponse, HttpProblem> {
    Ok(audit_page(&app, newest.into_inner()).await?.respond(request.query_string()))
}

/// Its lines from a number on, newest first.
pub(crate) async fn audit_page(app: &App, newest: Newest) -> Result<Page<AuditEntry>, HttpProblem> {
    let limit = pages::limit(newest.limit)?;
    let (folder, before) = (app.state_dir.join(Chain::Audit.name()), newest.cursor);
    let read = tokio::task::spawn_blocking(move || newest_lines::<AuditEntry>(&folder, before, limit)).await;
    let lines = read
        .map_err(|_| HttpProblem::unavailable("reading the audit log failed unexpectedly"))?
        .map_err(|error| HttpProblem::unavailable(format!("the audit log could not be read: {error}")))?;
    Ok(Page::of_newest(lines, limit, |line| line.no))
}

/// The devices that have credentials, as their file says now.
pub(crate) async fn devices(app: &App) -> Result<Devices, HttpProblem> {
    let path = app.state_dir.join(DEVICES_FILE);
    let read = tokio::task::spawn_blocking(move || read_devices(&path)).await;
    let read = read.map_err(|_| HttpProblem::unavailable("reading the devices' credentials failed unexpectedly"))?;
    read.map_err(|error| HttpProblem::unavailable(error.to_string()))
}
