//! From an agreement as it is written to one that can be kept: every refusal names its path and says what would do.

use super::{Deadlines, LANES_MAX, Limits, RETRY_STEPS_MAX, RawAgreement, RetryPolicy, ServiceAgreement, Success};
use crate::{
    config::{Problem, Problems, parse_bytes, parse_duration},
    window::WindowSet,
};
use jiff::SignedDuration;

/// Shortest retry step and lifetime that make sense, in seconds.
const STEP_S_MIN: i64 = 1;
/// Longest retry step, in seconds (a week).
const STEP_S_MAX: i64 = 7 * 86_400;
/// Shortest lifetime, in seconds.
const AGE_S_MIN: i64 = 60;
/// Longest lifetime, in seconds (ten years).
const AGE_S_MAX: i64 = 3_653 * 86_400;
/// Bounds of a deadline, in seconds.
const DEADLINE_S: std::ops::RangeInclusive<i64> = 1..=600;

impl RawAgreement {
    /// The checked agreement. `path` is where this stands (`destination.NAME`), `has_receipt_key` whether the destination
    /// has the key that `success = "receipt"` needs.
    ///
    /// # Errors
    /// All problems at once.
    pub fn check(&self, path: &str, has_receipt_key: bool) -> Result<ServiceAgreement, Problems> {
        let mut problems = Problems::default();
        let default = ServiceAgreement::default();
        let windows =
            problems.collect(WindowSet::from_raw(self.windows.clone(), &format!("{path}.windows"))).unwrap_or_default();
        let retry = self.check_retry(path, &mut problems);
        let max_age = self.lifetime.as_ref().map_or(default.max_age, |lifetime| {
            let path = format!("{path}.lifetime.max_age");
            duration(&lifetime.max_age, path, AGE_S_MIN..=AGE_S_MAX, "from 60s to ten years", &mut problems)
        });
        let lanes = self.lanes.unwrap_or(default.lanes);
        if !(1..=LANES_MAX).contains(&lanes) {
            problems.push(Problem::new(format!("{path}.lanes"), format!("lanes are from 1 to {LANES_MAX}"), ""));
        }
        let limits = self.check_limits(path, &mut problems);
        let success = self.success.unwrap_or(if has_receipt_key { Success::Receipt } else { Success::Any2xx });
        if success == Success::Receipt && !has_receipt_key {
            problems.push(Problem::new(
                format!("{path}.success"),
                "\"receipt\" needs the key under which the receiver signs",
                "add receipt_key = \"...\", which `tidegate receiver` prints at its start",
            ));
        }
        let budget = self.tor_budget.as_ref().map_or(default.fresh_circuits_per_hour, |b| b.fresh_circuits_per_hour);
        if !(1..=600).contains(&budget) {
            problems.push(Problem::new(
                format!("{path}.tor_budget.fresh_circuits_per_hour"),
                "fresh circuits are from 1 to 600 an hour",
                "12 is a good number; every one tells the network a little about you",
            ));
        }
        let deadlines = self.check_deadlines(path, &mut problems);
        problems.into_result(ServiceAgreement {
            windows,
            format: self.format,
            retry,
            max_age,
            lanes,
            limits,
            success,
            fresh_circuits_per_hour: budget,
            deadlines,
        })
    }

    fn check_retry(&self, path: &str, problems: &mut Problems) -> RetryPolicy {
        let mut policy = RetryPolicy::default();
        let Some(raw) = &self.retry else { return policy };
        if raw.steps.is_empty() || raw.steps.len() > RETRY_STEPS_MAX {
            let message = format!("retry has from 1 to {RETRY_STEPS_MAX} steps");
            problems.push(Problem::new(format!("{path}.retry.steps"), message, "such as [\"15s\", \"1m\", \"5m\"]"));
        }
        policy.steps = raw
            .steps
            .iter()
            .enumerate()
            .map(|(index, step)| {
                let path = format!("{path}.retry.steps[{index}]");
                duration(step, path, STEP_S_MIN..=STEP_S_MAX, "from 1s to 7d", problems)
            })
            .collect();
        if let Some(jitter) = raw.jitter {
            if !(0.0..=1.0).contains(&jitter) {
                problems.push(Problem::new(
                    format!("{path}.retry.jitter"),
                    "jitter is from 0 to 1",
                    "0.1 adds up to a tenth",
                ));
            }
            policy.jitter = jitter;
        }
        policy
    }

    fn check_limits(&self, path: &str, problems: &mut Problems) -> Limits {
        let mut limits = Limits::default();
        let Some(raw) = &self.limits else { return limits };
        if let Some(messages) = raw.messages {
            if messages == 0 {
                problems.push(Problem::new(
                    format!("{path}.limits.messages"),
                    "a destination that may hold nothing",
                    "",
                ));
            }
            limits.messages = messages;
        }
        if let Some(bytes) = &raw.bytes {
            match parse_bytes(bytes) {
                Some(bytes) if bytes > 0 => limits.bytes = bytes,
                _ => problems.push(Problem::new(
                    format!("{path}.limits.bytes"),
                    format!("not a size: {bytes:?}"),
                    "write it with a unit, such as \"64MiB\"",
                )),
            }
        }
        limits
    }

    fn check_deadlines(&self, path: &str, problems: &mut Problems) -> Deadlines {
        let mut deadlines = Deadlines::default();
        let Some(raw) = &self.deadlines else { return deadlines };
        for (text, key, slot) in
            [(&raw.connect, "connect", &mut deadlines.connect), (&raw.exchange, "exchange", &mut deadlines.exchange)]
        {
            if let Some(text) = text {
                *slot = duration(text, format!("{path}.deadlines.{key}"), DEADLINE_S, "from 1s to 10m", problems);
            }
        }
        deadlines
    }
}

fn duration(
    text: &str,
    path: String,
    bounds_s: std::ops::RangeInclusive<i64>,
    bounds_text: &str,
    problems: &mut Problems,
) -> SignedDuration {
    match parse_duration(text) {
        Ok(duration) if bounds_s.contains(&duration.as_secs()) => duration,
        Ok(_) => {
            problems.push(Problem::new(
                path,
                format!("{text:?} is out of bounds"),
                format!("this may be {bounds_text}"),
            ));
            SignedDuration::ZERO
        }
        Err(problem) => {
            problems.push(Problem::new(path, problem, "write it as \"90s\", \"5m\", \"2h 30m\" or \"14d\""));
            SignedDuration::ZERO
        }
    }
}
