//! Who may write and who may read: a key per gateway to write, one password to read, and the key that signs receipts.
//!
//! All are made here, on first start, of 120 random bits or more, and shown once; at rest there are only hashes (of the receipt key
//! its seed, because it signs). Because nobody chooses them, a plain salted SHA-256 is enough: there is no guessable password to
//! protect with a slow hash. Each write key also lies in a file of mode 0600 to be carried to its gateway; delete it afterwards.

use data_encoding::{BASE32_NOPAD, BASE64};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};
use subtle::ConstantTimeEq;
use tidegate_actors::ports::entropy::Entropy;
use tidegate_schemas::{id::DestinationId, wire::receipt};

const RIGHTS_FILE: &str = "rights.json";
const RECEIPT_KEY_FILE: &str = "receipt.seed";
/// Ends the name of a file with a write key.
const WRITE_KEY_SUFFIX: &str = "write_key";
/// Most gateways.
pub const GATEWAYS_MAX: usize = 1_000;
/// Random bytes of the password (24 characters).
const PASSWORD_BYTES: usize = 15;
/// Characters of the password between two dashes.
const PASSWORD_GROUP: usize = 4;

/// Why the rights can't be used.
#[derive(Debug, thiserror::Error)]
pub enum RightsError {
    /// Input or output failed.
    #[error("{action} {path} failed: {source}")]
    Io {
        /// What was done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// A file was changed by hand, or cut.
    #[error("{0} is damaged: restore it from a copy, or delete it to make new keys")]
    Damaged(PathBuf),
    /// Too many gateways.
    #[error("there are {GATEWAYS_MAX} gateways already: remove one from rights.json")]
    TooManyGateways,
}

#[derive(Default, Serialize, Deserialize)]
struct RightsFile {
    salt: String,
    /// Hash of the read password.
    password: String,
    /// Hash of each gateway's write key.
    gateways: BTreeMap<DestinationId, String>,
}

/// A secret that was just made, to be shown once. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct FreshSecret(String);
impl FreshSecret {
    /// The secret in clear.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}
impl std::fmt::Debug for FreshSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[secret]")
    }
}

/// A write key that was just made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreshWriteKey {
    /// The gateway's name.
    pub gateway: DestinationId,
    /// The key.
    pub key: FreshSecret,
    /// The file that holds it, mode 0600.
    pub file: PathBuf,
}

/// What was made on this start and is never shown again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FreshRights {
    /// The password to read.
    pub password: Option<FreshSecret>,
    /// Keys to write.
    pub write_keys: Vec<FreshWriteKey>,
}

/// The rights of a receiver.
pub(crate) struct Rights {
    salt: String,
    password: [u8; 32],
    gateways: Vec<(DestinationId, [u8; 32])>,
    receipt_seed: [u8; 32],
}

impl Rights {
    /// Loads the rights of a folder, and makes those that are missing. Blocks.
    pub(crate) fn open(
        folder: &Path,
        gateways: &[DestinationId],
        new_password: bool,
        entropy: &dyn Entropy,
    ) -> Result<(Self, FreshRights), RightsError> {
        make_private_folder(folder)?;
        let path = folder.join(RIGHTS_FILE);
        let mut fresh = FreshRights::default();
        let stored = read_file(&path)?;
        let mut file: RightsFile = match &stored {
            Some(text) => serde_json::from_str(text).map_err(|_| RightsError::Damaged(path.clone()))?,
            None => RightsFile { salt: random_text(entropy, 16), ..RightsFile::default() },
        };
        let mut changed = stored.is_none();
        if stored.is_none() || new_password {
            let password = grouped(&random_text(entropy, PASSWORD_BYTES));
            file.password = BASE64.encode(&hash(&file.salt, "password", &canonical(&password)));
            fresh.password = Some(FreshSecret(password));
            changed = true;
        }
        for gateway in gateways {
            if file.gateways.contains_key(gateway) {
                continue;
            }
            if file.gateways.len() >= GATEWAYS_MAX {
                return Err(RightsError::TooManyGateways);
            }
            let key = random_text(entropy, 32);
            let key_file = folder.join(format!("{gateway}.{WRITE_KEY_SUFFIX}"));
            write_private(&key_file, &format!("{key}\n"))?;
            file.gateways.insert(gateway.clone(), BASE64.encode(&hash(&file.salt, "write", &key)));
            fresh.write_keys.push(FreshWriteKey { gateway: gateway.clone(), key: FreshSecret(key), file: key_file });
            changed = true;
        }
        let receipt_seed = receipt_seed(folder, entropy)?;
        if changed {
            let text = serde_json::to_string_pretty(&file).map_err(|_| RightsError::Damaged(path.clone()))?;
            write_private(&path, &text)?;
        }
        let rights = Self::of(file, receipt_seed).ok_or(RightsError::Damaged(path))?;
        Ok((rights, fresh))
    }

    fn of(file: RightsFile, receipt_seed: [u8; 32]) -> Option<Self> {
        let password = decode32(&file.password)?;
        let gateways =
            file.gateways.into_iter().map(|(name, hash)| Some((name, decode32(&hash)?))).collect::<Option<_>>()?;
        Some(Self { salt: file.salt, password, gateways, receipt_seed })
    }

