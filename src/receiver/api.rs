//! The readings as JSON, for programs, under the same right to read as the pages.

use super::{
    answer::{self, Answer},
    app::App,
    pages::Query,
    store::{Reading, Row},
    values,
};
use data_encoding::BASE64;
use http::StatusCode;
use serde::Serialize;

/// Readings of one answer, unless fewer are asked for.
const LIMIT_DEFAULT: usize = 100;
/// Most readings of one answer.
const LIMIT_MAX: usize = 500;
/// Most body bytes of one answer, about (4 MiB).
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most devices of one answer.
const DEVICES_MAX: usize = 10_000;

#[derive(Serialize)]
struct ReadingView {
    seq: u64,
    id: String,
    gateway: String,
    device: Option<String>,
    label: Option<String>,
    content_type: String,
    received: jiff::Timestamp,
    /// The body, if it is text.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// The body, if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

#[derive(Serialize)]
struct ReadingsView {
    readings: Vec<ReadingView>,
    /// Give this as `after` to go on.
    next_after: u64,
    /// Places whose record is damaged.
    damaged: Vec<u64>,
}

#[derive(Serialize)]
struct DeviceView {
    number: u32,
    device: Option<String>,
    readings: u64,
    last_received: Option<jiff::Timestamp>,
}

/// `GET /v1/readings?device=&after=&limit=`: oldest first, after a place in the order.
pub(crate) fn readings(app: &App, query: &Query<'_>) -> Option<Answer> {
    let limit = query.number("limit").map_or(LIMIT_DEFAULT, |limit| usize::try_from(limit).unwrap_or(LIMIT_MAX));
    let after = query.number("after").unwrap_or_default();
    let device = match query.value("device") {
        Some(name) => match app.reader.device_named(&name) {
            Some(number) => Some(number),
            None => return Some(answer::problem(StatusCode::NOT_FOUND, "there is no device of this name")),
        },
        None => None,
    };
    let Ok(rows) = app.reader.after(device, after, limit.clamp(1, LIMIT_MAX)) else { return Some(unreadable()) };
    let mut view = ReadingsView { readings: Vec::new(), next_after: after, damaged: Vec::new() };
    let mut bytes = 0;
    for row in rows {
        let (sequence, reading) = match row {
            Ok(reading) => (reading.sequence, read(app, reading)),
            Err(damaged) => (damaged.sequence, None),
        };
        match reading {
            Some(reading) => {
                bytes += reading.text.as_ref().or(reading.base64.as_ref()).map_or(0, String::len);
                view.readings.push(reading);
            }
            None => view.damaged.push(sequence),
        }
        view.next_after = sequence;
        if bytes > ANSWER_BYTES_MAX {
            break;
        }
    }
    Some(answer::json(StatusCode::OK, &view))
}

fn read(app: &App, reading: Reading) -> Option<ReadingView> {
    let body = app.reader.body(&reading).ok()?.ok()?;
    let text = values::text(body.reveal(), false).map(str::to_owned);
    let base64 = text.is_none().then(|| BASE64.encode(body.reveal()));
    Some(ReadingView {
        seq: reading.sequence,
        id: reading.id.to_string(),
        gateway: reading.gateway,
        device: reading.device_name,
        label: reading.label,
        content_type: reading.content_type,
        received: reading.received,
        text,
        base64,
    })
}

/// `GET /v1/devices`: those heard of last come first.
pub(crate) fn devices(app: &App) -> Option<Answer> {
    let devices: Vec<DeviceView> = app
        .reader
        .newest_devices(DEVICES_MAX)
        .into_iter()
        .map(|(number, device)| DeviceView {
            number,
            device: device.name,
            readings: device.readings,
            last_received: jiff::Timestamp::from_millisecond(device.last_received_ms).ok(),
        })
        .collect();
    Some(answer::json(StatusCode::OK, &devices))
}

fn unreadable() -> Answer {
    answer::problem(StatusCode::INTERNAL_SERVER_ERROR, "the store could not be read")
}

/// The readings among rows; damaged ones are left out.
pub(crate) fn whole(rows: Vec<Row>) -> impl Iterator<Item = Reading> {
    rows.into_iter().filter_map(Result::ok)
}
