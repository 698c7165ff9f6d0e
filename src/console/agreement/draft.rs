//! An agreement as a form: its main keys as lines of text. What has no field is kept as it is.
//!
//! The text of each field is kept as it was typed, so that a form with a mistake comes back as it was sent. Rules for windows stand one a
//! line, in the notation of `tidegate destination windows set`; a line that says what a rule said before stands for that very rule, whatever
//! more it has.

use crate::{
    admin::problem::ValueError,
    cli::{destination::rule_text, typed_windows},
};
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use tidegate_schemas::{
    config::raw::RawDestination,
    window::{RawDenial, RawOnce, RawWindow},
};

/// The keys of an agreement as JSON.
pub(super) type Keys = Map<String, Value>;

/// What a field holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A text.
    Text,
    /// A whole number.
    Number,
    /// Texts with commas between.
    List,
    /// Whole lines.
    Rules,
    /// One of these values, each with its words.
    Choice(&'static [(&'static str, &'static str)]),
    /// One of the lifetime's keys: the choice and its value are two fields.
    Lifetime,
}

/// One field.
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) label: &'static str,
    pub(super) hint: &'static str,
    pub(super) kind: Kind,
    /// Where its value stands, and errors about it.
    path: &'static [&'static str],
}

const fn field(
    name: &'static str,
    label: &'static str,
    hint: &'static str,
    kind: Kind,
    path: &'static [&'static str],
) -> Field {
    Field { name, label, hint, kind, path }
}

use Kind::{Choice, List, Number, Rules, Text};

/// All of them, in the order of the page.
pub(super) const FIELDS: &[Field] = &[
    field("timezone", "Time zone of the windows", "such as Europe/Madrid; empty: UTC", Text, &["windows", "timezone"]),
    field(
        "allow",
        "Open",
        "one rule a line: mon-fri 22:00-02:00, sat,sun, 1-7,last 06:00-07:00, or 0 */6 * * * for 20m; behind # a note; empty: always",
        Rules,
        &["windows", "allow"],
    ),
    field(
        "deny",
        "Closed, whatever opens it",
        "one rule a line, as above, or 2027-12-24T20:00 until 2027-12-26T08:00",
        Rules,
        &["windows", "deny"],
    ),
    field("once", "Open once", "one a line: 2027-03-02T10:00 for 30m", Rules, &["windows", "once"]),
    field("cutoff", "Start nothing new before a closing for", "such as 2m", Text, &["windows", "cutoff"]),
    field("grace", "What is under way may go on after it for", "empty: 30s", Text, &["windows", "grace"]),
    field(
        "steps",
        "Try again after",
        "with commas between: 15s, 1m, 5m; the last one repeats; empty: 15s, 1m, 5m, 15m",
        List,
        &["retry", "steps"],
    ),
    field(
        "lifetime",
        "A message lives by",
        "",
        Choice(&[
            ("", "the default: 14d"),
            ("max_age", "its age"),
            ("attempts", "failed attempts"),
            ("missed_windows", "openings that closed"),
        ]),
        &["lifetime"],
    ),
    field("life", "and that is at most", "an age such as 14d, or a number", Kind::Lifetime, &["lifetime"]),
    field(
        "notify_after",
        "Tell people at these ages of the oldest message",
        "with commas between: 1d, 3d",
        List,
        &["notify_after"],
    ),
    field("lanes", "Lanes: circuits at the same time", "empty: 2", Number, &["lanes"]),
    field(
        "order",
        "Order",
        "",
        Choice(&[("", "the default: of each device"), ("per_device", "of each device"), ("none", "none")]),
        &["order"],
    ),
    field("messages", "Messages that may wait", "empty: 50000", Number, &["limits", "messages"]),
    field("bytes", "and their bodies", "such as 64MiB", Text, &["limits", "bytes"]),
    field(
        "on_full",
        "When that is reached",
        "",
        Choice(&[
            ("", "the default: no more are taken"),
            ("reject", "no more are taken"),
            ("drop_oldest", "the oldest is dropped"),
        ]),
        &["limits", "on_full"],
    ),
    field(
        "success",
        "Delivered means",
        "",
        Choice(&[
            ("", "the default: a receipt where there is a receipt key, else any 2xx"),
            ("2xx", "any 2xx"),
            ("receipt", "a signed receipt"),
        ]),
        &["success"],
    ),
    field(
        "format",
        "Format",
        "",
        Choice(&[
            ("cloudevents", "cloudevents"),
            ("cloudevents-batch", "cloudevents-batch"),
            ("private-iot", "private-iot"),
            ("raw", "raw"),
        ]),
        &["format"],
    ),
    field("receiver_memory", "The receiver remembers message ids for", "such as 30d", Text, &["receiver_memory"]),
    field("receipt_key", "Receipt key", "the public key that tidegate receiver prints", Text, &["receipt_key"]),
    field("write_key", "File of the write key", "in the folder of the gateway's config", Text, &["write_key", "file"]),
    field(
        "client_auth",
        "File of the client authorization key",
        "in the folder of the gateway's config",
        Text,
        &["client_auth", "file"],
    ),
    field("onion", "Onion address", "it is not shown; empty: it stays as it is", Text, &["onion"]),
];

