//! A child process that is ours: its output goes to a log file, and it ends when we do.
//!
//! Three things end it: [`Process::stop`] (SIGTERM, a grace time, then SIGKILL), dropping the value (a panic included),
//! and the death of this process by any cause, for which the program is started through `setpriv --pdeathsig KILL`
//! (util-linux) where that is installed. Where it isn't, the first two still hold.
//!
//! The kernel delivers the parent-death signal when the *thread* that forked ends, not the process. A thread of a
//! runtime's blocking pool ends after ten idle seconds and would take the child with it, so every child is started by
//! one thread that lives as long as the process does.
//!
//! Signals go to a process id that we still hold unreaped, so they can't hit a stranger who got the same id.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

/// How long [`Drop`] waits between SIGTERM and SIGKILL.
pub const DROP_GRACE: Duration = Duration::from_secs(3);

/// How much of a log an error quotes, in bytes.
pub const LOG_TAIL_BYTES_MAX: u64 = 2_000;

/// How often a stopping process is looked at.
const POLL: Duration = Duration::from_millis(10);

/// Spawn requests that may wait for the starting thread.
const SPAWN_QUEUE_MAX: usize = 16;

/// Why a child process could not be started, or isn't there any more.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The program could not be started.
    #[error("cannot start {name}")]
    Spawn {
        /// The process's name in the lab.
        name: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The process ended though nobody had asked it to.
    #[error("{name} ended by itself ({status}); its log ends with: {log}")]
    Died {
        /// The process's name in the lab.
        name: String,
        /// How it ended.
        status: String,
        /// The end of its log.
        log: String,
    },
    /// A signal could not be sent, or the end not be awaited.
    #[error("cannot signal or await {name}")]
    Signal {
        /// The process's name in the lab.
        name: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// What to start.
#[derive(Debug)]
pub struct ProcessSpec {
    name: String,
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    folder: Option<PathBuf>,
    log: PathBuf,
    outlives_us: bool,
}

impl ProcessSpec {
    /// A process called `name` in messages, running `program`, whose standard output and error are appended to `log`.
    pub fn new(name: impl Into<String>, program: impl Into<PathBuf>, log: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            folder: None,
            log: log.into(),
            outlives_us: false,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds several arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((key.into(), value.into()));
        self
    }

    /// Sets the folder that the process starts in.
    #[must_use]
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Lets the process live on when this one dies; it is still stopped on drop unless [`Process::detach`] is called.
    #[must_use]
    pub fn outlives_us(mut self, yes: bool) -> Self {
        self.outlives_us = yes;
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// When the log can't be opened or the program can't be started.
    pub fn spawn(self) -> Result<Process, ProcessError> {
        let Self { name, program, args, env, folder, log, outlives_us } = self;
        let failed = |source| ProcessError::Spawn { name: name.clone(), source };
        let out = File::options().create(true).append(true).open(&log).map_err(failed)?;
        let err = out.try_clone().map_err(failed)?;
        let mut command = match find_program("setpriv") {
            Some(setpriv) if !outlives_us => {
                let mut wrapped = Command::new(setpriv);
                wrapped.args(["--pdeathsig", "KILL", "--"]).arg(program);
                wrapped
            }
            _ => Command::new(program),
        };
        // The own process group keeps a Ctrl-C at the terminal away from the child: we stop it, in order. Inherited
        // pipes would keep our caller waiting for an end of file that never comes.
        command.args(args).envs(env).stdin(Stdio::null()).stdout(out).stderr(err).process_group(0);
        if let Some(folder) = folder {
            command.current_dir(folder);
        }
        let child = spawn_on_lasting_thread(command).map_err(failed)?;
        Ok(Process { name, child: Some(child), log })
    }
}

/// A running child process; dropping it stops it.
#[derive(Debug)]
pub struct Process {
    name: String,
    /// `None` once it was reaped or let go.
    child: Option<Child>,
    log: PathBuf,
}

impl Process {
    /// The process's name in the lab.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id, while it hasn't been stopped.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Where its output goes.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The end of its output, at most [`LOG_TAIL_BYTES_MAX`] bytes.
    #[must_use]
    pub fn log_tail(&self) -> String {
        tail(&self.log)
    }

    /// Checks that it still runs.
    ///
    /// # Errors
    /// [`ProcessError::Died`] with the end of its log when it has ended.
    pub fn check(&mut self) -> Result<(), ProcessError> {
        let status = match &mut self.child {
            None => "stopped".to_owned(),
            Some(child) => match child.try_wait() {
                Ok(None) => return Ok(()),
                Ok(Some(status)) => status.to_string(),
                Err(source) => return Err(ProcessError::Signal { name: self.name.clone(), source }),
            },
        };
        Err(ProcessError::Died { name: self.name.clone(), status, log: self.log_tail() })
    }

    /// Waits, at most `limit`, for an end that is its own; `None` while it runs.
    ///
    /// # Errors
    /// When the end can't be awaited.
    pub fn ended(&mut self, limit: Duration) -> Result<Option<ExitStatus>, ProcessError> {
        let deadline = Instant::now() + limit;
        while let Some(child) = &mut self.child {
            let failed = |source| ProcessError::Signal { name: self.name.clone(), source };
            if let Some(status) = child.try_wait().map_err(failed)? {
                self.child = None;
                return Ok(Some(status));
            }
            if Instant::now() >= deadline {
                break;
            }
            thread::sleep(POLL);
        }
        Ok(None)
    }

    /// Sends SIGTERM and returns at once; [`stop`](Self::stop) or drop awaits the end.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Freezes it (SIGSTOP): it keeps its sockets, and answers nobody.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets a frozen process go on (SIGCONT).
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Ends it: SIGTERM, up to `grace`, then SIGKILL. Returns how it ended, or `None` when it was gone already.
    ///
    /// # Errors
    /// When the end can't be awaited.
    pub fn stop(&mut self, grace: Duration) -> Result<Option<ExitStatus>, ProcessError> {
        self.terminate();
        let Some(mut child) = self.child.take() else { return Ok(None) };
        let failed = |source| ProcessError::Signal { name: self.name.clone(), source };
        let deadline = Instant::now() + grace;
        while Instant::now() < deadline {
            if let Some(status) = child.try_wait().map_err(failed)? {
                return Ok(Some(status));
            }
            thread::sleep(POLL);
        }
        child.kill().map_err(failed)?;
        child.wait().map(Some).map_err(failed)
    }

    /// Ends it as a power cut would: SIGKILL alone, so that no handler of a gentler signal gets a turn.
    ///
    /// # Errors
    /// When the end can't be awaited.
    pub fn kill(&mut self) -> Result<(), ProcessError> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        let failed = |source| ProcessError::Signal { name: self.name.clone(), source };
        child.kill().map_err(failed)?;
        child.wait().map(drop).map_err(failed)
    }

    /// Lets it go: it isn't stopped on drop any more. Returns its process id.
    #[must_use]
    pub fn detach(mut self) -> Option<u32> {
        self.child.take().map(|child| child.id())
    }

    fn signal(&self, signal: Signal) {
        // An unreaped child can't have its id reused; a failure means that it is gone, which is what `check` tells.
        if let Some(pid) = self.pid().and_then(pid_of) {
            let _gone = rustix::process::kill_process(pid, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.stop(DROP_GRACE) {
            tracing::warn!(%error, "a process of the lab could not be stopped");
        }
    }
}

/// Stops processes that another run started, found by id: SIGTERM, up to `grace`, then SIGKILL.
///
/// Only those are touched whose command line mentions `mark` (a path of ours): an id may have gone to a stranger.
pub fn stop_by_pid(pids: &[u32], mark: &Path, grace: Duration) {
    let mut left: VecDeque<u32> = pids.iter().copied().filter(|&pid| runs(pid, mark)).collect();
    let deadline = Instant::now() + grace;
    for signal in [Signal::TERM, Signal::KILL] {
        for pid in left.iter().filter_map(|&pid| pid_of(pid)) {
            let _gone = rustix::process::kill_process(pid, signal);
        }
        let until = if signal == Signal::TERM { deadline } else { Instant::now() + DROP_GRACE };
        while !left.is_empty() && Instant::now() < until {
            thread::sleep(POLL);
            left.retain(|&pid| runs(pid, mark));
        }
    }
}

/// Whether a process with this id lives and has `mark` in its command line. A zombie has no command line.
#[must_use]
pub fn runs(pid: u32, mark: &Path) -> bool {
    let mark = mark.as_os_str().as_encoded_bytes();
    !mark.is_empty()
        && std::fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line.windows(mark.len()).any(|window| window == mark))
}

/// Finds a program in `PATH`, and in the `sbin` folders, which an ordinary user's `PATH` lacks.
#[must_use]
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
}

/// The last [`LOG_TAIL_BYTES_MAX`] bytes of a file, or what is wrong with it.
#[must_use]
pub fn tail(path: &Path) -> String {
    let read = || -> io::Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES_MAX)))?;
        let mut bytes = Vec::new();
        file.take(LOG_TAIL_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    };
    read().unwrap_or_else(|error| format!("({}: {error})", path.display()))
}

