//! A real mosquitto broker on loopback, with the settings that don't lose messages.
//!
//! The durability tests run on it: it can be stopped, killed as by a power cut, and started again on the same data and
//! port. It ends with its value. The calls block; from asynchronous code use `tokio::task::spawn_blocking`.

use std::fmt;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::folder::LabFolder;
use super::ports::{free_ports, loopback};
use super::process::{Process, ProcessSpec, find_program};
use super::{LabError, file_error, private_file};

/// The settings that operators get in `deploy/mosquitto/tidegate.conf`, which says why for each; a test keeps both alike.
pub const DURABLE_SETTINGS: &[(&str, &str)] = &[
    ("persistence", "true"),
    ("autosave_on_changes", "true"),
    ("autosave_interval", "1"),
    ("max_queued_messages", "100000"),
    ("max_inflight_messages", "1000"),
    ("message_size_limit", "917504"),
    ("set_tcp_nodelay", "true"),
];

/// How long the broker may take until it accepts a connection.
pub const START_LIMIT: Duration = Duration::from_secs(15);
/// How long the broker may take to save and end.
pub const STOP_GRACE: Duration = Duration::from_secs(10);

const POLL: Duration = Duration::from_millis(20);
const CONFIG: &str = "mosquitto.conf";
const PASSWORDS: &str = "passwords";
const REMEDY: &str = "run `.ci/setup test`, or install Debian's package mosquitto";

/// How to start a broker. Its `Debug` doesn't show passwords.
#[derive(Clone, Default)]
pub struct MosquittoOptions {
    /// Names and passwords; with none, everybody may connect.
    pub users: Vec<(String, String)>,
    /// Where the data is kept; `None` is a temporary folder.
    pub folder: Option<PathBuf>,
    /// The port on 127.0.0.1; `None` is a free one.
    pub port: Option<u16>,
    /// Settings after the durable ones, which they override.
    pub settings: Vec<(String, String)>,
}

impl fmt::Debug for MosquittoOptions {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("MosquittoOptions")
            .field("users", &self.users.len())
            .field("folder", &self.folder)
            .field("port", &self.port)
            .field("settings", &self.settings)
            .finish()
    }
}

/// A broker: running, or stopped with its data kept.
#[derive(Debug)]
pub struct Mosquitto {
    program: PathBuf,
    port: u16,
    process: Option<Process>,
    // Last, so that it is removed only after the process has ended.
    folder: LabFolder,
}

impl Mosquitto {
    /// Starts a broker and waits until it accepts connections.
    ///
    /// # Errors
    /// When mosquitto isn't installed, or doesn't come up within [`START_LIMIT`].
    pub fn start(options: &MosquittoOptions) -> Result<Self, LabError> {
        let program =
            find_program("mosquitto").ok_or(LabError::MissingProgram { program: "mosquitto", remedy: REMEDY })?;
        let folder = LabFolder::open(options.folder.as_deref())?;
        let port = match options.port {
            Some(port) => port,
            None => free_ports(1).map_err(LabError::Ports)?[0],
        };
        if !options.users.is_empty() {
            write_passwords(&folder.file(PASSWORDS), &options.users)?;
        }
        private_file(&folder.file(CONFIG), &config(folder.path(), port, options))?;
        let mut broker = Self { program, port, process: None, folder };
        broker.launch()?;
        Ok(broker)
    }

    /// Where it listens, running or not.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        loopback(self.port)
    }

    /// Its process while it runs, for a test that freezes it or asks for its id.
    #[must_use]
    pub fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    /// All that it has logged so far, over its restarts: connections, disconnections, errors, no payload.
    ///
    /// # Errors
    /// When the log can't be read.
    pub fn log(&self) -> Result<String, LabError> {
        let path = self.log_file();
        std::fs::read_to_string(&path).map_err(file_error("read", path))
    }

    /// Stops it in order; it saves its data. Nothing happens when it doesn't run.
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

    fn log_file(&self) -> PathBuf {
        self.folder.file("mosquitto.log")
    }

    fn launch(&mut self) -> Result<(), LabError> {
        let mut process = ProcessSpec::new("mosquitto", &self.program, self.log_file())
            .args([Path::new("-c"), &self.folder.file(CONFIG)])
            .spawn()?;
        let deadline = Instant::now() + START_LIMIT;
        while TcpStream::connect_timeout(&self.address(), POLL).is_err() {
            process.check()?;
            if Instant::now() > deadline {
                let what = "a connection to mosquitto".to_owned();
                return Err(LabError::Timeout { what, seconds: START_LIMIT.as_secs(), log: process.log_tail() });
            }
            thread::sleep(POLL);
        }
        // Whoever took the port before us would answer as well.
        process.check()?;
        self.process = Some(process);
        Ok(())
    }
}

fn config(folder: &Path, port: u16, options: &MosquittoOptions) -> String {
    let path = |name: &str| folder.join(name).display().to_string();
    let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    let mut lines: Vec<(String, String)> = DURABLE_SETTINGS.iter().map(own).collect();
    let place = [
        ("persistence_location", format!("{}/", folder.display())),
        // Started as root it would become the user mosquitto, who can't enter our folder. As anybody else it stays that.
        ("user", "root".to_owned()),
        ("log_dest", "stdout".to_owned()),
        ("log_timestamp_format", "%Y-%m-%dT%H:%M:%S".to_owned()),
    ];
    lines.extend(place.map(|(key, value)| (key.to_owned(), value)));
    lines.extend(options.settings.iter().cloned());
    lines.push(("listener".to_owned(), format!("{port} 127.0.0.1")));
    lines.push(("allow_anonymous".to_owned(), options.users.is_empty().to_string()));
    if !options.users.is_empty() {
        lines.push(("password_file".to_owned(), path(PASSWORDS)));
    }
    lines.into_iter().map(|(key, value)| format!("{key} {value}\n")).collect()
}