/// What stands in the fields, and what is wrong with it.
#[derive(Default)]
pub(super) struct Draft {
    texts: BTreeMap<&'static str, String>,
    /// By field.
    errors: BTreeMap<&'static str, Vec<String>>,
    /// What is wrong and has no field.
    pub(super) elsewhere: Vec<String>,
    /// What is to be known of it.
    pub(super) notice: Option<String>,
    /// The name of a new one, as it was typed.
    pub(super) name: String,
}

impl Draft {
    /// As it is agreed now.
    pub(super) fn of(keys: &Keys) -> Self {
        let texts = FIELDS.iter().map(|field| (field.name, text_of(field, keys)));
        Self { texts: texts.collect(), ..Self::default() }
    }

    /// As it was sent.
    pub(super) fn sent(value: impl Fn(&str) -> Option<String>) -> Self {
        let texts = FIELDS.iter().map(|field| (field.name, value(field.name).unwrap_or_default().replace('\r', "")));
        Self { texts: texts.collect(), ..Self::default() }
    }

    pub(super) fn text(&self, field: &str) -> &str {
        self.texts.get(field).map_or("", String::as_str)
    }

    pub(super) fn error(&self, field: &str) -> Option<String> {
        self.errors.get(field).map(|errors| errors.join("; "))
    }

    /// Notes what is wrong with a field.
    pub(super) fn wrong(&mut self, field: &'static str, what: String) {
        self.errors.entry(field).or_default().push(what);
    }

    /// Whether nothing is wrong, as far as is known.
    pub(super) fn is_well(&self) -> bool {
        self.errors.is_empty() && self.elsewhere.is_empty()
    }

    /// The destination with what stands in the fields; the rest is that of these keys. What can't be read is noted.
    pub(super) fn made_of(&mut self, base: &Keys) -> Option<RawDestination> {
        let mut keys = base.clone();
        for field in FIELDS {
            if let Err(wrong) = self.put(field, base, &mut keys) {
                self.wrong(field.name, wrong);
            }
        }
        if !self.is_well() {
            return None;
        }
        match serde_json::from_value(Value::Object(keys)) {
            Ok(raw) => Some(raw),
            Err(error) => {
                self.elsewhere.push(format!("this agreement can't be changed here: {error}"));
                None
            }
        }
    }

    fn put(&self, field: &Field, base: &Keys, keys: &mut Keys) -> Result<(), String> {
        let text = self.text(field.name).trim();
        // What was not touched is not written anew.
        if text == text_of(field, base).trim() && field.name != "lifetime" && field.kind != Kind::Lifetime {
            return Ok(());
        }
        let value = match field.kind {
            _ if text.is_empty() && field.kind != Kind::Lifetime => None,
            Text | Choice(_) if field.name != "lifetime" => Some(text.into()),
            Number => Some(number(text)?),
            List => Some(text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect()),
            Rules => Some(rules(field, text, base)?),
            Choice(_) => return Ok(()),
            Text | Kind::Lifetime => return self.put_lifetime(text, base, keys),
        };
        if field.name == "steps" && value.is_none() {
            keys.remove("retry");
            return Ok(());
        }
        set(keys, field.path, value);
        Ok(())
    }

