//! The whole house for a test: the shared private Tor network, a broker, a homeserver where asked for, and `tidegate receiver` and
//! `tidegate run` as processes of their own. All that a test sees it sees from outside: the admin endpoint, the receiver's API through
//! a C tor client, the room through a client of its own, and the logs. Calls block; a wait that fails shows the end of the logs.

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;
use tidegate::lab::{
    ClientOptions, HttpRequest, Mosquitto, MosquittoOptions, Process, ProcessSpec, RoomClient, Synapse, SynapseOptions,
    TorClientProcess, TorNetwork,
    ports::{free_ports, loopback},
};

/// The most that any one wait may take.
pub const LIMIT: Duration = Duration::from_secs(50);
const POLL: Duration = Duration::from_millis(50);
const ROOM_PASSWORD: &str = "gateway's password";
const BROKER_LOG: &str = "broker.log";
const TIDEGATE: &str = env!("CARGO_BIN_EXE_tidegate");

/// What a test may choose.
#[derive(Default)]
pub struct Options {
    /// With a homeserver and a room.
    pub room: bool,
    /// More arguments of `tidegate receiver`.
    pub receiver: Vec<String>,
    /// More lines of the destination `ward`.
    pub ward: String,
    /// A second destination `night` on the same receiver, with these lines.
    pub night: Option<String>,
    /// Note the gateway's connections.
    pub traced: bool,
}

/// Everything that runs. The order of the fields is the order in which it ends.
pub struct Stage {
    gateway: Option<Process>,
    receiver: Option<Process>,
    reader: TorClientProcess,
    pub broker: Mosquitto,
    pub homeserver: Option<Synapse>,
    pub options: Options,
    room: Option<RoomClient>,
    introduction: Value,
    admin_port: u16,
    network: Arc<TorNetwork>,
    folder: TempDir,
}

