//! When the destination may be tried, all things considered: validity, windows, signals, a pause, the clock.
//!
//! A pause beats everything; then comes the agreement's validity, then deny windows, then signals, then the windows that open. An
//! agreement that depends on the time stays closed while the clock isn't trusted, unless a signal says "ready": a signal is
//! measured by the custody clock, which needs no trust.

use super::ServiceAgreement;
use crate::{
    view::SignalView,
    window::{CalendarWhy, Look, Opening},
};
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// From when to when an agreement holds. Outside of it nothing is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
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

/// What the answer depends on, beside the agreement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Circumstances {
    /// Now, by the wall clock.
    pub at: Timestamp,
    /// Whether that clock is trusted.
    pub clock_trusted: bool,
    /// Whether an operator has stopped the destination.
    pub paused: bool,
    /// The signal that holds.
    pub signal: Option<SignalView>,
}

impl Circumstances {
    /// A moment of a trusted clock, no pause, no signal: what the agreement by itself says.
    #[must_use]
    pub fn at(at: Timestamp) -> Self {
        Self { at, clock_trusted: true, paused: false, signal: None }
    }
}

/// Why a destination is open or closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Open: there are no windows.
    NoWindows,
    /// Open: a window covers this moment (or nothing but deny windows are there, and none of them does).
    InsideWindow,
    /// Open: a signal says so, no window does.
    Signalled,
    /// Closed: no window covers this moment.
    OutsideWindows,
    /// Closed: a deny window covers it.
    Denied,
    /// Closed: it lies within the guard at an end of an opening.
    Guarded,
    /// Closed: a signal says "not now".
    NotNow,
    /// Closed: nothing but a signal opens it, and one could now.
    WaitsForSignal,
    /// Closed: it depends on the time, which isn't known.
    ClockUntrusted,
    /// Closed: the agreement does not hold yet.
    BeforeAgreement,
    /// Closed: the agreement is over.
    AfterAgreement,
    /// Closed: an operator has stopped it.
    Paused,
}

/// The answer to "may this destination be tried, and when does that change?"
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Evaluation {
    /// Whether it is open.
    pub open: bool,
    /// Why.
    pub why: Why,
    /// When the present opening began, or the signal that came in it: failures from before don't count against it. Absent when it
    /// is closed, or has been open for longer than can be seen.
    pub since: Option<Timestamp>,
    /// Until when it stays open, or closed; absent when nothing that is known changes it (or not within reach).
    pub until: Option<Timestamp>,
    /// From here on nothing new starts in the present opening: its closing less the cutoff; a signal's own end has no cutoff. Absent
    /// when it is closed, or has no end.
    pub starts_until: Option<Timestamp>,
    /// By then an attempt under way has ended: the closing and the grace. Absent when it is closed, or has no end.
    pub ends_by: Option<Timestamp>,
    /// The start of the next opening after this moment, as far as it is known: nobody knows when a signal comes or a pause ends.
    pub next_opening: Option<Timestamp>,
    /// The end of the opening that is under way, or of the next one.
    pub next_closing: Option<Timestamp>,
}

impl Evaluation {
    /// Whether something new may start at this moment, for which it was asked or which lies within `until`.
    #[must_use]
    pub fn may_start(&self, at: Timestamp) -> bool {
        self.open && self.starts_until.is_none_or(|end| at < end)
    }

    fn closed(why: Why, next: Option<Opening>) -> Self {
        let next_opening = next.and_then(|next| next.start);
        Self {
            open: false,
            why,
            since: None,
            until: next_opening,
            starts_until: None,
            ends_by: None,
            next_opening,
            next_closing: next.and_then(|next| next.end),
        }
    }
}

/// How an opening ends.
#[derive(Clone, Copy)]
struct Ending {
    at: Option<Timestamp>,
    /// By a signal that runs out, and by nothing else.
    by_signal: bool,
}

impl ServiceAgreement {
    /// Open or closed, why, and what comes next. The one function that answers this.
    #[must_use]
    pub fn evaluate(&self, circumstances: &Circumstances) -> Evaluation {
        let Circumstances { at, clock_trusted, paused, signal } = *circumstances;
        if paused {
            return Evaluation::closed(Why::Paused, None);
        }
        let signal = signal.filter(|signal| self.signal.accept && signal.left_ms > 0);
        let timeless = self.windows.is_always() && self.valid == Validity::default();
        if !clock_trusted && !timeless {
            return match signal.filter(|signal| signal.ready) {
                Some(signal) => {
                    let (start, end) = signal_span(at, &signal);
                    let ending = Ending { at: Some(end), by_signal: true };
                    self.opened(Why::Signalled, Some(start), ending, None)
                }
                None => Evaluation::closed(Why::ClockUntrusted, None),
            };
        }
        let (now, why) = self.within(at, |at| self.windows.look(at));
        match signal {
            Some(signal) if signal.ready => self.by_ready(at, signal_span(at, &signal), now, why),
            Some(signal) => {
                let (_, end) = signal_span(at, &signal);
                let next = if self.signal.only { None } else { self.opening_from(end) };
                Evaluation::closed(if now.now.is_some() { Why::NotNow } else { why }, next)
            }
            None if self.signal.only => {
                Evaluation::closed(if now.now.is_some() { Why::WaitsForSignal } else { why }, None)
            }
            None => match now.now {
                Some(opening) => {
                    let ending = Ending { at: opening.end, by_signal: false };
                    self.opened(why, opening.start, ending, now.next)
                }
                None => Evaluation::closed(why, now.next),
            },
        }
    }

