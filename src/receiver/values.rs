//! What a reading says, for human eyes: its text made harmless, and the numbers in it.
//!
//! A body is hostile text. Control characters and those that change the direction of writing are shown as the replacement character
//! here; `<` and its like are the templates' to escape.

use super::store::Reading;

/// Longest text in a cell of a listing, in characters.
const CELL_CHARS_MAX: usize = 120;
/// Longest label that is taken out of a text such as `mmHg: 120`, in bytes.
const PREFIX_BYTES_MAX: usize = 32;
/// Most numbers that are taken out of one JSON object.
const FIELDS_MAX: usize = 8;
/// The name of a measure that has none.
pub(crate) const UNNAMED: &str = "value";

/// A number in a reading.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Measure {
    /// What it is.
    pub(crate) label: String,
    /// The number.
    pub(crate) number: f64,
    /// The number as it was written, with its unit.
    pub(crate) text: String,
}

/// A body in a cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cell {
    /// The text, harmless but not escaped.
    pub(crate) text: String,
    /// Whether there is more of it.
    pub(crate) cut: bool,
    /// Whether the body is no text, and `text` says so.
    pub(crate) binary: bool,
}

/// The text without what could disturb a page: control characters (line ends and tabs become blanks where `one_line`) and marks
/// that turn the direction of writing.
pub(crate) fn harmless(text: &str, one_line: bool) -> String {
    let replace = |c: char| match c {
        '\n' | '\t' if !one_line => c,
        '\n' | '\t' | '\r' => ' ',
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => char::REPLACEMENT_CHARACTER,
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    text.chars().map(replace).collect()
}

/// The text of a body, if it is one; of a body that was cut at 3 KiB, its whole characters.
pub(crate) fn text(bytes: &[u8], cut: bool) -> Option<&str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(text).filter(|text| !text.contains('\0')),
        Err(error) if cut && error.error_len().is_none() => std::str::from_utf8(&bytes[..error.valid_up_to()]).ok(),
        Err(_) => None,
    }
}

/// The body of a reading for a listing.
pub(crate) fn cell(reading: &Reading) -> Cell {
    let head = reading.head.reveal();
    let cut = head.len() < reading.body_bytes as usize;
    let Some(text) = text(head, cut) else {
        return Cell { text: format!("{} of binary data", bytes(reading.body_bytes)), cut: false, binary: true };
    };
    let (_, text) = split(reading.label.as_deref(), text);
    let mut shown: String = harmless(text.trim(), true).chars().take(CELL_CHARS_MAX + 1).collect();
    let longer = shown.chars().count() > CELL_CHARS_MAX;
    if longer {
        shown.pop();
    }
    Cell { text: shown, cut: cut || longer, binary: false }
}

/// What was measured, as the reading's label or its text says.
pub(crate) fn label(reading: &Reading) -> Option<String> {
    let cut = reading.head.len() < reading.body_bytes as usize;
    let text = text(reading.head.reveal(), cut).unwrap_or_default();
    let (label, _) = split(reading.label.as_deref(), text);
    label.map(|label| harmless(label, true))
}

/// The label before the first colon, as the paper's format has it, and the rest; a label of the reading's own comes first.
fn split<'a>(own: Option<&'a str>, text: &'a str) -> (Option<&'a str>, &'a str) {
    if own.is_some_and(|label| !label.trim().is_empty()) {
        return (own, text);
    }
    match text.split_once(": ") {
        Some((label, rest))
            if !label.is_empty() && label.len() <= PREFIX_BYTES_MAX && !label.contains(['{', '"', '\n']) =>
        {
            (Some(label), rest)
        }
        _ => (None, text),
    }
}

/// The numbers of a reading: of a text the first after its last colon, of a JSON object its top-level numbers.
pub(crate) fn measures(reading: &Reading) -> Vec<Measure> {
    if reading.head.len() < reading.body_bytes as usize {
        return Vec::new();
    }
    let Some(text) = text(reading.head.reveal(), false) else { return Vec::new() };
    let (label, text) = split(reading.label.as_deref(), text);
    let label = label.map_or_else(|| UNNAMED.to_owned(), |label| harmless(label, true));
    match serde_json::from_str(text) {
        Ok(serde_json::Value::Object(object)) => object
            .iter()
            .filter_map(|(name, value)| {
                let number = value.as_f64().filter(|number| number.is_finite())?;
                let name = harmless(name, true).chars().take(PREFIX_BYTES_MAX).collect();
                Some(Measure { label: name, number, text: value.to_string() })
            })
            .take(FIELDS_MAX)
            .collect(),
        _ => number(text)
            .map(|(number, text)| Measure { label, number, text: harmless(text, true) })
            .into_iter()
            .collect(),
    }
}

