//! What the benches share: figures, the gateway and the receiver as processes, the paper's programs, the tap.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "figures go to standard output, what is said about them to standard error"
)]

pub mod admin;
pub mod behind_broker;
pub mod devices;
pub mod gateway;
pub mod onion;
pub mod paper;
pub mod receiver;
pub mod tap;

use std::{
    thread,
    time::{Duration, Instant},
};

/// The release binary.
pub const TIDEGATE: &str = env!("CARGO_BIN_EXE_tidegate");
/// The most that any one wait may take.
const LIMIT: Duration = Duration::from_secs(180);

/// A number from the environment; none where it is not set, or empty.
pub fn from_env(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

/// Prints a figure.
pub fn figure(name: &str, value: f64, unit: &str) {
    println!("figure {name} {value:.3} {unit}");
}

/// Prints a line for another program.
pub fn print(text: &str) {
    println!("{text}");
}

/// Says what goes on.
pub fn say(text: &str) {
    eprintln!("{text}");
}

/// Looks every few milliseconds until there is something.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not come about in {LIMIT:?}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Durations of one kind.
#[derive(Debug, Default)]
pub struct Samples(Vec<Duration>);

impl Samples {
    /// Adds one.
    pub fn add(&mut self, sample: Duration) {
        self.0.push(sample);
    }

    /// The value below which this share of them lies, in milliseconds.
    pub fn quantile_ms(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "few samples"
        )]
        let at = ((sorted.len() - 1) as f64 * share).round() as usize;
        sorted[at].as_secs_f64() * 1e3
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}
