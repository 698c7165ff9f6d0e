//! What an answer means for each entry of its request. Whatever a service answers, there is a verdict and no panic.

use super::{EventResult, WireAnswer, WireFormat, encode::content, receipt};
use crate::{
    agreement::{Destination, StatusLists, Success},
    entry::Entry,
    outcome::{DeliveryError, Disposition, Failure},
};
use bytes::Bytes;
use std::collections::HashMap;

/// What came of one entry: delivered, with the receipt where a valid one came; or how it failed.
pub type Verdict = Result<Option<Bytes>, Failure>;

/// Judges the answer to a request with these entries: one verdict each, in their order.
///
/// - A status other than 2xx (or of the agreement's `ok` list) fails all of them; a redirect is never followed. `Retry-After` counts if it is a number of seconds.
/// - Where receipts are agreed, only a receipt that verifies delivers: a page that answers 200 to everything delivers nothing.
/// - In the batch format each event has its own result. A service that answers 2xx without results took them all, unless
///   receipts are agreed; one that gives results but leaves an event out did not take that one.
#[must_use]
pub fn judge(entries: &[Entry], destination: &Destination, answer: &WireAnswer) -> Vec<Verdict> {
    let retry_after_s = retry_after(answer);
    let fail = |error| Failure { error, retry_after_s };
    if let Err(error) = check_status(answer.status, &destination.agreement.statuses) {
        return entries.iter().map(|_| Err(fail(error))).collect();
    }
    let results = read_results(answer);
    let judge_one = |entry: &Entry| match &results {
        None => without_result(destination.agreement.success),
        Some(results) => with_results(entry, destination, results),
    };
    entries.iter().map(|entry| judge_one(entry).map_err(fail)).collect()
}

/// Whether the service refused a request of several entries in a way that concerns messages, without saying which one. Then the
/// entries are sent again one by one, so that only the one at fault is parked.
#[must_use]
pub fn refuses_as_a_whole(entries: &[Entry], statuses: &StatusLists, answer: &WireAnswer) -> bool {
    entries.len() > 1
        && check_status(answer.status, statuses)
            .is_err_and(|error| matches!(statuses.disposition(error), Disposition::Park | Disposition::Refuse))
}

fn check_status(status: u16, statuses: &StatusLists) -> Result<(), DeliveryError> {
    match status {
        _ if statuses.ok.contains(&status) => Ok(()),
        200..=299 => Ok(()),
        300..=399 => Err(DeliveryError::Redirect(status)),
        100..=599 => Err(DeliveryError::Status(status)),
        _ => Err(DeliveryError::AnswerMalformed),
    }
}

/// Seconds only: a date would have to be compared with a clock, and both clocks may be wrong.
fn retry_after(answer: &WireAnswer) -> Option<u32> {
    let (_, value) = answer.headers.iter().find(|(name, _)| name == "retry-after")?;
    let value = value.trim();
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| value.parse().unwrap_or(u32::MAX))
}

/// The results in the answer, by id; the first of several for one id counts. `None` if the body is none of ours.
fn read_results(answer: &WireAnswer) -> Option<HashMap<String, EventResult>> {
    let results: Vec<EventResult> = serde_json::from_slice(&answer.body).ok().filter(|all: &Vec<_>| !all.is_empty())?;
    let mut by_id = HashMap::with_capacity(results.len());
    for result in results {
        by_id.entry(result.id.to_ascii_lowercase()).or_insert(result);
    }
    Some(by_id)
}

fn without_result(success: Success) -> Result<Option<Bytes>, DeliveryError> {
    match success {
        Success::Any2xx => Ok(None),
        Success::Receipt => Err(DeliveryError::ReceiptMissing),
    }
}

fn with_results(
    entry: &Entry,
    destination: &Destination,
    results: &HashMap<String, EventResult>,
) -> Result<Option<Bytes>, DeliveryError> {
    let agreement = &destination.agreement;
    let Some(result) = results.get(&entry.envelope.id.to_string()) else {
        // A single message has the status of the answer; only a batch needs to be told apart.
        return match agreement.format {
            WireFormat::CloudeventsBatch => Err(DeliveryError::AnswerMalformed),
            WireFormat::PrivateIot | WireFormat::Raw | WireFormat::Cloudevents => without_result(agreement.success),
        };
    };
    check_status(result.status, &agreement.statuses)?;
    let Some(text) = &result.receipt else { return without_result(agreement.success) };
    let hash = receipt::content_hash(&content(entry, agreement.format));
    let valid =
        destination.keys.receipt_key.is_some_and(|key| receipt::verify(text, &key, entry.envelope.id, &hash).is_ok());
    match (valid, agreement.success) {
        (true, _) => Ok(Some(Bytes::copy_from_slice(text.as_bytes()))),
        (false, Success::Any2xx) => Ok(None),
        (false, Success::Receipt) => Err(DeliveryError::ReceiptWrong),
    }
}
