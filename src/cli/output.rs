//! What goes to stdout: tables for people, JSON for programs. Messages go to stderr.

use super::exit::Failure;
use comfy_table::{ContentArrangement, Table, presets};
use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;
use std::io::{self, Write as _};

/// Writes text and a line end to stdout. A reader that has gone away (`| head`) is no failure.
pub fn line(text: &str) -> Result<(), Failure> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::failed(format!("could not write to stdout: {error}")))
        }
        _ => Ok(()),
    }
}

/// Writes a message to stderr.
pub fn message(text: &str) {
    // There is nobody to tell if stderr is closed.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Writes a value as JSON to stdout.
pub fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value);
    line(&text.map_err(|error| Failure::failed(format!("could not write JSON: {error}")))?)
}

/// A table with these headings.
pub fn table(headings: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    if !headings.is_empty() {
        table.set_header(headings.iter().map(|heading| heading.to_uppercase()));
    }
    table
}

/// Writes a table to stdout, without the spaces that would fill its last column.
pub fn print(table: &Table) -> Result<(), Failure> {
    for row in table.to_string().lines() {
        line(row.trim_end())?;
    }
    Ok(())
}

/// A length of time, in its two largest units: `2d 3h`, `4m 5s`, `12s`.
pub fn duration(seconds: u64) -> String {
    let parts = [(seconds / 86_400, "d"), (seconds / 3_600 % 24, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let shown: Vec<String> = parts
        .iter()
        .skip_while(|(value, _)| *value == 0)
        .take(2)
        .filter(|(value, _)| *value > 0)
        .map(|(value, unit)| format!("{value}{unit}"))
        .collect();
    if shown.is_empty() { "0s".to_owned() } else { shown.join(" ") }
}

/// A size in bytes, with a unit.
pub fn bytes(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", bytes / 1024),
        _ => format!("{} MiB", bytes / 1_048_576),
    }
}

/// A moment in the zone of whoever looks, to the minute.
pub fn moment(at: Timestamp) -> String {
    at.to_zoned(TimeZone::system()).strftime("%a %Y-%m-%d %H:%M").to_string()
}

/// A moment in milliseconds since 1970, to the second.
pub fn moment_ms(ms: i64) -> String {
    let at = Timestamp::from_millisecond(ms).ok();
    at.map_or_else(|| "?".to_owned(), |at| at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string())
}

/// The word that serde writes for a value of an enum without fields.
pub fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(other) => other.to_string(),
        Err(_) => "?".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_short() {
        assert_eq!(
            [0, 12, 245, 3_600, 90_061, 86_405].map(duration),
            ["0s", "12s", "4m 5s", "1h", "1d 1h", "1d"].map(str::to_owned)
        );
    }

    #[test]
    fn a_table_has_no_trailing_spaces_nor_colours() {
        let mut shown = table(&["entry", "state"]);
        shown.add_row(["a/1", "queued"]);
        let text = shown.to_string();
        assert!(text.contains("ENTRY") && !text.contains('\u{1b}'));
    }
}
