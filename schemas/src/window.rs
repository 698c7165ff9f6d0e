//! Delivery windows: when a destination may be tried.
//!
//! No window at all means always open; with any allow window, only then. [`WindowSet::evaluate`] is the one function that the
//! scheduler, the admin API, the command line and the checks call. An opening is an interval of real time: a start that falls
//! into the gap of a daylight-saving change moves forward, and a start that exists twice opens once, the first time; this holds
//! for cron windows, too, whatever they name. A window whose end lies before its start ends on the next day.

mod cron;

use crate::config::{Problem, Problems};
use croner::{Cron, parser::CronParser};
use jiff::{SignedDuration, Timestamp, ToSpan, civil, tz::TimeZone};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, PoisonError};

/// Most windows of one destination.
pub const WINDOWS_MAX: usize = 64;
/// Longest opening by a cron window, in seconds (31 days).
pub const CRON_DURATION_S_MAX: i64 = 31 * 86_400;
/// How far ahead a closing is looked for, in days; an opening longer than that is shown without an end.
const CLOSING_HORIZON_DAYS: i64 = 400;
/// Most joined intervals that are followed to find a closing: a chain of one-minute windows could be endless. One that is longer
/// is shown without an end, until its end comes within reach.
const JOINED_MAX: usize = 512;
/// How long a closing that is beyond reach is not looked for again.
const UNENDING_FOR: SignedDuration = SignedDuration::from_hours(4);

/// Windows as they are written in the config file and in the admin API.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawWindows {
    /// IANA time zone, such as `Europe/Madrid`; `UTC` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// When it is open; none means always.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<RawWindow>,
}

/// One window as it is written: either `days`/`from`/`to`, or `cron`/`for`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawWindow {
    /// `mon-fri`, `sat,sun`, `daily`; every day if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days: Option<String>,
    /// `HH:MM` at which it opens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// `HH:MM` at which it closes (`24:00` is the end of the day); before `from` means the next day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Five cron fields: minute, hour, day of month, month, day of week.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// How long a cron opening lasts, such as `20m`.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<String>,
}

#[derive(Debug, Clone)]
enum Window {
    Days { days: [bool; 7], from: civil::Time, length_min: i64 },
    Cron { cron: Box<Cron>, lasts: SignedDuration },
}

/// Checked windows of one destination.
#[derive(Debug, Clone)]
pub struct WindowSet {
    raw: RawWindows,
    zone: TimeZone,
    zone_name: String,
    allow: Vec<Window>,
    /// The opening that was looked at last: following its joined intervals is dear, and every attempt asks. Clones share it.
    followed: Arc<Mutex<Option<Followed>>>,
}

/// What following an opening found.
#[derive(Debug, Clone, Copy)]
struct Followed {
    /// From this moment on ...
    from: Timestamp,
    /// ... up to this one it is open,
    until: Timestamp,
    /// and this is its end, if it has one within reach.
    closing: Option<Timestamp>,
}

impl Default for WindowSet {
    fn default() -> Self {
        Self {
            raw: RawWindows::default(),
            zone: TimeZone::UTC,
            zone_name: "UTC".to_owned(),
            allow: Vec::new(),
            followed: Arc::default(),
        }
    }
}
impl PartialEq for WindowSet {
    fn eq(&self, other: &Self) -> bool {
        self.raw == other.raw
    }
}

/// Why a destination is open or closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// There are no windows: always open.
    NoWindows,
    /// An allow window covers this moment.
    InsideWindow,
    /// No allow window covers this moment.
    OutsideWindows,
}

/// The answer to "may this destination be tried, and when does that change?"
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Whether it is open.
    pub open: bool,
    /// Why.
    pub why: Why,
    /// Until when this answer holds; absent when it never changes (or not within the horizon).
    pub until: Option<Timestamp>,
    /// The start of the next opening after this moment.
    pub next_opening: Option<Timestamp>,
    /// The end of the opening that is under way, or of the next one.
    pub next_closing: Option<Timestamp>,
}

