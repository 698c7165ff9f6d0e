//! The custody clock: how long a message has been ours, whatever the wall clock does.
//!
//! It counts milliseconds that the gateway has had custody, and never goes back. While the process runs it goes with the monotonic
//! clock, so a wall clock that steps by days (a board without a battery clock, a time server, an operator) ages nothing. Over a stop
//! it goes on by the wall clock's difference, but only when the wall clock was to be believed before, and had not jumped in the hour
//! before that; else the time of the stop is not counted. Back-offs and the Tor budget are counted by it.
//!
//! Whether a wall clock that differs after a stop is right shows only later, so a stop is counted in three steps:
//! 1. What the clock was set back by before (while we ran, or over an earlier stop) may have been corrected during this stop: it is
//!    not counted.
//! 2. The rest moves the custody clock on, and is *provisional*: it makes no message older (see [`CustodyTime::age_ms`]).
//! 3. When wall clock and monotonic clock have agreed for an hour (`AGREED_MS`) and the wall clock is to be believed, it counts. That may
//!    show only minutes after the start, when Tor has connected and vouches for it; until then the stop stays provisional. If the wall
//!    clock is set back before that, what it is set back by never counts for a message that was there before the stop.
//!
//! All of that is stored with the first commit after it was seen, and a sweep sees to it that there is one: a jump is on disk within
//! half a minute. It errs to one side: a message may live longer than agreed, and never ends because of a clock.
//!
//! What remains: a clock that goes wrong unseen, in the last seconds before a power cut or during a stop, *and* stays wrong for more than
//! an hour after the start can't be told from a long stop.

use jiff::Timestamp;
use tidegate_schemas::custody::{ClockRecord, CustodyTime};
use tokio::time::Instant;

/// A difference between wall clock and monotonic clock that is taken for a jump, in milliseconds.
const JUMP_MS: i64 = 60_000;
/// How long after a jump the wall clock is not believed, in milliseconds of custody.
const SUSPECT_MS: u64 = 3_600_000;
/// How long both clocks have to agree before a stop counts, in milliseconds of custody.
const AGREED_MS: u64 = 3_600_000;

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
    record: ClockRecord,
    /// Custody clock since which wall clock and monotonic clock have agreed.
    agreed_since_ms: u64,
}

impl CustodyClock {
    /// Goes on from what was stored: the last stored moment with its record, and the wall clock now.
    #[must_use]
    pub fn resume(stored: Moment, mut record: ClockRecord, wall: Timestamp, trusted: bool) -> Self {
        let wall_ms = wall.as_millisecond();
        let away_ms = wall_ms.saturating_sub(stored.wall_ms);
        let mut base_ms = stored.custody_ms;
        let ahead_ms = u64::try_from(away_ms).unwrap_or(0);
        let corrected_ms = ahead_ms.min(record.set_back_ms);
        if away_ms < -JUMP_MS {
            record.set_back(away_ms.unsigned_abs());
        } else if stored.wall_trusted {
            base_ms = base_ms.saturating_add(ahead_ms - corrected_ms);
            if ahead_ms - corrected_ms > JUMP_MS.unsigned_abs() {
                record.add_stop(base_ms, ahead_ms - corrected_ms);
            }
        }
        record.set_back_ms -= corrected_ms;
        let last = Moment { custody_ms: base_ms, wall_ms, wall_trusted: trusted };
        Self { base_ms, since: Instant::now(), last, record, agreed_since_ms: base_ms }
    }

