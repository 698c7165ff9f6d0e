//! `tidegate status`: every part of the gateway in a line, and what needs a person first.

use super::{
    Global,
    admin_client::AdminClient,
    exit::{self, Failure},
    output,
};
use crate::{
    admin::status::{LineView, StatusView},
    web::words::counted,
};
use std::process::ExitCode;
use tidegate_schemas::clock::ClockView;
use tidegate_schemas::view::{AbsentDestination, BrokenDestination, EmbeddedBrokerView, Observation, UplinkStatus};

/// What no count here can show.
const WHAT_THE_BROKER_DROPS: &str = "What the broker itself drops is not counted here: packets above 1 MiB (MQTT 5), what is \
     beyond its own limits of size and queue, QoS 0 while the gateway is away, and what it had not saved when it was killed.";

/// Shows the status. The exit code is 0 when every part runs, else 75.
pub(super) async fn run(global: &Global) -> Result<ExitCode, Failure> {
    let status: StatusView = AdminClient::new(global)?.get("/api/v1/status").await?;
    if global.json {
        output::json(&status)?;
    } else {
        show(&status)?;
    }
    Ok(ExitCode::from(if status.ready { exit::OK } else { exit::LATER }))
}

fn show(status: &StatusView) -> Result<(), Failure> {
    let state = if status.ready { "all parts run" } else { "not all parts run" };
    let up = output::duration(status.uptime_s);
    output::line(&format!("tidegate {}, {}, up {up}: {state}", status.version, status.phase))?;
    let believed = if status.clock.trusted { "believed" } else { "not believed" };
    output::line(&format!("wall clock {}, {believed}: {}", output::moment(status.now), status.clock.why))?;
    for warning in warnings(status) {
        output::line(&format!("! {warning}"))?;
    }
    let mut table = output::table(&["part", "state", "restarts", "how it is"]);
    for view in &status.lines {
        table.add_row([&view.line.name, &view.line.state, &view.line.restarts.to_string(), &describe(view)]);
    }
    output::print(&table)?;
    if status.observations().any(|seen| matches!(seen, Observation::Subscriber(_))) {
        output::line(WHAT_THE_BROKER_DROPS)?;
    }
    Ok(())
}

/// What needs a person.
pub(crate) fn warnings(status: &StatusView) -> Vec<String> {
    let mut warnings = Vec::new();
    let ClockView { trusted, reason, why, hint } = &status.clock;
    if !trusted {
        let alarm = if reason.is_alarm() { "ALARM: " } else { "" };
        warnings.push(format!("{alarm}the wall clock is not believed, what depends on it waits: {why}; {hint}"));
    } else if !hint.is_empty() {
        warnings.push(format!("the wall clock is believed: {why}; {hint}"));
    }
    for AbsentDestination { destination, waiting } in &status.absent {
        warnings.push(format!(
            "{waiting} messages wait for {destination}, which is not there: nothing is delivered and nothing expires until it is; \
             `tidegate destination remove {destination} --queued purge` removes them for good"
        ));
    }
    for observation in status.observations() {
        match observation {
            Observation::Registry(registry) => {
                for BrokenDestination { destination, reason } in &registry.broken {
                    warnings.push(format!(
                        "{destination} can't be used until it is put right (destination edit): {reason}"
                    ));
                }
            }
            Observation::Outbox(outbox) => {
                if outbox.gap != 0 {
                    warnings.push(format!("the account has a gap of {}: please report this", outbox.gap));
                }
                if let Some(failure) = &outbox.failure {
                    warnings.push(format!("the outbox can't write: {failure}"));
                }
                if let Some(words) = &outbox.nearly_full {
                    warnings.push(format!("the gateway fills up: {words}"));
                }
                if outbox.break_glass_taken + outbox.break_glass_denied > 0 {
                    let (taken, denied) = (outbox.break_glass_taken, outbox.break_glass_denied);
                    warnings.push(format!(
                        "break-glass messages since the start: {taken} taken, {denied} more that must wait for their window"
                    ));
                }
                if outbox.receipts_lost > 0 {
                    let lost = outbox.receipts_lost;
                    warnings.push(format!(
                        "devices never hear how {lost} of their messages ended: the broker was away for too long"
                    ));
                }
                if outbox.reports_lost > 0 {
                    let lost = outbox.reports_lost;
                    warnings.push(format!(
                        "the room never hears of {lost} messages that ended: too many ended while the homeserver was away"
                    ));
                }
                if let Some(failure) = &outbox.archive_failure {
                    let waiting = outbox.archive_waiting;
                    warnings.push(format!(
                        "the ledger's files can't be written, {waiting} end states wait for them: {failure}"
                    ));
                }
                if outbox.archive_lost > 0 {
                    let lost = outbox.archive_lost;
                    warnings.push(format!(
                        "{lost} end states are not in the ledger's files: too many ended while these could not be written, or were \
                         switched off; a line there says which"
                    ));
                }
                for folder in &outbox.set_aside {
                    warnings.push(format!(
                        "a damaged outbox was set aside as {folder}: what waited in it is not delivered; restore it, or remove it"
                    ));
                }
            }
            Observation::Subscriber(it) => {
                if it.sessions_lost > 0 {
                    let times = it.sessions_lost;
                    warnings.push(format!(
                        "the broker lost our session {times} times: what came between may be lost at the broker"
                    ));
                }
                if it.taken_over > 0 {
                    let times = it.taken_over;
                    warnings.push(format!(
                        "another client took over our client id at the broker {times} times: two gateways on one state folder's copy?"
                    ));
                }
                if let Some(EmbeddedBrokerView { restarts: 1.., last_error, .. }) = &it.embedded {
                    let why = last_error.as_deref().unwrap_or("it ended");
                    warnings.push(format!("the embedded broker had to be started again: {why}; what it held is lost"));
                }
            }
            Observation::Uplink(uplink) => {
                if let UplinkStatus::Obsolete { reason } = &uplink.status {
                    warnings.push(format!("{reason}; messages are taken and wait"));
                }
            }
            _ => {}
        }
    }
    warnings
}