    /// The gateway whose write key this is.
    pub(crate) fn writer(&self, key: &str) -> Option<&DestinationId> {
        let hash = hash(&self.salt, "write", key);
        // All are compared, so that the time tells nothing of which one it was.
        self.gateways
            .iter()
            .fold(None, |found, (name, known)| if bool::from(known.ct_eq(&hash)) { Some(name) } else { found })
    }

    /// Whether this is the password to read; case, blanks and dashes don't matter.
    pub(crate) fn may_read(&self, password: &str) -> bool {
        self.password.ct_eq(&hash(&self.salt, "password", &canonical(password))).into()
    }

    /// The seed of the key that signs receipts.
    pub(crate) fn receipt_seed(&self) -> &[u8; 32] {
        &self.receipt_seed
    }

    /// The public key of receipts, as the config of a gateway has it.
    pub(crate) fn receipt_key_text(&self) -> String {
        BASE64.encode(&receipt::public_key(&self.receipt_seed))
    }
}

fn hash(salt: &str, purpose: &str, secret: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in ["tidegate receiver right v1", salt, purpose, secret] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

fn canonical(password: &str) -> String {
    password.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

fn random_text(entropy: &dyn Entropy, bytes: usize) -> String {
    let mut random = vec![0; bytes];
    entropy.fill(&mut random);
    BASE32_NOPAD.encode(&random).to_ascii_lowercase()
}

fn grouped(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    characters.chunks(PASSWORD_GROUP).map(|group| group.iter().collect()).collect::<Vec<String>>().join("-")
}

fn decode32(base64: &str) -> Option<[u8; 32]> {
    BASE64.decode(base64.as_bytes()).ok()?.try_into().ok()
}

/// The seed of the key that signs receipts and signals, if there is one.
pub(crate) fn kept_receipt_seed(folder: &Path) -> Result<Option<[u8; 32]>, RightsError> {
    let path = folder.join(RECEIPT_KEY_FILE);
    let Some(text) = read_file(&path)? else { return Ok(None) };
    decode32(text.trim()).map(Some).ok_or(RightsError::Damaged(path))
}

fn receipt_seed(folder: &Path, entropy: &dyn Entropy) -> Result<[u8; 32], RightsError> {
    if let Some(kept) = kept_receipt_seed(folder)? {
        return Ok(kept);
    }
    let path = folder.join(RECEIPT_KEY_FILE);
    let mut seed = [0; 32];
    entropy.fill(&mut seed);
    write_private(&path, &format!("{}\n", BASE64.encode(&seed)))?;
    Ok(seed)
}

fn io<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> RightsError + 'a {
    move |source| RightsError::Io { action, path: path.to_owned(), source }
}

fn make_private_folder(folder: &Path) -> Result<(), RightsError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(io("creating", folder))
}

pub(crate) fn read_file(path: &Path) -> Result<Option<String>, RightsError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io("reading", path)(error)),
    }
}

/// Writes a file of mode 0600 so that a crash leaves the old one or the new one.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<(), RightsError> {
    let draft = path.with_extension("new");
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    };
    write().map_err(io("writing", path))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use tidegate_actors::testing::seeded_entropy::SeededEntropy;

    fn names(names: &[&str]) -> Vec<DestinationId> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn secrets_are_made_once_and_only_their_hashes_stay() {
        let folder = tempfile::tempdir().unwrap();
        let entropy = SeededEntropy::new(1);
        let (rights, fresh) = Rights::open(folder.path(), &names(&["ward"]), false, &entropy).unwrap();
        let password = fresh.password.unwrap();
        let write_key = &fresh.write_keys[0];
        assert!(
            rights.may_read(password.reveal()) && rights.may_read(&password.reveal().replace('-', " ").to_uppercase())
        );
        assert!(!rights.may_read("") && !rights.may_read(write_key.key.reveal()));
        assert_eq!(rights.writer(write_key.key.reveal()).unwrap().as_str(), "ward");
        assert_eq!(rights.writer(password.reveal()), None);
        assert_eq!(fs::read_to_string(&write_key.file).unwrap().trim(), write_key.key.reveal());
        let stored = fs::read_to_string(folder.path().join(RIGHTS_FILE)).unwrap();
        assert!(!stored.contains(password.reveal()) && !stored.contains(write_key.key.reveal()));
        for file in fs::read_dir(folder.path()).unwrap() {
            assert_eq!(file.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }

        let (again, fresh) = Rights::open(folder.path(), &names(&["ward", "lab"]), false, &entropy).unwrap();
        assert_eq!((fresh.password, fresh.write_keys.len()), (None, 1), "only the new gateway gets a key");
        assert!(again.may_read(password.reveal()));
        assert_eq!(again.receipt_key_text(), rights.receipt_key_text());

        let (changed, fresh) = Rights::open(folder.path(), &[], true, &entropy).unwrap();
        assert!(!changed.may_read(password.reveal()) && changed.may_read(fresh.password.unwrap().reveal()));
    }

    #[test]
    fn a_damaged_file_is_named_and_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(RIGHTS_FILE);
        for text in ["", "{}", "{\"salt\":\"\",\"password\":\"?\",\"gateways\":{}}"] {
            fs::write(&path, text).unwrap();
            let error = Rights::open(folder.path(), &[], false, &SeededEntropy::new(1)).err().unwrap();
            assert!(matches!(error, RightsError::Damaged(_)), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }
}
