//! What another agreement would mean for what waits: pure arithmetic over openings and ages.
//!
//! Whoever asks has the ages counted by the Outbox (`messages::outbox::CountAges`) at the thresholds that [`Thresholds::of`] gives.

use crate::window::WindowSet;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// Openings that an impact shows.
pub const OPENINGS_SHOWN: usize = 3;

/// One opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// Absent for the one that is under way.
    pub from: Option<Timestamp>,
    /// Absent where no end is in sight.
    pub until: Option<Timestamp>,
}

/// The openings from now on, the one under way first; none where it is always open.
#[must_use]
pub fn openings(windows: &WindowSet, now: Timestamp, count: usize) -> Vec<Opening> {
    let mut found = Vec::new();
    let mut answer = windows.evaluate(now);
    if windows.raw().allow.is_empty() {
        return found;
    }
    if answer.open {
        found.push(Opening { from: None, until: answer.until });
        let Some(closing) = answer.until else { return found };
        answer = windows.evaluate(closing);
    }
    while let (true, Some(from)) = (found.len() < count, answer.next_opening) {
        let until = answer.next_closing;
        found.push(Opening { from: Some(from), until });
        let Some(closing) = until else { break };
        answer = windows.evaluate(closing);
    }
    found
}

/// Ages that matter under an agreement, in milliseconds of custody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// What is this old or older is over at once.
    pub over_ms: u64,
    /// What is this old or older is over before, or when, the next opening begins.
    pub before_opening_ms: u64,
}

impl Thresholds {
    /// Those of messages that live for `max_age` and can be tried in these windows.
    #[must_use]
    pub fn of(max_age: SignedDuration, windows: &WindowSet, now: Timestamp) -> Self {
        let millis = |duration: SignedDuration| u64::try_from(duration.as_millis()).unwrap_or(0);
        let over_ms = millis(max_age);
        let answer = windows.evaluate(now);
        let before_opening_ms = match (answer.open, answer.next_opening) {
            (true, _) => over_ms,
            (false, Some(opening)) => over_ms.saturating_sub(millis(opening.duration_since(now))),
            (false, None) => 0,
        };
        Self { over_ms, before_opening_ms }
    }

    /// What to have counted.
    #[must_use]
    pub fn to_count(self) -> Vec<u64> {
        vec![self.over_ms, self.before_opening_ms]
    }

    /// What the counts mean; `None` when they are not those that were asked for.
    #[must_use]
    pub fn impact(self, counts: &AgeCounts) -> Option<WaitingImpact> {
        let [over, before_opening] = counts.at_least[..] else { return None };
        Some(WaitingImpact {
            looked_at: counts.looked_at,
            complete: counts.complete,
            over,
            expire_before_opening: before_opening.saturating_sub(over),
        })
    }
}

/// How many messages of a destination are of an age.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgeCounts {
    /// Messages that were looked at, oldest first.
    pub looked_at: u64,
    /// Whether those were all.
    pub complete: bool,
    /// For each threshold asked for: how many are that old or older.
    pub at_least: Vec<u64>,
}

/// What a change of the agreement means for what waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingImpact {
    /// Waiting messages that were looked at, oldest first.
    pub looked_at: u64,
    /// Whether those are all; if not, the counts are the least that it can be.
    pub complete: bool,
    /// They are older than the new lifetime: they would expire at once.
    pub over: u64,
    /// They would expire before the next opening.
    pub expire_before_opening: u64,
}

/// What a change means, before it is made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Impact {
    /// The next openings as it is; absent where the destination is new, empty where it is always open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub openings_before: Option<Vec<Opening>>,
    /// The next openings after the change; absent where the destination goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub openings_after: Option<Vec<Opening>>,
    /// What it means for what waits; absent where nothing does, or when the outbox could not be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<WaitingImpact>,
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::window::{RawWindow, RawWindows};
    use proptest::prelude::*;

    fn nightly() -> WindowSet {
        let night = RawWindow { from: Some("22:00".to_owned()), to: Some("02:00".to_owned()), ..RawWindow::default() };
        WindowSet::from_raw(RawWindows { allow: vec![night], ..RawWindows::default() }, "windows").unwrap()
    }

    fn counts(ages: &[u64], thresholds: Thresholds) -> AgeCounts {
        let at_least = |limit: &u64| ages.iter().filter(|age| *age >= limit).count() as u64;
        AgeCounts {
            looked_at: ages.len() as u64,
            complete: true,
            at_least: thresholds.to_count().iter().map(at_least).collect(),
        }
    }

    #[test]
    fn an_opening_under_way_comes_first_and_always_open_has_none() {
        let now = "2026-11-23T23:00:00Z".parse().unwrap();
        let found = openings(&nightly(), now, 3);
        assert_eq!(found.len(), 3);
        assert_eq!(found[0], Opening { from: None, until: Some("2026-11-24T02:00:00Z".parse().unwrap()) });
        assert_eq!(found[1].from, Some("2026-11-24T22:00:00Z".parse().unwrap()));
        assert!(openings(&WindowSet::default(), now, 3).is_empty());
    }

    proptest! {
        #[test]
        fn every_message_is_counted_where_it_ends(
            ages_h in proptest::collection::vec(0_u64..100, 0..20), max_age_h in 1_i64..80, hour in 0_i64..48,
        ) {
            let start: Timestamp = "2026-11-23T00:00:00Z".parse().unwrap();
            let now = start.checked_add(SignedDuration::from_hours(hour)).unwrap();
            let ages: Vec<u64> = ages_h.iter().map(|hours| hours * 3_600_000).collect();
            let thresholds = Thresholds::of(SignedDuration::from_hours(max_age_h), &nightly(), now);
            let impact = thresholds.impact(&counts(&ages, thresholds)).unwrap();
            // Message by message: hour after hour until it is over or the window opens.
            let (mut over, mut before) = (0, 0);
            for age in &ages_h {
                let mut at = hour;
                let open = |at: i64| [22, 23, 0, 1].contains(&(at % 24));
                let end = hour + max_age_h - i64::try_from(*age).unwrap();
                if end <= hour {
                    over += 1;
                    continue;
                }
                while !open(at) && at < end {
                    at += 1;
                }
                before += u64::from(at >= end);
            }
            prop_assert_eq!((impact.over, impact.expire_before_opening), (over, before));
        }
    }
}
