//! The Reporter's own rate limit: a token bucket on tokio's clock.

use super::{BURST, REFILL_PER_S};
use std::time::Duration;
use tokio::time::Instant;

/// Tokens, one for each notice.
#[derive(Debug)]
pub(super) struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    /// A full bucket.
    pub fn full(now: Instant) -> Self {
        Self { tokens: BURST, at: now }
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * REFILL_PER_S).min(BURST);
        self.at = self.at.max(now);
    }

    /// How long until there is a token; zero when there is one.
    pub fn wait(&mut self, now: Instant) -> Duration {
        self.refill(now);
        let ahead = self.at.saturating_duration_since(now);
        if self.tokens >= 1.0 {
            ahead
        } else {
            // A millisecond more, so that rounding never ends a wait too early.
            ahead + Duration::from_secs_f64((1.0 - self.tokens) / REFILL_PER_S) + Duration::from_millis(1)
        }
    }

    /// Takes a token.
    pub fn take(&mut self, now: Instant) {
        self.refill(now);
        self.tokens -= 1.0;
    }

    /// The homeserver's own bucket is empty, and holds one token at this time: so does this one.
    pub fn empty_until(&mut self, then: Instant) {
        self.tokens = self.tokens.min(1.0);
        self.at = then;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn never_more_than_the_burst_and_the_refill(pauses_ms in proptest::collection::vec(0_u64..20_000, 1..200)) {
            let start = Instant::now();
            let (mut bucket, mut now, mut taken) = (Bucket::full(start), start, 0_u32);
            for pause in pauses_ms {
                now += Duration::from_millis(pause);
                if bucket.wait(now).is_zero() {
                    bucket.take(now);
                    taken += 1;
                }
                let allowed = BURST + now.duration_since(start).as_secs_f64() * REFILL_PER_S;
                prop_assert!(f64::from(taken) <= allowed + 1e-6, "{} of {}", taken, allowed);
            }
        }

        #[test]
        fn a_wait_is_long_enough(taken in 1_u32..20) {
            let start = Instant::now();
            let mut bucket = Bucket::full(start);
            for _ in 0..taken {
                bucket.take(start);
            }
            let wait = bucket.wait(start);
            prop_assert!(bucket.wait(start + wait).is_zero());
        }
    }

    #[test]
    fn an_emptied_bucket_fills_again() {
        let start = Instant::now();
        let mut bucket = Bucket::full(start);
        let then = start + Duration::from_secs(30);
        bucket.empty_until(then);
        assert_eq!(bucket.wait(start), Duration::from_secs(30));
        assert!(bucket.wait(then).is_zero());
        bucket.take(then);
        assert!(bucket.wait(then) > Duration::from_secs(5));
        assert!(bucket.wait(then + Duration::from_secs(6)).is_zero());
    }
}
