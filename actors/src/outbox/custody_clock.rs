//! The custody clock: how long a message has been ours, whatever the wall clock does.
//!
//! It counts milliseconds that the gateway has had custody. While the process runs it goes with the monotonic clock, so a wall
//! clock that steps by days (a board without a battery clock, a time server, an operator) ages nothing. Over a stop it goes on by
//! the wall clock's difference, but only when the wall clock was to be believed before *and* after, and had not jumped in the hour
//! before; else the time of the stop is not counted. Ages, back-offs and the Tor budget are counted by it.
//!
//! It errs to one side: a message may live a little longer than agreed, and never ends because of a clock.

use jiff::Timestamp;
use tokio::time::Instant;

/// A difference between wall clock and monotonic clock that is taken for a jump, in milliseconds.
const JUMP_MS: i64 = 60_000;
/// How long after a jump the wall clock is not believed, in milliseconds of custody.
const SUSPECT_MS: u64 = 3_600_000;

/// One moment, taken once by whoever starts the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Custody clock, in milliseconds.
    pub custody_ms: u64,
    /// Wall clock, in milliseconds since 1970.
    pub wall_ms: i64,
    /// Whether the wall clock is to be believed.
    pub wall_trusted: bool,
}

/// The running custody clock.
#[derive(Debug, Clone)]
pub struct CustodyClock {
    base_ms: u64,
    since: Instant,
    last: Moment,
    suspect_until_ms: u64,
}

impl CustodyClock {
    /// Goes on from what was stored: the last stored moment, and the wall clock now.
    #[must_use]
    pub fn resume(stored: Moment, wall: Timestamp, trusted: bool) -> Self {
        let wall_ms = wall.as_millisecond();
        let away_ms = u64::try_from(wall_ms.saturating_sub(stored.wall_ms)).unwrap_or(0);
        let counted_ms = if stored.wall_trusted && trusted { away_ms } else { 0 };
        let base_ms = stored.custody_ms.saturating_add(counted_ms);
        let last = Moment { custody_ms: base_ms, wall_ms, wall_trusted: trusted };
        Self { base_ms, since: Instant::now(), last, suspect_until_ms: 0 }
    }

    /// The moment that it is, given the wall clock. Called often enough (each commit, each sweep) it sees a jump.
    pub fn observe(&mut self, wall: Timestamp, trusted: bool) -> Moment {
        let elapsed_ms = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        let custody_ms = self.base_ms.saturating_add(elapsed_ms).max(self.last.custody_ms);
        let wall_ms = wall.as_millisecond();
        let by_wall = wall_ms.saturating_sub(self.last.wall_ms);
        let by_custody = i64::try_from(custody_ms - self.last.custody_ms).unwrap_or(i64::MAX);
        if by_wall.saturating_sub(by_custody).saturating_abs() > JUMP_MS {
            self.suspect_until_ms = custody_ms.saturating_add(SUSPECT_MS);
        }
        let wall_trusted = trusted && custody_ms >= self.suspect_until_ms;
        self.last = Moment { custody_ms, wall_ms, wall_trusted };
        self.last
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::time::Duration;

    const DAY_MS: i64 = 86_400_000;
    const TODAY_MS: i64 = 1_795_000_000_000;

    fn wall(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(ms).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_of_the_wall_clock_ages_nothing_not_even_over_a_restart() {
        // Accepted in 1970, stepped to today, 30 days ahead, and back.
        let stored = Moment { custody_ms: 0, wall_ms: 0, wall_trusted: false };
        let mut clock = CustodyClock::resume(stored, wall(1_000), false);
        let accepted = clock.observe(wall(1_000), false).custody_ms;
        tokio::time::advance(Duration::from_secs(10)).await;
        clock.observe(wall(TODAY_MS), true);
        tokio::time::advance(Duration::from_secs(10)).await;
        let ahead = clock.observe(wall(TODAY_MS + 30 * DAY_MS), true);
        assert!(!ahead.wall_trusted);
        let mut clock = CustodyClock::resume(ahead, wall(TODAY_MS + 30 * DAY_MS + 60_000), true);
        tokio::time::advance(Duration::from_secs(10)).await;
        let back = clock.observe(wall(TODAY_MS), true);
        assert_eq!(back.custody_ms - accepted, 30_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_is_counted_when_the_clock_is_believed_on_both_sides() {
        let stored = Moment { custody_ms: 5_000, wall_ms: TODAY_MS, wall_trusted: true };
        let mut clock = CustodyClock::resume(stored, wall(TODAY_MS + DAY_MS), true);
        assert_eq!(clock.observe(wall(TODAY_MS + DAY_MS), true).custody_ms, 5_000 + 86_400_000);
        let mut clock = CustodyClock::resume(stored, wall(TODAY_MS - DAY_MS), true);
        assert_eq!(clock.observe(wall(TODAY_MS - DAY_MS), true).custody_ms, 5_000);
    }
}
