//! From an agreement as it is written to one that can be kept: every refusal names its path and says what would do.

use super::{
    Ages, BreakGlass, Breaker, Deadlines, HeadOfLine, IntakeTerms, LANES_MAX, Lifetime, LifetimeEnd, Limits, Order,
    RETRY_STEPS_MAX, RawAgreement, RawBreakGlass, RawHeadOfLine, RawLifetime, RawLimits, RetryPolicy, ServiceAgreement,
    SignalPolicy, StatusLists, Success, Validity,
};
use crate::{
    config::{Problem, Problems, parse_bytes, parse_duration},
    window::{WindowSet, local_moment},
};
use jiff::{SignedDuration, tz::TimeZone};

/// Shortest retry step and lifetime that make sense, in seconds.
const STEP_S_MIN: i64 = 1;
/// Longest retry step, in seconds (a week).
const STEP_S_MAX: i64 = 7 * 86_400;
/// Shortest lifetime, in seconds.
const AGE_S_MIN: i64 = 60;
/// Longest lifetime, in seconds (ten years).
const AGE_S_MAX: i64 = 3_653 * 86_400;
/// Bounds of a signal's longest time, in seconds.
const SIGNAL_TTL_S: std::ops::RangeInclusive<i64> = 60..=86_400;
/// Most signals that are honoured in an hour.
const SIGNALS_PER_HOUR_MAX: u16 = 12;
/// Most break-glass messages in an hour.
const BREAK_GLASS_PER_HOUR_MAX: u16 = 30;
/// Most attempts, missed windows, refusals and failures that can be asked for.
const COUNT_MAX: u32 = 100_000;
/// Most ages at which people are told (a count).
const NOTIFY_MAX: usize = 8;
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
        let valid = self.check_valid(path, windows.zone(), &mut problems);
        let signal = self.check_signal(path, &mut problems);
        let statuses = self.check_statuses(path, &mut problems);
        let breaker = self.check_breaker(path, &mut problems);
        let lifetime = self
            .lifetime
            .as_ref()
            .map_or(default.lifetime, |raw| check_lifetime(raw, &format!("{path}.lifetime"), &mut problems));
        let notify_after = self.check_notify(path, &lifetime, &mut problems);
        let receiver_memory = self.receiver_memory.as_ref().map(|text| {
            duration(text, format!("{path}.receiver_memory"), AGE_S_MIN..=AGE_S_MAX, AGE_BOUNDS, &mut problems)
        });
        if let (Some(memory), Some(age)) = (receiver_memory, lifetime.max_age())
            && memory < age
        {
            problems.push(Problem::new(
                format!("{path}.receiver_memory"),
                format!("the receiver forgets ids after {memory:#}, but messages live {age:#}: one that is sent again late would be stored twice"),
                "shorten the lifetime, or let the receiver remember for longer",
            ));
        }
        let (order, head_of_line) = self.check_order(path, &mut problems);
        let break_glass = check_break_glass(self.break_glass, path, &mut problems);
        let lanes = self.lanes.unwrap_or(default.lanes);
        if !(1..=LANES_MAX).contains(&lanes) {
            problems.push(Problem::new(format!("{path}.lanes"), format!("lanes are from 1 to {LANES_MAX}"), ""));
        }
        let limits = check_limits(self.limits.as_ref(), path, &mut problems);
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
            valid,
            signal,
            format: self.format,
            retry,
            statuses,
            breaker,
            lifetime,
            notify_after,
            receiver_memory,
            order,
            head_of_line,
            break_glass,
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

    fn check_valid(&self, path: &str, zone: &TimeZone, problems: &mut Problems) -> Validity {
        let Some(raw) = &self.valid else { return Validity::default() };
        let mut moment = |text: &Option<String>, key: &str| {
            let text = text.as_ref()?;
            let moment = local_moment(text, zone);
            if moment.is_none() {
                problems.push(Problem::new(
                    format!("{path}.valid.{key}"),
                    format!("not a day or a time: {text:?}"),
                    "write \"2027-01-31\" or \"2027-01-31T08:00\", in the time zone of the windows",
                ));
            }
            moment
        };
        let valid = Validity { from: moment(&raw.from, "from"), until: moment(&raw.until, "until") };
        if let (Some(from), Some(until)) = (valid.from, valid.until)
            && from >= until
        {
            problems.push(Problem::new(format!("{path}.valid.until"), "the agreement ends before it begins", ""));
        }
        valid
    }

    fn check_signal(&self, path: &str, problems: &mut Problems) -> SignalPolicy {
        let mut policy = SignalPolicy::default();
        let Some(raw) = &self.signal else { return policy };
        policy.accept = raw.accept.unwrap_or(policy.accept);
        policy.only = raw.only.unwrap_or(false);
        if let Some(text) = &raw.ttl_max {
            policy.ttl_max =
                duration(text, format!("{path}.signal.ttl_max"), SIGNAL_TTL_S, "from 60s to 24h", problems);
        }
        policy.per_hour = raw.per_hour.unwrap_or(policy.per_hour);
        if !(1..=SIGNALS_PER_HOUR_MAX).contains(&policy.per_hour) {
            problems.push(Problem::new(
                format!("{path}.signal.per_hour"),
                format!("signals are from 1 to {SIGNALS_PER_HOUR_MAX} an hour"),
                "4 is a good number: whoever can signal makes the gateway build circuits",
            ));
        }
        if policy.only && !policy.accept {
            problems.push(Problem::new(
                format!("{path}.signal.only"),
                "nothing but a signal would open it, and signals are not accepted",
                "write accept = true",
            ));
        }
        policy
    }

    fn check_statuses(&self, path: &str, problems: &mut Problems) -> StatusLists {
        let Some(raw) = &self.status else { return StatusLists::default() };
        let mut seen: Vec<u16> = Vec::new();
        for (key, list) in [("ok", &raw.ok), ("park", &raw.park), ("refuse", &raw.refuse)] {
            for (index, status) in list.iter().enumerate() {
                let fits = (400..=599).contains(status) || (key == "ok" && *status == 304);
                let problem = match (fits, seen.contains(status)) {
                    (false, _) => "statuses that can be given a meaning are 400 to 599, and 304 as ok",
                    (true, true) => "this status has a meaning already",
                    (true, false) => {
                        seen.push(*status);
                        continue;
                    }
                };
                problems.push(Problem::new(format!("{path}.status.{key}[{index}]"), problem, ""));
            }
        }
        StatusLists { ok: raw.ok.clone(), park: raw.park.clone(), refuse: raw.refuse.clone() }
    }

    fn check_breaker(&self, path: &str, problems: &mut Problems) -> Breaker {
        let mut breaker = Breaker::default();
        let Some(raw) = &self.breaker else { return breaker };
        if let Some(failures) = raw.failures {
            breaker.failures = count(failures, format!("{path}.breaker.failures"), problems);
        }
        if let Some(text) = &raw.since_success {
            let path = format!("{path}.breaker.since_success");
            breaker.since_success = duration(text, path, AGE_S_MIN..=STEP_S_MAX, "from 60s to 7d", problems);
        }
        breaker
    }

    fn check_notify(&self, path: &str, lifetime: &Lifetime, problems: &mut Problems) -> Vec<SignedDuration> {
        let Some(raw) = &self.notify_after else { return Vec::new() };
        if raw.len() > NOTIFY_MAX {
            let message = format!("people are told at most {NOTIFY_MAX} times");
            problems.push(Problem::new(format!("{path}.notify_after"), message, ""));
        }
        let mut ages: Vec<SignedDuration> = Vec::with_capacity(raw.len());
        for (index, text) in raw.iter().enumerate() {
            let path = format!("{path}.notify_after[{index}]");
            let age = duration(text, path.clone(), AGE_S_MIN..=AGE_S_MAX, AGE_BOUNDS, problems);
            if ages.last().is_some_and(|last| *last >= age) {
                problems.push(Problem::new(path.clone(), "each age is above the one before", ""));
            }
            if lifetime.max_age().is_some_and(|end| age >= end) {
                problems.push(Problem::new(path, "by then the message has ended", "tell people earlier"));
            }
            ages.push(age);
        }
        ages
    }

    fn check_order(&self, path: &str, problems: &mut Problems) -> (Order, HeadOfLine) {
        let order = self.order.unwrap_or_default();
        let head_of_line = match self.head_of_line {
            None => HeadOfLine::default(),
            Some(RawHeadOfLine::Block) => HeadOfLine::Block,
            Some(RawHeadOfLine::Rotate) => HeadOfLine::Rotate,
            Some(RawHeadOfLine::ParkAfter(refusals)) => {
                HeadOfLine::ParkAfter(count(refusals, format!("{path}.head_of_line.park_after"), problems))
            }
        };
        if head_of_line == HeadOfLine::Block && order == Order::None {
            problems.push(Problem::new(
                format!("{path}.head_of_line"),
                "\"block\" keeps a device's order, and order = \"none\" keeps none",
                "write \"rotate\", or order = \"per_device\"",
            ));
        }
        (order, head_of_line)
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

impl IntakeTerms {
    /// What is written of them, whatever else is wrong with the agreement. A value that can't be kept is the default.
    pub(crate) fn of_raw(limits: Option<&RawLimits>, break_glass: Option<RawBreakGlass>) -> Self {
        let (mut bad_limits, mut bad_glass) = (Problems::default(), Problems::default());
        let limits = check_limits(limits, "", &mut bad_limits);
        let break_glass = check_break_glass(break_glass, "", &mut bad_glass);
        Self {
            limits: if bad_limits.is_empty() { limits } else { Limits::default() },
            break_glass: break_glass.filter(|_| bad_glass.is_empty()),
        }
    }
}

fn check_break_glass(raw: Option<RawBreakGlass>, path: &str, problems: &mut Problems) -> Option<BreakGlass> {
    let RawBreakGlass { per_hour } = raw?;
    if !(1..=BREAK_GLASS_PER_HOUR_MAX).contains(&per_hour) {
        problems.push(Problem::new(
            format!("{path}.break_glass.per_hour"),
            format!("alarms through a closed window are from 1 to {BREAK_GLASS_PER_HOUR_MAX} an hour"),
            "every one shows that something happened: keep it low",
        ));
    }
    Some(BreakGlass { per_hour })
}

fn check_limits(raw: Option<&RawLimits>, path: &str, problems: &mut Problems) -> Limits {
    let mut limits = Limits::default();
    let Some(raw) = raw else { return limits };
    if let Some(messages) = raw.messages {
        if messages == 0 {
            problems.push(Problem::new(format!("{path}.limits.messages"), "a destination that may hold nothing", ""));
        }
        limits.messages = messages;
    }
    if let Some(bytes) = &raw.bytes {
        limits.bytes = size(bytes, format!("{path}.limits.bytes"), problems).unwrap_or(limits.bytes);
    }
    limits.on_full = raw.on_full.unwrap_or_default();
    if let Some(device) = &raw.device {
        limits.device.messages = device.messages;
        limits.device.per_minute = device.per_minute;
        limits.device.bytes =
            device.bytes.as_ref().and_then(|bytes| size(bytes, format!("{path}.limits.device.bytes"), problems));
        for (key, nothing) in [("messages", device.messages == Some(0)), ("per_minute", device.per_minute == Some(0))] {
            if nothing {
                problems.push(Problem::new(
                    format!("{path}.limits.device.{key}"),
                    "a device that may hand in nothing",
                    "leave the key out for no limit",
                ));
            }
        }
    }
    limits
}

/// What an age may be, in words.
const AGE_BOUNDS: &str = "from 60s to ten years";

fn check_lifetime(raw: &RawLifetime, path: &str, problems: &mut Problems) -> Lifetime {
    let mut ends = Vec::new();
    if let Some(text) = &raw.max_age {
        let path = format!("{path}.max_age");
        ends.push(LifetimeEnd::MaxAge(duration(text, path, AGE_S_MIN..=AGE_S_MAX, AGE_BOUNDS, problems)));
    }
    if let Some(attempts) = raw.attempts {
        ends.push(LifetimeEnd::Attempts(count(attempts, format!("{path}.attempts"), problems)));
    }
    if let Some(windows) = raw.missed_windows {
        ends.push(LifetimeEnd::MissedWindows(count(windows, format!("{path}.missed_windows"), problems)));
    }
    let ages = raw.ages.unwrap_or_default();
    if ages == Ages::WhileOpen && raw.max_age.is_none() {
        problems.push(Problem::new(format!("{path}.ages"), "this belongs to max_age", "add max_age, or leave it out"));
    }
    match ends[..] {
        [end] => Lifetime { end, ages },
        [] => {
            let hint = "such as lifetime = { max_age = \"14d\" }";
            problems.push(Problem::new(path, "a lifetime needs max_age, attempts or missed_windows", hint));
            Lifetime::default()
        }
        _ => {
            let message = "a lifetime is ended by one thing: max_age, attempts or missed_windows";
            problems.push(Problem::new(path, message, "keep one of them"));
            Lifetime::default()
        }
    }
}

fn count(number: u32, path: String, problems: &mut Problems) -> u32 {
    if !(1..=COUNT_MAX).contains(&number) {
        problems.push(Problem::new(path, format!("this is from 1 to {COUNT_MAX}"), ""));
    }
    number
}

fn size(text: &str, path: String, problems: &mut Problems) -> Option<u64> {
    let bytes = parse_bytes(text).filter(|bytes| *bytes > 0);
    if bytes.is_none() {
        let message = format!("not a size: {text:?}");
        problems.push(Problem::new(path, message, "write it with a unit, such as \"64MiB\""));
    }
    bytes
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
