//! The embedded broker: rumqttd in a child process of our own binary, for a first run without installing anything.
//!
//! **It is not durable: it acknowledges before the outbox has it.** rumqttd keeps everything in memory and sends its PUBACK
//! when it has queued a publication, so a crash between that and our flush loses what the device thinks is safe. It is said
//! wherever the broker is shown ([`CAVEAT`]). For anything that matters use mosquitto, by one key of the config.
//!
//! # Parts
//!
//! - Here, in the gateway: [`EmbeddedBroker`] starts the child, looks after it (a TCP probe every [`PROBE_EVERY`]), starts it
//!   again with back-off when it dies, and ends it first when the gateway drains, so that nothing is acknowledged that we
//!   would not take.
//! - `serve`, in the child (`tidegate embedded-broker`): rumqttd with one listener for each version of MQTT on loopback.
//! - `front_door`, in the child: the one port that is seen. rumqttd can't speak both versions on one port, so the door looks at
//!   the version in the first packet and passes the bytes on. It also keeps everybody waiting until the gateway has subscribed:
//!   rumqttd acknowledges what nobody subscribed to, and forgets it.
//! - `credentials`, in the child: who may connect, where devices have credentials.
//!
//! The child ends when its standard input does, so it can't outlive the gateway, however that ends.
//!
//! # Limits, and what rumqttd 0.20 does
//!
//! Packets of at most 1 MiB (a device that sends more is disconnected, unacknowledged); [`serve::CONNECTIONS_MAX`] clients; at
//! most 100 publications under way to a client; 32 MiB of the newest publications for each topic filter, older ones are
//! overwritten. Its sessions and retained messages end with it. After a reconnect it delivers again without DUP and under new
//! packet ids, so such a redelivery can't be told from a new publication. It hands on QoS 0 as QoS 1. It has no access rules:
//! whoever may connect can publish and subscribe to every topic, under any device's name. Therefore it serves this machine alone, where
//! local programs are trusted, with credentials or without. A keep-alive of 0 is refused.

use super::mqtt::{Login, backoff::Backoff};
use sha2::{Digest as _, Sha256};
use std::{
    ffi::OsString,
    io,
    net::SocketAddr,
    path::PathBuf,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tidegate_actors::ports::entropy::Entropy;
use tidegate_schemas::view::EmbeddedBrokerView;
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    process::{Child, ChildStdin, Command},
    sync::watch,
    task::JoinHandle,
    time::{Instant, interval_at, sleep, timeout},
};

mod credentials;
mod front_door;
mod packet_heads;
pub mod serve;

/// What must be known of the embedded broker, wherever it is shown.
pub const CAVEAT: &str = "not durable: the broker acknowledges before the outbox has it";
/// The hidden subcommand that runs the child.
pub const SUBCOMMAND: &str = "embedded-broker";
/// How often the child is probed.
pub const PROBE_EVERY: Duration = Duration::from_secs(10);
/// Longest that a probe may take.
pub const PROBE_MAX: Duration = Duration::from_secs(5);
/// Longest that the child may take to end when asked.
pub const STOP_MAX: Duration = Duration::from_secs(2);
/// Failed probes in a row after which the child is replaced (a count).
const PROBES_FAILED_MAX: u32 = 3;

/// Why the embedded broker is not started.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedBrokerError {
    /// Any device of the network could publish as another.
    #[error(
        "the embedded broker has no access rules and does not listen on {0}: listen on 127.0.0.1, or use mosquitto"
    )]
    NotLoopback(SocketAddr),
    /// Our own program can't be found.
    #[error("could not find the program to start the embedded broker with: {0}")]
    Program(io::Error),
}

/// What to start.
#[derive(Debug, Clone)]
pub struct BrokerSpec {
    /// The program that calls [`serve::serve`].
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Where devices reach it.
    pub listen: SocketAddr,
    /// The devices that may connect (`devices.toml`).
    pub credentials_file: Option<PathBuf>,
    /// The client id of the gateway, for whose subscription everybody else waits.
    pub gateway_client_id: String,
}

impl BrokerSpec {
    /// This very program, as `tidegate embedded-broker --listen ADDRESS [--credentials FILE]`.
    ///
    /// # Errors
    /// [`EmbeddedBrokerError::Program`] when the system doesn't say which program we are.
    pub fn of_this_program(
        listen: SocketAddr,
        credentials_file: Option<PathBuf>,
        gateway_client_id: String,
    ) -> Result<Self, EmbeddedBrokerError> {
        let program = std::env::current_exe().map_err(EmbeddedBrokerError::Program)?;
        let mut args: Vec<OsString> = vec![SUBCOMMAND.into(), "--listen".into(), listen.to_string().into()];
        if let Some(file) = &credentials_file {
            args.extend(["--credentials".into(), file.into()]);
        }
        Ok(Self { program, args, listen, credentials_file, gateway_client_id })
    }
}

/// How the child is, now: a handle that outlives it.
#[derive(Debug, Clone, Default)]
pub struct BrokerStatus(Arc<Mutex<EmbeddedBrokerView>>);

