//! The file of device credentials, `devices.toml` in the state folder: who may hand in from beyond this machine.
//!
//! Written by `tidegate device add NAME`, read by the device HTTP endpoint and by the embedded broker. A secret is 32 random
//! bytes in text form, shown once and kept as its SHA-256 only: with that much randomness a slow password hash would add
//! nothing but load on a small board. A credential names its device, and binds it to its destinations.
//!
//! ```toml
//! version = 1
//!
//! [[device]]
//! name          = "esp32-kitchen"
//! secret_sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
//! destinations  = ["cardiology"]
//! ```

use crate::id::{DestinationId, DeviceId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, fmt};

/// Name of the file, in the state folder.
pub const DEVICES_FILE: &str = "devices.toml";
/// Most devices with credentials.
pub const DEVICES_MAX: usize = 10_000;
/// Shortest secret that is taken, in bytes: what `tidegate device add` makes has 43.
pub const SECRET_BYTES_MIN: usize = 16;
/// Longest secret that is looked at, in bytes.
pub const SECRET_BYTES_MAX: usize = 256;

/// What one device may do.
#[derive(Clone, PartialEq, Eq)]
pub struct DeviceCredential {
    /// Its name: the device id of all that it hands in.
    pub device: DeviceId,
    /// SHA-256 of its secret. Compare in constant time.
    pub secret_sha256: [u8; 32],
    /// Where it may hand in.
    pub destinations: Vec<DestinationId>,
}
impl fmt::Debug for DeviceCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceCredential")
            .field("device", &self.device)
            .field("destinations", &self.destinations)
            .finish_non_exhaustive()
    }
}

/// All credentials, by device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Devices(BTreeMap<DeviceId, DeviceCredential>);

