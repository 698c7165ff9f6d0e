//! What stands around a running gateway: a config to begin with, what is wrong, waiting, shells and manual pages.

use super::{start, text, tidegate, write_config};
use crate::http_support as support;
use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt as _};

const ONION: &str = "2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid.onion:80";

#[tokio::test]
async fn a_config_is_written_once_and_can_be_checked_and_nothing_is_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["init", "--non-interactive", "--destination", "ward", "--onion", ONION, "--allow", "sat,sun"];
    let made = tidegate(folder.path(), &arguments).await;
    assert_eq!(made.status.code(), Some(0), "{made:?}");
    let said = text(&made.stderr);
    for next in [
        "conf.d/tidegate.conf",
        "tidegate check",
        "tidegate doctor",
        "tidegate run",
        "wait --for ready",
        "mosquitto_pub",
    ] {
        assert!(said.contains(next), "{next}: {said}");
    }
    assert!(!said.contains(ONION) && made.stdout.is_empty());
    let config = folder.path().join("tidegate.toml");
    assert_eq!(fs::metadata(&config).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(fs::read_to_string(folder.path().join("mosquitto-tidegate.conf")).unwrap().contains("persistence true"));
    let checked = tidegate(folder.path(), &["check"]).await;
    assert!(checked.status.success() && text(&checked.stdout).contains("ward"), "{checked:?}");

    let before = fs::read_to_string(&config).unwrap();
    let again = tidegate(folder.path(), &arguments).await;
    assert!(again.status.code() == Some(1) && text(&again.stderr).contains("there already"), "{again:?}");
    assert_eq!(fs::read_to_string(&config).unwrap(), before);

    // A key that has still to be copied: written, and told to be unusable.
    let other = ["--folder", "other", "--write-key", "gateway.write_key"];
    let unfinished = tidegate(folder.path(), &[&arguments[..], &other].concat()).await;
    assert_eq!(unfinished.status.code(), Some(78), "{unfinished:?}");
    assert!(text(&unfinished.stderr).contains("gateway.write_key"), "{unfinished:?}");
    let wrong = tidegate(folder.path(), &["init", "--non-interactive", "--folder", "third"]).await;
    assert!(wrong.status.code() == Some(2) && !folder.path().join("third").exists(), "{wrong:?}");
}

#[tokio::test]
async fn a_doctor_names_what_is_wrong_and_what_to_do() {
    // On a disk: a state folder in memory is one of the things that are wrong.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let broker = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = broker.local_addr().unwrap().port();
    let config = format!(
        "state_dir = \"state\"\n[admin]\nlisten = \"127.0.0.1:1\"\n[mqtt]\nport = {port}\n[outbox]\nmin_free_disk = \"16MiB\"\n\
         [[route]]\ntopic = \"a/b\"\ndevice = \"d\"\ndestination = \"ward\"\n[destination.ward]\nonion = \"{ONION}\"\n"
    );
    fs::write(folder.path().join("tidegate.toml"), &config).unwrap();
    let mosquitto = folder.path().join("mosquitto.conf");
    fs::write(&mosquitto, include_str!("../../../deploy/mosquitto/tidegate.conf")).unwrap();
    fs::create_dir(folder.path().join("state")).unwrap();
    fs::set_permissions(folder.path().join("state"), fs::Permissions::from_mode(0o700)).unwrap();
    let look = ["doctor", "--json", "--broker-config", mosquitto.to_str().unwrap()];
    let findings = async |wanted: i32| {
        let output = tidegate(folder.path(), &look).await;
        assert_eq!(output.status.code(), Some(wanted), "{output:?}");
        let all: serde_json::Value = serde_json::from_str(&text(&output.stdout)).unwrap();
        let wrong = all["findings"].as_array().unwrap().iter().filter(|finding| finding["health"] == "wrong");
        let wrong: Vec<String> =
            wrong.map(|it| format!("{}: {}", it["about"].as_str().unwrap(), it["seen"].as_str().unwrap())).collect();
        assert_eq!(all["wrong"], wrong.len());
        (wrong, text(&output.stdout))
    };
    let (well, all) = findings(0).await;
    assert_eq!(well, Vec::<String>::new());
    assert!(all.contains("it has never run") && all.contains("clock") && !all.contains(".onion"), "{all}");

    // Each mishap by itself.
    drop(broker);
    let (wrong, _) = findings(1).await;
    assert!(wrong.len() == 1 && wrong.iter().any(|it| it.starts_with("broker: ")), "{wrong:?}");
    let _broker = TcpListener::bind(("127.0.0.1", port)).unwrap();
    fs::write(&mosquitto, "persistence true\nautosave_on_changes true\nautosave_interval 1\nmax_queued_messages 50\n")
        .unwrap();
    let (wrong, _) = findings(1).await;
    assert!(
        wrong.iter().all(|it| it.starts_with("broker settings: ")) && wrong[0].contains("max_queued_messages 50"),
        "{wrong:?}"
    );
    fs::write(&mosquitto, include_str!("../../../deploy/mosquitto/tidegate.conf")).unwrap();
    let token = folder.path().join("state/admin.token");
    fs::write(&token, "x").unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o644)).unwrap();
    let (wrong, _) = findings(1).await;
    assert!(wrong.len() == 1 && wrong.iter().any(|it| it.contains("others can read")), "{wrong:?}");
    fs::remove_file(&token).unwrap();
    fs::write(folder.path().join("tidegate.toml"), config.replace("16MiB", "900000GiB")).unwrap();
    let (wrong, _) = findings(1).await;
    assert!(wrong.iter().any(|it| it.contains("no message is taken")), "{wrong:?}");
    fs::write(folder.path().join("tidegate.toml"), config.replace("a/b", "a/#/b")).unwrap();
    let (wrong, _) = findings(1).await;
    assert!(wrong.len() == 1 && wrong[0].starts_with("config: "), "{wrong:?}");
}

