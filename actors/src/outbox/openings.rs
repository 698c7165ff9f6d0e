//! For how long each destination was open, and how many of its openings closed, between two sweeps.
//!
//! Only what the gateway lived through is counted: the length by the monotonic clock, the openings by the wall clock where it is to be
//! believed. Where it is not, or was stepped, no opening is counted as closed, and only what was open before and after counts as
//! open: a message may live longer than agreed, and never ends because of a clock. A pause is no closing.

use jiff::{SignedDuration, Timestamp};
use std::{collections::HashMap, time::Duration};
use tidegate_schemas::{
    agreement::{Circumstances, ServiceAgreement},
    id::DestinationId,
    record::SignalRecord,
    view::SignalView,
};
use tokio::time::Instant;

/// A difference between wall clock and monotonic clock that is taken for a step.
const STEP: SignedDuration = SignedDuration::from_secs(60);
/// Changes of a destination that are followed between two looks.
const CHANGES_MAX: usize = 64;

/// A moment, as it was looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    /// The wall clock.
    pub wall: Timestamp,
    /// Whether to believe it.
    pub trusted: bool,
    /// The custody clock, in milliseconds.
    pub custody_ms: u64,
    /// The monotonic clock.
    pub at: Instant,
}

/// What was said about when a destination is ready.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Said {
    pub paused: bool,
    /// The last signal; it may have run out.
    pub signal: Option<SignalRecord>,
}

/// What happened to one destination since it was looked at before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Since {
    pub opened_ms: u64,
    pub closings: u32,
}

/// What is remembered of each destination.
#[derive(Debug, Default)]
pub(super) struct Openings {
    last: HashMap<DestinationId, (Look, bool)>,
}

/// Whether it was open at a moment at or before `now`, and until when that held.
fn state_at(agreement: &ServiceAgreement, said: Said, now: Look, at: Timestamp) -> (bool, Option<Timestamp>) {
    let ago_ms = u64::try_from(now.wall.duration_since(at).as_millis()).unwrap_or(0);
    let custody_ms = now.custody_ms.saturating_sub(ago_ms);
    let held = said.signal.filter(|signal| (signal.since_custody_ms..signal.until_custody_ms).contains(&custody_ms));
    let signal = held.map(|signal| SignalView {
        ready: signal.ready,
        since_ms: custody_ms - signal.since_custody_ms,
        left_ms: signal.until_custody_ms - custody_ms,
        from: signal.from,
    });
    let circumstances = Circumstances { at, clock_trusted: now.trusted, paused: said.paused, signal };
    let evaluation = agreement.evaluate(&circumstances);
    (evaluation.open, evaluation.until)
}

impl Openings {
    /// Looks at a destination.
    pub fn look(&mut self, id: &DestinationId, agreement: &ServiceAgreement, said: Said, now: Look) -> Since {
        let (open, _) = state_at(agreement, said, now, now.wall);
        match self.last.insert(id.clone(), (now, open)) {
            Some((last, was_open)) => since(agreement, said, (last, was_open), (now, open)),
            None => Since::default(),
        }
    }

    /// Forgets destinations that were not looked at now.
    pub fn forget_others(&mut self, now: Look) {
        self.last.retain(|_, (last, _)| last.at == now.at);
    }
}

fn since(agreement: &ServiceAgreement, said: Said, (last, was_open): (Look, bool), (now, open): (Look, bool)) -> Since {
    let elapsed = now.at.saturating_duration_since(last.at);
    let by_wall = now.wall.duration_since(last.wall);
    let by_clock = SignedDuration::try_from(elapsed).unwrap_or(SignedDuration::MAX);
    let believed = last.trusted && now.trusted && (by_wall - by_clock).abs() <= STEP;
    if !believed {
        return Since { opened_ms: if was_open && open { millis(elapsed) } else { 0 }, closings: 0 };
    }
    let mut since = Since::default();
    let mut at = last.wall;
    for _ in 0..CHANGES_MAX {
        if at >= now.wall {
            break;
        }
        let (open, until) = state_at(agreement, said, now, at);
        let stop = until.filter(|until| *until > at).map_or(now.wall, |until| until.min(now.wall));
        if open {
            since.opened_ms += u64::try_from(stop.duration_since(at).as_millis()).unwrap_or(0);
            // What holds no longer may be open still, for another reason. A signal that ends is no window that was missed, unless nothing
            // but signals opens.
            let closes = until == Some(stop) && !state_at(agreement, said, now, stop).0;
            let plain = Said { signal: None, ..said };
            let just_before = stop.saturating_sub(SignedDuration::from_millis(1)).unwrap_or(stop);
            since.closings +=
                u32::from(closes && (agreement.signal.only || state_at(agreement, plain, now, just_before).0));
        }
        at = stop;
    }
    since.opened_ms = since.opened_ms.min(millis(elapsed));
    since
}

fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}
