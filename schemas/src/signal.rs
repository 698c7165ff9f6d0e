//! What a signal says, as people and programs write it: `{"ready_for":"10m"}` at the admin endpoint and on an MQTT topic.
//!
//! A signal names a length of time or, where the wall clock is trusted, a moment, which is turned into a length at once: from then on
//! no clock of anybody else matters. It never names a place to deliver to. The form in which a destination signs it is
//! `wire::signal`.

use crate::{config::parse_duration, messages::outbox::SignalWord};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Longest body of a signal, in bytes.
pub const SIGNAL_BYTES_MAX: usize = 512;
/// Longest time that a signal may ask for, in seconds: a day. The agreement's `ttl_max` shortens it further.
pub const SIGNAL_TTL_S_MAX: u32 = 86_400;

/// A signal as JSON. Exactly one of the fields is there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SignalBody {
    /// "I am ready for so long": `10m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_for: Option<String>,
    /// "I am ready until then": `2027-01-04T08:00:00Z`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_until: Option<Timestamp>,
    /// "Not for so long, please": `30m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_now_for: Option<String>,
    /// `true`: "forget what was said".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clear: Option<bool>,
}

/// Why a text is no signal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignalBodyError {
    /// Not JSON, or other fields.
    #[error(
        "a signal is {{\"ready_for\": \"10m\"}}, {{\"ready_until\": \"2027-01-04T08:00:00Z\"}}, {{\"not_now_for\": \"30m\"}} or {{\"clear\": true}}"
    )]
    Form,
    /// Beyond [`SIGNAL_BYTES_MAX`].
    #[error("a signal has at most {SIGNAL_BYTES_MAX} bytes")]
    TooLong,
    /// Not a length of time.
    #[error("{field}: {reason}; write it as \"10m\"")]
    Length {
        /// The field.
        field: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// Shorter than a second or longer than [`SIGNAL_TTL_S_MAX`].
    #[error("{field}: a signal holds from 1s to 24h")]
    Bounds {
        /// The field.
        field: &'static str,
    },
    /// That moment is over.
    #[error("ready_until: that moment is over")]
    Past,
    /// The gateway doesn't know what time it is.
    #[error("ready_until: the gateway's clock can't be trusted now; say ready_for instead")]
    ClockUntrusted,
}

impl SignalBodyError {
    /// JSON pointer to the value that is wrong; empty for the whole.
    #[must_use]
    pub fn pointer(&self) -> String {
        match self {
            Self::Form | Self::TooLong => String::new(),
            Self::Length { field, .. } | Self::Bounds { field } => format!("/{field}"),
            Self::Past | Self::ClockUntrusted => "/ready_until".to_owned(),
        }
    }
}

impl SignalBody {
    /// Reads a body.
    ///
    /// # Errors
    /// [`SignalBodyError::TooLong`] or [`SignalBodyError::Form`].
    pub fn parse(body: &[u8]) -> Result<Self, SignalBodyError> {
        if body.len() > SIGNAL_BYTES_MAX {
            return Err(SignalBodyError::TooLong);
        }
        serde_json::from_slice(body).map_err(|_| SignalBodyError::Form)
    }

    /// What it says. `now` is the wall clock, if it is trusted.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn word(&self, now: Option<Timestamp>) -> Result<SignalWord, SignalBodyError> {
        match self {
            Self { ready_for: Some(text), ready_until: None, not_now_for: None, clear: None } => {
                length("ready_for", text).map(SignalWord::Ready)
            }
            Self { ready_for: None, ready_until: Some(until), not_now_for: None, clear: None } => {
                let now = now.ok_or(SignalBodyError::ClockUntrusted)?;
                let left_s = until.duration_since(now).as_secs();
                if left_s < 1 {
                    return Err(SignalBodyError::Past);
                }
                seconds("ready_until", left_s).map(SignalWord::Ready)
            }
            Self { ready_for: None, ready_until: None, not_now_for: Some(text), clear: None } => {
                length("not_now_for", text).map(SignalWord::NotNow)
            }
            Self { ready_for: None, ready_until: None, not_now_for: None, clear: Some(true) } => Ok(SignalWord::Clear),
            _ => Err(SignalBodyError::Form),
        }
    }
}

fn length(field: &'static str, text: &str) -> Result<u32, SignalBodyError> {
    let length = parse_duration(text).map_err(|reason| SignalBodyError::Length { field, reason })?;
    seconds(field, length.as_secs())
}

fn seconds(field: &'static str, seconds: i64) -> Result<u32, SignalBodyError> {
    let fits = u32::try_from(seconds).ok().filter(|seconds| (1..=SIGNAL_TTL_S_MAX).contains(seconds));
    fits.ok_or(SignalBodyError::Bounds { field })
}

