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
    form,
    store::{Fill, Room, Row},
    values,
};
use askama::Template;
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};

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

/// A time in words and for machines.
struct Time {
    /// `2026-11-23 04:05:59`, UTC.
    text: String,
    /// RFC 3339.
    machine: String,
    /// `2 min ago`.
    ago: String,
}

impl Time {
    fn of(at: Timestamp, now: Timestamp) -> Self {
        Self {
            text: at.strftime("%Y-%m-%d %H:%M:%S").to_string(),
            machine: at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            ago: ago(now.duration_since(at)),
        }
    }
}

/// How long ago, in words.
fn ago(length: SignedDuration) -> String {
    let seconds = length.as_secs();
    match seconds {
        ..0 => "in the future".to_owned(),
        0..5 => "just now".to_owned(),
        5..60 => format!("{seconds} s ago"),
        60..3_600 => format!("{} min ago", seconds / 60),
        3_600..172_800 => format!("{} h ago", seconds / 3_600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

/// A count with its thousands apart.
fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 reading`, `2 readings`.
fn counted(number: u64, one: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {one}{plural}", count(number))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_ages_are_words() {
        assert_eq!([count(0), count(999), count(1_000), count(1_234_567)], ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(counted(1, "reading"), "1 reading");
        let words = [-1, 0, 59, 60, 7_199, 172_800].map(|seconds| ago(SignedDuration::from_secs(seconds)));
        assert_eq!(words, ["in the future", "just now", "59 s ago", "1 min ago", "1 h ago", "2 days ago"]);
    }
}
