//! The parts of the experiment: private Tor network, homeserver, receiver, gateway, pacemaker. Each is a real process below
//! temporary folders; [`Parts`] stops them in order when it is dropped.

use super::{Failure, Network, Stop, failed};
use crate::{
    admin::token::TOKEN_FILE,
    cli::output,
    lab::{
        Process, ProcessSpec, RoomClient, Synapse, SynapseOptions, TorNetwork, TorNetworkOptions,
        folder::LabFolder,
        ports::{free_ports, loopback},
        private_file,
    },
};
use serde_json::{Value, json};
use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The destination's alias in the gateway's config.
pub(super) const DESTINATION: &str = "hospital";
/// Local part of the room's alias.
const ROOM: &str = "tidegate-demo";
/// How long the receiver or the gateway may take on a private network.
const PRIVATE_LIMIT: Duration = Duration::from_secs(120);
/// How long they may take on the public one, which is bootstrapped from nothing.
const PUBLIC_LIMIT: Duration = Duration::from_secs(300);
/// How long the gateway may drain.
const DRAIN_GRACE: Duration = Duration::from_secs(20);

/// The signals that ask for the end.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Takes them from now on.
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// The next one.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// All that runs. Fields are dropped in this order: who speaks goes before whom he speaks to.
pub(super) struct Parts {
    /// The pacemaker, once it publishes.
    pub(super) device: Option<Process>,
    /// `tidegate run`.
    pub(super) gateway: Process,
    /// `tidegate receiver`.
    pub(super) receiver: Process,
    /// The family in the room.
    pub(super) family: RoomClient,
    /// The room's id.
    pub(super) room: String,
    /// The gateway's user, whose notices count.
    pub(super) gateway_user: String,
    /// The gateway's admin endpoint.
    pub(super) admin: SocketAddr,
    /// Its token.
    pub(super) admin_token: String,
    introduction: Introduction,
    program: PathBuf,
    config: PathBuf,
    homeserver: Synapse,
    _network: Option<TorNetwork>,
    folder: LabFolder,
}

/// What the receiver said when it came up.
struct Introduction {
    onion: String,
    password: String,
    write_key_file: PathBuf,
    destination_toml: String,
}

/// What a start needs to know.
struct Plan<'a> {
    program: PathBuf,
    folder: &'a LabFolder,
    /// The private network's folder.
    testnet: Option<PathBuf>,
    limit: Duration,
    stop: &'a Stop,
}

impl Plan<'_> {
    /// One of our own processes, with its log in the folder.
    fn spawn(&self, name: &str, args: &[&str]) -> Result<Process, Failure> {
        let log = self.folder.file(&format!("{name}.log"));
        let mut spec = ProcessSpec::new(name, &self.program, log).args(args).folder(self.folder.path());
        if let Some(testnet) = &self.testnet {
            spec = spec.env("TIDEGATE_TESTNET", testnet);
        }
        spec.spawn().map_err(|error| failed(&error))
    }

    /// Waits until `attempt` yields something; fails when the process dies, a signal comes, or the limit is over.
    fn wait<T>(&self, process: &mut Process, attempt: impl Fn() -> Option<T>) -> Result<T, Failure> {
        let deadline = Instant::now() + self.limit;
        loop {
            if let Some(found) = attempt() {
                return Ok(found);
            }
            process.check().map_err(|error| failed(&error))?;
            if Instant::now() > deadline {
                let (name, seconds, log) = (process.name(), self.limit.as_secs(), process.log_tail());
                return Err(Failure::failed(format!(
                    "{name} was not ready within {seconds} s; its log ends with: {log}"
                )));
            }
            self.stop.pause()?;
        }
    }
}

impl Parts {
    /// Starts all but the pacemaker, and waits until the gateway reaches the broker and Tor.
    pub(super) fn start(network: Network, stop: &Stop) -> Result<Self, Failure> {
        let folder = LabFolder::open(None).map_err(|error| failed(&error))?;
        let network = match network {
            Network::Private => Some(start_network()?),
            Network::Public => None,
        };
        stop.check()?;
        output::message("starting the homeserver (Synapse), with the users gateway and family");
        let homeserver = Synapse::start(&SynapseOptions::default()).map_err(|error| failed(&error))?;
        let (password_file, gateway_user, family, room) = furnish(&homeserver, &folder)?;
        stop.check()?;

        let program = std::env::current_exe().map_err(|error| failed(&error))?;
        let limit = if network.is_some() { PRIVATE_LIMIT } else { PUBLIC_LIMIT };
        let testnet = network.as_ref().map(|network| network.folder().to_owned());
        let plan = Plan { program: program.clone(), folder: &folder, testnet, limit, stop };
        output::message("starting the receiver behind an onion service of its own");
        let (receiver, introduction) = start_receiver(&plan)?;
        output::message(
            "starting the gateway (its embedded broker is not durable: in real use run mosquitto beside it)",
        );
        let ports = free_ports(3).map_err(|error| failed(&error))?;
        let settings = Settings {
            broker: loopback(ports[0]),
            http: loopback(ports[1]),
            admin: loopback(ports[2]),
            homeserver: homeserver.base_url(),
            password_file,
            family: family.user_id().to_owned(),
        };
        let config = folder.file("tidegate.toml");
        let text = settings.to_toml(&introduction);
        private_file(&config, &text).map_err(|error| failed(&error))?;
        let (gateway, admin_token) = start_gateway(&plan, &config, settings.admin)?;
        Ok(Self {
            device: None,
            gateway,
            receiver,
            family,
            room,
            gateway_user,
            admin: settings.admin,
            admin_token,
            introduction,
            program,
            config,
            homeserver,
            _network: network,
            folder,
        })
    }