impl SignalWord {
    /// The same for at most so many seconds: what a broker kept for a while says less than it said.
    #[must_use]
    pub fn at_most(self, seconds: u32) -> Self {
        match self {
            Self::Ready(ttl_s) => Self::Ready(ttl_s.min(seconds)),
            Self::NotNow(ttl_s) => Self::NotNow(ttl_s.min(seconds)),
            Self::Clear => Self::Clear,
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    fn word(text: &str) -> Result<SignalWord, SignalBodyError> {
        SignalBody::parse(text.as_bytes())?.word(Some("2027-01-04T07:50:00Z".parse().unwrap()))
    }

    #[test]
    fn signals_as_they_are_written() {
        assert_eq!(word(r#"{"ready_for":"10m"}"#), Ok(SignalWord::Ready(600)));
        assert_eq!(word(r#"{"ready_until":"2027-01-04T08:00:00Z"}"#), Ok(SignalWord::Ready(600)));
        assert_eq!(word(r#"{"ready_until":"2027-01-04T09:00:00+01:00"}"#), Ok(SignalWord::Ready(600)));
        assert_eq!(word(r#"{"not_now_for":"1h 30m"}"#), Ok(SignalWord::NotNow(5_400)));
        assert_eq!(word(r#"{"clear":true}"#), Ok(SignalWord::Clear));
    }

    #[test]
    fn what_says_nothing_or_two_things_or_too_much_is_refused() {
        for none in ["", "{}", "[]", "ready", r#"{"clear":false}"#, r#"{"ready_for":"1m","clear":true}"#] {
            assert_eq!(word(none), Err(SignalBodyError::Form), "{none}");
        }
        for form in [r#"{"ready_for":10}"#, r#"{"onion":"x"}"#, r#"{"ready_for":"1m","to":"elsewhere"}"#] {
            assert_eq!(word(form), Err(SignalBodyError::Form), "{form}");
        }
        for (bounds, at) in [("ready_for", "0s"), ("ready_for", "25h"), ("not_now_for", "500ms"), ("not_now_for", "2d")]
        {
            assert_eq!(word(&format!("{{\"{bounds}\":\"{at}\"}}")), Err(SignalBodyError::Bounds { field: bounds }));
        }
        assert_eq!(word(r#"{"ready_until":"2027-01-04T07:50:00Z"}"#), Err(SignalBodyError::Past));
        assert_eq!(
            word(r#"{"ready_until":"2028-01-01T00:00:00Z"}"#),
            Err(SignalBodyError::Bounds { field: "ready_until" })
        );
        assert_eq!(word(&format!("{{\"ready_for\":\"1m\"{}}}", " ".repeat(600))), Err(SignalBodyError::TooLong));
        assert_eq!(word(r#"{"ready_for":"soon"}"#).unwrap_err().pointer(), "/ready_for");
    }

    #[test]
    fn a_moment_needs_a_clock_and_a_length_does_not() {
        let until = SignalBody::parse(br#"{"ready_until":"2027-01-04T08:00:00Z"}"#).unwrap();
        assert_eq!(until.word(None), Err(SignalBodyError::ClockUntrusted));
        assert_eq!(SignalBody::parse(br#"{"ready_for":"1m"}"#).unwrap().word(None), Ok(SignalWord::Ready(60)));
    }

    proptest! {
        #[test]
        fn no_body_panics_and_what_is_taken_is_within_bounds(
            body in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..600),
                "\\{\"(ready_for|not_now_for|ready_until|clear)\":(\"[0-9]{1,12}(ms|s|m|h|d|w)?\"|true|null|[0-9]{1,5})\\}"
                    .prop_map(String::into_bytes),
            ],
            now in prop::option::of(0_i64..4_000_000_000),
        ) {
            let now = now.map(|second| Timestamp::from_second(second).unwrap());
            match SignalBody::parse(&body).and_then(|read| read.word(now)) {
                Ok(SignalWord::Ready(ttl_s) | SignalWord::NotNow(ttl_s)) => {
                    prop_assert!((1..=SIGNAL_TTL_S_MAX).contains(&ttl_s));
                }
                Ok(SignalWord::Clear) | Err(_) => {}
            }
        }

        #[test]
        fn every_length_within_bounds_is_heard_as_it_is_said(ttl_s in 1_u32..=SIGNAL_TTL_S_MAX, second in 0_i64..4_000_000_000) {
            let now = Timestamp::from_second(second).unwrap();
            let ready = SignalBody { ready_for: Some(format!("{ttl_s}s")), ..SignalBody::default() };
            let until = now + jiff::SignedDuration::from_secs(ttl_s.into());
            let until = SignalBody { ready_until: Some(until), ..SignalBody::default() };
            for body in [ready, until] {
                let text = serde_json::to_vec(&body).unwrap();
                prop_assert_eq!(SignalBody::parse(&text).unwrap().word(Some(now)), Ok(SignalWord::Ready(ttl_s)));
            }
        }
    }
}
