//! The command line as an operator sees it: the built program against a running admin endpoint, its two outputs, its exit codes.

mod around;
mod chains;
mod tokens;

use crate::http_support::{self as support, OutboxActor, Record, StandingClock};
use actix::Actor as _;
use std::{
    fs,
    path::Path,
    process::{Output, Stdio},
    sync::{Arc, Mutex},
};
use tempfile::TempDir;
use tidegate::admin::{self, Settings, listener::Serving, token::AdminToken};
use tidegate_actors::testing::seeded_entropy::SeededEntropy;
use tidegate_schemas::{
    config::devices::{DEVICES_FILE, Devices, hash_secret},
    entry::Event,
    onion::OnionAddress,
    route::Routes,
};
use tokio::{process::Command, sync::Semaphore};

/// A gateway's admin endpoint with its state folder and its config.
struct World {
    serving: Serving,
    state: TempDir,
    record: Arc<Mutex<Record>>,
}

async fn start(outbox_up: bool) -> World {
    let state = tempfile::tempdir().unwrap();
    let token = AdminToken::open_or_create(state.path(), &SeededEntropy::new(1)).unwrap();
    let registry = support::registry(Routes::default()).start();
    let outbox = OutboxActor::new(Arc::new(Semaphore::new(100)));
    let record = outbox.record.clone();
    let outbox = outbox.start();
    let serving = admin::start(Settings {
        listen: "127.0.0.1:0".parse().unwrap(),
        hosts: vec![],
        token,
        audit: support::audit_log(state.path()),
        reach: support::reach(Some(&registry), outbox_up.then_some(&outbox)),
        clock: Arc::new(StandingClock("2027-01-04T12:00:00Z".parse().unwrap())),
        reloader: None,
        drain: Arc::default(),
        state_dir: state.path().to_owned(),
    })
    .unwrap();
    write_config(state.path(), &serving.address().to_string());
    World { serving, state, record }
}

fn write_config(folder: &Path, listen: &str) {
    let text = format!("state_dir = \".\"\n[admin]\nlisten = \"{listen}\"\n[destination.cardiology]\nonion = \"\"\n");
    fs::write(folder.join("tidegate.toml"), text).unwrap();
}

/// The program, in this folder, with nothing of the environment that would change what it does.
async fn tidegate(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .envs([("HOME", folder.to_str().unwrap()), ("TZ", "UTC")])
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

impl World {
    /// Standard output of a command that must succeed.
    async fn shows(&self, arguments: &[&str]) -> String {
        let output = tidegate(self.state.path(), arguments).await;
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
        text(&output.stdout)
    }
    async fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let arguments = [arguments, &["--json"]].concat();
        serde_json::from_str(&self.shows(&arguments).await).unwrap()
    }
    /// Exit code and standard error of a command that must fail and say nothing on standard output.
    async fn fails(&self, arguments: &[&str]) -> (i32, String) {
        let output = tidegate(self.state.path(), arguments).await;
        assert!(output.stdout.is_empty(), "{arguments:?}: {output:?}");
        (output.status.code().unwrap(), text(&output.stderr))
    }
    async fn stop(self) {
        self.serving.stop(false).await;
    }
}

#[actix::test]
async fn the_status_is_a_table_and_an_exit_code() {
    let world = start(true).await;
    let shown = world.shows(&["status"]).await;
    assert!(shown.contains("all parts run") && shown.contains("outbox"), "{shown}");
    assert!(shown.contains("127 accepted: 120 queued"), "{shown}");
    assert_eq!(world.json(&["status"]).await["ready"], true);
    world.stop().await;

    let world = start(false).await;
    let output = tidegate(world.state.path(), &["status"]).await;
    assert_eq!(output.status.code(), Some(75));
    assert!(text(&output.stdout).contains("not all parts run"));
    world.stop().await;
}

