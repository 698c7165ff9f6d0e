//! From a window as it is written to one that can be evaluated: every refusal names its path and says what would do.

use super::{
    RawDenial, RawOnce, RawWindow, cron,
    days::Days,
    names::{self, Unknown},
    rule::{Interval, Length, Recurring, Window},
};
use crate::config::{Problem, parse_duration};
use jiff::{SignedDuration, Timestamp, civil, tz::TimeZone};

/// Longest opening by a cron or a one-off window, in seconds (31 days).
pub const DURATION_S_MAX: i64 = 31 * 86_400;
/// Bounds of the cutoff and of the guard, and of the grace, in seconds.
const EDGE_S: std::ops::RangeInclusive<i64> = 0..=6 * 3_600;
const GRACE_S: std::ops::RangeInclusive<i64> = 0..=600;

/// A window that opens.
pub(super) fn allow(raw: &RawWindow, path: &str) -> Result<Window, Problem> {
    match (&raw.cron, &raw.lasts) {
        (Some(cron), Some(lasts)) if !raw.has_calendar() => by_cron(cron, lasts, path),
        (None, None) => by_calendar(raw, path),
        (Some(_), None) => {
            Err(Problem::new(format!("{path}.cron"), "a cron window needs its length", "add for = \"20m\", say"))
        }
        (None, Some(_)) => Err(Problem::new(
            format!("{path}.for"),
            "a length belongs to cron; a window of days ends at `to`",
            "write from = \"22:00\", to = \"02:00\", say",
        )),
        (Some(_), Some(_)) => Err(Problem::new(
            path.to_owned(),
            "a window is either days/dates/months/from/to or cron/for",
            "split it into two windows if you mean both",
        )),
    }
}

/// A window that keeps closed: as one that opens, or from one moment to another.
pub(super) fn deny(raw: &RawDenial, zone: &TimeZone, path: &str) -> Result<Window, Problem> {
    let Some(until) = &raw.until else {
        if let Some(from) = raw.from.as_ref().filter(|from| local_moment(from, zone).is_some()) {
            return Err(Problem::new(
                format!("{path}.until"),
                format!("it begins at {from}, and nothing says when it ends"),
                "add until = \"2027-12-26T08:00\", say",
            ));
        }
        return allow(&raw.recurring(), path);
    };
    if raw.days.is_some() || raw.dates.is_some() || raw.months.is_some() || raw.to.is_some() {
        return Err(Problem::new(
            path.to_owned(),
            "`until` ends one span of time; days, dates, months and `to` come again and again",
            "write { from = \"2027-12-24T20:00\", until = \"2027-12-26T08:00\" }, or leave `until` out",
        ));
    }
    if raw.cron.is_some() || raw.lasts.is_some() {
        let message = "`until` ends one span of time; cron comes again and again";
        return Err(Problem::new(path.to_owned(), message, "split it into two"));
    }
    let Some(from) = &raw.from else {
        let message = format!("it ends at {until}, and nothing says when it begins");
        return Err(Problem::new(format!("{path}.from"), message, "add from = \"2027-12-24T20:00\", say"));
    };
    let (start, end) = (moment(from, zone, path, "from")?, moment(until, zone, path, "until")?);
    if start >= end {
        return Err(Problem::new(format!("{path}.until"), "it ends before it begins", ""));
    }
    Ok(Window::Once(Interval { start, end }))
}

/// A window that opens once.
pub(super) fn once(raw: &RawOnce, zone: &TimeZone, path: &str) -> Result<Window, Problem> {
    let start = moment(&raw.at, zone, path, "at")?;
    Ok(Window::Once(Interval { start, end: start + lasts(&raw.lasts, path)? }))
}

fn moment(text: &str, zone: &TimeZone, path: &str, key: &str) -> Result<i64, Problem> {
    local_moment(text, zone).map(Timestamp::as_second).ok_or_else(|| {
        Problem::new(
            format!("{path}.{key}"),
            format!("not a day or a time: {text:?}"),
            "write \"2027-01-31\" or \"2027-01-31T08:00\", in the time zone of the windows",
        )
    })
}

/// A day or a time of the clock on the wall; one that does not exist there moves forward, one that exists twice is the first.
pub(crate) fn local_moment(text: &str, zone: &TimeZone) -> Option<Timestamp> {
    let text = text.trim();
    // What names an offset or a zone of its own would be read without it.
    if text.parse::<Timestamp>().is_ok() || text.contains('[') {
        return None;
    }
    let local = text.parse::<civil::DateTime>().or_else(|_| text.parse::<civil::Date>().map(civil::DateTime::from));
    zone.to_ambiguous_timestamp(local.ok()?).compatible().ok()
}