#[actix::test]
async fn waiting_ends_when_it_has_come_about_and_never_later_than_it_was_told() {
    let world = start(true).await;
    let waits = async |arguments: &[&str]| tidegate(world.state.path(), &[&["wait"], arguments].concat()).await;
    assert_eq!(waits(&["--for", "ready"]).await.status.code(), Some(0));
    let ended = support::ledger(1).id.to_string();
    let delivered = waits(&["--for", "delivered", "--entry", &ended]).await;
    assert!(delivered.status.success() && text(&delivered.stderr).contains("was delivered"), "{delivered:?}");
    let late = waits(&["--for", "delivered", "--entry", "cardiology/7", "--timeout", "1s"]).await;
    assert!(late.status.code() == Some(75) && text(&late.stderr).contains("cardiology/7 is"), "{late:?}");
    let late = waits(&["--for", "drained", "--destination", "cardiology", "--timeout", "0s"]).await;
    assert!(late.status.code() == Some(75) && text(&late.stderr).contains("messages are queued"), "{late:?}");
    assert_eq!(waits(&["--for", "drained", "--destination", "nowhere"]).await.status.code(), Some(1));
    assert_eq!(waits(&["--for", "delivered"]).await.status.code(), Some(2));
    world.stop().await;

    // Nobody is there, and before its first start a gateway has no token.
    let folder = tempfile::tempdir().unwrap();
    write_config(folder.path(), "127.0.0.1:1");
    let late = tidegate(folder.path(), &["wait", "--for", "ready", "--timeout", "1s"]).await;
    assert_eq!(late.status.code(), Some(75), "{late:?}");
}

#[tokio::test]
async fn shells_and_manuals_know_every_command() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let shown = tidegate(folder.path(), &["completions", shell]).await;
        assert!(shown.status.success() && text(&shown.stdout).contains("quarantine"), "{shell}");
    }
    let page = tidegate(folder.path(), &["man"]).await;
    assert!(page.status.success() && text(&page.stdout).contains(".TH tidegate 1"), "{page:?}");
    assert!(tidegate(folder.path(), &["man", "--folder", "man1"]).await.status.success());
    let pages: Vec<String> = fs::read_dir(folder.path().join("man1"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    for wanted in ["tidegate.1", "tidegate-outbox-purge.1", "tidegate-destination-windows-set.1"] {
        assert!(pages.iter().any(|page| page == wanted), "{wanted}: {pages:?}");
    }
    assert!(!pages.iter().any(|page| page.contains("embedded-broker")), "{pages:?}");
}
