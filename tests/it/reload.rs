//! Reloads of a running gateway, by signal, by the admin API and by the command line: the built program, from outside.

mod edit;

use crate::http_support::{Answer, send};
use serde_json::Value;
use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Command, Output},
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tidegate::lab::{
    Process, ProcessSpec,
    ports::{free_ports, loopback},
};
use tidegate_schemas::onion::OnionAddress;
use tokio::time::sleep;

/// The most that any one wait may take.
const LIMIT: Duration = Duration::from_secs(30);

/// A gateway without a broker and without Tor, whose config is changed while it runs.
struct Gateway {
    process: Process,
    http: SocketAddr,
    admin: SocketAddr,
    folder: TempDir,
}

/// `[destination.NAME]`, with more keys.
fn destination(name: &str, more: &str) -> String {
    let mut key = [0; 32];
    key[..name.len()].copy_from_slice(name.as_bytes());
    format!("[destination.{name}]\nonion = \"{}\"\n{more}\n", OnionAddress::from_public_key(key).reveal())
}

impl Gateway {
    async fn start(destinations: &str) -> Self {
        let ports = free_ports(2).unwrap();
        let (http, admin) = (loopback(ports[0]), loopback(ports[1]));
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("state")).unwrap();
        fs::create_dir(folder.path().join("conf.d")).unwrap();
        fs::write(folder.path().join("state/tor"), "a file where a folder should be").unwrap();
        let spec = ProcessSpec::new("gateway", env!("CARGO_BIN_EXE_tidegate"), folder.path().join("log"));
        write(&folder, http, admin, destinations);
        let process = spec.arg("--config").arg(folder.path().join("tidegate.toml")).arg("run").spawn().unwrap();
        let gateway = Self { process, http, admin, folder };
        gateway.until("the admin endpoint", async || TcpStream::connect(admin).is_ok()).await;
        gateway.until("all parts", async || gateway.get("/readyz").await.status == 200).await;
        gateway
    }

    fn write(&self, destinations: &str) {
        write(&self.folder, self.http, self.admin, destinations);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    async fn until(&self, what: &str, mut look: impl AsyncFnMut() -> bool) {
        let deadline = Instant::now() + LIMIT;
        while !look().await {
            assert!(Instant::now() < deadline, "{what} did not come about:\n{}", self.log());
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        let token = fs::read_to_string(self.path("state/admin.token")).unwrap_or_default();
        let bearer = format!("Bearer {}", token.trim());
        let mut headers = vec![("authorization", bearer.as_str())];
        if !body.is_empty() {
            headers.push(("content-type", "application/json"));
        }
        send(self.admin, method, path, &headers, body.to_owned()).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "").await
    }

    async fn reload(&self) -> Value {
        let answer = self.ask("POST", "/api/v1/reload", "").await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    }

    /// Names of the destinations in force.
    async fn names(&self) -> Vec<String> {
        let list = self.get("/api/v1/destinations").await.json();
        list["items"].as_array().unwrap().iter().map(|it| it["destination"].as_str().unwrap().to_owned()).collect()
    }

    async fn hand_in(&self, destination: &str) -> u16 {
        let path = format!("/v1/messages/{destination}?device=pacemaker");
        send(self.http, "PUT", &path, &[], "70").await.status
    }

    fn tidegate(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.arg("--config").arg(self.path("tidegate.toml")).args(arguments).env_clear();
        command.env("HOME", self.folder.path()).output().unwrap()
    }

    fn signal(&self, signal: &str) {
        let pid = self.process.pid().unwrap().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }
}

fn write(folder: &TempDir, http: SocketAddr, admin: SocketAddr, destinations: &str) {
    let text = format!(
        "state_dir = \"state\"\nmqtt.enabled = false\nhttp.listen = \"{http}\"\nadmin.listen = \"{admin}\"\n{destinations}"
    );
    fs::write(folder.path().join("tidegate.toml"), text).unwrap();
}

