//! The machine's clock: the one place that reads it, and gathers what is known of it.
//!
//! With each question whether it is to be believed it asks the kernel, and compares itself with the monotonic clock: a difference
//! since the last question is a jump. Tor's times come from outside, by the Uplink. The judgement is
//! [`tidegate_schemas::clock`]'s. Clones share what they know.

use super::kernel_clock;
use jiff::{SignedDuration, Timestamp};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};
use tidegate_actors::ports::clock::Clock;
use tidegate_schemas::clock::{ClockEvidence, ClockTrust, ConsensusSeen, ConsensusTimes, KernelWord, TrustPolicy};

/// The day of this version: no honest clock shows an earlier time. Set anew with every release.
const RELEASED: Timestamp = Timestamp::constant(1_795_392_000, 0);
/// A difference between wall clock and monotonic clock that is taken for a jump.
const JUMP: SignedDuration = SignedDuration::from_secs(60);

/// The wall clock of the machine.
#[derive(Debug, Clone, Default)]
pub struct SystemClock {
    policy: TrustPolicy,
    known: Arc<Mutex<Known>>,
}

impl SystemClock {
    /// Believed by this policy when nobody vouches for it.
    #[must_use]
    pub fn new(policy: TrustPolicy) -> Self {
        Self { policy, known: Arc::default() }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        // Every change is one assignment.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "this is the clock adapter")]
        Timestamp::now()
    }

    fn trust(&self) -> ClockTrust {
        let mut known = self.known();
        // Read under the lock, so that two who ask at once don't see each other's moments in the wrong order.
        known.look(Moment { wall: self.now(), at: Instant::now() }, kernel_clock::word(), self.policy)
    }

    fn told_by_tor(&self, times: ConsensusTimes) {
        self.known().told_by_tor(times, Instant::now());
    }
}

/// Both clocks at one moment.
#[derive(Debug, Clone, Copy)]
struct Moment {
    wall: Timestamp,
    at: Instant,
}

/// What is remembered from question to question.
#[derive(Debug, Default)]
struct Known {
    last: Option<Moment>,
    jumped: Option<Instant>,
    consensus: Option<(ConsensusTimes, Instant)>,
}

impl Known {
    fn look(&mut self, now: Moment, kernel: KernelWord, policy: TrustPolicy) -> ClockTrust {
        if let Some(last) = self.last {
            let passed = SignedDuration::try_from(now.at.duration_since(last.at)).unwrap_or(SignedDuration::MAX);
            let jump = now.wall.duration_since(last.wall).saturating_sub(passed);
            if jump > JUMP || jump < -JUMP {
                tracing::warn!(seconds = jump.as_secs(), "the wall clock jumped");
                self.jumped = Some(now.at);
            }
        }
        self.last = Some(now);
        let ago = |then: Instant| now.at.saturating_duration_since(then);
        let evidence = ClockEvidence {
            wall: now.wall,
            built: RELEASED,
            kernel,
            consensus: self.consensus.map(|(times, seen)| ConsensusSeen { times, ago: ago(seen) }),
            jumped_ago: self.jumped.map(ago),
            policy,
        };
        evidence.judge()
    }