fn pid_of(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

type SpawnJob = (Command, SyncSender<io::Result<Child>>);

/// Forks on a thread that ends only with the process (see the module's text).
fn spawn_on_lasting_thread(command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<SyncSender<SpawnJob>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (jobs, inbox) = sync_channel::<SpawnJob>(SPAWN_QUEUE_MAX);
        let run = move || {
            for (mut command, reply) in inbox {
                // The asker waits for this answer; it can be gone only when its thread died.
                let _asker_gone = reply.send(command.spawn());
            }
        };
        // Without the thread the channel is closed, and every spawn says so.
        let _handle = thread::Builder::new().name("lab-spawner".to_owned()).spawn(run);
        jobs
    });
    let ended = || io::Error::other("the thread that starts processes has ended");
    let (reply, answer) = sync_channel(1);
    spawner.send((command, reply)).map_err(|_closed| ended())?;
    answer.recv().map_err(|_closed| ended())?
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn sleeper(log: &Path) -> ProcessSpec {
        ProcessSpec::new("sleeper", find_program("sleep").unwrap(), log).arg("300")
    }

    #[test]
    fn a_dropped_process_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let process = sleeper(&folder.path().join("log")).spawn().unwrap();
        let pid = process.pid().unwrap();
        // While the wrapper becomes the program, the command line is empty for a moment.
        while !runs(pid, Path::new("300")) {
            thread::sleep(POLL);
        }
        drop(process);
        assert!(!runs(pid, Path::new("300")));
    }

    #[test]
    fn an_early_end_is_told_with_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let shell = find_program("sh").unwrap();
        let mut process = ProcessSpec::new("grumbler", shell, folder.path().join("log"))
            .args(["-c", "echo cannot go on; exit 3"])
            .spawn()
            .unwrap();
        let error = loop {
            match process.check() {
                Ok(()) => thread::sleep(POLL),
                Err(error) => break error.to_string(),
            }
        };
        assert!(error.contains("cannot go on") && error.contains('3'), "{error}");
    }

    #[test]
    fn a_process_that_ignores_sigterm_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let shell = find_program("sh").unwrap();
        let mut process = ProcessSpec::new("stubborn", shell, folder.path().join("log"))
            .args(["-c", "trap '' TERM; echo ready; while :; do sleep 1; done"])
            .spawn()
            .unwrap();
        while !process.log_tail().contains("ready") {
            thread::sleep(POLL);
        }
        let status = process.stop(Duration::from_millis(100)).unwrap().unwrap();
        assert!(!status.success());
        assert!(process.pid().is_none());
    }

    #[test]
    fn a_stranger_with_our_pid_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        // Without the wrapper, so that the command line doesn't change between two looks at it.
        let mut process = sleeper(&folder.path().join("log")).outlives_us(true).spawn().unwrap();
        // The kernel lets the parent go on before the new program's command line can be read.
        while !runs(process.pid().unwrap(), Path::new("300")) {
            thread::sleep(POLL);
        }
        stop_by_pid(&[process.pid().unwrap()], folder.path(), Duration::from_millis(50));
        process.check().unwrap();
        stop_by_pid(&[process.pid().unwrap()], Path::new("300"), Duration::from_secs(3));
        while process.check().is_ok() {
            thread::sleep(POLL);
        }
        assert!(!runs(process.pid().unwrap(), Path::new("300")));
    }

    #[test]
    fn a_child_survives_the_thread_that_asked_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut process = thread::spawn(move || sleeper(&log).spawn().unwrap()).join().unwrap();
        thread::sleep(Duration::from_millis(50));
        process.check().unwrap();
    }
}
