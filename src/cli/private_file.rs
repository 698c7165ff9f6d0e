//! Files of the state folder that commands write and the running gateway reads again: credentials and tokens, of which hashes alone are kept.

use super::exit::Failure;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};
use tidegate_actors::ports::entropy::Entropy;

/// Bytes of a secret, before their text.
const SECRET_BYTES: usize = 32;

/// A secret in text form, to be shown once.
pub fn secret(entropy: &dyn Entropy) -> String {
    let mut bytes = [0_u8; SECRET_BYTES];
    entropy.fill(&mut bytes);
    data_encoding::BASE64URL_NOPAD.encode(&bytes)
}

/// Such a file, locked against another command until it is dropped.
pub struct PrivateFile {
    path: PathBuf,
    state_dir: PathBuf,
    name: &'static str,
    _lock: File,
}

impl PrivateFile {
    /// The file of this name, which need not be there.
    ///
    /// # Errors
    /// When it can't be locked.
    pub fn open(state_dir: &Path, name: &'static str) -> Result<Self, Failure> {
        let failed =
            |error: io::Error| Failure::failed(format!("could not change {name} in {}: {error}", state_dir.display()));
        fs::create_dir_all(state_dir).map_err(failed)?;
        let lock = state_dir.join(format!(".{name}.lock"));
        let lock =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(lock).map_err(failed)?;
        lock.lock().map_err(failed)?;
        Ok(Self { path: state_dir.join(name), state_dir: state_dir.to_owned(), name, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the file whole or not at all, readable by the owner of the folder alone: root may run this for the gateway's user.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write(&self, text: &str) -> Result<(), Failure> {
        self.replace(text).map_err(|error| {
            Failure::failed(format!("could not write {}: {error}; nothing changed", self.path.display()))
        })
    }

    fn replace(&self, text: &str) -> io::Result<()> {
        let new = self.state_dir.join(format!(".{}.new", self.name));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(text.as_bytes())?;
        if rustix::process::geteuid().is_root() {
            let owner = fs::metadata(&self.state_dir)?;
            std::os::unix::fs::fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
        }
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        File::open(&self.state_dir)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use tidegate_actors::testing::seeded_entropy::SeededEntropy;
    use tidegate_schemas::config::devices::hash_secret;

    #[test]
    fn a_secret_is_long_and_is_taken() {
        let made = secret(&SeededEntropy::new(1));
        assert_eq!(made.len(), 43);
        assert!(hash_secret(&made).is_some());
        assert_ne!(made, secret(&SeededEntropy::new(2)));
    }

    #[test]
    fn the_file_is_replaced_whole_and_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let file = PrivateFile::open(folder.path(), "names.toml").unwrap();
        for text in ["a longer text", "short"] {
            file.write(text).unwrap();
            assert_eq!(fs::read_to_string(file.path()).unwrap(), text);
        }
        let mode = fs::metadata(folder.path().join("names.toml")).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
