//! The outbox is checked, counted, exported and written anew, while a gateway runs and while none does; and made anew on the other engine.

use super::Gateway;
use rustix::fs::{FlockOperation, flock};
use std::{
    fs,
    os::unix::fs::{MetadataExt as _, chown},
    path::Path,
    process::{Command, Output},
};

impl Gateway {
    fn tool(&self, words: &[&str]) -> Output {
        self.tool_in(self.folder.path(), words)
    }

    /// Run in this folder.
    fn tool_in(&self, folder: &Path, words: &[&str]) -> Output {
        let program = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .arg("--config")
            .arg(self.config())
            .args(words)
            .current_dir(folder)
            .output();
        program.unwrap()
    }

    /// Names in the folder of backups.
    fn backups(&self) -> usize {
        fs::read_dir(self.state("backups")).unwrap().count()
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
        let exported = json(&gateway.tool(&["--json", "outbox", "export", file]));
        let bytes = fs::metadata(gateway.folder.path().join(file)).unwrap().len();
        assert_eq!((&exported["file"], &exported["bytes"]), (&file.into(), &bytes.into()), "{exported}");
        assert!(exported["records"].as_u64() > Some(5), "{exported}");
        let again = gateway.tool(&["outbox", "export", file]);
        assert!(again.status.code() == Some(2) && said(&again).contains("exists already"), "{}", said(&again));
        for _ in 0..2 {
            // Its name tells the second.
            tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
            let backup = json(&gateway.tool(&["--json", "outbox", "backup", "--keep", "1"]));
            let bytes = fs::metadata(backup["file"].as_str().unwrap()).unwrap().len();
            assert_eq!(backup["bytes"], bytes, "{backup}");
        }
        assert_eq!(gateway.backups(), 1);
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

#[actix::test]
async fn a_backup_takes_no_room_that_messages_need_and_leaves_no_part() {
    let mut gateway = Gateway::prepare("outbox.min_free_disk = \"1000000GiB\"");
    gateway.start();
    gateway.until("the outbox", || gateway.state("admin.token").exists().then_some(())).await;
    gateway.until("the admin endpoint", || std::net::TcpStream::connect(gateway.admin).ok()).await;
    let refused = gateway.tool(&["outbox", "backup"]);
    assert!(refused.status.code() == Some(1) && said(&refused).contains("outbox.min_free_disk"), "{}", said(&refused));
    assert_eq!(gateway.backups(), 0);
    // With the gateway stopped nobody takes messages.
    gateway.end().await;
    let backup = gateway.tool(&["outbox", "backup"]);
    assert!(backup.status.success(), "{}", said(&backup));
}

#[actix::test]
async fn an_export_of_a_gateway_with_a_relative_state_folder_is_found_from_everywhere() {
    let mut gateway = Gateway::prepare("");
    gateway.start_in_its_folder();
    gateway.hand_in().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let exported = gateway.tool_in(elsewhere.path(), &["outbox", "export", "all"]);
    assert!(exported.status.success() && said(&exported).contains("records are in"), "{}", said(&exported));
    assert!(elsewhere.path().join("all").exists());
    let backup = json(&gateway.tool_in(elsewhere.path(), &["--json", "outbox", "backup"]));
    assert!(Path::new(backup["file"].as_str().unwrap()).is_absolute(), "{backup}");
}

#[actix::test]
async fn a_folder_that_another_command_has_is_told_as_such() {
    let mut gateway = Gateway::prepare("");
    gateway.start();
    gateway.hand_in().await;
    gateway.end().await;
    let lock = fs::File::open(gateway.state("outbox/LOCK")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let refused = gateway.tool(&["outbox", "check"]);
    assert_eq!(refused.status.code(), Some(69), "{}", said(&refused));
    assert!(said(&refused).contains("another `tidegate outbox` command has the folder"), "{}", said(&refused));
}

#[actix::test]
async fn nobody_but_its_owner_works_on_the_state_folder() {
    const SOMEBODY: u32 = 54_321;
    assert!(rustix::process::geteuid().is_root(), "to give a folder to another user, this test has to be run by root");
    let mut gateway = Gateway::prepare("");
    gateway.start();
    gateway.hand_in().await;
    chown(gateway.state(""), Some(SOMEBODY), None).unwrap();
    // Through the gateway, which has it, it can be done.
    json(&gateway.tool(&["--json", "outbox", "check"]));
    gateway.end().await;
    let file = gateway.folder.path().join("all");
    fs::write(&file, "").unwrap();
    let before = fs::metadata(gateway.state("outbox")).unwrap().mtime_nsec();
    for words in [&["compact"][..], &["backup"], &["check"], &["stats"], &["export", "other"], &["import", "all"]] {
        let refused = gateway.tool(&[&["outbox"], words].concat());
        assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
        assert!(said(&refused).contains("belongs to user id 54321"), "{}", said(&refused));
    }
    assert_eq!(fs::metadata(gateway.state("outbox")).unwrap().mtime_nsec(), before);
    assert!(!gateway.state("backups").exists());
}

#[actix::test]
async fn an_outbox_put_back_from_an_old_copy_comes_up_paused_and_says_so() {
    let mut gateway = Gateway::prepare("");
    gateway.start();
    gateway.hand_in().await;
    gateway.end().await;
    let copied = Command::new("cp").arg("-a").arg(gateway.state("outbox")).arg(gateway.state("copy")).status();
    assert!(copied.unwrap().success());
    gateway.start();
    gateway.hand_in().await;
    gateway.end().await;
    assert!(!gateway.log().contains("put back"), "{}", gateway.log());

    fs::remove_dir_all(gateway.state("outbox")).unwrap();
    fs::rename(gateway.state("copy"), gateway.state("outbox")).unwrap();
    for start in ["held", "still held"] {
        fs::write(gateway.folder.path().join("log"), "").unwrap();
        gateway.start();
        gateway.hand_in().await;
        let listed = gateway.tool(&["--json", "destination", "show", "ward"]);
        let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
        assert_eq!(listed["load"]["paused"], true, "{start}: {listed}");
        assert_eq!(gateway.log().contains("put back from an older copy"), start == "held", "{}", gateway.log());
        gateway.end().await;
    }
}
