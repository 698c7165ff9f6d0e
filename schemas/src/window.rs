//! Delivery windows: when a destination may be tried.
//!
//! No window at all means always open; with any allow window (or one that opens once), only then; a deny window beats them all. An
//! opening is an interval of real time: a start that falls into the gap of a daylight-saving change moves forward, and a start that
//! exists twice opens once, the first time; this holds for cron windows, too, whatever they name. Intervals that touch are one
//! opening. A window whose end lies before its start ends on the next day. The guard takes its length off both ends of every opening.
//!
//! [`crate::agreement::ServiceAgreement::evaluate`] is the one function that the scheduler, the admin API, the command line and the
//! checks call: it adds the agreement's validity, signals, and whether the clock is trusted.
//!
//! How it works: `raw` is what is written, `parse` makes windows of it (`names`, `cron`), `rule` finds one window's intervals
//! (`days`, `zone`), and `openings` what they make together.

mod cron;
mod days;
mod names;
mod openings;
mod parse;
mod raw;
mod rule;
mod zone;

pub use parse::DURATION_S_MAX;
pub(crate) use parse::local_moment;
pub use raw::{RawDenial, RawOnce, RawWindow, RawWindows};

use crate::config::{Problem, Problems, suggest};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use openings::{Finder, Found, Span};
use rule::Window;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, PoisonError};
use zone::Zone;

/// Most windows of one destination, of each kind.
pub const WINDOWS_MAX: usize = 64;
/// How long an attempt under way may go on after the closing, unless the agreement says otherwise.
pub const GRACE: SignedDuration = SignedDuration::from_secs(30);

/// Checked windows of one destination.
#[derive(Debug, Clone)]
pub struct WindowSet {
    raw: RawWindows,
    zone: TimeZone,
    zone_name: String,
    /// What opens, again and again or once.
    allow: Vec<Window>,
    deny: Vec<Window>,
    cutoff: SignedDuration,
    grace: SignedDuration,
    guard: SignedDuration,
    /// The last answer: every attempt asks, and following openings is dear. Clones share it.
    known: Arc<Mutex<Option<(i64, Found)>>>,
}

impl Default for WindowSet {
    fn default() -> Self {
        Self {
            raw: RawWindows::default(),
            zone: TimeZone::UTC,
            zone_name: "UTC".to_owned(),
            allow: Vec::new(),
            deny: Vec::new(),
            cutoff: SignedDuration::ZERO,
            grace: GRACE,
            guard: SignedDuration::ZERO,
            known: Arc::default(),
        }
    }
}
impl PartialEq for WindowSet {
    fn eq(&self, other: &Self) -> bool {
        self.raw == other.raw
    }
}

/// An opening: an interval of real time, its start included, its end not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Opening {
    /// Absent when it lies out of reach, or has none.
    pub start: Option<Timestamp>,
    /// Absent when it lies out of reach, or has none.
    pub end: Option<Timestamp>,
}

impl From<Span> for Opening {
    fn from(span: Span) -> Self {
        let moment = |second: i64| Timestamp::from_second(second).ok();
        Self { start: span.start.and_then(moment), end: span.end.and_then(moment) }
    }
}

/// What the calendar alone says of a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Look {
    /// The opening that is under way.
    pub now: Option<Opening>,
    /// Why it is open or closed.
    pub why: CalendarWhy,
    /// The next opening.
    pub next: Option<Opening>,
}

