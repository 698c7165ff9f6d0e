//! How many cases a property takes that plays actors against each other: few at each run, as many as are asked for before a release.

use proptest::test_runner::Config;

/// So many, or as many as `PROPTEST_CASES` says.
pub fn cases(few: u32) -> Config {
    // proptest reads the variable itself; 256 is what it takes without it.
    let asked = Config::default().cases;
    Config::with_cases(if asked == 256 { few } else { asked })
}
