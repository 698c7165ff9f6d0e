//! The parts of the gateway: actors, devices, Tor, Matrix; and what leaves this machine, when.

use super::{
    frame::{Frame, Refused},
    guard::Visitor,
    sheet::{Cell, Part, Sheet, Table, heads, utc},
};
use crate::{
    admin::{
        App, destinations, records,
        status::{self, LineView, StatusView},
    },
    cli::{destination as words, output, status as says},
};
use actix_web::{HttpRequest, HttpResponse, web::Data};
use tidegate_schemas::view::{
    CourierObservation, DestinationView, Observation, OutboxObservation, ReporterObservation, UplinkStatus,
};

/// The actors, their states and restarts.
pub(super) async fn actors(app: Data<App>, visitor: Visitor, request: HttpRequest) -> HttpResponse {
    let status = status::collect(&app).await;
    let row = |view: &LineView| {
        let line = &view.line;
        let fall = line.last_fall.clone().unwrap_or_default();
        let ago = line.last_fall_age_ms.map(|ms| format!("{} ago", output::duration(ms / 1_000))).unwrap_or_default();
        let next =
            line.next_try_in_ms.map(|ms| format!("again in {}", output::duration(ms / 1_000))).unwrap_or_default();
        vec![
            Cell::of(line.name.clone()),
            Cell { tone: if line.up { "good" } else { "bad" }, ..Cell::of(line.state.clone()) }.and(next),
            Cell::count(line.restarts),
            Cell::alarm(line.falls),
            Cell::of(fall).and(ago),
            Cell::of(view.observation.as_ref().map_or_else(String::new, |_| says::describe(view))),
        ]
    };
    let lead = if status.ready { "Every part runs." } else { "Not every part runs." };
    let frame = Frame::of(visitor, "/console/actors", "Parts").live(&request, status.now);
    let sheet = Sheet::new(frame, lead).table(Table {
        caption: "Actors, lowest first".into(),
        heads: heads(&["Part", "State", "Restarts", "Own falls", "Last fall", "How it is"]),
        rows: status.lines.iter().map(row).collect(),
        empty: "None runs.",
        ..Table::default()
    });
    sheet.answer()
}

/// Devices that have credentials.
pub(super) async fn devices(app: Data<App>, visitor: Visitor) -> Result<HttpResponse, Refused> {
    let devices = records::devices(&app).await?;
    let row = |it: &tidegate_schemas::config::devices::DeviceCredential| {
        let places: Vec<&str> = it.destinations.iter().map(|id| id.as_str()).collect();
        vec![
            Cell::of(it.device.to_string()),
            Cell::of(places.join(", ")),
            Cell::of("What waits of it").to(format!("/console/outbox?device={}", it.device)),
        ]
    };
    let lead = "Made by tidegate device add. Devices that reach the gateway on this machine alone need none.";
    Ok(Sheet::new(Frame::of(visitor, "/console/devices", "Devices"), lead)
        .table(Table {
            caption: "Devices with credentials".into(),
            heads: heads(&["Device", "May hand in for", "Messages"]),
            rows: devices.iter().map(row).collect(),
            empty: "No device has credentials.",
            ..Table::default()
        })
        .answer())
}

/// Tor: whether it is ready, and circuits by destination.
pub(super) async fn tor(app: Data<App>, visitor: Visitor, request: HttpRequest) -> HttpResponse {
    let status = status::collect(&app).await;
    let views = destinations::all(&app).await.unwrap_or_default();
    let facts = status.observations().find_map(|seen| match seen {
        Observation::Uplink(it) => Some(vec![
            ("State", uplink(&it.status)),
            ("By", Cell::of(it.transport.clone())),
            ("Bootstraps tried", Cell::of(it.attempts.to_string())),
        ]),
        _ => None,
    });
    let couriers = couriers(&status);
    let row = |view: &DestinationView| {
        let courier = couriers.iter().find(|it| it.destination == view.destination);
        let circuits =
            view.load.as_ref().map_or_else(Cell::default, |it| Cell::count(it.fresh_circuits_last_hour.into()));
        let lanes = |it: &CourierObservation| format!("{} of {}", it.lanes, it.lanes_allowed);
        vec![
            Cell::of(view.destination.to_string()).to(format!("/console/destinations/{}", view.destination)),
            circuits,
            Cell::of(courier.map_or_else(|| "no courier now".to_owned(), lanes)),
            Cell::of(courier.map_or_else(String::new, |it| it.in_flight.to_string())),
        ]
    };
    let frame = Frame::of(visitor, "/console/tor", "Tor").live(&request, status.now);
    Sheet::new(frame, "Each destination has circuits of its own: nobody on the way can tell that they belong together.")
        .with(Part::Facts {
            title: "Tor",
            facts: facts.unwrap_or_else(|| vec![("State", Cell::bad("the part that speaks with Tor does not answer"))]),
        })
        .table(Table {
            caption: "Circuits".into(),
            heads: heads(&["Destination", "Fresh in the last hour", "Lanes at work", "Under way"]),
            rows: views.iter().map(row).collect(),
            empty: "No destination is declared.",
            ..Table::default()
        })
        .answer()
}