impl BrokerStatus {
    /// How it is.
    #[must_use]
    pub fn look(&self) -> EmbeddedBrokerView {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, change: impl FnOnce(&mut EmbeddedBrokerView)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// The child process and who looks after it. Dropping it kills the child; [`EmbeddedBroker::stop`] is the orderly way.
#[derive(Debug)]
pub struct EmbeddedBroker {
    listen: SocketAddr,
    login: Login,
    status: BrokerStatus,
    stop: watch::Sender<bool>,
    keeper: JoinHandle<()>,
}

impl EmbeddedBroker {
    /// Starts the child and looks after it from now on. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`EmbeddedBrokerError::NotLoopback`] on an address other than loopback.
    pub fn start(spec: BrokerSpec, entropy: Arc<dyn Entropy>) -> Result<Self, EmbeddedBrokerError> {
        if !spec.listen.ip().is_loopback() {
            return Err(EmbeddedBrokerError::NotLoopback(spec.listen));
        }
        let login = Login { name: "tidegate".to_owned(), password: data_encoding::HEXLOWER.encode(&entropy.bytes16()) };
        let status = BrokerStatus::default();
        let (stop, asked) = watch::channel(false);
        let listen = spec.listen;
        let keeper = Keeper { spec, login: login.clone(), status: status.clone(), asked, entropy };
        let keeper = tokio::spawn(keeper.run());
        Ok(Self { listen, login, status, stop, keeper })
    }

    /// With what the gateway itself logs in: made anew at each start of the gateway, known to the child alone.
    #[must_use]
    pub fn login(&self) -> Login {
        self.login.clone()
    }

    /// How the child is.
    #[must_use]
    pub fn status(&self) -> BrokerStatus {
        self.status.clone()
    }

    /// Waits until the port answers; false if it doesn't within `limit`.
    pub async fn ready(&self, limit: Duration) -> bool {
        let answers = async {
            while TcpStream::connect(self.listen).await.is_err() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(limit, answers).await.is_ok()
    }

    /// Ends the child: asked first, killed after [`STOP_MAX`]. It is gone when this returns.
    pub async fn stop(mut self) {
        // A keeper that is gone has nothing to stop.
        let _ = self.stop.send(true);
        if timeout(STOP_MAX * 2, &mut self.keeper).await.is_err() {
            self.keeper.abort();
        }
    }
}

impl Drop for EmbeddedBroker {
    fn drop(&mut self) {
        // The child is killed with its handle, which the task holds.
        self.keeper.abort();
    }
}

/// The task that looks after the child.
struct Keeper {
    spec: BrokerSpec,
    login: Login,
    status: BrokerStatus,
    asked: watch::Receiver<bool>,
    entropy: Arc<dyn Entropy>,
}

impl Keeper {
    async fn run(mut self) {
        let mut backoff = Backoff::default();
        loop {
            let started = Instant::now();
            let why = match self.spawn().await {
                Ok((child, input)) => match self.attend(child, input).await {
                    Some(why) => why,
                    None => return,
                },
                Err(error) => format!("it could not be started: {error}"),
            };
            let wait = backoff.after(started.elapsed(), &*self.entropy);
            tracing::warn!(why, ?wait, "the embedded broker ended; starting it again");
            self.status.note(|status| {
                status.pid = None;
                status.last_error = Some(why);
                status.restarts += 1;
            });
            tokio::select! {
                () = sleep(wait) => {}
                () = asked(&mut self.asked) => return,
            }
        }
    }

    /// The child, and its standard input: what keeps it alive. (`Child::wait` would close one that it still holds.)
    async fn spawn(&self) -> io::Result<(Child, ChildStdin)> {
        let mut child = Command::new(&self.spec.program)
            .args(&self.spec.args)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            // The interrupt of a terminal goes to a whole group: the gateway drains first, and then ends its child.
            .process_group(0)
            .spawn()?;
        let hash = data_encoding::HEXLOWER.encode(&Sha256::digest(&self.login.password));
        let hello = format!("{}\n{}:{hash}\n", self.spec.gateway_client_id, self.login.name);
        let mut input = child.stdin.take().ok_or_else(|| io::Error::other("it has no standard input"))?;
        input.write_all(hello.as_bytes()).await?;
        self.status.note(|status| status.pid = child.id());
        Ok((child, input))
    }

    /// Until the child ends (says why) or shall end (`None`).
    async fn attend(&mut self, mut child: Child, input: ChildStdin) -> Option<String> {
        let mut probes = interval_at(Instant::now() + PROBE_EVERY, PROBE_EVERY);
        let mut failed = 0;
        loop {
            tokio::select! {
                ended = child.wait() => return Some(match ended {
                    Ok(status) => format!("it ended ({status})"),
                    Err(error) => format!("it can't be watched: {error}"),
                }),
                () = asked(&mut self.asked) => {
                    // Its standard input ends, and with it the child.
                    drop(input);
                    if timeout(STOP_MAX, child.wait()).await.is_err() && let Err(error) = child.kill().await {
                        tracing::warn!(%error, "the embedded broker could not be killed");
                    }
                    self.status.note(|status| status.pid = None);
                    return None;
                }
                _ = probes.tick() => {
                    let answers = timeout(PROBE_MAX, TcpStream::connect(self.spec.listen)).await;
                    failed = if matches!(answers, Ok(Ok(_))) { 0 } else { failed + 1 };
                    if failed >= PROBES_FAILED_MAX {
                        // Dropping the child kills it.
                        return Some(format!("it did not answer {failed} probes in a row"));
                    }
                }
            }
        }
    }
}

/// Waits for the request to end; a handle that is gone is one too.
async fn asked(asked: &mut watch::Receiver<bool>) {
    // An error means that the handle was dropped.
    let _ = asked.wait_for(|asked| *asked).await;
}
