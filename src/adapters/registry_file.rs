//! The Registry's durable state in one JSON file, `registry.json` in the state folder.
//!
//! It is small and written whole: into a temporary file beside it, which is flushed and then renamed over the old one, and the
//! folder is flushed too. After a power cut there is the old state or the new one, nothing between. The file holds signing
//! seeds, so it is the owner's alone (0600). A file that can't be understood is refused and left as it is.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};
use tidegate_actors::ports::registry_store::{RegistryState, RegistryStore, RegistryStoreError, STATE_VERSION};
use tidegate_schemas::config::check::{REGISTRY_BYTES_MAX, REGISTRY_FILE};

/// Name of what a write that was cut off leaves behind; the next write replaces it.
const UNFINISHED_FILE: &str = "registry.json.new";

/// The file. One of these per process: its lock keeps a restarted Registry from reading past a write of the one before.
#[derive(Debug)]
pub struct RegistryFile {
    folder: PathBuf,
    lock: Mutex<()>,
}

impl RegistryFile {
    /// The file in this folder, which must exist by the time of the first write.
    #[must_use]
    pub fn in_folder(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), lock: Mutex::new(()) }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.join(REGISTRY_FILE)
    }
}

impl RegistryStore for RegistryFile {
    fn load(&self) -> Result<RegistryState, RegistryStoreError> {
        let _turn = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        match read(&self.path()) {
            Ok(text) => parse(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(RegistryState::default()),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(RegistryStoreError::Damaged(error.to_string()))
            }
            Err(error) => Err(RegistryStoreError::Io("read", error.to_string())),
        }
    }

    fn save(&self, state: &RegistryState) -> Result<(), RegistryStoreError> {
        let _turn = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = |error: &dyn std::fmt::Display| RegistryStoreError::Io("written", error.to_string());
        let text = serde_json::to_vec_pretty(state).map_err(|error| failed(&error))?;
        if text.len() as u64 > REGISTRY_BYTES_MAX {
            return Err(failed(&format!("it would have {} bytes, {REGISTRY_BYTES_MAX} at most", text.len())));
        }
        write(&self.folder, &text).map_err(|error| failed(&error))
    }
}

fn read(path: &Path) -> io::Result<String> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    if length > REGISTRY_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("it has {length} bytes")));
    }
    io::read_to_string(file)
}

/// Never quotes what the file holds: there are seeds in it.
fn parse(text: &str) -> Result<RegistryState, RegistryStoreError> {
    let damaged = |error: serde_json::Error| {
        RegistryStoreError::Damaged(format!("line {}, column {}", error.line(), error.column()))
    };
    let value: serde_json::Value = serde_json::from_str(text).map_err(damaged)?;
    let version = value.get("version").and_then(serde_json::Value::as_u64);
    if let Some(version) = version.filter(|version| *version != u64::from(STATE_VERSION)) {
        let age = if version > u64::from(STATE_VERSION) { "a newer" } else { "an older" };
        let reason = format!("version {version} was written by {age} program, this one knows {STATE_VERSION}");
        return Err(RegistryStoreError::Damaged(reason));
    }
    serde_json::from_str(text).map_err(damaged)
}

fn write(folder: &Path, text: &[u8]) -> io::Result<()> {
    let unfinished = folder.join(UNFINISHED_FILE);
    // A file that is left over might be anybody's to read, and `mode` holds for new files alone.
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&unfinished, folder.join(REGISTRY_FILE))?;
    // The rename itself is durable when its folder is.
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use tidegate_actors::ports::registry_store::DestinationIdentity;
    use tidegate_schemas::history::{AgreementLog, Canonical, Who};

    fn state() -> RegistryState {
        let identity = DestinationIdentity { signing_seed: [7; 32], pseudonym: [9; 16] };
        let id: tidegate_schemas::id::DestinationId = "cardiology".parse().unwrap();
        let raw: Canonical = serde_json::from_str(r#"{"onion":"x.onion","lanes":3,"retry":{"jitter":0.25}}"#).unwrap();
        let mut log = AgreementLog::default();
        assert!(log.note(Some(&raw), "2026-11-23T12:00:00Z".parse().unwrap(), &Who::Admin));
        RegistryState {
            destinations: [(id.clone(), raw)].into(),
            agreements: [(id.clone(), log)].into(),
            identities: [(id, identity)].into(),
            ..RegistryState::default()
        }
    }

    #[test]
    fn what_is_saved_is_loaded_by_the_next_process_and_is_the_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = RegistryFile::in_folder(folder.path());
        assert_eq!(file.load().unwrap(), RegistryState::default());
        // What a write that was cut off left behind is in nobody's way.
        fs::write(folder.path().join(UNFINISHED_FILE), "half of").unwrap();
        file.save(&state()).unwrap();
        assert_eq!(RegistryFile::in_folder(folder.path()).load().unwrap(), state());
        assert_eq!(fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_damaged_file_is_refused_and_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = RegistryFile::in_folder(folder.path());
        let cut: String = {
            file.save(&state()).unwrap();
            let text = fs::read_to_string(file.path()).unwrap();
            text[..text.len() / 2].to_owned()
        };
        for damaged in [
            cut.as_str(),
            "",
            "{}",
            "{\"version\":2,\"destinations\":{},\"agreements\":{},\"identities\":{},\"x\":1}",
            "\0\0\0",
        ] {
            fs::write(file.path(), damaged).unwrap();
            assert!(matches!(file.load(), Err(RegistryStoreError::Damaged(_))), "{damaged:?}");
            assert_eq!(fs::read_to_string(file.path()).unwrap(), damaged);
        }
        for (version, age) in [(1, "an older program"), (3, "a newer program")] {
            fs::write(file.path(), format!("{{\"version\":{version}}}")).unwrap();
            assert!(file.load().unwrap_err().to_string().contains(age));
        }
        // Not even UTF-8.
        fs::write(file.path(), [0xff, 0xfe]).unwrap();
        assert!(matches!(file.load(), Err(RegistryStoreError::Damaged(_))));
    }

    #[test]
    fn a_failed_write_leaves_the_old_state() {
        let folder = tempfile::tempdir().unwrap();
        let file = RegistryFile::in_folder(folder.path());
        file.save(&state()).unwrap();
        // A folder in its place can't be replaced by a file.
        fs::create_dir(folder.path().join(UNFINISHED_FILE)).unwrap();
        assert!(matches!(file.save(&RegistryState::default()), Err(RegistryStoreError::Io("written", _))));
        assert_eq!(file.load().unwrap(), state());
    }

    #[test]
    fn an_error_quotes_nothing_of_the_file() {
        let error =
            parse("{\"version\":2,\"destinations\":{},\"agreements\":{},\"identities\":\"swordfish\"}").unwrap_err();
        assert!(!error.to_string().contains("swordfish"), "{error}");
    }
}