#[actix::test]
async fn the_outbox_is_listed_shown_and_acted_on() {
    let world = start(true).await;
    let shown = world.shows(&["outbox", "list", "--limit", "60"]).await;
    assert_eq!(shown.lines().count(), 61, "a heading and 60 entries:\n{shown}");
    assert!(shown.lines().next().unwrap().contains("ENTRY") && shown.contains("cardiology/60"), "{shown}");
    let all = world.json(&["outbox", "list", "--limit", "1000", "--state", "queued,held"]).await;
    assert_eq!(all["items"].as_array().unwrap().len() as u64, support::ENTRIES);
    assert!(world.shows(&["outbox", "show", "cardiology/7"]).await.contains("11 bytes of text/plain"));
    let ended = support::ledger(1).id.to_string();
    assert!(world.shows(&["outbox", "show", &ended]).await.contains("signed by the receiver"));
    assert_eq!(world.shows(&["outbox", "hold", "cardiology/7"]).await, "cardiology/7 is held\n");
    assert!(world.shows(&["outbox", "ledger"]).await.contains("delivered"));
    assert!(world.shows(&["outbox", "quarantine"]).await.contains("no route matches this topic"));

    let (code, said) = world.fails(&["outbox", "purge", "cardiology/7"]).await;
    assert!(code == 2 && said.contains("--yes"), "{said}");
    assert_eq!(world.record.lock().unwrap().operated.len(), 1, "nothing was purged");
    world.shows(&["outbox", "purge", "cardiology/7", "--yes"]).await;
    assert_eq!(world.record.lock().unwrap().operated[1].event, Event::Purge);

    let output = tidegate(world.state.path(), &["outbox", "hold", "cardiology/999", "cardiology/8"]).await;
    assert_eq!(output.status.code(), Some(1), "the first failed");
    assert_eq!(text(&output.stdout), "cardiology/8 is held\n", "the second was done all the same");
    assert!(text(&output.stderr).contains("cardiology/999: There is no such thing"));
    assert_eq!(world.fails(&["outbox", "release", "cardiology/8"]).await.0, 1);
    assert_eq!(world.fails(&["outbox", "show", &ended.replace('5', "6")]).await.0, 1);
    assert_eq!(world.fails(&["outbox", "list", "--state", "alive"]).await.0, 2);
    assert_eq!(world.fails(&["outbox", "show", "neither"]).await.0, 2);
    world.stop().await;
}

#[actix::test]
async fn windows_are_set_while_the_gateway_runs() {
    let world = start(true).await;
    assert!(world.shows(&["destination", "list"]).await.contains("always open"));
    let set = ["destination", "windows", "set", "cardiology", "--timezone", "Europe/Madrid"];
    let shown = world.shows(&[&set[..], &["--allow", "mon-fri 22:00-02:00"]].concat()).await;
    assert!(shown.contains("opened until now: always") && shown.contains("Mon 2027-01-04 21:00"), "{shown}");
    let shown = world.shows(&["destination", "show", "cardiology"]).await;
    assert!(shown.contains("closed; opens Mon 2027-01-04 21:00"), "{shown}");
    assert!(shown.contains("the admin API") && shown.contains("times of Europe/Madrid"), "{shown}");
    let (code, said) = world.fails(&[&set[..], &["--allow", "someday"]].concat()).await;
    assert!(code == 1 && said.contains("/allow/0/days: not understood"), "{said}");
    assert_eq!(world.fails(&set).await.0, 2, "no windows given");
    let reset = ["destination", "windows", "reset", "cardiology"];
    let shown = world.shows(&[&reset[..], &["--dry-run"]].concat()).await;
    assert!(shown.contains("dry run") && shown.contains("opens from now on: always"), "{shown}");
    assert!(world.shows(&["destination", "list"]).await.contains("closed; opens"));
    world.shows(&reset).await;
    assert!(world.shows(&["destination", "list"]).await.contains("always open"));
    let (code, said) = world.fails(&["destination", "windows", "set", "lab", "--always"]).await;
    assert!(code == 1 && said.contains("declared in conf.d/lab.toml:7"), "{said}");
    assert_eq!(world.fails(&["destination", "show", "nowhere"]).await.0, 1);
    world.stop().await;
}

