//! What pages are made of: notes, facts, tables, forms, in one template. A page says what it shows; how that looks is said once.
//!
//! All texts are escaped when they are written. Tables become lists of cards on narrow screens, by the names of their columns.

use super::{
    frame::{self, Frame},
    guard::Visitor,
};
use crate::web::words::Time;
use actix_web::{HttpResponse, http::StatusCode};
use askama::Template;
use jiff::Timestamp;

/// A page.
#[derive(Template)]
#[template(path = "templates/sheet.html")]
pub(super) struct Sheet {
    frame: Frame,
    /// Beside the heading.
    lead: String,
    parts: Vec<Part>,
}

/// A part of a page, from top to bottom.
pub(super) enum Part {
    /// What deserves a look, as a list; `calm` says it where there is nothing.
    Notes { title: &'static str, notes: Vec<Cell>, calm: &'static str },
    /// Names and what they are.
    Facts { title: &'static str, facts: Vec<(&'static str, Cell)> },
    /// Rows.
    Table(Table),
    /// A longer form.
    Questions(Questions),
    /// Forms that do something.
    Acts { title: &'static str, acts: Vec<Act> },
    /// A form that leads to another view of the same page.
    Filter(Filter),
    /// Paragraphs.
    Prose { title: &'static str, lines: Vec<String> },
}

/// A table. Its first column names the row.
#[derive(Default)]
pub(super) struct Table {
    pub(super) caption: String,
    pub(super) heads: Vec<String>,
    pub(super) rows: Vec<Vec<Cell>>,
    /// What is said when there are no rows.
    pub(super) empty: &'static str,
    /// More of its looks.
    pub(super) class: &'static str,
    /// The first page, where this is not it.
    pub(super) first: Option<String>,
    /// The next page.
    pub(super) next: Option<String>,
}

/// A piece of text.
#[derive(Default)]
pub(super) struct Cell {
    pub(super) text: String,
    /// Where it leads: an address of the console.
    pub(super) href: Option<String>,
    /// For machines, if it is a moment.
    pub(super) moment: Option<String>,
    /// Fainter, behind it.
    pub(super) more: String,
    /// `bad`, `good`, `number`, or nothing.
    pub(super) tone: &'static str,
}

impl Cell {
    /// A text.
    pub(super) fn of(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }
    /// A count.
    pub(super) fn count(number: u64) -> Self {
        Self { tone: "number", ..Self::of(crate::web::words::count(number)) }
    }
    /// A count that should be 0.
    pub(super) fn alarm(number: u64) -> Self {
        let tone = if number == 0 { "number" } else { "number bad" };
        Self { tone, ..Self::count(number) }
    }
    /// Something wrong.
    pub(super) fn bad(text: impl Into<String>) -> Self {
        Self { tone: "bad", ..Self::of(text) }
    }
    /// A moment of the past.
    pub(super) fn past(at: Timestamp, now: Timestamp) -> Self {
        let time = Time::of(at, now);
        Self { text: time.text, moment: Some(time.machine), more: time.ago, ..Self::default() }
    }
    /// A moment of the past, in milliseconds since 1970.
    pub(super) fn past_ms(ms: i64, now: Timestamp) -> Self {
        Self::past(Timestamp::from_millisecond(ms).unwrap_or_default(), now)
    }
    /// It leads somewhere.
    pub(super) fn to(mut self, href: impl Into<String>) -> Self {
        self.href = Some(href.into());
        self
    }
    /// With more behind it.
    pub(super) fn and(mut self, more: impl Into<String>) -> Self {
        self.more = more.into();
        self
    }
}

/// A form that does something, by POST.
pub(super) struct Act {
    /// Where it is sent.
    pub(super) place: String,
    /// What its button says.
    pub(super) button: &'static str,
    /// What it means.
    pub(super) means: &'static str,
    /// Whether it can't be taken back.
    pub(super) grave: bool,
    /// What is asked.
    pub(super) fields: Vec<Field>,
    /// It only leads to the page on which it is confirmed.
    pub(super) asks_first: bool,
}

/// What a form asks.
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) label: &'static str,
    pub(super) value: String,
    /// What can be chosen, value and words; a line of text where that is empty.
    pub(super) choices: Vec<(String, String)>,
}

impl Field {
    fn chosen(&self, choice: &str) -> bool {
        self.value == choice
    }
}

/// A form of many fields, each with its label, its hint, and what is wrong with it.
#[derive(Default)]
pub(super) struct Questions {
    pub(super) title: &'static str,
    /// Where it is sent.
    pub(super) place: String,
    /// What it carries.
    pub(super) hidden: Vec<(String, String)>,
    pub(super) inputs: Vec<Input>,
    pub(super) buttons: Vec<Button>,
    /// Below the buttons.
    pub(super) note: &'static str,
}

