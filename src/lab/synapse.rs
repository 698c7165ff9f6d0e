//! A real Synapse homeserver on loopback, and a small Matrix client to look into its rooms.
//!
//! Synapse runs from the Python environment that `.ci/setup` builds, with an SQLite database in one folder and no
//! federation: nothing leaves the machine. It can be stopped, killed and started again on the same data and port, and
//! ends with its value. First start 1.5 to 3 s, restart about 1 s, 120 MB of memory.
//!
//! [`RoomClient`] stands for a person with a Matrix app. The gateway's own Matrix client is `adapters::matrix`; using that
//! to look at what it wrote would test it against itself. The calls block; from asynchronous code use
//! `tokio::task::spawn_blocking`.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::folder::{LabFolder, tools_folder};
use super::http::{HttpError, HttpRequest, encode};
use super::ports::{free_ports, loopback};
use super::process::{Process, ProcessSpec};
use super::{LabError, file_error, private_file};

/// The name that user ids and aliases end with, unless another is asked for.
pub const SERVER_NAME: &str = "localhost";
/// How long Synapse may take until `/health` answers.
pub const START_LIMIT: Duration = Duration::from_secs(90);
/// How long Synapse may take to end in order.
pub const STOP_GRACE: Duration = Duration::from_secs(15);
/// Pages of a timeline that are read at most; a page has up to [`PAGE_EVENTS`] events.
pub const PAGES_MAX: usize = 1_000;
/// Events asked for in one page.
pub const PAGE_EVENTS: usize = 500;

const POLL: Duration = Duration::from_millis(100);
const CONFIG: &str = "homeserver.yaml";
const REMEDY: &str = "run `.ci/setup demo`, which builds it in a private Python environment";

/// How to start a homeserver.
#[derive(Debug, Clone, Default)]
pub struct SynapseOptions {
    /// Keep Synapse's own limits on messages, joins and invitations (0.2 messages a second, 10 at once), as operators have
    /// them. Logins are quick either way. False lifts all limits.
    pub default_rate_limits: bool,
    /// What user ids and aliases end with; `None` is [`SERVER_NAME`].
    pub server_name: Option<String>,
    /// Where the data is kept; `None` is a temporary folder.
    pub folder: Option<PathBuf>,
    /// The port on 127.0.0.1; `None` is a free one.
    pub port: Option<u16>,
    /// The Python environment; `None` is the one that `.ci/setup` builds.
    pub environment: Option<PathBuf>,
}

/// A homeserver: running, or stopped with its data kept.
#[derive(Debug)]
pub struct Synapse {
    environment: PathBuf,
    port: u16,
    process: Option<Process>,
    // Last, so that it is removed only after the process has ended.
    folder: LabFolder,
}

impl Synapse {
    /// Starts a homeserver and waits until it answers.
    ///
    /// # Errors
    /// When Synapse isn't installed, or doesn't come up within [`START_LIMIT`].
    pub fn start(options: &SynapseOptions) -> Result<Self, LabError> {
        let environment = options.environment.clone().unwrap_or_else(|| tools_folder().join("synapse-venv"));
        let folder = LabFolder::open(options.folder.as_deref())?;
        let port = match options.port {
            Some(port) => port,
            None => free_ports(1).map_err(LabError::Ports)?[0],
        };
        let mut homeserver = Self { environment, port, process: None, folder };
        homeserver.write_config(options)?;
        homeserver.launch()?;
        Ok(homeserver)
    }

