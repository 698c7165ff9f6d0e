//! What the gateway remembers of its homeserver: who it is there, its access token, and the room. One file, `matrix.json` in the
//! state folder, the owner's alone (0600), written whole: beside it first, flushed, then renamed.
//!
//! Homeservers allow few log-ins (Synapse: five, then one in five minutes), and the transaction ids that make one event of a
//! notice sent twice belong to the log-in's device. So there is one log-in in a lifetime, and this file is what it leaves.
//!
//! The file also says, by a hash, which homeserver and user it is for: a token is never sent anywhere else. A file that can't be
//! read costs a new log-in, no more.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};
use tidegate_schemas::config::file::{Homeserver, MATRIX_SESSION_FILE, MatrixConfig};

/// Name of the file, in the state folder.
pub const SESSION_FILE: &str = MATRIX_SESSION_FILE;
/// Name of what a write that was cut off leaves behind; the next write replaces it.
const UNFINISHED_FILE: &str = "matrix.json.new";
/// Largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 64 << 10;
/// The format.
const VERSION: u32 = 1;

/// A log-in. `Debug` shows neither the token nor ids, which end with the homeserver's name.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Session {
    version: u32,
    /// Of homeserver and user.
    belongs_to: String,
    /// The full id of our user.
    pub user_id: String,
    /// What every request carries.
    pub access_token: String,
    /// The room, once it is known: the local part of its alias, and its id.
    pub room: Option<(String, String)>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

/// The file of one installation.
#[derive(Debug, Clone)]
pub(super) struct SessionFile {
    folder: PathBuf,
    belongs_to: String,
}

impl SessionFile {
    /// The file for this homeserver and user.
    pub fn new(state_dir: &Path, config: &MatrixConfig) -> Self {
        let place = match &config.homeserver {
            Homeserver::Address(address) => address.to_string(),
            Homeserver::Onion(endpoint) => endpoint.reveal(),
        };
        let hash = Sha256::new().chain_update(place).chain_update([0]).chain_update(&config.user).finalize();
        Self { folder: state_dir.to_owned(), belongs_to: data_encoding::HEXLOWER.encode(&hash) }
    }

    /// A new log-in.
    pub fn session(&self, user_id: String, access_token: String) -> Session {
        Session { version: VERSION, belongs_to: self.belongs_to.clone(), user_id, access_token, room: None }
    }

    /// The log-in that was kept, if it is for this homeserver and user. Blocks.
    pub fn load(&self) -> Option<Session> {
        let text = match self.read() {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(%error, "{SESSION_FILE} can't be read: the gateway logs in to its homeserver anew");
                return None;
            }
        };
        // What it holds is never quoted: there is a token in it.
        let Ok(session) = serde_json::from_str::<Session>(&text) else {
            tracing::warn!("{SESSION_FILE} is damaged: the gateway logs in to its homeserver anew");
            return None;
        };
        (session.version == VERSION && session.belongs_to == self.belongs_to).then_some(session)
    }

    fn read(&self) -> io::Result<String> {
        let mut text = String::new();
        File::open(self.folder.join(SESSION_FILE))?.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
        Ok(text)
    }

    /// Keeps a log-in. Blocks.
    ///
    /// # Errors
    /// When the disk doesn't take it.
    pub fn save(&self, session: &Session) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(session)?;
        let unfinished = self.folder.join(UNFINISHED_FILE);
        // A file that is left over might be anybody's to read, and `mode` holds for new files alone.
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&unfinished, self.folder.join(SESSION_FILE))?;
        File::open(&self.folder)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn config(homeserver: &str, user: &str) -> MatrixConfig {
        MatrixConfig {
            homeserver: Homeserver::Address(homeserver.parse().unwrap()),
            user: user.to_owned(),
            password_file: PathBuf::from("password"),
            room: "tidegate".to_owned(),
            invite: vec![],
        }
    }

    #[test]
    fn a_log_in_is_kept_for_its_homeserver_and_user_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = SessionFile::new(folder.path(), &config("127.0.0.1:8008", "gateway"));
        assert_eq!(file.load(), None);
        let mut session = file.session("@gateway:localhost".to_owned(), "secret-token".to_owned());
        session.room = Some(("tidegate".to_owned(), "!room".to_owned()));
        fs::write(folder.path().join(UNFINISHED_FILE), "half of").unwrap();
        file.save(&session).unwrap();
        assert_eq!(file.load(), Some(session.clone()));
        let mode = fs::metadata(folder.path().join(SESSION_FILE)).unwrap().permissions().mode();
        assert_eq!((mode & 0o777, fs::read_dir(folder.path()).unwrap().count()), (0o600, 1));
        let shown = format!("{session:?}");
        assert!(!shown.contains("secret") && !shown.contains("localhost"), "{shown}");
        for other in [config("127.0.0.1:8009", "gateway"), config("127.0.0.1:8008", "somebody")] {
            assert_eq!(SessionFile::new(folder.path(), &other).load(), None);
        }
    }

    #[test]
    fn a_damaged_file_costs_a_log_in() {
        let folder = tempfile::tempdir().unwrap();
        let file = SessionFile::new(folder.path(), &config("127.0.0.1:8008", "gateway"));
        for damaged in [&b""[..], b"{}", b"\xff\xfe", b"{\"version\":1"] {
            fs::write(folder.path().join(SESSION_FILE), damaged).unwrap();
            assert_eq!(file.load(), None);
        }
    }
}
