//! `schemas/asyncapi.json` says what the code does: its topics, its words, its members, its examples.

#![expect(clippy::unwrap_used, reason = "tests")]
use super::{
    OFFLINE, ONLINE, Own, Tidings,
    receipt::{ReceiptTiding, ReceiptWord},
    state::{StateTiding, StateWord},
};
use crate::{id::MessageId, signal::SignalBody, submission::BODY_BYTES_MAX};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeSet;

fn document() -> Value {
    serde_json::from_str(include_str!("../../asyncapi.json")).unwrap()
}

fn tidings() -> Tidings {
    Tidings { receipts: true, ..Tidings::default() }
}

/// The words of a message's state, and its members.
fn described(message: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let payload = document()["components"]["messages"][message]["payload"].clone();
    let words = payload["properties"]["state"]["enum"].as_array().unwrap().iter();
    let members = payload["properties"].as_object().unwrap().keys().cloned();
    (words.map(|word| word.as_str().unwrap().to_owned()).collect(), members.collect())
}

fn named<W: Serialize>(words: &[W]) -> BTreeSet<String> {
    words.iter().map(|word| serde_json::to_value(word).unwrap().as_str().unwrap().to_owned()).collect()
}

fn members(body: &str) -> BTreeSet<String> {
    serde_json::from_str::<Value>(body).unwrap().as_object().unwrap().keys().cloned().collect()
}

#[test]
fn topics_are_where_the_gateway_speaks_and_listens() {
    let (document, tidings) = (document(), tidings());
    let address = |channel: &str| document["channels"][channel]["address"].as_str().unwrap().to_owned();
    let filled = |channel: &str| address(channel).replace("{destination}", "ward").replace("{device}", "cuff");
    assert_eq!(address("presence"), tidings.presence().unwrap().topic);
    assert_eq!(filled("destinationState"), tidings.state_topic(&"ward".parse().unwrap()));
    assert_eq!(filled("receipt"), tidings.receipt_topic(&"cuff".parse().unwrap()));
    assert_eq!(tidings.own(&filled("signal")), Some(Own::Signal(Some("ward".parse().unwrap()))));
    assert_eq!(tidings.own(&address("reading")), None);
}

#[test]
fn words_and_members_are_those_of_the_code() {
    use ReceiptWord as R;
    use StateWord as S;
    // A new word does not compile here until it has a line.
    let states = [S::Closed, S::Open, S::Ready, S::Draining, S::Paused, S::Unreachable];
    for word in states {
        match word {
            S::Closed | S::Open | S::Ready | S::Draining | S::Paused | S::Unreachable => {}
        }
    }
    let receipts = [R::Accepted, R::Delivered, R::Expired, R::Refused, R::Dropped, R::Purged];
    for word in receipts {
        match word {
            R::Accepted | R::Delivered | R::Expired | R::Refused | R::Dropped | R::Purged => {}
        }
    }
    let now = Some("2027-01-04T08:00:00Z".parse().unwrap());
    let state = StateTiding { state: S::Closed, until: Some(1), next_open: Some(2) }.body(3, now);
    assert_eq!(described("state"), (named(&states), members(&state)));
    let mut told = members(&ReceiptTiding::accepted(MessageId::from_random([1; 16])).body(now));
    // Not every one has it.
    told.insert("reason".to_owned());
    assert_eq!(described("receipt"), (named(&receipts), told));
    let presence = [ONLINE, OFFLINE].map(|text| serde_json::from_str::<Value>(text).unwrap()["state"].clone());
    assert_eq!(described("presence").0, named(&presence));
}

#[test]
fn signals_and_limits_are_those_of_the_code() {
    let document = document();
    let signal = &document["components"]["messages"]["signal"];
    let every = r#"{"ready_for":"1m","ready_until":"2027-01-04T08:00:00Z","not_now_for":"1m","clear":true}"#;
    let body: SignalBody = serde_json::from_str(every).unwrap();
    let known = members(&serde_json::to_string(&body).unwrap());
    let described: BTreeSet<String> = signal["payload"]["properties"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(described, known);
    for example in signal["examples"].as_array().unwrap() {
        serde_json::from_value::<SignalBody>(example["payload"].clone()).unwrap();
    }
    let reading = document["components"]["messages"]["reading"]["description"].as_str().unwrap();
    assert!(reading.contains(&format!("at most {BODY_BYTES_MAX} bytes")), "{reading}");
}
