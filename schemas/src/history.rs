//! What was agreed with a destination, as it is written, and how that changed: versions, differences, history.
//!
//! Two agreements are compared in their [`Canonical`] form: absent keys left out, keys in order. So it doesn't matter whether one
//! was written in TOML or as JSON, nor by which version of this program it was kept. The onion address and the keys of a destination
//! never appear in a difference: that they changed is said, not to what (PR-4).

use crate::{agreement::IntakeTerms, config::raw::RawDestination, onion::without_onion_addresses};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::{collections::BTreeMap, fmt};

/// Changes that are kept of one destination; older ones are forgotten.
pub const CHANGES_KEPT: usize = 32;
/// Longest value that a change shows, in characters of its JSON; a longer one is cut.
pub const VALUE_SHOWN_MAX: usize = 400;
/// Keys whose values are not shown, and those below them.
const HIDDEN: [&str; 4] = ["onion", "client_auth", "write_key", "receipt_key"];

/// A destination as it is written, in the one form in which it is kept and compared. `Debug` doesn't show it.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Canonical(Value);

impl fmt::Debug for Canonical {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[destination as written]")
    }
}

impl Canonical {
    /// Of what was read from a file or from a request.
    #[must_use]
    pub fn of(raw: &RawDestination) -> Self {
        // Its keys are texts and its numbers are finite or become null, so this can't fail.
        Self(without_nothing(serde_json::to_value(raw).unwrap_or_default()))
    }

    /// Back to what can be checked.
    ///
    /// # Errors
    /// When this program doesn't know a key or a value that another version wrote.
    pub fn raw(&self) -> Result<RawDestination, serde_json::Error> {
        RawDestination::deserialize(&self.0)
    }

    /// The keys that are written, without the onion address: that one is not shown (PR-4).
    #[must_use]
    pub fn without_address(&self) -> Map<String, Value> {
        let mut keys = self.0.as_object().cloned().unwrap_or_default();
        keys.remove("onion");
        keys
    }

    /// The onion address as it is written.
    #[must_use]
    pub fn onion(&self) -> Option<String> {
        self.0.get("onion")?.as_str().map(str::to_owned)
    }

    /// By what messages for it are taken, also when nothing can be delivered: each key as far as it can be read, else its default.
    #[must_use]
    pub fn intake(&self) -> IntakeTerms {
        fn key<'v, T: Deserialize<'v>>(value: &'v Value, key: &str) -> Option<T> {
            T::deserialize(value.get(key)?).ok()
        }
        let limits = key(&self.0, "limits");
        IntakeTerms::of_raw(limits.as_ref(), key(&self.0, "break_glass"))
    }
}

/// Leaves out what is absent, and tables with nothing in them.
fn without_nothing(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.into_iter().map(|(key, value)| (key, without_nothing(value)));
            let kept =
                kept.filter(|(_, value)| !value.is_null() && value.as_object().is_none_or(|map| !map.is_empty()));
            Value::Object(kept.collect::<Map<_, _>>())
        }
        Value::Array(array) => Value::Array(array.into_iter().map(without_nothing).collect()),
        value => value,
    }
}

/// One key that differs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct KeyChange {
    /// Its dotted path, such as `windows.allow`.
    pub key: String,
    /// What it was; absent where the key was not there, or is not shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<Value>,
    /// What it is; absent where the key is gone, or is not shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<Value>,
    /// Whether the values are not shown: an address or a key.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hidden: bool,
}

impl fmt::Display for KeyChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |value: &Option<Value>| value.as_ref().map_or_else(|| "not set".to_owned(), Value::to_string);
        match self.hidden {
            true => write!(f, "{}: changed", self.key),
            false => write!(f, "{}: {} -> {}", self.key, word(&self.old), word(&self.new)),
        }
    }
}

/// What differs between two destinations as written, in the order of the keys. `None` is one that isn't there.
#[must_use]
pub fn differences(before: Option<&Canonical>, after: Option<&Canonical>) -> Vec<KeyChange> {
    let (mut old, mut new) = (BTreeMap::new(), BTreeMap::new());
    if let Some(Canonical(value)) = before {
        flatten("", value, &mut old);
    }
    if let Some(Canonical(value)) = after {
        flatten("", value, &mut new);
    }
    let mut keys: Vec<&String> = old.keys().chain(new.keys()).collect();
    keys.sort();
    keys.dedup();
    keys.retain(|key| old.get(*key) != new.get(*key));
    let shown = |value: Option<&&Value>, hidden: bool| value.filter(|_| !hidden).map(|value| shown(value));
    let changes = keys.into_iter().map(|key| {
        let hidden = HIDDEN.iter().any(|name| key.split('.').next() == Some(name));
        KeyChange { key: key.clone(), old: shown(old.get(key), hidden), new: shown(new.get(key), hidden), hidden }
    });
    changes.collect()
}

/// The values of a table by their dotted paths, such as `windows.allow`.
#[must_use]
pub fn flat(value: &Value) -> BTreeMap<String, &Value> {
    let mut keys = BTreeMap::new();
    flatten("", value, &mut keys);
    keys
}

fn flatten<'v>(path: &str, value: &'v Value, into: &mut BTreeMap<String, &'v Value>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                flatten(&path, value, into);
            }
        }
        value => drop(into.insert(path.to_owned(), value)),
    }
}

/// The value as a history may keep it: of bounded length, without onion addresses.
fn shown(value: &Value) -> Value {
    let text = value.to_string();
    let clean = without_onion_addresses(&text);
    if clean.chars().count() > VALUE_SHOWN_MAX {
        let cut: String = clean.chars().take(VALUE_SHOWN_MAX).collect();
        return Value::String(format!("{cut}..."));
    }
    if clean == text { value.clone() } else { Value::String(clean) }
}

