//! The config in force: every key with its value, defaults included, and where it stands. Onion addresses are not shown (PR-4), and
//! secrets are in files of their own: of them the name of the file is shown.

use crate::{
    config::{
        file::DestinationSource,
        keys::{ConfigKey, KEYS},
        origins::{Origins, WrittenKey, default_of},
    },
    history::flat,
    id::DestinationId,
    messages::registry::{InForce, WrittenAgreement},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{collections::BTreeSet, fmt};

/// The config in force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EffectiveConfig {
    /// The keys, in order: settings, routes, destinations.
    pub keys: Vec<EffectiveKey>,
}

/// One key of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EffectiveKey {
    /// Its path, such as `mqtt.port` or `destination.cardiology.lanes`.
    pub key: String,
    /// What holds; absent where it is not shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
    /// Whether it is not shown: an onion address.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hidden: bool,
    /// Why it holds.
    pub origin: KeyOrigin,
}

/// Where a key comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum KeyOrigin {
    /// It is written nowhere.
    Default,
    /// A config file.
    File {
        /// Its path.
        file: String,
        /// The line, from 1.
        line: u32,
    },
    /// The environment of the process.
    Environment {
        /// Name of the setting.
        name: String,
    },
    /// The admin API: it lives in the store.
    Api,
}

impl From<DestinationSource> for KeyOrigin {
    fn from(source: DestinationSource) -> Self {
        match source {
            DestinationSource::File { file, line } => Self::File { file, line },
            DestinationSource::Environment { name } => Self::Environment { name },
            DestinationSource::Api => Self::Api,
        }
    }
}

impl fmt::Display for KeyOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { file, line } => write!(f, "{file}:{line}"),
            Self::Environment { name } => write!(f, "{name} in the environment"),
            Self::Api => f.write_str("the admin API"),
        }
    }
}

/// All that is in force. `started` is what the gateway was started with: the settings can't change while it runs.
#[must_use]
pub fn effective(started: &Origins, state_dir: &str, now: &InForce) -> EffectiveConfig {
    let mut keys: Vec<EffectiveKey> = started.settings().map(written).collect();
    let known: BTreeSet<String> = keys.iter().map(|key| key.key.clone()).collect();
    let has_room = known.iter().any(|key| key.starts_with("matrix."));
    let absent = KEYS.iter().filter(|key| {
        !key.path.contains(['*', '[']) && !known.contains(key.path) && (has_room || !key.path.starts_with("matrix."))
    });
    keys.extend(absent.filter_map(|key| {
        // The one default that is not the same everywhere.
        let value = if key.path == "state_dir" { Some(state_dir.into()) } else { default_of(key) };
        Some(EffectiveKey { key: key.path.to_owned(), value: Some(value?), hidden: false, origin: KeyOrigin::Default })
    }));
    keys.sort_by(|a, b| a.key.cmp(&b.key));
    keys.extend(now.origins.below("route").map(written));
    for (id, agreement) in &now.destinations {
        keys.extend(destination(id, agreement, &now.origins, false));
    }
    EffectiveConfig { keys }
}

/// One destination: with what holds for the keys that are absent, if that is asked for.
#[must_use]
pub fn destination(
    id: &DestinationId,
    agreement: &WrittenAgreement,
    origins: &Origins,
    defaults: bool,
) -> Vec<EffectiveKey> {
    let section = format!("destination.{id}");
    let origin = |key: &str| match &agreement.source {
        DestinationSource::Api => KeyOrigin::Api,
        source => origins.source(&format!("{section}.{key}")).unwrap_or_else(|| source.clone()).into(),
    };
    let shown = |key: &str, value: Option<Value>| EffectiveKey {
        key: format!("{section}.{key}"),
        hidden: value.is_none(),
        value,
        origin: origin(key),
    };
    let value = Value::Object(agreement.keys.clone());
    let keys = flat(&value);
    let mut shown: Vec<EffectiveKey> =
        keys.iter().map(|(key, value)| shown(key, Some((*value).clone()))).chain([shown("onion", None)]).collect();
    let lives = keys.keys().any(|key| key.starts_with("lifetime."));
    let absent = |key: &&ConfigKey| {
        let Some(name) = key.path.strip_prefix("destination.*.").filter(|name| !name.contains('[')) else {
            return false;
        };
        let within =
            |written: &String| written == name || written.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'));
        // There is one kind of lifetime at a time.
        !(keys.keys().any(within) || lives && name.starts_with("lifetime."))
    };
    if defaults {
        shown.extend(KEYS.iter().filter(absent).filter_map(|key| {
            let name = key.path.strip_prefix("destination.*")?;
            let key = EffectiveKey {
                key: format!("{section}{name}"),
                value: Some(default_of(key)?),
                hidden: false,
                origin: KeyOrigin::Default,
            };
            Some(key)
        }));
    }
    shown.sort_by(|a, b| a.key.cmp(&b.key));
    shown
}

fn written(key: WrittenKey<'_>) -> EffectiveKey {
    let value = key.value.cloned();
    EffectiveKey { key: key.key.to_owned(), hidden: value.is_none(), value, origin: key.source.into() }
}
