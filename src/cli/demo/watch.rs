//! Watches readings on their way: the gateway's admin endpoint tells what it has and has delivered, the room what it was told.

use super::{
    Failure, Stop, failed,
    parts::{DESTINATION, Parts},
};
use crate::{
    adapters::matrix::ACKNOWLEDGEMENT,
    admin::status::StatusView,
    cli::{output, pacemaker::PROGRESS},
    lab::{HttpError, HttpRequest, Process},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    time::{Duration, Instant},
};
use tidegate_schemas::view::{Observation, UplinkStatus};

/// Between two looks.
pub(super) const POLL: Duration = Duration::from_millis(250);
/// Between two lines of progress.
const LINE_PAUSE: Duration = Duration::from_secs(1);
/// Notices of the room whose text is shown.
const NOTICES_SHOWN_MAX: usize = 3;

/// Where the readings are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Published by the pacemaker, as it last said.
    pub(super) published: u64,
    /// Taken into custody, ever.
    pub(super) accepted: u64,
    /// In custody and not delivered.
    pub(super) waiting: u64,
    /// Delivered.
    pub(super) delivered: u64,
    /// Different message ids that the gateway told the room as delivered and signed for.
    pub(super) acknowledged: u64,
}

/// Looks at the parts, and tells what changed.
pub(super) struct Watch<'a> {
    parts: &'a mut Parts,
    stop: &'a Stop,
    began: Instant,
    told: Option<(Instant, Counts)>,
    notices_shown: usize,
}

impl<'a> Watch<'a> {
    /// Begins now.
    pub(super) fn new(parts: &'a mut Parts, stop: &'a Stop) -> Self {
        Self { parts, stop, began: Instant::now(), told: None, notices_shown: 0 }
    }

    /// Looks until `enough` (given the counts, and whether the pacemaker has ended) or the limit is over, which is no failure.
    pub(super) fn until(&mut self, limit: Duration, enough: impl Fn(&Counts, bool) -> bool) -> Result<(), Failure> {
        let deadline = Instant::now() + limit;
        loop {
            let counts = self.look()?;
            let ended = self.parts.device.as_mut().is_none_or(|device| device.check().is_err());
            let done = enough(&counts, ended);
            self.tell(counts, done);
            if done || Instant::now() >= deadline {
                return Ok(());
            }
            self.stop.pause()?;
        }
    }

    /// Where the readings are now.
    pub(super) fn look(&mut self) -> Result<Counts, Failure> {
        self.parts.gateway.check().map_err(|error| failed(&error))?;
        self.parts.receiver.check().map_err(|error| failed(&error))?;
        let status = status(self.parts.admin, &self.parts.admin_token).map_err(|error| failed(&error))?;
        let mut counts = Counts { published: self.published_so_far(), ..Counts::default() };
        for observation in status.iter().flat_map(StatusView::observations) {
            if let Observation::Outbox(outbox) = observation {
                let account = &outbox.account;
                counts.accepted = account.accepted;
                counts.delivered = account.delivered;
                counts.waiting = account.queued + account.held + account.parked + account.dead;
            }
        }
        let timeline = self.parts.family.timeline(&self.parts.room).map_err(|error| failed(&error))?;
        let notices = timeline.iter().filter(|event| event["sender"] == self.parts.gateway_user.as_str());
        let contents: Vec<&Value> =
            notices.map(|event| &event["content"]).filter(|content| content[ACKNOWLEDGEMENT].is_object()).collect();
        counts.acknowledged = acknowledged(&contents);
        for notice in contents.iter().take(NOTICES_SHOWN_MAX).skip(self.notices_shown) {
            output::message(&format!("  in the room: {}", notice["body"].as_str().unwrap_or_default()));
        }
        self.notices_shown = self.notices_shown.max(contents.len());
        Ok(counts)
    }

    /// A line of progress, unless nothing changed or the last one is too fresh.
    fn tell(&mut self, counts: Counts, at_once: bool) {
        let known =
            self.told.as_ref().is_some_and(|(at, told)| *told == counts || (!at_once && at.elapsed() < LINE_PAUSE));
        if known {
            return;
        }
        let Counts { published, accepted, waiting, delivered, acknowledged } = &counts;
        // The pacemaker tells of itself once a second, the gateway whenever it is asked.
        let published = published.max(accepted);
        output::message(&format!(
            "{:5.1} s  published {published:>4}   taken into custody {accepted:>4}   waiting {waiting:>4}   delivered {delivered:>4}   acknowledged in the room {acknowledged:>4}",
            self.began.elapsed().as_secs_f64()
        ));
        self.told = Some((Instant::now(), counts));
    }

