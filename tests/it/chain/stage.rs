//! The whole house for a test: the shared private Tor network, a broker, a homeserver where asked for, and `tidegate receiver` and
//! `tidegate run` as processes of their own. A test may bring receivers of its own, behind an onion service of a system tor. All that a test sees it sees from outside: the admin endpoint, the receiver's API through
//! a C tor client, the room through a client of its own, and the logs. Calls block; a wait that fails shows the end of the logs.

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use crate::mqtt::bench::publish;
use serde_json::Value;
use tempfile::TempDir;
use tidegate::lab::{
    ClientOptions, HiddenService, HiddenServiceOptions, HttpRequest, Mosquitto, MosquittoOptions, Process, ProcessSpec,
    RoomClient, Synapse, SynapseOptions, TorClientProcess, TorNetwork,
    ports::{free_ports, loopback},
    process::find_program,
    standstill,
};

/// The most that any one wait may take.
pub const LIMIT: Duration = Duration::from_secs(50);
const POLL: Duration = Duration::from_millis(50);
const ROOM_PASSWORD: &str = "gateway's password";
/// What strace notes of the gateway, where it is asked to.
pub const TRACE: &str = "trace";
const BROKER_LOG: &str = "broker.log";
const STANDSTILL: &str = "standstill";
const TIDEGATE: &str = env!("CARGO_BIN_EXE_tidegate");

/// Retries as quick as a test wants them.
pub const TRIES: &str = "retry = { steps = [\"1s\"] }\ntor_budget = { fresh_circuits_per_hour = 600 }\n\
                         deadlines = { connect = \"8s\", exchange = \"8s\" }\n";

/// Where `tidegate receiver` is, the receiver of the destination `ward`.
#[derive(Default, PartialEq, Eq)]
pub enum Place {
    /// It hosts its own onion service.
    #[default]
    OwnOnionService,
    /// It listens on loopback behind the onion service of a system tor.
    SystemTor,
    /// There is none: destinations are what the test gives to [`Stage::serve`] or writes in `more`.
    Nowhere,
}

/// What a test may choose.
#[derive(Default)]
pub struct Options {
    /// Where the receiver is.
    pub place: Place,
    /// More lines of `[mqtt]`.
    pub mqtt: String,
    /// The lines of `[http]`; without, there is no device endpoint.
    pub http: Option<String>,
    /// More of the config, at its end.
    pub more: String,
    /// More settings of the broker.
    pub broker: Vec<(String, String)>,
    /// With a homeserver and a room.
    pub room: bool,
    /// More arguments of `tidegate receiver`.
    pub receiver: Vec<String>,
    /// Fresh circuits an hour, if not those of [`TRIES`].
    pub circuits: Option<u16>,
    /// More lines of the destination `ward`.
    pub ward: String,
    /// A second destination `night` on the same receiver, with these lines.
    pub night: Option<String>,
    /// What strace has to note of the gateway in the file [`TRACE`], by its options; without any there is no strace.
    pub traced: &'static [&'static str],
}

