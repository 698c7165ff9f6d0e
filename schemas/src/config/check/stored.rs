//! Destinations that were made through the admin API: routes of the config may lead to them.

use super::Checker;
use serde::{Deserialize, de::IgnoredAny};
use std::{collections::BTreeMap, path::Path};

/// Name of the file, in the state folder, in which the Registry keeps what was set at run time.
pub const REGISTRY_FILE: &str = "registry.json";

/// The names alone; what else is there is the Registry's.
#[derive(Debug, Default, Deserialize)]
struct Names {
    #[serde(default)]
    destinations: BTreeMap<String, IgnoredAny>,
}

impl Checker<'_> {
    /// Their names. None where the file can't be read: whoever checks a config may not be the gateway's own user, and a route that
    /// needs one of them is told.
    pub(super) fn stored(&self, state_dir: &Path) -> Vec<String> {
        let text = (self.around.read_file)(&state_dir.join(REGISTRY_FILE)).unwrap_or_default();
        let names: Names = serde_json::from_str(&text).unwrap_or_default();
        names.destinations.into_keys().collect()
    }
}
