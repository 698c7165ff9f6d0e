//! What the Dispatcher remembers of a destination between couriers: its isolations, falls, and the start drawn for an opening.

use crate::{
    courier::IsolationMemory,
    ports::entropy::Entropy,
    supervision::{Intensity, RestartBudget, Verdict},
};
use jiff::{SignedDuration, Timestamp};
use std::time::Duration;
use tidegate_schemas::{
    agreement::{Evaluation, Why},
    dispatch::CourierMemory,
};
use tokio::time::Instant;

/// Time until a destination whose couriers keep falling is tried again.
const SUSPENDED: Duration = Duration::from_secs(900);
/// The part of an opening over which starts are spread.
const START_SHARE: f64 = 0.05;
/// Longest that a start waits for that.
const START_SPREAD_MAX: SignedDuration = SignedDuration::from_secs(600);

/// What is remembered of one destination.
pub(super) struct Memory {
    pub isolations: IsolationMemory,
    budget: RestartBudget,
    not_before: Instant,
    suspended: bool,
    opening: Option<Opening>,
}

/// An opening that is under way, and the start that was drawn for it.
#[derive(Clone, Copy)]
struct Opening {
    since: Timestamp,
    start: Timestamp,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            isolations: IsolationMemory::default(),
            budget: RestartBudget::new(Intensity::default()),
            not_before: Instant::now(),
            suspended: false,
            opening: None,
        }
    }
}

impl Memory {
    /// No courier before this.
    pub fn rest_until(&mut self, at: Instant) {
        self.not_before = at;
    }

    /// A courier fell. True when it fell too often, so that the destination is suspended.
    pub fn fell(&mut self, now: Instant) -> bool {
        match self.budget.fell(now) {
            Verdict::Restart { after } => self.not_before = now + after,
            Verdict::Exhausted => {
                self.suspended = true;
                self.not_before = now + SUSPENDED;
            }
        }
        self.suspended
    }

    /// A courier is opened: one that was suspended is on probation.
    pub fn opened(&mut self, now: Instant) {
        if std::mem::take(&mut self.suspended) {
            self.budget.begin_probation(now);
        }
    }

    /// The clock was set: what was drawn belongs to another time.
    pub fn forget_opening(&mut self) {
        self.opening = None;
    }

    /// What the decision has to know of couriers.
    pub fn couriers(&self, now: Instant) -> CourierMemory {
        let left = self.not_before.saturating_duration_since(now);
        let left_ms = u64::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        if self.suspended {
            CourierMemory { suspended_ms: left_ms, rests_ms: 0 }
        } else {
            CourierMemory { suspended_ms: 0, rests_ms: left_ms }
        }
    }

    /// The start of this opening. One draw for each opening, over a small part of it, whether anything waits or not, so that the hour
    /// at which many windows open brings no burst, and the start says nothing of the queue. What is always open, or opened by a
    /// signal, starts at once. `began` is since when anybody could have started.
    pub fn drawn_start(
        &mut self,
        evaluation: &Evaluation,
        began: Timestamp,
        entropy: &dyn Entropy,
    ) -> Option<Timestamp> {
        let since = evaluation.since.filter(|_| evaluation.open && evaluation.why == Why::InsideWindow)?;
        let ends = evaluation.starts_until.or(evaluation.until)?;
        let opening = self.opening.filter(|opening| opening.since == since).unwrap_or_else(|| {
            let from = since.max(began);
            let spread = ends.duration_since(from).mul_f64(START_SHARE).clamp(SignedDuration::ZERO, START_SPREAD_MAX);
            let start = from.saturating_add(spread.mul_f64(entropy.unit())).unwrap_or(from);
            Opening { since, start }
        });
        self.opening = Some(opening);
        Some(opening.start)
    }
}
