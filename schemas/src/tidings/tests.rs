//! What devices are told, and where.
#![expect(clippy::unwrap_used, reason = "tests")]
use super::*;
use crate::{
    entry::{EndedBy, EntryState},
    id::MessageId,
    messages::outbox::{DeviceReceipt, IntakeLimit},
    record::Throughput,
    route::{IdSource, PayloadHandling, Route},
    submission::Priority,
    view::{DestinationLoad, UplinkStatus},
};
use jiff::Timestamp;
use proptest::prelude::*;

fn routes(filter: &str) -> Routes {
    Routes(vec![Route {
        filter: filter.parse().unwrap(),
        device: IdSource::Fixed("pacemaker".parse().unwrap()),
        destination: IdSource::Fixed("ward".parse().unwrap()),
        allow: Some(vec!["ward".parse().unwrap()]),
        payload: PayloadHandling::Opaque,
        retained: false,
        priority: Priority::Normal,
    }])
}

fn device() -> DeviceId {
    "pacemaker".parse().unwrap()
}

fn reply(topic: &str) -> ReplyTo {
    ReplyTo { topic: topic.to_owned(), correlation: None }
}

#[test]
fn only_the_gateways_own_topics_lie_below_the_prefix() {
    let tidings = Tidings::default();
    let ward: DestinationId = "ward".parse().unwrap();
    assert_eq!(tidings.own("tidegate/destinations/ward/signal"), Some(Own::Signal(Some(ward.clone()))));
    assert_eq!(tidings.own("tidegate/destinations/No One/signal"), Some(Own::Signal(None)));
    assert_eq!(tidings.own(&tidings.signal_filter().replace('+', "ward")), Some(Own::Signal(Some(ward.clone()))));
    for own in ["tidegate", "tidegate/state", "tidegate/destinations/ward/state", "tidegate/destinations/a/b/signal"] {
        assert_eq!(tidings.own(own), Some(Own::Other), "{own}");
    }
    for other in ["tidegates/state", "x/tidegate/state", "ward/bpm", ""] {
        assert_eq!(tidings.own(other), None, "{other}");
    }
    assert_eq!(tidings.own(&tidings.state_topic(&ward)), Some(Own::Other));
    assert_eq!(tidings.presence().unwrap().topic, "tidegate/state");
    assert_eq!(Tidings { states: false, ..tidings }.presence(), None);
}

#[test]
fn a_device_is_answered_where_the_config_says_and_nowhere_else() {
    let mut tidings = Tidings::default();
    let answer = |tidings: &Tidings, topic: &str| tidings.may_answer(&reply(topic), &device(), &routes("ward/#"));
    assert_eq!(answer(&tidings, "tidegate/receipts/pacemaker"), Ok(()));
    assert_eq!(answer(&tidings, "tidegate/receipts/pacemaker/7"), Ok(()));
    for reserved in [
        "tidegate/receipts/pacemaker2",
        "tidegate/receipts/other/x",
        "tidegate/destinations/ward/signal",
        "tidegate/destinations/ward/state",
        "tidegate/state",
    ] {
        assert_eq!(answer(&tidings, reserved), Err(ReplyRefusal::Reserved), "{reserved}");
    }
    assert_eq!(answer(&tidings, "answers/pacemaker"), Err(ReplyRefusal::NotListed));
    for form in ["", "answers/+", "answers/#", "$SYS/x", "answers/\0", &"x".repeat(TOPIC_BYTES_MAX + 1)] {
        assert_eq!(answer(&tidings, form), Err(ReplyRefusal::Form), "{form}");
    }
    // Even one who lists everything is not made to speak for the gateway, nor to send its answers as readings.
    tidings.response_topics = vec!["#".parse().unwrap()];
    assert_eq!(answer(&tidings, "answers/pacemaker"), Ok(()));
    assert_eq!(answer(&tidings, "ward/bpm"), Err(ReplyRefusal::Routed));
    assert_eq!(answer(&tidings, "tidegate/destinations/ward/signal"), Err(ReplyRefusal::Reserved));
    let mut long = reply("answers/pacemaker");
    long.correlation = Some(vec![0; CORRELATION_BYTES_MAX + 1].into());
    assert_eq!(tidings.may_answer(&long, &device(), &Routes::default()), Err(ReplyRefusal::Correlation));
}

#[test]
fn a_device_without_a_response_topic_has_one_of_its_own_where_that_is_switched_on() {
    let mut tidings = Tidings::default();
    let to = |tidings: &Tidings, origin| tidings.receipt_to(&device(), origin, None, &Routes::default());
    assert_eq!(to(&tidings, Origin::MqttQos1), None);
    tidings.receipts = true;
    assert_eq!(to(&tidings, Origin::MqttQos1), Some(reply("tidegate/receipts/pacemaker")));
    assert_eq!(to(&tidings, Origin::Http), None, "it can't hear it");
    let hostile = reply("tidegate/state");
    assert_eq!(tidings.receipt_to(&device(), Origin::MqttQos1, Some(&hostile), &Routes::default()), None);
}

#[test]
fn prefixes() {
    for good in ["tidegate", "homes/7", "é"] {
        assert_eq!(good.parse::<Prefix>().unwrap().to_string(), good);
    }
    for bad in ["", "/", "a//b", "a/", "/a", "a/+", "#", "$SYS", "a/$b", "a\n", &"x".repeat(PREFIX_BYTES_MAX + 1)] {
        assert!(bad.parse::<Prefix>().is_err(), "{bad:?}");
    }
}

