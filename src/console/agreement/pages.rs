//! The pages on which agreements are changed.

use super::{
    ADD, HERE,
    draft::{Draft, FIELDS, Field, Keys, Kind, rules_text},
};
use crate::{
    admin::App,
    cli::agreement as words,
    console::{
        frame::Frame,
        guard::Visitor,
        sheet::{Button, Cell, Input, Part, Questions, Sheet, Table, heads, utc},
    },
    web::words::count,
};
use actix_web::{HttpResponse, http::StatusCode};
use jiff::Timestamp;
use serde_json::Value;
use tidegate_schemas::{
    config::{file::DestinationSource, raw::RawDestination},
    history::{Canonical, ChangeKind, KeyChange, differences, flat},
    id::DestinationId,
    messages::registry::WrittenAgreement,
    view::ChangeView,
    window::Opening,
};

/// A form.
pub(super) struct Editing {
    /// Whose agreement; absent for a new one.
    pub(super) id: Option<DestinationId>,
    /// The version that it was made of.
    pub(super) version: Option<u64>,
    pub(super) draft: Draft,
}

/// A change of another version than the present one.
pub(super) struct Conflict<'c> {
    pub(super) id: &'c DestinationId,
    /// What is there now.
    pub(super) written: &'c WrittenAgreement,
    pub(super) made_of: u64,
    pub(super) draft: Draft,
}

impl Editing {
    /// Of an agreement as it is.
    pub(super) fn of(id: &DestinationId, written: &WrittenAgreement) -> Self {
        let mut draft = Draft::of(&written.keys);
        draft.notice = written.broken.as_ref().map(|reason| format!("It can't be used as it is: {reason}"));
        Self { id: Some(id.clone()), version: Some(written.version), draft }
    }

    /// Of one that isn't there yet.
    pub(super) fn new() -> Self {
        Self { id: None, version: None, draft: Draft::of(&Keys::new()) }
    }

    fn title(&self) -> String {
        self.id.as_ref().map_or_else(|| "Add a destination".to_owned(), |id| format!("Change {id}"))
    }

    fn place(&self, act: &str) -> String {
        self.id.as_ref().map_or_else(|| ADD.to_owned(), |id| format!("{HERE}/{id}/{act}"))
    }

    /// What says of what the form is.
    fn hidden(&self) -> Vec<(String, String)> {
        self.version.map(|version| ("version".to_owned(), version.to_string())).into_iter().collect()
    }

    /// All that stands in it.
    fn carried(&self) -> Vec<(String, String)> {
        let fields = FIELDS.iter().map(|field| (field.name.to_owned(), self.draft.text(field.name).to_owned()));
        let new = self.id.is_none();
        let name = [("name", self.draft.name.trim()), ("new", "1")].into_iter().filter(|_| new);
        let name = name.map(|(key, value)| (key.to_owned(), value.to_owned()));
        self.hidden().into_iter().chain(name).chain(fields).collect()
    }

    /// The form.
    pub(super) fn page(self, visitor: Visitor) -> HttpResponse {
        let mut inputs = Vec::new();
        if self.id.is_none() {
            inputs.push(Input {
                name: "name",
                label: "Name",
                hint: "its alias: a-z, 0-9 and -",
                value: self.draft.name.clone(),
                error: self.draft.error("name"),
                ..Input::default()
            });
        }
        // Without an address there is no destination; one that is there has one.
        let of_address = |field: &&Field| field.name == "onion" && self.id.is_none();
        let fields = FIELDS.iter().filter(of_address).chain(FIELDS.iter().filter(|field| !of_address(field)));
        inputs.extend(fields.map(|field| {
            let new_address = of_address(&field);
            let value = self.draft.text(field.name).to_owned();
            Input {
                name: field.name,
                label: field.label,
                hint: if new_address { "as tidegate receiver prints it" } else { field.hint },
                lines: if field.kind == Kind::Rules { value.lines().count().clamp(2, 12) } else { 0 },
                choices: if let Kind::Choice(choices) = field.kind { choices } else { &[] },
                value,
                error: self.draft.error(field.name),
            }
        }));
        let wrong: Vec<Cell> = self.draft.elsewhere.iter().chain(&self.draft.notice).map(Cell::bad).collect();
        let status = if self.draft.is_well() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
        let lead = match (&self.version, status == StatusCode::OK) {
            (_, false) => "Nothing was changed: something can't be kept, and stands beside its field.".to_owned(),
            (Some(version), _) => {
                format!("Made of version {version}. Nothing changes before it is saved from the preview.")
            }
            (None, _) => "Nothing is made before it is saved from the preview.".to_owned(),
        };
        let mut sheet = Sheet::new(Frame::of(visitor, HERE, self.title()), lead);
        if !wrong.is_empty() {
            sheet = sheet.with(Part::Notes { title: "What is wrong", notes: wrong, calm: "" });
        }
        let questions = Questions {
            title: "The agreement",
            place: self.place("preview"),
            hidden: self.hidden(),
            inputs,
            buttons: vec![Button { label: "Preview", ..Button::default() }],
            note: "Keys that have no field here stay as they are.",
        };
        sheet.with(Part::Questions(questions)).answer_as(status)
    }
}