fn by_cron(text: &str, length: &str, path: &str) -> Result<Window, Problem> {
    let (days, starts) = cron::parse(text).map_err(|flaw| flaw.at(format!("{path}.cron")))?;
    Ok(Window::Recurring(Recurring { days, starts, length: Length::Real(lasts(length, path)?) }))
}

fn lasts(text: &str, path: &str) -> Result<i64, Problem> {
    whole_seconds(text).filter(|length| (1..=DURATION_S_MAX).contains(length)).ok_or_else(|| {
        Problem::new(
            format!("{path}.for"),
            format!("not the length of an opening: {text:?}"),
            "it is from 1s to 31 days, in whole seconds: write \"20m\" or \"1h 30m\"",
        )
    })
}

fn whole_seconds(text: &str) -> Option<i64> {
    parse_duration(text).ok().filter(|length| length.subsec_nanos() == 0).map(|length| length.as_secs())
}

/// The length of `cutoff` or `guard`.
pub(super) fn edge(text: &str, path: String) -> Result<SignedDuration, Problem> {
    within(text, path, EDGE_S, "from 0s to 6h")
}

/// The length of `grace`.
pub(super) fn grace(text: &str, path: String) -> Result<SignedDuration, Problem> {
    within(text, path, GRACE_S, "from 0s to 10m")
}

fn within(
    text: &str,
    path: String,
    bounds: std::ops::RangeInclusive<i64>,
    words: &str,
) -> Result<SignedDuration, Problem> {
    whole_seconds(text).filter(|length| bounds.contains(length)).map(SignedDuration::from_secs).ok_or_else(|| {
        Problem::new(path, format!("not such a length of time: {text:?}"), format!("this is {words}, such as \"30s\""))
    })
}

fn by_calendar(raw: &RawWindow, path: &str) -> Result<Window, Problem> {
    let mut days = Days::default();
    if let Some(text) = &raw.days {
        days.weekdays = names::weekdays(text)
            .map_err(|word| unknown(&word, path, "days", text, "\"mon-fri\", \"sat,sun\" or \"daily\""))?;
    }
    if let Some(text) = &raw.dates {
        let hint = "days of the month, such as \"1-7,15,last\"";
        days.dates = Some(names::dates(text).map_err(|word| unknown(&word, path, "dates", text, hint))?);
    }
    if let Some(text) = &raw.months {
        days.months =
            names::months(text).map_err(|word| unknown(&word, path, "months", text, "\"jan-mar,dec\", say"))?;
    }
    let minute = |text: &Option<String>, key: &str, absent: i64| match text {
        None => Ok(absent),
        Some(text) => minute(text).ok_or_else(|| {
            Problem::new(
                format!("{path}.{key}"),
                format!("not a time of day: {text:?}"),
                "write \"HH:MM\", such as \"22:00\"",
            )
        }),
    };
    let from = minute(&raw.from, "from", 0)?;
    let to = minute(&raw.to, "to", 24 * 60)?;
    if from == 24 * 60 {
        let message = "a window can't open at 24:00";
        return Err(Problem::new(format!("{path}.from"), message, "use \"00:00\" of the next day"));
    }
    if from == to {
        return Err(Problem::new(
            format!("{path}.to"),
            "it closes at the time at which it opens: that could be never, or a whole day",
            "leave from and to out for whole days; for 24 hours from another time on, use cron and for = \"24h\"",
        ));
    }
    let length_min = if to > from { to - from } else { to + 24 * 60 - from };
    Ok(Window::Recurring(Recurring { days, starts: [from * 60].into(), length: Length::Wall(length_min * 60) }))
}

fn unknown(unknown: &Unknown, path: &str, key: &str, text: &str, right: &str) -> Problem {
    let Unknown { word, meant } = unknown;
    let message = match text.trim() == word {
        true => format!("not understood: {word:?}"),
        false => format!("not understood in {text:?}: {word:?}"),
    };
    let hint = match meant {
        Some(meant) => format!("did you mean {meant:?}? This is {right}"),
        None => format!("write {right}"),
    };
    Problem::new(format!("{path}.{key}"), message, hint)
}

/// `HH:MM` as minutes since midnight, up to `24:00`.
fn minute(text: &str) -> Option<i64> {
    let (hour, minute) = text.split_once(':')?;
    let number = |part: &str, digits: std::ops::RangeInclusive<usize>| {
        (digits.contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit())).then(|| part.parse::<i64>().ok())?
    };
    let (hour, minute) = (number(hour, 1..=2)?, number(minute, 2..=2)?);
    let total = hour * 60 + minute;
    (minute < 60 && total <= 24 * 60).then_some(total)
}