/// What is away now, and may come back by itself.
pub(crate) fn troubles(status: &StatusView) -> Vec<String> {
    let trouble = |observation: &Observation| match observation {
        Observation::Subscriber(it) if !it.connected => {
            let error = it.last_error.as_deref().map(|error| format!(": {error}")).unwrap_or_default();
            Some(format!("no connection to the broker at {}{error}", it.broker))
        }
        Observation::Uplink(it) => match &it.status {
            UplinkStatus::Failed { reason } => Some(format!("no way into Tor: {reason}; tried again")),
            _ => None,
        },
        Observation::Reporter(it) => it.last_error.as_deref().map(|error| format!("the room can't be told: {error}")),
        Observation::Herald(it) => it.last_error.as_deref().map(|error| format!("devices can't be told: {error}")),
        _ => None,
    };
    status.observations().filter_map(trouble).collect()
}

/// How a part is, in words.
pub(crate) fn describe(view: &LineView) -> String {
    if let Some(observation) = &view.observation {
        return words(observation);
    }
    let fall = view.line.last_fall.as_deref().map(|fall| format!("last fall: {fall}"));
    let next = view.line.next_try_in_ms.map(|ms| format!("next try in {}", output::duration(ms / 1_000)));
    let known: Vec<String> = fall.into_iter().chain(next).collect();
    if known.is_empty() { "no answer".to_owned() } else { known.join(", ") }
}