impl Conflict<'_> {
    /// Both, and ways on.
    pub(super) fn page(mut self, visitor: Visitor) -> HttpResponse {
        let (id, now) = (self.id, self.written.version);
        let frame = Frame::of(visitor, HERE, format!("{id} was changed meanwhile"));
        let lead =
            format!("It is at version {now} now; yours was made of version {}. Nothing was changed.", self.made_of);
        let theirs: Option<RawDestination> = serde_json::from_value(Value::Object(self.written.keys.clone())).ok();
        let yours = self.draft.made_of(&self.written.keys);
        let differ = match (theirs, yours) {
            (Some(theirs), Some(yours)) => differences(Some(&Canonical::of(&theirs)), Some(&Canonical::of(&yours))),
            _ => Vec::new(),
        };
        let editing = Editing { id: Some(id.clone()), version: Some(now), draft: self.draft };
        let questions = Questions {
            title: "How to go on",
            place: editing.place("preview"),
            hidden: editing.carried(),
            inputs: vec![],
            buttons: vec![
                Button { label: "Preview yours over it", ..Button::default() },
                Button { label: "Change yours first", place: editing.place("edit"), quiet: true, ..Button::default() },
            ],
            note: "",
        };
        let anew = Cell::of("Leave yours, and begin with what is agreed now").to(format!("{HERE}/{id}/edit"));
        Sheet::new(frame, lead)
            .table(table(
                "What is agreed now, and yours",
                &["Key", "Agreed now", "Yours"],
                &differ,
                "They say the same.",
            ))
            .with(Part::Questions(questions))
            .with(Part::Notes { title: "Or not", notes: vec![anew], calm: "" })
            .answer_as(StatusCode::PRECONDITION_FAILED)
    }
}

/// What a change would mean.
pub(super) fn preview(app: &App, visitor: Visitor, editing: &Editing, view: &ChangeView) -> HttpResponse {
    let name = &view.destination;
    let frame = Frame::of(visitor, HERE, format!("Preview: {name}"));
    let lead = match view.kind {
        Some(ChangeKind::Added) => format!("{name} would be added. Nothing is changed yet."),
        Some(_) => format!("It would become version {}. Nothing is changed yet.", view.version),
        None => "Nothing would change.".to_owned(),
    };
    let save = editing.id.as_ref().map_or_else(|| format!("{HERE}/{name}/save"), |_| editing.place("save"));
    let mut buttons = vec![Button { label: "Save", place: save, ..Button::default() }];
    if view.kind.is_none() {
        buttons.clear();
    }
    let again = if editing.id.is_none() { format!("{ADD}?again") } else { editing.place("edit") };
    buttons.push(Button { label: "Change it further", place: again, quiet: true, ..Button::default() });
    let questions = Questions {
        title: "Is it meant?",
        place: editing.place("preview"),
        hidden: editing.carried(),
        inputs: vec![],
        buttons,
        note: "It goes on record with the name of your token.",
    };
    meaning(Sheet::new(frame, lead), view, app.clock.now()).with(Part::Questions(questions)).answer()
}

/// Keys, openings, what becomes of what waits, and warnings.
fn meaning(sheet: Sheet, view: &ChangeView, now: Timestamp) -> Sheet {
    let mut sheet = sheet.table(table("What changes", &["Key", "Now", "Then"], &view.changes, "No key changes."));
    sheet = sheet.table(openings(view, now));
    let messages = words::on_messages(view);
    sheet = sheet.with(Part::Notes {
        title: "Messages that wait",
        notes: messages.into_iter().map(Cell::of).collect(),
        calm: if view.waiting.is_some() { "None waits for it." } else { "How many wait is not known now." },
    });
    let warnings: Vec<Cell> = view.warnings.iter().map(Cell::of).collect();
    if warnings.is_empty() {
        sheet
    } else {
        sheet.with(Part::Notes { title: "Worth a second look", notes: warnings, calm: "" })
    }
}

fn openings(view: &ChangeView, now: Timestamp) -> Table {
    let (before, after) = (&view.impact.openings_before, &view.impact.openings_after);
    let side = |openings: &Option<Vec<Opening>>, index: usize| match openings {
        None => Cell::of(if index == 0 { "not there" } else { "" }),
        Some(openings) if openings.is_empty() => Cell::of(if index == 0 { "always open" } else { "" }),
        Some(openings) => openings.get(index).map_or_else(Cell::default, |opening| {
            let from = opening.start.filter(|start| *start > now).map_or_else(|| "now".to_owned(), utc);
            Cell::of(from).and(opening.end.map_or_else(String::new, |end| format!("until {}", utc(end))))
        }),
    };
    let most = [before, after].into_iter().flatten().map(Vec::len).max().unwrap_or(0).max(1);
    let rows =
        (0..most).map(|index| vec![Cell::of(format!("{}.", index + 1)), side(before, index), side(after, index)]);
    Table {
        caption: "The next openings".into(),
        heads: heads(&["Opening", "As it is", "Then"]),
        rows: rows.collect(),
        ..Table::default()
    }
}

