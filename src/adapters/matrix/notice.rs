//! A notice: a short text for people, and the acknowledgements for programs in the same event, under [`ACKNOWLEDGEMENT`].
//!
//! It holds aliases, message ids, end states, times to the minute and attempts; no payload, no address, no place in the outbox.
//! Integers and strings alone: homeservers refuse events with fractions. Nobody is mentioned, so it rings nowhere.
//!
//! Anybody in the room can write an event that looks so: whoever reads it must look at its sender.

use ruma::{
    events::{AnyMessageLikeEventContent, Mentions, room::message::RoomMessageEventContent},
    serde::Raw,
};
use serde::Serialize;
use std::collections::BTreeMap;
use tidegate_schemas::{entry::EntryState, messages::outbox::ReportBatch, view::LedgerView};

/// The key of the acknowledgements in the event's content.
pub const ACKNOWLEDGEMENT: &str = "org.tidegate.acknowledgement";
/// Version of what is under it.
const VERSION: u32 = 1;
/// Kinds of end (destination and state) that the text of a notice names; the others are summed up.
const KINDS_MAX: usize = 12;

#[derive(Serialize)]
struct Notice {
    #[serde(flatten)]
    message: RoomMessageEventContent,
    #[serde(rename = "org.tidegate.acknowledgement")]
    acknowledgement: Acknowledgement,
}

#[derive(Serialize)]
struct Acknowledgement {
    version: u32,
    reports: Vec<Report>,
}

#[derive(Serialize)]
struct Report {
    id: String,
    destination: String,
    device: String,
    state: EntryState,
    accepted: String,
    ended: String,
    attempts: u32,
    /// The receiver signed for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// It went as an alarm.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    break_glass: bool,
}

/// The content of the event that tells of a batch.
///
/// # Errors
/// Never in practice: it is text and integers.
pub(super) fn content(batch: &ReportBatch) -> serde_json::Result<Raw<AnyMessageLikeEventContent>> {
    let message = RoomMessageEventContent::notice_plain(text(&batch.reports)).add_mentions(Mentions::new());
    let reports = batch.reports.iter().map(report).collect();
    let notice = Notice { message, acknowledgement: Acknowledgement { version: VERSION, reports } };
    Ok(Raw::new(&notice)?.cast_unchecked())
}

fn report(view: &LedgerView) -> Report {
    Report {
        id: view.id.to_string(),
        destination: view.entry.destination.to_string(),
        device: view.device.to_string(),
        state: view.state,
        accepted: minute(view.accepted_ms),
        ended: minute(view.ended_ms),
        attempts: view.attempts,
        receipt: view.receipt.then_some("signed"),
        reason: why(view),
        break_glass: view.break_glass,
    }
}

/// What ended it, or why the last attempt failed.
fn why(view: &LedgerView) -> Option<String> {
    let ended_by = view.ended_by.map(|by| by.to_string());
    ended_by.or_else(|| view.reason.map(|reason| reason.to_string()))
}

/// A time to the minute: `2026-11-23T04:51Z`.
fn minute(ms: i64) -> String {
    let time = jiff::Timestamp::from_millisecond(ms).unwrap_or_default();
    time.strftime("%Y-%m-%dT%H:%MZ").to_string()
}

fn word(state: EntryState) -> &'static str {
    match state {
        // A warning: its agreement says when people are told.
        EntryState::Queued => "still waiting",
        EntryState::Held => "held",
        EntryState::Parked => "parked",
        EntryState::Dead => "dead",
        EntryState::Delivered => "delivered",
        EntryState::Expired => "expired",
        EntryState::Purged => "purged",
        EntryState::Dropped => "dropped",
        EntryState::Refused => "refused, and perhaps more with it: a limit is reached",
    }
}

fn text(reports: &[LedgerView]) -> String {
    match reports {
        [one] => text_of_one(one),
        many => text_of_many(many),
    }
}

fn text_of_one(view: &LedgerView) -> String {
    let (device, destination, state) = (&view.device, &view.entry.destination, word(view.state));
    let attempts = match view.attempts {
        1 => "1 attempt".to_owned(),
        more => format!("{more} attempts"),
    };
    let since = match view.state {
        EntryState::Queued => format!("since {}", minute(view.accepted_ms)),
        _ => minute(view.ended_ms),
    };
    let flag = if view.break_glass { ", break-glass" } else { "" };
    let signed = if view.receipt { ", signed for" } else { "" };
    let reason = why(view).map(|reason| format!(", {reason}")).unwrap_or_default();
    format!("{device} to {destination}: {state} {since}, {attempts}{signed}{reason}{flag} ({})", view.id)
}

