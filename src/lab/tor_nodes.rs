//! C tor clients and onion service hosts in the private network, started on demand.
//!
//! They stand for everybody else's software: the receiver behind a system tor, a Tor Browser, the paper's SOCKS client.
//! A node ends when its value is dropped, unless its network is a detached one; then it runs until the network stops.
//! Its data folder is made anew at each start, because a cached consensus of an earlier network would only delay it.
//! An onion service's keys are kept under its name, so a service of the same name in the same folder has the same
//! address.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use super::control::Control;
use super::process::Process;
use super::state::ProcessState;
use super::tor_network::{Shared, TorNetwork, tor_spec};
use super::{LabError, file_error, private_file, private_folder, torrc};

/// How long a client may take until it has circuits.
pub const CLIENT_LIMIT: Duration = Duration::from_secs(90);
/// How long an onion service may take until its descriptor is out.
pub const SERVICE_LIMIT: Duration = Duration::from_secs(120);
/// The most clients that one service authorizes, and the most keys of one client.
pub const CLIENT_KEYS_MAX: usize = 64;

/// Between two looks at what is being waited for.
const POLL: Duration = Duration::from_millis(100);
/// How long the events of descriptor uploads must be silent before they count as over.
const UPLOADS_QUIET: Duration = Duration::from_millis(400);
/// The prefix of a client key in tor's file formats.
const KEY_PREFIX: &str = "descriptor:x25519:";

/// How to start a C tor client.
#[derive(Clone, Default)]
pub struct ClientOptions {
    /// The name of its folder; `None` numbers it.
    pub name: Option<String>,
    /// The SOCKS port; 0 lets tor choose.
    pub socks_port: u16,
    /// Whether the SOCKS port tells which stage of a connect failed (`ExtendedErrors`).
    pub extended_errors: bool,
    /// Keys for onion services with client authorization: (onion address, x25519 private key in base32).
    pub onion_keys: Vec<(String, String)>,
}

impl fmt::Debug for ClientOptions {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("ClientOptions")
            .field("name", &self.name)
            .field("socks_port", &self.socks_port)
            .field("extended_errors", &self.extended_errors)
            .field("onion_keys", &self.onion_keys.len())
            .finish()
    }
}

/// How to host an onion service on C tor.
#[derive(Debug, Clone)]
pub struct HiddenServiceOptions {
    /// The name under which its keys are kept; `None` numbers it.
    pub name: Option<String>,
    /// The port of the onion address.
    pub virtual_port: u16,
    /// Where its connections go.
    pub target: SocketAddr,
    /// The x25519 public keys of those who may find it, in base32, with or without `descriptor:x25519:`. None: everybody.
    pub authorized_clients: Vec<String>,
    /// Whether each connection to the target begins with a line that names its circuit (the PROXY protocol, version 1: the
    /// circuit is the source address).
    pub names_circuits: bool,
}

impl HiddenServiceOptions {
    /// A service on port 80 for everybody who knows its address.
    #[must_use]
    pub fn to(target: SocketAddr) -> Self {
        Self { name: None, virtual_port: 80, target, authorized_clients: Vec::new(), names_circuits: false }
    }
}

/// One running tor process beside the authorities.
#[derive(Debug)]
struct Node {
    name: String,
    folder: PathBuf,
    /// `None` when it was let go with its detached network.
    process: Option<Process>,
    // Keeps a temporary folder while the process uses it; dropped after it.
    shared: Arc<Shared>,
}

impl Node {
    fn start(shared: &Arc<Shared>, name: String, torrc: impl FnOnce(&Path) -> String) -> Result<Self, LabError> {
        if !is_plain(&name) {
            return Err(LabError::Options { reason: format!("{name:?} can't be the name of a node") });
        }
        let folder = shared.folder.join(&name);
        let data = folder.join("data");
        if data.exists() {
            std::fs::remove_dir_all(&data).map_err(file_error("remove", &data))?;
        }
        private_folder(&folder)?;
        private_folder(&data)?;
        let authorities = shared.state().authorities.clone();
        let common = torrc::common(&data, "node", &authorities);
        private_file(&folder.join("torrc"), &(common + &torrc::control(&data) + &torrc(&folder)))?;
        let process = tor_spec(&shared.programs, &folder, &name, shared.detached).spawn()?;
        if let Some(pid) = process.pid() {
            shared.register(ProcessState { name: name.clone(), pid, folder: folder.clone() })?;
        }
        Ok(Self { name, folder, process: Some(process), shared: Arc::clone(shared) })
    }