    /// Where it listens, running or not.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        loopback(self.port)
    }

    /// What a client's configuration names it by, without a slash at the end.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Its process while it runs, for a test that freezes it or asks for its id.
    #[must_use]
    pub fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    /// Makes a user (one that is there already keeps its password) and logs in.
    ///
    /// # Errors
    /// When Synapse refuses, or the password isn't that of the user who is there.
    pub fn register(&self, user: &str, password: &str) -> Result<RoomClient, LabError> {
        self.program("register_new_matrix_user", |command| {
            command.arg("-c").arg(self.folder.file(CONFIG));
            command.args(["-u", user, "-p", password, "--no-admin", "--exists-ok"]).arg(self.base_url());
        })?;
        Ok(RoomClient::log_in(self.address(), user, password)?)
    }

    /// Stops it in order. Nothing happens when it doesn't run.
    ///
    /// # Errors
    /// When its end can't be awaited.
    pub fn stop(&mut self) -> Result<(), LabError> {
        if let Some(mut process) = self.process.take() {
            process.stop(STOP_GRACE)?;
        }
        Ok(())
    }

    /// Ends it as a power cut would. Nothing happens when it doesn't run.
    ///
    /// # Errors
    /// When its end can't be awaited.
    pub fn kill(&mut self) -> Result<(), LabError> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
        }
        Ok(())
    }

    /// Starts it again on the same data and port; one that runs is stopped first.
    ///
    /// # Errors
    /// When it doesn't stop, or doesn't come up within [`START_LIMIT`].
    pub fn restart(&mut self) -> Result<(), LabError> {
        self.stop()?;
        self.launch()
    }

    fn write_config(&self, options: &SynapseOptions) -> Result<(), LabError> {
        let key = self.folder.file("signing.key");
        if !key.exists() {
            self.program("generate_signing_key", |command| {
                command.arg("-o").arg(&key);
            })?;
        }
        // YAML takes JSON as it is.
        let config = config(self.folder.path(), self.port, options);
        private_file(&self.folder.file(CONFIG), &config.to_string())?;
        private_file(&self.folder.file("log.yaml"), &log_config().to_string())
    }

    fn launch(&mut self) -> Result<(), LabError> {
        let mut process = ProcessSpec::new("Synapse", self.in_environment("python")?, self.folder.file("synapse.log"))
            .args(["-m", "synapse.app.homeserver", "-c"])
            .arg(self.folder.file(CONFIG))
            .folder(self.folder.path())
            .spawn()?;
        let deadline = Instant::now() + START_LIMIT;
        while HttpRequest::new("GET", self.address(), "/health").send_ok().is_err() {
            process.check()?;
            if Instant::now() > deadline {
                let what = "an answer of Synapse".to_owned();
                return Err(LabError::Timeout { what, seconds: START_LIMIT.as_secs(), log: process.log_tail() });
            }
            thread::sleep(POLL);
        }
        // Whoever took the port before us would answer as well.
        process.check()?;
        self.process = Some(process);
        Ok(())
    }

    fn in_environment(&self, program: &str) -> Result<PathBuf, LabError> {
        let path = self.environment.join("bin").join(program);
        if path.exists() { Ok(path) } else { Err(LabError::MissingProgram { program: "Synapse", remedy: REMEDY }) }
    }

    /// Runs one of Synapse's own programs to its end.
    fn program(&self, program: &'static str, prepare: impl FnOnce(&mut Command)) -> Result<(), LabError> {
        let path = self.in_environment(program)?;
        let mut command = Command::new(&path);
        prepare(&mut command);
        let done = command.output().map_err(file_error("run", path))?;
        if done.status.success() {
            return Ok(());
        }
        let output = [done.stdout, done.stderr].concat();
        let output = String::from_utf8_lossy(&output).trim().to_owned();
        Err(LabError::Command { program, status: done.status.to_string(), output })
    }
}

/// A homeserver of our own that talks to nobody else.
fn config(folder: &Path, port: u16, options: &SynapseOptions) -> Value {
    let path = |name: &str| folder.join(name).display().to_string();
    let none = || json!({ "per_second": 10_000, "burst_count": 10_000 });
    let mut config = json!({
        "server_name": options.server_name.as_deref().unwrap_or(SERVER_NAME),
        "public_baseurl": format!("http://127.0.0.1:{port}/"),
        "pid_file": path("homeserver.pid"),
        "listeners": [{
            "port": port, "bind_addresses": ["127.0.0.1"], "type": "http", "tls": false, "x_forwarded": false,
            "resources": [{ "names": ["client"], "compress": false }],
        }],
        "database": { "name": "sqlite3", "args": { "database": path("homeserver.db") } },
        "log_config": path("log.yaml"),
        "media_store_path": path("media"),
        "signing_key_path": path("signing.key"),
        // The server is on loopback and lives as long as a demo or a test: these keep nobody out.
        "registration_shared_secret": "tidegate-lab",
        "macaroon_secret_key": "tidegate-lab",
        "form_secret": "tidegate-lab",
        "report_stats": false,
        "enable_registration": false,
        "trusted_key_servers": [],
        "federation_domain_whitelist": [],
        "presence": { "enabled": false },
        "bcrypt_rounds": 4,
        // Five logins from one address would lock all of them out for five minutes.
        "rc_login": { "address": none(), "account": none(), "failed_attempts": none() },
    });
    if !options.default_rate_limits {
        for limit in ["rc_message", "rc_registration", "rc_joins_per_room", "rc_room_creation", "rc_admin_redaction"] {
            config[limit] = none();
        }
        config["rc_joins"] = json!({ "local": none(), "remote": none() });
        config["rc_invites"] = json!({ "per_room": none(), "per_user": none(), "per_issuer": none() });
    }
    config
}