/// What was done to a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// Keys differ.
    Changed,
    /// It is gone. What waits for it stays.
    Removed,
}

/// Who changed something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// Whoever has the admin token.
    Admin,
    /// The config files as they were when the gateway began; where, unless it is gone from there.
    Files(Option<String>),
    /// The config files as they were at a reload.
    Reload(Option<String>),
}
impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Admin => f.write_str("admin"),
            Self::Files(Some(place)) => write!(f, "file {place}"),
            Self::Files(None) => f.write_str("file"),
            Self::Reload(Some(place)) => write!(f, "reload {place}"),
            Self::Reload(None) => f.write_str("reload"),
        }
    }
}

/// One step of a history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AgreementChange {
    /// The version that it made.
    pub version: u64,
    /// When, by the gateway's clock, in UTC.
    pub at: Timestamp,
    /// `admin`, `file FILE:LINE`, `reload FILE:LINE`.
    pub who: String,
    /// What was done.
    pub kind: ChangeKind,
    /// What differs; empty for one that was added or removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<KeyChange>,
}

/// The versions of one destination's agreement. It outlives the destination, so that one that comes back goes on counting.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgreementLog {
    /// Rises with every change, from 1.
    pub version: u64,
    /// What is agreed now; absent while the destination is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now: Option<Canonical>,
    /// The last changes, oldest first; at most [`CHANGES_KEPT`].
    pub changes: Vec<AgreementChange>,
}

impl AgreementLog {
    /// What the next state would change, if anything.
    #[must_use]
    pub fn change(&self, next: Option<&Canonical>) -> Option<(ChangeKind, Vec<KeyChange>)> {
        match (&self.now, next) {
            (None, None) => None,
            (None, Some(_)) => Some((ChangeKind::Added, Vec::new())),
            (Some(_), None) => Some((ChangeKind::Removed, Vec::new())),
            (Some(now), Some(next)) if now == next => None,
            (Some(now), Some(next)) => Some((ChangeKind::Changed, differences(Some(now), Some(next)))),
        }
    }

    /// Takes note of the next state; whether it is a change.
    pub fn note(&mut self, next: Option<&Canonical>, at: Timestamp, who: &Who) -> bool {
        let Some((kind, changes)) = self.change(next) else { return false };
        self.version += 1;
        self.now = next.cloned();
        self.changes.push(AgreementChange { version: self.version, at, who: who.to_string(), kind, changes });
        let over = self.changes.len().saturating_sub(CHANGES_KEPT);
        self.changes.drain(..over);
        true
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    const ONION: &str = "2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid.onion";

    fn of(json: &str) -> Canonical {
        Canonical::of(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn what_changed_is_told_key_by_key_and_neither_address_nor_key() {
        let before = of(&format!("{{\"onion\":\"{ONION}\",\"lanes\":2,\"write_key\":{{\"file\":\"a\"}}}}"));
        let after = of(
            r#"{"onion":"other.onion","lanes":3,"windows":{"timezone":"Europe/Madrid"},"write_key":{"file":"b"},"format":"raw"}"#,
        );
        let told: Vec<String> = differences(Some(&before), Some(&after)).iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "format: \"cloudevents\" -> \"raw\"",
                "lanes: 2 -> 3",
                "onion: changed",
                "windows.timezone: not set -> \"Europe/Madrid\"",
                "write_key.file: changed",
            ]
        );
        let all = format!("{:?}{}", before, serde_json::to_string(&differences(None, Some(&before))).unwrap());
        assert!(!all.contains(&ONION[..20]) && !all.contains("\"a\""), "{all}");
    }

    #[test]
    fn one_form_for_toml_and_json() {
        let toml: RawDestination = toml::from_str("onion = \"x\"\nlanes = 2\nwindows.allow = []\n").unwrap();
        assert_eq!(Canonical::of(&toml), of(r#"{"lanes":2,"onion":"x","windows":{}}"#));
        assert_eq!(Canonical::of(&Canonical::of(&toml).raw().unwrap()), Canonical::of(&toml));
    }

    #[test]
    fn a_long_value_is_cut() {
        let long = of(&format!("{{\"windows\":{{\"timezone\":\"{}\"}}}}", "x".repeat(5_000)));
        let changes = differences(None, Some(&long));
        assert!(changes.iter().all(|change| change.to_string().len() < 2 * VALUE_SHOWN_MAX), "{changes:?}");
    }

    proptest! {
        #[test]
        fn versions_rise_by_one_with_each_change_and_history_tells_the_last_ones(
            lanes in proptest::collection::vec(proptest::option::of(1_u8..4), 0..80),
        ) {
            let mut log = AgreementLog::default();
            let mut changes = 0_u64;
            let mut last: Option<Canonical> = None;
            for lanes in lanes {
                let next = lanes.map(|lanes| of(&format!("{{\"lanes\":{lanes}}}")));
                let differs = next != last;
                changes += u64::from(differs);
                prop_assert_eq!(log.note(next.as_ref(), Timestamp::UNIX_EPOCH, &Who::Admin), differs);
                prop_assert_eq!(&log.now, &next);
                last = next;
            }
            prop_assert_eq!(log.version, changes);
            prop_assert_eq!(log.changes.len() as u64, changes.min(CHANGES_KEPT as u64));
            let first = changes - log.changes.len() as u64;
            for (index, change) in log.changes.iter().enumerate() {
                prop_assert_eq!(change.version, first + index as u64 + 1);
                prop_assert_eq!(change.kind == ChangeKind::Changed, !change.changes.is_empty());
            }
            let json = serde_json::to_string(&log).unwrap();
            prop_assert_eq!(serde_json::from_str::<AgreementLog>(&json).unwrap(), log);
        }
    }
}