impl WindowSet {
    /// Checks windows; each problem carries the path of the value below `path`.
    ///
    /// # Errors
    /// All problems at once.
    pub fn from_raw(raw: RawWindows, path: &str) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let zone_name = raw.timezone.clone().unwrap_or_else(|| "UTC".to_owned());
        let zone = match TimeZone::get(&zone_name) {
            Ok(zone) => zone,
            Err(_) => {
                problems.push(Problem::new(
                    format!("{path}.timezone"),
                    format!("unknown time zone {zone_name:?}"),
                    "use a name of the IANA time zone database, such as \"Europe/Madrid\" or \"UTC\"",
                ));
                TimeZone::UTC
            }
        };
        if raw.allow.len() > WINDOWS_MAX {
            problems.push(Problem::new(format!("{path}.allow"), format!("more than {WINDOWS_MAX} windows"), ""));
        }
        let mut allow = Vec::new();
        for (index, window) in raw.allow.iter().enumerate() {
            match parse_window(window, &format!("{path}.allow[{index}]")) {
                Ok(window) => allow.push(window),
                Err(problem) => problems.push(problem),
            }
        }
        problems.into_result(Self { raw, zone, zone_name, allow, followed: Arc::default() })
    }

    /// The windows as written.
    #[must_use]
    pub fn raw(&self) -> &RawWindows {
        &self.raw
    }

    /// The name of the time zone.
    #[must_use]
    pub fn zone_name(&self) -> &str {
        &self.zone_name
    }

    /// The time zone.
    #[must_use]
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// Open or closed at this moment, why, and what comes next.
    #[must_use]
    pub fn evaluate(&self, at: Timestamp) -> Evaluation {
        if self.allow.is_empty() {
            return Evaluation { open: true, why: Why::NoWindows, until: None, next_opening: None, next_closing: None };
        }
        match self.closing_of_opening_at(at) {
            Some(closing) => Evaluation {
                open: true,
                why: Why::InsideWindow,
                until: closing,
                next_opening: closing.and_then(|closing| self.next_opening(closing)),
                next_closing: closing,
            },
            None => {
                let next_opening = self.next_opening(at);
                Evaluation {
                    open: false,
                    why: Why::OutsideWindows,
                    until: next_opening,
                    next_opening,
                    next_closing: next_opening.and_then(|opening| self.closing_of_opening_at(opening).flatten()),
                }
            }
        }
    }

    /// `None`: closed at this moment. `Some(None)`: open, with no end within reach.
    fn closing_of_opening_at(&self, at: Timestamp) -> Option<Option<Timestamp>> {
        let mut known = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(followed) = known.filter(|followed| followed.from <= at && at < followed.until) {
            return Some(followed.closing);
        }
        let followed = self.follow(at)?;
        *known = Some(followed);
        Some(followed.closing)
    }

    /// Follows the opening that covers a moment, from interval to interval.
    fn follow(&self, from: Timestamp) -> Option<Followed> {
        let covering = |at: Timestamp| self.allow.iter().filter_map(|w| self.end_if_covering(w, at)).max();
        let mut end = covering(from)?;
        let horizon = from.checked_add(SignedDuration::from_hours(CLOSING_HORIZON_DAYS * 24)).ok()?;
        for _ in 0..JOINED_MAX {
            match covering(end) {
                Some(later) if later > end && end < horizon => end = later,
                Some(later) if later > end => break,
                _ => return Some(Followed { from, until: end, closing: Some(end) }),
            }
        }
        let again = from.checked_add(UNENDING_FOR).unwrap_or(end);
        Some(Followed { from, until: end.min(again), closing: None })
    }

    fn next_opening(&self, after: Timestamp) -> Option<Timestamp> {
        self.allow.iter().filter_map(|window| self.next_start(window, after)).min()
    }

    /// The end of this window's interval that contains the moment (start included, end not).
    fn end_if_covering(&self, window: &Window, at: Timestamp) -> Option<Timestamp> {
        match window {
            Window::Days { .. } => {
                let today = at.to_zoned(self.zone.clone()).date();
                (-2..=1)
                    .filter_map(|offset| self.interval_on(window, today.checked_add(i64::from(offset).days()).ok()?))
                    .filter(|(start, end)| *start <= at && at < *end)
                    .map(|(_, end)| end)
                    .max()
            }
            Window::Cron { cron, lasts } => {
                let start = cron::previous_start(cron, &self.zone, at)?;
                let end = start.checked_add(*lasts).ok()?;
                (at < end).then_some(end)
            }
        }
    }

    fn next_start(&self, window: &Window, after: Timestamp) -> Option<Timestamp> {
        match window {
            Window::Days { .. } => {
                let today = after.to_zoned(self.zone.clone()).date();
                (-1..=9)
                    .filter_map(|offset| self.interval_on(window, today.checked_add(i64::from(offset).days()).ok()?))
                    .map(|(start, _)| start)
                    .filter(|start| *start > after)
                    .min()
            }
            Window::Cron { cron, .. } => cron::next_start(cron, &self.zone, after),
        }
    }

    /// The interval of a day window that begins on this date.
    fn interval_on(&self, window: &Window, date: civil::Date) -> Option<(Timestamp, Timestamp)> {
        let Window::Days { days, from, length_min } = window else { return None };
        if !days[usize::try_from(date.weekday().to_monday_zero_offset()).ok()?] {
            return None;
        }
        let opens = date.to_datetime(*from);
        let closes = opens.checked_add(length_min.minutes()).ok()?;
        // "compatible": a start in a gap moves forward, one in a fold is the first of the two.
        let start = self.zone.to_ambiguous_timestamp(opens).compatible().ok()?;
        let end = self.zone.to_ambiguous_timestamp(closes).compatible().ok()?;
        // A gap can swallow the whole window: then it keeps its length, from the moment at which it could open.
        let end = if end > start { end } else { start.checked_add(SignedDuration::from_mins(*length_min)).ok()? };
        Some((start, end))
    }
}