fn table(caption: &str, names: &[&str], changes: &[KeyChange], empty: &'static str) -> Table {
    let value = |change: &KeyChange, value: &Option<Value>| match value {
        _ if change.hidden => Cell::of("not shown"),
        None => Cell::of("not set"),
        Some(Value::String(text)) => Cell::of(text.clone()),
        Some(value) => Cell::of(rules_text(&change.key, value).unwrap_or_else(|| value.to_string())),
    };
    let row =
        |change: &KeyChange| vec![Cell::of(change.key.clone()), value(change, &change.old), value(change, &change.new)];
    Table {
        caption: caption.to_owned(),
        heads: heads(names),
        rows: changes.iter().map(row).collect(),
        empty,
        ..Table::default()
    }
}

/// An agreement that can't be changed here.
pub(super) fn shown(visitor: Visitor, id: &DestinationId, written: &WrittenAgreement) -> HttpResponse {
    let lead = match &written.source {
        DestinationSource::Api => "It can be changed here with a token of scope admin.".to_owned(),
        source => format!("It is declared in {source}: change it there, then `tidegate reload`."),
    };
    let value = Value::Object(written.keys.clone());
    let row = |(key, value): (&String, &&Value)| {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        vec![Cell::of(key.clone()), Cell::of(text)]
    };
    let table = Table {
        caption: format!("Version {}, as it is written", written.version),
        heads: heads(&["Key", "Value"]),
        rows: flat(&value).iter().map(row).collect(),
        empty: "It says nothing but its address: everything else is as by default.",
        ..Table::default()
    };
    let back = Cell::of("Back to the destination").to(format!("{HERE}/{id}"));
    Sheet::new(Frame::of(visitor, HERE, format!("Agreement with {id}")), lead)
        .table(table)
        .with(Part::Notes { title: "See also", notes: vec![back], calm: "" })
        .answer()
}

/// Asks whether a removal is meant; or, without a version, whether what is left is purged too.
pub(super) fn removal(visitor: Visitor, id: &DestinationId, version: Option<u64>, view: &ChangeView) -> HttpResponse {
    let waiting = view.waiting.unwrap_or(0) - view.purged.unwrap_or(0).min(view.waiting.unwrap_or(0));
    let frame = Frame::of(visitor, HERE, format!("Remove {id}"));
    let lead = match version {
        Some(_) => "Nothing is removed yet.".to_owned(),
        None => format!("It is removed; {} messages were purged so far.", count(view.purged.unwrap_or(0))),
    };
    const BOTH: &[(&str, &str)] = &[
        ("hold", "stay in the outbox, and are delivered when it comes back"),
        ("purge", "are purged: removed for good, which does not erase the medium"),
    ];
    let choices = if version.is_some() { BOTH } else { &BOTH[1..] };
    let inputs = (waiting > 0).then(|| Input {
        name: "queued",
        label: "Messages that wait for it",
        value: choices[0].0.to_owned(),
        choices,
        ..Input::default()
    });
    let questions = Questions {
        title: "Is it meant?",
        place: format!("{HERE}/{id}/remove"),
        hidden: version.map(|version| ("version".to_owned(), version.to_string())).into_iter().collect(),
        inputs: inputs.into_iter().collect(),
        buttons: vec![Button { label: "Remove", grave: true, ..Button::default() }],
        note: "It goes on record with the name of your token.",
    };
    let waits = (waiting > 0).then(|| Cell::of(format!("{} messages wait for it.", count(waiting))));
    let back = Cell::of("No: back to the destinations").to(HERE);
    Sheet::new(frame, lead)
        .with(Part::Notes {
            title: "Messages that wait",
            notes: waits.into_iter().collect(),
            calm: if view.waiting.is_some() { "None waits for it." } else { "How many wait is not known now." },
        })
        .with(Part::Questions(questions))
        .with(Part::Notes { title: "Or not", notes: vec![back], calm: "" })
        .answer()
}

/// Asks whether a destination is meant to be always open.
pub(super) fn reset(app: &App, visitor: Visitor, id: &DestinationId, version: u64, view: &ChangeView) -> HttpResponse {
    let frame = Frame::of(visitor, HERE, format!("No windows: {id}"));
    let questions = Questions {
        title: "Is it meant?",
        place: format!("{HERE}/{id}/windows"),
        hidden: vec![("version".to_owned(), version.to_string())],
        inputs: vec![],
        buttons: vec![Button { label: "Always open", ..Button::default() }],
        note: "It goes on record with the name of your token.",
    };
    let back = Cell::of("No: back to the destination").to(format!("{HERE}/{id}"));
    let sheet = Sheet::new(frame, "Without windows it is always open. Nothing is changed yet.");
    meaning(sheet, view, app.clock.now())
        .with(Part::Questions(questions))
        .with(Part::Notes { title: "Or not", notes: vec![back], calm: "" })
        .answer()
}
