//! Where each key of the config stands: file and line, or the setting of the environment. Kept while the gateway runs, so that the
//! config in force can be shown with the place of every value.
//!
//! Values of destinations are not kept here: the Registry has them. An onion address is kept nowhere here (PR-4).

use super::{
    file::DestinationSource,
    source::{Place, Texts},
};
use crate::{config::keys::ConfigKey, onion::without_onion_addresses};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    ops::{Bound, Range},
};
use toml::de::{DeTable, DeValue};

/// The places of all keys, and the values of those that are no destination's.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Origins {
    /// Files and settings of the environment, by number: thousands of keys stand in few of them.
    names: Vec<String>,
    keys: BTreeMap<Box<str>, Origin>,
}

#[derive(Debug, Clone, PartialEq)]
struct Origin {
    /// Absent for a destination's, and for what is not shown.
    value: Option<Value>,
    name: u32,
    /// From 1; 0 in the environment.
    line: u32,
}

/// One key that is written.
#[derive(Debug, Clone, PartialEq)]
pub struct WrittenKey<'o> {
    /// Its path, such as `mqtt.port` or `route[0].topic`.
    pub key: &'o str,
    /// Its value; absent where it holds an onion address.
    pub value: Option<&'o Value>,
    /// Where it stands.
    pub source: DestinationSource,
}

impl Origins {
    /// Those of a config's table.
    pub(super) fn of(table: &DeTable<'_>, texts: &Texts<'_>) -> Self {
        let mut walk = Walk { texts, lines: texts.lines(), origins: Self::default(), names: BTreeMap::new() };
        walk.table("", table, true);
        walk.origins
    }

    /// Where a key stands, if it is written.
    #[must_use]
    pub fn source(&self, key: &str) -> Option<DestinationSource> {
        self.keys.get(key).map(|origin| self.source_of(origin))
    }

    /// The keys below a section, in order: all but the destinations' have their values.
    pub fn below<'o>(&'o self, section: &'o str) -> impl Iterator<Item = WrittenKey<'o>> {
        let of = move |key: &str| {
            key.strip_prefix(section).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        let from = self.keys.range::<str, _>((Bound::Included(section), Bound::Unbounded));
        let keys = from.take_while(move |(key, _)| key.starts_with(section)).filter(move |(key, _)| of(key));
        keys.map(|(key, origin)| WrittenKey { key, value: origin.value.as_ref(), source: self.source_of(origin) })
    }

    /// The keys that are neither a destination's nor a route's, in order.
    pub fn settings(&self) -> impl Iterator<Item = WrittenKey<'_>> {
        let hot = |key: &str| key.starts_with("destination.") || key.starts_with("route[") || key == "route";
        let keys = self.keys.iter().filter(move |(key, _)| !hot(key));
        keys.map(|(key, origin)| WrittenKey { key, value: origin.value.as_ref(), source: self.source_of(origin) })
    }

    fn source_of(&self, origin: &Origin) -> DestinationSource {
        let name = self.names.get(origin.name as usize).cloned().unwrap_or_default();
        match origin.line {
            0 => DestinationSource::Environment { name },
            line => DestinationSource::File { file: name, line },
        }
    }
}

struct Walk<'t, 'i> {
    texts: &'t Texts<'i>,
    /// Where the lines of each file end.
    lines: Vec<Vec<usize>>,
    origins: Origins,
    names: BTreeMap<String, u32>,
}

impl Walk<'_, '_> {
    fn table(&mut self, path: &str, table: &DeTable<'_>, with_values: bool) {
        for (name, value) in table {
            let name = name.get_ref();
            let path = if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
            let with_values = with_values && path != "destination";
            match value.get_ref() {
                DeValue::Table(table) => self.table(&path, table, with_values),
                DeValue::Array(array) if path == "route" => {
                    for (index, element) in array.iter().enumerate() {
                        if let DeValue::Table(table) = element.get_ref() {
                            self.table(&format!("{path}[{index}]"), table, with_values);
                        }
                    }
                }
                leaf => {
                    let span = value.span();
                    let value = with_values.then(|| json(leaf)).filter(|value| {
                        let text = value.to_string();
                        without_onion_addresses(&text) == text
                    });
                    let (name, line) = self.place(span);
                    self.origins.keys.insert(path.into(), Origin { value, name, line });
                }
            }
        }
    }

    /// The number of the file or setting, and the line.
    fn place(&mut self, span: Range<usize>) -> (u32, u32) {
        let (name, line) = match self.texts.place(span) {
            Place::Text(file, span) => {
                let ends = self.lines.get(file).map_or(&[][..], Vec::as_slice);
                let line = ends.partition_point(|end| *end < span.start) + 1;
                (self.texts.name(file).to_owned(), u32::try_from(line).unwrap_or(u32::MAX))
            }
            Place::Environment(name) => (name, 0),
            Place::Nowhere => (self.texts.name(0).to_owned(), 1),
        };
        if let Some(number) = self.names.get(&name) {
            return (*number, line);
        }
        let number = u32::try_from(self.origins.names.len()).unwrap_or(u32::MAX);
        self.origins.names.push(name.clone());
        self.names.insert(name, number);
        (number, line)
    }
}

/// A value as JSON. Moments become texts.
fn json(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(number) => number_of(&number.to_string()),
        DeValue::Float(number) => number_of(&number.to_string()),
        DeValue::Boolean(value) => Value::Bool(*value),
        DeValue::Datetime(at) => Value::String(at.to_string()),
        DeValue::Array(array) => Value::Array(array.iter().map(|value| json(value.get_ref())).collect()),
        DeValue::Table(table) => {
            let pairs = table.iter().map(|(key, value)| (key.get_ref().to_string(), json(value.get_ref())));
            Value::Object(pairs.collect())
        }
    }
}

/// What can't stand in JSON (0x10, infinity) stays as it is written.
fn number_of(text: &str) -> Value {
    let number = serde_json::from_str(&text.replace('_', "")).ok().filter(Value::is_number);
    number.unwrap_or_else(|| Value::String(text.to_owned()))
}

/// What holds for a key that is absent, as JSON; `None` where there is no such value.
#[must_use]
pub fn default_of(key: &ConfigKey) -> Option<Value> {
    DeValue::parse(key.default).ok().map(|value| json(value.get_ref()))
}