fn uplink(status: &UplinkStatus) -> Cell {
    match status {
        UplinkStatus::Starting => Cell::of("starting"),
        UplinkStatus::Bootstrapping { percent, doing } => {
            Cell::of(format!("connecting, {percent} %")).and(doing.clone())
        }
        UplinkStatus::Ready => Cell { tone: "good", ..Cell::of("ready") },
        UplinkStatus::Failed { reason } => Cell::bad("failed, and is tried again").and(reason.clone()),
        UplinkStatus::Obsolete { reason } => Cell::bad("too old for the network").and(reason.clone()),
    }
}

fn couriers(status: &StatusView) -> &[CourierObservation] {
    let found = status.observations().find_map(|seen| match seen {
        Observation::Dispatcher(it) => Some(it.couriers.as_slice()),
        _ => None,
    });
    found.unwrap_or_default()
}

fn reporter(status: &StatusView) -> Option<&ReporterObservation> {
    status.observations().find_map(|seen| match seen {
        Observation::Reporter(it) => Some(it),
        _ => None,
    })
}

fn outbox(status: &StatusView) -> Option<&OutboxObservation> {
    status.observations().find_map(|seen| match seen {
        Observation::Outbox(it) => Some(it),
        _ => None,
    })
}

/// Matrix: what the room was told.
pub(super) async fn matrix(app: Data<App>, visitor: Visitor, request: HttpRequest) -> HttpResponse {
    let status = status::collect(&app).await;
    let mut facts = reporter(&status).map_or_else(
        || vec![("State", Cell::of("there is no reporter, or it does not answer now"))],
        |it| {
            let error = it.last_error.as_ref();
            vec![
                ("State", error.map_or_else(|| Cell::of("well"), |error| Cell::bad(error.clone()))),
                ("Events sent", Cell::count(it.events_sent)),
                ("End states told in them", Cell::count(it.reports_sent)),
            ]
        },
    );
    if let Some(it) = outbox(&status) {
        facts.push(("End states still to tell", Cell::count(it.reports_pending)));
        facts.push(("Never told", Cell::alarm(it.reports_lost)));
    }
    let frame = Frame::of(visitor, "/console/matrix", "Matrix").live(&request, status.now);
    Sheet::new(frame, "The room hears how messages ended. It never hears a reading, or an onion address.")
        .with(Part::Facts { title: "The room, since the start", facts })
        .answer()
}

/// What leaves this machine, when, and for whom.
pub(super) async fn privacy(app: Data<App>, visitor: Visitor, request: HttpRequest) -> HttpResponse {
    let status = status::collect(&app).await;
    let views = destinations::all(&app).await.unwrap_or_default();
    let row = |view: &DestinationView| {
        let next = match (view.now.open, view.now.next_opening) {
            (true, _) => "now".to_owned(),
            (false, Some(at)) => utc(at),
            (false, None) => "not known: see its window".to_owned(),
        };
        vec![
            Cell::of(view.destination.to_string()).to(format!("/console/destinations/{}", view.destination)),
            Cell::of(output::word(&view.format)),
            Cell::of(words::window(&view.now, utc)),
            Cell::of(next),
        ]
    };
    let frame = Frame::of(visitor, "/console/privacy", "Privacy").live(&request, status.now);
    Sheet::new(frame, "What leaves this machine, and when.")
        .table(Table {
            caption: "Readings, to onion services, through Tor".into(),
            heads: heads(&["Destination", "Form", "Window", "Leaves at the earliest"]),
            rows: views.iter().map(row).collect(),
            empty: "No destination is declared: no reading leaves.",
            ..Table::default()
        })
        .with(Part::Prose {
            title: "What others can see",
            lines: [
                "Readings go to onion services alone, within the windows of their agreements, over circuits that no two destinations share. \
                 Whoever watches this network sees that Tor is used, when, and how much; not with whom.",
                "A window can be opened by a signal, and break-glass messages go through a closed one, where the agreement lets them.",
                "Tor itself may keep connections to its network at all times, also while every window is closed.",
                "The Matrix room, where one is set, hears how messages ended: never a reading, and never an onion address. Its homeserver \
                 learns when the gateway speaks to it.",
                "Devices that hand in over MQTT can be told what became of their messages, by the broker that they use.",
                "This console and the API show metadata alone. They send nothing anywhere: pages load nothing from elsewhere, and the \
                 gateway asks nobody for updates.",
            ]
            .map(str::to_owned)
            .to_vec(),
        })
        .with(Part::Prose {
            title: "What stays here",
            lines: [
                "Bodies of messages lie in the outbox until they are delivered, expire, or are purged. Purging and delivery remove the \
                 record; they do not erase the medium.",
                "The ledger and the audit log hold aliases, device names, numbers and times, for as long as their retention says.",
            ]
            .map(str::to_owned)
            .to_vec(),
        })
        .answer()
}
