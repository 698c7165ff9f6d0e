//! A small file of the state folder that others change while the gateway runs: read again when it changed, whole or not at all.

use std::{
    error::Error,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};
use tokio::time::Instant;

/// How often the file is looked at, at most.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Longest such file, in bytes (8 MiB: ten thousand devices with many destinations each).
const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Why there is nothing to go by.
#[derive(Debug, thiserror::Error)]
pub enum RereadError {
    /// The file can't be read.
    #[error("could not read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not what it should be.
    #[error("{} is not to be used: {reason}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Reads such a file; one that does not exist holds what an empty one would.
///
/// # Errors
/// When it can't be read or understood.
pub fn read<T: Default, E: Error>(path: &Path, parse: impl Fn(&str) -> Result<T, E>) -> Result<T, RereadError> {
    let failed = |source| RereadError::Io { path: path.to_owned(), source };
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(T::default()),
        Err(error) => return Err(failed(error)),
        Ok(metadata) if metadata.len() > FILE_BYTES_MAX => {
            return Err(failed(io::Error::other("it is larger than 8 MiB")));
        }
        Ok(_) => {}
    }
    let text = fs::read_to_string(path).map_err(failed)?;
    parse(&text).map_err(|error| RereadError::Parse { path: path.to_owned(), reason: error.to_string() })
}

/// What the file holds, as it is now.
#[derive(Debug)]
pub struct Reread<T> {
    path: PathBuf,
    read: fn(&Path) -> Result<T, RereadError>,
    known: Mutex<Known<T>>,
}

#[derive(Debug)]
struct Known<T> {
    value: Arc<T>,
    /// Modification time and length of the file that was read.
    version: Option<(SystemTime, u64)>,
    looked: Instant,
}

impl<T> Reread<T> {
    /// Reads the file.
    ///
    /// # Errors
    /// When it can't be read or understood.
    pub fn open(path: PathBuf, read: fn(&Path) -> Result<T, RereadError>) -> Result<Self, RereadError> {
        let version = version(&path);
        let value = Arc::new(read(&path)?);
        Ok(Self { path, read, known: Mutex::new(Known { value, version, looked: Instant::now() }) })
    }

    /// What it holds now. A file that has become unreadable leaves in force what was read last.
    pub fn now(&self) -> Arc<T> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.looked.elapsed() < LOOK_EVERY {
            return known.value.clone();
        }
        known.looked = Instant::now();
        let version = version(&self.path);
        if version != known.version {
            let file = self.path.display();
            match (self.read)(&self.path) {
                Ok(value) => {
                    tracing::info!(%file, "it has changed and was read again");
                    known.value = Arc::new(value);
                }
                Err(error) => tracing::error!(%error, "what was read of it before stays in force"),
            }
            known.version = version;
        }
        known.value.clone()
    }
}

fn version(path: &Path) -> Option<(SystemTime, u64)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}