#[actix::test]
async fn a_hangup_takes_over_what_the_files_say_and_a_wrong_file_changes_nothing() {
    let gateway = Gateway::start(&destination("ward", "")).await;
    assert_eq!(gateway.hand_in("ward").await, 201);
    assert_eq!(gateway.hand_in("lab").await, 404);
    fs::write(gateway.path("conf.d/lab.toml"), format!("# the lab\n{}", destination("lab", "lanes = 3"))).unwrap();
    gateway.signal("-HUP");
    gateway.until("the reload", async || gateway.log().contains("the config was reloaded")).await;
    assert_eq!(gateway.names().await, ["lab", "ward"]);
    assert_eq!(gateway.hand_in("lab").await, 201);
    let lab = gateway.get("/api/v1/destinations/lab").await.json();
    assert!(
        lab["source"]["file"].as_str().unwrap().ends_with("conf.d/lab.toml") && lab["source"]["line"] == 2,
        "{lab}"
    );

    fs::write(gateway.path("conf.d/lab.toml"), destination("lab", "lanes = 99")).unwrap();
    gateway.write(&destination("home", ""));
    gateway.signal("-HUP");
    gateway.until("the refusal", async || gateway.log().contains("nothing has changed")).await;
    assert!(gateway.log().contains("conf.d/lab.toml:3:9"), "{}", gateway.log());
    assert_eq!(gateway.names().await, ["lab", "ward"]);
    // It lives on, and ends as asked.
    gateway.signal("-TERM");
    gateway.until("an orderly end", async || gateway.log().contains("the gateway has ended")).await;
    assert!(!gateway.log().contains(".onion"), "{}", gateway.log());
}

#[actix::test]
async fn the_api_and_the_command_line_reload_and_tell_what_is_wrong_and_what_needs_a_restart() {
    let gateway = Gateway::start(&destination("ward", "")).await;
    gateway.write(&format!("log.filter = \"warn\"\n{}", destination("ward", "lanes = 5")));
    let dry = gateway.tidegate(&["reload", "--dry-run"]);
    let told = String::from_utf8(dry.stdout).unwrap();
    for said in ["ward: changed, version 2 (dry run", "  lanes: not set -> 5", "! needs a restart: log.filter"] {
        assert!(told.contains(said), "{said} is not in:\n{told}");
    }
    assert_eq!(gateway.get("/api/v1/destinations/ward").await.json()["version"], 1);
    let done = gateway.reload().await;
    assert_eq!((&done["needs_restart"][0], &done["destinations"][0]["version"]), (&"log.filter".into(), &2.into()));
    let history = gateway.get("/api/v1/destinations/ward/history").await.json();
    assert!(history["items"][0]["who"].as_str().unwrap().starts_with("reload "), "{history}");
    assert!(history["items"][1]["who"].as_str().unwrap().ends_with("tidegate.toml:5"), "{history}");
    assert_eq!(gateway.reload().await["destinations"], serde_json::json!([]), "nothing more");

    gateway.write(&destination("ward", "windows.timezone = \"Europe/Madird\""));
    let answer = gateway.ask("POST", "/api/v1/reload", "").await;
    answer.is_problem(422, "config");
    let error = answer.json()["errors"][0].clone();
    assert_eq!(error["pointer"], "/destination/ward/windows/timezone");
    assert!(error["place"].as_str().unwrap().ends_with("tidegate.toml:7:20"), "{error}");
    let refused = gateway.tidegate(&["reload"]);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(78), "{said}");
    assert!(said.contains("^^^^^^^^^^^^^^^ destination.ward.windows.timezone"), "{said}");
    // Declared ones are changed in their file alone.
    let answer = gateway.ask("PUT", "/api/v1/destinations/ward/windows", "{}").await;
    answer.is_problem(409, "declared");
    // As of the last good reload.
    assert!(answer.body.contains("tidegate.toml:6"), "{}", answer.body);
}

