//! The outbox is checked, counted, exported and written anew, while a gateway runs and while none does; and made anew on the other engine.

use super::Gateway;
use std::{
    fs,
    process::{Command, Output},
};

impl Gateway {
    fn tool(&self, words: &[&str]) -> Output {
        let program = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .arg("--config")
            .arg(self.config())
            .args(words)
            .current_dir(self.folder.path())
            .output();
        program.unwrap()
    }

    async fn end(&mut self) {
        self.signal();
        self.until("an orderly end", || self.log().contains("the gateway has ended").then_some(())).await;
        self.process = None;
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[actix::test]
async fn what_waits_moves_to_the_other_engine_and_comes_up_paused() {
    let mut gateway = Gateway::prepare("");
    let nothing = gateway.tool(&["outbox", "check"]);
    assert!(nothing.status.code() == Some(1) && said(&nothing).contains("there is no outbox"), "{}", said(&nothing));
    gateway.start();
    for _ in 0..5 {
        gateway.hand_in().await;
    }
    gateway.end().await;

    let checked = gateway.tool(&["--json", "outbox", "check"]);
    assert!(checked.status.success(), "{}", said(&checked));
    let checked: serde_json::Value = serde_json::from_slice(&checked.stdout).unwrap();
    assert_eq!((&checked["waiting"], &checked["problems_total"]), (&5.into(), &0.into()), "{checked}");
    assert_eq!(checked["destinations"][0]["by_age"], serde_json::json!([5, 0, 0, 0]));

    let exported = gateway.tool(&["outbox", "export", "all"]);
    assert!(exported.status.success(), "{}", said(&exported));
    let again = gateway.tool(&["outbox", "export", "all"]);
    assert!(again.status.code() == Some(2) && said(&again).contains("exists already"), "{}", said(&again));
    let onto = gateway.tool(&["outbox", "import", "all"]);
    assert!(onto.status.code() == Some(2) && said(&onto).contains("move it away first"), "{}", said(&onto));

    // A file that is cut short makes no outbox, nor half of one.
    fs::rename(gateway.state("outbox"), gateway.state("outbox.old")).unwrap();
    let file = gateway.folder.path().join("all");
    let whole = fs::read(&file).unwrap();
    fs::write(gateway.folder.path().join("cut"), &whole[..whole.len() - 40]).unwrap();
    let cut = gateway.tool(&["outbox", "import", "cut"]);
    assert!(cut.status.code() == Some(1) && said(&cut).contains("nothing was imported"), "{}", said(&cut));
    assert!(!gateway.state("outbox").exists());

    let imported = gateway.tool(&["outbox", "import", "all", "--engine", "redb"]);
    assert!(
        imported.status.success() && said(&imported).contains("1 destination comes up paused"),
        "{}",
        said(&imported)
    );
    let checked = gateway.tool(&["outbox", "check"]);
    assert!(checked.status.success() && said(&checked).contains("the counters are right"), "{}", said(&checked));

    // The config still says sled: it is told, and nothing is touched.
    fs::write(gateway.folder.path().join("log"), "").unwrap();
    gateway.start();
    gateway
        .until("a refusal", || gateway.log().contains("it was made by redb, and outbox.engine says sled").then_some(()))
        .await;
    gateway.process = None;

    let config = fs::read_to_string(gateway.config()).unwrap();
    fs::write(gateway.config(), format!("outbox.engine = \"redb\"\n{config}")).unwrap();
    fs::write(gateway.folder.path().join("log"), "").unwrap();
    gateway.start();
    gateway.hand_in().await;
    let seen = gateway.observed("outbox").await;
    assert_eq!((&seen["account"]["queued"], &seen["gap"]), (&6.into(), &0.into()), "{seen}");
    let ward = gateway.tool(&["--json", "destination", "show", "ward"]);
    let ward: serde_json::Value = serde_json::from_slice(&ward.stdout).unwrap();
    assert_eq!(ward["load"]["paused"], true, "{ward}");
    gateway.end().await;
    let checked = gateway.tool(&["--json", "outbox", "check"]);
    let checked: serde_json::Value = serde_json::from_slice(&checked.stdout).unwrap();
    assert_eq!((&checked["waiting"], &checked["problems_total"]), (&6.into(), &0.into()), "{checked}");
}

/// What a command that must succeed says as JSON.
fn json(output: &Output) -> serde_json::Value {
    assert!(output.status.success(), "{}", said(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[actix::test]
async fn the_same_tools_work_on_a_running_gateway_and_on_its_folder() {
    let mut gateway = Gateway::prepare("");
    gateway.start();
    for _ in 0..5 {
        gateway.hand_in().await;
    }
    for runs in [true, false] {
        if !runs {
            gateway.end().await;
        }
        let checked = json(&gateway.tool(&["--json", "outbox", "check"]));
        assert_eq!((&checked["waiting"], &checked["problems_total"]), (&5.into(), &0.into()), "{checked}");
        let stats = json(&gateway.tool(&["--json", "outbox", "stats"]));
        let ward = &stats["destinations"][0];
        assert_eq!((&ward["queued"], &ward["by_age"]), (&5.into(), &serde_json::json!([5, 0, 0, 0])), "{stats}");
        assert!(said(&gateway.tool(&["outbox", "stats"])).contains("of disk"));
        let compacted = json(&gateway.tool(&["--json", "outbox", "compact"]));
        assert!(compacted["before_bytes"].as_u64() > Some(0) && compacted["after_bytes"].as_u64() > Some(0));

        let file = if runs { "running" } else { "stopped" };
        let exported = gateway.tool(&["outbox", "export", file]);
        assert!(exported.status.success() && said(&exported).contains("records are in"), "{}", said(&exported));
        let again = gateway.tool(&["outbox", "export", file]);
        assert!(again.status.code() == Some(2) && said(&again).contains("exists already"), "{}", said(&again));
        for _ in 0..2 {
            // Its name tells the second.
            tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
            let backup = json(&gateway.tool(&["--json", "outbox", "backup", "--keep", "1"]));
            let bytes = fs::metadata(backup["file"].as_str().unwrap()).unwrap().len();
            assert_eq!(backup["bytes"], bytes, "{backup}");
        }
        assert_eq!(fs::read_dir(gateway.state("backups")).unwrap().count(), 1);
        let format = fs::read_to_string(gateway.state("outbox/FORMAT")).unwrap();
        assert!(format.contains(if runs { "generation=1" } else { "generation=2" }), "{format}");
    }
    // What was exported beside intake is an outbox.
    fs::rename(gateway.state("outbox"), gateway.state("outbox.old")).unwrap();
    let imported = gateway.tool(&["outbox", "import", "running", "--as-is"]);
    assert!(imported.status.success(), "{}", said(&imported));
    let checked = json(&gateway.tool(&["--json", "outbox", "check"]));
    assert_eq!((&checked["waiting"], &checked["problems_total"]), (&5.into(), &0.into()), "{checked}");
    let nobody = gateway.tool(&["--admin", "http://127.0.0.1:1", "outbox", "check"]);
    assert_eq!(nobody.status.code(), Some(69), "{}", said(&nobody));
}
