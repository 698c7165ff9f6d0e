//! Days and months as people write them: `mon-fri`, `sat,sun`, `jan-mar,dec`, `1-7,15,last`.

use super::days::Dates;
use crate::config::suggest;

const DAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

/// Why a text is no set of days or months.
pub(super) struct Unknown {
    /// The word that is not understood.
    pub word: String,
    /// What was meant, perhaps.
    pub meant: Option<&'static str>,
}

/// Days of the week, Monday first.
pub(super) fn weekdays(text: &str) -> Result<[bool; 7], Unknown> {
    if matches!(text.trim().to_ascii_lowercase().as_str(), "daily" | "all" | "every day") {
        return Ok([true; 7]);
    }
    let mut days = [false; 7];
    set(text, &DAYS, |index| days[index] = true)?;
    Ok(days)
}

/// Months; bit 1 is January.
pub(super) fn months(text: &str) -> Result<u16, Unknown> {
    let mut months = 0;
    set(text, &MONTHS, |index| months |= 1 << (index + 1))?;
    Ok(months)
}

/// Days of the month.
pub(super) fn dates(text: &str) -> Result<Dates, Unknown> {
    let mut dates = Dates { numbers: 0, last: false };
    for part in text.split(',').map(str::trim) {
        let unknown = || Unknown { word: part.to_owned(), meant: suggest::nearest(part, ["last"]) };
        let number = |text: &str| text.trim().parse::<u32>().ok().filter(|number| (1..=31).contains(number));
        let (first, last) = match part.split_once('-') {
            None if part.eq_ignore_ascii_case("last") => {
                dates.last = true;
                continue;
            }
            None => (number(part), number(part)),
            Some((first, last)) => (number(first), number(last)),
        };
        let range = first.zip(last).filter(|(first, last)| first <= last).ok_or_else(unknown)?;
        dates.numbers |= (range.0..=range.1).fold(0, |all, day| all | 1 << day);
    }
    Ok(dates)
}

/// Calls with the place of every name; a range may go around the end of the list.
fn set(text: &str, names: &[&'static str], mut call: impl FnMut(usize)) -> Result<(), Unknown> {
    let place = |word: &str| {
        let word = word.trim().to_ascii_lowercase();
        let found = names.iter().position(|name| *name == word || name[..3] == word);
        found.ok_or_else(|| {
            let short = suggest::nearest(&word, names.iter().map(|name| &name[..3]));
            let meant = suggest::nearest(&word, names.iter().copied()).or(short);
            Unknown { word, meant: meant.map(|name| &name[..3]) }
        })
    };
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (mut at, last) = (place(first)?, place(last)?);
        loop {
            call(at);
            if at == last {
                break;
            }
            at = (at + 1) % names.len();
        }
    }
    Ok(())
}