impl Stage {
    /// Starts everything but the gateway.
    pub fn without_gateway(options: Options) -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let network = runtime.block_on(crate::tor_net::network());
        let homeserver = options.room.then(|| Synapse::start(&SynapseOptions::default()).unwrap());
        let room = homeserver.as_ref().map(|homeserver| homeserver.register("gateway", ROOM_PASSWORD).unwrap());
        let folder = tempfile::tempdir().unwrap();
        // A log of its own, because what mosquitto writes to its standard output comes late.
        let log = format!("file {}", folder.path().join(BROKER_LOG).display());
        let logged = MosquittoOptions {
            settings: vec![("log_type".to_owned(), "all".to_owned()), ("log_dest".to_owned(), log)],
            ..MosquittoOptions::default()
        };
        let mut stage = Self {
            gateway: None,
            receiver: None,
            reader: network.client(ClientOptions::default()).unwrap(),
            broker: Mosquitto::start(&logged).unwrap(),
            homeserver,
            options,
            room,
            introduction: Value::Null,
            admin_port: free_ports(1).unwrap()[0],
            network,
            folder,
        };
        stage.start_receiver();
        stage.introduction = stage.said_by_receiver();
        fs::copy(stage.introduction["new_write_key_files"][0].as_str().unwrap(), stage.file("gateway.write_key"))
            .unwrap();
        fs::write(stage.file("room.password"), ROOM_PASSWORD).unwrap();
        stage
    }

    /// Starts everything; publications are not lost from here on.
    pub fn start(options: Options) -> Self {
        let mut stage = Self::without_gateway(options);
        stage.start_gateway();
        stage.wait_for("the gateway's subscription", |stage| {
            fs::read_to_string(stage.file(BROKER_LOG)).ok()?.contains("Sending SUBACK to").then_some(())
        });
        stage
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The onion address without `.onion`.
    pub fn onion(&self) -> &str {
        self.introduction["onion"].as_str().unwrap().split('.').next().unwrap()
    }

    pub fn start_receiver(&mut self) {
        let mut spec = ProcessSpec::new("receiver", TIDEGATE, self.file("receiver.log"))
            .args(["--json", "receiver", "--destination", "ward", "--folder"])
            .arg(self.file("receiver"))
            .env("TIDEGATE_TESTNET", self.network.folder());
        for argument in &self.options.receiver {
            spec = spec.arg(argument);
        }
        self.receiver = Some(spec.spawn().unwrap());
    }

    pub fn kill_receiver(&mut self) {
        kill_9(self.receiver.take().unwrap());
    }

    fn said_by_receiver(&mut self) -> Value {
        self.wait_for("the receiver's introduction", |stage| {
            let log = fs::read_to_string(stage.file("receiver.log")).unwrap();
            log.lines().find_map(|line| {
                serde_json::from_str::<Value>(line).ok().filter(|said| said["destination_toml"].is_string())
            })
        })
    }

    pub fn start_gateway(&mut self) {
        let config = self.file("tidegate.toml");
        fs::write(&config, self.config()).unwrap();
        let spec = if self.options.traced {
            // With -D the gateway is the child, and strace its servant.
            ProcessSpec::new("gateway", "/usr/bin/strace", self.file("gateway.log"))
                .args(["-D", "-f", "-s", "0", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-o"])
                .arg(self.file("connections"))
                .arg(TIDEGATE)
        } else {
            ProcessSpec::new("gateway", TIDEGATE, self.file("gateway.log"))
        };
        let spec = spec.arg("--config").arg(config).arg("run").env("TIDEGATE_TESTNET", self.network.folder());
        self.gateway = Some(spec.spawn().unwrap());
    }

    pub fn kill_gateway(&mut self) {
        kill_9(self.gateway.take().unwrap());
    }

    pub fn stop_gateway(&mut self) {
        self.gateway.take().unwrap().stop(Duration::from_secs(20)).unwrap();
    }

    fn config(&self) -> String {
        const TRIES: &str = "retry = { steps = [\"1s\"] }\ntor_budget = { fresh_circuits_per_hour = 600 }\n\
                             deadlines = { connect = \"8s\", exchange = \"8s\" }\n";
        let block = self.introduction["destination_toml"].as_str().unwrap();
        let mut text = format!(
            "version = 1\nstate_dir = \"state\"\n[mqtt]\nhost = \"127.0.0.1\"\nport = {}\n[http]\nenabled = false\n\
             [admin]\nlisten = \"127.0.0.1:{}\"\n[log]\nfilter = \"info,tidegate=debug,tidegate_actors=debug\"\n\
             [[route]]\ntopic = \"{{destination}}/{{device}}/pulse\"\n{block}{TRIES}{}\n",
            self.broker.address().port(),
            self.admin_port,
            self.options.ward,
        );
        if let Some(night) = &self.options.night {
            let block = block.replace("[destination.ward]", "[destination.night]");
            writeln!(text, "{block}{TRIES}{night}").unwrap();
        }
        if let Some(homeserver) = &self.homeserver {
            write!(
                text,
                "[matrix]\nhomeserver = \"{}\"\nuser = \"gateway\"\npassword = {{ file = \"room.password\" }}\n",
                homeserver.base_url()
            )
            .unwrap();
        }
        text
    }

    /// Publishes one reading a line at QoS 1; the child ends when the broker has acknowledged all.
    pub fn publish(&self, destination: &str, device: &str, payloads: &[String]) -> Child {
        let mut child = Command::new("mosquitto_pub")
            .args(["-h", "127.0.0.1", "-q", "1", "-l", "-p", &self.broker.address().port().to_string()])
            .args(["-t", &format!("{destination}/{device}/pulse")])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all((payloads.join("\n") + "\n").as_bytes()).unwrap();
        child
    }

    /// Publishes one reading of the device `patient` for `ward`, and waits for the broker.
    pub fn publish_one(&self, payload: &str) {
        assert!(self.publish("ward", "patient", &[payload.to_owned()]).wait().unwrap().success());
    }

    /// Asks the admin endpoint; `None` while it does not answer.
    pub fn ask(&self, method: &'static str, path: &str, body: Option<&Value>) -> Option<Value> {
        let token = fs::read_to_string(self.file("state/admin.token")).ok()?;
        let request = HttpRequest::new(method, loopback(self.admin_port), path).bearer(token.trim());
        let request = if let Some(body) = body { request.json(body) } else { request };
        Some(request.send_ok().ok()?.json())
    }

    /// What an actor says of itself.
    pub fn observation(&self, actor: &str) -> Option<Value> {
        let status = self.ask("GET", "/api/v1/status", None)?;
        let lines = status["lines"].as_array()?;
        lines.iter().map(|line| &line["observation"]).find(|seen| seen["actor"] == actor).cloned()
    }

    /// A number of the outbox's account; 0 while the gateway does not answer.
    pub fn account(&self, state: &str) -> u64 {
        self.observation("outbox").and_then(|outbox| outbox["account"][state].as_u64()).unwrap_or_default()
    }

    pub fn load(&self, destination: &str) -> Option<Value> {
        self.ask("GET", &format!("/api/v1/destinations/{destination}"), None).map(|view| view["load"].clone())
    }

    /// Waits until so many are delivered by the outbox's account and none waits, then that the account has no gap.
    pub fn wait_for_delivered(&self, wanted: u64) {
        self.wait_for(&format!("{wanted} delivered"), |stage| (stage.account("delivered") >= wanted).then_some(()));
        let outbox = self.observation("outbox").unwrap();
        assert_eq!((&outbox["account"]["delivered"], &outbox["gap"]), (&wanted.into(), &0.into()), "{outbox}");
        for state in ["queued", "held", "parked", "dead", "expired", "purged", "quarantined", "refused", "dropped"] {
            assert_eq!(outbox["account"][state], 0, "{state}: {outbox}");
        }
    }

    /// All that the receiver shows to who has the password, over Tor: (device, text) and the whole, oldest first.
    pub fn readings(&self) -> Vec<(String, String)> {
        let (mut all, mut after) = (Vec::new(), 0);
        loop {
            let page = self.wait_for("the receiver's page", |stage| stage.page(after));
            assert_eq!(page["damaged"], serde_json::json!([]));
            let readings = page["readings"].as_array().unwrap();
            if readings.is_empty() {
                return all;
            }
            let text = |reading: &Value, key: &str| reading[key].as_str().unwrap().to_owned();
            all.extend(readings.iter().map(|reading| (text(reading, "device"), text(reading, "text"))));
            after = page["next_after"].as_u64().unwrap();
        }
    }

    fn page(&self, after: u64) -> Option<Value> {
        let password = self.introduction["new_password"].as_str().unwrap();
        let fetched = Command::new("curl")
            .args(["-sS", "--fail", "--max-time", "15", "--socks5-hostname", &self.reader.socks_address().to_string()])
            .args(["-u", &format!("reader:{password}")])
            .arg(format!("http://{}.onion/v1/readings?limit=500&after={after}", self.onion()))
            .output()
            .unwrap();
        serde_json::from_slice(&fetched.stdout).ok()
    }

    /// What the room was told: one report for each end state.
    pub fn reports(&self) -> Vec<Value> {
        let told = || {
            let client = self.room.as_ref().unwrap();
            let room = client.rooms().ok()?.into_iter().next()?;
            client.messages(&room).ok()
        };
        let kind = tidegate::adapters::matrix::ACKNOWLEDGEMENT;
        let reports = |notice: &Value| notice[kind]["reports"].as_array().cloned().unwrap_or_default();
        told().unwrap_or_default().iter().flat_map(reports).collect()
    }

    /// Every event of every room that the gateway's user is in, as text.
    pub fn room_text(&self) -> String {
        let client = self.room.as_ref().unwrap();
        client.rooms().unwrap().iter().map(|room| format!("{:?}", client.timeline(room).unwrap())).collect()
    }

    pub fn gateway_log(&self) -> String {
        fs::read_to_string(self.file("gateway.log")).unwrap()
    }

    /// Looks until there is something, at most [`LIMIT`].
    pub fn wait_for<T>(&self, what: &str, mut look: impl FnMut(&Self) -> Option<T>) -> T {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(seen) = look(self) {
                return seen;
            }
            assert!(Instant::now() < deadline, "{what} did not come about in {LIMIT:?}\n{}", self.logs());
            thread::sleep(POLL);
        }
    }

    fn logs(&self) -> String {
        let outbox = self.observation("outbox");
        let tail = |name: &str| tail_of(&self.file(name));
        let (gateway, receiver) = (tail("gateway.log"), tail("receiver.log"));
        format!("outbox: {outbox:?}\nward: {:?}\ngateway: {gateway}\nreceiver: {receiver}", self.load("ward"))
    }
}

fn tail_of(path: &Path) -> String {
    let log = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

/// Ends a process by SIGKILL alone, so that no handler of a gentler signal gets a turn.
fn kill_9(mut process: Process) {
    let killed = Command::new("kill").args(["-9", &process.pid().unwrap().to_string()]).status().unwrap();
    assert!(killed.success());
    process.stop(Duration::from_secs(5)).unwrap();
}
