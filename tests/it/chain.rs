//! From a device's publication to the receiver's page and the room, with every program real: mosquitto, the gateway, arti, a private
//! Tor network, the receiver's onion service, Synapse. Parts are killed and come back; every reading arrives once.

mod confined;
mod destinations;
mod devices;
mod examples;
mod first_delivery;
mod intake;
mod obsolete;
mod receivers;
mod signals;
mod stage;
mod synced;
mod web;

use jiff::SignedDuration;
use serde_json::Value;
use stage::{Options, Place, Stage, TRACE};
use std::{collections::BTreeSet, fs};
use tidegate::adapters::{arti::ClientKey, system_clock::SystemClock};
use tidegate_actors::ports::clock::Clock as _;

fn reading(text: &str) -> (String, String) {
    ("patient".to_owned(), text.to_owned())
}

/// Waits until the room was told of so many ends, and checks that each is a signed delivery, told once.
fn acknowledged(stage: &Stage, wanted: usize) {
    let reports = stage.wait_for(&format!("{wanted} acknowledgements in the room"), |stage| {
        let reports = stage.reports();
        (reports.len() >= wanted).then_some(reports)
    });
    assert_eq!(reports.len(), wanted, "{reports:?}");
    assert!(
        reports.iter().all(|report| report["state"] == "delivered" && report["receipt"] == "signed"),
        "{reports:?}"
    );
    assert_eq!(reports.iter().map(|report| report["id"].to_string()).collect::<BTreeSet<_>>().len(), wanted);
}

#[test]
fn a_reading_goes_all_the_way_once_and_nothing_of_it_is_told() {
    let stage = Stage::start(Options { room: true, ..Options::default() });
    let secret = "systolic pressure 117 mmHg";
    stage.publish_one(secret);
    stage.wait_for_delivered(1);
    acknowledged(&stage, 1);
    assert_eq!(stage.readings(), [reading(secret)]);
    let page = stage.html();
    assert!(page.contains(secret), "{page}");
    assert!(!stage.receiver_log().contains("117 mmHg"), "{}", stage.receiver_log());
    let (room, log) = (stage.room_text(), stage.gateway_log());
    assert!(room.contains("ward") && log.contains("private Tor network"), "{room}\n{log}");
    for (place, text) in [("room", room), ("log", log)] {
        assert!(!text.contains("117 mmHg"), "the payload is in the {place}: {text}");
        assert!(!text.contains(stage.onion()), "the onion address is in the {place}: {text}");
    }
}

#[test]
fn a_gateway_killed_among_500_messages_delivers_and_acknowledges_each_once_and_in_order() {
    let mut stage = Stage::start(Options { room: true, ..Options::default() });
    let devices = ["patient", "pacemaker"];
    // Two by two they are identical; only their number and order tell them apart.
    let payloads: Vec<String> = (0..250).map(|number| format!("pulse {}", number / 2)).collect();
    let (first, second) = payloads.split_at(150);
    let mut publishers: Vec<_> = devices.iter().map(|device| stage.publish("ward", device, first)).collect();
    let before = stage.wait_for("a first delivery", |stage| Some(stage.account("delivered")).filter(|&done| done > 0));
    stage.kill_gateway();
    assert!(before < 500);
    publishers.iter_mut().for_each(|publisher| assert!(publisher.wait().unwrap().success()));
    let mut publishers: Vec<_> = devices.iter().map(|device| stage.publish("ward", device, second)).collect();
    stage.start_gateway();
    publishers.iter_mut().for_each(|publisher| assert!(publisher.wait().unwrap().success()));
    stage.wait_for_delivered(500);
    let readings = stage.readings();
    assert_eq!(readings.len(), 500);
    for device in devices {
        let told: Vec<&String> = readings.iter().filter(|(from, _)| from == device).map(|(_, text)| text).collect();
        assert_eq!(told, payloads.iter().collect::<Vec<_>>(), "{device}");
    }
    let ledger = stage.ask("GET", "/api/v1/ledger?limit=500", None).unwrap();
    let ended = ledger["items"].as_array().unwrap();
    let signed = |end: &&Value| end["state"] == "delivered" && end["receipt"] == true;
    assert_eq!((ended.len(), ended.iter().filter(signed).count()), (500, 500));
    assert_eq!(ended.iter().map(|end| end["id"].to_string()).collect::<BTreeSet<_>>().len(), 500);
    acknowledged(&stage, 500);
}

