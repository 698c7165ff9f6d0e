//! Where openings begin and end: what the allow windows cover, less what the deny windows cover, less the guard at both ends.
//!
//! Every question takes a bounded number of steps, however many windows follow each other: what lies beyond them is not known yet,
//! and asked again when it has come nearer. All times are in seconds.

use super::{
    rule::Window,
    zone::{DAY, Zone},
};
use std::cell::Cell;

/// How far a beginning or an end is looked for: an opening longer than that is shown without.
const JOINED_WITHIN: i64 = 400 * DAY;
/// How far ahead an opening is looked for: no day of any calendar rule is rarer.
const OPENING_WITHIN: i64 = 50 * 366 * DAY;
/// Most steps from one interval to the next, in each direction: a chain of one-minute windows could be endless.
const STEPS_MAX: u32 = 512;
/// How long what is beyond reach is not looked for again.
const AGAIN_AFTER: i64 = 4 * 3_600;

/// An opening, in seconds; an end of it that is absent is beyond reach, or does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub start: Option<i64>,
    pub end: Option<i64>,
}

impl Span {
    fn has(self, at: i64) -> bool {
        self.start.is_none_or(|start| start <= at) && self.end.is_none_or(|end| at < end)
    }

    /// Less the guard at both ends, if anything is left.
    fn less(self, guard: i64) -> Option<Self> {
        let (start, end) = (self.start.map(|start| start + guard), self.end.map(|end| end - guard));
        let nothing = matches!((start, end), (Some(start), Some(end)) if start >= end);
        (!nothing).then_some(Self { start, end })
    }
}

/// What the windows say of a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    /// The opening that is under way.
    pub now: Option<Span>,
    /// If there is none: a deny window covers the moment.
    pub denied: bool,
    /// If there is none: only the guard keeps it closed.
    pub guarded: bool,
    /// The next opening.
    pub next: Option<Span>,
    /// Up to this moment all of it holds.
    pub holds_until: i64,
}

/// One question.
pub(super) struct Finder<'w> {
    zone: Zone<'w>,
    /// `None`: everything is allowed.
    allow: Option<&'w [Window]>,
    deny: &'w [Window],
    guard: i64,
    steps: Cell<u32>,
    /// The nearest moment beyond which was not looked.
    reached: Cell<i64>,
}

impl<'w> Finder<'w> {
    pub fn new(zone: Zone<'w>, allow: Option<&'w [Window]>, deny: &'w [Window], guard: i64) -> Self {
        Self { zone, allow, deny, guard, steps: Cell::new(STEPS_MAX), reached: Cell::new(i64::MAX) }
    }

    /// What holds at this moment, and what comes next.
    pub fn look(&self, at: i64) -> Found {
        let denied = self.denied(at);
        let open = denied.is_none() && self.allowed(at).is_some();
        let whole = open.then(|| Span { start: self.beginning(at), end: self.end_within(at) });
        let kept = whole.and_then(|span| span.less(self.guard));
        let now = kept.filter(|span| span.has(at));
        let ahead = kept.filter(|span| span.start.is_some_and(|start| at < start));
        self.steps.set(STEPS_MAX);
        let (guarded_from, next) = match (ahead, whole) {
            (Some(ahead), _) => (None, Some(ahead)),
            (None, None) => self.next(at),
            (None, Some(whole)) => whole.end.map_or((None, None), |end| self.next(end)),
        };
        let change = match now {
            Some(span) => span.end,
            None => {
                let ends = [next.and_then(|next| next.start), denied, whole.and_then(|whole| whole.end)];
                self.closed_until(at, guarded_from.into_iter().chain(ends.into_iter().flatten()))
            }
        };
        let again = self.reached.get().min(at + AGAIN_AFTER).max(at + 1);
        let holds_until = match change {
            Some(change) if self.reached.get() == i64::MAX => change,
            change => change.map_or(again, |change| change.min(again)),
        };
        Found { now, denied: denied.is_some(), guarded: whole.is_some() && now.is_none(), next, holds_until }
    }

