//! One device: a chart for each thing that it measures, and its readings.

use super::{Frame, Query, ROWS, ReadingRow, device_name, older, rows, unreadable};
use crate::receiver::{
    answer::{self, Answer},
    api,
    app::App,
    chart::{self, Theme},
    store::{Row, StoreError},
    values,
};
use crate::web::{
    form,
    words::{Time, counted},
};
use askama::Template;
use http::StatusCode;
use jiff::Timestamp;

/// Readings of a device that its charts are made of.
const CHART_READINGS: usize = 400;
/// Charts of a device.
const CHARTS: usize = 6;

#[derive(Template)]
#[template(path = "device.html")]
struct DevicePage {
    frame: Frame,
    number: u32,
    summary: String,
    last: Time,
    charts: Vec<ChartView>,
    rows: Vec<ReadingRow>,
    older: Option<u64>,
    first: bool,
}

/// A chart and its words.
struct ChartView {
    label: String,
    latest: String,
    low: String,
    high: String,
    mean: String,
    points: String,
    from: Time,
    to: Time,
    /// Address of the picture, without its theme.
    picture: String,
    width: u32,
    height: u32,
}

/// What a device measured over time, oldest first.
struct Series {
    label: String,
    points: Vec<(Timestamp, f64)>,
    latest: String,
}

fn number_of(number: u64) -> Option<u32> {
    u32::try_from(number).ok()
}

/// The series of a device, in the order of their names.
fn series(app: &App, device: u32) -> Result<Vec<Series>, StoreError> {
    let mut all: Vec<Series> = Vec::new();
    for reading in api::whole(app.reader.newest(Some(device), None, CHART_READINGS)?) {
        for measure in values::measures(&reading) {
            let point = (reading.received, measure.number);
            if let Some(series) = all.iter_mut().find(|series| series.label == measure.label) {
                series.points.push(point);
            } else if all.len() < CHARTS {
                all.push(Series { label: measure.label, points: vec![point], latest: measure.text });
            }
        }
    }
    all.iter_mut().for_each(|series| series.points.reverse());
    all.sort_by(|a, b| a.label.cmp(&b.label));
    Ok(all)
}

/// `GET /devices/NUMBER`
pub(crate) fn device(app: &App, number: u64, query: &Query<'_>) -> Option<Answer> {
    let number = number_of(number)?;
    let device = app.reader.device(number)?;
    let now = app.clock.now();
    let before = query.number("before");
    let (Ok(series), Ok(newest)) = (series(app, number), app.reader.newest(Some(number), before, ROWS)) else {
        return Some(unreadable(app));
    };
    let rows = with_shares(newest, &series, now);
    let first = before.is_none();
    let frame = Frame::of(app, device_name(device.name.as_deref()));
    let newest_sequence = device.last_sequence;
    let page = DevicePage {
        frame: if first { frame.live(&format!("/devices/{number}"), query) } else { frame },
        number,
        summary: counted(device.readings, "reading"),
        last: Time::of(Timestamp::from_millisecond(device.last_received_ms).unwrap_or_default(), now),
        charts: if first {
            series.iter().filter_map(|one| view(one, number, newest_sequence, now)).collect()
        } else {
            Vec::new()
        },
        older: older(&rows),
        rows,
        first,
    };
    Some(answer::page(StatusCode::OK, &page))
}

/// The rows, with a bar for each whose number has a series.
fn with_shares(readings: Vec<Row>, series: &[Series], now: Timestamp) -> Vec<ReadingRow> {
    let shares: Vec<Option<u8>> = readings
        .iter()
        .map(|row| {
            let measure = values::measures(row.as_ref().ok()?).into_iter().next()?;
            let (low, high) = range(series.iter().find(|series| series.label == measure.label)?);
            share(measure.number, low, high)
        })
        .collect();
    let mut rows = rows(readings, now);
    for (row, share) in rows.iter_mut().zip(shares) {
        row.share = share;
    }
    rows
}

fn range(series: &Series) -> (f64, f64) {
    let values = series.points.iter().map(|(_, value)| *value);
    (values.clone().fold(f64::INFINITY, f64::min), values.fold(f64::NEG_INFINITY, f64::max))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share from 0 to 100")]
fn share(value: f64, low: f64, high: f64) -> Option<u8> {
    let range = high / 2.0 - low / 2.0;
    (range > 0.0).then(|| ((value / 2.0 - low / 2.0) / range * 100.0).round().clamp(0.0, 100.0) as u8)
}

fn view(series: &Series, device: u32, newest: u64, now: Timestamp) -> Option<ChartView> {
    let ((from, _), (to, _)) = (series.points.first()?, series.points.last()?);
    let (low, high) = range(series);
    #[expect(clippy::cast_precision_loss, reason = "a few hundred points")]
    let points = series.points.len() as f64;
    let mean = series.points.iter().map(|(_, value)| value / points).sum();
    Some(ChartView {
        label: series.label.clone(),
        latest: series.latest.clone(),
        low: plain(low),
        high: plain(high),
        mean: plain(mean),
        points: counted(series.points.len() as u64, "reading"),
        from: Time::of(*from, now),
        to: Time::of(*to, now),
        // The newest reading's place makes the address new when the picture is.
        picture: format!("/devices/{device}/chart.png?measure={}&n={newest}", form::encode(&series.label)),
        width: chart::WIDTH / 2,
        height: chart::HEIGHT / 2,
    })
}

/// A number with at most two decimals, and none that say nothing.
fn plain(number: f64) -> String {
    if number.abs() >= 1e9 {
        return format!("{number:.2e}");
    }
    let text = format!("{number:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// `GET /devices/NUMBER/chart.png?measure=&theme=`
pub(crate) fn chart(app: &App, number: u64, query: &Query<'_>) -> Option<Answer> {
    let number = number_of(number)?;
    app.reader.device(number)?;
    let measure = query.value("measure")?;
    let theme = if query.value("theme").as_deref() == Some("dark") { Theme::Dark } else { Theme::Light };
    let Ok(all) = series(app, number) else { return Some(unreadable(app)) };
    let series = all.into_iter().find(|series| series.label == measure)?;
    let values: Vec<f64> = series.points.into_iter().map(|(_, value)| value).collect();
    let picture = chart::draw(&values, theme).ok()?;
    Some(answer::browser(StatusCode::OK, "image/png", answer::full(picture)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_shares_stay_in_bounds() {
        assert_eq!([plain(120.0), plain(-0.001), plain(36.625), plain(1e12)], ["120", "0", "36.62", "1.00e12"]);
        assert_eq!(
            [share(5.0, 0.0, 10.0), share(1e308, -1e308, 1e308), share(3.0, 3.0, 3.0)],
            [Some(50), Some(100), None]
        );
    }
}