fn parse_window(raw: &RawWindow, path: &str) -> Result<Window, Problem> {
    match (&raw.cron, &raw.lasts) {
        (Some(cron), Some(lasts)) if raw.days.is_none() && raw.from.is_none() && raw.to.is_none() => {
            parse_cron(cron, lasts, path)
        }
        (None, None) => parse_days(raw, path),
        (Some(_), None) => {
            Err(Problem::new(format!("{path}.cron"), "a cron window needs its length", "add for = \"20m\", say"))
        }
        _ => Err(Problem::new(
            path.to_owned(),
            "a window is either days/from/to or cron/for",
            "split it into two windows if you mean both",
        )),
    }
}

fn parse_cron(cron: &str, lasts: &str, path: &str) -> Result<Window, Problem> {
    let parsed =
        CronParser::builder().seconds(croner::parser::Seconds::Disallowed).build().parse(cron).map_err(|error| {
            let reason = error.to_string();
            let reason = reason.strip_prefix("Component error: ").unwrap_or(&reason).trim_end_matches('.').to_owned();
            Problem::new(
                format!("{path}.cron"),
                format!("not a cron expression: {reason}"),
                "five fields: minute 0-59, hour 0-23, day of month 1-31, month 1-12, day of week 0-7 or MON-SUN",
            )
        })?;
    let duration = crate::config::parse_duration(lasts)
        .ok()
        .filter(|d| d.as_secs() >= 1 && d.as_secs() <= CRON_DURATION_S_MAX)
        .ok_or_else(|| {
            Problem::new(
                format!("{path}.for"),
                "the length of an opening is from 1s to 31 days",
                "write it as \"20m\" or \"1h 30m\"",
            )
        })?;
    Ok(Window::Cron { cron: Box::new(parsed), lasts: duration })
}

fn parse_days(raw: &RawWindow, path: &str) -> Result<Window, Problem> {
    let days = match &raw.days {
        Some(text) => parse_day_names(text).ok_or_else(|| {
            Problem::new(
                format!("{path}.days"),
                format!("not a set of days: {text:?}"),
                "write \"mon-fri\", \"sat,sun\" or \"daily\"",
            )
        })?,
        None => [true; 7],
    };
    let minute = |text: &Option<String>, key: &str, absent: i64| match text {
        None => Ok(absent),
        Some(text) => parse_minute(text).ok_or_else(|| {
            Problem::new(
                format!("{path}.{key}"),
                format!("not a time of day: {text:?}"),
                "write \"HH:MM\", such as \"22:00\"",
            )
        }),
    };
    let from_min = minute(&raw.from, "from", 0)?;
    let to_min = minute(&raw.to, "to", 24 * 60)?;
    if from_min == 24 * 60 {
        return Err(Problem::new(
            format!("{path}.from"),
            "a window can't open at 24:00",
            "use \"00:00\" of the next day",
        ));
    }
    let length_min = if to_min > from_min { to_min - from_min } else { to_min + 24 * 60 - from_min };
    let hour = i8::try_from(from_min / 60).unwrap_or(0);
    let from = civil::Time::constant(hour, i8::try_from(from_min % 60).unwrap_or(0), 0, 0);
    Ok(Window::Days { days, from, length_min })
}

/// `HH:MM` as minutes since midnight, up to `24:00`.
fn parse_minute(text: &str) -> Option<i64> {
    let (hour, minute) = text.split_once(':')?;
    let number = |part: &str, digits: std::ops::RangeInclusive<usize>| {
        (digits.contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit())).then(|| part.parse::<i64>().ok())?
    };
    let (hour, minute) = (number(hour, 1..=2)?, number(minute, 2..=2)?);
    let total = hour * 60 + minute;
    (minute < 60 && total <= 24 * 60).then_some(total)
}

fn parse_day_names(text: &str) -> Option<[bool; 7]> {
    const NAMES: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let day = |name: &str| NAMES.iter().position(|n| *n == name.trim().to_ascii_lowercase());
    let mut days = [false; 7];
    if matches!(text.trim().to_ascii_lowercase().as_str(), "daily" | "all" | "every day") {
        return Some([true; 7]);
    }
    for part in text.split(',') {
        match part.split_once('-') {
            None => days[day(part)?] = true,
            Some((first, last)) => {
                let (mut at, last) = (day(first)?, day(last)?);
                loop {
                    days[at] = true;
                    if at == last {
                        break;
                    }
                    at = (at + 1) % 7;
                }
            }
        }
    }
    Some(days)
}

#[cfg(test)]
mod tests;
