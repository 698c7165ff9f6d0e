//! A private Tor network of real `tor` processes on loopback.
//!
//! Five directory authorities, which are also the relays: the least that builds onion service circuits reliably. From
//! nothing it is usable in about 15 seconds (most of it the first vote), from a kept folder in about half of that.
//! An arti client needs no more than this ([`TorNetwork::arti_settings`]); C tor clients and onion service hosts are
//! started on demand ([`TorNetwork::client`], [`TorNetwork::hidden_service`]).
//!
//! Life-cycle: [`TorNetwork::start`] blocks until every authority serves a consensus that lists every relay. Dropping
//! the value stops the processes, then removes the folder if it was a temporary one. A *detached* network
//! ([`Lifetime::Detached`]) runs on after its starter has ended; [`TorNetwork::attach`] takes it up again, in any
//! process, and [`TorNetwork::stop`] ends it.
//!
//! Limits: up to [`AUTHORITIES_MAX`](super::tor_options::AUTHORITIES_MAX) authorities, one network per folder (a lock file holds others off). Keep arti's
//! state and cache out of a folder that outlives the network: another network's consensus is of no use to it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tempfile::TempDir;

use super::delay::DelayProxy;
use super::keys::{self, AuthorityPorts, TorPrograms};
use super::ports::{free_ports, is_free, loopback};
use super::process::{self, Process, ProcessSpec};
use super::state::{ArtiTestSettings, AuthorityState, NetworkState, ProcessState, STATE_FILE, STATE_FORMAT};
use super::tor_options::{LAG_MS_MAX, Lifetime, StartStep, TorNetworkOptions};
use super::{LabError, consensus, file_error, private_file, private_folder, torrc};

/// How long a start may take.
pub const START_LIMIT: Duration = Duration::from_secs(150);

/// How long a stopped node has to end by itself.
const STOP_GRACE: Duration = Duration::from_secs(3);
/// Between two looks at what is being waited for.
const POLL: Duration = Duration::from_millis(200);
/// How long one directory request may take.
const DIRECTORY_LIMIT: Duration = Duration::from_secs(2);
/// How long after a vote's boundary the authorities are started, so that a slightly early clock misses nothing.
const AFTER_BOUNDARY: Duration = Duration::from_millis(100);
/// The lock of a network's folder.
const LOCK_FILE: &str = "lock";

/// What a network and its nodes share; it goes, and a temporary folder with it, when the last of them goes.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) folder: PathBuf,
    pub(super) programs: TorPrograms,
    pub(super) detached: bool,
    /// Numbers the clients and services that were given no name.
    pub(super) unnamed: AtomicU32,
    state: Mutex<NetworkState>,
    /// Held while we live; nobody reads it.
    _lock: Option<File>,
    temporary: Option<TempDir>,
}

impl Shared {
    pub(super) fn state(&self) -> MutexGuard<'_, NetworkState> {
        // The state is replaced whole, so a panic elsewhere leaves none half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a started process down; one of the same name was its predecessor.
    pub(super) fn register(&self, process: ProcessState) -> Result<(), LabError> {
        let mut state = self.state();
        state.processes.retain(|known| known.name != process.name);
        state.processes.push(process);
        state.save(&self.folder)
    }
}

/// A running private Tor network.
#[derive(Debug)]
pub struct TorNetwork {
    // Dropped in this order: nodes, the proxy between them, the folder.
    authorities: Vec<Process>,
    proxy: Option<DelayProxy>,
    pub(super) shared: Arc<Shared>,
    started_in: Duration,
}

