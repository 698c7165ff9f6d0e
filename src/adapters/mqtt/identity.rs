//! Who we are to the broker, and which of its sessions we are in: two small files in the state folder.
//!
//! `mqtt-client-id` holds 32 hex digits, made once and never changed: another installation with the same id would take over our
//! session. `mqtt-session` holds the number that we drew when the broker's session began, and what we subscribed in it. Both are
//! written whole: to a new file, synced, then renamed over the old one.

use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};
use tidegate_actors::ports::entropy::Entropy;

const CLIENT_ID_FILE: &str = "mqtt-client-id";
const SESSION_FILE: &str = "mqtt-session";
const SESSION_VERSION: u32 = 1;

/// Why our identity could not be read or made.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Input or output failed.
    #[error("could not {operation} {path}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is there and can't be understood.
    #[error(
        "{0} does not hold 32 hex digits; move it away to get a new client id (what the broker still holds for the old one is \
         then not fetched)"
    )]
    Damaged(PathBuf),
}

/// The client id of this installation: read, or made once with mode 0600. Blocks.
///
/// # Errors
/// [`IdentityError`]; a damaged file is left as it is.
pub fn client_id(state_dir: &Path, entropy: &dyn Entropy) -> Result<String, IdentityError> {
    let path = state_dir.join(CLIENT_ID_FILE);
    match fs::read_to_string(&path) {
        Ok(text) => {
            let id = text.trim_end();
            let is_id = id.len() == 32 && id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
            if is_id { Ok(id.to_owned()) } else { Err(IdentityError::Damaged(path)) }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let id = data_encoding::HEXLOWER.encode(&entropy.bytes16());
            write_whole(&path, format!("{id}\n").as_bytes()).map_err(|source| IdentityError::Io {
                operation: "write",
                path,
                source,
            })?;
            Ok(id)
        }
        Err(source) => Err(IdentityError::Io { operation: "read", path, source }),
    }
}

/// What we know of the broker's session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SessionRecord {
    version: u32,
    /// `HOST:PORT` of the broker that has it.
    pub broker: String,
    /// Drawn when it began. As text: it may be above what JSON numbers hold.
    #[serde(with = "as_hex")]
    pub session: u64,
    /// What is subscribed in it; empty until the broker confirmed.
    pub filters: Vec<String>,
}

impl SessionRecord {
    /// A session that began now.
    pub fn begin(broker: String, session: u64) -> Self {
        Self { version: SESSION_VERSION, broker, session, filters: Vec::new() }
    }

    /// The record, if there is one of this broker. A damaged one is as none: redeliveries are then taken for new.
    pub fn load(state_dir: &Path, broker: &str) -> Option<Self> {
        let text = fs::read(state_dir.join(SESSION_FILE)).ok()?;
        let record: Self = serde_json::from_slice(&text).ok()?;
        (record.version == SESSION_VERSION && record.broker == broker).then_some(record)
    }

    /// Writes it. Blocks until it is on disk.
    pub fn save(&self, state_dir: &Path) -> io::Result<()> {
        write_whole(&state_dir.join(SESSION_FILE), &serde_json::to_vec(self)?)
    }
}

/// 16 hex digits.
mod as_hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub fn serialize<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{number:016x}"))
    }
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = String::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16).map_err(D::Error::custom)
    }
}

/// Replaces a file by new content, atomically and durably, readable by its owner alone.
fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    // The rename itself is durable once the folder is.
    match path.parent() {
        Some(folder) => fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;
    use tidegate_actors::testing::seeded_entropy::SeededEntropy;

    #[test]
    fn a_client_id_is_made_once_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let first = client_id(folder.path(), &SeededEntropy::new(1)).unwrap();
        let second = client_id(folder.path(), &SeededEntropy::new(2)).unwrap();
        assert_eq!((first.len(), &first), (32, &second));
        let mode = fs::metadata(folder.path().join(CLIENT_ID_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(folder.path().join(CLIENT_ID_FILE), "not an id").unwrap();
        assert!(matches!(client_id(folder.path(), &SeededEntropy::new(3)), Err(IdentityError::Damaged(_))));
        let elsewhere = client_id(tempfile::tempdir().unwrap().path(), &SeededEntropy::new(4)).unwrap();
        assert_ne!(first, elsewhere);
    }

    #[test]
    fn a_session_record_survives_and_belongs_to_one_broker() {
        let folder = tempfile::tempdir().unwrap();
        let mut record = SessionRecord::begin("127.0.0.1:1883".to_owned(), u64::MAX - 1);
        record.filters.push("+/#".to_owned());
        record.save(folder.path()).unwrap();
        assert_eq!(SessionRecord::load(folder.path(), "127.0.0.1:1883"), Some(record));
        assert_eq!(SessionRecord::load(folder.path(), "127.0.0.1:1884"), None);
        fs::write(folder.path().join(SESSION_FILE), "{").unwrap();
        assert_eq!(SessionRecord::load(folder.path(), "127.0.0.1:1883"), None);
    }
}
