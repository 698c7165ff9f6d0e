//! `/console/destinations`: how each stands; one with its windows before and after now, and what an operator can tell it.

use super::{
    agreement,
    frame::{self, Frame, Refused},
    guard::{Form, Visitor},
    sheet::{Act, Cell, Field, Part, Sheet, Table, heads, utc},
    timeline,
};
use crate::{
    admin::{App, access::ask, destinations, foresight, signals},
    cli::{destination as words, output},
    web::words::count,
};
use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Path},
};
use tidegate_schemas::{
    config::file::DestinationSource,
    messages::dispatcher::Explain,
    signal::SignalBody,
    view::{DestinationLoad, DestinationView},
    window::RawWindows,
};

/// Where they are.
const HERE: &str = "/console/destinations";

/// All of them.
pub(super) async fn list(app: Data<App>, visitor: Visitor, request: HttpRequest) -> Result<HttpResponse, Refused> {
    let views = destinations::all(&app).await?;
    let visitor_may = visitor.administers();
    let frame = Frame::of(visitor, HERE, "Destinations").live(&request, app.clock.now());
    let add = visitor_may.then(|| Cell::of("Add a destination").to(agreement::ADD));
    let mut sheet = Sheet::new(frame, "By alias: onion addresses are not shown.").table(table(&views));
    if let Some(add) = add {
        sheet = sheet.with(Part::Notes { title: "What you can do", notes: vec![add], calm: "" });
    }
    Ok(sheet.answer())
}

/// How each stands, in a row.
pub(super) fn table(views: &[DestinationView]) -> Table {
    let row = |view: &DestinationView| {
        let load = view.load.as_ref();
        let number = |of: fn(&DestinationLoad) -> u64| load.map_or_else(Cell::default, |load| Cell::count(of(load)));
        let state = load.map_or_else(|| "no message yet, as far as is known".to_owned(), words::state);
        let well = load.is_none_or(|load| load.failures == 0 && !load.paused && !load.everything_refused);
        vec![
            Cell::of(view.destination.to_string()).to(format!("{HERE}/{}", view.destination)),
            Cell::of(words::window(&view.now, utc)),
            Cell { tone: if well { "" } else { "bad" }, ..Cell::of(state) },
            number(|load| load.queued),
            number(|load| load.held + load.parked + load.dead),
            number(|load| load.delivered),
        ]
    };
    Table {
        caption: "Destinations".into(),
        heads: heads(&["Destination", "Window", "State", "Queued", "Put aside", "Delivered"]),
        rows: views.iter().map(row).collect(),
        empty: "No destination is declared.",
        ..Table::default()
    }
}