    fn control(&self) -> Result<Control, LabError> {
        Control::open(&self.folder.join("data")).map_err(|error| self.control_error(error))
    }

    fn control_error(&self, error: io::Error) -> LabError {
        LabError::Control { name: self.name.clone(), reason: error.to_string() }
    }

    /// Tries `attempt` until it yields something, the process dies, or the limit is over.
    fn wait<T>(
        &mut self,
        what: &str,
        deadline: Instant,
        mut attempt: impl FnMut(&Self) -> Result<Option<T>, LabError>,
    ) -> Result<T, LabError> {
        let began = Instant::now();
        loop {
            if let Some(process) = &mut self.process {
                process.check()?;
            }
            // An error may be that of a node that isn't up yet; the time-out tells what is in its log.
            if let Ok(Some(found)) = attempt(self) {
                return Ok(found);
            }
            if Instant::now() >= deadline {
                return Err(self.timeout(what, began));
            }
            thread::sleep(POLL);
        }
    }

    fn timeout(&self, what: &str, began: Instant) -> LabError {
        let log = super::process::tail(&self.folder.join("log"));
        LabError::Timeout { what: format!("{what} of {}", self.name), seconds: began.elapsed().as_secs(), log }
    }

    /// Once it is up, a node of a detached network is let go.
    fn settle(mut self) -> Self {
        if self.shared.detached
            && let Some(process) = self.process.take()
        {
            let _recorded = process.detach();
        }
        self
    }

    fn signal(&self, send: impl FnOnce(&Process)) -> Result<(), LabError> {
        let process = self.process.as_ref().ok_or_else(|| LabError::Options {
            reason: format!("{} belongs to a network that runs on, so it isn't ours to signal", self.name),
        })?;
        send(process);
        Ok(())
    }
}

/// A C tor client with a SOCKS port.
#[derive(Debug)]
pub struct TorClientProcess {
    node: Node,
    socks: SocketAddr,
}

impl TorClientProcess {
    /// Where it takes SOCKS5 connections.
    #[must_use]
    pub fn socks_address(&self) -> SocketAddr {
        self.socks
    }

    /// A new connection to its control port.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn control(&self) -> Result<Control, LabError> {
        self.node.control()
    }

    /// Gives it the x25519 private key for an onion service with client authorization.
    ///
    /// # Errors
    /// When tor refuses the address or the key.
    pub fn add_onion_key(&self, onion: &str, private_key: &[u8; 32]) -> Result<(), LabError> {
        let id = onion.trim_end_matches(".onion");
        let key = data_encoding::BASE64.encode(private_key);
        let answer = self.control()?.ask(&format!("ONION_CLIENT_AUTH_ADD {id} x25519:{key}"));
        answer.map(drop).map_err(|error| self.node.control_error(error))
    }
}

/// An onion service hosted by a C tor process.
pub struct HiddenService {
    node: Node,
    onion: String,
    virtual_port: u16,
}

impl fmt::Debug for HiddenService {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("HiddenService").field("name", &self.node.name).finish_non_exhaustive()
    }
}

impl HiddenService {
    /// Its address, `.onion` included.
    #[must_use]
    pub fn onion_address(&self) -> &str {
        &self.onion
    }

    /// The port of its address.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.virtual_port
    }

    /// A new connection to its host's control port.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn control(&self) -> Result<Control, LabError> {
        self.node.control()
    }

    /// Freezes the host: connections stay, nothing answers.
    ///
    /// # Errors
    /// When it belongs to a detached network.
    pub fn freeze(&self) -> Result<(), LabError> {
        self.node.signal(Process::freeze)
    }

    /// Lets a frozen host go on.
    ///
    /// # Errors
    /// When it belongs to a detached network.
    pub fn thaw(&self) -> Result<(), LabError> {
        self.node.signal(Process::thaw)
    }

    /// Kills the host as a power cut would: its descriptor stays out. The same name brings the same service back.
    ///
    /// # Errors
    /// When its end can't be awaited.
    pub fn kill(mut self) -> Result<(), LabError> {
        self.node.process.as_mut().map_or(Ok(()), |process| process.kill().map_err(LabError::from))
    }
}

