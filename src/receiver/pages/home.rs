//! The first page: devices with their latest values, and the newest readings; and the list of all devices.

use super::{Frame, Query, ROWS, ReadingRow, device_name, older, rows, unreadable};
use crate::receiver::{
    answer::{self, Answer},
    api,
    app::App,
    store::Device,
    values::{self, UNNAMED},
};
use crate::web::words::{Time, counted};
use askama::Template;
use http::StatusCode;
use jiff::Timestamp;

/// Devices on the first page.
const CARDS: usize = 12;
/// Readings of a device that are looked through for its latest values.
const LOOK_BACK: usize = 12;
/// Values on a card.
const CARD_VALUES: usize = 3;
/// Devices on the page of devices.
const DEVICES: usize = 500;

/// A device on a page.
struct Card {
    number: u32,
    name: String,
    readings: String,
    last: Time,
    values: Vec<CardValue>,
}

/// A latest value.
struct CardValue {
    label: Option<String>,
    text: String,
}

#[derive(Template)]
#[template(path = "home.html")]
struct HomePage {
    frame: Frame,
    summary: String,
    cards: Vec<Card>,
    /// How many devices there are beside those on the page, in words.
    more_devices: Option<String>,
    rows: Vec<ReadingRow>,
    older: Option<u64>,
    first: bool,
}

#[derive(Template)]
#[template(path = "devices.html")]
struct DevicesPage {
    frame: Frame,
    summary: String,
    cards: Vec<Card>,
}

/// `GET /`
pub(crate) fn home(app: &App, query: &Query<'_>) -> Option<Answer> {
    let now = app.clock.now();
    let before = query.number("before");
    let Ok(newest) = app.reader.newest(None, before, ROWS) else { return Some(unreadable(app)) };
    let rows = rows(newest, now);
    let first = before.is_none();
    let frame = Frame::of(app, "Newest readings");
    let devices = app.reader.devices();
    let cards = if first { cards(app, CARDS, now) } else { Vec::new() };
    let page = HomePage {
        frame: if first { frame.live("/", query) } else { frame },
        summary: summary(app),
        more_devices: (first && devices > CARDS).then(|| format!("All {}", counted(devices as u64, "device"))),
        cards,
        older: older(&rows),
        rows,
        first,
    };
    Some(answer::page(StatusCode::OK, &page))
}

/// `GET /devices`
pub(crate) fn devices(app: &App, query: &Query<'_>) -> Option<Answer> {
    let frame = Frame::of(app, "Devices").live("/devices", query);
    let page = DevicesPage { frame, summary: summary(app), cards: cards(app, DEVICES, app.clock.now()) };
    Some(answer::page(StatusCode::OK, &page))
}

fn summary(app: &App) -> String {
    format!("{} from {}", counted(app.reader.readings(), "reading"), counted(app.reader.devices() as u64, "device"))
}

fn cards(app: &App, limit: usize, now: Timestamp) -> Vec<Card> {
    let devices = app.reader.newest_devices(limit);
    devices.into_iter().map(|(number, device)| card(app, number, device, now)).collect()
}

fn card(app: &App, number: u32, device: Device, now: Timestamp) -> Card {
    let rows = app.reader.newest(Some(number), None, LOOK_BACK).unwrap_or_default();
    let mut values: Vec<CardValue> = Vec::new();
    for reading in api::whole(rows) {
        let measures = values::measures(&reading);
        let found: Vec<CardValue> = if measures.is_empty() {
            vec![CardValue { label: values::label(&reading), text: values::cell(&reading).text }]
        } else {
            let named = |label: String| (label != UNNAMED).then_some(label);
            measures.into_iter().map(|m| CardValue { label: named(m.label), text: m.text }).collect()
        };
        for value in found {
            if values.len() < CARD_VALUES && values.iter().all(|known| known.label != value.label) {
                values.push(value);
            }
        }
    }
    // The same measure stays at the same place, whichever came last.
    values.sort_by(|a, b| a.label.cmp(&b.label));
    let last = Timestamp::from_millisecond(device.last_received_ms).unwrap_or_default();
    Card {
        number,
        name: device_name(device.name.as_deref()),
        readings: counted(device.readings, "reading"),
        last: Time::of(last, now),
        values,
    }
}