    fn put_lifetime(&self, text: &str, base: &Keys, keys: &mut Keys) -> Result<(), String> {
        let kind = self.text("lifetime");
        let before = base.get("lifetime").and_then(Value::as_object);
        let value = match kind {
            "" if text.is_empty() => {
                keys.remove("lifetime");
                return Ok(());
            }
            "" => return Err("say what it is by: age, attempts or openings".to_owned()),
            _ if text.is_empty() => return Err("say how much that is at most".to_owned()),
            "max_age" => text.into(),
            _ => number(text)?,
        };
        let mut lifetime = Keys::new();
        lifetime.insert(kind.to_owned(), value);
        if let Some(ages) = before.and_then(|before| before.get("ages")).filter(|_| kind == "max_age") {
            lifetime.insert("ages".to_owned(), ages.clone());
        }
        keys.insert("lifetime".to_owned(), lifetime.into());
        Ok(())
    }

    /// Notes each error beside the field that it belongs to.
    pub(super) fn note(&mut self, errors: &[ValueError]) {
        for ValueError { pointer, detail, .. } in errors {
            let parts: Vec<&str> = pointer.split('/').skip(1).collect();
            let parts = if parts == ["windows"] { vec!["windows", "allow"] } else { parts };
            let field = FIELDS.iter().filter(|field| parts.starts_with(field.path) || parts == field.path[..1]);
            // The lifetime's errors are about its value.
            let field = field.max_by_key(|field| (parts.starts_with(field.path), field.path.len()));
            let Some(field) = field else {
                self.elsewhere.push(if pointer.is_empty() { detail.clone() } else { format!("{pointer}: {detail}") });
                continue;
            };
            let line = parts.get(field.path.len()).filter(|_| field.kind == Rules).and_then(|index| index.parse().ok());
            let said = match line.map(|index: usize| index + 1) {
                Some(line) => format!("rule {line}: {detail}"),
                None => detail.clone(),
            };
            self.wrong(field.name, said);
        }
    }
}

fn number(text: &str) -> Result<Value, String> {
    text.parse::<u64>().map(Value::from).map_err(|_| format!("a whole number, not {text:?}"))
}

fn at<'k>(keys: &'k Keys, path: &[&str]) -> Option<&'k Value> {
    let (last, tables) = path.split_last()?;
    let mut table = keys;
    for name in tables {
        table = table.get(*name)?.as_object()?;
    }
    table.get(*last)
}

/// Sets or removes a value; a table that is left empty goes with it.
fn set(keys: &mut Keys, path: &[&str], value: Option<Value>) {
    let [first, rest @ ..] = path else { return };
    if rest.is_empty() {
        match value {
            Some(value) => drop(keys.insert((*first).to_owned(), value)),
            None => drop(keys.remove(*first)),
        }
        return;
    }
    let table = keys.entry(*first).or_insert_with(|| Value::Object(Keys::new()));
    if let Value::Object(table) = table {
        set(table, rest, value);
        if table.is_empty() {
            keys.remove(*first);
        }
    }
}

fn text_of(field: &Field, keys: &Keys) -> String {
    let plain = |value: &Value| match value {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    };
    let lifetime = keys.get("lifetime").and_then(Value::as_object);
    let of_life = ["max_age", "attempts", "missed_windows"].into_iter();
    match field.kind {
        Choice(_) if field.name == "lifetime" => {
            lifetime.and_then(|life| of_life.into_iter().find(|key| life.contains_key(*key))).unwrap_or("").to_owned()
        }
        Kind::Lifetime => {
            lifetime.and_then(|life| of_life.into_iter().find_map(|key| life.get(key))).map(plain).unwrap_or_default()
        }
        Choice(_) | Text | Number => at(keys, field.path).map(plain).unwrap_or_default(),
        List => {
            let values = at(keys, field.path).and_then(Value::as_array);
            values.map(|values| values.iter().map(plain).collect::<Vec<_>>().join(", ")).unwrap_or_default()
        }
        Rules => lines(field, keys).iter().map(|(line, _)| format!("{line}\n")).collect(),
    }
}

/// The rules of a field, each with its line.
fn lines<'k>(field: &Field, keys: &'k Keys) -> Vec<(String, &'k Value)> {
    let values = at(keys, field.path).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    values.iter().map(|value| (line(field.name, value), value)).collect()
}

