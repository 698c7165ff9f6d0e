//! Every metric, once: `/metrics` takes its help, type and unit from here, and `docs/metrics.md` is printed from here.

use std::fmt::Write as _;

/// What stands before each name.
pub(super) const PREFIX: &str = "tidegate";

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Only rises; its samples end with `_total`.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Always 1: what it says is in its labels; its sample ends with `_info`.
    Info,
}

/// One metric.
#[derive(Debug)]
pub(super) struct Metric {
    section: &'static str,
    /// Without [`PREFIX`] and without the ending of its kind.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// The last word of the name, where that is a unit; else empty.
    pub unit: &'static str,
    /// One line.
    pub help: &'static str,
    /// Names of its labels.
    pub labels: &'static [&'static str],
}

const fn counter(
    section: &'static str,
    name: &'static str,
    unit: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
) -> Metric {
    Metric { section, name, kind: Kind::Counter, unit, help, labels }
}

const fn gauge(
    section: &'static str,
    name: &'static str,
    unit: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
) -> Metric {
    Metric { section, name, kind: Kind::Gauge, unit, help, labels }
}

const fn info(
    section: &'static str,
    name: &'static str,
    unit: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
) -> Metric {
    Metric { section, name, kind: Kind::Info, unit, help, labels }
}

/// All of them: section, name, unit, help, labels.
#[rustfmt::skip]
pub(super) static METRICS: &[Metric] = &[
    // The gateway.
    info("The gateway", "build", "", "Version of the gateway", &["version"]),
    gauge("The gateway", "uptime_seconds", "seconds", "Since the admin endpoint started", &[]),
    gauge("The gateway", "ready", "", "1 if every line of the list runs", &[]),
    gauge("The gateway", "clock_trusted", "", "1 if the wall clock is believed", &[]),
    gauge("The gateway", "clock_trust", "", "1 at the reason why the wall clock is believed or not", &["reason"]),
    counter("The gateway", "audit_failures", "", "Lines that the audit log could not take", &[]),
    gauge("The gateway", "disk_free_bytes", "bytes", "What may still be written to the disk of the state folder; absent where it can't be told", &[]),
    gauge("The gateway", "actor_up", "", "1 if the actor runs", &["actor"]),
    counter("The gateway", "actor_restarts", "", "Starts after the first", &["actor"]),
    counter("The gateway", "actor_falls", "", "Falls of its own", &["actor"]),
    // The outbox.
    counter("The outbox", "outbox_accepted", "", "Messages acknowledged to a broker or an HTTP client", &[]),
    gauge("The outbox", "outbox_messages", "", "Messages in custody now, by state", &["state"]),
    counter("The outbox", "outbox_ended", "", "Messages that ended, by end state", &["state"]),
    gauge("The outbox", "outbox_gap", "", "Accepted minus all states; other than 0 is a defect", &[]),
    gauge("The outbox", "outbox_disk_bytes", "bytes", "Size of the store on disk", &[]),
    gauge("The outbox", "outbox_held_bytes", "bytes", "Keys and values of all its records", &[]),
    gauge("The outbox", "outbox_waiting_bytes", "bytes", "Bodies that wait", &[]),
    gauge("The outbox", "outbox_reports_pending", "", "End states that the room doesn't know yet", &[]),
    counter("The outbox", "outbox_reports_lost", "", "End states that the room never hears of", &[]),
    counter("The outbox", "outbox_receipts_lost", "", "End states that their devices never hear of", &[]),
    counter("The outbox", "outbox_break_glass", "", "Break-glass messages, as such or as of high priority", &["outcome"]),
    gauge("The outbox", "outbox_nearly_full", "", "1 from 80 % of a limit of the gateway on", &[]),
    gauge("The outbox", "outbox_failing", "", "1 if the last commit failed", &[]),
    counter("The outbox", "outbox_commits", "", "Durable commits of this process", &[]),
    counter("The outbox", "outbox_writes", "", "Writes in those commits", &[]),
    gauge("The outbox", "ledger_archive_waiting", "", "End states that are not in the ledger's files yet", &[]),
    gauge("The outbox", "ledger_archive_failing", "", "1 if the ledger's files could not be written the last time", &[]),
    counter("The outbox", "ledger_archive_lost", "", "End states that never come to the ledger's files", &[]),
    // Each destination.
    gauge("Each destination", "destination_window_open", "", "1 if the destination's window is open", &["destination"]),
    gauge("Each destination", "destination_messages", "", "Messages in custody now, by destination and state", &["destination", "state"]),
    counter("Each destination", "destination_delivered", "", "Messages delivered", &["destination"]),
    gauge("Each destination", "destination_waiting_bytes", "bytes", "Bodies that wait", &["destination"]),
    gauge("Each destination", "destination_oldest_seconds", "seconds", "Age of the oldest queued message", &["destination"]),
    gauge("Each destination", "destination_failures", "", "Failures in a row", &["destination"]),
    gauge("Each destination", "destination_backoff_seconds", "seconds", "Until it may be tried again", &["destination"]),
    gauge("Each destination", "destination_fresh_circuits", "", "Fresh circuits in the last hour", &["destination"]),
    // Intake over MQTT.
    gauge("Intake over MQTT", "broker_connected", "", "1 if the broker is connected", &[]),
    gauge("Intake over MQTT", "intake_in_hand", "", "Publications that wait for their flush", &[]),
    counter("Intake over MQTT", "broker_connections", "", "Connections", &[]),
    counter("Intake over MQTT", "broker_sessions_lost", "", "Times that the broker had lost our session", &[]),
    counter("Intake over MQTT", "broker_taken_over", "", "Times that another client took our client id", &[]),
    counter("Intake over MQTT", "intake_received", "", "Publications received", &[]),
    counter("Intake over MQTT", "intake_accepted", "", "Publications taken into custody", &[]),
    counter("Intake over MQTT", "intake_duplicates", "", "Publications recognised as redelivered", &[]),
    counter("Intake over MQTT", "intake_quarantined", "", "Publications acknowledged and quarantined", &[]),
    counter("Intake over MQTT", "intake_refused", "", "Publications refused because a destination was full", &[]),
    counter("Intake over MQTT", "intake_signals", "", "Signals over MQTT that were honoured", &[]),
    counter("Intake over MQTT", "intake_retained_ignored", "", "Retained messages that no route asked for", &[]),
    counter("Intake over MQTT", "intake_own_ignored", "", "Publications below the gateway's own prefix", &[]),
    counter("Intake over MQTT", "intake_replies_refused", "", "Response topics that are not answered", &[]),
    counter("Intake over MQTT", "intake_receipts_lost", "", "Devices not told that their message is accepted", &[]),
    counter("Intake over MQTT", "intake_acks_void", "", "Acknowledgements void because their connection was gone", &[]),
    // Tor.
    gauge("Tor", "uplink_ready", "", "1 if onion services can be reached", &[]),
    gauge("Tor", "uplink_bootstrap_percent", "percent", "How far the connection to Tor is", &[]),
    gauge("Tor", "uplink_obsolete", "", "1 if the gateway is too old for the Tor network", &[]),
    // What devices are told.
    gauge("What devices are told", "herald_failing", "", "1 if the last state or receipt was not taken", &[]),
    gauge("What devices are told", "herald_states_told", "", "Destinations whose state the broker has", &[]),
    counter("What devices are told", "herald_states", "", "States published to devices", &[]),
    counter("What devices are told", "herald_receipts", "", "Receipts of ends published to devices", &[]),
    counter("What devices are told", "herald_refused", "", "Publications that the broker refused", &[]),
    // The Matrix room.
    gauge("The Matrix room", "reporter_failing", "", "1 if the last event was not sent", &[]),
    counter("The Matrix room", "reporter_events", "", "Events sent to the room", &[]),
    counter("The Matrix room", "reporter_reports", "", "End states told in them", &[]),
];