/// One of its fields.
#[derive(Default)]
pub(super) struct Input {
    pub(super) name: &'static str,
    pub(super) label: &'static str,
    pub(super) hint: &'static str,
    pub(super) value: String,
    /// What can be chosen, value and words; a text where that is empty.
    pub(super) choices: &'static [(&'static str, &'static str)],
    /// Lines of the text; one that can't be broken where that is 0.
    pub(super) lines: usize,
    pub(super) error: Option<String>,
}

impl Input {
    /// The elements that describe it.
    fn described(&self) -> String {
        let hint = (!self.hint.is_empty()).then(|| format!("{}-hint", self.name));
        let error = self.error.as_ref().map(|_| format!("{}-error", self.name));
        [error, hint].into_iter().flatten().collect::<Vec<_>>().join(" ")
    }
}

/// One of its buttons.
#[derive(Default)]
pub(super) struct Button {
    pub(super) label: &'static str,
    /// Where it sends the form, if that is elsewhere.
    pub(super) place: String,
    pub(super) quiet: bool,
    /// Whether it can't be taken back.
    pub(super) grave: bool,
}

/// A form that leads to another view of the same page.
pub(super) struct Filter {
    pub(super) place: &'static str,
    pub(super) fields: Vec<Field>,
}

impl Sheet {
    /// A page with nothing on it yet.
    pub(super) fn new(frame: Frame, lead: impl Into<String>) -> Self {
        Self { frame, lead: lead.into(), parts: Vec::new() }
    }

    /// With a part more.
    pub(super) fn with(mut self, part: Part) -> Self {
        self.parts.push(part);
        self
    }

    /// With a table more.
    pub(super) fn table(self, table: Table) -> Self {
        self.with(Part::Table(table))
    }

    /// With forms more, for those who may use them.
    pub(super) fn acts(self, visitor: &Visitor, title: &'static str, acts: Vec<Act>) -> Self {
        if visitor.operates() && !acts.is_empty() { self.with(Part::Acts { title, acts }) } else { self }
    }

    /// The answer.
    pub(super) fn answer(&self) -> HttpResponse {
        self.answer_as(StatusCode::OK)
    }

    /// The answer with a status of its own.
    pub(super) fn answer_as(&self, status: StatusCode) -> HttpResponse {
        frame::page(status, self)
    }
}

/// A moment, for sentences.
pub(super) fn utc(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

/// The names of columns.
pub(super) fn heads(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

impl Table {
    /// The names of the columns; those of numbers stand to the right, as the numbers do.
    fn columns(&self) -> impl Iterator<Item = (&str, &str)> {
        let first = self.rows.first().map_or(&[][..], Vec::as_slice);
        let tones = first.iter().map(|cell| if cell.tone.starts_with("number") { "number" } else { "" });
        self.heads.iter().map(String::as_str).zip(tones)
    }

    /// The pieces of a row, each with the name of its column.
    fn named<'t>(&'t self, row: &'t [Cell]) -> impl Iterator<Item = (&'t Cell, &'t str)> {
        row.iter().zip(self.heads.iter().map(String::as_str))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_comes_from_outside_comes_out_escaped() {
        let bad = || "<script>alert('x')</script>\" onload=\"y".to_owned();
        let cell = || Cell::of(bad()).and(bad()).to("/console/outbox?device=%22");
        let field = |choices| Field { name: "a", label: "b", value: bad(), choices };
        let act = |asks_first| Act {
            place: bad(),
            button: "Do",
            means: "it",
            grave: true,
            fields: vec![field(vec![]), field(vec![(bad(), bad())])],
            asks_first,
        };
        let table = Table {
            caption: bad(),
            heads: vec![bad(), bad()],
            rows: vec![vec![cell(), cell()]],
            first: Some(bad()),
            next: Some(bad()),
            ..Table::default()
        };
        let input = |choices, lines| Input {
            name: "a",
            label: "b",
            hint: "c",
            value: bad(),
            choices,
            lines,
            error: Some(bad()),
        };
        let questions = Questions {
            place: bad(),
            hidden: vec![(bad(), bad())],
            inputs: vec![input(&[], 0), input(&[], 3), input(&[("a", "b")], 0)],
            buttons: vec![Button { place: bad(), ..Button::default() }],
            ..Questions::default()
        };
        let sheet = Sheet::new(Frame::outside(&bad()), bad())
            .with(Part::Questions(questions))
            .with(Part::Notes { title: "a", notes: vec![cell()], calm: "b" })
            .with(Part::Facts { title: "a", facts: vec![("b", cell())] })
            .with(Part::Prose { title: "a", lines: vec![bad()] })
            .with(Part::Filter(Filter { place: "/console", fields: vec![field(vec![(bad(), bad())])] }))
            .with(Part::Acts { title: "a", acts: vec![act(true), act(false)] })
            .table(table);
        let html = sheet.render().unwrap_or_default();
        assert!(html.contains("alert"), "{html}");
        assert!(!html.contains("<script") && !html.contains("\" onload"), "{html}");
    }
}
