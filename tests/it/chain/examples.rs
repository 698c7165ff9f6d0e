//! The examples for device makers, as they stand in `docs/examples`: those that can be run here are, through to the receiver.

use super::stage::{Options, Stage};
use std::process::Command;
use tidegate::lab::folder::tools_folder;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/examples");

/// Runs one, which has to end well; what it printed.
fn run(program: &str, arguments: &[&str], environment: &[(&str, String)]) -> String {
    let mut command = Command::new(program);
    let done = command.args(arguments).envs(environment.iter().map(|(key, value)| (key, value))).output().unwrap();
    assert!(done.status.success(), "{program} {arguments:?}: {done:?}");
    String::from_utf8(done.stdout).unwrap()
}

#[test]
fn examples_hand_in_readings_that_reach_the_receiver() {
    let stage = Stage::start(Options { http: Some(String::new()), ..Options::default() });
    let port = stage.broker.address().port().to_string();
    let gateway = format!("http://127.0.0.1:{}", stage.http_port);

    run(&format!("{FOLDER}/curl.sh"), &["ward", "cuff", "Tension: 120.00 mmHg"], &[("GATEWAY", gateway)]);
    run(&format!("{FOLDER}/mosquitto_pub.sh"), &["ward/strap/pulse", "Beats: 64.00 bpm"], &[("PORT", port.clone())]);
    let python = tools_folder().join("paper-venv/bin/python");
    let pacemaker = format!("{FOLDER}/pacemaker.py");
    let arguments =
        [&pacemaker, "--port", &port, "--topic", "ward/pacemaker/pulse", "--name", "pacemaker", "--count", "2"];
    let heard = run(python.to_str().unwrap(), &arguments, &[]);
    for line in ["reading 0: accepted", "reading 0: delivered", "reading 1: delivered"] {
        assert!(heard.contains(line), "{heard}");
    }
    stage.wait_for_delivered(4);
    let mut readings = stage.readings();
    readings.sort();
    let wanted = [
        ("cuff", "Tension: 120.00 mmHg"),
        ("pacemaker", "Beats: 70.00 bpm"),
        ("pacemaker", "Beats: 71.00 bpm"),
        ("strap", "Beats: 64.00 bpm"),
    ];
    assert_eq!(readings, wanted.map(|(device, text)| (device.to_owned(), text.to_owned())));

    // What can't be run here can at least be read.
    let parse = "import ast, sys; ast.parse(open(sys.argv[1]).read())";
    run(python.to_str().unwrap(), &["-c", parse, &format!("{FOLDER}/micropython.py")], &[]);
    // Not built, because of its !secret tags.
    let compose = "import sys, yaml; assert yaml.compose(open(sys.argv[1]))";
    run(python.to_str().unwrap(), &["-c", compose, &format!("{FOLDER}/esphome.yaml")], &[]);
}
