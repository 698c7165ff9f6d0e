//! `/console/outbox`: what waits, by state, destination and device, and why. `/console/ages`: how long already.

use super::{
    frame::{Frame, Refused},
    guard::Visitor,
    sheet::{Cell, Field, Filter, Part, Sheet, Table, heads},
};
use crate::{
    admin::{
        App,
        access::ask,
        destinations,
        outbox::{self, Filter as Asked},
        tools,
    },
    cli::output,
    web::{form, words::count},
};
use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Query},
};
use serde::Deserialize;
use std::collections::BTreeMap;
use tidegate_schemas::{
    entry::EntryState, id::DestinationId, messages::dispatcher::Explain, messages::tools::DestinationStats,
    view::EntryView,
};

/// Where it is.
const HERE: &str = "/console/outbox";
/// Entries of a page.
const ROWS: usize = 50;

/// What is asked for; what is empty is not.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Wanted {
    destination: Option<String>,
    state: Option<String>,
    device: Option<String>,
    cursor: Option<String>,
}

impl Wanted {
    fn filter(&self) -> Asked {
        let some =
            |text: &Option<String>| text.as_deref().map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned);
        Asked {
            destination: some(&self.destination),
            state: some(&self.state),
            device: some(&self.device),
            cursor: some(&self.cursor),
            limit: Some(ROWS),
        }
    }

    /// The address of this view, from a cursor on.
    fn place(&self, cursor: Option<&str>) -> String {
        let filter = self.filter();
        let pairs = [("destination", filter.destination), ("state", filter.state), ("device", filter.device)];
        let cursor = cursor.map(|cursor| ("cursor", cursor.to_owned()));
        let pairs = pairs.into_iter().filter_map(|(key, value)| Some((key, value?))).chain(cursor);
        let query: Vec<String> = pairs.map(|(key, value)| format!("{key}={}", form::encode(&value))).collect();
        if query.is_empty() { HERE.to_owned() } else { format!("{HERE}?{}", query.join("&")) }
    }
}

/// The list.
pub(super) async fn list(
    app: Data<App>,
    visitor: Visitor,
    wanted: Query<Wanted>,
    request: HttpRequest,
) -> Result<HttpResponse, Refused> {
    let page = outbox::page(&app, wanted.filter()).await?;
    // Without a Registry one types the name.
    let known = destinations::all(&app).await.unwrap_or_default();
    let why = hindrances(&app, &page.items).await;
    let table = Table {
        caption: "Messages".into(),
        heads: heads(&["Message", "State", "Device", "Waits", "Bytes", "Why"]),
        rows: page.items.iter().map(|view| row(view, &why)).collect(),
        empty: "No message waits that is such a one.",
        first: wanted.cursor.is_some().then(|| wanted.place(None)),
        next: page.next.as_deref().map(|next| wanted.place(Some(next))),
        ..Table::default()
    };
    let names = known.iter().map(|view| view.destination.to_string());
    let frame = Frame::of(visitor, HERE, "Outbox").live(&request, app.clock.now());
    Ok(Sheet::new(frame, "What was accepted and has not ended. Bodies are not shown.")
        .with(Part::Filter(filter(&wanted, names.collect())))
        .table(table)
        .with(Part::Notes {
            title: "See also",
            notes: vec![Cell::of("What waits, by age").to("/console/ages")],
            calm: "",
        })
        .answer())
}

fn filter(wanted: &Wanted, names: Vec<String>) -> Filter {
    let value = |text: &Option<String>| text.clone().unwrap_or_default();
    let any = || ("".to_owned(), "any".to_owned());
    let pairs =
        |texts: Vec<String>| std::iter::once(any()).chain(texts.into_iter().map(|text| (text.clone(), text))).collect();
    let states = ["queued", "held", "parked", "dead", "held,parked,dead"].map(str::to_owned).to_vec();
    Filter {
        place: HERE,
        fields: vec![
            Field { name: "state", label: "State", value: value(&wanted.state), choices: pairs(states) },
            Field {
                name: "destination",
                label: "Destination",
                value: value(&wanted.destination),
                choices: pairs(names),
            },
            Field { name: "device", label: "Device", value: value(&wanted.device), choices: vec![] },
        ],
    }
}

