//! Several destinations on one network, and receivers that refuse: what they share, and what one does to another.

use super::{
    stage::{Options, Place, Stage, TRIES},
    web::Web,
};
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

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
