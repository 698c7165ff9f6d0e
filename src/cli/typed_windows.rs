//! Windows as they are typed on a command line.

use super::exit::Failure;
use clap::Args;
use tidegate_schemas::window::{RawWindow, RawWindows};

/// The options that say when a destination is open.
#[derive(Debug, Clone, Default, Args)]
pub struct TypedWindows {
    /// Time zone, such as Europe/Madrid [default: UTC]
    #[arg(long, value_name = "ZONE")]
    pub timezone: Option<String>,
    /// Open on these days and times: 'DAYS', 'FROM-TO' or 'DAYS FROM-TO'
    #[arg(long, value_name = "WINDOW")]
    pub allow: Vec<String>,
    /// Open by a cron expression, for a time: 'MIN HOUR DAY MONTH WEEKDAY for LENGTH'
    #[arg(long, value_name = "WINDOW")]
    pub cron: Vec<String>,
}

impl TypedWindows {
    /// Whether none was typed.
    pub fn is_empty(&self) -> bool {
        self.allow.is_empty() && self.cron.is_empty()
    }

    /// As the config and the admin API have them. Whether they can be kept, those say.
    ///
    /// # Errors
    /// When a `--cron` does not say for how long.
    pub fn raw(self) -> Result<RawWindows, Failure> {
        let mut allow: Vec<RawWindow> = self.allow.iter().map(|text| by_days(text)).collect();
        for text in &self.cron {
            allow.push(by_cron(text).map_err(|wrong| Failure::usage(format!("--cron: {wrong}")))?);
        }
        Ok(RawWindows { timezone: self.timezone, allow, ..RawWindows::default() })
    }
}

/// One rule in a line: `DAYS DATES MONTHS FROM-TO` with any of them left out, or `CRON for LENGTH`; behind `#` a note. What can't be kept is
/// for the gateway to say.
///
/// # Errors
/// When a cron expression does not say for how long.
pub(crate) fn rule(text: &str) -> Result<RawWindow, String> {
    let (text, note) = noted(text);
    let cron = text.contains('*') || text.contains(" for ");
    let window = if cron { by_cron(text)? } else { by_days(text) };
    Ok(RawWindow { note, ..window })
}

/// A line and the note behind it.
pub(crate) fn noted(text: &str) -> (&str, Option<String>) {
    match text.split_once('#') {
        Some((text, note)) => (text.trim(), Some(note.trim().to_owned()).filter(|note| !note.is_empty())),
        None => (text.trim(), None),
    }
}

/// `mon-fri 22:00-02:00`, `22:00-02:00`, `sat,sun` or `1-7,last jan-mar 6:00-7:00`.
fn by_days(text: &str) -> RawWindow {
    let mut window = RawWindow::default();
    for part in text.split_whitespace() {
        let kind = match part.split_once('-') {
            Some((from, to)) if part.contains(':') => {
                window.from = Some(from.to_owned());
                window.to = Some(to.to_owned());
                continue;
            }
            _ if each(part, |item| item == "last" || item.bytes().all(|byte| byte.is_ascii_digit())) => {
                &mut window.dates
            }
            _ if each(part, |item| MONTHS.contains(&item)) => &mut window.months,
            _ => &mut window.days,
        };
        *kind = Some(kind.take().map_or_else(|| part.to_owned(), |before| format!("{before} {part}")));
    }
    window
}

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

/// Whether each of the names in a list of names and spans is one of these.
fn each(part: &str, is: impl Fn(&str) -> bool) -> bool {
    part.split([',', '-']).all(|item| !item.is_empty() && is(&item.to_ascii_lowercase()))
}

/// `0 */6 * * * for 20m`.
fn by_cron(text: &str) -> Result<RawWindow, String> {
    let (cron, lasts) = text
        .split_once(" for ")
        .ok_or_else(|| format!("a cron rule is 'MIN HOUR DAY MONTH WEEKDAY for LENGTH', not {text:?}"))?;
    Ok(RawWindow { cron: Some(cron.trim().to_owned()), lasts: Some(lasts.trim().to_owned()), ..RawWindow::default() })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::cli::destination::rule_text;
    use tidegate_schemas::window::WindowSet;

    #[test]
    fn a_rule_is_read_as_it_is_shown() {
        for text in [
            "mon-fri 22:00-02:00",
            "sat,sun 00:00-24:00",
            "daily 6:00-7:30 # rounds",
            "mon 1-7 06:00-08:00",
            "1-7,15,last jan-mar,dec 06:00-08:00",
            "0 */6 * * * for 20m # every six hours",
        ] {
            let window = rule(text).unwrap();
            assert_eq!(rule_text(&window), text);
            let set = WindowSet::from_raw(RawWindows { allow: vec![window], ..RawWindows::default() }, "windows");
            assert!(set.is_ok(), "{text}: {set:?}");
        }
        assert_eq!(rule("0 * * * *").unwrap_err().split(' ').nth(1), Some("cron"));
        assert_eq!(rule("someday").unwrap().days.as_deref(), Some("someday"), "the gateway says what is wrong");
    }
}
