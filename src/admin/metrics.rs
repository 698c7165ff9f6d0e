//! `/metrics` in the OpenMetrics text format.
//!
//! Built anew from the actors' snapshots with each scrape, so no part of the gateway counts for the sake of metrics and a restart
//! of an actor can't leave a stale figure. Labels are aliases (PR-4) and names of states and actors: their number is bounded by
//! the config.

use crate::admin::{App, destinations, status};
use actix_web::{HttpResponse, web::Data};
use prometheus_client::{
    encoding::text::encode,
    metrics::{
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::{ConstGauge, Gauge},
        info::Info,
    },
    registry::Registry,
};
use status::StatusView;
use tidegate_schemas::clock::ClockTrust;
use tidegate_schemas::view::{
    DestinationView, HeraldObservation, Observation, OutboxObservation, ReporterObservation, SubscriberObservation,
    UplinkStatus,
};

/// The content type of OpenMetrics 1.0.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Labels = Vec<(&'static str, String)>;

/// The answer to `GET /metrics`.
pub(super) async fn show(app: Data<App>) -> HttpResponse {
    let status = status::collect(&app).await;
    // Without the Registry the destinations' figures are absent, the rest is there.
    let destinations = destinations::all(&app).await.unwrap_or_default();
    match text(&status, &destinations) {
        Ok(text) => HttpResponse::Ok().content_type(CONTENT_TYPE).body(text),
        Err(_) => HttpResponse::InternalServerError().finish(),
    }
}

fn text(status: &StatusView, destinations: &[DestinationView]) -> Result<String, std::fmt::Error> {
    let mut registry = Registry::with_prefix("tidegate");
    gateway(&mut registry, status);
    for observation in status.observations() {
        match observation {
            Observation::Outbox(outbox) => of_outbox(&mut registry, outbox),
            Observation::Subscriber(subscriber) => of_subscriber(&mut registry, subscriber),
            Observation::Uplink(uplink) => of_uplink(&mut registry, &uplink.status),
            Observation::Herald(herald) => of_herald(&mut registry, herald),
            Observation::Reporter(reporter) => of_reporter(&mut registry, reporter),
            Observation::Registry(_) | Observation::Dispatcher(_) | Observation::Courier(_) | Observation::Toy(_) => {}
        }
    }
    of_destinations(&mut registry, destinations);
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

fn count(registry: &mut Registry, name: &str, help: &str, value: u64) {
    registry.register(name, help, ConstCounter::new(value));
}

fn measure(registry: &mut Registry, name: &str, help: &str, value: i64) {
    registry.register(name, help, ConstGauge::new(value));
}

/// A gauge's number; what doesn't fit is shown as the largest.
fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Gauges of one name, one for each set of labels.
fn measures(registry: &mut Registry, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, i64)>) {
    let family = Family::<Labels, Gauge>::default();
    for (labels, value) in values {
        family.get_or_create(&labels).set(value);
    }
    registry.register(name, help, family);
}

/// Counters of one name, one for each set of labels.
fn counts(registry: &mut Registry, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, u64)>) {
    let family = Family::<Labels, Counter>::default();
    for (labels, value) in values {
        family.get_or_create(&labels).inc_by(value);
    }
    registry.register(name, help, family);
}

fn label(name: &'static str, value: impl ToString) -> Labels {
    vec![(name, value.to_string())]
}

fn gateway(registry: &mut Registry, status: &StatusView) {
    registry.register("build", "Version of the gateway", Info::new(vec![("version", status.version.clone())]));
    measure(registry, "uptime_seconds", "Since the admin endpoint started", number(status.uptime_s));
    measure(registry, "clock_trusted", "1 if the wall clock is believed", i64::from(status.clock.trusted));
    let reasons = ClockTrust::ALL.map(|why| (label("reason", why.name()), i64::from(why == status.clock.reason)));
    measures(registry, "clock_trust", "1 at the reason why the wall clock is believed or not", reasons);
    measure(registry, "ready", "1 if every line of the list runs", i64::from(status.ready));
    count(registry, "audit_failures", "Lines that the audit log could not take", status.audit_failures);
    let lines = || status.lines.iter().map(|view| &view.line);
    let up = lines().map(|line| (label("actor", &line.name), i64::from(line.up)));
    measures(registry, "actor_up", "1 if the actor runs", up);
    let restarts = lines().map(|line| (label("actor", &line.name), line.restarts));
    counts(registry, "actor_restarts", "Starts after the first", restarts);
    let falls = lines().map(|line| (label("actor", &line.name), line.falls));
    counts(registry, "actor_falls", "Falls of its own", falls);
}