fn log_config() -> Value {
    json!({
        "version": 1,
        "formatters": { "plain": { "format": "%(asctime)s %(name)s %(levelname)s %(message)s" } },
        "handlers": { "out": { "class": "logging.StreamHandler", "formatter": "plain" } },
        "root": { "level": "WARNING", "handlers": ["out"] },
        "disable_existing_loggers": false,
    })
}

/// A person in a room: logged in with a token, reads and writes as any Matrix app. Its `Debug` doesn't show the token.
#[derive(Clone)]
pub struct RoomClient {
    address: SocketAddr,
    user_id: String,
    token: String,
}

impl fmt::Debug for RoomClient {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "RoomClient({} at {})", self.user_id, self.address)
    }
}

impl RoomClient {
    /// Logs in by password.
    ///
    /// # Errors
    /// When the homeserver doesn't answer, or refuses.
    pub fn log_in(address: SocketAddr, user: &str, password: &str) -> Result<Self, HttpError> {
        let body = json!({
            "type": "m.login.password",
            "identifier": { "type": "m.id.user", "user": user },
            "password": password,
        });
        let answer = HttpRequest::new("POST", address, "/_matrix/client/v3/login").json(&body).send_ok()?.json();
        let text = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
        Ok(Self { address, user_id: text("user_id"), token: text("access_token") })
    }

    /// `@name:localhost`
    #[must_use]
    pub fn user_id(&self) -> &str {
        &self.user_id
    }

    /// The access token.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Makes a private room, invites the users, and returns the room's id.
    ///
    /// # Errors
    /// When the homeserver doesn't answer, or refuses.
    pub fn create_room(&self, name: &str, invite: &[&str]) -> Result<String, HttpError> {
        let body = json!({ "preset": "private_chat", "name": name, "invite": invite });
        self.call("POST", "/createRoom", Some(&body)).map(|answer| room_id(&answer))
    }

    /// Invites a user to a room.
    ///
    /// # Errors
    /// When the homeserver doesn't answer, or refuses.
    pub fn invite(&self, room: &str, user_id: &str) -> Result<(), HttpError> {
        self.call("POST", &format!("/rooms/{}/invite", encode(room)), Some(&json!({ "user_id": user_id }))).map(drop)
    }

    /// Joins a room by id or alias, and returns its id.
    ///
    /// # Errors
    /// When the homeserver doesn't answer, or there is no such room or invitation.
    pub fn join(&self, room: &str) -> Result<String, HttpError> {
        self.call("POST", &format!("/join/{}", encode(room)), Some(&json!({}))).map(|answer| room_id(&answer))
    }

    /// The ids of the rooms that this user is in.
    ///
    /// # Errors
    /// When the homeserver doesn't answer, or refuses.
    pub fn rooms(&self) -> Result<Vec<String>, HttpError> {
        let answer = self.call("GET", "/joined_rooms", None)?;
        let rooms = answer["joined_rooms"].as_array().into_iter().flatten();
        Ok(rooms.filter_map(Value::as_str).map(str::to_owned).collect())
    }

    /// Says a text in a room; `transaction` is an id that this client hasn't used before. Returns the event's id.
    ///
    /// # Errors
    /// When the homeserver doesn't answer, or refuses.
    pub fn say(&self, room: &str, transaction: &str, text: &str) -> Result<String, HttpError> {
        let path = format!("/rooms/{}/send/m.room.message/{}", encode(room), encode(transaction));
        let answer = self.call("PUT", &path, Some(&json!({ "msgtype": "m.text", "body": text })))?;
        Ok(answer["event_id"].as_str().unwrap_or_default().to_owned())
    }

