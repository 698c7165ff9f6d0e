//! What a private network writes down (`network.json` in its folder), and what an arti client needs to use it.
//!
//! The file lets another process attach to a running network, stop it by process id, and start it again on the same
//! ports and keys. It holds no secret: keys stay in the nodes' own folders.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::ports::loopback;
use super::torrc::HSDIR_INTERVAL_MINUTES;
use super::{LabError, file_error, private_file};

/// The file's name in the network's folder.
pub const STATE_FILE: &str = "network.json";
/// The version of its form.
pub const STATE_FORMAT: u32 = 1;

/// arti's flat circuit build time-out in a network without added delay, in milliseconds.
const CIRCUIT_TIMEOUT_MS: u32 = 2_000;
/// How much of it is added for each millisecond of delay on a link.
const CIRCUIT_TIMEOUT_MS_PER_LAG_MS: u32 = 120;

/// A private network as it is written down.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NetworkState {
    /// [`STATE_FORMAT`].
    pub format: u32,
    /// The added delay of each link in each direction, in milliseconds.
    pub lag_ms: u32,
    /// Whether the processes outlive the one that started them.
    pub detached: bool,
    /// The authorities, which are also the relays.
    pub authorities: Vec<AuthorityState>,
    /// Every process that was started.
    pub processes: Vec<ProcessState>,
}

/// One directory authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorityState {
    /// Its name, and its folder's.
    pub nickname: String,
    /// The port that it announces for circuits.
    pub or_port: u16,
    /// The port of its directory service.
    pub dir_port: u16,
    /// Where it listens when a delaying proxy stands on `or_port`.
    pub hidden_port: u16,
    /// The fingerprint of its authority identity key, 40 hex digits.
    pub v3ident: String,
    /// The fingerprint of its RSA relay identity, 40 hex digits.
    pub rsa_fingerprint: String,
    /// Its Ed25519 relay identity, base64.
    pub ed25519_identity: String,
}

/// One process of a network.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProcessState {
    /// Its name in the lab.
    pub name: String,
    /// Its process id.
    pub pid: u32,
    /// Its data folder, which also stands in its command line.
    pub folder: PathBuf,
}

impl NetworkState {
    /// Reads the state of the network in `folder`; `None` when there has been none.
    ///
    /// # Errors
    /// When the file can't be read or understood.
    pub fn load(folder: &Path) -> Result<Option<Self>, LabError> {
        let path = folder.join(STATE_FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(file_error("read", path)(error)),
        };
        let wrong = |reason: String| LabError::Format { path: path.clone(), reason };
        let state: Self = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        if state.format != STATE_FORMAT {
            return Err(wrong(format!("its format is {}, this program knows {STATE_FORMAT}", state.format)));
        }
        Ok(Some(state))
    }

    /// Writes it into `folder`, so that a reader sees the old state or the new one, never a part.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn save(&self, folder: &Path) -> Result<(), LabError> {
        let path = folder.join(STATE_FILE);
        let fresh = folder.join(format!("{STATE_FILE}.new"));
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| LabError::Format { path: path.clone(), reason: error.to_string() })?;
        private_file(&fresh, &text)?;
        std::fs::rename(&fresh, &path).map_err(file_error("replace", path))
    }

    /// What an arti client needs in order to use this network.
    #[must_use]
    pub fn arti_settings(&self) -> ArtiTestSettings {
        let authority =
            |a: &AuthorityState| ArtiAuthority { v3ident: a.v3ident.clone(), directory: loopback(a.dir_port) };
        let fallback = |a: &AuthorityState| ArtiFallback {
            rsa_fingerprint: a.rsa_fingerprint.clone(),
            ed25519_identity: a.ed25519_identity.clone(),
            or_address: loopback(a.or_port),
        };
        ArtiTestSettings {
            authorities: self.authorities.iter().map(authority).collect(),
            fallbacks: self.authorities.iter().map(fallback).collect(),
            hsdir_interval_minutes: HSDIR_INTERVAL_MINUTES,
            circuit_timeout_ms: CIRCUIT_TIMEOUT_MS + self.lag_ms * CIRCUIT_TIMEOUT_MS_PER_LAG_MS,
        }
    }
}

/// The private network, as an arti client is told of it. Plain data: the arti adapter applies it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtiTestSettings {
    /// Whose votes make a consensus.
    pub authorities: Vec<ArtiAuthority>,
    /// Where a client without a consensus gets one.
    pub fallbacks: Vec<ArtiFallback>,
    /// The onion service time period, in minutes.
    pub hsdir_interval_minutes: u32,
    /// A fixed circuit build time-out, in milliseconds: what arti learns on loopback is so short that a hiccup of the
    /// processor would look like a dead network.
    pub circuit_timeout_ms: u32,
}

impl ArtiTestSettings {
    /// Reads them from the folder of a network that was started in another process.
    ///
    /// # Errors
    /// When there is none, or its state can't be read.
    pub fn load(folder: &Path) -> Result<Self, LabError> {
        let state = NetworkState::load(folder)?.ok_or_else(|| LabError::NotRunning { folder: folder.to_owned() })?;
        Ok(state.arti_settings())
    }
}

/// An authority as arti sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtiAuthority {
    /// The fingerprint of its authority identity key, 40 hex digits.
    pub v3ident: String,
    /// Its directory service.
    pub directory: SocketAddr,
}

/// A relay from which arti may take its first consensus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtiFallback {
    /// The fingerprint of its RSA identity, 40 hex digits.
    pub rsa_fingerprint: String,
    /// Its Ed25519 identity, base64.
    pub ed25519_identity: String,
    /// Where it takes circuits.
    pub or_address: SocketAddr,
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn state(lag_ms: u32) -> NetworkState {
        NetworkState {
            format: STATE_FORMAT,
            lag_ms,
            detached: true,
            authorities: vec![AuthorityState {
                nickname: "auth0".to_owned(),
                or_port: 15001,
                dir_port: 15002,
                hidden_port: 15003,
                v3ident: "A".repeat(40),
                rsa_fingerprint: "B".repeat(40),
                ed25519_identity: "x".to_owned(),
            }],
            processes: vec![],
        }
    }

    #[test]
    fn the_state_survives_its_file() {
        let folder = tempfile::tempdir().unwrap();
        assert!(NetworkState::load(folder.path()).unwrap().is_none());
        state(25).save(folder.path()).unwrap();
        let loaded = NetworkState::load(folder.path()).unwrap().unwrap();
        assert_eq!(loaded.authorities, state(25).authorities);
        assert!(loaded.detached);
    }

    #[test]
    fn a_state_of_another_format_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        NetworkState { format: 2, ..state(0) }.save(folder.path()).unwrap();
        assert!(NetworkState::load(folder.path()).unwrap_err().to_string().contains("format is 2"));
        std::fs::write(folder.path().join(STATE_FILE), "{").unwrap();
        NetworkState::load(folder.path()).unwrap_err();
    }

    #[test]
    fn arti_dials_the_announced_port_and_waits_longer_with_lag() {
        assert_eq!(state(0).arti_settings().circuit_timeout_ms, 2_000);
        assert_eq!(state(25).arti_settings().circuit_timeout_ms, 5_000);
        assert_eq!(state(25).arti_settings().fallbacks[0].or_address, loopback(15001));
    }
}