#[actix::test]
async fn a_reload_is_bound_to_the_dry_run_that_was_looked_at() {
    let gateway = Gateway::start(&destination("ward", "")).await;
    gateway.write(&destination("ward", "lanes = 5"));
    let reload = async |query: &str, tag: &str| {
        let token = fs::read_to_string(gateway.path("state/admin.token")).unwrap();
        let authorization = format!("Bearer {}", token.trim());
        let headers = [("authorization", authorization.as_str()), ("if-match", tag)];
        send(gateway.admin, "POST", &format!("/api/v1/reload{query}"), &headers, "").await
    };
    let tag = |answer: &Answer| answer.header("etag").unwrap().to_owned();
    let (config, dry) = (gateway.get("/api/v1/config").await, reload("?dry_run=true", "*").await);
    assert_eq!(dry.status, 200, "{}", dry.body);
    let keys = config.json()["keys"].clone();
    let listen = keys.as_array().unwrap().iter().find(|key| key["key"] == "admin.listen").unwrap();
    assert!(listen["origin"]["file"].as_str().unwrap().ends_with("tidegate.toml"), "{listen}");
    assert_eq!(listen["value"], gateway.admin.to_string());
    let address = OnionAddress::from_public_key([0; 32]).reveal();
    assert!(!config.body.contains(&address[20..40]), "{}", config.body);
    // The files go on changing after the dry run: what would be taken over is not what was shown.
    gateway.write(&destination("ward", "lanes = 6"));
    let refused = reload("", &tag(&dry)).await;
    refused.is_problem(412, "changed");
    assert!(refused.body.contains("config files"), "{}", refused.body);
    // Bound to what is in force alone, it is taken over.
    let dry = reload("?dry_run=true", &tag(&config)).await;
    let done = reload("", &tag(&dry)).await;
    assert_eq!((done.status, &done.json()["destinations"][0]["changes"][0]["new"]), (200, &6.into()), "{}", done.body);
    assert_eq!(tag(&gateway.get("/api/v1/config").await), tag(&done));
    for stale in [&tag(&dry), &tag(&config)] {
        let refused = reload("", stale).await;
        refused.is_problem(412, "changed");
        assert_eq!(tag(&refused), tag(&done));
    }
}

#[actix::test]
async fn messages_of_a_destination_that_goes_wait_until_it_comes_back_or_are_purged() {
    let ward = destination("ward", "");
    let mut gateway = Gateway::start(&format!("{ward}{}", destination("lab", ""))).await;
    for _ in 0..3 {
        assert_eq!(gateway.hand_in("lab").await, 201);
    }
    gateway.write(&ward);
    let dry = gateway.ask("POST", "/api/v1/reload?dry_run=true", "").await.json();
    assert_eq!(dry["absent"], serde_json::json!([{ "destination": "lab", "waiting": 3 }]));
    let done = gateway.reload().await;
    assert_eq!(done["absent"], dry["absent"]);
    assert_eq!(gateway.hand_in("lab").await, 404);
    let status = gateway.tidegate(&["status"]);
    let status = String::from_utf8(status.stdout).unwrap();
    assert!(status.contains("! 3 messages wait for lab, which is not there"), "{status}");

    // It comes back as one of the API, at the same name.
    let body = serde_json::json!({ "onion": OnionAddress::from_public_key([9; 32]).reveal() }).to_string();
    let put = gateway.ask("PUT", "/api/v1/destinations/lab", &body).await;
    assert_eq!((put.status, &put.json()["waiting"]), (200, &3.into()), "{}", put.body);
    assert_eq!(gateway.hand_in("lab").await, 201);
    // A new process knows it, its versions, and what waits.
    gateway.signal("-TERM");
    gateway.until("an orderly end", async || gateway.log().contains("the gateway has ended")).await;
    let spec = ProcessSpec::new("gateway", env!("CARGO_BIN_EXE_tidegate"), gateway.path("log"));
    gateway.process = spec.arg("--config").arg(gateway.path("tidegate.toml")).arg("run").spawn().unwrap();
    gateway.until("the admin endpoint", async || TcpStream::connect(gateway.admin).is_ok()).await;
    gateway.until("all parts", async || gateway.get("/readyz").await.status == 200).await;
    let lab = gateway.get("/api/v1/destinations/lab").await.json();
    assert_eq!(
        (&lab["source"]["kind"], &lab["version"], &lab["load"]["queued"]),
        (&"api".into(), &3.into(), &4.into())
    );

    gateway.ask("DELETE", "/api/v1/destinations/lab", "").await.is_problem(409, "waiting");
    let purged = gateway.tidegate(&["destination", "remove", "lab", "--queued", "purge"]);
    let told = String::from_utf8(purged.stdout).unwrap();
    assert!(told.contains("lab: removed") && told.contains("4 messages were purged"), "{told}");
    assert_eq!(gateway.names().await, ["ward"]);
    let status = gateway.get("/api/v1/status").await.json();
    let outbox = status["lines"].as_array().unwrap().iter().find(|line| line["name"] == "outbox").unwrap();
    let account = &outbox["observation"]["account"];
    assert_eq!(
        (&account["purged"], &account["queued"], &outbox["observation"]["gap"]),
        (&4.into(), &0.into(), &0.into())
    );
    assert_eq!(status["absent"], Value::Null);
}