fn of_outbox(registry: &mut Registry, outbox: &OutboxObservation) {
    let account = &outbox.account;
    count(registry, "outbox_accepted", "Messages acknowledged to a broker or an HTTP client", account.accepted);
    let now = [("queued", account.queued), ("held", account.held), ("parked", account.parked), ("dead", account.dead)];
    let now = now.map(|(state, value)| (label("state", state), number(value)));
    measures(registry, "outbox_messages", "Messages in custody now, by state", now);
    let ended = [
        ("delivered", account.delivered),
        ("expired", account.expired),
        ("purged", account.purged),
        ("quarantined", account.quarantined),
        ("refused", account.refused),
        ("dropped", account.dropped),
    ];
    let ended = ended.map(|(state, value)| (label("state", state), value));
    counts(registry, "outbox_ended", "Messages that ended, by end state", ended);
    measure(registry, "outbox_gap", "Accepted minus all states; other than 0 is a defect", outbox.gap);
    measure(registry, "outbox_disk_bytes", "Size of the store on disk", number(outbox.disk_bytes));
    measure(registry, "outbox_held_bytes", "Keys and values of all its records", number(outbox.held_bytes));
    measure(registry, "outbox_waiting_bytes", "Bodies that wait", number(outbox.waiting_bytes));
    measure(
        registry,
        "outbox_reports_pending",
        "End states that the room doesn't know yet",
        number(outbox.reports_pending),
    );
    count(registry, "outbox_reports_lost", "End states that the room never hears of", outbox.reports_lost);
    count(registry, "outbox_receipts_lost", "End states that their devices never hear of", outbox.receipts_lost);
    let (waiting, failing) = (number(outbox.archive_waiting), i64::from(outbox.archive_failure.is_some()));
    measure(registry, "ledger_archive_waiting", "End states that are not in the ledger's files yet", waiting);
    measure(registry, "ledger_archive_failing", "1 if the ledger's files could not be written the last time", failing);
    count(registry, "ledger_archive_lost", "End states that never come to the ledger's files", outbox.archive_lost);
    let break_glass = [("taken", outbox.break_glass_taken), ("denied", outbox.break_glass_denied)];
    let break_glass = break_glass.map(|(outcome, value)| (label("outcome", outcome), value));
    counts(registry, "outbox_break_glass", "Break-glass messages, as such or as of high priority", break_glass);
    let nearly_full = i64::from(outbox.nearly_full.is_some());
    measure(registry, "outbox_nearly_full", "1 from 80 % of a limit of the gateway on", nearly_full);
    measure(registry, "outbox_failing", "1 if the last commit failed", i64::from(outbox.failure.is_some()));
    count(registry, "outbox_commits", "Durable commits of this process", outbox.commits);
    count(registry, "outbox_writes", "Writes in those commits", outbox.writes);
}

fn of_subscriber(registry: &mut Registry, it: &SubscriberObservation) {
    measure(registry, "broker_connected", "1 if the broker is connected", i64::from(it.connected));
    measure(registry, "intake_in_hand", "Publications that wait for their flush", number(it.in_hand));
    for (name, help, value) in [
        ("broker_connections", "Connections", it.connections),
        ("broker_sessions_lost", "Times that the broker had lost our session", it.sessions_lost),
        ("broker_taken_over", "Times that another client took our client id", it.taken_over),
        ("intake_received", "Publications received", it.received),
        ("intake_accepted", "Publications taken into custody", it.accepted),
        ("intake_duplicates", "Publications recognised as redelivered", it.duplicates),
        ("intake_quarantined", "Publications acknowledged and quarantined", it.quarantined),
        ("intake_refused", "Publications refused because a destination was full", it.refused),
        ("intake_signals", "Signals over MQTT that were honoured", it.signals),
        ("intake_retained_ignored", "Retained messages that no route asked for", it.retained_ignored),
        ("intake_own_ignored", "Publications below the gateway's own prefix", it.own_ignored),
        ("intake_replies_refused", "Response topics that are not answered", it.replies_refused),
        ("intake_receipts_lost", "Devices not told that their message is accepted", it.receipts_lost),
        ("intake_acks_void", "Acknowledgements void because their connection was gone", it.acks_void),
    ] {
        count(registry, name, help, value);
    }
}

