//! Several destinations on one network, and receivers that refuse: what they share, and what one does to another.

use super::{
    stage::{Options, Place, Stage, TRIES},
    web::Web,
};
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tidegate_schemas::onion::OnionAddress;

/// What the gateway logs when a destination, and not a message, is put back.
const PUT_BACK: &str = "not delivered now";

fn stage_with(web: &Web, destinations: &[(&str, &str)]) -> Stage {
    let mut stage = Stage::without_gateway(Options { place: Place::Nowhere, ..Options::default() });
    let with_tries: Vec<_> = destinations.iter().map(|(alias, lines)| (*alias, format!("{lines}{TRIES}"))).collect();
    let destinations: Vec<_> = with_tries.iter().map(|(alias, lines)| (*alias, lines.as_str())).collect();
    stage.serve(web.address, true, &destinations);
    stage.open();
    stage
}

fn publish_all(stage: &Stage, destination: &str, device: &str, payloads: &[String]) {
    assert!(stage.publish(destination, device, payloads).wait().unwrap().success());
}

#[test]
fn two_destinations_share_neither_circuit_nor_lane_even_at_one_onion_service() {
    let web = Web::start(|_| 200);
    let aliases = ["ward", "night"];
    let stage = stage_with(&web, &aliases.map(|alias| (alias, "format = \"raw\"\nlanes = 2\n")));
    let devices = ["a", "b", "c", "d"];
    for alias in aliases {
        for device in devices {
            publish_all(&stage, alias, device, &(0..10).map(|n| format!("{alias} {n}")).collect::<Vec<_>>());
        }
    }
    stage.wait_for_delivered(80);
    // tor itself names the circuit of each connection to the service.
    let (mut circuits, mut connections) = (BTreeMap::<_, BTreeSet<_>>::new(), BTreeMap::<_, BTreeSet<_>>::new());
    for asked in web.asked() {
        let alias = asked.readings[0].1.split(' ').next().unwrap().to_owned();
        circuits.entry(asked.circuit).or_default().insert(alias.clone());
        connections.entry(asked.connection).or_default().insert(alias);
    }
    for shared in circuits.values().chain(connections.values()) {
        assert_eq!(shared.len(), 1, "{circuits:?} {connections:?}");
    }
    for alias in aliases {
        // Its two lanes don't share one either.
        assert!(circuits.values().filter(|aliases| aliases.contains(alias)).count() >= 2, "{circuits:?}");
    }
}

#[test]
fn one_poison_message_in_a_hundred_is_parked_and_the_others_arrive_in_the_same_opening() {
    let web = Web::start(|body| if body.contains("poison") { 422 } else { 200 });
    let aliases = [("ward", "format = \"raw\"\n"), ("night", "format = \"cloudevents-batch\"\n")];
    let stage = stage_with(&web, &aliases);
    let payload = |alias: &str, n| if n == 37 { format!("{alias} poison") } else { format!("{alias} {n}") };
    for (alias, _) in aliases {
        publish_all(&stage, alias, "patient", &(0..100).map(|n| payload(alias, n)).collect::<Vec<_>>());
    }
    stage.wait_for("198 delivered and 2 parked", |stage| {
        ((stage.account("delivered"), stage.account("parked")) == (198, 2)).then_some(())
    });
    for (alias, _) in aliases {
        let taken: Vec<_> = web.taken().into_iter().filter(|text| text.starts_with(alias)).collect();
        let wanted: Vec<_> = (0..100).filter(|n| *n != 37).map(|n| payload(alias, n)).collect();
        assert_eq!(taken, wanted);
        let parked = stage.ask("GET", &format!("/api/v1/outbox?destination={alias}"), None).unwrap();
        let item = &parked["items"][0];
        assert_eq!((&item["state"], &item["reason"]), (&json!("parked"), &json!({ "status": 422 })), "{parked}");
    }
    let log = stage.gateway_log();
    assert!(!log.lines().any(|line| line.contains(PUT_BACK) && line.contains("422")), "{log}");
    assert_eq!(stage.observation("outbox").unwrap()["gap"], 0);
}