impl Metric {
    /// The name that a query uses.
    pub(super) fn sample(&self) -> String {
        let ending = match self.kind {
            Kind::Counter => "_total",
            Kind::Gauge => "",
            Kind::Info => "_info",
        };
        format!("{PREFIX}_{}{ending}", self.name)
    }

    /// The name as the encoder wants it, which puts the unit behind it.
    pub(super) fn stem(&self) -> &'static str {
        let stem = self.name.strip_suffix(self.unit).and_then(|stem| stem.strip_suffix('_'));
        stem.unwrap_or(self.name)
    }
}

/// The metric of this name.
pub(super) fn find(name: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| metric.name == name)
}

/// `docs/metrics.md`.
#[must_use]
pub fn reference() -> String {
    let mut text = String::from(
        "# Metrics\n\n\
         What `GET /metrics` of the [admin endpoint](admin-api.md#metrics) shows, as a query names it. The labels are aliases of \
         destinations and names\nof states and actors. This file is printed by `cargo run -p tidegate -- man --metrics`; a test \
         compares the two.\n\n\
         [deploy/grafana/tidegate.json](../deploy/grafana/tidegate.json) is a dashboard of them, and \
         [deploy/prometheus/tidegate.rules.yml](../deploy/prometheus/tidegate.rules.yml)\nhas rules for alerts, each of which says what to do.\n",
    );
    let mut section = "";
    for metric in METRICS {
        if metric.section != section {
            section = metric.section;
            let _ = write!(text, "\n## {section}\n| name | type | unit | labels | what |\n|---|---|---|---|---|\n");
        }
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Info => "info",
        };
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let (name, unit, help, labels) = (metric.sample(), metric.unit, metric.help, labels.join(", "));
        let _ = writeln!(text, "| `{name}` | {kind} | {unit} | {labels} | {help} |");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_documentation_is_the_table() {
        let rows = reference().lines().filter(|line| line.starts_with("| `")).count();
        assert_eq!(rows, METRICS.len());
        let printed = include_str!("../../../docs/metrics.md");
        assert!(
            printed == reference(),
            "docs/metrics.md is out of date: cargo run -p tidegate -- man --metrics > docs/metrics.md"
        );
    }

    #[test]
    fn each_name_stands_once_and_ends_with_its_unit() {
        let names: BTreeSet<&str> = METRICS.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), METRICS.len());
        for metric in METRICS {
            let last = metric.name.rsplit('_').next().unwrap_or_default();
            let is_unit = ["seconds", "bytes", "percent"].contains(&last);
            assert_eq!(metric.unit, if is_unit { last } else { "" }, "{}", metric.name);
        }
    }

    /// The words of a file that name a metric of ours.
    fn named(text: &str) -> BTreeSet<&str> {
        let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        words.filter(|word| word.starts_with("tidegate_")).collect()
    }

    #[test]
    fn the_dashboard_and_the_alerts_ask_for_what_there_is() {
        let dashboard = include_str!("../../../deploy/grafana/tidegate.json");
        assert!(serde_json::from_str::<serde_json::Value>(dashboard).is_ok());
        let rules = include_str!("../../../deploy/prometheus/tidegate.rules.yml");
        let samples: BTreeSet<String> = METRICS.iter().map(Metric::sample).collect();
        for (file, words) in [("the dashboard", named(dashboard)), ("the alerts", named(rules))] {
            assert!(words.len() > 10, "{file} asks for {words:?}");
            for word in words {
                assert!(samples.contains(word), "{file} asks for {word}, which is not in the table");
            }
        }
    }
}
