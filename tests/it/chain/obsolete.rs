//! A Tor client that is too old for its network. arti ends the process when it learns of it, and has written it down by then: the
//! next start takes readings all the same, says what to do, and an updated program delivers them.

use super::stage::{Options, Stage};
use std::process::Command;

/// What arti's cache says that the network requires of clients; puts something else there.
const EXCHANGE: &str = "import sqlite3, sys\n\
    db = sqlite3.connect(sys.argv[1])\n\
    print(db.execute('SELECT statuses FROM ProtocolStatus').fetchone()[0], end='')\n\
    db.execute('UPDATE ProtocolStatus SET statuses = ?', (sys.argv[2],))\n\
    db.commit()\n";
/// No arti has this.
const TOO_MUCH: &str =
    r#"{"client":{"recommended":"","required":"Relay=60"},"relay":{"recommended":"","required":""}}"#;

fn exchange(stage: &Stage, requirements: &str) -> String {
    let cache = stage.file("state/tor/cache/dir.sqlite3");
    let done = Command::new("python3").args(["-c", EXCHANGE]).arg(cache).arg(requirements).output().unwrap();
    assert!(done.status.success(), "{done:?}");
    String::from_utf8(done.stdout).unwrap()
}

#[test]
fn an_obsolete_tor_client_keeps_nothing_out_and_is_shown_until_the_update() {
    let mut stage = Stage::start(Options::default());
    stage.publish_one("before");
    stage.wait_for_delivered(1);
    stage.stop_gateway();
    let before = exchange(&stage, TOO_MUCH);

    stage.start_gateway();
    stage.publish_one("meanwhile");
    stage.wait_for("custody", |stage| (stage.account("queued") == 1).then_some(()));
    stage.wait_for("what to do", |stage| {
        let said = "too old for the Tor network: update tidegate; messages are taken and wait";
        stage.tidegate(&["status"]).contains(said).then_some(())
    });
    assert_eq!(stage.observation("uplink").unwrap()["status"]["state"], "obsolete");
    assert_eq!(stage.load("ward").unwrap()["failures"], 0, "it is no failure of the destination");
    stage.stop_gateway();

    assert_eq!(exchange(&stage, &before), TOO_MUCH);
    stage.start_gateway();
    stage.wait_for_delivered(2);
}
