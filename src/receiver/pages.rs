//! The pages: rendered here, whole without JavaScript. Templates escape every value; `values` has made it harmless before.

mod device;
mod home;
mod reading;

pub(crate) use device::{chart, device};
pub(crate) use home::{devices, home};
pub(crate) use reading::{body, reading};

use super::{
    answer::{self, Answer},
    app::App,
    store::{Fill, Room, Row},
    values,
};
use crate::web::{form, words::Time};
use askama::Template;
use http::StatusCode;
use jiff::Timestamp;

/// Rows of a table on a page.
const ROWS: usize = 50;
/// How often a page without JavaScript loads itself again, in seconds.
const REFRESH_S: u32 = 15;
/// What a device without a name is called.
const NAMELESS: &str = "no name";

/// The query of a page's address.
pub(crate) struct Query<'a>(pub(crate) &'a str);

impl Query<'_> {
    /// A value.
    pub(crate) fn value(&self, key: &str) -> Option<String> {
        form::value(self.0, key)
    }
    /// A number.
    pub(crate) fn number(&self, key: &str) -> Option<u64> {
        form::number(self.0, key)
    }
}

/// What stands around every page.
struct Frame {
    /// Name of the receiver.
    title: String,
    /// Name of the page.
    page: String,
    /// The version of style and script.
    assets: String,
    /// Whether someone is logged in.
    open: bool,
    /// How the page keeps itself up to date.
    live: Option<Live>,
    /// What whoever runs the receiver should know.
    warning: Option<String>,
}

/// How a page keeps itself up to date.
struct Live {
    /// Whether it does.
    on: bool,
    /// Where the switch leads.
    switch: String,
    /// Seconds between two loads without JavaScript.
    refresh_s: u32,
}

impl Frame {
    fn of(app: &App, page: impl Into<String>) -> Self {
        Self {
            title: app.title.clone(),
            page: page.into(),
            assets: app.assets.clone(),
            open: true,
            live: None,
            warning: warning(app.reader.fill()),
        }
    }

    /// A page at this path that keeps itself up to date unless it was told not to.
    fn live(mut self, path: &str, query: &Query<'_>) -> Self {
        let on = query.value("live").as_deref() != Some("off");
        let switch = if on { format!("{path}?live=off") } else { path.to_owned() };
        self.live = Some(Live { on, switch, refresh_s: REFRESH_S });
        self
    }

    fn is_live(&self) -> bool {
        self.live.as_ref().is_some_and(|live| live.on)
    }
}

/// How full the store is, where that is worth saying.
fn warning(fill: Fill) -> Option<String> {
    let Fill { room, percent } = fill;
    match room {
        Room::Enough => None,
        Room::Little => Some(format!("The store is {percent} % full. When it is full, new readings are refused.")),
        Room::None => Some("There is no room: new readings are refused, and wait at their gateways.".to_owned()),
    }
}

/// A row of a table of readings.
struct ReadingRow {
    sequence: u64,
    received: Time,
    device: String,
    device_number: u32,
    label: Option<String>,
    cell: values::Cell,
    /// Where its number lies between the lowest and the highest on the page, 0 to 100.
    share: Option<u8>,
    damaged: bool,
}

fn device_name(name: Option<&str>) -> String {
    name.map_or_else(|| NAMELESS.to_owned(), |name| values::harmless(name, true))
}

fn rows(rows: Vec<Row>, now: Timestamp) -> Vec<ReadingRow> {
    rows.into_iter()
        .map(|row| match row {
            Ok(reading) => ReadingRow {
                sequence: reading.sequence,
                received: Time::of(reading.received, now),
                device: device_name(reading.device_name.as_deref()),
                device_number: reading.device,
                label: values::label(&reading),
                cell: values::cell(&reading),
                share: None,
                damaged: false,
            },
            Err(damaged) => ReadingRow {
                sequence: damaged.sequence,
                received: Time { text: String::new(), machine: String::new(), ago: String::new() },
                device: String::new(),
                device_number: 0,
                label: None,
                cell: values::Cell { text: String::new(), cut: false, binary: true },
                share: None,
                damaged: true,
            },
        })
        .collect()
}

/// Where the next older page begins, if this one is full.
fn older(rows: &[ReadingRow]) -> Option<u64> {
    (rows.len() == ROWS).then(|| rows.last().map(|row| row.sequence)).flatten().filter(|sequence| *sequence > 1)
}

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage {
    frame: Frame,
    next: String,
    wrong: bool,
}

/// The page that asks for the password.
pub(crate) fn login(app: &App, status: StatusCode, next: &str, wrong: bool) -> Answer {
    let frame = Frame { open: false, warning: None, ..Frame::of(app, "Log in") };
    answer::page(status, &LoginPage { frame, next: next.to_owned(), wrong })
}

#[derive(Template)]
#[template(path = "message.html")]
struct MessagePage {
    frame: Frame,
    text: String,
}

/// A page with a sentence.
pub(crate) fn message(app: &App, status: StatusCode, heading: &str, text: &str) -> Answer {
    answer::page(status, &MessagePage { frame: Frame::of(app, heading), text: text.to_owned() })
}

fn unreadable(app: &App) -> Answer {
    message(
        app,
        StatusCode::INTERNAL_SERVER_ERROR,
        "The store could not be read",
        "Try again; if it stays so, look at the log.",
    )
}
