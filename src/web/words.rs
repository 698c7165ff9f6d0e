//! Times, ages and counts in words, as pages show them.

use jiff::{SignedDuration, Timestamp};

/// A time in words and for machines.
pub(crate) struct Time {
    /// `2026-11-23 04:05:59`, UTC.
    pub(crate) text: String,
    /// RFC 3339.
    pub(crate) machine: String,
    /// `2 min ago`.
    pub(crate) ago: String,
}

impl Time {
    /// Of a moment, seen from another.
    pub(crate) fn of(at: Timestamp, now: Timestamp) -> Self {
        Self {
            text: at.strftime("%Y-%m-%d %H:%M:%S").to_string(),
            machine: at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            ago: ago(now.duration_since(at)),
        }
    }
}

/// How long ago, in words.
pub(crate) fn ago(length: SignedDuration) -> String {
    let seconds = length.as_secs();
    match seconds {
        ..0 => "in the future".to_owned(),
        0..5 => "just now".to_owned(),
        5..60 => format!("{seconds} s ago"),
        60..3_600 => format!("{} min ago", seconds / 60),
        3_600..172_800 => format!("{} h ago", seconds / 3_600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

/// A count with its thousands apart.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 reading`, `2 readings`.
pub(crate) fn counted(number: u64, one: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {one}{plural}", count(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_ages_are_words() {
        assert_eq!([count(0), count(999), count(1_000), count(1_234_567)], ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(counted(1, "reading"), "1 reading");
        let words = [-1, 0, 59, 60, 7_199, 172_800].map(|seconds| ago(SignedDuration::from_secs(seconds)));
        assert_eq!(words, ["in the future", "just now", "59 s ago", "1 min ago", "1 h ago", "2 days ago"]);
    }
}
