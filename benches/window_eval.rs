//! How long "may this destination be tried?" takes, for a typical agreement: three windows and a denial in Madrid.
//!
//! Uncached: every moment is another, days apart, so that nothing is known from the last answer. Cached: the moments of one opening, as
//! the scheduler asks.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "figures go to standard output, what is said about them to standard error"
)]

use jiff::{SignedDuration, Timestamp};
use std::{hint::black_box, time::Instant};
use tidegate_schemas::{
    agreement::{Circumstances, RawAgreement, ServiceAgreement},
    config::Problems,
};

const TEXT: &str = "
[windows]
timezone = \"Europe/Madrid\"
allow = [
  { days = \"mon-fri\", from = \"22:00\", to = \"02:00\" },
  { days = \"sat,sun\", from = \"09:00\", to = \"12:00\" },
  { cron = \"0 */6 * * *\", for = \"20m\" },
]
deny = [{ from = \"2027-12-24T20:00\", until = \"2027-12-26T08:00\" }]
cutoff = \"2m\"
";
const ROUNDS: u32 = 200_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let raw: RawAgreement = toml::from_str(TEXT)?;
    let agreement = raw.check("destination.typical", false).map_err(|problems: Problems| problems.to_string())?;
    let from: Timestamp = "2027-01-01T00:00:00Z".parse()?;
    // 37 hours and a bit: every hour of the day, every season, no two moments near each other.
    println!("figure window_eval {:.2} microseconds", time(&agreement, from, SignedDuration::from_secs(133_337))?);
    println!("figure window_eval_cached {:.3} microseconds", time(&agreement, from, SignedDuration::from_millis(10))?);
    Ok(())
}

/// Microseconds of one answer, over moments that lie a step apart, for at most ten years.
fn time(agreement: &ServiceAgreement, from: Timestamp, step: SignedDuration) -> Result<f64, jiff::Error> {
    let end = from.checked_add(SignedDuration::from_hours(3_650 * 24))?;
    let mut at = from;
    let mut open = 0_u32;
    let started = Instant::now();
    for _ in 0..ROUNDS {
        open += u32::from(black_box(agreement).evaluate(&Circumstances::at(black_box(at))).open);
        at = at.checked_add(step)?;
        if at >= end {
            at = from;
        }
    }
    let taken = started.elapsed();
    eprintln!("{open} of {ROUNDS} were open");
    Ok(taken.as_secs_f64() * 1e6 / f64::from(ROUNDS))
}
