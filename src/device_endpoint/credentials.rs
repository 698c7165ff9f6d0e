//! Device credentials at the door: `devices.toml` in the state folder, read again when it changes, and who a request is from.
//!
//! A device presents its name and its secret by `Authorization: Basic`, or `Authorization: Bearer NAME:SECRET` where a client
//! library has no Basic. The file keeps hashes alone; they are compared in constant time, and a name that doesn't exist
//! takes as long as one that does.

use crate::admin::problem::HttpProblem;
use actix_web::{HttpRequest, http::header};
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};
use subtle::ConstantTimeEq as _;
use tidegate_schemas::{
    config::devices::{DeviceCredential, Devices, ParseDevicesError, hash_secret},
    id::DeviceId,
};
use tokio::time::Instant;

/// How often the file is looked at, at most, in milliseconds.
const LOOK_EVERY_MS: u64 = 500;
/// Longest file of credentials, in bytes (8 MiB: ten thousand devices with many destinations each).
const DEVICES_FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// What is asked of a device without credentials.
const CHALLENGE: &str = "Basic realm=\"tidegate\", charset=\"UTF-8\"";

/// Why there are no credentials.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The file can't be read.
    #[error("could not read the device credentials {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not what it should be.
    #[error("the device credentials {} are not to be used: {source}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ParseDevicesError,
    },
}

/// Reads a file of credentials; one that does not exist has none.
///
/// # Errors
/// When it can't be read or understood.
pub fn read_devices(path: &Path) -> Result<Devices, CredentialsError> {
    let failed = |source| CredentialsError::Io { path: path.to_owned(), source };
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Devices::default()),
        Err(error) => return Err(failed(error)),
        Ok(metadata) if metadata.len() > DEVICES_FILE_BYTES_MAX => {
            return Err(failed(io::Error::other("it is larger than 8 MiB")));
        }
        Ok(_) => {}
    }
    let text = fs::read_to_string(path).map_err(failed)?;
    Devices::parse(&text).map_err(|source| CredentialsError::Parse { path: path.to_owned(), source })
}

/// The credentials as they are now.
#[derive(Debug)]
pub struct Credentials {
    path: PathBuf,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    devices: Arc<Devices>,
    /// Modification time and length of the file that was read.
    version: Option<(SystemTime, u64)>,
    looked: Instant,
}

impl Credentials {
    /// Reads the file.
    ///
    /// # Errors
    /// When it can't be read or understood.
    pub fn open(path: PathBuf) -> Result<Self, CredentialsError> {
        let version = version(&path);
        let devices = Arc::new(read_devices(&path)?);
        Ok(Self { path, known: Mutex::new(Known { devices, version, looked: Instant::now() }) })
    }

    /// The credentials now. A file that has become unreadable leaves those that were read last in force.
    pub fn now(&self) -> Arc<Devices> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.looked.elapsed() < Duration::from_millis(LOOK_EVERY_MS) {
            return known.devices.clone();
        }
        known.looked = Instant::now();
        let version = version(&self.path);
        if version != known.version {
            match read_devices(&self.path) {
                Ok(devices) => {
                    tracing::info!(devices = devices.len(), "the device credentials were read again");
                    known.devices = Arc::new(devices);
                }
                Err(error) => tracing::error!(%error, "the former device credentials stay in force"),
            }
            known.version = version;
        }
        known.devices.clone()
    }
}

fn version(path: &Path) -> Option<(SystemTime, u64)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

/// Who makes a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// A program on this machine, while no device has credentials.
    Trusted,
    /// This device.
    Device(DeviceCredential),
}

/// Who makes this request.
///
/// # Errors
/// 401 if it must say so and does not, or says it wrongly.
pub(super) fn identify(devices: &Devices, loopback: bool, request: &HttpRequest) -> Result<Caller, HttpProblem> {
    let header = request.headers().get(header::AUTHORIZATION);
    if header.is_none() && loopback && devices.is_empty() {
        return Ok(Caller::Trusted);
    }
    let presented = header.and_then(|value| value.to_str().ok()).and_then(name_and_secret);
    presented.and_then(|(name, secret)| verify(devices, &name, &secret)).map(Caller::Device).ok_or_else(|| {
        HttpProblem::unauthorized(
            CHALLENGE,
            "a device presents its name and its secret: add it with `tidegate device add NAME --destinations ...`",
        )
    })
}

fn name_and_secret(header: &str) -> Option<(String, String)> {
    let (scheme, rest) = header.split_once(' ')?;
    let text = if scheme.eq_ignore_ascii_case("basic") {
        String::from_utf8(data_encoding::BASE64.decode(rest.trim().as_bytes()).ok()?).ok()?
    } else if scheme.eq_ignore_ascii_case("bearer") {
        rest.trim().to_owned()
    } else {
        return None;
    };
    text.split_once(':').map(|(name, secret)| (name.to_owned(), secret.to_owned()))
}

fn verify(devices: &Devices, name: &str, secret: &str) -> Option<DeviceCredential> {
    let hash = hash_secret(secret)?;
    let credential = name.parse::<DeviceId>().ok().and_then(|name| devices.get(&name));
    let expected = credential.map_or([0; 32], |credential| credential.secret_sha256);
    let equal: bool = expected.ct_eq(&hash).into();
    credential.filter(|_| equal).cloned()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use actix_web::test::TestRequest;

    const SECRET: &str = "a secret of the kitchen sensor";

    fn devices() -> Devices {
        let mut devices = Devices::default();
        devices.put(DeviceCredential {
            device: "kitchen".parse().unwrap(),
            secret_sha256: hash_secret(SECRET).unwrap(),
            destinations: vec!["lab".parse().unwrap()],
        });
        devices
    }

    fn caller(devices: &Devices, loopback: bool, header: Option<&str>) -> Result<Caller, u16> {
        let mut request = TestRequest::put();
        if let Some(header) = header {
            request = request.insert_header(("authorization", header));
        }
        identify(devices, loopback, &request.to_http_request()).map_err(|problem| problem.status)
    }

    #[test]
    fn a_device_is_known_by_basic_and_by_bearer() {
        let basic = format!("Basic {}", data_encoding::BASE64.encode(format!("kitchen:{SECRET}").as_bytes()));
        for header in [basic, format!("bearer kitchen:{SECRET}")] {
            let Ok(Caller::Device(found)) = caller(&devices(), true, Some(&header)) else { panic!("{header}") };
            assert_eq!(found.device.as_str(), "kitchen");
        }
    }

    #[test]
    fn whoever_is_not_known_is_refused() {
        let wrong_name = format!("Bearer cellar:{SECRET}");
        for header in
            ["Bearer kitchen:a wrong secret of some length", &wrong_name, "Bearer kitchen", "Basic !!!", "Digest x"]
        {
            assert_eq!(caller(&devices(), true, Some(header)), Err(401), "{header}");
        }
        assert_eq!(caller(&devices(), true, None), Err(401));
        assert_eq!(caller(&Devices::default(), false, None), Err(401));
        assert_eq!(caller(&Devices::default(), true, Some("Bearer kitchen:guess")), Err(401));
    }

    #[test]
    fn without_credentials_loopback_is_trusted() {
        assert_eq!(caller(&Devices::default(), true, None), Ok(Caller::Trusted));
    }
}
