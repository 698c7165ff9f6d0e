//! The restart budget: how often a child may fall before more is done than starting it again (Erlang/OTP's restart
//! intensity, with a growing delay).
//!
//! Pure: falls and times go in, verdicts come out. The first fall is answered at once, since most falls are one bad moment;
//! each further fall within the period waits longer. More than `restarts_max` falls within the period exhaust the budget.
//! A child that is tried again after a suspension is on probation: until a whole period has passed, one fall is enough.

use std::{collections::VecDeque, time::Duration};
use tokio::time::Instant;

/// The limits of a restart budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intensity {
    /// Restarts within the period that are paid for; the next fall exhausts the budget.
    pub restarts_max: usize,
    /// For how long a fall is remembered.
    pub period: Duration,
    /// The delay before the first, second, ... restart within the period; the last one repeats. Empty means no delay.
    pub delays: &'static [Duration],
}

impl Default for Intensity {
    fn default() -> Self {
        const DELAYS: [Duration; 5] = [
            Duration::ZERO,
            Duration::from_millis(200),
            Duration::from_secs(1),
            Duration::from_secs(5),
            Duration::from_secs(15),
        ];
        Self { restarts_max: 5, period: Duration::from_secs(60), delays: &DELAYS }
    }
}

/// What a fall leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Start again.
    Restart {
        /// The delay; zero for the first fall within a period.
        after: Duration,
    },
    /// Too many falls: suspend the child or end the process, as its line says.
    Exhausted,
}

/// The budget of one child.
#[derive(Debug, Clone)]
pub struct RestartBudget {
    intensity: Intensity,
    /// Falls within the period, oldest first; at most `restarts_max`.
    falls: VecDeque<Instant>,
    probation_until: Option<Instant>,
}

impl RestartBudget {
    /// A full budget.
    #[must_use]
    pub fn new(intensity: Intensity) -> Self {
        Self { intensity, falls: VecDeque::with_capacity(intensity.restarts_max), probation_until: None }
    }

    /// Charges one fall.
    pub fn fell(&mut self, now: Instant) -> Verdict {
        if self.probation_until.take().is_some_and(|until| now < until) {
            return Verdict::Exhausted;
        }
        while self.falls.front().is_some_and(|fall| now.saturating_duration_since(*fall) >= self.intensity.period) {
            self.falls.pop_front();
        }
        let recent = self.falls.len();
        if recent >= self.intensity.restarts_max {
            self.falls.clear();
            return Verdict::Exhausted;
        }
        self.falls.push_back(now);
        let delay = self.intensity.delays.get(recent).or(self.intensity.delays.last());
        Verdict::Restart { after: delay.copied().unwrap_or_default() }
    }

    /// A suspended child gets its one try, now.
    pub fn begin_probation(&mut self, now: Instant) {
        self.falls.clear();
        self.probation_until = Some(now + self.intensity.period);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_child_that_falls_at_once_gets_five_tries_with_growing_delays() {
        let mut budget = RestartBudget::new(Intensity::default());
        let mut now = start();
        let mut delays_ms = Vec::new();
        while let Verdict::Restart { after: delay } = budget.fell(now) {
            delays_ms.push(delay.as_millis());
            now += delay;
        }
        assert_eq!(delays_ms, [0, 200, 1000, 5000, 15_000]);
    }

    #[test]
    fn after_a_quiet_period_the_first_restart_is_at_once_again() {
        let mut budget = RestartBudget::new(Intensity::default());
        let now = start();
        for _ in 0..5 {
            assert_ne!(budget.fell(now), Verdict::Exhausted);
        }
        let later = now + Duration::from_secs(60);
        assert_eq!(budget.fell(later), Verdict::Restart { after: Duration::ZERO });
    }

    #[test]
    fn on_probation_one_fall_is_enough_and_a_survived_period_clears_it() {
        let mut budget = RestartBudget::new(Intensity::default());
        let now = start();
        budget.begin_probation(now);
        assert_eq!(budget.fell(now + Duration::from_secs(59)), Verdict::Exhausted);
        budget.begin_probation(now);
        assert_eq!(budget.fell(now + Duration::from_secs(60)), Verdict::Restart { after: Duration::ZERO });
    }

    proptest! {
        #[test]
        fn in_no_period_are_there_more_restarts_than_paid_for(gaps_ms in prop::collection::vec(0_u64..40_000, 1..200)) {
            let intensity = Intensity::default();
            let mut budget = RestartBudget::new(intensity);
            let (mut now, mut paid, mut burst) = (start(), Vec::<Instant>::new(), Vec::<Instant>::new());
            for gap in gaps_ms {
                now += Duration::from_millis(gap);
                burst.retain(|fall| now - *fall < intensity.period);
                match budget.fell(now) {
                    Verdict::Restart { after: delay } => {
                        prop_assert!(burst.len() < intensity.restarts_max);
                        prop_assert_eq!(delay, intensity.delays[burst.len().min(intensity.delays.len() - 1)]);
                        burst.push(now);
                        paid.push(now);
                        now += delay;
                    }
                    // Exhaustion is exact: never early, and it starts a new account.
                    Verdict::Exhausted => {
                        prop_assert_eq!(burst.len(), intensity.restarts_max);
                        burst.clear();
                        paid.clear();
                    }
                }
            }
            for window in paid.windows(intensity.restarts_max + 1) {
                prop_assert!(window[intensity.restarts_max] - window[0] >= intensity.period);
            }
        }

        #[test]
        fn delays_never_shrink_within_a_burst_and_never_pass_the_cap(falls in 1_usize..6) {
            let intensity = Intensity::default();
            let mut budget = RestartBudget::new(intensity);
            let now = start();
            let delays: Vec<Verdict> = (0..falls).map(|_| budget.fell(now)).collect();
            let mut before = Duration::ZERO;
            for verdict in delays {
                let Verdict::Restart { after: delay } = verdict else { return Err(TestCaseError::fail("exhausted early")) };
                prop_assert!(delay >= before && delay <= Duration::from_secs(15));
                before = delay;
            }
        }
    }
}