impl TorNetwork {
    /// Starts a network and waits until it can be used. Blocks for about 15 seconds.
    ///
    /// # Errors
    /// When tor isn't installed, the folder is in use, a node dies, or no consensus comes about in time. Whatever had
    /// been started is stopped again.
    pub fn start(mut options: TorNetworkOptions) -> Result<Self, LabError> {
        let began = Instant::now();
        options.check()?;
        let programs = TorPrograms::find()?;
        let (folder, temporary) = open_folder(options.folder.as_deref())?;
        let lock = lock_folder(&folder)?;
        let known = previous_authorities(&folder, options.authorities)?;
        let authorities = prepare_authorities(&programs, &folder, &options, known)?;
        write_configurations(&folder, &authorities, options.lag_ms)?;
        let proxy = start_proxy(&authorities, options.lag_ms)?;
        let wait = until_next_vote();
        (options.progress)(StartStep::AwaitingVote { wait });
        thread::sleep(wait);
        let detached = options.lifetime == Lifetime::Detached;
        let mut processes = Vec::with_capacity(authorities.len());
        for authority in &authorities {
            processes
                .push(tor_spec(&programs, &folder.join(&authority.nickname), &authority.nickname, detached).spawn()?);
        }
        let state = NetworkState {
            format: STATE_FORMAT,
            lag_ms: options.lag_ms,
            detached,
            processes: processes.iter().filter_map(|process| process_state(process, &folder)).collect(),
            authorities,
        };
        state.save(&folder)?;
        await_consensus(&mut processes, &state.authorities, &mut options.progress)?;
        // Only now: with delayed links the authorities take much longer to find together.
        if let Some(proxy) = &proxy {
            proxy.set_delay_ms(options.lag_ms);
        }
        let started_in = began.elapsed();
        (options.progress)(StartStep::Usable { after: started_in });
        if detached {
            for process in processes.drain(..) {
                let _recorded = process.detach();
            }
        }
        let shared = Arc::new(Shared {
            folder,
            programs,
            detached,
            unnamed: AtomicU32::new(0),
            state: Mutex::new(state),
            _lock: Some(lock),
            temporary,
        });
        Ok(Self { authorities: processes, proxy, shared, started_in })
    }

    /// [`start`](Self::start) on a thread of its own.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_async(options: TorNetworkOptions) -> Result<Self, LabError> {
        tokio::task::spawn_blocking(|| Self::start(options)).await.map_err(|_ended| LabError::Interrupted)?
    }

    /// Takes up a network that runs in `folder`, started by another process.
    ///
    /// # Errors
    /// [`LabError::NotRunning`] when there is none, or some of its authorities are gone.
    pub fn attach(folder: &Path) -> Result<Self, LabError> {
        let not_running = || LabError::NotRunning { folder: folder.to_owned() };
        let state = NetworkState::load(folder)?.ok_or_else(not_running)?;
        let runs = |name: &str| {
            state.processes.iter().any(|known| known.name == name && process::runs(known.pid, &known.folder))
        };
        if !state.authorities.iter().all(|authority| runs(&authority.nickname)) {
            return Err(not_running());
        }
        let shared = Arc::new(Shared {
            folder: folder.canonicalize().map_err(file_error("find", folder))?,
            programs: TorPrograms::find()?,
            detached: true,
            unnamed: AtomicU32::new(0),
            state: Mutex::new(state),
            _lock: None,
            temporary: None,
        });
        Ok(Self { authorities: Vec::new(), proxy: None, shared, started_in: Duration::ZERO })
    }

    /// Stops every process of the network, those of detached clients and services included.
    ///
    /// # Errors
    /// When the state can't be written.
    pub fn stop(mut self) -> Result<(), LabError> {
        self.stop_authorities();
        if self.shared.detached {
            stop_recorded(&self.shared.state());
        }
        if self.shared.temporary.is_none() {
            let mut state = self.shared.state();
            state.processes.clear();
            state.save(&self.shared.folder)?;
        }
        Ok(())
    }

    /// The network's folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.shared.folder
    }

    /// How long the start took; zero for an attached network.
    #[must_use]
    pub fn started_in(&self) -> Duration {
        self.started_in
    }

    /// What an arti client needs to use this network.
    #[must_use]
    pub fn arti_settings(&self) -> ArtiTestSettings {
        self.shared.state().arti_settings()
    }

    /// The authorities.
    #[must_use]
    pub fn authorities(&self) -> Vec<AuthorityState> {
        self.shared.state().authorities.clone()
    }

    /// Changes the added delay, in milliseconds; only where the network was started with one.
    ///
    /// # Errors
    /// [`LabError::Options`] when it has none.
    pub fn set_lag_ms(&self, lag_ms: u32) -> Result<(), LabError> {
        let proxy = self
            .proxy
            .as_ref()
            .ok_or_else(|| LabError::Options { reason: "the network was started without added delay".to_owned() })?;
        proxy.set_delay_ms(lag_ms.min(LAG_MS_MAX));
        Ok(())
    }

    /// Checks that every authority that we started still runs.
    ///
    /// # Errors
    /// When one has died, with the end of its log.
    pub fn check(&mut self) -> Result<(), LabError> {
        self.authorities.iter_mut().try_for_each(|process| process.check().map_err(LabError::from))
    }

    fn stop_authorities(&mut self) {
        // All get the signal before any is awaited. What a temporary folder holds needs no orderly end.
        let grace = if self.shared.temporary.is_some() { Duration::ZERO } else { STOP_GRACE };
        self.authorities.iter().for_each(Process::terminate);
        for mut process in self.authorities.drain(..) {
            if let Err(error) = process.stop(grace) {
                tracing::warn!(%error, "an authority could not be stopped");
            }
        }
    }
}

