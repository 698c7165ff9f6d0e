//! The windows of a destination, three days back and eleven ahead: an hour a cell, and each opening with what was delivered in it.
//!
//! Openings are of the agreement that is in force now; what was delivered is what the ledger's newest records say, so that an older
//! opening may have had more than is known. An hour that is twice on the day on which clocks are set back is one cell.

use super::sheet::{Cell, Part, Table, heads};
use crate::{
    admin::{App, foresight, pages::Newest, records},
    web::words::count,
};
use jiff::{SignedDuration, Timestamp, civil::time, tz::TimeZone};
use tidegate_schemas::{
    agreement::ServiceAgreement, entry::EntryState, id::DestinationId, view::LedgerView, window::Opening,
};

/// Days before today.
const BACK: i64 = 3;
/// Days from today on.
const AHEAD: i64 = 11;
/// Openings that are listed before and after now.
const LISTED: usize = 8;
/// Openings that are looked at: one every ten minutes for all these days.
const OPENINGS_MAX: usize = 2_016;
/// Records of the ledger that are looked at.
const RECORDS: usize = 500;

/// The parts of the page.
pub(super) async fn of(app: &App, id: &DestinationId, agreement: &ServiceAgreement, now: Timestamp) -> Vec<Part> {
    let from = now.saturating_sub(SignedDuration::from_hours(24 * BACK)).unwrap_or(now);
    let length = u32::try_from((BACK + AHEAD) * 86_400).ok();
    let openings = foresight::within(agreement, from, OPENINGS_MAX, length);
    let zone = agreement.windows.zone();
    if openings.is_empty() {
        let line = "It has no openings by the calendar in these days: it is always open, or only a signal opens it.";
        return vec![Part::Prose { title: "Windows", lines: vec![line.to_owned()] }];
    }
    let newest = Newest { cursor: None, limit: Some(RECORDS) };
    let ledger = records::ledger_page(app, newest).await.ok();
    let (ended, whole) = ledger.map_or((vec![], false), |page| (page.items, page.next.is_none()));
    let name = agreement.windows.zone_name();
    let known_from = if whole { None } else { ended.last().map(|record| record.ended_ms) };
    let of_it: Vec<&LedgerView> =
        ended.iter().filter(|it| it.entry.destination == *id && it.state == EntryState::Delivered).collect();
    let (past, next): (Vec<&Opening>, Vec<&Opening>) =
        openings.iter().partition(|opening| opening.end.is_some_and(|end| end <= now));
    let row = |opening: &Opening| {
        let at = |at: Option<Timestamp>| at.map_or_else(|| "no end in sight".to_owned(), |at| moment(at, zone));
        let begun = opening.start.is_none_or(|start| start <= now);
        vec![
            Cell::of(opening.start.map_or_else(|| "before that".to_owned(), |start| moment(start, zone))),
            Cell::of(at(opening.end)),
            if begun { delivered(opening, &of_it, known_from) } else { Cell { tone: "number", ..Cell::of("to come") } },
        ]
    };
    let last = past.iter().rev().take(LISTED).rev().map(|opening| row(opening));
    let rows = last.chain(next.iter().take(LISTED).map(|opening| row(opening))).collect();
    vec![
        Part::Table(hours(&openings, zone, now, name)),
        Part::Table(Table {
            caption: format!("Openings, in {name}, by the agreement as it is now"),
            heads: heads(&["From", "To", "Delivered"]),
            rows,
            empty: "",
            ..Table::default()
        }),
    ]
}

/// How many were delivered in an opening, as far as the records go back.
fn delivered(opening: &Opening, ended: &[&LedgerView], known_from: Option<i64>) -> Cell {
    let from = opening.start.map_or(i64::MIN, Timestamp::as_millisecond);
    let to = opening.end.map_or(i64::MAX, Timestamp::as_millisecond);
    let number = ended.iter().filter(|record| (from..to).contains(&record.ended_ms)).count() as u64;
    match known_from {
        Some(known) if known > to => Cell::of("not known").and("longer ago than the newest records"),
        Some(known) if known > from => Cell::count(number).and("or more"),
        _ => Cell::count(number),
    }
}

