//! What can't be changed while the gateway runs: every section but destinations and routes, as key and value, to be compared.
//!
//! Only names are ever shown of what differs. A key that is absent has its default, so that writing a default down is no change.

use super::keys::KEYS;
use std::collections::{BTreeMap, BTreeSet};
use toml::de::{DeTable, DeValue};

/// What a reload changes.
const HOT: [&str; 3] = ["destination", "route", "version"];

/// Keys and values of all that needs a restart, such as `mqtt.port` and `1883`.
pub type Settings = BTreeMap<String, String>;

/// The settings of a config's table.
pub(super) fn of(table: &DeTable<'_>) -> Settings {
    let mut settings = Settings::new();
    for (name, value) in table {
        if !HOT.contains(&name.get_ref().as_ref()) {
            flatten(name.get_ref(), value.get_ref(), &mut settings);
        }
    }
    settings
}

fn flatten(path: &str, value: &DeValue<'_>, settings: &mut Settings) {
    match value {
        DeValue::Table(table) => {
            // That it is there means something by itself; an empty `[mqtt]` says nothing.
            if path == "matrix" {
                settings.insert(path.to_owned(), "there".to_owned());
            }
            for (name, value) in table {
                flatten(&format!("{path}.{}", name.get_ref()), value.get_ref(), settings);
            }
        }
        value => drop(settings.insert(path.to_owned(), written(value))),
    }
}

/// One text for one value, however it was written.
fn written(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(at) => at.to_string(),
        DeValue::Array(array) => {
            let values: Vec<String> = array.iter().map(|value| written(value.get_ref())).collect();
            format!("[{}]", values.join(", "))
        }
        DeValue::Table(table) => {
            let mut values: Vec<String> =
                table.iter().map(|(key, value)| format!("{} = {}", key.get_ref(), written(value.get_ref()))).collect();
            values.sort();
            format!("{{{}}}", values.join(", "))
        }
    }
}

fn value_of(settings: &Settings, key: &str) -> Option<String> {
    settings.get(key).cloned().or_else(|| {
        let default = KEYS.iter().find(|known| known.path == key)?.default;
        DeValue::parse(default).ok().map(|value| written(value.get_ref()))
    })
}

/// The keys that two configs differ in, and that the running gateway can't take over: it has to be started again for them.
#[must_use]
pub fn differences(running: &Settings, wanted: &Settings) -> Vec<String> {
    let keys: BTreeSet<&String> = running.keys().chain(wanted.keys()).collect();
    keys.into_iter().filter(|key| value_of(running, key) != value_of(wanted, key)).cloned().collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    fn settings(text: &str) -> Settings {
        of(DeTable::parse(text).unwrap().get_ref())
    }

    fn differ(running: &str, wanted: &str) -> Vec<String> {
        differences(&settings(running), &settings(wanted))
    }

    #[test]
    fn what_needs_a_restart_is_named_by_its_key() {
        assert_eq!(differ("mqtt.port = 1", "[mqtt]\nport = 2\nusername = \"a\""), ["mqtt.port", "mqtt.username"]);
        assert_eq!(differ("", "[matrix]\nuser = \"a\""), ["matrix", "matrix.user"]);
        assert_eq!(differ("admin.hosts = [\"a\"]", "admin.hosts = [\"b\"]"), ["admin.hosts"]);
    }

    #[test]
    fn destinations_routes_and_written_defaults_need_none() {
        let none: [String; 0] = [];
        assert_eq!(differ("", "version = 1\n[[route]]\ntopic = \"a\"\n[destination.a]\nlanes = 1"), none);
        assert_eq!(differ("[mqtt]", "[mqtt]\nport = 1_883\nenabled = true"), none);
    }

    proptest! {
        #[test]
        fn nothing_differs_from_itself_and_a_change_is_seen_both_ways(a in 1_u16..99, b in 1_u16..99, user in "[a-c]{0,2}") {
            let first = format!("[mqtt]\nport = {a}\nusername = \"{user}\"");
            let second = format!("[mqtt]\nport = {b}\nusername = \"{user}\"");
            prop_assert!(differ(&first, &first).is_empty());
            prop_assert_eq!(differ(&first, &second).is_empty(), a == b);
            prop_assert_eq!(differ(&first, &second), differ(&second, &first));
        }
    }
}