#[actix::test]
async fn destinations_are_made_changed_and_removed_from_files_and_shown_with_their_history() {
    let world = start(true).await;
    let file = world.state.path().join("ward.toml");
    let text = format!("onion = \"{}\"\nlanes = 1\n", OnionAddress::from_public_key([3; 32]).reveal());
    fs::write(&file, &text).unwrap();
    let file = file.to_str().unwrap();
    assert!(world.shows(&["destination", "add", "ward", "--file", file, "--dry-run"]).await.contains("dry run"));
    assert_eq!(world.fails(&["destination", "edit", "ward", "--file", file]).await.0, 1, "not there");
    assert!(world.shows(&["destination", "add", "ward", "--file", file]).await.starts_with("ward: added"));
    let (code, said) = world.fails(&["destination", "add", "ward", "--file", file]).await;
    assert!(code == 1 && said.contains("there is a destination ward already"), "{said}");
    fs::write(file, format!("{text}retry = {{ steps = [\"soon\"] }}\n")).unwrap();
    let (code, said) = world.fails(&["destination", "edit", "ward", "--file", file]).await;
    assert!(code == 1 && said.contains("/retry/steps/0: not a length of time"), "{said}");
    assert!(world.shows(&["destination", "history", "ward"]).await.contains("2027-01-04 11:00:00Z  admin"));
    assert!(world.shows(&["destination", "remove", "ward"]).await.contains("removed"), "nothing waits for it");

    let (code, said) = world.fails(&["destination", "remove", "cardiology"]).await;
    assert!(code == 1 && said.contains("120 queued") && said.contains("queued=hold"), "{said}");
    let shown = world.shows(&["destination", "remove", "cardiology", "--queued", "hold"]).await;
    assert!(shown.contains("120 messages wait for it: they are delivered when it comes back"), "{shown}");
    assert!(world.shows(&["status"]).await.contains("! 120 messages wait for cardiology, which is not there"));
    assert!(world.record.lock().unwrap().operated.is_empty());
    world.stop().await;
}

#[actix::test]
async fn an_operator_signals_for_a_destination_and_pauses_it() {
    let world = start(true).await;
    let signal = ["destination", "signal", "cardiology"];
    let shown = world.shows(&[&signal[..], &["--ready", "10m"]].concat()).await;
    assert!(shown.contains("ready, for 10m more; by operator"), "{shown}");
    let shown = world.json(&[&signal[..], &["--not-now", "30m"]].concat()).await;
    assert_eq!(
        (&shown["load"]["signal"]["ready"], &shown["load"]["signal"]["left_ms"]),
        (&false.into(), &1_800_000.into())
    );
    let shown = world.shows(&[&signal[..], &["--ready-until", "2027-01-04T12:15:00Z"]].concat()).await;
    assert!(shown.contains("ready, for 15m more"), "{shown}");
    let shown = world.shows(&[&signal[..], &["--clear"]].concat()).await;
    assert!(!shown.contains("ready, for"), "{shown}");
    let (code, said) = world.fails(&[&signal[..], &["--ready", "10m"]].concat()).await;
    assert!(code == 75 && said.contains("used up") && said.contains("1234 s"), "{said}");
    let (code, said) = world.fails(&[&signal[..], &["--ready", "soon"]].concat()).await;
    assert!(code == 1 && said.contains("/ready_for"), "{said}");
    let (code, said) = world.fails(&["destination", "signal", "lab", "--ready", "10m"]).await;
    assert!(code == 1 && said.contains("accepts no signals"), "{said}");
    assert_eq!(world.fails(&signal).await.0, 2, "nothing said");
    assert_eq!(world.fails(&[&signal[..], &["--ready", "1m", "--clear"]].concat()).await.0, 2, "two things said");

    let shown = world.shows(&["destination", "pause", "cardiology"]).await;
    assert!(shown.contains("destination resume cardiology"), "{shown}");
    assert!(world.shows(&["destination", "list"]).await.contains("paused"));
    let shown = world.shows(&["destination", "resume", "cardiology"]).await;
    assert!(!shown.contains("paused"), "{shown}");
    assert_eq!(world.fails(&["destination", "pause", "nowhere"]).await.0, 1);
    world.stop().await;
}

#[actix::test]
async fn a_signal_key_is_shown_once_and_is_for_one_destination() {
    let state = tempfile::tempdir().unwrap();
    write_config(state.path(), "127.0.0.1:1");
    let make = async |more: &[&str]| tidegate(state.path(), &[&["destination", "signal-key"], more].concat()).await;
    let made = make(&["cardiology"]).await;
    assert_eq!(made.status.code(), Some(0), "{made:?}");
    let line = text(&made.stdout).trim().to_owned();
    let (address, key) = line.split_once(":descriptor:x25519:").unwrap();
    assert_eq!((address.len(), key.len()), (56, 52));
    let stored = fs::read_to_string(state.path().join("signals/cardiology.json")).unwrap();
    assert!(!stored.contains(key) && !text(&made.stderr).contains(key));
    assert_eq!(make(&["cardiology"]).await.status.code(), Some(1));
    let replaced = make(&["cardiology", "--replace", "--json"]).await;
    let replaced: serde_json::Value = serde_json::from_str(&text(&replaced.stdout)).unwrap();
    assert!(!replaced["signal_key"].as_str().unwrap().contains(address));
    let other = make(&["lab"]).await;
    assert!(text(&other.stderr).contains("no destination lab yet"), "{other:?}");
}