/// The rules of a key such as `windows.allow` in a line, as they stand in the form.
pub(super) fn rules_text(key: &str, value: &Value) -> Option<String> {
    let field = FIELDS.iter().find(|field| field.kind == Rules && field.path.join(".") == key)?;
    let rules: Vec<String> = value.as_array()?.iter().map(|rule| line(field.name, rule)).collect();
    Some(rules.join("; "))
}

fn line(field: &str, value: &Value) -> String {
    let read = |value: &Value| match field {
        "allow" => serde_json::from_value(value.clone()).ok().map(|window: RawWindow| rule_text(&window)),
        "deny" => serde_json::from_value(value.clone()).ok().map(|denial: RawDenial| denial_text(&denial)),
        _ => serde_json::from_value(value.clone()).ok().map(|once: RawOnce| once_text(&once)),
    };
    read(value).unwrap_or_else(|| value.to_string()).replace('\n', " ")
}

fn denial_text(denial: &RawDenial) -> String {
    let RawDenial { days, dates, months, from, to, until, cron, lasts, note } = denial.clone();
    match (&from, until) {
        (Some(from), Some(until)) => format!("{from} until {until}{}", note_text(note.as_ref())),
        _ => rule_text(&RawWindow { days, dates, months, from, to, cron, lasts, note }),
    }
}

fn once_text(once: &RawOnce) -> String {
    format!("{} for {}{}", once.at, once.lasts, note_text(once.note.as_ref()))
}

fn note_text(note: Option<&String>) -> String {
    note.map(|note| format!(" # {note}")).unwrap_or_default()
}

fn rules(field: &Field, text: &str, base: &Keys) -> Result<Value, String> {
    let known = lines(field, base);
    let mut wrong = Vec::new();
    let mut made = Vec::new();
    for typed in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        // One that is there already is that one, with all that a line does not say.
        if let Some((_, value)) = known.iter().find(|(line, _)| line.trim() == typed) {
            made.push((*value).clone());
            continue;
        }
        let read = match field.name {
            "allow" => typed_windows::rule(typed).map(json),
            "deny" => denial(typed).map(json),
            _ => once(typed).map(json),
        };
        match read {
            Ok(value) => made.push(value),
            Err(error) => wrong.push(format!("rule {}: {error}", made.len() + wrong.len() + 1)),
        }
    }
    if wrong.is_empty() { Ok(Value::Array(made)) } else { Err(wrong.join("; ")) }
}

