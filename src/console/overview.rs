//! `/console`: is anything wrong, what needs a person, and the figures of the account.

use super::{
    destinations as places,
    frame::{Frame, Refused},
    guard::Visitor,
    sheet::{Cell, Part, Sheet},
};
use crate::{
    admin::{
        App, destinations,
        status::{self, StatusView},
    },
    cli::{output, status as says},
    web::words::{count, counted},
};
use actix_web::{HttpRequest, HttpResponse, web::Data};
use tidegate_schemas::{
    entry::Account,
    view::{DestinationView, Observation, OutboxObservation},
};

/// The page. It is there also when parts of the gateway are not: that is when it is needed.
pub(super) async fn show(app: Data<App>, visitor: Visitor, request: HttpRequest) -> Result<HttpResponse, Refused> {
    let status = status::collect(&app).await;
    let destinations = destinations::all(&app).await;
    let state = if status.ready { "Every part runs." } else { "Not every part runs." };
    let lead =
        format!("{state} Tidegate {}, {}, up {}.", status.version, status.phase, output::duration(status.uptime_s));
    let frame = Frame::of(visitor, "/console", "Overview").live(&request, status.now);
    let mut sheet = Sheet::new(frame, lead);
    let outbox = status.observations().find_map(|seen| match seen {
        Observation::Outbox(outbox) => Some(outbox),
        _ => None,
    });
    sheet = sheet.with(Part::Notes {
        title: "Is anything wrong?",
        notes: wrong(&status, destinations.as_deref().unwrap_or_default()),
        calm: "Nothing is.",
    });
    sheet = sheet.with(Part::Notes {
        title: "What needs you",
        notes: outbox.map_or_else(
            || vec![Cell::bad("The outbox can't be asked now: it is being restarted, or is suspended.")],
            |outbox| needs(&outbox.account, destinations.as_deref().unwrap_or_default()),
        ),
        calm: "Nothing does.",
    });
    if let Ok(destinations) = &destinations {
        sheet = sheet.table(places::table(destinations));
    }
    if let Some(outbox) = outbox {
        sheet = sheet.with(Part::Facts { title: "The account", facts: account(outbox) });
    }
    let trusted = if status.clock.trusted { "Believed" } else { "Not believed" };
    let clock = Cell { tone: if status.clock.trusted { "" } else { "bad" }, ..Cell::of(trusted) };
    Ok(sheet
        .with(Part::Facts {
            title: "Clock and disk",
            facts: vec![
                ("Wall clock", clock.and(format!("{}. {}", status.clock.why, status.clock.hint))),
                ("Outbox on disk", outbox.map_or_else(Cell::default, |it| Cell::of(output::bytes(it.disk_bytes)))),
                ("Bodies that wait", outbox.map_or_else(Cell::default, |it| Cell::of(output::bytes(it.waiting_bytes)))),
            ],
        })
        .answer())
}

/// What is not as it should be.
fn wrong(status: &StatusView, destinations: &[DestinationView]) -> Vec<Cell> {
    let mut notes = Vec::new();
    for view in status.lines.iter().filter(|view| !view.line.up) {
        let text = format!("{} does not run ({})", view.line.name, view.line.state);
        notes.push(Cell::bad(text).and(says::describe(view)));
    }
    notes.extend(says::warnings(status).into_iter().map(Cell::bad));
    if status.audit_failures > 0 {
        let lines = counted(status.audit_failures, "line");
        notes.push(Cell::bad(format!(
            "the audit log could not be written ({lines}): acts are refused while that is so"
        )));
    }
    notes.extend(says::troubles(status).into_iter().map(Cell::bad));
    let dispatcher = status.observations().find_map(|seen| match seen {
        Observation::Dispatcher(it) => Some(it),
        _ => None,
    });
    let suspended = dispatcher.map_or(&[][..], |it| &it.suspended);
    notes.extend(suspended.iter().map(|id| {
        Cell::bad(format!("{id} is suspended: its couriers keep falling, which is a defect of the gateway"))
    }));
    for view in destinations {
        let Some(load) = &view.load else { continue };
        let id = &view.destination;
        if load.everything_refused {
            notes.push(Cell::bad(format!(
                "{id} refused the last ten messages: the destination itself seems to be at fault"
            )));
        } else if load.failures > 0 {
            let why = load.last_error.map(|error| format!(": {error}")).unwrap_or_default();
            notes.push(Cell::bad(format!("{id} failed, {} in a row{why}", counted(load.failures.into(), "time"))));
        }
    }
    notes
}

/// What waits for a person's word.
fn needs(account: &Account, destinations: &[DestinationView]) -> Vec<Cell> {
    let rows = [
        (account.held, "held", "stopped until somebody releases it"),
        (account.parked, "parked", "the service refuses this very message"),
        (account.dead, "dead", "the service will never take it"),
    ];
    let waits = rows.into_iter().filter(|(number, ..)| *number > 0);
    let mut notes: Vec<Cell> = waits
        .map(|(number, state, why)| {
            Cell::of(format!("{} {state}", count(number))).and(why).to(format!("/console/outbox?state={state}"))
        })
        .collect();
    if account.quarantined > 0 {
        let text = format!("{} quarantined", count(account.quarantined));
        notes.push(
            Cell::of(text).and("acknowledged, and never an entry: no route, or not allowed").to("/console/quarantine"),
        );
    }
    let paused = destinations.iter().filter(|view| view.load.as_ref().is_some_and(|load| load.paused));
    notes.extend(paused.map(|view| {
        let id = &view.destination;
        Cell::of(format!("{id} is paused")).and("until somebody resumes it").to(format!("/console/destinations/{id}"))
    }));
    notes
}

/// Everything that was ever accepted, and where it is: the sum must be right (CU-2).
fn account(outbox: &OutboxObservation) -> Vec<(&'static str, Cell)> {
    let it = &outbox.account;
    let gap = if outbox.gap == 0 { Cell::of("0").and("nothing is missing") } else { Cell::bad(outbox.gap.to_string()) };
    vec![
        ("Accepted", Cell::count(it.accepted)),
        ("Queued", Cell::count(it.queued)),
        ("Held", Cell::count(it.held)),
        ("Parked", Cell::count(it.parked)),
        ("Dead letters", Cell::count(it.dead)),
        ("Delivered", Cell::count(it.delivered)),
        ("Expired", Cell::count(it.expired)),
        ("Purged", Cell::count(it.purged)),
        ("Quarantined", Cell::count(it.quarantined)),
        ("Refused", Cell::count(it.refused)),
        ("Dropped", Cell::count(it.dropped)),
        ("Gap", gap),
    ]
}