impl Drop for TorNetwork {
    fn drop(&mut self) {
        self.stop_authorities();
    }
}

/// How a tor process is started: no defaults of the distribution, nothing from our standard input.
pub(super) fn tor_spec(programs: &TorPrograms, folder: &Path, name: &str, detached: bool) -> ProcessSpec {
    ProcessSpec::new(name, &programs.tor, folder.join("log"))
        .arg("-f")
        .arg(folder.join("torrc"))
        .args(["--defaults-torrc", "/dev/null", "--hush"])
        .outlives_us(detached)
}

fn process_state(process: &Process, folder: &Path) -> Option<ProcessState> {
    let folder = folder.join(process.name());
    process.pid().map(|pid| ProcessState { name: process.name().to_owned(), pid, folder })
}

fn open_folder(asked: Option<&Path>) -> Result<(PathBuf, Option<TempDir>), LabError> {
    let (path, temporary) = match asked {
        Some(path) => {
            private_folder(path)?;
            (path.to_owned(), None)
        }
        None => {
            let made = tempfile::Builder::new().prefix("tidegate-tor-").tempdir();
            let made = made.map_err(file_error("make a folder in", std::env::temp_dir()))?;
            (made.path().to_owned(), Some(made))
        }
    };
    // Absolute, because it stands in torrc files and, as a mark of ours, in command lines.
    let path = path.canonicalize().map_err(file_error("find", &path))?;
    Ok((path, temporary))
}

fn lock_folder(folder: &Path) -> Result<File, LabError> {
    let path = folder.join(LOCK_FILE);
    let lock = File::create(&path).map_err(file_error("open", &path))?;
    lock.try_lock().map_err(|_held| LabError::InUse { folder: folder.to_owned() })?;
    Ok(lock)
}

fn stop_recorded(state: &NetworkState) {
    for known in &state.processes {
        process::stop_by_pid(&[known.pid], &known.folder, STOP_GRACE);
    }
}

/// The ports of the network that was in the folder before, if it can be started again as it was. Else its traces,
/// keys of onion services excepted, are removed. Processes that an owner left behind when it was killed are stopped.
fn previous_authorities(folder: &Path, count: usize) -> Result<Option<Vec<AuthorityPorts>>, LabError> {
    let Some(state) = NetworkState::load(folder)? else { return Ok(None) };
    if state.detached && state.processes.iter().any(|known| process::runs(known.pid, &known.folder)) {
        return Err(LabError::InUse { folder: folder.to_owned() });
    }
    stop_recorded(&state);
    let ports =
        |a: &AuthorityState| AuthorityPorts { or_port: a.or_port, dir_port: a.dir_port, hidden_port: a.hidden_port };
    let known: Vec<AuthorityPorts> = state.authorities.iter().map(ports).collect();
    let all_free = known.iter().all(|p| [p.or_port, p.dir_port, p.hidden_port].into_iter().all(is_free));
    if known.len() == count && all_free {
        return Ok(Some(known));
    }
    for authority in &state.authorities {
        let old = folder.join(&authority.nickname);
        if old.exists() {
            std::fs::remove_dir_all(&old).map_err(file_error("remove", old))?;
        }
    }
    std::fs::remove_file(folder.join(STATE_FILE)).map_err(file_error("remove", folder.join(STATE_FILE)))?;
    Ok(None)
}

