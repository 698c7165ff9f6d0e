//! `tidegate destination edit` and `tidegate config`, over a gateway that runs: an agreement changed in an editor, of the version that was
//! read and of no other.

use super::{Gateway, destination};
use serde_json::json;
use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    process::{Command, Output, Stdio},
};
use tidegate_schemas::onion::OnionAddress;

const PATH: &str = "/api/v1/destinations/lab";

impl Gateway {
    /// The command, with an editor that is this script (`$1` is the file) and these answers.
    fn edit(&self, script: &str, answers: &str, more: &[&str]) -> Output {
        let editor = self.path("editor");
        fs::write(&editor, format!("#!/bin/sh\nset -e\n{script}\n")).unwrap();
        fs::set_permissions(&editor, fs::Permissions::from_mode(0o755)).unwrap();
        let texts = self.path("texts");
        fs::create_dir_all(&texts).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.arg("--config").arg(self.path("tidegate.toml")).args(["destination", "edit"]).args(more);
        command.env("EDITOR", &editor).env_remove("VISUAL").env("TMPDIR", &texts);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(answers.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// What is left where texts are edited.
    fn texts(&self) -> usize {
        fs::read_dir(self.path("texts")).unwrap().count()
    }

    async fn lanes(&self) -> serde_json::Value {
        self.get(&format!("{PATH}/agreement")).await.json()["lanes"].clone()
    }
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[actix::test]
async fn an_agreement_is_edited_previewed_and_saved_of_the_version_that_was_read() {
    let gateway = Gateway::start(&destination("ward", "")).await;
    let address = OnionAddress::from_public_key([9; 32]).reveal();
    let made = json!({ "onion": address, "lanes": 2, "windows": { "timezone": "Europe/Madrid" } });
    assert_eq!(gateway.ask("PUT", PATH, &made.to_string()).await.status, 200);
    // The editor sees no address; nothing is written before the answer.
    let keep = format!("cp \"$1\" {}", gateway.path("seen").display());
    let left = gateway.edit(&format!("{keep}\nsed -i 's/lanes = 2/lanes = 5/' \"$1\""), "n\n", &["lab"]);
    assert!(left.status.success(), "{}", said(&left));
    for word in ["lab: changed, version 2 (dry run", "lanes: 2 -> 5", "nothing was changed"] {
        assert!(said(&left).contains(word), "{word}: {}", said(&left));
    }
    let seen = fs::read_to_string(gateway.path("seen")).unwrap();
    assert!(seen.contains("version 1") && seen.contains("Europe/Madrid") && !seen.contains(&address[..16]), "{seen}");
    assert_eq!((gateway.lanes().await, gateway.texts()), (2.into(), 0));
    // A mistake is told, and can be mended: the editor is opened again.
    let twice = "if grep -q 'lanes = 99' \"$1\"; then sed -i 's/99/6/' \"$1\"; else sed -i 's/lanes = 2/lanes = 99/' \"$1\"; fi";
    let done = gateway.edit(twice, "e\ny\n", &["lab"]);
    assert!(done.status.success() && said(&done).contains("/lanes: "), "{}", said(&done));
    assert_eq!((gateway.lanes().await, gateway.texts()), (6.into(), 0));
    // What was not shown is still there: nothing but the lanes changed.
    let history = gateway.get(&format!("{PATH}/history")).await.json();
    assert_eq!(history["items"][0]["changes"], json!([{ "key": "lanes", "old": 2, "new": 6 }]));
    // Nothing typed is nothing asked.
    let same = gateway.edit("true", "", &["lab"]);
    assert!(same.status.success() && said(&same).contains("nothing was changed"), "{}", said(&same));

    // Somebody else changes it while the editor is open.
    let other = gateway.path("other.json");
    fs::write(&other, json!({ "lanes": 7 }).to_string()).unwrap();
    let elsewhere = format!(
        "{} --config {} destination edit lab --file {}\nsed -i 's/lanes = 6/lanes = 8/' \"$1\"",
        env!("CARGO_BIN_EXE_tidegate"),
        gateway.path("tidegate.toml").display(),
        other.display()
    );
    let late = gateway.edit(&elsewhere, "y\n", &["lab"]);
    assert_eq!(late.status.code(), Some(1), "{}", said(&late));
    assert!(
        said(&late).contains("it is at version 3 now") && said(&late).contains("What you wrote is in"),
        "{}",
        said(&late)
    );
    assert_eq!((gateway.lanes().await, gateway.texts()), (7.into(), 1));

    // One of a file is not opened at all.
    let declared = gateway.edit("exit 3", "y\n", &["ward"]);
    assert!(said(&declared).contains("tidegate.toml:5: change it there"), "{}", said(&declared));
    let failed = gateway.edit("exit 3", "y\n", &["lab"]);
    assert!(failed.status.code() == Some(1) && said(&failed).contains("the editor"), "{}", said(&failed));
}

#[actix::test]
async fn the_config_in_force_is_shown_with_the_place_of_each_key() {
    let gateway = Gateway::start(&destination("ward", "lanes = 5")).await;
    let shown = gateway.tidegate(&["config"]);
    let told = String::from_utf8(shown.stdout).unwrap();
    for (key, place) in [
        ("mqtt.session_expiry = \"30d\"", "# default"),
        ("destination.ward.lanes = 5", "tidegate.toml:7"),
        ("destination.ward.onion is not shown", "tidegate.toml:6"),
    ] {
        assert!(told.lines().any(|line| line.starts_with(key) && line.ends_with(place)), "{key}:\n{told}");
    }
    let ward = String::from_utf8(gateway.tidegate(&["config", "--destination", "ward"]).stdout).unwrap();
    assert!(ward.contains("destination.ward.order = \"per_device\"    # default") && !ward.contains("mqtt."), "{ward}");
}