fn text_of_many(reports: &[LedgerView]) -> String {
    let mut kinds: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for view in reports {
        *kinds.entry((view.entry.destination.as_str(), word(view.state))).or_default() += 1;
    }
    let mut named: Vec<String> = kinds.iter().map(|((to, state), n)| format!("{n} to {to} {state}")).collect();
    if named.len() > KINDS_MAX {
        let others: u64 = kinds.values().skip(KINDS_MAX).sum();
        named.truncate(KINDS_MAX);
        named.push(format!("{others} others"));
    }
    let until = reports.iter().map(|view| view.ended_ms).max().unwrap_or_default();
    format!("{} messages by {}: {}", reports.len(), minute(until), named.join(", "))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use serde_json::Value;
    use tidegate_schemas::{
        id::{EntryRef, MessageId},
        outcome::DeliveryError,
    };

    /// The largest event that a homeserver takes, in bytes (client-server specification, "Size limits").
    const EVENT_BYTES_MAX: usize = 65_536;

    fn view(no: u64, destination: &str, state: EntryState) -> LedgerView {
        let end = state == EntryState::Delivered;
        LedgerView {
            no,
            entry: EntryRef { destination: destination.parse().unwrap(), seq: no },
            id: MessageId::from_random([9; 16]),
            device: "pacemaker".parse().unwrap(),
            state,
            accepted_ms: 1_795_409_499_999,
            ended_ms: 1_795_409_519_001,
            attempts: 1,
            receipt: end,
            reason: (!end).then_some(DeliveryError::Status(422)),
            ended_by: None,
            break_glass: false,
        }
    }

    fn batch(reports: Vec<LedgerView>) -> ReportBatch {
        ReportBatch { transaction_id: "t".into(), first: 1, last: reports.len() as u64, reports, more: 0 }
    }

    fn json(batch: &ReportBatch) -> Value {
        serde_json::from_str(content(batch).unwrap().json().get()).unwrap()
    }

    #[test]
    fn a_notice_says_it_to_people_and_to_programs() {
        let content = json(&batch(vec![view(7, "cardiology", EntryState::Delivered)]));
        let id = MessageId::from_random([9; 16]).to_string();
        let minute = "2026-11-23T04:51Z";
        assert_eq!(content["msgtype"], "m.notice");
        assert_eq!(content["m.mentions"], serde_json::json!({}));
        let said = format!("pacemaker to cardiology: delivered {minute}, 1 attempt, signed for ({id})");
        assert_eq!(content["body"], said);
        assert_eq!(
            content[ACKNOWLEDGEMENT],
            serde_json::json!({ "version": 1, "reports": [{
                "id": id, "destination": "cardiology", "device": "pacemaker", "state": "delivered",
                "accepted": minute, "ended": minute, "attempts": 1, "receipt": "signed",
            }]})
        );
    }

    #[test]
    fn a_warning_says_since_when_it_waits() {
        let mut waiting = view(7, "cardiology", EntryState::Queued);
        waiting.accepted_ms -= 86_400_000;
        let body = json(&batch(vec![waiting]))["body"].clone();
        let body = body.as_str().unwrap();
        assert!(
            body.starts_with("pacemaker to cardiology: still waiting since 2026-11-22T04:51Z, 1 attempt,"),
            "{body}"
        );
    }

    #[test]
    fn many_are_summed_up_in_the_text() {
        let mut reports: Vec<_> = (0..97).map(|no| view(no, "cardiology", EntryState::Delivered)).collect();
        reports.push(view(98, "cardiology", EntryState::Parked));
        let content = json(&batch(reports));
        let said = "98 messages by 2026-11-23T04:51Z: 97 to cardiology delivered, 1 to cardiology parked";
        assert_eq!(content["body"], said);
        let last = &content[ACKNOWLEDGEMENT]["reports"][97];
        assert_eq!((&last["state"], last.get("receipt")), (&Value::from("parked"), None));
        assert!(last["reason"].as_str().unwrap().contains("422"));
    }

    #[test]
    fn the_largest_notice_fits_an_event_and_holds_no_fraction() {
        let reports = (0..100).map(|no| {
            let mut view = view(no, &format!("{no:0>64}"), EntryState::Delivered);
            view.device = "d".repeat(64).parse().unwrap();
            view.attempts = u32::MAX;
            // The longest of its kind.
            view.reason = Some(DeliveryError::ClientAuthMissing);
            view
        });
        let content = content(&batch(reports.collect())).unwrap();
        let bytes = content.json().get().len();
        // The homeserver's own part of the event: ids, hashes, signatures.
        assert!(bytes + 4_096 < EVENT_BYTES_MAX, "{bytes} bytes");
        fn whole(value: &Value) -> bool {
            match value {
                Value::Number(number) => !number.is_f64(),
                Value::Array(values) => values.iter().all(whole),
                Value::Object(values) => values.values().all(whole),
                _ => true,
            }
        }
        assert!(whole(&serde_json::from_str(content.json().get()).unwrap()));
    }
}