/// Writes the passwords plain, then lets mosquitto's own program hash them in place.
fn write_passwords(path: &Path, users: &[(String, String)]) -> Result<(), LabError> {
    let plain: String = users.iter().map(|(name, password)| format!("{name}:{password}\n")).collect();
    private_file(path, &plain)?;
    let program = find_program("mosquitto_passwd")
        .ok_or(LabError::MissingProgram { program: "mosquitto_passwd", remedy: REMEDY })?;
    let done = Command::new(program).arg("-U").arg(path).output().map_err(file_error("hash the passwords in", path))?;
    if done.status.success() {
        return Ok(());
    }
    let output = String::from_utf8_lossy(&done.stderr).trim().to_owned();
    Err(LabError::Command { program: "mosquitto_passwd", status: done.status.to_string(), output })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const FRAGMENT: &str = include_str!("../../deploy/mosquitto/tidegate.conf");

    /// Runs a mosquitto client program against the broker and returns its exit code and what it printed.
    fn client(broker: &Mosquitto, program: &str, args: &[&str]) -> (Option<i32>, String) {
        let port = broker.address().port().to_string();
        let done = Command::new(find_program(program).unwrap())
            .args(["-h", "127.0.0.1", "-p", &port])
            .args(args)
            .output()
            .unwrap();
        (done.status.code(), String::from_utf8_lossy(&done.stdout).into_owned())
    }

    #[test]
    fn operators_get_the_settings_that_the_tests_run_with() {
        let lines = FRAGMENT.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let settings: Vec<(&str, &str)> = lines.map(|line| line.split_once(' ').unwrap()).collect();
        assert_eq!(settings, DURABLE_SETTINGS);
    }

    #[test]
    fn mosquitto_takes_the_fragment_beside_debians_own_config() {
        let folder = LabFolder::open(None).unwrap();
        let debian = folder.file("debian.conf");
        let parts = folder.file("conf.d");
        std::fs::create_dir(&parts).unwrap();
        std::fs::write(parts.join("tidegate.conf"), FRAGMENT).unwrap();
        let port = free_ports(1).unwrap()[0];
        let text = format!(
            "persistence true\npersistence_location {0}/\nuser root\nlistener {port} 127.0.0.1\ninclude_dir {0}/conf.d\n",
            folder.path().display()
        );
        std::fs::write(&debian, text).unwrap();
        let mut process = ProcessSpec::new("mosquitto", find_program("mosquitto").unwrap(), folder.file("log"))
            .args([Path::new("-c"), &debian])
            .spawn()
            .unwrap();
        let deadline = Instant::now() + START_LIMIT;
        while TcpStream::connect(loopback(port)).is_err() {
            process.check().unwrap();
            assert!(Instant::now() < deadline, "{}", process.log_tail());
            thread::sleep(POLL);
        }
    }

    #[test]
    fn messages_for_an_absent_session_survive_restart_and_kill() {
        let mut broker = Mosquitto::start(&MosquittoOptions::default()).unwrap();
        let address = broker.address();
        let subscribe = ["-q", "1", "-c", "-i", "gateway", "-t", "a/+"];
        // Opens a session that is kept, and leaves.
        assert_eq!(client(&broker, "mosquitto_sub", &[&subscribe[..], &["-E"]].concat()).0, Some(0));
        for reading in ["1", "2"] {
            assert_eq!(client(&broker, "mosquitto_pub", &["-q", "1", "-t", "a/b", "-m", reading]).0, Some(0));
        }
        broker.restart().unwrap();
        assert_eq!(broker.address(), address);
        // The publication after it makes sure that the save of the one before it is through.
        for reading in ["3", "4"] {
            assert_eq!(client(&broker, "mosquitto_pub", &["-q", "1", "-t", "a/b", "-m", reading]).0, Some(0));
        }
        broker.kill().unwrap();
        assert!(broker.process().is_none());
        assert_eq!(client(&broker, "mosquitto_pub", &["-q", "1", "-t", "a/b", "-m", "x"]).0, Some(1));
        broker.restart().unwrap();
        let (_, received) = client(&broker, "mosquitto_sub", &[&subscribe[..], &["-C", "3", "-W", "10"]].concat());
        assert_eq!(received, "1\n2\n3\n");
        assert!(broker.log().unwrap().contains("as gateway"), "{}", broker.log().unwrap());
    }

    #[test]
    fn only_named_users_enter_when_there_are_any() {
        let users = vec![("gateway".to_owned(), "sesame".to_owned())];
        let broker = Mosquitto::start(&MosquittoOptions { users, ..MosquittoOptions::default() }).unwrap();
        let publish = ["-q", "1", "-t", "a", "-m", "1"];
        assert_ne!(client(&broker, "mosquitto_pub", &publish).0, Some(0));
        assert_ne!(
            client(&broker, "mosquitto_pub", &[&publish[..], &["-u", "gateway", "-P", "no"]].concat()).0,
            Some(0)
        );
        let right = [&publish[..], &["-u", "gateway", "-P", "sesame"]].concat();
        assert_eq!(client(&broker, "mosquitto_pub", &right).0, Some(0));
        assert!(!std::fs::read_to_string(broker.folder.file(PASSWORDS)).unwrap().contains("sesame"));
    }
}