    /// The moment that it is, given the wall clock. Called often enough (each commit, each sweep) it sees a jump.
    pub fn observe(&mut self, wall: Timestamp, trusted: bool) -> Moment {
        let elapsed_ms = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        let custody_ms = self.base_ms.saturating_add(elapsed_ms).max(self.last.custody_ms);
        let wall_ms = wall.as_millisecond();
        let by_wall = wall_ms.saturating_sub(self.last.wall_ms);
        let by_custody = i64::try_from(custody_ms - self.last.custody_ms).unwrap_or(i64::MAX);
        let jump_ms = by_wall.saturating_sub(by_custody);
        if jump_ms.saturating_abs() > JUMP_MS {
            self.record.suspect_until_ms = custody_ms.saturating_add(SUSPECT_MS);
            self.agreed_since_ms = custody_ms;
            if jump_ms < 0 {
                self.record.set_back(jump_ms.unsigned_abs());
            } else {
                self.record.set_back_ms = self.record.set_back_ms.saturating_sub(jump_ms.unsigned_abs());
            }
        } else if trusted && custody_ms - self.agreed_since_ms >= AGREED_MS {
            self.record.count_stops();
        }
        let wall_trusted = trusted && custody_ms >= self.record.suspect_until_ms;
        self.last = Moment { custody_ms, wall_ms, wall_trusted };
        self.last
    }

    /// What has to be stored beside the moment.
    #[must_use]
    pub fn record(&self) -> &ClockRecord {
        &self.record
    }