/// Everything that runs. The order of the fields is the order in which it ends.
pub struct Stage {
    gateway: Option<Process>,
    receiver: Option<Process>,
    reader: Option<TorClientProcess>,
    services: Vec<HiddenService>,
    pub broker: Mosquitto,
    pub homeserver: Option<Synapse>,
    pub options: Options,
    room: Option<RoomClient>,
    introduction: Value,
    onion: String,
    admin_port: u16,
    receiver_port: u16,
    /// Of the device endpoint.
    pub http_port: u16,
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
        let mut settings = vec![("log_type".to_owned(), "all".to_owned()), ("log_dest".to_owned(), log)];
        settings.extend(options.broker.iter().cloned());
        let logged = MosquittoOptions { settings, ..MosquittoOptions::default() };
        let ports = free_ports(3).unwrap();
        let mut stage = Self {
            gateway: None,
            receiver: None,
            reader: None,
            services: Vec::new(),
            broker: Mosquitto::start(&logged).unwrap(),
            homeserver,
            options,
            room,
            introduction: Value::Null,
            onion: String::new(),
            admin_port: ports[0],
            receiver_port: ports[1],
            http_port: ports[2],
            network,
            folder,
        };
        if stage.options.place != Place::Nowhere {
            stage.prepare_receiver();
        }
        fs::write(stage.file("room.password"), ROOM_PASSWORD).unwrap();
        stage
    }

    fn prepare_receiver(&mut self) {
        self.reader = Some(self.network.client(ClientOptions::default()).unwrap());
        self.start_receiver();
        self.introduction = self.said_by_receiver();
        self.onion = match self.introduction["onion"].as_str() {
            Some(own) => own.to_owned(),
            None => self.onion_service(HiddenServiceOptions::to(loopback(self.receiver_port))),
        };
        self.onion.truncate(self.onion.find('.').unwrap());
        let key = self.introduction["new_write_key_files"][0].as_str().unwrap();
        fs::copy(key, self.file("gateway.write_key")).unwrap();
    }

    /// Hosts an onion service on a system tor; its address.
    fn onion_service(&mut self, options: HiddenServiceOptions) -> String {
        let service = self.network.hidden_service(options).unwrap();
        let address = service.onion_address().to_owned();
        self.services.push(service);
        address
    }

    /// Makes destinations, an alias with its lines each, of one web server of the test's own behind one onion service.
    pub fn serve(&mut self, target: SocketAddr, names_circuits: bool, destinations: &[(&str, &str)]) {
        let options = HiddenServiceOptions { names_circuits, ..HiddenServiceOptions::to(target) };
        let onion = self.onion_service(options);
        for (alias, lines) in destinations {
            writeln!(self.options.more, "[destination.{alias}]\nonion = \"{onion}:80\"\n{lines}").unwrap();
        }
    }

    /// What may still be chosen before the gateway starts.
    pub fn options_mut(&mut self) -> &mut Options {
        &mut self.options
    }

    /// Starts everything; publications are not lost from here on.
    pub fn start(options: Options) -> Self {
        let mut stage = Self::without_gateway(options);
        stage.open();
        stage
    }

    /// Starts the gateway for the first time and waits until no publication is lost.
    pub fn open(&mut self) {
        self.start_gateway();
        self.wait_for("the gateway's subscription", |stage| {
            fs::read_to_string(stage.file(BROKER_LOG)).ok()?.contains("Sending SUBACK to").then_some(())
        });
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where the relays of the network take connections.
    pub fn relay_ports(&self) -> Vec<u16> {
        self.network.authorities().iter().flat_map(|relay| [relay.or_port, relay.dir_port]).collect()
    }

    /// The onion address without `.onion`.
    pub fn onion(&self) -> &str {
        &self.onion
    }

    pub fn broker_log(&self) -> String {
        fs::read_to_string(self.file(BROKER_LOG)).unwrap()
    }

    pub fn start_receiver(&mut self) {
        let mut spec = ProcessSpec::new("receiver", TIDEGATE, self.file("receiver.log"))
            .args(["--json", "receiver", "--destination", "ward", "--folder"])
            .arg(self.file("receiver"))
            .env("TIDEGATE_TESTNET", self.network.folder());
        if self.options.place == Place::SystemTor {
            spec = spec.args(["--listen", &loopback(self.receiver_port).to_string()]);
        }
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
        let spec = if self.options.traced.is_empty() {
            ProcessSpec::new("gateway", TIDEGATE, self.file("gateway.log"))
        } else {
            let strace = find_program("strace").expect("strace is installed (.ci/setup test)");
            // With -D the gateway is the child, and strace its servant.
            ProcessSpec::new("gateway", strace, self.file("gateway.log"))
                .args(["-D", "-f"])
                .args(self.options.traced.iter().copied())
                .arg("-o")
                .arg(self.file(TRACE))
                .arg(TIDEGATE)
        };
        let spec = spec.arg("--config").arg(config).arg("run").env("TIDEGATE_TESTNET", self.network.folder());
        let spec = spec.env(standstill::MARK, self.file(STANDSTILL));
        self.gateway = Some(spec.spawn().unwrap());
    }

    /// The running gateway takes over another config.
    pub fn reconfigure(&mut self, change: impl FnOnce(&mut Options)) {
        change(&mut self.options);
        fs::write(self.file("tidegate.toml"), self.config()).unwrap();
        let said = self.tidegate(&["reload"]);
        assert!(said.contains("reloaded"), "{said}");
    }

    pub fn kill_gateway(&mut self) {
        kill_9(self.gateway.take().unwrap());
    }

    /// Makes the next handler that asks the outbox's clock block for ever.
    pub fn block_a_handler(&self) {
        fs::write(self.file(STANDSTILL), "").unwrap();
        // The handler of the outbox that says what waits asks it.
        let load = self.load("ward");
        assert!(!load.as_ref().is_some_and(Value::is_object), "a handler that is blocked answered: {load:?}");
    }

    /// Waits for the gateway's own end, and takes away what made it block; the exit code.
    pub fn gateway_ends(&mut self) -> Option<i32> {
        let ended = self.gateway.as_mut().unwrap().ended(LIMIT).unwrap();
        fs::remove_file(self.file(STANDSTILL)).unwrap();
        ended.expect("the gateway still runs").code()
    }

    pub fn stop_gateway(&mut self) {
        self.gateway.take().unwrap().stop(Duration::from_secs(20)).unwrap();
    }

    fn config(&self) -> String {
        let block = self.introduction["destination_toml"].as_str().unwrap_or_default();
        let block = block.replace("ADDRESS.onion", &format!("{}.onion", self.onion));
        let tries = TRIES.replace("600", &self.options.circuits.unwrap_or(600).to_string());
        let http = match &self.options.http {
            Some(lines) => format!("listen = \"127.0.0.1:{}\"\n{lines}", self.http_port),
            None => "enabled = false".to_owned(),
        };
        let mut text = format!(
            "version = 1\nstate_dir = \"state\"\n[mqtt]\nhost = \"127.0.0.1\"\nport = {}\n{}\n[http]\n{http}\n\
             [admin]\nlisten = \"127.0.0.1:{}\"\n[log]\nfilter = \"info,tidegate=debug,tidegate_actors=debug\"\n\
             [[route]]\ntopic = \"{{destination}}/{{device}}/pulse\"\n",
            self.broker.address().port(),
            self.options.mqtt,
            self.admin_port,
        );
        if !block.is_empty() {
            writeln!(text, "{block}{tries}{}", self.options.ward).unwrap();
        }
        if let Some(night) = &self.options.night {
            let block = block.replace("[destination.ward]", "[destination.night]");
            writeln!(text, "{block}{tries}{night}").unwrap();
        }
        if let Some(homeserver) = &self.homeserver {
            write!(
                text,
                "[matrix]\nhomeserver = \"{}\"\nuser = \"gateway\"\npassword = {{ file = \"room.password\" }}\n",
                homeserver.base_url()
            )
            .unwrap();
        }
        text + &self.options.more
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

    /// Publishes one body at QoS 1, and waits for the broker.
    pub fn publish_to(&self, topic: &str, body: &[u8]) {
        publish(self.broker.address(), topic, body);
    }

    /// Asks the admin endpoint; `None` while it does not answer.
    pub fn ask(&self, method: &'static str, path: &str, body: Option<&Value>) -> Option<Value> {
        let token = fs::read_to_string(self.file("state/admin.token")).ok()?;
        let request = HttpRequest::new(method, loopback(self.admin_port), path).bearer(token.trim());
        let request = if let Some(body) = body { request.json(body) } else { request };
        Some(request.send_ok().ok()?.json())
    }

    /// What a command of the program prints.
    pub fn tidegate(&self, args: &[&str]) -> String {
        let done = Command::new(TIDEGATE).arg("--config").arg(self.file("tidegate.toml")).args(args).output().unwrap();
        String::from_utf8([done.stdout, done.stderr].concat()).unwrap()
    }

    /// What `tidegate receiver signal` prints.
    pub fn receiver_says(&self, args: &[&str]) -> String {
        let mut command = Command::new(TIDEGATE);
        command.args(["receiver", "signal", "--folder"]).arg(self.file("receiver")).args(args);
        let done = command.env("TIDEGATE_TESTNET", self.network.folder()).output().unwrap();
        assert!(done.status.success(), "{done:?}\n{}", self.logs());
        String::from_utf8(done.stdout).unwrap()
    }

    /// Where the private Tor network is.
    pub fn network_folder(&self) -> &Path {
        self.network.folder()
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
        serde_json::from_str(&self.fetch(&format!("v1/readings?limit=500&after={after}"))?).ok()
    }

    /// What a person's browser gets at the onion address, without JavaScript.
    pub fn html(&self) -> String {
        self.wait_for("the receiver's page", |stage| stage.fetch(""))
    }

    /// Over Tor, by a C tor client, with the password.
    fn fetch(&self, path: &str) -> Option<String> {
        let password = self.introduction["new_password"].as_str().unwrap();
        let socks = self.reader.as_ref().unwrap().socks_address();
        let fetched = Command::new("curl")
            .args(["-sS", "--fail", "--max-time", "15", "--socks5-hostname", &socks.to_string()])
            .args(["-u", &format!("reader:{password}")])
            .arg(format!("http://{}.onion/{path}", self.onion()))
            .output()
            .unwrap();
        fetched.status.success().then(|| String::from_utf8(fetched.stdout).unwrap())
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

    pub fn receiver_log(&self) -> String {
        fs::read_to_string(self.file("receiver.log")).unwrap()
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
