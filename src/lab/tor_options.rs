//! How a private Tor network is to be started, and the steps that its start tells of.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::{LabError, torrc};

/// The fewest authorities that make a network in which C tor builds onion service paths.
pub const AUTHORITIES_MIN: usize = 4;
/// The most authorities that are started.
pub const AUTHORITIES_MAX: usize = 9;
/// How many there are unless asked otherwise.
pub const AUTHORITIES_DEFAULT: usize = 5;
/// The largest delay that can be added to a link, in milliseconds.
pub const LAG_MS_MAX: u32 = 1_000;

/// Whether a network ends with the process that started it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lifetime {
    /// It ends with the value, and with the process.
    #[default]
    Owned,
    /// It runs on until [`TorNetwork::stop`](super::TorNetwork::stop); needs a folder, and can't have added delay (whose proxy runs in our
    /// process).
    Detached,
}

/// A step of a start, told to [`TorNetworkOptions::progress`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartStep {
    /// So many authorities have keys.
    Keys {
        /// How many have them.
        ready: usize,
        /// How many there will be.
        of: usize,
    },
    /// The start waits for the boundary of a vote.
    AwaitingVote {
        /// How long.
        wait: Duration,
    },
    /// The authorities run and vote.
    Voting {
        /// How many serve a complete consensus.
        ready: usize,
        /// How many there are.
        of: usize,
    },
    /// The network can be used.
    Usable {
        /// How long the start took.
        after: Duration,
    },
}

impl fmt::Display for StartStep {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keys { ready, of } => write!(out, "keys of the authorities: {ready} of {of}"),
            Self::AwaitingVote { wait } => write!(out, "the next vote begins in {:.1} s", wait.as_secs_f32()),
            Self::Voting { ready, of } => write!(out, "authorities with a complete consensus: {ready} of {of}"),
            Self::Usable { after } => {
                write!(out, "the private Tor network is usable after {:.1} s", after.as_secs_f32())
            }
        }
    }
}

/// How to start a network.
pub struct TorNetworkOptions {
    /// Where its data goes; `None` is a temporary folder that is removed at the end. A folder that held a network
    /// before gives the same keys and ports again, and a quicker start.
    pub folder: Option<PathBuf>,
    /// Delay added to every link between relays, and from clients to relays, in each direction, in milliseconds.
    pub lag_ms: u32,
    /// How many authorities, [`AUTHORITIES_MIN`] to [`AUTHORITIES_MAX`].
    pub authorities: usize,
    /// Whether it ends with us.
    pub lifetime: Lifetime,
    /// Called at each step of the start, from the thread that starts.
    pub progress: Box<dyn FnMut(StartStep) + Send>,
}

impl Default for TorNetworkOptions {
    fn default() -> Self {
        Self {
            folder: None,
            lag_ms: 0,
            authorities: AUTHORITIES_DEFAULT,
            lifetime: Lifetime::Owned,
            progress: Box::new(|_| {}),
        }
    }
}

impl fmt::Debug for TorNetworkOptions {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("TorNetworkOptions")
            .field("folder", &self.folder)
            .field("lag_ms", &self.lag_ms)
            .field("authorities", &self.authorities)
            .field("lifetime", &self.lifetime)
            .finish_non_exhaustive()
    }
}

impl TorNetworkOptions {
    /// Refuses what can't work.
    pub(super) fn check(&self) -> Result<(), LabError> {
        let no = |reason: String| Err(LabError::Options { reason });
        if !(AUTHORITIES_MIN..=AUTHORITIES_MAX).contains(&self.authorities) {
            return no(format!(
                "it takes {AUTHORITIES_MIN} to {AUTHORITIES_MAX} authorities, not {}",
                self.authorities
            ));
        }
        if self.lag_ms > LAG_MS_MAX {
            return no(format!("the added delay is at most {LAG_MS_MAX} ms, not {}", self.lag_ms));
        }
        match (self.lifetime, &self.folder) {
            (Lifetime::Detached, None) => no("a network that runs on needs a folder to be found in".to_owned()),
            (Lifetime::Detached, Some(_)) if self.lag_ms > 0 => {
                no("the added delay comes from this process, so the network must end with it".to_owned())
            }
            (_, Some(folder)) if !torrc::can_hold(folder) => {
                no(format!("tor's configuration can't hold the folder's name {}", folder.display()))
            }
            _ => Ok(()),
        }
    }
}
