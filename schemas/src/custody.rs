//! How old a message is by the custody clock, and what of that clock has to be remembered.
//!
//! Pure arithmetic; `tidegate-actors`' `outbox::custody_clock` says why it is done and drives it.

use serde::{Deserialize, Serialize};

/// Stops that are remembered; above that the two oldest become one.
pub const STOPS_MAX: usize = 16;

/// A stop of the gateway that moved the custody clock on and makes no message older: not yet, or never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// Custody clock when the gateway went on.
    pub ended_custody_ms: u64,
    /// By how much the stop moved it.
    pub length_ms: u64,
    /// Whether it may still turn out to be right.
    pub provisional: bool,
}

/// What happened to a destination since its record began. A message keeps the reading at its custody; the difference is what it lived
/// through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Odometer {
    /// Milliseconds that the destination was open while the gateway ran.
    pub open_ms: u64,
    /// Failed attempts that counted.
    pub attempts: u64,
    /// Openings that closed while the gateway ran.
    pub closings: u64,
}

/// What the custody clock remembers beside its last moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockRecord {
    /// Custody clock until which the wall clock is not believed.
    pub suspect_until_ms: u64,
    /// By how much the wall clock is behind the furthest that it has been.
    pub set_back_ms: u64,
    /// Stops that make no message older, oldest first.
    pub stops: Vec<Stop>,
}

impl ClockRecord {
    /// The wall clock was set back. The latest provisional stops were too long by that, as far as they go; the rest is remembered.
    pub fn set_back(&mut self, by_ms: u64) {
        let mut left_ms = by_ms;
        let mut never = Vec::new();
        for stop in self.stops.iter_mut().rev().filter(|stop| stop.provisional) {
            let cut_ms = left_ms.min(stop.length_ms);
            stop.length_ms -= cut_ms;
            left_ms -= cut_ms;
            never.push(Stop { length_ms: cut_ms, provisional: false, ..*stop });
        }
        self.stops.extend(never);
        self.set_back_ms = self.set_back_ms.saturating_add(left_ms);
        self.tidy();
    }

    /// A stop moved the custody clock on to `ended_custody_ms`.
    pub fn add_stop(&mut self, ended_custody_ms: u64, length_ms: u64) {
        self.stops.push(Stop { ended_custody_ms, length_ms, provisional: true });
        self.tidy();
    }

    /// The provisional stops were right: they count.
    pub fn count_stops(&mut self) {
        self.stops.retain(|stop| !stop.provisional);
    }

    fn tidy(&mut self) {
        self.stops.retain(|stop| stop.length_ms > 0);
        self.stops.sort_by_key(|stop| stop.ended_custody_ms);
        while self.stops.len() > STOPS_MAX {
            // What came between the two ages a little less than it should.
            let oldest = self.stops.remove(0);
            self.stops[0].length_ms = self.stops[0].length_ms.saturating_add(oldest.length_ms);
            self.stops[0].provisional &= oldest.provisional;
        }
    }
}

/// A moment of the custody clock, by which ages are counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CustodyTime {
    /// The clock, in milliseconds.
    pub now_ms: u64,
    /// What it remembers.
    pub clock: ClockRecord,
}

impl CustodyTime {
    /// The age of what began at `since_ms`: stops that don't count are left out.
    #[must_use]
    pub fn age_ms(&self, since_ms: u64) -> u64 {
        let stops = self.clock.stops.iter().filter(|stop| stop.ended_custody_ms > since_ms);
        let left_out = stops.fold(0_u64, |sum, stop| sum.saturating_add(stop.length_ms));
        self.now_ms.saturating_sub(since_ms).saturating_sub(left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_stop_ages_what_was_there_before_once_it_counts() {
        let mut time = CustodyTime { now_ms: 1_000, ..CustodyTime::default() };
        time.clock.add_stop(900, 300);
        assert_eq!((time.age_ms(500), time.age_ms(900), time.age_ms(950)), (200, 100, 50));
        time.clock.set_back(100);
        time.clock.count_stops();
        assert_eq!((time.age_ms(500), time.clock.set_back_ms), (400, 0), "100 of the 300 never count");
        time.clock.set_back(70);
        assert_eq!((time.age_ms(500), time.clock.set_back_ms), (400, 70), "what counts is not taken back");
    }

    proptest! {
        #[test]
        fn stops_are_bounded_and_an_age_never_exceeds_what_the_clock_counted(
            acts in prop::collection::vec((0_u8..4, 1_u64..1_000), 1..80),
            since_ms in 0_u64..10_000,
        ) {
            let mut time = CustodyTime::default();
            for (act, n) in acts {
                let before = (time.now_ms, time.age_ms(since_ms));
                match act {
                    0 => time.now_ms += n,
                    1 => { time.now_ms += n; time.clock.add_stop(time.now_ms, n); }
                    2 => time.clock.set_back(n),
                    _ => time.clock.count_stops(),
                }
                let plain = time.now_ms.saturating_sub(since_ms);
                prop_assert!(time.age_ms(since_ms) <= plain);
                prop_assert!(time.clock.stops.len() <= STOPS_MAX);
                if act == 1 && before.0 >= since_ms {
                    prop_assert!(time.age_ms(since_ms) <= before.1, "a stop ages nothing by itself");
                }
            }
        }
    }
}
