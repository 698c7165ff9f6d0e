//! Who may connect: the gateway itself, and the devices of the credentials file (`devices.toml`, see
//! [`tidegate_schemas::config::devices`]), by name and secret.

use std::{
    io,
    path::{Path, PathBuf},
};
use subtle::ConstantTimeEq as _;
use tidegate_schemas::config::devices::{Devices, hash_secret};

/// Largest credentials file, in bytes.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Asks for credentials.
#[derive(Clone)]
pub(super) struct Guard {
    file: PathBuf,
    gateway: Option<(String, [u8; 32])>,
}

impl Guard {
    /// Admits the devices of `file`, and who fits `gateway_login` (`NAME:SHA256-IN-HEX`).
    pub fn new(file: PathBuf, gateway_login: &str) -> Self {
        let gateway = gateway_login.rsplit_once(':').and_then(|(name, hash)| {
            let hash = data_encoding::HEXLOWER.decode(hash.as_bytes()).ok()?;
            Some((name.to_owned(), hash.try_into().ok()?))
        });
        Self { file, gateway }
    }

    /// Whether this name and secret are admitted.
    pub async fn admits(&self, name: &str, secret: &str) -> bool {
        let Some(hash) = hash_secret(secret) else { return false };
        if let Some((gateway, wanted)) = &self.gateway
            && gateway == name
        {
            return wanted.ct_eq(&hash).into();
        }
        // Read anew for each client: an added device needs no restart, a removed one is out. What can't be read admits nobody.
        let Ok(devices) = read(&self.file).await else { return false };
        let device = name.parse().ok().and_then(|name| devices.get(&name).map(|device| device.secret_sha256));
        device.is_some_and(|wanted| wanted.ct_eq(&hash).into())
    }
}

async fn read(file: &Path) -> io::Result<Devices> {
    if tokio::fs::metadata(file).await?.len() > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("it is larger than {FILE_BYTES_MAX} bytes")));
    }
    Devices::parse(&tokio::fs::read_to_string(file).await?).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use tidegate_schemas::config::devices::DeviceCredential;

    #[tokio::test]
    async fn name_and_secret_must_both_fit() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("devices.toml");
        let secret = "a secret that is long enough";
        let secret_sha256 = hash_secret(secret).unwrap();
        let mut devices = Devices::default();
        devices.put(DeviceCredential { device: "pacemaker".parse().unwrap(), secret_sha256, destinations: vec![] });
        let own =
            format!("tidegate:{}", data_encoding::HEXLOWER.encode(&hash_secret("another secret of ours").unwrap()));
        let guard = Guard::new(file.clone(), &own);
        assert!(!guard.admits("pacemaker", secret).await, "no file, nobody");
        std::fs::write(&file, devices.to_text()).unwrap();
        assert!(guard.admits("pacemaker", secret).await);
        assert!(!guard.admits("pacemaker", "a secret that is long enougH").await);
        assert!(!guard.admits("other", secret).await);
        assert!(!guard.admits("", "").await);
        assert!(guard.admits("tidegate", "another secret of ours").await);
        assert!(!guard.admits("tidegate", secret).await);
        std::fs::write(&file, "nonsense").unwrap();
        assert!(!guard.admits("pacemaker", secret).await);
        assert!(guard.admits("tidegate", "another secret of ours").await, "the gateway needs no file");
    }
}