fn load() -> DestinationLoad {
    DestinationLoad {
        destination: "ward".parse().unwrap(),
        queued: 0,
        held: 0,
        parked: 0,
        dead: 0,
        delivered: 0,
        waiting_bytes: 0,
        due_in_ms: 0,
        snoozed_ms: 0,
        last_failure_ago_ms: None,
        last_success_ago_ms: None,
        paused: false,
        signal: None,
        urgent: 0,
        break_glass: 0,
        refused_waiting: 0,
        throughput: Throughput::default(),
        failures: 0,
        last_error: None,
        everything_refused: false,
        fresh_circuits_last_hour: 0,
        oldest_age_ms: None,
    }
}

fn outlook(open: bool) -> Outlook<'static> {
    let at = |text: &str| Some(text.parse::<Timestamp>().unwrap());
    Outlook {
        open,
        signalled: false,
        until: at("2026-11-23T12:00:00.9Z"),
        next_open: at("2026-11-24T12:00:00Z"),
        load: None,
        uplink: Some(&UplinkStatus::Ready),
        suspended: false,
        draining: false,
        clock_trusted: true,
    }
}

#[test]
fn each_state_is_told_by_its_word_and_the_gravest_goes_first() {
    let word = |outlook: Outlook<'_>| StateTiding::of(&outlook).state;
    assert_eq!(word(outlook(false)), StateWord::Closed);
    assert_eq!(word(outlook(true)), StateWord::Open);
    assert_eq!(word(Outlook { signalled: true, ..outlook(true) }), StateWord::Ready);
    assert_eq!(word(Outlook { signalled: true, draining: true, ..outlook(true) }), StateWord::Draining);
    for gone in [
        Outlook { uplink: None, draining: true, ..outlook(true) },
        Outlook { uplink: Some(&UplinkStatus::Starting), ..outlook(true) },
        Outlook { suspended: true, ..outlook(true) },
    ] {
        assert_eq!(word(gone), StateWord::Unreachable);
    }
    let mut load = load();
    (load.queued, load.failures) = (0, 1);
    assert_eq!(word(Outlook { load: Some(&load), ..outlook(true) }), StateWord::Open, "nobody tries it");
    load.queued = 1;
    assert_eq!(word(Outlook { load: Some(&load), draining: true, ..outlook(true) }), StateWord::Unreachable);
    assert_eq!(word(Outlook { load: Some(&load), ..outlook(false) }), StateWord::Closed);
    load.paused = true;
    let paused = StateTiding::of(&Outlook { load: Some(&load), ..outlook(true) });
    assert_eq!((paused.state, paused.until), (StateWord::Paused, None));
}

#[test]
fn a_state_is_small_and_tells_whole_seconds_and_none_that_are_not_trusted() {
    let time: Timestamp = "2026-11-23T11:00:00.7Z".parse().unwrap();
    let body = StateTiding::of(&outlook(false)).body(7, Some(time));
    assert_eq!(body, r#"{"state":"closed","until":1795435200,"next_open":1795521600,"seq":7,"time":1795431600}"#);
    let untrusted = StateTiding::of(&Outlook { clock_trusted: false, ..outlook(false) });
    assert_eq!(untrusted.body(8, None), r#"{"state":"closed","seq":8}"#);
}

#[test]
fn a_second_of_rounding_is_no_news() {
    let one = StateTiding::of(&outlook(true));
    let later = StateTiding { until: one.until.map(|until| until + 1), ..one };
    assert!(one.says_the_same_as(&later));
    assert!(!one.says_the_same_as(&StateTiding { until: one.until.map(|until| until + 60), ..one }));
    assert!(!one.says_the_same_as(&StateTiding { until: None, ..one }));
    assert!(!one.says_the_same_as(&StateTiding { state: StateWord::Ready, ..one }));
}

fn receipt(state: EntryState) -> DeviceReceipt {
    DeviceReceipt {
        no: 1,
        id: MessageId::from_random([7; 16]),
        device: device(),
        destination: "ward".parse().unwrap(),
        state,
        ended_by: (state == EntryState::Expired).then_some(EndedBy::MaxAge),
        reply_to: None,
        origin: Origin::MqttQos1,
    }
}

#[test]
fn receipts_have_the_id_the_word_the_reason_and_the_second() {
    let time: Timestamp = "2026-11-23T11:00:00.7Z".parse().unwrap();
    let body = |state| ReceiptTiding::of(&receipt(state)).map(|told| told.body(Some(time)));
    let id = MessageId::from_random([7; 16]);
    assert_eq!(
        body(EntryState::Delivered).unwrap(),
        format!(r#"{{"id":"{id}","state":"delivered","time":1795431600}}"#)
    );
    assert!(body(EntryState::Expired).unwrap().contains(r#""state":"expired","reason":"max_age""#));
    assert!(body(EntryState::Dead).unwrap().contains(r#""state":"refused","reason":"gone""#));
    assert_eq!(body(EntryState::Held), None);
    let refused = ReceiptTiding::refused(IntakeLimit::Destination).body(None);
    assert_eq!(refused, r#"{"state":"refused","reason":"destination_full"}"#);
    assert!(!body(EntryState::Delivered).unwrap().contains("ward"), "the destination is not named");
}

proptest! {
    #[test]
    fn what_is_answered_is_a_topic_listed_and_never_the_gateways_voice(topic in "(tidegate|a|\\$x|ward)?(/(receipts|destinations|state|signal|pacemaker|other|\\+|#|ward)){0,4}") {
        let tidings = Tidings { response_topics: vec!["#".parse().unwrap()], ..Tidings::default() };
        let routes = routes("ward/#");
        if tidings.may_answer(&reply(&topic), &device(), &routes).is_ok() {
            prop_assert!(is_topic_name(&topic));
            prop_assert!(!routes.takes(&topic));
            prop_assert!(tidings.own(&topic).is_none() || topic.starts_with("tidegate/receipts/pacemaker"));
        }
    }
}
