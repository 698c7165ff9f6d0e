//! What was: the ledger, the quarantine, and who did what; newest first.

use super::{
    frame::{Frame, Refused},
    guard::Visitor,
    sheet::{Cell, Sheet, Table, heads},
};
use crate::{
    admin::{
        App,
        pages::{Newest, Page},
        records,
    },
    cli::output,
};
use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Query},
};
use jiff::Timestamp;
use serde::Deserialize;
use tidegate_schemas::{
    audit::AuditEntry,
    view::{LedgerView, QuarantineView},
};

/// Rows of a page.
const ROWS: usize = 50;

/// From which number on.
#[derive(Debug, Default, Deserialize)]
pub(super) struct From {
    cursor: Option<u64>,
}

impl From {
    fn newest(&self) -> Newest {
        Newest { cursor: self.cursor, limit: Some(ROWS) }
    }

    /// The table of a page of records.
    fn table<T>(&self, place: &str, names: &[&str], page: &Page<T>, row: impl Fn(&T) -> Vec<Cell>) -> Table {
        Table {
            heads: heads(names),
            rows: page.items.iter().map(row).collect(),
            first: self.cursor.is_some().then(|| place.to_owned()),
            next: page.next.as_ref().map(|next| format!("{place}?cursor={next}")),
            ..Table::default()
        }
    }
}

/// What ended.
pub(super) async fn ledger(
    app: Data<App>,
    visitor: Visitor,
    from: Query<From>,
    request: HttpRequest,
) -> Result<HttpResponse, Refused> {
    let (page, now) = (records::ledger_page(&app, from.newest()).await?, app.clock.now());
    let row = |it: &LedgerView| ended(it, now);
    let names = ["Number", "Message", "Device", "End", "When", "Receipt", "Why"];
    let table = from.table("/console/ledger", &names, &page, row);
    let frame = Frame::of(visitor, "/console/ledger", "Ledger").live(&request, now);
    let lead =
        "Every end state of the newest messages. Older ones are in the files of the ledger, which can be verified.";
    Ok(Sheet::new(frame, lead)
        .table(Table { caption: "What ended".into(), empty: "Nothing has ended yet.", ..table })
        .answer())
}

fn ended(it: &LedgerView, now: Timestamp) -> Vec<Cell> {
    let why = it.ended_by.map(|by| by.to_string()).or_else(|| it.reason.map(|reason| reason.to_string()));
    let glass = if it.break_glass { "break-glass" } else { "" };
    vec![
        Cell::of(it.no.to_string()),
        Cell::of(it.entry.to_string()).to(format!("/console/outbox/{}", it.entry)).and(glass),
        Cell::of(it.device.to_string()),
        Cell::of(output::word(&it.state)),
        Cell::past_ms(it.ended_ms, now),
        Cell::of(if it.receipt { "signed" } else { "none" }),
        Cell::of(why.unwrap_or_default()),
    ]
}

/// What never became an entry.
pub(super) async fn quarantine(
    app: Data<App>,
    visitor: Visitor,
    from: Query<From>,
    request: HttpRequest,
) -> Result<HttpResponse, Refused> {
    let (page, now) = (records::quarantine_page(&app, from.newest()).await?, app.clock.now());
    let row = |it: &QuarantineView| {
        vec![
            Cell::of(it.no.to_string()),
            Cell::of(it.reason.to_string()),
            Cell::of(it.topic.clone()),
            Cell::of(it.device.as_ref().map_or_else(|| "not known".to_owned(), ToString::to_string)),
            Cell::count(it.body_bytes),
            Cell::of(output::word(&it.origin)),
            Cell::past_ms(it.at_ms, now),
        ]
    };
    let names = ["Number", "Why", "Topic", "Device", "Bytes", "Came by", "When"];
    let table = from.table("/console/quarantine", &names, &page, row);
    let table = Table { caption: "Never in the outbox".into(), empty: "Everything that came had a route.", ..table };
    let frame = Frame::of(visitor, "/console/quarantine", "Quarantine").live(&request, now);
    Ok(Sheet::new(frame, "Acknowledged, and never an entry. Bodies are not kept.").table(table).answer())
}

/// Who did what.
pub(super) async fn audit(
    app: Data<App>,
    visitor: Visitor,
    from: Query<From>,
    request: HttpRequest,
) -> Result<HttpResponse, Refused> {
    let (page, now) = (records::audit_page(&app, from.newest()).await?, app.clock.now());
    let names = ["Line", "When", "Who", "Act", "On what", "How", "End"];
    let table = from.table("/console/audit", &names, &page, |it| line(it, now));
    let table = Table { caption: "Lines of the audit log".into(), empty: "Nobody has done anything yet.", ..table };
    let frame = Frame::of(visitor, "/console/audit", "Audit log").live(&request, now);
    let lead = "An act has two lines: what was asked for, and how it ended. Each carries the hash of the one before.";
    Ok(Sheet::new(frame, lead).table(table).answer())
}

fn line(it: &AuditEntry, now: Timestamp) -> Vec<Cell> {
    let when = Cell::past_ms(it.at_ms, now);
    let end = match (it.of, it.status) {
        (Some(of), Some(status)) if status < 400 => Cell { tone: "good", ..Cell::of("done") }.and(format!("line {of}")),
        (Some(of), Some(status)) => Cell::bad(format!("not done: {status}")).and(format!("line {of}")),
        _ => Cell::default(),
    };
    vec![
        Cell::of(it.no.to_string()),
        if it.clock_untrusted { when.and("by a clock that was not believed") } else { when },
        Cell::of(it.who.clone()),
        Cell::of(it.act.clone()),
        Cell::of(it.target.clone().unwrap_or_default()),
        Cell::of(it.detail.clone().unwrap_or_default()),
        end,
    ]
}