#[test]
fn a_handler_that_blocks_for_ever_ends_the_process_and_the_next_one_has_lost_nothing() {
    let closed = "windows = { allow = [{ cron = \"0 0 1 1 *\", for = \"1m\" }] }\nlifetime = { max_age = \"400d\" }";
    let mut stage = Stage::start(Options { ward: closed.to_owned(), ..Options::default() });
    let payloads: Vec<String> = (0..60).map(|number| format!("pulse {number}")).collect();
    let (custody, broker) = payloads.split_at(40);
    assert!(stage.publish("ward", "patient", custody).wait().unwrap().success());
    stage.wait_for("custody of all", |stage| (stage.account("queued") == 40).then_some(()));

    stage.block_a_handler();
    // The broker takes what the gateway can't.
    assert!(stage.publish("ward", "patient", broker).wait().unwrap().success());
    assert_eq!(stage.gateway_ends(), Some(70), "{}", stage.gateway_log());
    assert!(stage.gateway_log().contains("main thread stands still"), "{}", stage.gateway_log());

    stage.start_gateway();
    stage.wait_for("custody of the rest", |stage| (stage.account("queued") == 60).then_some(()));
    stage.reconfigure(|options| options.ward.clear());
    stage.wait_for_delivered(60);
    assert_eq!(stage.readings(), payloads.iter().map(|text| reading(text)).collect::<Vec<_>>());
}

#[test]
fn receiver_broker_and_homeserver_go_and_come_back_and_nothing_is_lost_or_doubled() {
    let mut stage = Stage::start(Options { room: true, ..Options::default() });
    stage.publish_one("all up");
    stage.wait_for_delivered(1);
    acknowledged(&stage, 1);

    stage.kill_receiver();
    stage.publish_one("receiver down");
    stage.wait_for("a failed attempt", |stage| stage.load("ward")?["failures"].as_u64().filter(|&count| count > 0));
    stage.start_receiver();
    stage.wait_for_delivered(2);

    stage.broker.restart().unwrap();
    stage.publish_one("broker restarted");
    stage.homeserver.as_mut().unwrap().stop().unwrap();
    stage.publish_one("homeserver down");
    stage.wait_for_delivered(4);
    stage.homeserver.as_mut().unwrap().restart().unwrap();
    acknowledged(&stage, 4);
    let wanted = ["all up", "receiver down", "broker restarted", "homeserver down"];
    assert_eq!(stage.readings(), wanted.map(reading));
}

#[test]
fn a_closed_window_holds_until_it_is_opened_by_the_operator() {
    let closed =
        "windows = { allow = [{ cron = \"0 0 1 1 *\", for = \"1m\" }] }\nlifetime = { max_age = \"400d\" }".to_owned();
    let mut stage = Stage::start(Options { night: Some(closed), ..Options::default() });
    assert!(stage.publish("night", "patient", &["waits".to_owned()]).wait().unwrap().success());
    stage.publish_one("goes");
    // What came later has arrived: the earlier one had its chance.
    stage.wait_for("the open destination's delivery", |stage| (stage.account("delivered") == 1).then_some(()));
    assert_eq!(stage.readings(), [reading("goes")]);
    let load = stage.load("night").unwrap();
    assert_eq!((&load["queued"], &load["delivered"], &load["failures"]), (&1.into(), &0.into(), &0.into()), "{load}");
    let told = stage.tidegate(&["outbox", "explain", "night/1"]);
    assert!(told.contains("the window is closed until 20") && told.contains("next:"), "{told}");
    assert!(stage.tidegate(&["windows", "next", "night", "--count", "2"]).contains("OPENS"));
    let told = stage.tidegate(&["simulate"]);
    assert!(told.contains("1 message waits") && told.contains("ward"), "{told}");
    stage.reconfigure(|options| options.night = Some(String::new()));
    stage.wait_for_delivered(2);
    assert_eq!(stage.readings(), [reading("goes"), reading("waits")]);
}

