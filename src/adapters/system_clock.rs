//! The machine's clock: the one place that reads it.

use jiff::Timestamp;
use tidegate_actors::ports::clock::Clock;

/// The day of this version: no honest clock shows an earlier time. Set anew with every release.
const RELEASED: Timestamp = Timestamp::constant(1_795_392_000, 0);

/// The wall clock of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "this is the clock adapter")]
        Timestamp::now()
    }

    fn trusted(&self) -> bool {
        self.now() >= RELEASED
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn this_machine_is_past_the_release_and_a_board_without_a_battery_is_not() {
        assert!(SystemClock.trusted(), "the release date lies in the future, or this machine's clock is wrong");
        assert!(Timestamp::UNIX_EPOCH < RELEASED);
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
        let first = SystemClock.now();
        assert!(SystemClock.now() >= first);
        assert!(first > "2026-01-01T00:00:00Z".parse().unwrap());
    }
}
