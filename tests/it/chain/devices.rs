//! What a small device lives through, with every program real: it sleeps until its destination is ready, hands in, and hears on its
//! response topic what became of its reading; and what it sees of a gateway that dies. The device is Debian's mosquitto client.

use super::stage::{Options, Stage};
use serde_json::Value;
use std::{
    fs,
    process::{Child, Command, Stdio},
};

/// Opens once a year, and hears signals.
const CLOSED: &str = "windows = { allow = [{ cron = \"0 0 1 1 *\", for = \"1m\" }] }\nlifetime = { max_age = \"400d\" }\n\
                      signal = { accept = true, ttl_max = \"10m\" }\n";

/// A device that listens to a topic, for as long as it lives. What it hears stands in a file, one line each.
struct Listener(Child);

impl Listener {
    fn start(stage: &Stage, topic: &str, heard: &str) -> Self {
        let mut device = Command::new("mosquitto_sub");
        device.args(["-h", "127.0.0.1", "-p", &stage.broker.address().port().to_string(), "-V", "mqttv5", "-q", "1"]);
        device.args(["-t", topic, "-F", "%t %D %p"]);
        let file = fs::File::create(stage.file(heard)).unwrap();
        Self(device.stdout(file).stderr(Stdio::null()).spawn().unwrap())
    }
}
impl Drop for Listener {
    fn drop(&mut self) {
        // It is ours, and has nothing to lose.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The JSON at the end of each line.
fn heard(stage: &Stage, file: &str) -> Vec<(String, Value)> {
    let text = fs::read_to_string(stage.file(file)).unwrap();
    let lines =
        text.lines().filter_map(|line| Some((line.to_owned(), serde_json::from_str(&line[line.find('{')?..]).ok()?)));
    lines.collect()
}

fn state(stage: &Stage, file: &str) -> Option<String> {
    Some(heard(stage, file).last()?.1["state"].as_str()?.to_owned())
}

#[test]
fn a_device_sleeps_until_its_destination_is_ready_and_hears_of_its_reading_on_its_response_topic() {
    let stage = Stage::start(Options { ward: CLOSED.to_owned(), ..Options::default() });
    let _states = Listener::start(&stage, "tidegate/destinations/ward/state", "states");
    let _receipts = Listener::start(&stage, "tidegate/receipts/patient", "receipts");
    stage.wait_for("a closed window", |stage| (state(stage, "states")? == "closed").then_some(()));

    stage.tidegate(&["destination", "signal", "ward", "--ready", "5m"]);
    stage.wait_for("a destination that is ready", |stage| (state(stage, "states")? == "ready").then_some(()));
    let mut device = Command::new("mosquitto_pub");
    device.args(["-h", "127.0.0.1", "-p", &stage.broker.address().port().to_string(), "-V", "mqttv5", "-q", "1"]);
    device.args(["-t", "ward/patient/pulse", "-m", "swordfish 70"]);
    device.args(["-D", "publish", "response-topic", "tidegate/receipts/patient"]);
    device.args(["-D", "publish", "correlation-data", "beat-1"]);
    assert!(device.status().unwrap().success());
    let told = stage.wait_for("what became of the reading", |stage| {
        let told = heard(stage, "receipts");
        told.iter().any(|(_, receipt)| receipt["state"] == "delivered").then_some(told)
    });
    let words: Vec<&str> = told.iter().filter_map(|(_, receipt)| receipt["state"].as_str()).collect();
    assert_eq!(words, ["accepted", "delivered"], "{told:?}");
    assert_eq!(told[0].1["id"], told[1].1["id"]);
    assert!(told.iter().all(|(line, _)| line.contains("beat-1") && !line.contains("swordfish")), "{told:?}");
    assert_eq!(stage.readings().len(), 1);
    // A state tells a device nothing of addresses or queues.
    assert!(heard(&stage, "states").iter().all(|(line, _)| !line.contains(&stage.onion()[..16])));
}

#[test]
fn a_gateway_that_dies_is_offline_for_its_devices_until_it_is_back_with_its_states() {
    let mut stage = Stage::start(Options { ward: CLOSED.to_owned(), ..Options::default() });
    let _gateway = Listener::start(&stage, "tidegate/state", "gateway");
    stage.wait_for("the gateway online", |stage| (state(stage, "gateway")? == "online").then_some(()));
    let first = Listener::start(&stage, "tidegate/destinations/ward/state", "first");
    stage.wait_for("a closed window", |stage| (state(stage, "first")? == "closed").then_some(()));
    drop(first);
    stage.kill_gateway();
    stage.wait_for("its last will", |stage| (state(stage, "gateway")? == "offline").then_some(()));
    let _states = Listener::start(&stage, "tidegate/destinations/ward/state", "states");
    let before = stage.wait_for("the retained state", |stage| heard(stage, "states").first().cloned());
    stage.start_gateway();
    stage.wait_for("the gateway back", |stage| (state(stage, "gateway")? == "online").then_some(()));
    let after = stage.wait_for("the state told anew", |stage| heard(stage, "states").get(1).cloned());
    let number = |told: &Value| told["seq"].as_u64().unwrap();
    assert!(number(&after.1) > number(&before.1), "{before:?} {after:?}");
}

#[test]
fn nobody_has_the_gateway_publish_elsewhere() {
    let stage = Stage::start(Options::default());
    let _all = Listener::start(&stage, "#", "all");
    for topic in ["home/door/open", "tidegate/receipts/nurse", "ward/other/pulse"] {
        let mut device = Command::new("mosquitto_pub");
        device.args(["-h", "127.0.0.1", "-p", &stage.broker.address().port().to_string(), "-V", "mqttv5", "-q", "1"]);
        device.args(["-t", "ward/patient/pulse", "-m", "70", "-D", "publish", "response-topic", topic]);
        assert!(device.status().unwrap().success());
    }
    stage.wait_for_delivered(3);
    let told = heard(&stage, "all");
    assert!(told.iter().all(|(_, json)| json["state"] != "accepted" && json["state"] != "delivered"), "{told:?}");
}