/// Why the calendar has it open or closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CalendarWhy {
    /// Nothing closes it.
    NoWindows,
    /// A window covers the moment.
    Inside,
    /// None does.
    Outside,
    /// A deny window covers it.
    Denied,
    /// Only the guard keeps it closed.
    Guarded,
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
                let example = "use a name of the IANA time zone database, such as \"Europe/Madrid\" or \"UTC\"";
                let hint = zone_that_was_meant(&zone_name)
                    .map_or_else(|| example.to_owned(), |name| format!("did you mean {name:?}?"));
                problems.push(Problem::new(
                    format!("{path}.timezone"),
                    format!("unknown time zone {zone_name:?}"),
                    hint,
                ));
                TimeZone::UTC
            }
        };
        for (key, count) in [("allow", raw.allow.len()), ("deny", raw.deny.len()), ("once", raw.once.len())] {
            if count > WINDOWS_MAX {
                problems.push(Problem::new(format!("{path}.{key}"), format!("more than {WINDOWS_MAX} windows"), ""));
            }
        }
        let mut keep = |windows: &mut Vec<Window>, parsed: Result<Window, Problem>| match parsed {
            Ok(window) => windows.push(window),
            Err(problem) => problems.push(problem),
        };
        let (mut allow, mut deny) = (Vec::new(), Vec::new());
        for (index, window) in raw.allow.iter().enumerate() {
            keep(&mut allow, parse::allow(window, &format!("{path}.allow[{index}]")));
        }
        for (index, window) in raw.deny.iter().enumerate() {
            keep(&mut deny, parse::deny(window, &zone, &format!("{path}.deny[{index}]")));
        }
        for (index, window) in raw.once.iter().enumerate() {
            keep(&mut allow, parse::once(window, &zone, &format!("{path}.once[{index}]")));
        }
        let mut length = |parsed: Option<Result<SignedDuration, Problem>>, absent: SignedDuration| match parsed {
            None => absent,
            Some(parsed) => parsed.unwrap_or_else(|problem| {
                problems.push(problem);
                absent
            }),
        };
        let edge = |text: &Option<String>, key: &str| text.as_ref().map(|t| parse::edge(t, format!("{path}.{key}")));
        let cutoff = length(edge(&raw.cutoff, "cutoff"), SignedDuration::ZERO);
        let guard = length(edge(&raw.guard, "guard"), SignedDuration::ZERO);
        let grace = length(raw.grace.as_ref().map(|text| parse::grace(text, format!("{path}.grace"))), GRACE);
        problems.into_result(Self { raw, zone, zone_name, allow, deny, cutoff, grace, guard, known: Arc::default() })
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

    /// Nothing new starts so long before a closing.
    #[must_use]
    pub fn cutoff(&self) -> SignedDuration {
        self.cutoff
    }

    /// What is under way ends so long after a closing, at the latest.
    #[must_use]
    pub fn grace(&self) -> SignedDuration {
        self.grace
    }

    /// So much is taken off both ends of every opening.
    #[must_use]
    pub fn guard(&self) -> SignedDuration {
        self.guard
    }

    /// Whether there is no window of any kind: always open.
    #[must_use]
    pub fn is_always(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }

    /// What the windows say of a moment; the answer is kept for as long as it holds.
    pub(crate) fn look(&self, at: Timestamp) -> Look {
        let second = at.as_second();
        let known = *self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, found)) = known.filter(|(from, found)| (*from..found.holds_until).contains(&second)) {
            return self.shown(found);
        }
        let found = self.find(second, true);
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some((second, found));
        self.shown(found)
    }

    /// The same, for a moment that will not be asked for again.
    pub(crate) fn look_once(&self, at: Timestamp) -> Look {
        self.shown(self.find(at.as_second(), true))
    }

    /// The same without the windows that open: as if all that is not denied were allowed.
    pub(crate) fn look_at_denials(&self, at: Timestamp) -> Look {
        self.shown(self.find(at.as_second(), false))
    }

    fn find(&self, second: i64, with_allow: bool) -> Found {
        let allow = Some(&*self.allow).filter(|allow| with_allow && !allow.is_empty());
        Finder::new(Zone::new(&self.zone), allow, &self.deny, self.guard.as_secs()).look(second)
    }

    fn shown(&self, found: Found) -> Look {
        let why = match found.now {
            Some(_) if self.is_always() => CalendarWhy::NoWindows,
            Some(_) => CalendarWhy::Inside,
            None if found.denied => CalendarWhy::Denied,
            None if found.guarded => CalendarWhy::Guarded,
            None => CalendarWhy::Outside,
        };
        Look { now: found.now.map(Opening::from), why, next: found.next.map(Opening::from) }
    }
}

/// The name of a zone that is nearest to a wrong one; a city alone finds its zone, too.
fn zone_that_was_meant(text: &str) -> Option<String> {
    let wanted = text.trim().replace(' ', "_");
    let names: Vec<String> = jiff::tz::db().available().map(|name| name.as_str().to_owned()).collect();
    let of_city = || {
        let cities = names.iter().filter_map(|name| Some(name.rsplit_once('/')?.1));
        let city = suggest::nearest(&wanted, cities)?;
        names.iter().map(String::as_str).find(|name| name.rsplit_once('/').is_some_and(|(_, last)| last == city))
    };
    let meant = suggest::nearest(&wanted, names.iter().map(String::as_str));
    meant.or_else(of_city).map(str::to_owned)
}

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod page;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