    /// All events of a room that this user may see, as the homeserver gives them, oldest first.
    ///
    /// # Errors
    /// When the homeserver doesn't answer, or refuses.
    pub fn timeline(&self, room: &str) -> Result<Vec<Value>, HttpError> {
        let mut events = Vec::new();
        let mut from = String::new();
        for _page in 0..PAGES_MAX {
            let path = format!("/rooms/{}/messages?dir=f&limit={PAGE_EVENTS}{from}", encode(room));
            let mut answer = self.call("GET", &path, None)?;
            let chunk = answer["chunk"].as_array_mut().map(std::mem::take).unwrap_or_default();
            let end = answer["end"].as_str().map(|end| format!("&from={}", encode(end)));
            let more = !chunk.is_empty();
            events.extend(chunk);
            match end {
                Some(end) if more => from = end,
                _ => break,
            }
        }
        Ok(events)
    }

    /// The contents of the `m.room.message` events of a room, oldest first.
    ///
    /// # Errors
    /// As [`timeline`](Self::timeline).
    pub fn messages(&self, room: &str) -> Result<Vec<Value>, HttpError> {
        let events = self.timeline(room)?.into_iter();
        Ok(events.filter(|event| event["type"] == "m.room.message").map(|mut event| event["content"].take()).collect())
    }

    /// Any call of the client-server API; `path` comes after `/_matrix/client/v3`.
    ///
    /// # Errors
    /// When the homeserver doesn't answer, or refuses.
    pub fn call(&self, method: &'static str, path: &str, body: Option<&Value>) -> Result<Value, HttpError> {
        let request = HttpRequest::new(method, self.address, format!("/_matrix/client/v3{path}")).bearer(&self.token);
        let request = if let Some(body) = body { request.json(body) } else { request };
        Ok(request.send_ok()?.json())
    }
}

fn room_id(answer: &Value) -> String {
    answer["room_id"].as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn bodies(client: &RoomClient, room: &str) -> Vec<String> {
        client.messages(room).unwrap().iter().map(|content| content["body"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_room_is_written_read_and_kept_over_restart_and_kill() {
        let mut homeserver = Synapse::start(&SynapseOptions::default()).unwrap();
        let alice = homeserver.register("alice", "a").unwrap();
        let bob = homeserver.register("bob", "b").unwrap();
        assert_eq!(alice.user_id(), "@alice:localhost");
        assert_eq!(homeserver.register("alice", "a").unwrap().user_id(), alice.user_id());

        let room = alice.create_room("ward", &[]).unwrap();
        assert!(matches!(bob.join(&room), Err(HttpError::Refused { status: 403, .. })));
        alice.invite(&room, bob.user_id()).unwrap();
        assert_eq!(bob.join(&room).unwrap(), room);
        assert_eq!(bob.rooms().unwrap(), std::slice::from_ref(&room));
        // Beyond Synapse's own limit of 10 at once, which is lifted.
        for number in 0..12 {
            alice.say(&room, &format!("t{number}"), &number.to_string()).unwrap();
        }
        let wanted: Vec<String> = (0..12).map(|number| number.to_string()).collect();
        assert_eq!(bodies(&bob, &room), wanted);

        homeserver.restart().unwrap();
        assert_eq!(bodies(&bob, &room), wanted);
        homeserver.kill().unwrap();
        assert!(matches!(bob.rooms(), Err(HttpError::Connection { .. })));
        homeserver.restart().unwrap();
        assert_eq!(bodies(&bob, &room), wanted);
        homeserver.stop().unwrap();
        assert!(homeserver.process().is_none());
        assert!(!format!("{bob:?}").contains(bob.token()));
    }

    #[test]
    fn synapses_own_limits_hold_where_asked_for() {
        let options = SynapseOptions { default_rate_limits: true, ..SynapseOptions::default() };
        let homeserver = Synapse::start(&options).unwrap();
        // More logins than Synapse's own limit of five.
        let logins: Vec<RoomClient> = (0..7).map(|_| homeserver.register("alice", "a").unwrap()).collect();
        let alice = &logins[0];
        let room = alice.create_room("ward", &[]).unwrap();
        let refused = (0..40).find_map(|number| alice.say(&room, &format!("t{number}"), "x").err());
        assert!(matches!(refused, Some(HttpError::Refused { status: 429, .. })), "{refused:?}");
    }

    #[test]
    fn a_missing_synapse_is_named_with_its_remedy() {
        let environment = Some(PathBuf::from("/nonexistent"));
        let error = Synapse::start(&SynapseOptions { environment, ..SynapseOptions::default() }).unwrap_err();
        assert!(error.to_string().contains(".ci/setup demo"), "{error}");
    }
}
