//! What the gateway keeps of each destination that may signal over Tor: the identity of the onion service at which it is heard, and the public
//! key without which nobody finds that service. One file a destination, `signals/ALIAS.json` in the state folder, made by
//! `tidegate destination signal-key` and read by the running gateway. The private half of the client key is printed once and not kept.

use crate::adapters::arti::{ClientKey, ServiceKey};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};
use tidegate_actors::ports::entropy::Entropy;
use tidegate_schemas::id::DestinationId;

/// The folder in the state folder.
pub const SIGNALS_FOLDER: &str = "signals";
/// Most destinations that may signal over Tor: each has an onion service with its introduction circuits.
pub const SERVICES_MAX: usize = 32;
/// Longest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1_024;

/// The keys of one destination. `Debug` shows none of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignalKeys {
    /// The identity of the onion service.
    pub service: ServiceKey,
    /// `descriptor:x25519:...`: who may find it.
    pub client: String,
}

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum SignalKeysError {
    /// Input or output failed.
    #[error("could not use {path}: {source}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// A file was changed by hand, or cut.
    #[error("{} is damaged: make new keys with `tidegate destination signal-key NAME --replace`", .0.display())]
    Damaged(PathBuf),
    /// There are some.
    #[error("{0} has a signal key already; --replace makes a new one, with a new address, and the old one is void")]
    Exists(DestinationId),
    /// Too many.
    #[error(
        "{SERVICES_MAX} destinations have signal keys already, which is the limit: each has an onion service of its own"
    )]
    TooMany,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    service_seed: String,
    client: String,
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> SignalKeysError + '_ {
    move |source| SignalKeysError::Io { path: path.to_owned(), source }
}

fn file_of(folder: &Path, destination: &DestinationId) -> PathBuf {
    folder.join(format!("{destination}.json"))
}

/// Makes keys for a destination: what the gateway keeps, and the line that its receiver needs (the address and the private client key, as
/// tor writes them in a `.auth_private` file).
///
/// # Errors
/// When it has some and they are not to be replaced, when there are too many, or when they can't be kept.
pub fn make(
    state_dir: &Path,
    destination: &DestinationId,
    replace: bool,
    entropy: &dyn Entropy,
) -> Result<String, SignalKeysError> {
    let folder = state_dir.join(SIGNALS_FOLDER);
    fs::create_dir_all(state_dir).map_err(io_at(state_dir))?;
    match DirBuilder::new().mode(0o700).create(&folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(io_at(&folder)(error)),
        _ => {}
    }
    belongs_to_gateway(&File::open(&folder).map_err(io_at(&folder))?, state_dir).map_err(io_at(&folder))?;
    let path = file_of(&folder, destination);
    let there = path.try_exists().map_err(io_at(&path))?;
    if there && !replace {
        return Err(SignalKeysError::Exists(destination.clone()));
    }
    if !there && files(&folder)?.len() >= SERVICES_MAX {
        return Err(SignalKeysError::TooMany);
    }
    let (service, client) = (ServiceKey::generate(entropy), ClientKey::generate(entropy));
    let seed = data_encoding::BASE64.encode(&service.reveal());
    let stored = Stored { version: 1, service_seed: seed, client: client.public_line() };
    // Text and a number always have a JSON form.
    let text = serde_json::to_string_pretty(&stored).unwrap_or_default();
    write(state_dir, &path, &text).map_err(io_at(&path))?;
    Ok(client.private_line(&service.address()))
}

/// Readable by the owner of the state folder alone: root may run this for the gateway's user.
fn belongs_to_gateway(file: &File, state_dir: &Path) -> io::Result<()> {
    if rustix::process::geteuid().is_root() {
        let owner = fs::metadata(state_dir)?;
        std::os::unix::fs::fchown(file, Some(owner.uid()), Some(owner.gid()))?;
    }
    Ok(())
}

fn write(state_dir: &Path, path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    belongs_to_gateway(&file, state_dir)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn files(folder: &Path) -> Result<Vec<(DestinationId, PathBuf)>, SignalKeysError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(io_at(folder))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(io_at(folder))?.path();
        let alias = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".json")?.parse().ok());
        found.extend(alias.map(|alias| (alias, path)));
    }
    found.sort();
    Ok(found)
}