/// The first number after the last colon, with the text that it begins.
fn number(text: &str) -> Option<(f64, &str)> {
    let value = text.rsplit(':').next().unwrap_or(text).trim();
    let shown = &value[..value.char_indices().nth(CELL_CHARS_MAX).map_or(value.len(), |(end, _)| end)];
    let start = value.find(|c: char| c.is_ascii_digit())?;
    let start = if value[..start].ends_with(['-', '+']) { start - 1 } else { start };
    let length = value[start..]
        .char_indices()
        .find(|(at, c)| !(c.is_ascii_digit() || *c == '.' || (*at == 0 && matches!(c, '-' | '+'))))
        .map_or(value.len() - start, |(at, _)| at);
    let number: f64 = value[start..start + length].trim_end_matches('.').parse().ok()?;
    number.is_finite().then_some((number, shown))
}

/// A length in bytes, in words.
pub(crate) fn bytes(bytes: u32) -> String {
    match bytes {
        1 => "1 byte".to_owned(),
        0..1_024 => format!("{bytes} bytes"),
        _ => format!("{} KiB", bytes.div_ceil(1_024)),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;
    use tidegate_schemas::{id::MessageId, submission::Payload};

    fn reading(label: Option<&str>, body: &[u8]) -> Reading {
        Reading {
            sequence: 1,
            id: MessageId::from_random([1; 16]),
            gateway: "ward".to_owned(),
            device: 1,
            device_name: Some("pacemaker".to_owned()),
            label: label.map(str::to_owned),
            content_type: "text/plain".to_owned(),
            received: jiff::Timestamp::UNIX_EPOCH,
            body_bytes: u32::try_from(body.len()).unwrap(),
            head: Payload::new(body.to_vec()),
        }
    }

    #[test]
    fn the_papers_text_and_a_labelled_value_say_the_same() {
        for reading in [reading(None, b"mmHg: 120.00 mmHg"), reading(Some("mmHg"), b"120.00 mmHg")] {
            assert_eq!(label(&reading).unwrap(), "mmHg");
            assert_eq!(cell(&reading).text, "120.00 mmHg");
            let wanted = Measure { label: "mmHg".to_owned(), number: 120.0, text: "120.00 mmHg".to_owned() };
            assert_eq!(measures(&reading), [wanted]);
        }
    }

    #[test]
    fn numbers_are_found_where_they_are_and_nowhere_else() {
        let numbers = |body: &[u8]| measures(&reading(None, body)).into_iter().map(|m| m.number).collect::<Vec<_>>();
        assert_eq!(numbers(b"-3.5 C"), [-3.5]);
        assert_eq!(numbers(b"{\"temperature\":21.5,\"name\":\"x\",\"humidity\":40}"), [40.0, 21.5]);
        assert_eq!(numbers(b"72."), [72.0]);
        for none in [&b"on"[..], b"", b"1.2.3", b"\xff\xfe", b"[]"] {
            assert!(numbers(none).is_empty(), "{none:?}");
        }
    }

    proptest! {
        #[test]
        fn no_body_panics_and_no_control_character_stays(label_text in proptest::option::of("(?s).{0,20}"), body in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..100), "(?s).{0,300}".prop_map(String::into_bytes),
        ]) {
            let reading = reading(label_text.as_deref(), &body);
            let shown = [cell(&reading).text, label(&reading).unwrap_or_default()].concat()
                + &measures(&reading).into_iter().map(|m| m.label + &m.text).collect::<String>();
            let disturbing = shown.chars().find(|c| c.is_control() || ('\u{202a}'..='\u{202e}').contains(c));
            prop_assert_eq!(disturbing, None);
        }
    }
}