impl TorNetwork {
    /// Starts a C tor client and waits until it has circuits (1 to 5 seconds).
    ///
    /// # Errors
    /// When it dies or isn't ready within [`CLIENT_LIMIT`].
    pub fn client(&self, options: ClientOptions) -> Result<TorClientProcess, LabError> {
        let deadline = Instant::now() + CLIENT_LIMIT;
        let name = self.node_name("client", options.name);
        let keys = self.shared.folder.join(&name).join("onion_keys");
        private_folder(&keys)?;
        let mut files = Vec::new();
        for (onion, key) in options.onion_keys.iter().take(CLIENT_KEYS_MAX) {
            files.push(format!("{}:{KEY_PREFIX}{}\n", onion.trim_end_matches(".onion"), key.trim()));
        }
        write_keys(&keys, "auth_private", &files)?;
        let flags = if options.extended_errors { "ExtendedErrors" } else { "" };
        let mut node = Node::start(&self.shared, name, |_| torrc::client(options.socks_port, flags, &keys))?;
        let socks = node.wait("the circuits", deadline, |node| {
            let mut control = node.control()?;
            let phase = control.info("status/bootstrap-phase").map_err(|error| node.control_error(error))?;
            if !phase.contains("PROGRESS=100") {
                return Ok(None);
            }
            let listeners = control.info("net/listeners/socks").map_err(|error| node.control_error(error))?;
            Ok(listeners.trim_matches('"').parse().ok())
        })?;
        Ok(TorClientProcess { node: node.settle(), socks })
    }

    /// Hosts an onion service on a C tor process of its own and waits until its descriptor is out (3 to 10 seconds).
    ///
    /// # Errors
    /// When the process dies or no directory has taken the descriptor within [`SERVICE_LIMIT`].
    pub fn hidden_service(&self, options: HiddenServiceOptions) -> Result<HiddenService, LabError> {
        let began = Instant::now();
        let deadline = began + SERVICE_LIMIT;
        let name = self.node_name("service", options.name);
        let service = self.shared.folder.join(&name).join("service");
        let clients = service.join("authorized_clients");
        private_folder(&service)?;
        private_folder(&clients)?;
        let line = |key: &String| format!("{KEY_PREFIX}{}\n", key.trim().trim_start_matches(KEY_PREFIX));
        let lines: Vec<String> = options.authorized_clients.iter().take(CLIENT_KEYS_MAX).map(line).collect();
        write_keys(&clients, "auth", &lines)?;
        let torrc =
            |_: &Path| torrc::hidden_service(&service, options.virtual_port, options.target, options.names_circuits);
        let mut node = Node::start(&self.shared, name, torrc)?;
        let mut control = node.wait("the control port", deadline, |node| node.control().map(Some))?;
        publish(&mut control, deadline)
            .map_err(|error| node.control_error(error))?
            .ok_or_else(|| node.timeout("the published descriptor", began))?;
        let file = service.join("hostname");
        let onion = std::fs::read_to_string(&file).map_err(file_error("read", &file))?.trim().to_owned();
        Ok(HiddenService { node: node.settle(), onion, virtual_port: options.virtual_port })
    }

    fn node_name(&self, kind: &str, asked: Option<String>) -> String {
        asked.unwrap_or_else(|| format!("{kind}{}", self.shared.unnamed.fetch_add(1, Ordering::Relaxed)))
    }
}

/// Switches the host's network on, and waits until every upload of a descriptor that it begins has ended, at least
/// one of them well. Listening first means that no event is missed.
fn publish(control: &mut Control, deadline: Instant) -> io::Result<Option<()>> {
    control.ask("SETEVENTS HS_DESC")?;
    control.ask("SETCONF DisableNetwork=0")?;
    let (mut begun, mut ended, mut stored) = (0_u32, 0_u32, 0_u32);
    while Instant::now() < deadline {
        let done = stored > 0 && ended >= begun;
        let limit = if done { deadline.min(Instant::now() + UPLOADS_QUIET) } else { deadline };
        match control.next_event(limit)?.as_deref().and_then(|event| event.split(' ').nth(1)) {
            Some("UPLOAD") => begun += 1,
            Some("UPLOADED") => (ended, stored) = (ended + 1, stored + 1),
            Some("FAILED") => ended += 1,
            Some(_) => {}
            None if done => return Ok(Some(())),
            None => {}
        }
    }
    Ok(None)
}

/// Replaces the key files of a folder.
fn write_keys(folder: &Path, extension: &str, lines: &[String]) -> Result<(), LabError> {
    for entry in std::fs::read_dir(folder).map_err(file_error("list", folder))? {
        let path = entry.map_err(file_error("list", folder))?.path();
        std::fs::remove_file(&path).map_err(file_error("remove", &path))?;
    }
    for (number, line) in lines.iter().enumerate() {
        private_file(&folder.join(format!("key{number}.{extension}")), line)?;
    }
    Ok(())
}

/// Whether a name is one plain path component.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.len() <= 32 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}