    /// The openings by the calendar, the one under way first: windows within the agreement's validity. Where nothing but a signal
    /// opens, these are the times at which one may.
    pub fn openings(&self, from: Timestamp) -> impl Iterator<Item = Opening> {
        let first = self.opening_at(from).or_else(|| self.within(from, |at| self.windows.look_once(at)).0.next);
        std::iter::successors(first, |last| self.within(last.end?, |at| self.windows.look_once(at)).0.next)
    }

    /// Under a signal that says "ready".
    fn by_ready(&self, at: Timestamp, signal: (Timestamp, Timestamp), now: Look, why: Why) -> Evaluation {
        let (may, why_not) = match self.signal.only {
            true => (now, why),
            false => self.within(at, |at| self.windows.look_at_denials(at)),
        };
        let Some(may_now) = may.now else {
            return Evaluation::closed(why_not, self.under_signal(at, signal.1));
        };
        let (why, start) = match now.now.filter(|_| !self.signal.only) {
            Some(opening) => (why, opening.start),
            None => (Why::Signalled, may_now.start),
        };
        let since = start.map_or(signal.0, |start| start.max(signal.0));
        let ending = self.ending(now.now, may_now, signal.1);
        let next = ending.at.and_then(|end| self.under_signal(end, signal.1));
        self.opened(why, Some(since), ending, next)
    }

    /// Where the opening ends that is open now by a signal, by a window, or by both in turn.
    fn ending(&self, window: Option<Opening>, may: Opening, signal_end: Timestamp) -> Ending {
        let beyond = |end: Option<Timestamp>| end.is_none_or(|end| end > signal_end);
        let window = window.filter(|_| !self.signal.only);
        if let Some(window) = window.filter(|window| beyond(window.end)) {
            return Ending { at: window.end, by_signal: false };
        }
        if !beyond(may.end) {
            return Ending { at: may.end, by_signal: false };
        }
        // The signal runs out, perhaps inside a window.
        match self.opening_at(signal_end).filter(|_| !self.signal.only) {
            Some(window) => Ending { at: window.end, by_signal: false },
            None => Ending { at: Some(signal_end), by_signal: true },
        }
    }

    /// The next opening after a moment at which it is closed, with a signal that holds until `signal_end`.
    fn under_signal(&self, from: Timestamp, signal_end: Timestamp) -> Option<Opening> {
        if from < signal_end {
            let may = self.within(from, |at| match self.signal.only {
                true => self.windows.look_once(at),
                false => self.windows.look_at_denials(at),
            });
            if let Some((start, next)) = may.0.next.and_then(|next| Some((next.start?, next)))
                && start < signal_end
            {
                let ending = self.ending(self.opening_at(start), next, signal_end);
                return Some(Opening { start: Some(start), end: ending.at });
            }
        }
        if self.signal.only { None } else { self.opening_from(from.max(signal_end)) }
    }

    /// The opening that covers a moment, by the calendar.
    fn opening_at(&self, at: Timestamp) -> Option<Opening> {
        self.within(at, |at| self.windows.look_once(at)).0.now
    }

    /// The opening that covers a moment, from there on, or the next one.
    fn opening_from(&self, at: Timestamp) -> Option<Opening> {
        let look = self.within(at, |at| self.windows.look_once(at)).0;
        look.now.map(|opening| Opening { start: Some(at), ..opening }).or(look.next)
    }

    /// What a look at the windows says, within the agreement's validity. The guard is taken off that, too.
    fn within(&self, at: Timestamp, look: impl Fn(Timestamp) -> Look) -> (Look, Why) {
        let guard = self.windows.guard();
        let from = self.valid.from.map(|from| from.saturating_add(guard).unwrap_or(from));
        let until = self.valid.until.map(|until| until.saturating_sub(guard).unwrap_or(until));
        let clip = |opening: Opening| {
            let start = opening.start.max(from);
            let end = [opening.end, until].into_iter().flatten().min();
            let nothing = matches!((start, end), (Some(start), Some(end)) if start >= end);
            (!nothing).then_some(Opening { start, end })
        };
        let closed = |next, why| (Look { now: None, why: CalendarWhy::Outside, next }, why);
        if until.is_some_and(|until| until <= at) {
            return closed(None, Why::AfterAgreement);
        }
        if let Some(from) = from.filter(|from| at < *from) {
            let first = look(from);
            return closed(first.now.or(first.next).and_then(clip), Why::BeforeAgreement);
        }
        let seen = look(at);
        let why = match seen.why {
            CalendarWhy::NoWindows => Why::NoWindows,
            CalendarWhy::Inside => Why::InsideWindow,
            CalendarWhy::Outside => Why::OutsideWindows,
            CalendarWhy::Denied => Why::Denied,
            CalendarWhy::Guarded => Why::Guarded,
        };
        (Look { now: seen.now.and_then(clip), next: seen.next.and_then(clip), ..seen }, why)
    }

    fn opened(&self, why: Why, since: Option<Timestamp>, ending: Ending, next: Option<Opening>) -> Evaluation {
        let cutoff = if ending.by_signal { SignedDuration::ZERO } else { self.windows.cutoff() };
        Evaluation {
            open: true,
            why,
            since,
            until: ending.at,
            starts_until: ending.at.map(|end| end.saturating_sub(cutoff).unwrap_or(end)),
            ends_by: ending.at.map(|end| end.saturating_add(self.windows.grace()).unwrap_or(end)),
            next_opening: next.and_then(|next| next.start),
            next_closing: ending.at,
        }
    }
}

/// From when to when a signal holds, by the wall clock of now.
fn signal_span(at: Timestamp, signal: &SignalView) -> (Timestamp, Timestamp) {
    let length = |ms: u64| SignedDuration::from_millis(i64::try_from(ms).unwrap_or(i64::MAX));
    let start = at.saturating_sub(length(signal.since_ms)).unwrap_or(at);
    (start, at.saturating_add(length(signal.left_ms)).unwrap_or(at))
}