#[test]
fn a_receiver_that_refuses_everything_parks_nothing_and_gets_all_when_it_is_well() {
    let well = Arc::new(AtomicBool::new(false));
    let web = Web::start({
        let well = Arc::clone(&well);
        move |_| if well.load(Ordering::SeqCst) { 200 } else { 422 }
    });
    let aliases = [("ward", "format = \"raw\"\n"), ("night", "format = \"cloudevents-batch\"\n")];
    let stage = stage_with(&web, &aliases);
    for (alias, _) in aliases {
        for device in ["a", "b"] {
            publish_all(&stage, alias, device, &(0..25).map(|n| format!("{alias} {device} {n}")).collect::<Vec<_>>());
        }
        // Not once: for as long as it is so.
        let put_back = stage.wait_for("several back-offs", |stage| {
            let load = stage.load(alias)?;
            let refused = load["everything_refused"] == true && load["last_error"] == json!({ "status": 422 });
            (load["failures"].as_u64()? >= 3 && refused && load["parked"] == 0).then_some(load)
        });
        assert_eq!(put_back["queued"], 50, "{put_back}");
    }
    assert!(stage.gateway_log().lines().any(|line| line.contains(PUT_BACK) && line.contains("422")));
    assert_eq!(web.taken(), Vec::<String>::new());
    well.store(true, Ordering::SeqCst);
    stage.wait_for_delivered(100);
    // As a set: what a try parked just before the receiver was well let the next one pass (OR-1).
    let wanted = |(alias, _): (&'static str, _)| {
        ["a", "b"].into_iter().flat_map(move |device| (0..25).map(move |n| format!("{alias} {device} {n}")))
    };
    let (taken, wanted) = (web.taken(), aliases.into_iter().flat_map(wanted).collect::<BTreeSet<_>>());
    assert_eq!((taken.len(), taken.into_iter().collect::<BTreeSet<_>>()), (100, wanted));
}

#[test]
fn an_operator_tests_a_connection_and_nothing_is_sent_or_counted() {
    let web = Web::start(|_| 200);
    let stage = {
        let mut stage = Stage::without_gateway(Options { place: Place::Nowhere, ..Options::default() });
        stage.serve(web.address, false, &[("ward", TRIES), ("night", TRIES)]);
        let nowhere = OnionAddress::from_public_key([7; 32]);
        writeln!(stage.options_mut().more, "[destination.gone]\nonion = \"{}:80\"\n{TRIES}", nowhere.reveal()).unwrap();
        stage.open();
        stage
    };
    stage.wait_for("tor", |stage| (stage.observation("uplink")?["status"]["state"] == "ready").then_some(()));
    let said = stage.tidegate(&["destination", "test", "ward"]);
    assert!(said.starts_with("reached ward after "), "{said}\n{}", stage.gateway_log());
    // A destination that is paused is left alone, unless one says that it doesn't matter.
    stage.tidegate(&["destination", "pause", "night"]);
    let said = stage.tidegate(&["destination", "test", "night"]);
    assert!(said.contains("paused") && said.contains("any_time"), "{said}");
    let said = stage.tidegate(&["destination", "test", "night", "--any-time"]);
    assert!(said.starts_with("reached night after "), "{said}");
    let gone = stage.ask("POST", "/api/v1/destinations/gone/test", None).unwrap();
    assert_eq!((&gone["reached"], gone["error"].is_string()), (&json!(false), true), "{gone}");
    assert!(stage.tidegate(&["destination", "test", "gone"]).contains("did not reach gone"));
    assert!(web.asked().is_empty());
    for (alias, circuits) in [("ward", 1), ("night", 1), ("gone", 2)] {
        let load = stage.load(alias).unwrap();
        assert_eq!((&load["failures"], &load["fresh_circuits_last_hour"]), (&json!(0), &json!(circuits)), "{load}");
    }
    let audit = stage.ask("GET", "/api/v1/audit", None).unwrap().to_string();
    assert!(audit.contains("destination.test") && audit.contains("any_time=true"), "{audit}");
}
