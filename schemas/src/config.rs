//! The gateway's config: what may be written, and the checks that turn it into values that can't be wrong.
//!
//! Three steps. [`source::ConfigText`] is the file's text with the settings of the environment laid over it; it knows where every
//! value stands, and finds unknown keys. [`raw::RawConfig`] is what serde reads of it. [`raw::RawConfig::check`] makes a
//! [`file::Config`] of that and collects *all* problems, each with the path of its value. The command line maps a path to line
//! and column; the admin API to a JSON pointer. [`keys`] is the one list of all keys: unknown keys, suggestions and the printed
//! reference come from it.

use std::fmt;

pub mod check;
pub mod devices;
pub mod file;
pub mod keys;
mod merge;
pub mod origins;
pub mod raw;
pub mod settings;
pub mod source;
pub mod suggest;
pub mod tokens;

/// One thing that is wrong in a config or in a request body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Dotted path of the value: `destination.cardiology.windows.allow[0].cron`.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What would be right; may be empty.
    pub hint: String,
}

impl Problem {
    /// A problem at a path.
    pub fn new(path: impl Into<String>, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into(), hint: hint.into() }
    }
}

/// All problems of one text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Adds one.
    pub fn push(&mut self, problem: Problem) {
        self.0.push(problem);
    }
    /// Takes the problems out of a result and leaves its value.
    pub fn collect<T>(&mut self, result: Result<T, Problems>) -> Option<T> {
        result.map_err(|problems| self.0.extend(problems.0)).ok()
    }
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// One by one.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }
    /// The value if there are no problems.
    ///
    /// # Errors
    /// The problems, if there are any.
    pub fn into_result<T>(self, value: T) -> Result<T, Self> {
        if self.0.is_empty() { Ok(value) } else { Err(self) }
    }
}
impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{}: {}", problem.path, problem.message)?;
        }
        Ok(())
    }
}
impl std::error::Error for Problems {}

/// A length of time such as `90s`, `2h 30m` or `14d` (a day is 24 hours).
///
/// # Errors
/// A sentence that says what is wrong.
pub fn parse_duration(text: &str) -> Result<jiff::SignedDuration, String> {
    let span: jiff::Span = text.parse().map_err(|_| format!("not a length of time: {text:?}"))?;
    let duration = span
        .to_duration(jiff::SpanRelativeTo::days_are_24_hours())
        .map_err(|_| format!("{text:?} has months or years, whose length varies"))?;
    if duration.is_negative() { Err(format!("{text:?} is negative")) } else { Ok(duration) }
}

/// A size such as `4096`, `64KiB`, `64MiB`, `1GiB`, in bytes.
#[must_use]
pub fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().ok()?;
    let unit: u64 = match text[digits..].trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return None,
    };
    number.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lengths_and_sizes_as_people_write_them() {
        assert_eq!(parse_duration("14d").unwrap().as_hours(), 336);
        assert_eq!(parse_duration("1h 30m").unwrap().as_mins(), 90);
        assert!(
            parse_duration("1 month").is_err() && parse_duration("-5s").is_err() && parse_duration("soon").is_err()
        );
        assert_eq!(parse_bytes("64MiB"), Some(67_108_864));
        assert_eq!(parse_bytes("64 parsecs"), None);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,30}") {
            let _ = parse_duration(&text);
            let _ = parse_bytes(&text);
        }
    }
}