    /// Until when it stays closed for the same reason; the beginning of a deny window is a reason, too, and so is that of a guard.
    fn closed_until(&self, at: i64, changes: impl Iterator<Item = i64>) -> Option<i64> {
        let change = changes.filter(|change| *change > at).min();
        let limit = change.unwrap_or(at + AGAIN_AFTER);
        self.first_denial(at, limit).or(change)
    }

    /// After a moment at which it is closed: where the first guard before an opening begins, and the next opening. The guard may
    /// leave nothing of the openings between the two.
    fn next(&self, from: i64) -> (Option<i64>, Option<Span>) {
        let first = self.next_start(from);
        let mut start = first;
        while let Some(at) = start {
            let span = Span { start, end: self.end(at) };
            if let Some(kept) = span.less(self.guard) {
                return (first, Some(kept));
            }
            start = span.end.and_then(|end| self.next_start(end));
        }
        (first, None)
    }

    /// The next moment that is allowed and not denied, from one that is not.
    fn next_start(&self, from: i64) -> Option<i64> {
        let (mut at, limit) = (from, from + OPENING_WITHIN);
        while at < limit {
            if !self.step() {
                self.reach(at);
                return None;
            }
            if let Some(end) = self.denied(at) {
                at = end;
            } else if self.allowed(at).is_some() {
                return Some(at);
            } else {
                let windows = self.allow.unwrap_or_default();
                let mut nearest = limit;
                for window in windows {
                    if let Some(interval) = window.first(&self.zone, at, nearest) {
                        nearest = nearest.min(interval.start);
                    }
                }
                at = nearest;
            }
        }
        None
    }

    fn end_within(&self, at: i64) -> Option<i64> {
        self.steps.set(STEPS_MAX);
        self.end(at)
    }

    /// The end of the opening that covers a moment.
    fn end(&self, at: i64) -> Option<i64> {
        let horizon = at + JOINED_WITHIN;
        let (mut from, mut end) = (at, self.allowed(at)?.min(horizon));
        loop {
            if let Some(denial) = self.first_denial(from, end) {
                return Some(denial);
            }
            if end >= horizon {
                return None;
            }
            match self.allowed(end).filter(|later| *later > end) {
                None => return Some(end),
                Some(later) if self.step() => (from, end) = (end, later.min(horizon)),
                Some(_) => {
                    self.reach(end);
                    return None;
                }
            }
        }
    }

    /// The beginning of the opening that covers a moment.
    fn beginning(&self, at: i64) -> Option<i64> {
        self.steps.set(STEPS_MAX);
        let horizon = at - JOINED_WITHIN;
        let start = self.allow.and_then(|windows| {
            let mut first = at + 1;
            while let Some(earlier) = windows.iter().filter_map(|window| window.reaching(&self.zone, first)).min() {
                first = earlier;
                if first < horizon || !self.step() {
                    return None;
                }
            }
            Some(first)
        });
        let reach = start.unwrap_or(horizon);
        let last =
            self.deny.iter().filter_map(|window| window.last(&self.zone, at, reach)).map(|found| found.end).max();
        last.or(start)
    }

    /// The end of what covers this moment.
    fn allowed(&self, at: i64) -> Option<i64> {
        match self.allow {
            None => Some(i64::MAX),
            Some(windows) => windows.iter().filter_map(|window| window.covering(&self.zone, at)).max(),
        }
    }

    /// The end of the deny window that covers this moment.
    fn denied(&self, at: i64) -> Option<i64> {
        self.deny.iter().filter_map(|window| window.covering(&self.zone, at)).max()
    }

    /// The first beginning of a deny window after a moment, and at `limit` at the latest.
    fn first_denial(&self, after: i64, limit: i64) -> Option<i64> {
        self.deny.iter().filter_map(|window| window.first(&self.zone, after, limit)).map(|found| found.start).min()
    }

    fn step(&self) -> bool {
        let left = self.steps.get();
        self.steps.set(left.saturating_sub(1));
        left > 0
    }

    fn reach(&self, at: i64) {
        self.reached.set(self.reached.get().min(at));
    }
}