fn prepare_authorities(
    programs: &TorPrograms,
    folder: &Path,
    options: &TorNetworkOptions,
    known: Option<Vec<AuthorityPorts>>,
) -> Result<Vec<AuthorityState>, LabError> {
    let ports = match known {
        Some(ports) => ports,
        None => {
            let ports = free_ports(3 * options.authorities).map_err(LabError::Ports)?;
            let triple = |p: &[u16]| match *p {
                [or_port, dir_port, hidden_port] => Some(AuthorityPorts { or_port, dir_port, hidden_port }),
                _ => None,
            };
            ports.chunks(3).filter_map(triple).collect()
        }
    };
    // The keys take a second of computing each; every authority has a thread of its own.
    thread::scope(|scope| {
        let make = |(number, ports): (usize, AuthorityPorts)| {
            let name = format!("auth{number}");
            scope.spawn(move || keys::prepare(programs, &folder.join(&name), &name, ports))
        };
        let threads: Vec<_> = ports.into_iter().enumerate().map(make).collect();
        threads.into_iter().map(|thread| thread.join().map_err(|_panic| LabError::Interrupted)?).collect()
    })
}

fn write_configurations(folder: &Path, authorities: &[AuthorityState], lag_ms: u32) -> Result<(), LabError> {
    for authority in authorities {
        let own = folder.join(&authority.nickname);
        let hidden_port = (lag_ms > 0).then_some(authority.hidden_port);
        let common = torrc::common(&own, &authority.nickname, authorities);
        let roles = torrc::authority(authority.or_port, authority.dir_port, hidden_port);
        private_file(&own.join("torrc"), &(common + &roles))?;
    }
    Ok(())
}

fn start_proxy(authorities: &[AuthorityState], lag_ms: u32) -> Result<Option<DelayProxy>, LabError> {
    if lag_ms == 0 {
        return Ok(None);
    }
    let links: Vec<_> = authorities.iter().map(|a| (loopback(a.or_port), loopback(a.hidden_port))).collect();
    DelayProxy::start(&links, 0).map(Some).map_err(LabError::Ports)
}

#[expect(clippy::disallowed_methods, reason = "tor's votes go by the machine's clock, whatever clock a test injects")]
fn wall_clock() -> Timestamp {
    Timestamp::now()
}

/// The time to just after the next multiple of the first voting interval: authorities that start there reach their
/// first vote together. Started at any other moment they may miss it, and the next is 20 seconds off.
fn until_next_vote() -> Duration {
    let interval = i128::from(torrc::FIRST_VOTING_INTERVAL_SECONDS) * 1_000_000_000;
    let left = interval - wall_clock().as_nanosecond().rem_euclid(interval);
    Duration::from_nanos(u64::try_from(left).unwrap_or_default()) + AFTER_BOUNDARY
}

fn await_consensus(
    processes: &mut [Process],
    authorities: &[AuthorityState],
    progress: &mut dyn FnMut(StartStep),
) -> Result<(), LabError> {
    let or_ports: Vec<u16> = authorities.iter().map(|authority| authority.or_port).collect();
    let began = Instant::now();
    let mut told = None;
    while began.elapsed() < START_LIMIT {
        processes.iter_mut().try_for_each(Process::check)?;
        let has_it = |authority: &&AuthorityState| {
            consensus::fetch(loopback(authority.dir_port), DIRECTORY_LIMIT)
                .is_ok_and(|document| document.is_complete(&or_ports, wall_clock()))
        };
        let ready = authorities.iter().filter(has_it).count();
        if told.replace(ready) != Some(ready) {
            progress(StartStep::Voting { ready, of: authorities.len() });
        }
        if ready == authorities.len() {
            return Ok(());
        }
        thread::sleep(POLL);
    }
    Err(LabError::Timeout {
        what: "a consensus with every relay".to_owned(),
        seconds: START_LIMIT.as_secs(),
        log: processes.first().map(Process::log_tail).unwrap_or_default(),
    })
}
