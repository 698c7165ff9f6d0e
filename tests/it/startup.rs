//! What may not keep the gateway from starting and from taking messages, and how it ends: the built program, from outside.

mod confined;
mod service_manager;
mod store_files;

use crate::http_support::send;
use serde_json::Value;
use std::{
    cell::Cell,
    fs::{self, File},
    io::Write as _,
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::Command,
    rc::Rc,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tidegate::{
    adapters::arti::breadcrumb,
    lab::{
        Process, ProcessSpec,
        ports::{free_ports, loopback},
    },
    reload::Origin,
    wiring,
};
use tokio::time::sleep;

/// The most that any one wait may take.
const LIMIT: Duration = Duration::from_secs(30);
const ONION: &str = "2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid.onion";

/// A gateway without a broker, and with a Tor client that can't be opened: its folder can't be made.
struct Gateway {
    process: Option<Process>,
    http: SocketAddr,
    admin: SocketAddr,
    folder: TempDir,
}

impl Gateway {
    fn prepare(more: &str) -> Self {
        let ports = free_ports(2).unwrap();
        let (http, admin) = (loopback(ports[0]), loopback(ports[1]));
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "state_dir = \"state\"\nmqtt.enabled = false\nhttp.listen = \"{http}\"\nadmin.listen = \"{admin}\"\n{more}\n\
             [destination.ward]\nonion = \"{ONION}\"\n"
        );
        fs::write(folder.path().join("tidegate.toml"), text).unwrap();
        let gateway = Self { process: None, http, admin, folder };
        fs::create_dir(gateway.state("")).unwrap();
        fs::write(gateway.state("tor"), "a file where a folder should be").unwrap();
        gateway
    }

    fn state(&self, name: &str) -> PathBuf {
        self.folder.path().join("state").join(name)
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("tidegate.toml")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn start(&mut self) {
        self.start_with(&[]);
    }

    /// The same, with these variables in its environment.
    fn start_with(&mut self, environment: &[(&str, &str)]) {
        let spec = environment.iter().fold(self.spec(), |spec, (key, value)| spec.env(*key, *value));
        self.process = Some(spec.arg("--config").arg(self.config()).arg("run").spawn().unwrap());
    }

    /// All paths are relative then.
    fn start_in_its_folder(&mut self) {
        let spec = self.spec().folder(self.folder.path()).args(["--config", "tidegate.toml", "run"]);
        self.process = Some(spec.spawn().unwrap());
    }

    fn spec(&self) -> ProcessSpec {
        ProcessSpec::new("gateway", env!("CARGO_BIN_EXE_tidegate"), self.folder.path().join("log"))
    }

    /// What Linux says of its process in this file.
    fn proc(&self, file: &str) -> String {
        let pid = self.process.as_ref().unwrap().pid().unwrap();
        String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/{file}")).unwrap()).into_owned()
    }

    /// Waits for this.
    async fn until<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(seen) = look() {
                return seen;
            }
            assert!(Instant::now() < deadline, "{what} did not come about:\n{}", self.log());
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Hands in a reading, as soon as all that takes it is up.
    async fn hand_in(&self) {
        self.until("the device endpoint", || TcpStream::connect(self.http).ok()).await;
        let deadline = Instant::now() + LIMIT;
        loop {
            let answer = send(self.http, "PUT", "/v1/messages/ward?device=pacemaker", &[], "70").await;
            if answer.status == 201 {
                return;
            }
            assert!(answer.status == 503 && Instant::now() < deadline, "{}\n{}", answer.body, self.log());
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn status(&self) -> Value {
        let token = fs::read_to_string(self.state("admin.token")).unwrap();
        let bearer = format!("Bearer {}", token.trim());
        send(self.admin, "GET", "/api/v1/status", &[("authorization", &bearer)], "").await.json()
    }

    async fn observed(&self, actor: &str) -> Value {
        let status = self.status().await;
        let lines = status["lines"].as_array().unwrap();
        lines.iter().map(|line| line["observation"].clone()).find(|seen| seen["actor"] == actor).unwrap()
    }

    /// How Tor stands, once it is in this state.
    async fn uplink(&self, state: &str) -> Value {
        let deadline = Instant::now() + LIMIT;
        loop {
            let uplink = self.observed("uplink").await["status"].clone();
            if uplink["state"] == state {
                return uplink;
            }
            assert!(Instant::now() < deadline, "{uplink}\n{}", self.log());
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn signal(&self) {
        let pid = self.process.as_ref().unwrap().pid().unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }
}

#[actix::test]
async fn trouble_with_tor_keeps_nobody_from_handing_in() {
    let mut gateway = Gateway::prepare("");
    gateway.start();
    gateway.hand_in().await;
    let uplink = gateway.uplink("failed").await;
    assert!(uplink["reason"].as_str().unwrap().contains("Tor client"), "{uplink}");
    assert_eq!(gateway.observed("outbox").await["account"]["queued"], 1);
    gateway.signal();
    gateway.until("an orderly end", || gateway.log().contains("the gateway has ended").then_some(())).await;
    assert!(!gateway.state(breadcrumb::FILE).exists());
}

#[actix::test]
async fn a_tor_that_seems_to_end_the_process_is_held_back_and_intake_goes_on() {
    let mut gateway = Gateway::prepare("");
    let crumb = gateway.state(breadcrumb::FILE);
    fs::write(&crumb, breadcrumb::SUSPECT_AFTER.to_string()).unwrap();
    gateway.start();
    gateway.hand_in().await;
    let uplink = gateway.uplink("obsolete").await;
    assert!(uplink["reason"].as_str().unwrap().contains(breadcrumb::FILE), "{uplink}");
    gateway.signal();
    gateway.until("an orderly end", || gateway.log().contains("the gateway has ended").then_some(())).await;
    assert!(crumb.exists(), "an orderly end without Tor says nothing about Tor");
}

#[actix::test]
async fn it_has_one_arena_and_keeps_its_name_unless_its_environment_says_how_many() {
    for (said, has) in [(None, "MALLOC_ARENA_MAX=1"), (Some("3"), "MALLOC_ARENA_MAX=3")] {
        let mut gateway = Gateway::prepare("");
        let environment: Vec<_> = said.map(|number| ("MALLOC_ARENA_MAX", number)).into_iter().collect();
        gateway.start_with(&environment);
        gateway.hand_in().await;
        assert!(gateway.proc("environ").split('\0').any(|variable| variable == has), "{has}");
        assert_eq!(gateway.proc("comm"), "tidegate\n");
        assert!(gateway.proc("cmdline").starts_with(env!("CARGO_BIN_EXE_tidegate")), "as it was called");
        gateway.signal();
        gateway.until("an orderly end", || gateway.log().contains("the gateway has ended").then_some(())).await;
    }
}

#[actix::test]
async fn a_slow_disk_at_the_start_does_not_hold_up_the_main_thread() {
    let gateway = Gateway::prepare("");
    fs::create_dir(gateway.state("outbox")).unwrap();
    // The opening waits for this lock for a second, as it would wait for a slow disk.
    let lock = File::create(gateway.state("outbox/LOCK")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let longest = Rc::new(Cell::new(Duration::ZERO));
    let seen = Rc::clone(&longest);
    let beat = actix::spawn(async move {
        loop {
            let before = Instant::now();
            sleep(Duration::from_millis(10)).await;
            seen.set(seen.get().max(before.elapsed()));
        }
    });
    let origin = Origin { path: gateway.config(), state_dir: "/nowhere".into(), environment: vec![] };
    let config = origin.load().ok().unwrap();
    let began = Instant::now();
    let error = wiring::start(config, origin).await.err().unwrap();
    assert!(format!("{error:#}").contains("another process"), "{error:#}");
    assert!(began.elapsed() > Duration::from_millis(800));
    sleep(Duration::from_millis(30)).await;
    assert!(longest.get() < Duration::from_millis(600), "{:?}", longest.get());
    beat.abort();
}

/// A device that never sends the rest: its request is under way while intake closes.
async fn half_a_request(http: SocketAddr) -> TcpStream {
    let mut device = TcpStream::connect(http).unwrap();
    let head = "PUT /v1/messages/ward?device=slow HTTP/1.1\r\nHost: gateway\r\nContent-Length: 100\r\n\r\nbegin";
    device.write_all(head.as_bytes()).unwrap();
    sleep(Duration::from_millis(100)).await;
    device
}

#[actix::test]
async fn a_second_signal_ends_the_process_at_once_whatever_it_waits_for() {
    let mut gateway = Gateway::prepare("");
    gateway.start();
    gateway.hand_in().await;
    let _device = half_a_request(gateway.http).await;
    gateway.signal();
    gateway.until("the drain", || gateway.log().contains("draining").then_some(())).await;
    gateway.signal();
    let asked = Instant::now();
    gateway.until("the end", || gateway.log().contains("a second signal").then_some(())).await;
    let mut process = gateway.process.take().unwrap();
    gateway.until("the end", || process.check().err()).await;
    assert!(asked.elapsed() < Duration::from_millis(1_500), "{:?}", asked.elapsed());
}

#[actix::test]
async fn an_operator_drains_it_and_is_told_when_it_has_ended() {
    let mut gateway = Gateway::prepare("");
    gateway.start();
    gateway.hand_in().await;
    let config = gateway.config();
    let drain = move || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.arg("--config").arg(config).arg("drain").output().unwrap()
    };
    let said = tokio::task::spawn_blocking(drain).await.unwrap();
    let text = String::from_utf8_lossy(&said.stdout);
    assert!(said.status.success() && text.contains("the gateway has ended"), "{said:?}\n{}", gateway.log());
    let mut process = gateway.process.take().unwrap();
    gateway.until("the end", || process.check().err()).await;
    assert!(gateway.log().contains("an operator drains the gateway"), "{}", gateway.log());
}

#[actix::test]
async fn requests_that_never_end_hold_up_a_drain_for_a_bounded_time() {
    let mut gateway = Gateway::prepare("");
    gateway.start();
    gateway.hand_in().await;
    let _device = half_a_request(gateway.http).await;
    gateway.signal();
    let asked = Instant::now();
    gateway.until("an orderly end", || gateway.log().contains("the gateway has ended").then_some(())).await;
    assert!(asked.elapsed() < Duration::from_secs(8), "{:?}", asked.elapsed());
}

#[actix::test]
async fn a_damaged_outbox_stops_the_start_and_says_the_way_out_or_is_set_aside() {
    let damage = |gateway: &Gateway| {
        fs::create_dir(gateway.state("outbox")).unwrap();
        fs::write(gateway.state("outbox/FORMAT"), "backend=sled-0.34\nlayout=1\n").unwrap();
    };
    let gateway = Gateway::prepare("");
    damage(&gateway);
    let run = Command::new(env!("CARGO_BIN_EXE_tidegate")).arg("--config").arg(gateway.config()).arg("run").output();
    let run = run.unwrap();
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    assert_eq!(run.status.code(), Some(1), "{said}");
    assert!(said.contains("outbox.on_corrupt = \"set_aside\""), "{said}");
    assert!(gateway.state("outbox/FORMAT").exists());

    let mut gateway = Gateway::prepare("outbox.on_corrupt = \"set_aside\"");
    damage(&gateway);
    gateway.start();
    gateway.hand_in().await;
    let kept = gateway.observed("outbox").await["set_aside"][0].as_str().unwrap().to_owned();
    assert!(kept.starts_with("outbox.bad-") && gateway.log().contains(&kept), "{kept}");
    assert_eq!(
        fs::read_to_string(gateway.state(&kept).join("FORMAT")).unwrap(),
        "backend=sled-0.34\nlayout=1\n",
        "as it was"
    );
    let shown =
        Command::new(env!("CARGO_BIN_EXE_tidegate")).arg("--config").arg(gateway.config()).arg("status").output();
    let shown = String::from_utf8(shown.unwrap().stdout).unwrap();
    assert!(shown.contains(&kept), "{shown}");
}