/// Why a file of credentials was refused. It never quotes what the file holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseDevicesError {
    /// Not the TOML that is expected.
    #[error("line {line}: {message}")]
    Syntax {
        /// Where, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// Another version of the format.
    #[error("version {0} of the devices file is not known to this program, which writes version 1")]
    Version(u32),
    /// A hash that is none.
    #[error("secret_sha256 of device {0} is not 64 hexadecimal digits")]
    Hash(DeviceId),
    /// A name twice.
    #[error("device {0} is there twice")]
    Twice(DeviceId),
    /// More than [`DEVICES_MAX`].
    #[error("more than {DEVICES_MAX} devices")]
    TooMany,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDevices {
    version: u32,
    #[serde(default)]
    device: Vec<RawDevice>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDevice {
    name: DeviceId,
    secret_sha256: String,
    destinations: Vec<DestinationId>,
}

impl Devices {
    /// Reads the file's text.
    ///
    /// # Errors
    /// When any part of it is not understood: a credential must not get lost in silence.
    pub fn parse(text: &str) -> Result<Self, ParseDevicesError> {
        let raw: RawDevices = toml::from_str(text).map_err(|error| {
            let offset = error.span().map_or(0, |span| span.start).min(text.len());
            let line = text.as_bytes()[..offset].iter().filter(|b| **b == b'\n').count() + 1;
            ParseDevicesError::Syntax { line, message: error.message().to_owned() }
        })?;
        if raw.version != 1 {
            return Err(ParseDevicesError::Version(raw.version));
        }
        if raw.device.len() > DEVICES_MAX {
            return Err(ParseDevicesError::TooMany);
        }
        let mut devices = Self::default();
        for raw in raw.device {
            let secret_sha256 = data_encoding::HEXLOWER_PERMISSIVE
                .decode(raw.secret_sha256.as_bytes())
                .ok()
                .and_then(|bytes| bytes.try_into().ok())
                .ok_or_else(|| ParseDevicesError::Hash(raw.name.clone()))?;
            let name = raw.name.clone();
            let credential = DeviceCredential { device: raw.name, secret_sha256, destinations: raw.destinations };
            if devices.put(credential).is_some() {
                return Err(ParseDevicesError::Twice(name));
            }
        }
        Ok(devices)
    }

    /// The file's text, which [`Devices::parse`] reads back.
    #[must_use]
    pub fn to_text(&self) -> String {
        use fmt::Write as _;
        let mut text = String::from(
            "# Written by `tidegate device add` and `remove`. The secrets themselves are kept nowhere.\nversion = 1\n",
        );
        for credential in self.0.values() {
            let hash = data_encoding::HEXLOWER.encode(&credential.secret_sha256);
            let destinations: Vec<String> = credential.destinations.iter().map(|id| format!("\"{id}\"")).collect();
            // Ids have no character that TOML would want escaped. Writing to a String can't fail.
            let _ = write!(
                text,
                "\n[[device]]\nname = \"{}\"\nsecret_sha256 = \"{hash}\"\ndestinations = [{}]\n",
                credential.device,
                destinations.join(", "),
            );
        }
        text
    }

    /// The credential of a device, whose hash the caller compares with [`hash_secret`] in constant time.
    #[must_use]
    pub fn get(&self, device: &DeviceId) -> Option<&DeviceCredential> {
        self.0.get(device)
    }

    /// Adds or replaces a credential; the one that was there before comes back.
    pub fn put(&mut self, credential: DeviceCredential) -> Option<DeviceCredential> {
        self.0.insert(credential.device.clone(), credential)
    }

    /// Takes a device's credential away.
    pub fn remove(&mut self, device: &DeviceId) -> Option<DeviceCredential> {
        self.0.remove(device)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &DeviceCredential> {
        self.0.values()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The hash under which a secret is kept; absent for a text that can't be a secret (too short, too long), which spares the
/// hashing of whatever a stranger sends.
#[must_use]
pub fn hash_secret(secret: &str) -> Option<[u8; 32]> {
    (SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&secret.len()).then(|| Sha256::digest(secret.as_bytes()).into())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    fn credential(name: &str, destinations: &[&str]) -> DeviceCredential {
        DeviceCredential {
            device: name.parse().unwrap(),
            secret_sha256: hash_secret(&format!("a long enough secret of {name}")).unwrap(),
            destinations: destinations.iter().map(|id| id.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut devices = Devices::default();
        assert!(devices.put(credential("esp32.a_B-1", &["cardiology", "lab"])).is_none());
        assert!(devices.put(credential("other", &[])).is_none());
        assert_eq!(Devices::parse(&devices.to_text()).unwrap(), devices);
        assert_eq!(Devices::parse(&Devices::default().to_text()).unwrap(), Devices::default());
    }

    #[test]
    fn a_damaged_file_is_refused_with_its_line_and_without_its_hashes() {
        let mut devices = Devices::default();
        devices.put(credential("a", &["lab"]));
        let text = devices.to_text();
        let twice = format!("{text}{}", &text[text.find("\n[[device]]").unwrap()..]);
        assert_eq!(Devices::parse(&twice), Err(ParseDevicesError::Twice("a".parse().unwrap())));
        let short = text.replacen("secret_sha256 = \"", "secret_sha256 = \"00", 1);
        assert_eq!(Devices::parse(&short), Err(ParseDevicesError::Hash("a".parse().unwrap())));
        assert_eq!(Devices::parse("version = 2"), Err(ParseDevicesError::Version(2)));
        assert!(matches!(
            Devices::parse("version = 1\n\n[[device]]\nnam = 1"),
            Err(ParseDevicesError::Syntax { line: 4, .. })
        ));
    }

    #[test]
    fn debug_shows_no_hash_and_short_secrets_have_none() {
        let shown = format!("{:?}", credential("a", &["lab"]));
        assert_eq!(shown, "DeviceCredential { device: DeviceId(\"a\"), destinations: [DestinationId(\"lab\")], .. }");
        assert_eq!(hash_secret("hunter2"), None);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,60}") {
            let _ = Devices::parse(&text);
            let _ = Devices::parse(&format!("version = 1\n[[device]]\n{text}"));
        }
    }
}