    fn told_by_tor(&mut self, times: ConsensusTimes, at: Instant) {
        // The same again is no news, and must not look fresh.
        if self.consensus.is_none_or(|(known, _)| known.valid_after < times.valid_after) {
            self.consensus = Some((times, at));
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::time::Duration;

    #[test]
    fn this_machine_is_past_the_release_and_a_board_without_a_battery_is_not() {
        let clock = SystemClock::new(TrustPolicy::Assume);
        assert!(clock.trusted(), "{:?}: the release date lies in the future, or this clock is wrong", clock.trust());
        let boot = Moment { wall: Timestamp::UNIX_EPOCH, at: Instant::now() };
        let trust = Known::default().look(boot, KernelWord::Synchronised, TrustPolicy::Assume);
        assert_eq!(trust, ClockTrust::BeforeBuild);
    }

    /// A machine whose two clocks go as the test says.
    struct Machine {
        known: Known,
        now: Moment,
        kernel: KernelWord,
    }

    impl Machine {
        fn at(wall: &str) -> Self {
            let now = Moment { wall: wall.parse().unwrap(), at: Instant::now() };
            Self { known: Known::default(), now, kernel: KernelWord::Unsynchronised }
        }

        fn look(&mut self) -> ClockTrust {
            self.known.look(self.now, self.kernel, TrustPolicy::Auto)
        }

        fn pass(&mut self, hours: u32) {
            self.now.at += Duration::from_secs(3_600) * hours;
            self.step(i64::from(hours) * 3_600);
        }

        fn step(&mut self, seconds: i64) {
            self.now.wall += SignedDuration::from_secs(seconds);
        }

        /// A consensus that began an hour ago.
        fn fetch(&mut self) {
            let valid_after = self.now.wall - SignedDuration::from_hours(1);
            let valid_until = valid_after + SignedDuration::from_hours(3);
            self.known.told_by_tor(ConsensusTimes { valid_after, valid_until, fetched: true }, self.now.at);
        }
    }

    #[test]
    fn tor_vouches_from_its_first_consensus_on_and_for_days_when_it_is_away() {
        let mut machine = Machine::at("2026-12-01T12:00:00Z");
        assert_eq!(machine.look(), ClockTrust::Unvouched);
        machine.fetch();
        let told = machine.known.consensus.unwrap();
        for _ in 0..5 {
            machine.pass(20);
            assert_eq!(machine.look(), ClockTrust::WithinConsensus);
            machine.known.told_by_tor(told.0, machine.now.at);
        }
        assert_eq!(machine.known.consensus, Some(told), "the same consensus is as old as it was");
    }

    #[test]
    fn a_jump_is_seen_and_believed_again_by_whoever_vouches_after_it() {
        let mut machine = Machine::at("2026-12-01T12:00:00Z");
        machine.fetch();
        machine.pass(1);
        assert_eq!(machine.look(), ClockTrust::WithinConsensus);
        machine.step(59);
        assert_eq!(machine.look(), ClockTrust::WithinConsensus, "less than a jump");
        machine.step(1_000);
        assert_eq!(machine.look(), ClockTrust::Jumped);
        machine.pass(1);
        assert_eq!(machine.look(), ClockTrust::Jumped, "Tor has said nothing new");
        machine.fetch();
        machine.pass(1);
        assert_eq!(machine.look(), ClockTrust::WithinConsensus);
        machine.step(-86_400);
        assert_eq!(machine.look(), ClockTrust::Apart);
        machine.kernel = KernelWord::Synchronised;
        assert_eq!(machine.look(), ClockTrust::Apart, "a time server that lies");
        machine.step(86_400);
        assert_eq!(machine.look(), ClockTrust::KernelSynchronised, "at once");
    }

    /// The newest date in the headings of a changelog (`## 0.1.0 (2026-11-23)`); an entry without one is not released yet.
    fn newest_release(changelog: &str) -> Option<jiff::civil::Date> {
        let headings = changelog.lines().filter(|line| line.starts_with("## "));
        headings.filter_map(|line| line.get(line.find("20")?..)?.get(..10)?.parse().ok()).max()
    }

    #[test]
    fn the_release_date_is_not_older_than_the_newest_entry_of_the_changelog() {
        let sample = "# Changes\n## 0.2.0\n20 things\n## 0.1.1 (2027-01-02)\n## [0.1.0] - 2026-11-23\n";
        assert_eq!(newest_release(sample), "2027-01-02".parse().ok());
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/CHANGELOG.md");
        let released = RELEASED.to_zoned(jiff::tz::TimeZone::UTC).date();
        // Before the first release there is no changelog.
        if let Some(newest) = std::fs::read_to_string(file).ok().and_then(|text| newest_release(&text)) {
            assert!(released >= newest, "set RELEASED to {newest} or later");
        }
    }

    #[test]
    fn now_goes_on() {
        let clock = SystemClock::default();
        let first = clock.now();
        assert!(clock.now() >= first);
        assert!(first > "2026-01-01T00:00:00Z".parse().unwrap());
    }
}