    /// The hospital says "not now", as an operator may for it: its window is closed for ten minutes.
    pub(super) fn close_window(&self) -> Result<(), Failure> {
        self.signal(&json!({ "not_now_for": "10m" }))
    }

    /// It takes that back: its agreement has no windows, so it is open.
    pub(super) fn open_window(&self) -> Result<(), Failure> {
        self.signal(&json!({ "clear": true }))
    }

    fn signal(&self, said: &Value) -> Result<(), Failure> {
        let path = format!("/api/v1/destinations/{DESTINATION}/signal");
        let request = HttpRequest::new("POST", self.parts.admin, path).bearer(&self.parts.admin_token);
        request.json(said).send_ok().map(drop).map_err(|error| failed(&error))
    }

    /// How many readings the broker acknowledged to the pacemaker, as the pacemaker says.
    pub(super) fn published(&self) -> Result<u64, Failure> {
        let Some(device) = &self.parts.device else { return Ok(0) };
        let text = fs::read_to_string(device.log()).map_err(|error| failed(&error))?;
        // Its result is one JSON value among what it may have logged.
        let result = text.find('{').and_then(|at| serde_json::Deserializer::from_str(&text[at..]).into_iter().next());
        let result: Option<Value> = result.and_then(Result::ok);
        result.and_then(|result| result["acknowledged"].as_u64()).ok_or_else(|| unfinished(device))
    }

    /// The same while it publishes.
    fn published_so_far(&self) -> u64 {
        let log =
            self.parts.device.as_ref().and_then(|device| fs::read_to_string(device.log()).ok()).unwrap_or_default();
        self.published().ok().or_else(|| progress(&log)).unwrap_or_default()
    }

    /// A failure with the end of the gateway's log, unless it is a signal's or quotes a log itself.
    pub(super) fn explain(&self, failure: Failure) -> Failure {
        if self.stop.check().is_err() || failure.message.contains("its log ends with") {
            return failure;
        }
        let log = self.parts.gateway.log_tail();
        Failure { message: format!("{}; the gateway's log ends with: {log}", failure.message), ..failure }
    }
}

/// The last line of progress in the pacemaker's output.
fn progress(log: &str) -> Option<u64> {
    log.lines().rev().find_map(|line| line.strip_suffix(PROGRESS)?.parse().ok())
}

fn unfinished(device: &Process) -> Failure {
    Failure::failed(format!("the pacemaker did not finish; its log ends with: {}", device.log_tail()))
}

/// Different ids that were told as delivered and signed for.
fn acknowledged(notices: &[&Value]) -> u64 {
    let reports = notices.iter().filter_map(|notice| notice[ACKNOWLEDGEMENT]["reports"].as_array()).flatten();
    let signed = reports.filter(|report| report["state"] == "delivered" && report["receipt"] == "signed");
    let ids: BTreeSet<&str> = signed.filter_map(|report| report["id"].as_str()).collect();
    ids.len() as u64
}

/// The gateway's status; `None` when its answer is none that we know.
fn status(admin: SocketAddr, token: &str) -> Result<Option<StatusView>, HttpError> {
    let answer = HttpRequest::new("GET", admin, "/api/v1/status").bearer(token).send_ok()?;
    Ok(serde_json::from_slice(&answer.body).ok())
}

/// Whether every line of the gateway is up, its broker connected and Tor ready.
pub(super) fn is_connected(admin: SocketAddr, token: &str) -> bool {
    let Ok(Some(status)) = status(admin, token) else { return false };
    let holds = |wanted: fn(&Observation) -> bool| status.observations().any(wanted);
    status.ready
        && holds(|it| matches!(it, Observation::Subscriber(subscriber) if subscriber.connected))
        && holds(|it| matches!(it, Observation::Uplink(uplink) if uplink.status == UplinkStatus::Ready))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_of_progress_counts() {
        assert_eq!(progress("connected\n7 readings published so far\n12 readings published so far\n{\n"), Some(12));
        assert_eq!(progress("connected\n"), None);
    }

    #[test]
    fn only_signed_deliveries_count_and_each_once() {
        let notice = |reports: Value| json!({ ACKNOWLEDGEMENT: { "version": 1, "reports": reports } });
        let first = notice(json!([
            { "id": "a", "state": "delivered", "receipt": "signed" },
            { "id": "b", "state": "delivered" },
            { "id": "c", "state": "expired" },
        ]));
        let again = notice(json!([{ "id": "a", "state": "delivered", "receipt": "signed" }]));
        assert_eq!(acknowledged(&[&first, &again, &json!({ "body": "hello" })]), 1);
    }
}