/// A day a row, an hour a cell.
fn hours(openings: &[Opening], zone: &TimeZone, now: Timestamp, name: &str) -> Table {
    let today = now.to_zoned(zone.clone()).date();
    let hour = |day: jiff::civil::Date, hour: i8| -> Option<Timestamp> {
        day.to_datetime(time(hour, 0, 0, 0)).to_zoned(zone.clone()).ok().map(|at| at.timestamp())
    };
    let days = (-BACK..AHEAD).filter_map(|days| today.checked_add(SignedDuration::from_hours(24 * days)).ok());
    let rows = days.map(|day| {
        let words = if day == today { "today" } else { "" };
        let name = Cell::of(day.strftime("%a %Y-%m-%d").to_string()).and(words);
        let cells = (0..24_i8).map(|of| hour(day, of).map_or_else(Cell::default, |start| share(openings, start)));
        std::iter::once(name).chain(cells).collect()
    });
    let heads = std::iter::once("Day".to_owned()).chain((0..24).map(|hour| format!("{hour:02}")));
    Table {
        caption: format!("Hours in which it is open, in {name}"),
        heads: heads.collect(),
        rows: rows.collect(),
        empty: "",
        class: "hours",
        ..Table::default()
    }
}

/// How much of the hour from here on is open.
fn share(openings: &[Opening], start: Timestamp) -> Cell {
    let (from, to) = (start.as_second(), start.as_second() + 3_600);
    let open = openings.iter().map(|opening| {
        let begin = opening.start.map_or(i64::MIN, Timestamp::as_second).max(from);
        let end = opening.end.map_or(i64::MAX, Timestamp::as_second).min(to);
        (end - begin).max(0)
    });
    match open.sum::<i64>() {
        0 => Cell::of("·"),
        3_600.. => Cell { tone: "open", ..Cell::of("open") },
        part => Cell {
            tone: "part",
            ..Cell::of(format!("{}m", count(u64::try_from(part).unwrap_or_default().div_ceil(60))))
        },
    }
}

fn moment(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone()).strftime("%a %Y-%m-%d %H:%M").to_string()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn opening(start: &str, end: &str) -> Opening {
        Opening { start: Some(start.parse().unwrap()), end: Some(end.parse().unwrap()) }
    }

    #[test]
    fn an_hour_is_open_in_part_or_not_and_days_are_those_of_the_zone() {
        let now: Timestamp = "2027-03-27T12:00:00Z".parse().unwrap();
        let zone = TimeZone::get("Europe/Madrid").unwrap();
        // On the 28th clocks are set forward: 00:30 to 04:00 there is 23:30 to 02:00 here.
        let openings = [opening("2027-03-27T23:30:00Z", "2027-03-28T02:00:00Z")];
        let table = hours(&openings, &zone, now, "Europe/Madrid");
        assert_eq!((table.rows.len(), table.heads.len()), (14, 25));
        assert!(table.rows.iter().all(|row| row.len() == 25));
        let row: Vec<&str> = table.rows[4].iter().map(|cell| cell.text.as_str()).collect();
        assert_eq!(row[..6], ["Sun 2027-03-28", "30m", "open", "open", "open", "·"]);
        assert_eq!(table.rows[3][0].more, "today");
    }

    #[test]
    fn what_was_delivered_is_said_as_far_as_it_is_known() {
        let it = opening("2027-01-04T10:00:00Z", "2027-01-04T11:00:00Z");
        let (from, to) = (it.start.unwrap().as_millisecond(), it.end.unwrap().as_millisecond());
        let texts = [None, Some(from), Some(from + 1), Some(to + 1)].map(|known| delivered(&it, &[], known));
        assert_eq!(texts[0].text, "0");
        assert_eq!(
            (texts[1].more.as_str(), texts[2].more.as_str(), texts[3].text.as_str()),
            ("", "or more", "not known")
        );
    }
}
