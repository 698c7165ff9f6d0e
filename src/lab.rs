//! The lab: real servers on loopback for the demo, the tests and the benches.
//!
//! Tidegate is shown and tested against the real programs, never against imitations: a private Tor network of `tor`
//! processes ([`TorNetwork`]), a homeserver ([`Synapse`]) and a broker ([`Mosquitto`]). Everything binds 127.0.0.1 only, on
//! free ports, below one folder, and ends with the value that started it: by [`Drop`] (a panic included), and, where
//! `setpriv` is installed, even when this process is killed outright.
//!
//! The module exists only with the cargo feature `testnet`, because the settings that a private network needs (relays
//! on local addresses, our own directory authorities) have no place in a release.
//!
//! The calls here block; from asynchronous code use the `_async` forms or `tokio::task::spawn_blocking`.

pub mod consensus;
pub mod control;
pub mod delay;
pub mod folder;
pub mod http;
pub mod keys;
pub mod mosquitto;
pub mod ports;
pub mod process;
pub mod standstill;
pub mod state;
pub mod synapse;
pub mod tor_network;
pub mod tor_nodes;
pub mod tor_options;
pub mod torrc;

use std::path::PathBuf;

pub use http::{HttpAnswer, HttpError, HttpRequest};
pub use mosquitto::{Mosquitto, MosquittoOptions};
pub use process::{Process, ProcessError, ProcessSpec};
pub use state::{ArtiAuthority, ArtiFallback, ArtiTestSettings};
pub use synapse::{RoomClient, Synapse, SynapseOptions};
pub use tor_network::TorNetwork;
pub use tor_nodes::{ClientOptions, HiddenService, HiddenServiceOptions, TorClientProcess};
pub use tor_options::{Lifetime, StartStep, TorNetworkOptions};

/// Why a part of the lab could not be started, reached or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabError {
    /// A program that the lab runs isn't installed.
    #[error("cannot find the program {program}: {remedy}")]
    MissingProgram {
        /// The program's name.
        program: &'static str,
        /// What the operator does about it.
        remedy: &'static str,
    },
    /// An option that can't work.
    #[error("cannot start the private network: {reason}")]
    Options {
        /// What is wrong with it, and what works instead.
        reason: String,
    },
    /// Another process uses the folder.
    #[error("the private network in {} is in use: stop it first (`tidegate testnet stop`), or choose another folder", folder.display())]
    InUse {
        /// The network's folder.
        folder: PathBuf,
    },
    /// There is no network in the folder, or it doesn't run.
    #[error("no private network runs in {}: start one with `tidegate testnet start`", folder.display())]
    NotRunning {
        /// The network's folder.
        folder: PathBuf,
    },
    /// A file or folder could not be made, read or written.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried ("write", "read" ...).
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A file that we or `tor` wrote doesn't have the form it should have.
    #[error("cannot understand {}: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No free port on loopback, or a listener that could not be opened.
    #[error("cannot get a port on loopback")]
    Ports(#[source] std::io::Error),
    /// A helper program ran and failed.
    #[error("{program} failed ({status}): {output}")]
    Command {
        /// The program's name.
        program: &'static str,
        /// How it ended.
        status: String,
        /// The end of what it printed.
        output: String,
    },
    /// A server of the lab gave no usable answer.
    #[error(transparent)]
    Http(#[from] http::HttpError),
    /// A child process could not be started, or died.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A tor process did not do what was asked of it over its control port.
    #[error("the control port of {name} failed: {reason}")]
    Control {
        /// The node's name.
        name: String,
        /// What was asked, and what came back.
        reason: String,
    },
    /// Something did not come about in time.
    #[error("{what} did not come about within {seconds} s; the log ends with: {log}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        seconds: u64,
        /// The end of the log of the process in question.
        log: String,
    },
    /// The thread that did the blocking work ended without a result.
    #[error("the thread that was starting the lab ended early")]
    Interrupted,
}

/// Shorthand for [`LabError::File`].
pub(crate) fn file_error(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> LabError {
    let path = path.into();
    move |source| LabError::File { action, path, source }
}

/// Makes a folder, with its parents, that only we can enter (`tor` insists on that for its data).
pub(crate) fn private_folder(path: &std::path::Path) -> Result<(), LabError> {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(file_error("make the folder", path))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))
        .map_err(file_error("set the permissions of", path))
}

/// Writes a file that only we can read.
pub(crate) fn private_file(path: &std::path::Path, content: &str) -> Result<(), LabError> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(content.as_bytes()))
        .map_err(file_error("write", path))
}