#[tokio::test]
async fn a_receiver_that_can_not_signal_says_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let say =
        async |more: &[&str]| tidegate(folder.path(), &[&["receiver", "signal", "--folder", "r"], more].concat()).await;
    let refused = say(&["--ready", "10m"]).await;
    assert!(refused.status.code() == Some(1) && text(&refused.stderr).contains("no receiver in r"), "{refused:?}");
    fs::create_dir(folder.path().join("r")).unwrap();
    fs::write(folder.path().join("r/receipt.seed"), data_encoding::BASE64.encode(&[7; 32])).unwrap();
    let refused = say(&["--ready", "10m"]).await;
    assert!(refused.status.code() == Some(1) && text(&refused.stderr).contains("signal-key"), "{refused:?}");
    fs::write(folder.path().join("r/gateway.signal_key"), "?").unwrap();
    let refused = say(&["--ready", "10m"]).await;
    assert!(
        refused.status.code() == Some(1) && text(&refused.stderr).contains("gateway.signal_key is not"),
        "{refused:?}"
    );
    for wrong in [&[][..], &["--ready", "25h"], &["--ready", "soon"], &["--ready", "1m", "--clear"]] {
        assert_eq!(say(wrong).await.status.code(), Some(2), "{wrong:?}");
    }
    let wrong = tidegate(folder.path(), &["receiver", "--folder", "r", "--signal-on-start", "never"]).await;
    assert_eq!(wrong.status.code(), Some(2));
}

#[actix::test]
async fn what_stands_in_the_way_is_told_apart_by_exit_codes() {
    let world = start(false).await;
    let (code, said) = world.fails(&["outbox", "list"]).await;
    assert!(code == 75 && said.contains("try again"), "{said}");
    let other = tempfile::tempdir().unwrap();
    let foreign = AdminToken::open_or_create(other.path(), &SeededEntropy::new(9)).unwrap();
    assert!(!foreign.reveal().is_empty());
    let path = other.path().join("admin.token");
    let (code, said) = world.fails(&["status", "--token-file", path.to_str().unwrap()]).await;
    assert!(code == 1 && said.contains("--token-file"), "{said}");
    assert_eq!(world.fails(&["status", "--admin", "https://127.0.0.1:1"]).await.0, 2);
    assert_eq!(world.fails(&["status", "--config", "nowhere.toml"]).await.0, 78);
    assert_eq!(world.fails(&["explode"]).await.0, 2);
    let address = world.serving.address().to_string();
    let state = tempfile::tempdir().unwrap();
    fs::copy(world.state.path().join("admin.token"), state.path().join("admin.token")).unwrap();
    world.stop().await;
    write_config(state.path(), &address);
    let output = tidegate(state.path(), &["status"]).await;
    assert_eq!(output.status.code(), Some(69));
    assert!(text(&output.stderr).contains("tidegate run"));
}

#[actix::test]
async fn devices_get_credentials_of_which_only_the_hash_is_kept() {
    let state = tempfile::tempdir().unwrap();
    write_config(state.path(), "127.0.0.1:1");
    let added = tidegate(state.path(), &["device", "add", "pump", "--destinations", "cardiology,lab"]).await;
    assert_eq!(added.status.code(), Some(0), "{added:?}");
    let (secret, said) = (text(&added.stdout).trim().to_owned(), text(&added.stderr));
    assert!(said.contains("no destination lab yet") && said.contains("the first one"), "{said}");
    let file = fs::read_to_string(state.path().join(DEVICES_FILE)).unwrap();
    assert!(!file.contains(&secret));
    let devices = Devices::parse(&file).unwrap();
    let kept = devices.get(&"pump".parse().unwrap()).unwrap();
    assert_eq!(kept.secret_sha256, hash_secret(&secret).unwrap());
    assert_eq!(kept.destinations.len(), 2);

    let again = tidegate(state.path(), &["device", "add", "pump", "--destinations", "lab"]).await;
    assert_eq!(again.status.code(), Some(1));
    let again =
        tidegate(state.path(), &["device", "add", "pump", "--destinations", "lab", "--replace", "--json"]).await;
    let again: serde_json::Value = serde_json::from_str(&text(&again.stdout)).unwrap();
    assert_ne!(again["secret"], secret);
    let listed = tidegate(state.path(), &["device", "list"]).await;
    assert!(text(&listed.stdout).contains("pump") && !text(&listed.stdout).contains(&secret));
    assert_eq!(tidegate(state.path(), &["device", "remove", "pump"]).await.status.code(), Some(0));
    assert_eq!(tidegate(state.path(), &["device", "remove", "pump"]).await.status.code(), Some(1));
}