/// Why nothing goes to the destinations of these entries now, in words, for those that are queued.
async fn hindrances(app: &App, entries: &[EntryView]) -> BTreeMap<DestinationId, String> {
    let mut why = BTreeMap::new();
    for view in entries.iter().filter(|view| view.state == EntryState::Queued) {
        let destination = &view.entry.destination;
        if why.contains_key(destination) {
            continue;
        }
        let asked = Explain { destination: destination.clone() };
        let Ok(explained) = ask(app.reach.look().access.explain.as_ref(), asked).await else {
            why.insert(destination.clone(), "the part that delivers does not answer now".to_owned());
            continue;
        };
        let words = match &explained {
            None => "its destination has no agreement now".to_owned(),
            Some(it) if it.served.is_some() => "a courier serves its destination now".to_owned(),
            Some(it) => it
                .decision
                .chain()
                .first()
                .map_or_else(|| "its turn comes".to_owned(), |reason| reason.sentence(&jiff::tz::TimeZone::UTC)),
        };
        why.insert(destination.clone(), words);
    }
    why
}

fn row(view: &EntryView, why: &BTreeMap<DestinationId, String>) -> Vec<Cell> {
    let reason = view.reason.map(|reason| reason.to_string());
    let why = match (view.state, view.due_in_ms) {
        (EntryState::Queued, 0) => Cell::of(why.get(&view.entry.destination).cloned().unwrap_or_default()),
        (EntryState::Queued, due) => Cell::of(reason.unwrap_or_default())
            .and(format!("refused; its next try is in {}", output::duration(due / 1_000))),
        (EntryState::Held, _) => Cell::of(reason.unwrap_or_else(|| "held until somebody releases it".into())),
        _ => Cell::bad(reason.unwrap_or_else(|| "the service refuses it".into())),
    };
    vec![
        Cell::of(view.entry.to_string()).to(format!("{HERE}/{}", view.entry)),
        Cell::of(output::word(&view.state)),
        Cell::of(view.device.to_string()),
        Cell { tone: "number", ..Cell::of(output::duration(view.age_ms / 1_000)) },
        Cell::count(view.body_bytes.into()),
        why,
    ]
}

/// What waits, by age. Counting reads all entries: it is a page of its own.
pub(super) async fn ages(app: Data<App>, visitor: Visitor, request: HttpRequest) -> Result<HttpResponse, Refused> {
    let stats = tools::count(&app).await?;
    let row = |it: &DestinationStats| {
        let ages = it.by_age.iter().map(|number| Cell::count(*number));
        let oldest = Cell::of(it.oldest_s.map(output::duration).unwrap_or_default());
        let name = Cell::of(it.destination.to_string()).to(format!("/console/destinations/{}", it.destination));
        std::iter::once(name).chain(ages).chain([oldest, Cell::of(output::bytes(it.body_bytes))]).collect()
    };
    let free = stats.free_bytes.map_or_else(|| Cell::of("not known"), |bytes| Cell::of(output::bytes(bytes)));
    let frame = Frame::of(visitor, HERE, "What waits, by age").live(&request, app.clock.now());
    Ok(Sheet::new(frame, "Ages are times in custody, by a clock that nobody sets.")
        .table(Table {
            caption: "Messages that wait".into(),
            heads: heads(&["Destination", "Up to 1 h", "Up to a day", "Up to a week", "Older", "Oldest", "Bodies"]),
            rows: stats.destinations.iter().map(row).collect(),
            empty: "Nothing waits.",
            ..Table::default()
        })
        .with(Part::Facts {
            title: "Room",
            facts: vec![
                ("Records", Cell::of(count(stats.records))),
                ("Records, in bytes", Cell::of(output::bytes(stats.held_bytes))),
                ("On disk", Cell::of(output::bytes(stats.disk_bytes))),
                ("Free on that disk", free),
            ],
        })
        .answer())
}
