//! `/metrics` in the OpenMetrics text format.
//!
//! What there is stands in [`table`]. Built anew from the actors' snapshots with each scrape, so no part of the gateway
//! counts for the sake of metrics and a restart of an actor can't leave a stale figure. Labels are aliases (PR-4) and names of states and actors: their number is bounded by
//! the config.

pub(crate) mod table;

use crate::{
    adapters::disk_room,
    admin::{App, destinations, status},
};
use actix_web::{HttpResponse, web::Data};
use prometheus_client::{
    encoding::text::encode,
    metrics::{
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::{ConstGauge, Gauge},
        info::Info,
    },
    registry::{Registry, Unit},
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
    // Absent where the file system doesn't tell.
    let free = disk_room::free_bytes(&app.state_dir).ok();
    match text(&status, &destinations, free) {
        Ok(text) => HttpResponse::Ok().content_type(CONTENT_TYPE).body(text),
        Err(_) => HttpResponse::InternalServerError().finish(),
    }
}

fn text(status: &StatusView, destinations: &[DestinationView], free: Option<u64>) -> Result<String, std::fmt::Error> {
    let mut registry = Registry::with_prefix(table::PREFIX);
    gateway(&mut registry, status);
    if let Some(free) = free {
        measure(&mut registry, "disk_free_bytes", number(free));
    }
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

/// Puts a metric in, as the table describes it. A name that isn't in the table is left out, which a test finds.
fn put(registry: &mut Registry, name: &str, metric: impl prometheus_client::registry::Metric) {
    let Some(entry) = table::find(name) else { return };
    match entry.unit {
        "" => registry.register(entry.stem(), entry.help, metric),
        unit => registry.register_with_unit(entry.stem(), entry.help, Unit::Other(unit.to_owned()), metric),
    }
}

fn count(registry: &mut Registry, name: &str, value: u64) {
    put(registry, name, ConstCounter::new(value));
}

fn measure(registry: &mut Registry, name: &str, value: i64) {
    put(registry, name, ConstGauge::new(value));
}

/// A gauge's number; what doesn't fit is shown as the largest.
fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Gauges of one name, one for each set of labels.
fn measures(registry: &mut Registry, name: &str, values: impl IntoIterator<Item = (Labels, i64)>) {
    let family = Family::<Labels, Gauge>::default();
    for (labels, value) in values {
        family.get_or_create(&labels).set(value);
    }
    put(registry, name, family);
}

/// Counters of one name, one for each set of labels.
fn counts(registry: &mut Registry, name: &str, values: impl IntoIterator<Item = (Labels, u64)>) {
    let family = Family::<Labels, Counter>::default();
    for (labels, value) in values {
        family.get_or_create(&labels).inc_by(value);
    }
    put(registry, name, family);
}

fn label(name: &'static str, value: impl ToString) -> Labels {
    vec![(name, value.to_string())]
}

fn gateway(registry: &mut Registry, status: &StatusView) {
    put(registry, "build", Info::new(vec![("version", status.version.clone())]));
    measure(registry, "uptime_seconds", number(status.uptime_s));
    measure(registry, "clock_trusted", i64::from(status.clock.trusted));
    let reasons = ClockTrust::ALL.map(|why| (label("reason", why.name()), i64::from(why == status.clock.reason)));
    measures(registry, "clock_trust", reasons);
    measure(registry, "ready", i64::from(status.ready));
    count(registry, "audit_failures", status.audit_failures);
    let lines = || status.lines.iter().map(|view| &view.line);
    let up = lines().map(|line| (label("actor", &line.name), i64::from(line.up)));
    measures(registry, "actor_up", up);
    let restarts = lines().map(|line| (label("actor", &line.name), line.restarts));
    counts(registry, "actor_restarts", restarts);
    let falls = lines().map(|line| (label("actor", &line.name), line.falls));
    counts(registry, "actor_falls", falls);
}

fn of_outbox(registry: &mut Registry, outbox: &OutboxObservation) {
    let account = &outbox.account;
    count(registry, "outbox_accepted", account.accepted);
    let now = [("queued", account.queued), ("held", account.held), ("parked", account.parked), ("dead", account.dead)];
    let now = now.map(|(state, value)| (label("state", state), number(value)));
    measures(registry, "outbox_messages", now);
    let ended = [
        ("delivered", account.delivered),
        ("expired", account.expired),
        ("purged", account.purged),
        ("quarantined", account.quarantined),
        ("refused", account.refused),
        ("dropped", account.dropped),
    ];
    let ended = ended.map(|(state, value)| (label("state", state), value));
    counts(registry, "outbox_ended", ended);
    measure(registry, "outbox_gap", outbox.gap);
    measure(registry, "outbox_disk_bytes", number(outbox.disk_bytes));
    measure(registry, "outbox_held_bytes", number(outbox.held_bytes));
    measure(registry, "outbox_waiting_bytes", number(outbox.waiting_bytes));
    measure(registry, "outbox_reports_pending", number(outbox.reports_pending));
    count(registry, "outbox_reports_lost", outbox.reports_lost);
    count(registry, "outbox_receipts_lost", outbox.receipts_lost);
    let (waiting, failing) = (number(outbox.archive_waiting), i64::from(outbox.archive_failure.is_some()));
    measure(registry, "ledger_archive_waiting", waiting);
    measure(registry, "ledger_archive_failing", failing);
    count(registry, "ledger_archive_lost", outbox.archive_lost);
    let break_glass = [("taken", outbox.break_glass_taken), ("denied", outbox.break_glass_denied)];
    let break_glass = break_glass.map(|(outcome, value)| (label("outcome", outcome), value));
    counts(registry, "outbox_break_glass", break_glass);
    let nearly_full = i64::from(outbox.nearly_full.is_some());
    measure(registry, "outbox_nearly_full", nearly_full);
    measure(registry, "outbox_failing", i64::from(outbox.failure.is_some()));
    count(registry, "outbox_commits", outbox.commits);
    count(registry, "outbox_writes", outbox.writes);
}

fn of_subscriber(registry: &mut Registry, it: &SubscriberObservation) {
    measure(registry, "broker_connected", i64::from(it.connected));
    measure(registry, "intake_in_hand", number(it.in_hand));
    for (name, value) in [
        ("broker_connections", it.connections),
        ("broker_sessions_lost", it.sessions_lost),
        ("broker_taken_over", it.taken_over),
        ("intake_received", it.received),
        ("intake_accepted", it.accepted),
        ("intake_duplicates", it.duplicates),
        ("intake_quarantined", it.quarantined),
        ("intake_refused", it.refused),
        ("intake_signals", it.signals),
        ("intake_retained_ignored", it.retained_ignored),
        ("intake_own_ignored", it.own_ignored),
        ("intake_replies_refused", it.replies_refused),
        ("intake_receipts_lost", it.receipts_lost),
        ("intake_acks_void", it.acks_void),
    ] {
        count(registry, name, value);
    }
}

fn of_uplink(registry: &mut Registry, status: &UplinkStatus) {
    let (ready, percent) = match status {
        UplinkStatus::Ready => (1, 100),
        UplinkStatus::Bootstrapping { percent, .. } => (0, i64::from(*percent)),
        UplinkStatus::Starting | UplinkStatus::Failed { .. } | UplinkStatus::Obsolete { .. } => (0, 0),
    };
    measure(registry, "uplink_ready", ready);
    measure(registry, "uplink_bootstrap_percent", percent);
    let obsolete = i64::from(matches!(status, UplinkStatus::Obsolete { .. }));
    measure(registry, "uplink_obsolete", obsolete);
}

fn of_herald(registry: &mut Registry, herald: &HeraldObservation) {
    measure(registry, "herald_failing", i64::from(herald.last_error.is_some()));
    measure(registry, "herald_states_told", number(herald.states_told));
    count(registry, "herald_states", herald.states_published);
    count(registry, "herald_receipts", herald.receipts_published);
    count(registry, "herald_refused", herald.refused);
}

fn of_reporter(registry: &mut Registry, reporter: &ReporterObservation) {
    measure(registry, "reporter_failing", i64::from(reporter.last_error.is_some()));
    count(registry, "reporter_events", reporter.events_sent);
    count(registry, "reporter_reports", reporter.reports_sent);
}

fn of_destinations(registry: &mut Registry, views: &[DestinationView]) {
    let alias = |view: &DestinationView| label("destination", &view.destination);
    let open = views.iter().map(|view| (alias(view), i64::from(view.now.open)));
    measures(registry, "destination_window_open", open);
    let loads = || views.iter().filter_map(|view| view.load.as_ref().map(|load| (alias(view), load)));
    let states = loads().flat_map(|(alias, load)| {
        let states = [("queued", load.queued), ("held", load.held), ("parked", load.parked), ("dead", load.dead)];
        states.map(|(state, value)| ([alias.clone(), label("state", state)].concat(), number(value)))
    });
    measures(registry, "destination_messages", states);
    let delivered = loads().map(|(alias, load)| (alias, load.delivered));
    counts(registry, "destination_delivered", delivered);
    let bytes = loads().map(|(alias, load)| (alias, number(load.waiting_bytes)));
    measures(registry, "destination_waiting_bytes", bytes);
    let oldest = loads().map(|(alias, load)| (alias, number(load.oldest_age_ms.unwrap_or(0) / 1_000)));
    measures(registry, "destination_oldest_seconds", oldest);
    let failures = loads().map(|(alias, load)| (alias, i64::from(load.failures)));
    measures(registry, "destination_failures", failures);
    let due = loads().map(|(alias, load)| (alias, number(load.due_in_ms.max(load.snoozed_ms) / 1_000)));
    measures(registry, "destination_backoff_seconds", due);
    let circuits = loads().map(|(alias, load)| (alias, i64::from(load.fresh_circuits_last_hour)));
    measures(registry, "destination_fresh_circuits", circuits);
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::admin::{access::Line, status::LineView};
    use table::{Kind, METRICS};
    use tidegate_schemas::view::UplinkObservation;

    /// Every name that the code writes, in quotes, is one of the table; and the table has none that the code doesn't write.
    #[test]
    fn the_table_has_what_the_code_writes_and_nothing_else() {
        let code = include_str!("metrics.rs").split("#[cfg(test)]").next().unwrap();
        let families = ["build", "uptime_", "clock_", "ready", "audit_", "disk_", "actor_", "outbox_", "ledger_"];
        let more = ["destination_", "broker_", "intake_", "uplink_", "herald_", "reporter_"];
        let is_name = |word: &str| {
            word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
                && families.iter().chain(&more).any(|family| word.starts_with(family))
        };
        let written: Vec<&str> = code.split('"').skip(1).step_by(2).filter(|word| is_name(word)).collect();
        for name in &written {
            assert!(table::find(name).is_some(), "{name} is not in the table");
        }
        for metric in METRICS {
            assert!(written.contains(&metric.name), "{} is in the table, and no code writes it", metric.name);
        }
    }

    #[test]
    fn help_type_unit_and_labels_are_those_of_the_table() {
        let seen = [
            Observation::Outbox(OutboxObservation::default()),
            Observation::Subscriber(SubscriberObservation::default()),
            Observation::Uplink(UplinkObservation { status: UplinkStatus::Ready, ..UplinkObservation::default() }),
            Observation::Herald(HeraldObservation::default()),
            Observation::Reporter(ReporterObservation::default()),
        ];
        let lines = seen.map(|seen| LineView { line: Line::default(), observation: Some(seen) });
        let status = StatusView {
            absent: vec![],
            version: "1".into(),
            uptime_s: 1,
            now: jiff::Timestamp::UNIX_EPOCH,
            clock: ClockTrust::Apart.view(),
            phase: "running".into(),
            ready: true,
            audit_failures: 0,
            lines: lines.into(),
        };
        let text = text(&status, &[], Some(4_096)).unwrap();
        let has = |line: &str| text.lines().any(|other| other == line);
        assert!(has("tidegate_disk_free_bytes 4096") && has("tidegate_uptime_seconds 1"), "{text}");
        for metric in METRICS.iter().filter(|metric| !metric.name.starts_with("destination_")) {
            let name = format!("{}_{}", table::PREFIX, metric.name);
            let kind = match metric.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Info => "info",
            };
            assert!(has(&format!("# TYPE {name} {kind}")), "{name} is no {kind} in\n{text}");
            assert!(text.contains(&format!("# HELP {name} {}", metric.help)), "{name} in\n{text}");
            assert_eq!(has(&format!("# UNIT {name} {}", metric.unit)), !metric.unit.is_empty(), "{name} in\n{text}");
            let sample = metric.sample();
            let line = text.lines().find(|line| line.split(['{', ' ']).next() == Some(&sample)).unwrap();
            let labels = line.split_once('{').map_or("", |(_, rest)| rest);
            let named: Vec<&str> = labels.split(',').filter_map(|pair| Some(pair.split_once('=')?.0)).collect();
            assert_eq!(named, metric.labels, "{line}");
        }
    }
}