    /// Lets the pacemaker publish.
    pub(super) fn start_device(&mut self, readings: u64, rate: u64) -> Result<(), Failure> {
        let spec = ProcessSpec::new("pacemaker", &self.program, self.folder.file("pacemaker.log"))
            .args(["--json", "--config"])
            .arg(&self.config)
            .args(["device", "--count", &readings.to_string(), "--rate", &rate.to_string()]);
        self.device = Some(spec.spawn().map_err(|error| failed(&error))?);
        Ok(())
    }

    /// Where a person can look while it runs.
    pub(super) fn places(&self) -> Vec<String> {
        let Introduction { onion, password, .. } = &self.introduction;
        vec![
            format!("receiver  http://{onion}/ (over Tor), password {password}"),
            format!("admin     http://{}/api/v1/status, token in {}", self.admin, self.token_file().display()),
            format!("command   tidegate --config {} status", self.config.display()),
            format!("room      #{ROOM}:localhost at {}, user family, password family", self.homeserver.base_url()),
        ]
    }

    fn token_file(&self) -> PathBuf {
        self.folder.path().join("state").join(TOKEN_FILE)
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        // The gateway drains before it ends, and its broker ends with it.
        for process in self.device.iter().chain([&self.gateway, &self.receiver]) {
            process.terminate();
        }
        if let Err(error) = self.gateway.stop(DRAIN_GRACE) {
            output::message(&error.to_string());
        }
    }
}

fn start_network() -> Result<TorNetwork, Failure> {
    output::message("starting a private Tor network on loopback (it gives no anonymity)");
    let options = TorNetworkOptions {
        progress: Box::new(|step| output::message(&format!("  {step}"))),
        ..TorNetworkOptions::default()
    };
    TorNetwork::start(options).map_err(|error| failed(&error))
}

/// The users and the room. The family makes the room: who comes later doesn't see what was said before.
fn furnish(homeserver: &Synapse, folder: &LabFolder) -> Result<(PathBuf, String, RoomClient, String), Failure> {
    let password_file = folder.file("matrix.password");
    private_file(&password_file, "gateway").map_err(|error| failed(&error))?;
    let gateway = homeserver.register("gateway", "gateway").map_err(|error| failed(&error))?;
    let family = homeserver.register("family", "family").map_err(|error| failed(&error))?;
    let room = json!({
        "preset": "private_chat", "name": "Tidegate", "room_alias_name": ROOM, "invite": [gateway.user_id()],
    });
    let made = family.call("POST", "/createRoom", Some(&room)).map_err(|error| failed(&error))?;
    let room = made["room_id"].as_str().unwrap_or_default().to_owned();
    Ok((password_file, gateway.user_id().to_owned(), family, room))
}

fn start_receiver(plan: &Plan<'_>) -> Result<(Process, Introduction), Failure> {
    let folder = plan.folder.file("receiver");
    let folder = folder.to_string_lossy();
    let mut process =
        plan.spawn("receiver", &["--json", "receiver", "--folder", &folder, "--destination", DESTINATION])?;
    let log = process.log().to_owned();
    let introduction = plan.wait(&mut process, || introduction(&log))?;
    let key = fs::read_to_string(&introduction.write_key_file).map_err(|error| failed(&error))?;
    private_file(&plan.folder.file("gateway.write_key"), &key).map_err(|error| failed(&error))?;
    Ok((process, introduction))
}

/// The receiver's line of JSON among what it logs.
fn introduction(log: &Path) -> Option<Introduction> {
    let text = fs::read_to_string(log).ok()?;
    text.lines().filter(|line| line.starts_with('{')).find_map(|line| {
        let said: Value = serde_json::from_str(line).ok()?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Some(Introduction {
            onion: text(&said["onion"])?.trim_end_matches(":80").to_owned(),
            password: text(&said["new_password"])?,
            write_key_file: text(&said["new_write_key_files"][0])?.into(),
            destination_toml: text(&said["destination_toml"])?,
        })
    })
}

fn start_gateway(plan: &Plan<'_>, config: &Path, admin: SocketAddr) -> Result<(Process, String), Failure> {
    let mut process = plan.spawn("gateway", &["--config", &config.to_string_lossy(), "run"])?;
    let token_file = plan.folder.path().join("state").join(TOKEN_FILE);
    let token = plan.wait(&mut process, || {
        let token = fs::read_to_string(&token_file).ok()?.trim().to_owned();
        super::watch::is_connected(admin, &token).then_some(token)
    })?;
    Ok((process, token))
}

/// What the gateway's config is made of.
struct Settings {
    broker: SocketAddr,
    http: SocketAddr,
    admin: SocketAddr,
    homeserver: String,
    password_file: PathBuf,
    family: String,
}

impl Settings {
    fn to_toml(&self, receiver: &Introduction) -> String {
        let Self { broker, http, admin, homeserver, password_file, family } = self;
        let (host, port, password_file) = (broker.ip(), broker.port(), password_file.display());
        // The receiver's own block comes last, so that a key can be added to it.
        format!(
            r#"version = 1
state_dir = "state"

[mqtt]
embedded = true
host = "{host}"
port = {port}

[http]
listen = "{http}"

[admin]
listen = "{admin}"

[matrix]
homeserver = "{homeserver}"
user = "gateway"
password = {{ file = "{password_file}" }}
room = "{ROOM}"
invite = ["{family}"]

[[route]]
topic = "patient/+/+"
device = "patient"
destination = "{DESTINATION}"
payload = "private-iot"

{}retry = {{ steps = ["1s", "2s", "5s"] }}
signal = {{ accept = true }}
receiver_memory = "400d"
"#,
            receiver.destination_toml
        )
    }
}
