//! When the destination may be tried, all things considered: validity, windows, signals, the clock.

use super::ServiceAgreement;
use crate::view::SignalView;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// From when to when an agreement holds. Outside of it nothing is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Validity {
    /// Its first moment.
    pub from: Option<Timestamp>,
    /// The first moment after it.
    pub until: Option<Timestamp>,
}

/// What a signal ("ready until", "not now") may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignalPolicy {
    /// Whether signals are heard at all.
    pub accept: bool,
    /// Longest time that one signal opens or closes.
    pub ttl_max: SignedDuration,
    /// Nothing but a signal opens: windows say when one may.
    pub only: bool,
    /// Signals that are honoured in an hour.
    pub per_hour: u16,
}
impl Default for SignalPolicy {
    fn default() -> Self {
        Self { accept: false, ttl_max: SignedDuration::from_mins(15), only: false, per_hour: 4 }
    }
}

/// What the evaluation of an agreement depends on.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances {
    /// The wall clock.
    pub at: Timestamp,
    /// Whether it is believed.
    pub clock_trusted: bool,
    /// An operator stopped the destination.
    pub paused: bool,
    /// The signal that holds now.
    pub signal: Option<SignalView>,
}

/// Why a destination is open or closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// There are no windows: always open.
    NoWindows,
    /// A window covers this moment.
    InsideWindow,
    /// No window covers this moment.
    OutsideWindows,
    /// A deny window covers this moment.
    Denied,
    /// A signal opened it.
    Signalled,
    /// A signal closed it.
    NotNow,
    /// Nothing but a signal opens it.
    WaitsForSignal,
    /// Its windows depend on the time, and the clock is not believed.
    ClockUntrusted,
    /// The agreement does not hold yet.
    BeforeAgreement,
    /// The agreement holds no more.
    AfterAgreement,
    /// An operator stopped it.
    Paused,
    /// The opening is about to end: nothing starts any more.
    CuttingOff,
}

/// Open or closed, why, and what comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Whether it is open.
    pub open: bool,
    /// Why.
    pub why: Why,
    /// The start of the present opening.
    pub since: Option<Timestamp>,
    /// Until when this answer holds.
    pub until: Option<Timestamp>,
    /// Nothing new starts after it.
    pub starts_until: Option<Timestamp>,
    /// What is under way ends by then.
    pub ends_by: Option<Timestamp>,
    /// The start of the next opening.
    pub next_opening: Option<Timestamp>,
    /// The end of the present opening, or of the next one.
    pub next_closing: Option<Timestamp>,
}

impl Evaluation {
    /// Whether something new may start at this moment.
    #[must_use]
    pub fn may_start(&self, at: Timestamp) -> bool {
        self.open && self.starts_until.is_none_or(|until| at < until)
    }
}

impl ServiceAgreement {
    /// All things considered: may the destination be tried?
    #[must_use]
    pub fn evaluate(&self, now: &Circumstances) -> Evaluation {
        let at = now.at;
        let windows = self.windows.evaluate(at);
        let timed = windows.why != crate::window::Why::NoWindows;
        let shut = |why, until| Evaluation {
            open: false,
            why,
            since: None,
            until,
            starts_until: None,
            ends_by: None,
            next_opening: windows.next_opening,
            next_closing: windows.next_closing,
        };
        let signal = now.signal.filter(|_| self.signal.accept);
        let ms = |ms: u64| SignedDuration::from_millis(i64::try_from(ms).unwrap_or(i64::MAX));
        let ends = |s: SignalView| at.saturating_add(ms(s.left_ms)).unwrap_or(at);
        if now.paused {
            return shut(Why::Paused, None);
        }
        if self.valid.from.is_some_and(|from| at < from) {
            return shut(Why::BeforeAgreement, self.valid.from);
        }
        if self.valid.until.is_some_and(|until| at >= until) {
            return shut(Why::AfterAgreement, None);
        }
        match signal {
            Some(s) if !s.ready => {
                let after = self.windows.evaluate(ends(s));
                let opens = if after.open { Some(ends(s)) } else { after.next_opening };
                return Evaluation { next_opening: opens, ..shut(Why::NotNow, Some(ends(s))) };
            }
            Some(s) if !windows.open || (timed && !now.clock_trusted) => {
                return Evaluation {
                    open: true,
                    why: Why::Signalled,
                    since: at.saturating_sub(ms(s.since_ms)).ok(),
                    until: Some(ends(s)),
                    starts_until: Some(ends(s)),
                    ends_by: ends(s).checked_add(SignedDuration::from_secs(30)).ok(),
                    ..shut(Why::Signalled, None)
                };
            }
            _ => {}
        }
        if timed && !now.clock_trusted {
            return shut(Why::ClockUntrusted, None);
        }
        if !windows.open {
            return shut(Why::OutsideWindows, windows.until);
        }
        Evaluation {
            open: true,
            why: if timed { Why::InsideWindow } else { Why::NoWindows },
            since: timed.then(|| self.since(at)).flatten(),
            until: windows.until,
            starts_until: windows.until,
            ends_by: windows.until.and_then(|until| until.checked_add(SignedDuration::from_secs(30)).ok()),
            next_opening: windows.next_opening,
            next_closing: windows.next_closing,
        }
    }

    fn since(&self, at: Timestamp) -> Option<Timestamp> {
        let from = at.checked_sub(SignedDuration::from_hours(8 * 24)).ok()?;
        let mut opening = self.windows.evaluate(from).next_opening?;
        while let Some(next) = self.windows.evaluate(opening).next_opening.filter(|next| *next <= at) {
            opening = next;
        }
        Some(opening)
    }
}