fn of_uplink(registry: &mut Registry, status: &UplinkStatus) {
    let (ready, percent) = match status {
        UplinkStatus::Ready => (1, 100),
        UplinkStatus::Bootstrapping { percent, .. } => (0, i64::from(*percent)),
        UplinkStatus::Starting | UplinkStatus::Failed { .. } | UplinkStatus::Obsolete { .. } => (0, 0),
    };
    measure(registry, "uplink_ready", "1 if onion services can be reached", ready);
    measure(registry, "uplink_bootstrap_percent", "How far the connection to Tor is", percent);
    let obsolete = i64::from(matches!(status, UplinkStatus::Obsolete { .. }));
    measure(registry, "uplink_obsolete", "1 if the gateway is too old for the Tor network", obsolete);
}

fn of_herald(registry: &mut Registry, herald: &HeraldObservation) {
    measure(
        registry,
        "herald_failing",
        "1 if the last state or receipt was not taken",
        i64::from(herald.last_error.is_some()),
    );
    measure(registry, "herald_states_told", "Destinations whose state the broker has", number(herald.states_told));
    count(registry, "herald_states", "States published to devices", herald.states_published);
    count(registry, "herald_receipts", "Receipts of ends published to devices", herald.receipts_published);
    count(registry, "herald_refused", "Publications that the broker refused", herald.refused);
}

fn of_reporter(registry: &mut Registry, reporter: &ReporterObservation) {
    measure(registry, "reporter_failing", "1 if the last event was not sent", i64::from(reporter.last_error.is_some()));
    count(registry, "reporter_events", "Events sent to the room", reporter.events_sent);
    count(registry, "reporter_reports", "End states told in them", reporter.reports_sent);
}

fn of_destinations(registry: &mut Registry, views: &[DestinationView]) {
    let alias = |view: &DestinationView| label("destination", &view.destination);
    let open = views.iter().map(|view| (alias(view), i64::from(view.now.open)));
    measures(registry, "destination_window_open", "1 if the destination's window is open", open);
    let loads = || views.iter().filter_map(|view| view.load.as_ref().map(|load| (alias(view), load)));
    let states = loads().flat_map(|(alias, load)| {
        let states = [("queued", load.queued), ("held", load.held), ("parked", load.parked), ("dead", load.dead)];
        states.map(|(state, value)| ([alias.clone(), label("state", state)].concat(), number(value)))
    });
    measures(registry, "destination_messages", "Messages in custody now, by destination and state", states);
    let delivered = loads().map(|(alias, load)| (alias, load.delivered));
    counts(registry, "destination_delivered", "Messages delivered", delivered);
    let bytes = loads().map(|(alias, load)| (alias, number(load.waiting_bytes)));
    measures(registry, "destination_waiting_bytes", "Bodies that wait", bytes);
    let oldest = loads().map(|(alias, load)| (alias, number(load.oldest_age_ms.unwrap_or(0) / 1_000)));
    measures(registry, "destination_oldest_seconds", "Age of the oldest queued message", oldest);
    let failures = loads().map(|(alias, load)| (alias, i64::from(load.failures)));
    measures(registry, "destination_failures", "Failures in a row", failures);
    let due = loads().map(|(alias, load)| (alias, number(load.due_in_ms.max(load.snoozed_ms) / 1_000)));
    measures(registry, "destination_backoff_seconds", "Until it may be tried again", due);
    let circuits = loads().map(|(alias, load)| (alias, i64::from(load.fresh_circuits_last_hour)));
    measures(registry, "destination_fresh_circuits", "Fresh circuits in the last hour", circuits);
}
