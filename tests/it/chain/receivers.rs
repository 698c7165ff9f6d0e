//! Receivers that do not host their own onion service: ours behind a system tor, and the paper's own.

use super::stage::{Options, Place, Stage, TRIES};
use serde_json::{Value, json};
use tidegate::lab::{
    HttpRequest, ProcessSpec,
    folder::tools_folder,
    ports::{free_ports, loopback},
};

#[test]
fn a_receiver_behind_a_system_tor_gets_the_reading_and_signs_for_it() {
    let stage = Stage::start(Options { place: Place::SystemTor, ..Options::default() });
    stage.publish_one("Beats: 70.00 bpm");
    stage.wait_for_delivered(1);
    assert_eq!(stage.readings(), [("patient".to_owned(), "Beats: 70.00 bpm".to_owned())]);
    assert!(stage.html().contains("70.00 bpm"));
    let ledger = stage.ask("GET", "/api/v1/ledger", None).unwrap();
    assert_eq!((&ledger["items"][0]["state"], &ledger["items"][0]["receipt"]), (&json!("delivered"), &json!(true)));
}

#[test]
fn the_papers_own_receiver_gets_every_reading_in_its_own_form() {
    const ROUTE: &str = "[[route]]\ntopic = \"patient/+/+\"\ndevice = \"pacemaker\"\ndestination = \"hospital\"\n\
                         payload = \"private-iot\"\n";
    let mut stage = Stage::without_gateway(Options { place: Place::Nowhere, ..Options::default() });
    let address = loopback(free_ports(1).unwrap()[0]);
    let python = tools_folder().join("paper-venv/bin/python");
    let app = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/chain/paper_receiver.py");
    let mut flask = ProcessSpec::new("Flask", python, stage.file("flask.log"))
        .args([app, &address.port().to_string()])
        .spawn()
        .unwrap();
    let shown = || HttpRequest::new("GET", address, "/").send_ok().ok().map(|answer| answer.json());
    assert_eq!(stage.wait_for("the Flask app", |_| shown()), json!([]));
    stage.serve(address, false, &[("hospital", &format!("format = \"private-iot\"\nsuccess = \"2xx\"\n{TRIES}"))]);
    stage.options.more += ROUTE;
    stage.open();
    for number in 0..10 {
        stage.publish_to("patient/tension/mmHg", format!("Tension: {}.00 mmHg ", 110 + number).as_bytes());
        stage.publish_to("patient/beats/bpm", format!("Beats: {}.00 bpm", 60 + number).as_bytes());
    }
    stage.wait_for_delivered(20);
    flask.check().unwrap();
    let wanted = |number: u32| {
        let of = |data: String| json!({ "id_device": "pacemaker", "data": data });
        [of(format!("mmHg: {}.00 mmHg", 110 + number)), of(format!("bpm: {}.00 bpm", 60 + number))]
    };
    // The app knows no ids: what is sent again because its answer was lost stands there twice, one after the other.
    let mut readings: Vec<Value> = serde_json::from_value(shown().unwrap()).unwrap();
    readings.dedup();
    assert_eq!(readings, (0..10).flat_map(wanted).collect::<Vec<_>>());
}
