//! Destinations that were made through the admin API: routes of the config may lead to them.

use super::Checker;
use serde::{Deserialize, de::IgnoredAny};
use std::{collections::BTreeMap, io::ErrorKind, path::Path};

/// Name of the file, in the state folder, in which the Registry keeps what was set at run time.
pub const REGISTRY_FILE: &str = "registry.json";
/// Largest such file that is read and written, in bytes: 10,000 destinations with all their windows fit.
pub const REGISTRY_BYTES_MAX: u64 = 64 << 20;

/// The names alone; what else is there is the Registry's.
#[derive(Debug, Default, Deserialize)]
struct Names {
    #[serde(default)]
    destinations: BTreeMap<String, IgnoredAny>,
}

impl Checker<'_> {
    /// Their names. None where there is no such file, or where it is not for these eyes: whoever checks a config may not be the
    /// gateway's own user, and a route that needs one of them is told. Anything else that is wrong with it is wrong for the gateway too.
    pub(super) fn stored(&mut self, state_dir: &Path) -> Vec<String> {
        let file = state_dir.join(REGISTRY_FILE);
        let wrong = match (self.around.read_registry)(&file) {
            // Only the place: the file holds seeds.
            Ok(text) => match serde_json::from_str::<Names>(&text) {
                Ok(names) => return names.destinations.into_keys().collect(),
                Err(error) => format!("are damaged (line {}, column {})", error.line(), error.column()),
            },
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => {
                return Vec::new();
            }
            Err(error) => format!("could not be read: {error}"),
        };
        self.refuse(
            "state_dir",
            format!("the destinations that were made at run time, in {}, {wrong}", file.display()),
            "restore the file from a backup, or move it away to start with the config alone",
        );
        Vec::new()
    }
}
