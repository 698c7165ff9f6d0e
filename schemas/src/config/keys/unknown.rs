//! Keys that don't exist: found by the list of all keys, and told with what may have been meant.

use super::KEYS;
use crate::config::{Problem, suggest};
use toml::de::{DeTable, DeValue};

/// Finds the keys that don't exist, takes them out of the table, and tells where they stand and what was meant.
pub fn take_unknown(table: &mut DeTable<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    walk(table, "", "", &mut problems);
    problems
}

/// The names that may follow a pattern; empty for one that has none.
fn children(pattern: &str) -> Vec<&'static str> {
    let mut names: Vec<&'static str> = Vec::new();
    for key in KEYS {
        let rest = if pattern.is_empty() {
            Some(key.path)
        } else {
            key.path.strip_prefix(pattern).and_then(|rest| rest.strip_prefix('.'))
        };
        if let Some(name) = rest.and_then(|rest| rest.split(['.', '[']).next())
            && !names.contains(&name)
        {
            names.push(name);
        }
    }
    names
}

fn walk(table: &mut DeTable<'_>, pattern: &str, path: &str, problems: &mut Vec<Problem>) {
    let known = children(pattern);
    if known.is_empty() {
        // A table where a value belongs: serde says so.
        return;
    }
    let any = known.contains(&"*");
    let join = |base: &str, name: &str| if base.is_empty() { name.to_owned() } else { format!("{base}.{name}") };
    let mut strangers: Vec<String> = Vec::new();
    for (name, value) in &mut *table {
        let name: &str = name.get_ref();
        let path = join(path, name);
        if !any && !known.contains(&name) {
            problems.push(Problem::new(path, format!("there is no key {name:?} here"), meant(name, pattern, &known)));
            strangers.push(name.to_owned());
            continue;
        }
        let pattern = join(pattern, if any { "*" } else { name });
        match value.get_mut() {
            DeValue::Table(table) => walk(table, &pattern, &path, problems),
            DeValue::Array(array) => {
                for (index, value) in array.iter_mut().enumerate() {
                    if let DeValue::Table(table) = value.get_mut() {
                        walk(table, &format!("{pattern}[]"), &format!("{path}[{index}]"), problems);
                    }
                }
            }
            _ => {}
        }
    }
    for name in strangers {
        table.remove(name.as_str());
    }
}

/// What may have been meant by an unknown key: a near word here, the same word elsewhere, or one of these.
fn meant(name: &str, pattern: &str, known: &[&'static str]) -> String {
    if let Some(near) = suggest::nearest(name, known.iter().copied()) {
        return format!("did you mean {near:?}?");
    }
    let elsewhere = KEYS.iter().find(|key| key.path.rsplit(['.', ']']).next() == Some(name) && key.path != name);
    match elsewhere {
        Some(key) if !key.path.starts_with(pattern) || pattern.is_empty() => format!("it belongs to {}", key.path),
        _ => format!("known here: {}", known.join(", ")),
    }
}
