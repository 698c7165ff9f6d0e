//! `/console/outbox/{destination}/{seq}`: one message, why it is where it is, and what an operator can do about it. What can be done is
//! confirmed on a page of its own, and done by the function of the API.

use super::{
    frame::{self, Frame, Refused},
    guard::Visitor,
    sheet::{Act, Cell, Part, Sheet},
};
use crate::{
    admin::{App, foresight, outbox, problem::HttpProblem},
    cli::output,
};
use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Path},
};
use jiff::Timestamp;
use tidegate_schemas::{
    entry::EntryState,
    explain::Step,
    id::EntryRef,
    messages::outbox::EntryName,
    view::{EntryView, LedgerView, Shown},
};

/// Acts: name, button, what it means, whether it can't be taken back.
const ACTS: [(&str, &str, &str, bool); 4] = [
    ("hold", "Hold", "It is not tried until it is released.", false),
    ("release", "Release", "It waits for its turn again.", false),
    ("retry", "Try again", "It goes back into the queue; the service may refuse it again.", false),
    (
        "purge",
        "Purge",
        "It is removed from the outbox for good and never delivered. That does not erase the medium: parts of its body may stay on the \
         disk, in older blocks, in snapshots and in backups, until they are written over.",
        true,
    ),
];

/// The page of one message.
pub(super) async fn show(
    app: Data<App>,
    visitor: Visitor,
    place: Path<(String, String)>,
    request: HttpRequest,
) -> Result<HttpResponse, Refused> {
    let entry = outbox::entry_ref(&place.0, &place.1)?;
    let explained = foresight::explain(&app, EntryName::Place(entry.clone())).await?.into_inner();
    let now = app.clock.now();
    let (facts, acts, well) = match &explained.entry {
        Shown::Waiting(view) => (waiting(view, now), acts(&entry, view.state), view.state == EntryState::Queued),
        Shown::Ended(view) => (ended(view, now), vec![], view.state == EntryState::Delivered),
    };
    let step = |step: &Step| Cell::of(step.what.clone());
    let mut next = vec![Cell { tone: if well { "good" } else { "" }, ..step(&explained.next) }];
    next.extend(explained.ends.as_ref().map(step));
    let frame = Frame::of(visitor.clone(), "/console/outbox", format!("Message {entry}")).live(&request, now);
    Ok(Sheet::new(frame, format!("Times in sentences are of {}.", explained.timezone))
        .with(Part::Notes {
            title: "Why it is where it is",
            notes: explained.chain.iter().map(step).collect(),
            calm: "Nothing is in its way.",
        })
        .with(Part::Notes { title: "What happens next", notes: next, calm: "" })
        .with(Part::Facts { title: "What is known of it", facts })
        .acts(&visitor, "What you can do", acts)
        .answer())
}

fn waiting(view: &EntryView, now: Timestamp) -> Vec<(&'static str, Cell)> {
    let doubt = if view.clock_trusted { "" } else { "by a clock that was not believed" };
    let mut accepted = Cell::past_ms(view.accepted_ms, now);
    if !view.clock_trusted {
        accepted = accepted.and(doubt);
    }
    let destination = &view.entry.destination;
    vec![
        ("State", Cell::of(output::word(&view.state))),
        ("Destination", Cell::of(destination.to_string()).to(format!("/console/destinations/{destination}"))),
        ("Device", Cell::of(view.device.to_string())),
        ("Id", Cell::of(view.id.to_string())),
        ("Accepted", accepted),
        ("In custody for", Cell::of(output::duration(view.age_ms / 1_000))),
        ("Came by", Cell::of(output::word(&view.origin))),
        ("Priority", Cell::of(output::word(&view.priority))),
        ("Body", Cell::of(format!("{} bytes", view.body_bytes)).and(view.content_type.clone())),
        ("Refused by the service", Cell::alarm(view.refusals.into())),
        ("Last reason", Cell::of(view.reason.map_or_else(|| "none".to_owned(), |reason| reason.to_string()))),
    ]
}

fn ended(view: &LedgerView, now: Timestamp) -> Vec<(&'static str, Cell)> {
    let receipt = if view.receipt { "signed by the receiver" } else { "none" };
    vec![
        ("State", Cell::of(output::word(&view.state))),
        ("Device", Cell::of(view.device.to_string())),
        ("Id", Cell::of(view.id.to_string())),
        ("Accepted", Cell::past_ms(view.accepted_ms, now)),
        ("Ended", Cell::past_ms(view.ended_ms, now)),
        ("Attempts", Cell::of(view.attempts.to_string()).and("failed ones of the destination in a row, and this one")),
        ("Receipt", Cell::of(receipt)),
        ("Reason", Cell::of(view.reason.map_or_else(|| "none".to_owned(), |reason| reason.to_string()))),
        ("In the ledger", Cell::of(format!("number {}", view.no))),
    ]
}

/// What can be done to a message in this state.
fn acts(entry: &EntryRef, state: EntryState) -> Vec<Act> {
    let possible = ACTS.iter().filter(|(act, ..)| outbox::event(act).is_ok_and(|event| state.on(event).is_ok()));
    let act = |(act, button, means, grave): &(&str, &'static str, &'static str, bool)| Act {
        place: format!("/console/outbox/{entry}/{act}"),
        button,
        means,
        grave: *grave,
        fields: vec![],
        asks_first: true,
    };
    possible.map(act).collect()
}

/// Asks whether it is meant.
pub(super) async fn confirm(visitor: Visitor, path: Path<(String, String, String)>) -> Result<HttpResponse, Refused> {
    let entry = outbox::entry_ref(&path.0, &path.1)?;
    let known = ACTS.iter().find(|(act, ..)| *act == path.2);
    let Some((act, button, means, grave)) = known else {
        return Err(HttpProblem::not_found("an entry can be told to hold, release, retry or purge").into());
    };
    let form = Act {
        place: format!("/console/outbox/{entry}/{act}"),
        button,
        means,
        grave: *grave,
        fields: vec![],
        asks_first: false,
    };
    let back = vec![Cell::of("No: back to the message").to(format!("/console/outbox/{entry}"))];
    let frame = Frame::of(visitor.clone(), "/console/outbox", format!("{button}: {entry}"));
    Ok(Sheet::new(frame, "It goes on record with the name of your token.")
        .acts(&visitor, "Is it meant?", vec![form])
        .with(Part::Notes { title: "Or not", notes: back, calm: "" })
        .answer())
}

/// Does it.
pub(super) async fn act(app: Data<App>, path: Path<(String, String, String)>) -> Result<HttpResponse, Refused> {
    let entry = outbox::entry_ref(&path.0, &path.1)?;
    let known = ACTS.iter().find(|(act, ..)| *act == path.2).map_or("", |(act, ..)| act);
    outbox::operate(&app, entry.clone(), known).await?;
    let place = if known == "purge" { "/console/outbox".to_owned() } else { format!("/console/outbox/{entry}") };
    Ok(frame::see_other(&format!("{place}?done={known}")))
}