#[test]
fn a_window_by_the_time_of_day_opens_because_somebody_vouches_for_the_clock() {
    let now = SystemClock::default().now();
    // Short enough that the drawn start of the opening comes within seconds.
    let (from, to) = (now - SignedDuration::from_hours(1), now + SignedDuration::from_mins(5));
    let [from, to] = [from, to].map(|time| time.strftime("%H:%M").to_string());
    let open = format!("windows = {{ allow = [{{ days = \"daily\", from = \"{from}\", to = \"{to}\" }}] }}\n");
    let stage = Stage::start(Options { ward: open, ..Options::default() });
    stage.publish_one("in time");
    stage.wait_for_delivered(1);
    let status = stage.ask("GET", "/api/v1/status", None).unwrap();
    // Where the kernel isn't synchronised (in a container, say) Tor's consensus has to do.
    let reason = status["clock"]["reason"].as_str().unwrap();
    assert!(["kernel_synchronised", "within_consensus"].contains(&reason), "{status}");
    assert!(stage.gateway_log().contains("the wall clock is believed"), "{}", stage.gateway_log());
    let shown = stage.tidegate(&["status"]);
    assert!(shown.contains(", believed: "), "{shown}");
}

#[test]
fn an_assumed_clock_is_believed_without_tor_and_said_to_be_assumed() {
    let more = "[clock]\ntrust = \"assume\"\n[tor]\ntransport = \"socks\"\nsocks = \"127.0.0.1:1\"\n".to_owned();
    let stage = Stage::start(Options { place: Place::Nowhere, more, ..Options::default() });
    let status = stage.wait_for("the status", |stage| stage.ask("GET", "/api/v1/status", None));
    assert_eq!(status["clock"]["trusted"], true, "{status}");
    // On a machine whose kernel is synchronised nothing has to be assumed, and nothing is said at run time.
    let assumed = status["clock"]["reason"] == "assumed";
    assert_eq!(stage.tidegate(&["status"]).contains("clock.trust = \"assume\" says to believe it"), assumed);
    assert!(stage.gateway_log().contains("believed although nobody vouches for it"), "{}", stage.gateway_log());
    assert!(stage.tidegate(&["check"]).contains("believed although nobody vouches for it"));
}

#[test]
fn a_service_with_client_authorization_says_what_is_missing_and_opens_to_the_key() {
    let key = ClientKey::from_secret([21; 32]);
    let receiver = vec!["--client".to_owned(), key.public_line()];
    let mut stage = Stage::start(Options { receiver, ..Options::default() });
    stage.publish_one("for the key alone");
    stage.wait_for("the missing key's name", |stage| {
        (stage.load("ward")?["last_error"] == "client_auth_missing").then_some(())
    });
    assert_eq!(stage.account("delivered"), 0);
    stage.stop_gateway();
    let address = format!("{}.onion", stage.onion()).parse().unwrap();
    fs::write(stage.file("ward.auth_private"), key.private_line(&address)).unwrap();
    stage.options.ward = "client_auth = { file = \"ward.auth_private\" }\n".to_owned();
    stage.start_gateway();
    stage.wait_for_delivered(1);
}

#[test]
fn the_gateway_connects_to_broker_homeserver_and_relays_alone_and_asks_no_name_server() {
    let traced = &["-s", "0", "-e", "trace=connect,sendto,sendmsg,sendmmsg"];
    let mut stage = Stage::start(Options { room: true, traced, ..Options::default() });
    stage.publish_one("first");
    stage.wait_for_delivered(1);
    stage.kill_receiver();
    stage.broker.restart().unwrap();
    stage.publish_one("second");
    stage.wait_for("a failed attempt", |stage| stage.load("ward")?["failures"].as_u64().filter(|&count| count > 0));
    stage.start_receiver();
    stage.wait_for_delivered(2);
    acknowledged(&stage, 2);
    let trace = fs::read_to_string(stage.file(TRACE)).unwrap();
    let (broker, homeserver) = (stage.broker.address().port(), stage.homeserver.as_ref().unwrap().address().port());
    let relays = stage.relay_ports();
    let mut ports = Vec::new();
    for line in trace.lines().filter(|line| line.contains("AF_INET")) {
        assert!(line.contains("inet_addr(\"127.0.0.1\")"), "beyond loopback: {line}");
        let port = line.split_once("htons(").and_then(|(_, rest)| rest.split_once(')')).unwrap().0.parse().unwrap();
        assert!(port == broker || port == homeserver || relays.contains(&port), "none of ours: {line}");
        ports.push(port);
    }
    // The trace is real: it has all of them.
    let to = |wanted: &[u16]| ports.iter().filter(|port| wanted.contains(port)).count();
    assert!(to(&[broker]) >= 2 && to(&[homeserver]) >= 1 && to(&relays) >= 1, "{ports:?}");
}