/// The keys of all destinations, at most [`SERVICES_MAX`]; a file that can't be used is told apart from the others. Blocks.
///
/// # Errors
/// When the folder can't be read.
pub fn read_all(
    state_dir: &Path,
) -> Result<BTreeMap<DestinationId, Result<SignalKeys, SignalKeysError>>, SignalKeysError> {
    let files = files(&state_dir.join(SIGNALS_FOLDER))?;
    Ok(files.into_iter().take(SERVICES_MAX).map(|(alias, path)| (alias, read(&path))).collect())
}

fn read(path: &Path) -> Result<SignalKeys, SignalKeysError> {
    let mut text = String::new();
    let file = File::open(path).map_err(io_at(path))?;
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(io_at(path))?;
    let damaged = || SignalKeysError::Damaged(path.to_owned());
    let stored: Stored = serde_json::from_str(&text).map_err(|_| damaged())?;
    let seed = data_encoding::BASE64.decode(stored.service_seed.as_bytes()).ok().and_then(|seed| seed.try_into().ok());
    match seed {
        Some(seed) if stored.version == 1 => {
            Ok(SignalKeys { service: ServiceKey::from_seed(seed), client: stored.client })
        }
        _ => Err(damaged()),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use tidegate_actors::testing::seeded_entropy::SeededEntropy;

    #[test]
    fn each_destination_has_keys_of_its_own_and_the_private_one_is_not_kept() {
        let state = tempfile::tempdir().unwrap();
        let entropy = SeededEntropy::new(1);
        let (ward, lab) = ("ward".parse().unwrap(), "lab".parse().unwrap());
        assert!(read_all(state.path()).unwrap().is_empty());
        let first = make(state.path(), &ward, false, &entropy).unwrap();
        let second = make(state.path(), &lab, false, &entropy).unwrap();
        assert_ne!(first[..56], second[..56], "addresses that have nothing in common");
        let all = read_all(state.path()).unwrap();
        let kept = all[&ward].as_ref().unwrap();
        assert_eq!(first[..56], kept.service.address().reveal()[..56]);
        let stored = fs::read_to_string(file_of(&state.path().join(SIGNALS_FOLDER), &ward)).unwrap();
        assert!(!stored.contains(&first[75..]) && !format!("{kept:?}").contains(&stored[40..60]));
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(&state.path().join(SIGNALS_FOLDER)), 0o700);
        assert_eq!(mode(&file_of(&state.path().join(SIGNALS_FOLDER), &ward)), 0o600);

        assert!(matches!(make(state.path(), &ward, false, &entropy), Err(SignalKeysError::Exists(_))));
        assert_eq!(read_all(state.path()).unwrap()[&ward].as_ref().unwrap(), kept);
        let replaced = make(state.path(), &ward, true, &entropy).unwrap();
        assert_ne!(replaced[..56], first[..56]);
    }

    #[test]
    fn a_damaged_file_keeps_no_other_destination_from_being_heard_and_there_is_a_limit() {
        let state = tempfile::tempdir().unwrap();
        let entropy = SeededEntropy::new(1);
        for number in 0..SERVICES_MAX {
            make(state.path(), &format!("d{number}").parse().unwrap(), false, &entropy).unwrap();
        }
        let more = "more".parse().unwrap();
        assert!(matches!(make(state.path(), &more, false, &entropy), Err(SignalKeysError::TooMany)));
        let damaged = "d7".parse().unwrap();
        let path = file_of(&state.path().join(SIGNALS_FOLDER), &damaged);
        for text in ["", "{}", "{\"version\":2,\"service_seed\":\"\",\"client\":\"\"}"] {
            fs::write(&path, text).unwrap();
            let all = read_all(state.path()).unwrap();
            assert!(matches!(all[&damaged], Err(SignalKeysError::Damaged(_))));
            assert_eq!(all.values().filter(|keys| keys.is_ok()).count(), SERVICES_MAX - 1);
        }
    }
}
