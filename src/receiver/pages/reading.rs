//! One reading, whole.

use super::{Frame, device_name, message, unreadable};
use crate::receiver::{
    answer::{self, Answer},
    app::App,
    values,
};
use crate::web::words::Time;
use askama::Template;
use http::{HeaderValue, StatusCode, header};
use tidegate_schemas::wire::receipt;

#[derive(Template)]
#[template(path = "reading.html")]
struct ReadingPage {
    frame: Frame,
    sequence: u64,
    device: String,
    device_number: u32,
    label: Option<String>,
    received: Time,
    gateway: String,
    id: String,
    content_type: String,
    size: String,
    hash: String,
    /// The body, if it is text.
    text: Option<String>,
}

/// `GET /readings/PLACE`
pub(crate) fn reading(app: &App, sequence: u64) -> Option<Answer> {
    let reading = match app.reader.reading(sequence) {
        Ok(Some(Ok(reading))) => reading,
        Ok(Some(Err(_))) => return Some(damaged(app)),
        Ok(None) => return None,
        Err(_) => return Some(unreadable(app)),
    };
    let Ok(Ok(body)) = app.reader.body(&reading) else { return Some(damaged(app)) };
    let page = ReadingPage {
        frame: Frame::of(app, format!("Reading {sequence}")),
        sequence,
        device: device_name(reading.device_name.as_deref()),
        device_number: reading.device,
        label: values::label(&reading),
        received: Time::of(reading.received, app.clock.now()),
        gateway: reading.gateway,
        id: reading.id.to_string(),
        content_type: values::harmless(&reading.content_type, true),
        size: values::bytes(reading.body_bytes),
        hash: data_encoding::HEXLOWER.encode(&receipt::content_hash(body.reveal())),
        text: values::text(body.reveal(), false).map(|text| values::harmless(text, false)),
    };
    Some(answer::page(StatusCode::OK, &page))
}

/// `GET /readings/PLACE/body`: to be saved, never to be shown as what it claims to be.
pub(crate) fn body(app: &App, sequence: u64) -> Option<Answer> {
    let reading = app.reader.reading(sequence).ok()??.ok()?;
    let Ok(Ok(body)) = app.reader.body(&reading) else { return Some(damaged(app)) };
    let mut answer = answer::browser(StatusCode::OK, "application/octet-stream", answer::full(body.reveal().clone()));
    let name = format!("attachment; filename=\"reading-{sequence}.bin\"");
    if let Ok(name) = HeaderValue::from_str(&name) {
        answer.headers_mut().insert(header::CONTENT_DISPOSITION, name);
    }
    Some(answer)
}

fn damaged(app: &App) -> Answer {
    message(
        app,
        StatusCode::INTERNAL_SERVER_ERROR,
        "This reading is damaged",
        "Its record on disk does not match its checksum. The disk may be failing: make a copy of the folder.",
    )
}