fn json(value: impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

fn denial(text: &str) -> Result<RawDenial, String> {
    let (said, note) = typed_windows::noted(text);
    if let Some((from, until)) = said.split_once(" until ") {
        let (from, until) = (Some(from.trim().to_owned()), Some(until.trim().to_owned()));
        return Ok(RawDenial { from, until, note, ..RawDenial::default() });
    }
    let RawWindow { days, dates, months, from, to, cron, lasts, note } = typed_windows::rule(text)?;
    Ok(RawDenial { days, dates, months, from, to, until: None, cron, lasts, note })
}

fn once(text: &str) -> Result<RawOnce, String> {
    let (said, note) = typed_windows::noted(text);
    let (at, lasts) = said.split_once(" for ").ok_or_else(|| format!("TIME for LENGTH, not {text:?}"))?;
    Ok(RawOnce { at: at.trim().to_owned(), lasts: lasts.trim().to_owned(), note })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use serde_json::json;
    use tidegate_schemas::history::{Canonical, differences};

    fn keys(value: Value) -> Keys {
        value.as_object().unwrap().clone()
    }

    fn full() -> Keys {
        keys(json!({
            "windows": {
                "timezone": "Europe/Madrid",
                "allow": [
                    { "days": "mon-fri", "from": "22:00", "to": "02:00", "note": "nights" },
                    { "from": "05:00", "to": "06:00" },
                    { "days": "sat,sun" },
                    { "dates": "1-7,last", "months": "jan-mar", "from": "06:00", "to": "07:00" },
                    { "cron": "0 */6 * * *", "for": "20m" },
                ],
                "deny": [{ "from": "2027-12-24T20:00", "until": "2027-12-26T08:00", "note": "moving" }, { "days": "mon", "to": "06:00" }],
                "once": [{ "at": "2027-03-02T10:00", "for": "30m" }],
                "guard": "5s",
            },
            "format": "raw", "retry": { "steps": ["15s", "1m"], "jitter": 0.25 }, "lifetime": { "max_age": "9d", "ages": "while_open" },
            "limits": { "messages": 500, "device": { "per_minute": 6 } }, "signal": { "accept": true }, "order": "none",
            "write_key": { "file": "a" }, "notify_after": ["1d", "3d"], "head_of_line": { "park_after": 3 },
        }))
    }

    fn changes(base: &Keys, raw: &RawDestination) -> Vec<String> {
        let before: RawDestination = serde_json::from_value(Value::Object(base.clone())).unwrap();
        let changes = differences(Some(&Canonical::of(&before)), Some(&Canonical::of(raw)));
        changes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_form_that_nobody_touched_changes_nothing() {
        for base in
            [full(), keys(json!({ "format": "raw" })), keys(json!({ "format": "raw", "lifetime": { "attempts": 30 } }))]
        {
            let shown = Draft::of(&base);
            // As a browser sends it.
            let mut sent = Draft::sent(|name| Some(shown.text(name).replace('\n', "\r\n")));
            let raw = sent.made_of(&base).unwrap();
            assert_eq!(changes(&base, &raw), Vec::<String>::new());
        }
    }

    #[test]
    fn what_is_changed_in_a_field_is_changed_alone() {
        let base = full();
        let shown = Draft::of(&base);
        let change = |name: &'static str, text: &str| {
            let mut draft =
                Draft::sent(|field| Some(if field == name { text.to_owned() } else { shown.text(field).to_owned() }));
            changes(&base, &draft.made_of(&base).unwrap())
        };
        assert_eq!(change("lanes", "3"), ["lanes: not set -> 3"]);
        assert_eq!(change("lanes", " "), [""; 0]);
        assert_eq!(change("messages", ""), ["limits.messages: 500 -> not set"]);
        assert_eq!(change("life", "10d"), ["lifetime.max_age: \"9d\" -> \"10d\""]);
        assert_eq!(change("steps", "1m"), ["retry.steps: [\"15s\",\"1m\"] -> [\"1m\"]"]);
        assert_eq!(change("timezone", ""), ["windows.timezone: \"Europe/Madrid\" -> not set"]);
        assert_eq!(change("write_key", ""), ["write_key.file: changed"]);
        // The lines that stay are the rules that they were.
        let allow = change("allow", "daily 05:00-06:00\nmon 01:00-02:00 # new\n");
        let new = r#"[{"from":"05:00","to":"06:00"},{"days":"mon","from":"01:00","note":"new","to":"02:00"}]"#;
        assert!(allow.len() == 1 && allow[0].ends_with(new), "{allow:?}");
    }

    #[test]
    fn each_mistake_stands_beside_its_field_and_the_input_stays() {
        let mut draft = Draft::sent(|name| {
            Some(match name {
                "lanes" => "many".to_owned(),
                "allow" => "mon-fri\n0 * * * *".to_owned(),
                "lifetime" => "attempts".to_owned(),
                _ => String::new(),
            })
        });
        assert!(draft.made_of(&Keys::new()).is_none());
        assert_eq!(draft.error("lanes").unwrap(), "a whole number, not \"many\"");
        assert!(draft.error("allow").unwrap().starts_with("rule 2: a cron rule is"), "{:?}", draft.error("allow"));
        assert!(draft.error("life").is_some() && draft.text("allow").contains("0 * * * *"));
        let mut draft = Draft::default();
        let error = |pointer: &str| ValueError { pointer: pointer.into(), detail: "no".into(), place: None };
        draft.note(&[
            error("/windows/allow/1/cron"),
            error("/windows/timezone"),
            error("/lifetime/max_age"),
            error("/write_key"),
            error("/breaker/failures"),
        ]);
        assert_eq!(draft.error("allow").unwrap(), "rule 2: no");
        assert_eq!(
            [draft.error("timezone"), draft.error("life"), draft.error("write_key")].map(Option::unwrap),
            ["no", "no", "no"]
        );
        assert_eq!(draft.elsewhere, ["/breaker/failures: no"]);
    }
}