#[cfg(feature = "testnet")]
#[actix::test]
async fn the_simulated_pacemaker_publishes_what_the_papers_device_does() {
    use tidegate::lab::mosquitto::{Mosquitto, MosquittoOptions};
    let mut broker = Mosquitto::start(&MosquittoOptions::default()).unwrap();
    let (address, folder) = (broker.address(), tempfile::tempdir().unwrap());
    let port = address.port().to_string();
    // Debian's own client subscribes with a session that lasts, and later takes what was queued for it.
    let listen = async |more: &[&str]| {
        let session = ["-p", &port, "-c", "-i", "listener", "-q", "1", "-t", "patient/#", "-W", "30"];
        let done = Command::new("mosquitto_sub").args(session).args(more).output().await.unwrap();
        assert!(done.status.success(), "{done:?}");
        text(&done.stdout)
    };
    listen(&["-E"]).await;
    let broker_at = address.to_string();
    let arguments = ["device", "--count", "40", "--rate", "200", "--constant", "--broker", &broker_at, "--json"];
    let told = tidegate(folder.path(), &arguments).await;
    assert_eq!(told.status.code(), Some(0), "{told:?}");
    let told: serde_json::Value = serde_json::from_str(&text(&told.stdout)).unwrap();
    assert_eq!((&told["published"], &told["acknowledged"], &told["refused"]), (&40.into(), &40.into(), &0.into()));
    let pair = "patient/tension/mmHg|Tension: 120.00 mmHg |\npatient/beats/bpm|Beats: 70.00 bpm |\n";
    assert_eq!(listen(&["-C", "40", "-F", "%t|%p|"]).await, pair.repeat(20));

    let zero =
        tidegate(folder.path(), &["device", "--count", "3", "--rate", "100", "--qos", "0", "--broker", &broker_at])
            .await;
    assert!(text(&zero.stdout).starts_with("3 readings published"), "{zero:?}");
    broker.stop().unwrap();
    let gone = tidegate(folder.path(), &["device", "--count", "1", "--broker", &broker_at]).await;
    assert_eq!(gone.status.code(), Some(69), "{gone:?}");
    let name = tidegate(folder.path(), &["device", "--count", "1", "--broker", "broker.example:1883"]).await;
    assert_eq!(name.status.code(), Some(2), "{name:?}");
}

#[tokio::test]
async fn the_receivers_secrets_are_told_even_when_its_first_start_fails() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let start = ["--json", "receiver", "--folder", "receiver", "--keep", "90d", "--listen", &listen];
    let failed = tidegate(folder.path(), &start).await;
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    let lines = text(&failed.stdout);
    let said: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!((lines.lines().count(), said["new_password"].as_str().unwrap().len()), (1, 29));
    let key = said["new_write_key_files"][0].as_str().unwrap();
    assert!(!fs::read_to_string(folder.path().join(key)).unwrap().trim().is_empty());
    // They are there now, and not told again.
    let again = tidegate(folder.path(), &start).await;
    assert_eq!((again.status.code(), text(&again.stdout).as_str()), (Some(1), ""));
}

#[tokio::test]
async fn what_the_receiver_can_not_keep_is_a_mistake_in_the_command() {
    let folder = tempfile::tempdir().unwrap();
    for (option, value) in [("--keep", "1 month"), ("--keep", "10s"), ("--max-size", "much"), ("--max-size", "1KiB")] {
        let refused = tidegate(folder.path(), &["receiver", "--folder", "receiver", option, value]).await;
        assert_eq!(refused.status.code(), Some(2), "{option} {value}: {refused:?}");
    }
    assert!(!folder.path().join("receiver").exists());
}
