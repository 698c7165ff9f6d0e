//! How a destination is, as a device may know it: when it is worth waking up. Nothing of queues, addresses or other destinations.

use crate::view::{DestinationLoad, UplinkStatus};
use jiff::Timestamp;
use serde::Serialize;

/// By how much a time may differ, in seconds, without being another one: what is left of a signal is rounded anew at every look.
const SAME_S: u64 = 2;

/// How a destination is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StateWord {
    /// Its window is closed.
    Closed,
    /// Its window is open; nothing is known against it.
    Open,
    /// It said itself, or somebody who may speak for it, that it is ready.
    Ready,
    /// What waited is on its way to it.
    Draining,
    /// An operator stopped it.
    Paused,
    /// It is open, and can't be reached now.
    Unreachable,
}

/// What a state is made from.
#[derive(Debug, Clone, Copy)]
pub struct Outlook<'a> {
    /// Whether its agreement lets it be tried now, all things considered.
    pub open: bool,
    /// Whether a signal made it so.
    pub signalled: bool,
    /// Until when that holds.
    pub until: Option<Timestamp>,
    /// The start of the next opening.
    pub next_open: Option<Timestamp>,
    /// What waits for it, if it ever had anything.
    pub load: Option<&'a DestinationLoad>,
    /// How Tor is; absent when nobody knows.
    pub uplink: Option<&'a UplinkStatus>,
    /// Deliveries to it are suspended, because our own part for it fails.
    pub suspended: bool,
    /// Deliveries to it have been under way for a while.
    pub draining: bool,
    /// Whether times by the wall clock may be told.
    pub clock_trusted: bool,
}

/// What is told of a destination. Times are whole seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateTiding {
    /// How it is.
    pub state: StateWord,
    /// Until when, as far as the agreement tells. Absent when nothing ends it, or the clock is not trusted.
    pub until: Option<i64>,
    /// When it opens next. Absent when it never does, or the clock is not trusted.
    pub next_open: Option<i64>,
}

#[derive(Serialize)]
struct Body {
    state: StateWord,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_open: Option<i64>,
    seq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<i64>,
}

impl StateTiding {
    /// What is to be told at this outlook.
    #[must_use]
    pub fn of(outlook: &Outlook<'_>) -> Self {
        let paused = outlook.load.is_some_and(|load| load.paused);
        // Failures say something only while somebody tries: with nothing left to deliver nobody would find out that it is back.
        let failing =
            outlook.load.is_some_and(|load| load.queued > 0 && (load.failures > 0 || load.everything_refused));
        let reachable = matches!(outlook.uplink, Some(UplinkStatus::Ready)) && !failing && !outlook.suspended;
        let state = match outlook {
            _ if paused => StateWord::Paused,
            Outlook { open: false, .. } => StateWord::Closed,
            _ if !reachable => StateWord::Unreachable,
            Outlook { draining: true, .. } => StateWord::Draining,
            Outlook { signalled: true, .. } => StateWord::Ready,
            _ => StateWord::Open,
        };
        let told = |at: Option<Timestamp>| at.filter(|_| outlook.clock_trusted).map(Timestamp::as_second);
        // Nobody knows when an operator lets it go on.
        let until = if paused { None } else { told(outlook.until) };
        Self { state, until, next_open: told(outlook.next_open) }
    }

    /// Whether a device that heard the other has nothing to learn from this one.
    #[must_use]
    pub fn says_the_same_as(&self, other: &Self) -> bool {
        let same = |one: Option<i64>, other: Option<i64>| match (one, other) {
            (Some(one), Some(other)) => one.abs_diff(other) <= SAME_S,
            (one, other) => one == other,
        };
        self.state == other.state && same(self.until, other.until) && same(self.next_open, other.next_open)
    }

    /// The body of the publication, in JSON.
    #[must_use]
    pub fn body(&self, seq: u64, time: Option<Timestamp>) -> String {
        let Self { state, until, next_open } = *self;
        let body = Body { state, until, next_open, seq, time: time.map(Timestamp::as_second) };
        // Words and whole numbers: this can't fail.
        serde_json::to_string(&body).unwrap_or_default()
    }
}