fn words(observation: &Observation) -> String {
    match observation {
        Observation::Registry(it) => {
            format!("{}, {}", counted(it.destinations, "destination"), counted(it.routes, "route"))
        }
        Observation::Outbox(it) => {
            let account = &it.account;
            format!(
                "{} accepted: {} queued, {} held, {} parked, {} dead, {} delivered, {} expired, {} purged, {} quarantined, {} \
                 refused, {} dropped; gap {}; {} on disk",
                account.accepted,
                account.queued,
                account.held,
                account.parked,
                account.dead,
                account.delivered,
                account.expired,
                account.purged,
                account.quarantined,
                account.refused,
                account.dropped,
                it.gap,
                output::bytes(it.disk_bytes)
            )
        }
        Observation::Subscriber(it) => {
            let state = if it.connected { "connected" } else { "not connected" };
            let error = it.last_error.as_deref().filter(|_| !it.connected);
            let error = error.map(|error| format!(": {error}")).unwrap_or_default();
            let embedded = it.embedded.as_ref().map(|broker| {
                let pid = broker.pid.map_or_else(|| "not running".to_owned(), |pid| format!("process {pid}"));
                format!(" ({pid}, started again {} times)", broker.restarts)
            });
            let embedded = embedded.unwrap_or_default();
            format!("{state} to {}{embedded}{error}; {} received, {} in hand", it.broker, it.received, it.in_hand)
        }
        Observation::Uplink(it) => match &it.status {
            UplinkStatus::Starting => format!("{}: starting", it.transport),
            UplinkStatus::Bootstrapping { percent, doing } => format!("{}: {percent} %, {doing}", it.transport),
            UplinkStatus::Ready => format!("{}: ready", it.transport),
            UplinkStatus::Failed { reason } => format!("{}: {reason}; tried again", it.transport),
            UplinkStatus::Obsolete { .. } => format!("{}: too old for the Tor network", it.transport),
        },
        Observation::Dispatcher(it) => {
            let suspended: Vec<&str> = it.suspended.iter().map(|id| id.as_str()).collect();
            let suspended =
                if suspended.is_empty() { String::new() } else { format!("; suspended: {}", suspended.join(", ")) };
            let couriers = counted(it.couriers.len() as u64, "courier");
            let waiting = counted(it.waiting_total, "destination");
            format!("{couriers} under way, {waiting} waiting{suspended}")
        }
        Observation::Courier(it) => {
            format!("{}: {} in flight, {} delivered", it.destination, it.in_flight, it.delivered)
        }
        Observation::Herald(it) => {
            let error = it.last_error.as_deref().map(|error| format!("; {error}")).unwrap_or_default();
            let (states, receipts) = (it.states_told, it.receipts_published);
            format!("devices are told of {states} destinations, {receipts} receipts{error}")
        }
        Observation::Reporter(it) => {
            let error = it.last_error.as_deref().map(|error| format!("; {error}")).unwrap_or_default();
            format!("{} deliveries told in {} events{error}", it.reports_sent, it.events_sent)
        }
        Observation::Toy(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::access::Line;
    use tidegate_schemas::clock::ClockTrust;
    use tidegate_schemas::view::{OutboxObservation, SubscriberObservation, UplinkObservation};

    #[test]
    fn a_gap_and_a_wrong_clock_are_told_first() {
        let failure = Some("full".into());
        let outbox = OutboxObservation {
            gap: 2,
            failure,
            reports_lost: 41,
            archive_lost: 43,
            archive_waiting: 7,
            archive_failure: Some("no room for it".into()),
            nearly_full: Some("81 of 100".into()),
            ..OutboxObservation::default()
        };
        let subscriber = SubscriberObservation { sessions_lost: 3, taken_over: 7, ..SubscriberObservation::default() };
        let seen = [Observation::Outbox(outbox), Observation::Subscriber(subscriber)];
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
        let told = warnings(&status).join("\n");
        assert!(
            told.contains("ALARM: the wall clock is not believed") && told.contains("time daemon's sources"),
            "{told}"
        );
        assert!(told.contains("gap of 2") && told.contains("full"), "{told}");
        assert!(told.contains("never hears of 41") && told.contains("session 3 times"), "{told}");
        assert!(told.contains("fills up: 81 of 100"), "{told}");
        assert!(
            told.contains("7 end states wait for them: no room for it") && told.contains("43 end states"),
            "{told}"
        );
        assert!(told.contains("took over our client id at the broker 7 times"), "{told}");
    }

    #[test]
    fn what_the_embedded_broker_lost_and_a_tor_that_is_too_old_are_told() {
        let embedded =
            EmbeddedBrokerView { pid: Some(41), restarts: 2, last_error: Some("it ended (signal 9)".into()) };
        let subscriber = SubscriberObservation { embedded: Some(embedded), ..SubscriberObservation::default() };
        let reason = "update tidegate".to_owned();
        let uplink = UplinkObservation { status: UplinkStatus::Obsolete { reason }, ..UplinkObservation::default() };
        let outbox = OutboxObservation { set_aside: vec!["outbox.bad-1".into()], ..OutboxObservation::default() };
        let seen = [Observation::Subscriber(subscriber), Observation::Uplink(uplink), Observation::Outbox(outbox)];
        assert!(words(&seen[0]).contains("(process 41, started again 2 times)"), "{}", words(&seen[0]));
        let lines = seen.map(|seen| LineView { line: Line::default(), observation: Some(seen) }).to_vec();
        let status = StatusView {
            absent: vec![],
            version: "1".into(),
            uptime_s: 1,
            now: jiff::Timestamp::UNIX_EPOCH,
            clock: ClockTrust::Assumed.view(),
            phase: "running".into(),
            ready: true,
            audit_failures: 0,
            lines,
        };
        let told = warnings(&status).join("\n");
        for part in [
            "clock.trust = \"assume\" says",
            "signal 9",
            "update tidegate; messages are taken and wait",
            "outbox.bad-1",
        ] {
            assert!(told.contains(part), "{told}");
        }
    }

    #[test]
    fn a_line_that_is_down_says_why_and_when_it_is_tried() {
        let line = Line { last_fall: Some("panicked".into()), next_try_in_ms: Some(65_000), ..Line::default() };
        assert_eq!(describe(&LineView { line, observation: None }), "last fall: panicked, next try in 1m 5s");
    }
}