    /// The last observed moment, as ages are counted by.
    #[must_use]
    pub fn time(&self) -> CustodyTime {
        CustodyTime { now_ms: self.last.custody_ms, clock: self.record.clone() }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::time::Duration;

    const DAY_MS: i64 = 86_400_000;
    const TODAY_MS: i64 = 1_795_000_000_000;
    const HOUR: Duration = Duration::from_secs(3_600);

    fn wall(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(ms).unwrap()
    }

    fn today() -> Moment {
        Moment { custody_ms: 5_000, wall_ms: TODAY_MS, wall_trusted: true }
    }

    fn resume_today(wall_ms: i64) -> CustodyClock {
        CustodyClock::resume(today(), ClockRecord::default(), wall(wall_ms), true)
    }

    /// The age of what was accepted at the stored moment.
    fn age_ms(clock: &CustodyClock) -> u64 {
        clock.time().age_ms(5_000)
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_of_the_wall_clock_ages_nothing_not_even_over_a_restart() {
        // Accepted in 1970, stepped to today, 30 days ahead, and back.
        let stored = Moment { custody_ms: 0, wall_ms: 0, wall_trusted: false };
        let mut clock = CustodyClock::resume(stored, ClockRecord::default(), wall(1_000), false);
        let accepted = clock.observe(wall(1_000), false).custody_ms;
        tokio::time::advance(Duration::from_secs(10)).await;
        clock.observe(wall(TODAY_MS), true);
        tokio::time::advance(Duration::from_secs(10)).await;
        let ahead = clock.observe(wall(TODAY_MS + 30 * DAY_MS), true);
        assert!(!ahead.wall_trusted);
        let restarted_at = wall(TODAY_MS + 30 * DAY_MS + 60_000);
        let mut clock = CustodyClock::resume(ahead, clock.record().clone(), restarted_at, true);
        tokio::time::advance(Duration::from_secs(10)).await;
        let back = clock.observe(wall(TODAY_MS), true);
        assert_eq!(back.custody_ms - accepted, 30_000);
        assert!(!back.wall_trusted);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_counts_once_both_clocks_have_agreed_for_an_hour() {
        let mut clock = resume_today(TODAY_MS + DAY_MS);
        assert_eq!(clock.observe(wall(TODAY_MS + DAY_MS), true).custody_ms, 5_000 + 86_400_000);
        assert_eq!(age_ms(&clock), 0);
        tokio::time::advance(HOUR).await;
        clock.observe(wall(TODAY_MS + DAY_MS + 3_600_000), true);
        assert_eq!(age_ms(&clock), 86_400_000 + 3_600_000);
        assert_eq!(clock.record(), &ClockRecord::default(), "nothing is left to be remembered");
        assert_eq!(resume_today(TODAY_MS - DAY_MS).observe(wall(TODAY_MS - DAY_MS), true).custody_ms, 5_000);
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_clock_is_set_back_by_after_a_stop_is_never_counted() {
        // Stopped for a day, started with a clock that is 30 days ahead of that.
        let started = TODAY_MS + 31 * DAY_MS;
        let mut clock = resume_today(started);
        tokio::time::advance(Duration::from_secs(600)).await;
        clock.observe(wall(started + 600_000 - 30 * DAY_MS), true);
        for hour in 1..=3 {
            tokio::time::advance(HOUR).await;
            clock.observe(wall(started + 600_000 + hour * 3_600_000 - 30 * DAY_MS), true);
        }
        assert_eq!(age_ms(&clock), 86_400_000 + 600_000 + 3 * 3_600_000, "the day itself counts");
        let now = clock.time();
        assert_eq!(now.age_ms(now.now_ms - 3_000), 3_000, "what came after the stop ages as ever");
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_was_set_back_and_is_corrected_during_a_stop_ages_nothing() {
        let mut clock = resume_today(TODAY_MS);
        tokio::time::advance(Duration::from_secs(60)).await;
        clock.observe(wall(TODAY_MS - 30 * DAY_MS), true);
        let mut last = clock.observe(wall(TODAY_MS - 30 * DAY_MS), true);
        for hour in 1..=3 {
            tokio::time::advance(HOUR).await;
            last = clock.observe(wall(TODAY_MS - 30 * DAY_MS + hour * 3_600_000), true);
        }
        assert!(last.wall_trusted, "believed again");
        let started = TODAY_MS + 60_000 + 3 * 3_600_000 + DAY_MS;
        let mut clock = CustodyClock::resume(last, clock.record().clone(), wall(started), true);
        for hour in 1..=3 {
            tokio::time::advance(HOUR).await;
            clock.observe(wall(started + hour * 3_600_000), true);
        }
        assert_eq!(age_ms(&clock), 86_400_000 + 60_000 + 6 * 3_600_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_believed_minutes_after_the_start_counts_the_stop_as_one_that_was_at_once() {
        let started = TODAY_MS + DAY_MS;
        let mut clock = CustodyClock::resume(today(), ClockRecord::default(), wall(started), false);
        tokio::time::advance(Duration::from_secs(300)).await;
        assert!(clock.observe(wall(started + 300_000), true).wall_trusted, "Tor has connected");
        assert_eq!(age_ms(&clock), 300_000, "the stop is provisional, as ever");
        tokio::time::advance(HOUR).await;
        clock.observe(wall(started + 3_900_000), true);
        assert_eq!(age_ms(&clock), 86_400_000 + 3_900_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_never_counts_while_nobody_vouches_nor_what_the_one_who_does_sets_the_clock_by() {
        // Stopped for a day; the clock is 30 days ahead of that, and nobody vouches for it for hours.
        let started = TODAY_MS + 31 * DAY_MS;
        let mut clock = CustodyClock::resume(today(), ClockRecord::default(), wall(started), false);
        for hour in 1..=5 {
            tokio::time::advance(HOUR).await;
            clock.observe(wall(started + hour * 3_600_000), false);
        }
        assert_eq!(age_ms(&clock), 5 * 3_600_000);
        // A time server sets it right: from then on it is believed, and a jump makes it suspect for an hour.
        for hour in 5..=7 {
            clock.observe(wall(started + hour * 3_600_000 - 30 * DAY_MS), true);
            tokio::time::advance(HOUR).await;
        }
        clock.observe(wall(started + 8 * 3_600_000 - 30 * DAY_MS), true);
        assert_eq!(age_ms(&clock), 86_400_000 + 8 * 3_600_000, "the day itself counts, the 30 never do");
    }

    #[tokio::test(start_paused = true)]
    async fn a_jump_is_suspect_over_a_restart() {
        let mut clock = resume_today(TODAY_MS);
        let jumped = clock.observe(wall(TODAY_MS + 30 * DAY_MS), true);
        let record = clock.record().clone();
        let mut clock = CustodyClock::resume(jumped, record, wall(TODAY_MS + 30 * DAY_MS), true);
        assert!(!clock.observe(wall(TODAY_MS + 30 * DAY_MS), true).wall_trusted);
        tokio::time::advance(HOUR).await;
        assert!(clock.observe(wall(TODAY_MS + 30 * DAY_MS + 3_600_000), true).wall_trusted);
    }
}