/// One of them.
pub(super) async fn show(
    app: Data<App>,
    visitor: Visitor,
    id: Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Refused> {
    let view = destinations::one(&app, &destinations::name(&id)?).await?;
    let registered = foresight::registered(&app, &id).await?;
    let agreement = &registered.destination.agreement;
    let now = app.clock.now();
    // A Dispatcher that is down is told by its absence.
    let asked = Explain { destination: view.destination.clone() };
    let explained = ask(app.reach.look().access.explain.as_ref(), asked).await.ok().flatten();
    let zone = agreement.windows.zone();
    let (reasons, calm) = match &explained {
        None => (vec![Cell::bad("The part of the gateway that delivers does not answer now.")], ""),
        Some(it) if it.served.is_some() => (vec![], "A courier serves it now."),
        Some(it) => {
            let reason = |reason: &tidegate_schemas::dispatch::Reason| Cell::of(reason.sentence(zone));
            (it.decision.chain().iter().map(reason).collect(), "Nothing: it is served when a message comes.")
        }
    };
    let name = view.destination.to_string();
    let queue = Cell::of("Its messages").to(format!("/console/outbox?destination={name}"));
    let frame = Frame::of(visitor.clone(), HERE, name).live(&request, now);
    let mut sheet = Sheet::new(frame, words::window(&view.now, utc))
        .with(Part::Notes { title: "What is in the way", notes: reasons, calm })
        .with(Part::Facts { title: "How it stands", facts: facts(&view) })
        .with(Part::Notes { title: "See also", notes: links(&visitor, &view, queue), calm: "" });
    for part in timeline::of(&app, &view.destination, agreement, now).await {
        sheet = sheet.with(part);
    }
    Ok(sheet.acts(&visitor, "What you can do", acts(&view)).answer())
}

/// Its messages, its agreement, and what may be done to that.
fn links(visitor: &Visitor, view: &DestinationView, queue: Cell) -> Vec<Cell> {
    let here = |text: &str, page: &str| Cell::of(text).to(format!("{HERE}/{}/{page}", view.destination));
    if view.source != DestinationSource::Api || !visitor.administers() {
        return vec![queue, here("Its agreement", "edit")];
    }
    let mut links = vec![queue, here("Change its agreement", "edit")];
    if view.windows != RawWindows::default() {
        links.push(here("Take its windows away", "windows"));
    }
    links.push(here("Remove it", "remove"));
    links
}

fn facts(view: &DestinationView) -> Vec<(&'static str, Cell)> {
    let windows: Vec<String> = view.windows.allow.iter().map(words::written).collect();
    let windows = if windows.is_empty() { "none: always open".to_owned() } else { windows.join("; ") };
    let mut facts = vec![
        ("Windows", Cell::of(windows).and(view.windows.timezone.clone().unwrap_or_default())),
        ("Format", Cell::of(output::word(&view.format))),
        ("Delivered means", Cell::of(output::word(&view.success))),
        ("Agreement", Cell::of(format!("version {}", view.version)).and(format!("declared in {}", view.source))),
    ];
    let Some(load) = &view.load else { return facts };
    let ago = |ms: Option<u64>| {
        Cell::of(ms.map_or_else(
            || "never, as far as is known".to_owned(),
            |ms| format!("{} ago", output::duration(ms / 1_000)),
        ))
    };
    let signal = load.signal.map_or_else(
        || "none holds".to_owned(),
        |signal| {
            let word = if signal.ready { "ready" } else { "not now" };
            format!(
                "{word}, for {} more, from {}",
                output::duration(signal.left_ms / 1_000),
                output::word(&signal.from)
            )
        },
    );
    facts.extend([
        ("State", Cell::of(words::state(load))),
        ("Queued", Cell::of(count(load.queued)).and(output::bytes(load.waiting_bytes))),
        (
            "Oldest queued",
            Cell::of(load.oldest_age_ms.map_or_else(|| "none".to_owned(), |ms| output::duration(ms / 1_000))),
        ),
        ("Held, parked, dead", Cell::of(format!("{}, {}, {}", load.held, load.parked, load.dead))),
        ("Urgent", Cell::of(count(load.urgent)).and(format!("{} of them break-glass", load.break_glass))),
        ("Delivered", Cell::of(count(load.delivered))),
        ("Last delivery", ago(load.last_success_ago_ms)),
        ("Last failure", ago(load.last_failure_ago_ms)),
        ("Fresh circuits in the last hour", Cell::of(load.fresh_circuits_last_hour.to_string())),
        ("Signal", Cell::of(signal)),
    ]);
    facts
}

fn acts(view: &DestinationView) -> Vec<Act> {
    let place = |act: &str| format!("{HERE}/{}/{act}", view.destination);
    let paused = view.load.as_ref().is_some_and(|load| load.paused);
    let plain = |act: &str, button, means| Act {
        place: place(act),
        button,
        means,
        grave: false,
        fields: vec![],
        asks_first: false,
    };
    let choice = |value: &str, words: &str| (value.to_owned(), words.to_owned());
    let word = Field {
        name: "word",
        label: "It is",
        value: "ready".into(),
        choices: vec![
            choice("ready", "ready"),
            choice("not_now", "not to be tried"),
            choice("clear", "as if nothing was said"),
        ],
    };
    let length = Field { name: "for", label: "for", value: "10m".into(), choices: vec![] };
    vec![
        if paused {
            plain("resume", "Resume", "Deliveries go on, in its windows.")
        } else {
            plain("pause", "Pause", "Nothing is delivered there until it is resumed; messages are still taken.")
        },
        Act { fields: vec![word, length], ..plain("signal", "Signal", "Within what its agreement lets a signal do.") },
    ]
}

/// Gives a signal.
pub(super) async fn signal(app: Data<App>, id: Path<String>, form: Form) -> Result<HttpResponse, Refused> {
    let length = form.value("for");
    let body = match form.value("word").as_deref() {
        Some("ready") => SignalBody { ready_for: length, ..SignalBody::default() },
        Some("not_now") => SignalBody { not_now_for: length, ..SignalBody::default() },
        Some("clear") => SignalBody { clear: Some(true), ..SignalBody::default() },
        _ => SignalBody::default(),
    };
    let destination = destinations::name(&id)?;
    signals::give(&app, &destination, body).await?;
    Ok(frame::see_other(&format!("{HERE}/{destination}?done=signal")))
}

/// Stops it.
pub(super) async fn pause(app: Data<App>, id: Path<String>) -> Result<HttpResponse, Refused> {
    let view = signals::set_paused(&app, &id, true).await?;
    Ok(frame::see_other(&format!("{HERE}/{}?done=pause", view.destination)))
}

/// Lets it go on.
pub(super) async fn resume(app: Data<App>, id: Path<String>) -> Result<HttpResponse, Refused> {
    let view = signals::set_paused(&app, &id, false).await?;
    Ok(frame::see_other(&format!("{HERE}/{}?done=resume", view.destination)))
}
