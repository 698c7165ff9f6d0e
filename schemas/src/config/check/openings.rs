//! Windows and lifetime together: a message must live to see an opening.

use super::Occasion;
use crate::{
    agreement::{Ages, Lifetime, LifetimeEnd, ServiceAgreement, Validity},
    config::{Problem, Problems},
    window::{RawWindow, RawWindows, WindowSet, local_moment},
};
use jiff::{SignedDuration, Timestamp};

/// How far ahead openings are looked at, in days: a year, so that every season is seen.
const HORIZON_DAYS: i64 = 366;
/// How far ahead guard and cutoff are held against openings, in days: those that come once may be far.
const EDGES_DAYS: i64 = 30 * 366;
/// How far what comes again and again is looked at, in days: five years have two leap days.
const LASTING_DAYS: i64 = 5 * 366;
/// From where that is looked at, in seconds since 1970: the first of January 2027. The same at all times, so that what was found good once
/// is found good again.
const LASTING_FROM_S: i64 = 1_798_761_600;
/// Most openings that are looked at, and most steps of a look for gaps. Windows that open more often than that (every minute, for a week)
/// have shown their pattern by then.
const OPENINGS_MAX: usize = 10_100;

/// Where problems are told.
#[derive(Clone, Copy)]
struct Paths<'p> {
    windows: &'p str,
    lifetime: &'p str,
}

/// Refuses windows that can't be kept: one that never opens, openings that deny windows or the guard swallow, a cutoff that leaves
/// nothing of an opening, a gap between openings that is not shorter than the age at which a message ends (a problem at `lifetime_path`).
/// What is over already is a warning.
///
/// What is kept from earlier ([`Occasion::Kept`]) is refused only for what its recurring windows do: that is the same at all times. What
/// its dates do (of deny windows, openings that come once, the agreement's own) may have come into sight since it was accepted, and is a
/// warning: a gateway has to start again with the config that it had.
///
/// # Errors
/// All problems at once.
pub fn check_openings(
    agreement: &ServiceAgreement,
    occasion: Occasion,
    now: Timestamp,
    windows_path: &str,
    lifetime_path: &str,
) -> Result<Vec<Problem>, Problems> {
    let paths = Paths { windows: windows_path, lifetime: lifetime_path };
    let mut problems = Problems::default();
    let mut warnings = Vec::new();
    check_each(&agreement.windows, now, windows_path, &mut problems, &mut warnings);
    if !problems.is_empty() {
        return problems.into_result(warnings);
    }
    let ahead = check_ahead(agreement, now, paths, &mut warnings);
    let lasting = check_lasting(agreement, paths);
    if occasion == Occasion::Kept && lasting.is_empty() {
        warnings.extend(ahead.iter().cloned());
        return Ok(warnings);
    }
    // The same thing with the dates that come next.
    let refused = if ahead.is_empty() { lasting } else { ahead };
    refused.into_result(warnings)
}

/// What is wrong from now on.
fn check_ahead(
    agreement: &ServiceAgreement,
    now: Timestamp,
    paths: Paths<'_>,
    warnings: &mut Vec<Problem>,
) -> Problems {
    let mut problems = Problems::default();
    let Some(first) = agreement.openings(now).next() else {
        match why_never(agreement, now, paths.windows) {
            Ok(problem) => problems.push(problem),
            Err(warning) => warnings.push(warning),
        }
        return problems;
    };
    check_edges(agreement, now, EDGES_DAYS, paths.windows, &mut problems);
    if problems.is_empty()
        && let Some(max_age) = ends_by_age(agreement)
    {
        let in_sight = first.end.and_then(|closing| first_gap(agreement, closing, HORIZON_DAYS, max_age));
        if let Some(gap) = in_sight.or_else(|| dated_gap(agreement, now, max_age)) {
            problems.push(too_long(agreement, max_age, gap, paths.lifetime));
        }
    }
    problems
}

/// What is wrong with what comes again and again, whatever the date is: dates are taken out. Where one of them could make up for it,
/// nothing is said.
fn check_lasting(agreement: &ServiceAgreement, paths: Paths<'_>) -> Problems {
    let mut problems = Problems::default();
    let raw = agreement.windows.raw();
    let once = !raw.once.is_empty();
    if once && raw.allow.is_empty() {
        return problems;
    }
    let deny = raw.deny.iter().filter(|denial| denial.until.is_none()).cloned().collect();
    let windows = WindowSet::from_raw(RawWindows { once: Vec::new(), deny, ..raw.clone() }, "").unwrap_or_default();
    let lasting = ServiceAgreement { windows, valid: Validity::default(), ..agreement.clone() };
    let from = Timestamp::from_second(LASTING_FROM_S).unwrap_or_default();
    if lasting.openings(from).next().is_none() {
        if !once && let Ok(problem) = why_never(&lasting, from, paths.windows) {
            problems.push(problem);
        }
        return problems;
    }
    check_edges(&lasting, from, LASTING_DAYS, paths.windows, &mut problems);
    if problems.is_empty()
        && !once
        && agreement.valid == Validity::default()
        && let Some(max_age) = ends_by_age(agreement)
        && let Some(gap) = first_gap(&lasting, from, LASTING_DAYS, max_age)
    {
        problems.push(too_long(&lasting, max_age, gap, paths.lifetime));
    }
    problems
}

/// Every window by itself.
fn check_each(windows: &WindowSet, now: Timestamp, path: &str, problems: &mut Problems, warnings: &mut Vec<Problem>) {
    let raw = windows.raw();
    // What can't be read was refused where it was read.
    let alone = |part: RawWindows| {
        let set = WindowSet::from_raw(RawWindows { timezone: raw.timezone.clone(), ..part }, "").ok()?;
        Some(ServiceAgreement { windows: set, ..ServiceAgreement::default() })
    };
    let never = |window: &RawWindow| {
        let set = alone(RawWindows { allow: vec![window.clone()], ..RawWindows::default() });
        set.is_some_and(|set| set.openings(now).next().is_none())
    };
    let hint = "there is no such day in any year";
    let key = |cron: bool| if cron { ".cron" } else { "" };
    for (index, window) in raw.allow.iter().enumerate().filter(|(_, window)| never(window)) {
        let path = format!("{path}.allow[{index}]{}", key(window.cron.is_some()));
        problems.push(Problem::new(path, "this window never opens", hint));
    }
    for (index, denial) in raw.deny.iter().enumerate() {
        let path = format!("{path}.deny[{index}]");
        match &denial.until {
            None if never(&denial.recurring()) => {
                let path = format!("{path}{}", key(denial.cron.is_some()));
                problems.push(Problem::new(path, "this never keeps anything closed", hint));
            }
            Some(until) if local_moment(until, windows.zone()).is_some_and(|until| until <= now) => {
                warnings.push(Problem::new(path, format!("this was over on {until}"), "it can be taken out"));
            }
            _ => {}
        }
    }
    for (index, once) in raw.once.iter().enumerate() {
        let set = alone(RawWindows { once: vec![once.clone()], ..RawWindows::default() });
        if set.is_some_and(|set| set.openings(now).next().is_none()) {
            let message = format!("this opening of {} is over", once.at);
            warnings.push(Problem::new(format!("{path}.once[{index}]"), message, "it can be taken out"));
        }
    }
}

/// Why there is no opening from now on: what no time would change (`Ok`, to be refused), or what is over (`Err`).
fn why_never(agreement: &ServiceAgreement, now: Timestamp, path: &str) -> Result<Problem, Problem> {
    let opens = |change: &dyn Fn(&mut RawWindows), valid: Validity, from: Timestamp| {
        let mut raw = agreement.windows.raw().clone();
        change(&mut raw);
        let windows = WindowSet::from_raw(raw, "").unwrap_or_default();
        ServiceAgreement { windows, valid, ..agreement.clone() }.openings(from).next().is_some()
    };
    let valid_path = format!("{}.valid", path.strip_suffix(".windows").unwrap_or(path));
    let valid = agreement.valid;
    if let Some(until) = valid.until.filter(|until| *until <= now) {
        let at = until.to_zoned(agreement.windows.zone().clone()).strftime("%Y-%m-%d %H:%M %Z").to_string();
        let hint = "make a new agreement, or take the destination out";
        return Err(Problem::new(valid_path, format!("the agreement ended on {at}: nothing is delivered"), hint));
    }
    let always = Validity::default();
    if opens(&|_| {}, always, now) {
        let message = "no window opens while the agreement holds";
        let hint = "lengthen the agreement, or add a window";
        let ever = opens(&|_| {}, valid, valid.from.unwrap_or(now));
        let problem = Problem::new(valid_path, message, hint);
        return if ever || valid.from.is_none() { Err(problem) } else { Ok(problem) };
    }
    if agreement.windows.raw().allow.is_empty() && !agreement.windows.raw().once.is_empty() {
        let message = "every opening is over, and no window opens again";
        return Err(Problem::new(format!("{path}.once"), message, "add a window"));
    }
    if opens(&|raw| raw.guard = None, always, now) {
        let hint = "shorten the guard, or lengthen the windows";
        return Ok(Problem::new(format!("{path}.guard"), "the guard leaves nothing of any opening", hint));
    }
    let message = "the deny windows leave nothing of any opening";
    Ok(Problem::new(format!("{path}.deny"), message, "take one of them out, or move a window"))
}

/// Guard and cutoff against the shortest opening that the windows themselves make in so many days.
fn check_edges(agreement: &ServiceAgreement, now: Timestamp, days: i64, path: &str, problems: &mut Problems) {
    let windows = &agreement.windows;
    if windows.cutoff().is_zero() && windows.guard().is_zero() {
        return;
    }
    let raw = RawWindows { deny: Vec::new(), guard: None, ..windows.raw().clone() };
    let plain = WindowSet::from_raw(raw, "").unwrap_or_default();
    let plain = ServiceAgreement { windows: plain, ..ServiceAgreement::default() };
    let Ok(end) = now.checked_add(SignedDuration::from_hours(days.saturating_mul(24))) else { return };
    let openings = plain.openings(now).take(OPENINGS_MAX).take_while(|o| o.start.is_none_or(|start| start < end));
    let lengths = openings.filter_map(|o| Some(o.end?.duration_since(o.start?)));
    let Some(shortest) = lengths.min() else { return };
    let left = shortest.saturating_sub(windows.guard().saturating_mul(2));
    if !left.is_positive() {
        problems.push(Problem::new(
            format!("{path}.guard"),
            format!("a guard of {:#} at both ends leaves nothing of an opening of {shortest:#}", windows.guard()),
            "shorten the guard, or lengthen the window",
        ));
    } else if windows.cutoff() >= left {
        problems.push(Problem::new(
            format!("{path}.cutoff"),
            format!("nothing starts in the last {:#}, but there is an opening of {left:#}", windows.cutoff()),
            "shorten the cutoff, or lengthen the window",
        ));
    }
}

/// The age at which a message ends, if it is age that ends it, and if it ages while the windows are closed.
fn ends_by_age(agreement: &ServiceAgreement) -> Option<SignedDuration> {
    match agreement.lifetime {
        Lifetime { end: LifetimeEnd::MaxAge(max_age), ages: Ages::Always } => Some(max_age),
        _ => None,
    }
}

/// A time without openings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Gap {
    closing: Timestamp,
    opening: Timestamp,
}

fn too_long(agreement: &ServiceAgreement, max_age: SignedDuration, gap: Gap, path: &str) -> Problem {
    let from = gap.closing.to_zoned(agreement.windows.zone().clone()).strftime("%Y-%m-%d %H:%M %Z").to_string();
    let length = gap.opening.duration_since(gap.closing);
    let message = format!(
        "messages live {max_age:#}, but from {from} on the windows stay closed for {length:#}: what came then would expire before it could be delivered"
    );
    Problem::new(path, message, "lengthen the lifetime, or add a window")
}

/// The first gap that is not shorter than `max_age`, of those that begin from `closing` on and within the horizon. It goes in steps of
/// `max_age`, not from opening to opening: what lies between two moments that are no further apart can't be too long.
fn first_gap(
    agreement: &ServiceAgreement,
    closing: Timestamp,
    horizon_days: i64,
    max_age: SignedDuration,
) -> Option<Gap> {
    let end = closing.checked_add(SignedDuration::from_hours(horizon_days * 24)).ok()?;
    let mut closing = closing;
    for _ in 0..OPENINGS_MAX {
        if closing >= end {
            break;
        }
        let by = closing.checked_add(max_age).ok()?;
        let next = agreement.openings(by).next()?;
        let gap = next.start.filter(|start| *start >= by).and_then(|start| {
            // Another opening may lie before it and behind the closing.
            gap_before(agreement, start, closing, max_age)
        });
        if gap.is_some() {
            return gap;
        }
        closing = next.end?;
    }
    None
}

/// The first gap that is not shorter than `max_age` and that a deny window with dates makes or is part of, however far ahead it is.
fn dated_gap(agreement: &ServiceAgreement, now: Timestamp, max_age: SignedDuration) -> Option<Gap> {
    let zone = agreement.windows.zone();
    let moment = |text: &Option<String>| local_moment(text.as_ref()?, zone);
    let begun = agreement.valid.from.is_none_or(|from| from <= now);
    let gaps = agreement.windows.raw().deny.iter().filter_map(|denial| {
        let (from, until) = (moment(&denial.from)?, moment(&denial.until).filter(|until| *until > now)?);
        let opening = agreement.openings(until).next()?.start?;
        // What is closed now for another reason was not closed by this.
        let closes = (begun && from <= now) || !is_silent(agreement, now, opening);
        closes.then(|| gap_before(agreement, opening, now, max_age))?
    });
    gaps.min_by_key(|gap| gap.closing)
}

/// Whether there is no opening from one moment until the opening that begins at another.
fn is_silent(agreement: &ServiceAgreement, from: Timestamp, opening: Timestamp) -> bool {
    let next = agreement.openings(from).next();
    next.is_none_or(|next| next.start.is_some_and(|start| start >= opening))
}

/// The gap before an opening, if it is not shorter than `max_age`; what lies before `floor` doesn't count.
fn gap_before(
    agreement: &ServiceAgreement,
    opening: Timestamp,
    floor: Timestamp,
    max_age: SignedDuration,
) -> Option<Gap> {
    let latest = opening.checked_sub(max_age).ok()?;
    if latest < floor || !is_silent(agreement, latest, opening) {
        return None;
    }
    // Closings are on whole seconds; the last one is found by halving.
    let silent = |second: i64| Timestamp::from_second(second).is_ok_and(|at| is_silent(agreement, at, opening));
    let (mut open, mut shut) = (floor.as_second(), latest.as_second());
    if silent(open) {
        return Some(Gap { closing: floor, opening });
    }
    while shut - open > 1 {
        let middle = open + (shut - open) / 2;
        if silent(middle) { shut = middle } else { open = middle }
    }
    Some(Gap { closing: Timestamp::from_second(shut).ok()?, opening })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::window::{Opening, RawDenial, RawOnce};
    use proptest::{collection::vec, prelude::*};

    fn windows(allow: &[(&str, &str)]) -> WindowSet {
        let allow = allow
            .iter()
            .map(|(cron, lasts)| RawWindow {
                cron: Some((*cron).to_owned()),
                lasts: Some((*lasts).to_owned()),
                ..RawWindow::default()
            })
            .collect();
        let raw = RawWindows { timezone: Some("Europe/Madrid".to_owned()), allow, ..RawWindows::default() };
        WindowSet::from_raw(raw, "windows").unwrap()
    }

    fn check(allow: &[(&str, &str)], max_age_h: i64) -> Vec<String> {
        let now = "2026-11-23T12:00:00Z".parse().unwrap();
        let lifetime = Lifetime::of(SignedDuration::from_hours(max_age_h));
        let agreement = ServiceAgreement { windows: windows(allow), lifetime, ..ServiceAgreement::default() };
        match check_openings(&agreement, Occasion::New, now, "windows", "lifetime") {
            Ok(_) => Vec::new(),
            Err(problems) => problems.iter().map(|p| format!("{}: {}", p.path, p.message)).collect(),
        }
    }

    #[test]
    fn a_window_that_never_opens_is_named() {
        let problems = check(&[("0 0 * * *", "1h"), ("0 0 30 2 *", "1h")], 48);
        assert_eq!(problems, ["windows.allow[1].cron: this window never opens"]);
    }

    #[test]
    fn a_lifetime_must_outlast_the_longest_gap_of_the_year() {
        assert!(check(&[("0 0 * * *", "1h")], 25).is_empty());
        // The night of the autumn change is an hour longer: 24 h between openings of one hour.
        assert_eq!(check(&[("0 0 * * *", "1h")], 24).len(), 1);
        // Closed from the first of July on, for the rest of the month: only a look at the whole year finds it.
        let summer = [("0 * * 1-6,8-12 *", "30m")];
        assert!(check(&summer, 32 * 24).is_empty());
        let problems = check(&summer, 14 * 24);
        assert_eq!(problems.len(), 1);
        assert!(problems[0].starts_with("lifetime: messages live 336h"), "{problems:?}");
        assert!(problems[0].contains("from 2027-06-30 23:30 CEST on"), "{problems:?}");
    }

    #[test]
    fn always_open_has_no_gap() {
        let lifetime = Lifetime::of(SignedDuration::from_secs(60));
        let agreement = ServiceAgreement { lifetime, ..ServiceAgreement::default() };
        assert!(check_openings(&agreement, Occasion::New, Timestamp::UNIX_EPOCH, "w", "l").is_ok());
        assert!(check(&[("* * * * *", "1m")], 1).is_empty());
    }

    /// What the text of an agreement leads to: problems, then warnings.
    fn told(text: &str) -> (Vec<String>, Vec<String>) {
        told_at(text, Occasion::New, "2026-11-23T12:00:00Z")
    }

    fn told_at(text: &str, occasion: Occasion, now: &str) -> (Vec<String>, Vec<String>) {
        let raw: crate::agreement::RawAgreement = toml::from_str(text).unwrap();
        let agreement = raw.check("d", false).unwrap();
        let texts = |problems: Vec<Problem>| problems.iter().map(|p| format!("{}: {}", p.path, p.message)).collect();
        match check_openings(&agreement, occasion, now.parse().unwrap(), "d.windows", "d.lifetime.max_age") {
            Ok(warnings) => (Vec::new(), texts(warnings)),
            Err(problems) => (texts(problems.iter().cloned().collect()), Vec::new()),
        }
    }

    #[test]
    fn what_leaves_nothing_of_an_opening_is_refused() {
        let night = "windows.allow = [{ from = \"22:00\", to = \"22:10\" }]\n";
        for (more, path, reason) in [
            ("windows.cutoff = \"10m\"", "d.windows.cutoff: ", "there is an opening of 10m"),
            ("windows.guard = \"5m\"", "d.windows.guard: ", "leaves nothing"),
            ("windows.guard = \"4m\"\nwindows.cutoff = \"2m\"", "d.windows.cutoff: ", "there is an opening of 2m"),
            ("windows.deny = [{ from = \"21:00\", to = \"23:00\" }]", "d.windows.deny: ", "nothing of any opening"),
            ("windows.deny = [{ dates = \"31\", months = \"feb\" }]", "d.windows.deny[0]: ", "never keeps"),
            ("valid = { from = \"2027-01-01\", until = \"2027-01-01T21:00\" }", "d.valid: ", "no window opens"),
            (
                "windows.deny = [{ from = \"2026-12-01\", until = \"2026-12-20\" }]",
                "d.lifetime.max_age: ",
                "stay closed for 479h 50m",
            ),
        ] {
            let (problems, _) = told(&format!("{night}{more}"));
            assert!(
                problems.len() == 1 && problems[0].starts_with(path) && problems[0].contains(reason),
                "{problems:?}"
            );
        }
        let (problems, warnings) = told(&format!("{night}windows.cutoff = \"9m\"\nwindows.guard = \"0s\""));
        assert!(problems.is_empty() && warnings.is_empty(), "{problems:?} {warnings:?}");
    }

    #[test]
    fn what_time_has_overtaken_is_a_warning() {
        for (text, path, reason) in [
            ("windows.once = [{ at = \"2026-03-02T10:00\", for = \"30m\" }]", "d.windows.once[0]: ", "is over"),
            ("windows.deny = [{ from = \"2026-01-01\", until = \"2026-01-02\" }]", "d.windows.deny[0]: ", "was over"),
            ("valid.until = \"2026-11-01\"", "d.valid: ", "ended on 2026-11-01 00:00 UTC"),
            (
                "valid.until = \"2026-11-24\"\nwindows.allow = [{ days = \"wed\" }]",
                "d.valid: ",
                "no window opens while the agreement holds",
            ),
        ] {
            let (problems, warnings) = told(text);
            assert!(problems.is_empty(), "{problems:?}");
            assert!(warnings.iter().any(|w| w.starts_with(path) && w.contains(reason)), "{warnings:?}");
        }
    }

    #[test]
    fn what_the_dates_of_an_agreement_do_is_refused_when_it_is_new_and_a_warning_when_it_is_kept() {
        let night = "windows.allow = [{ from = \"22:00\", to = \"22:10\" }]\n";
        let june = "windows.deny = [{ from = \"2028-06-01\", until = \"2028-06-20\" }]";
        for (windows, now) in
            [(night, "2026-11-23T12:00:00Z"), (night, "2028-05-20T12:00:00Z"), ("", "2026-11-23T12:00:00Z")]
        {
            // However far ahead.
            let (problems, _) = told_at(&format!("{windows}{june}"), Occasion::New, now);
            assert!(problems.len() == 1 && problems[0].contains("stay closed for 4"), "{problems:?}");
            assert!(problems[0].contains("from 2028-05-31 22:10 UTC") || problems[0].contains("from 2028-06-01 00:00"));
            let (problems, warnings) = told_at(&format!("{windows}{june}"), Occasion::Kept, now);
            assert_eq!((problems.len(), warnings.len()), (0, 1), "{problems:?} {warnings:?}");
        }
        // It is under way: what comes now would expire before its end.
        let (problems, _) = told_at(june, Occasion::New, "2028-06-02T00:00:00Z");
        assert!(problems[0].contains("from 2028-06-02 00:00 UTC on"), "{problems:?}");
        assert!(told_at(june, Occasion::New, "2028-06-07T00:00:00Z").0.is_empty(), "14 days are left, less a day");
        // A deny window that makes no gap, and one behind which nothing opens anyway.
        for fine in [
            "[{ from = \"2028-06-01\", until = \"2028-06-10\" }]",
            "[{ from = \"2028-06-01\", until = \"2098-01-01\" }]",
        ] {
            let valid = "valid.until = \"2028-06-02\"";
            let (problems, _) = told(&format!("{night}{valid}\nwindows.deny = {fine}"));
            assert!(problems.is_empty(), "{problems:?}");
        }
    }

    #[test]
    fn what_recurring_windows_do_is_refused_at_any_time() {
        for text in [
            "windows.allow = [{ cron = \"0 0 1 1 *\", for = \"1h\" }]",
            "windows.allow = [{ dates = \"29\", months = \"feb\" }]",
            "windows.allow = [{ from = \"22:00\", to = \"22:10\" }]\nwindows.deny = [{ months = \"jul\" }]",
            "windows.allow = [{ from = \"22:00\", to = \"22:10\" }]\nwindows.cutoff = \"10m\"",
            "windows.allow = [{ from = \"22:00\", to = \"22:10\" }]\nwindows.deny = [{ from = \"21:00\", to = \"23:00\" }]",
        ] {
            for now in ["2026-11-23T12:00:00Z", "2027-06-30T12:00:00Z", "2028-02-28T12:00:00Z"] {
                for occasion in [Occasion::New, Occasion::Kept] {
                    let (problems, _) = told_at(text, occasion, now);
                    assert_eq!(problems.len(), 1, "{text} {now} {occasion:?}: {problems:?}");
                }
            }
        }
    }

    /// Agreements that have something of everything, most of them fit to be kept.
    fn agreements() -> impl Strategy<Value = ServiceAgreement> {
        let day = |text: i64| {
            let day = jiff::civil::date(2026, 1, 1).saturating_add(jiff::Span::new().days(text));
            format!("{day}T00:00")
        };
        let hours = (0_u8..24, 1_u8..12)
            .prop_map(|(from, length)| (format!("{from:02}:00"), format!("{:02}:30", (from + length) % 24)));
        let months = prop::option::weighted(0.2, prop::sample::select(vec!["jan-jun", "feb", "mar-dec", "jul"]));
        let dates = prop::option::weighted(0.2, prop::sample::select(vec!["1", "29", "1-7", "31", "last"]));
        let allow = (hours, months.clone(), dates).prop_map(|((from, to), months, dates)| RawWindow {
            from: Some(from),
            to: Some(to),
            months: months.map(str::to_owned),
            dates: dates.map(str::to_owned),
            ..RawWindow::default()
        });
        let deny = (0_i64..4_000, 1_i64..60).prop_map(move |(from, length)| RawDenial {
            from: Some(day(from)),
            until: Some(day(from + length)),
            ..RawDenial::default()
        });
        let recurring = months
            .prop_map(|months| RawDenial { months: Some(months.unwrap_or("dec").to_owned()), ..RawDenial::default() });
        let once = (0_i64..2_000, 1_u8..48).prop_map(move |(at, hours)| RawOnce {
            at: day(at),
            lasts: format!("{hours}h"),
            note: None,
        });
        let valid = prop::option::weighted(0.2, (0_i64..1_000, 1_i64..2_000));
        let lifetime = prop::sample::select(vec![1_i64, 2, 14, 40, 400]);
        let short = prop::option::weighted(0.2, prop::sample::select(vec!["10m", "40m", "2h"]));
        let windows = (vec(allow, 0..3), vec(deny, 0..3), vec(recurring, 0..2), vec(once, 0..3), short.clone(), short);
        (windows, valid, lifetime).prop_map(move |((allow, mut deny, recurring, once, guard, cutoff), valid, days)| {
            deny.extend(recurring);
            let (guard, cutoff) = (guard.map(str::to_owned), cutoff.map(str::to_owned));
            let timezone = Some("Europe/Madrid".to_owned());
            let raw = RawWindows { timezone, allow, deny, once, guard, cutoff, ..RawWindows::default() };
            let valid = valid.map_or_else(Validity::default, |(from, length)| {
                let zone = jiff::tz::TimeZone::UTC;
                Validity { from: local_moment(&day(from), &zone), until: local_moment(&day(from + length), &zone) }
            });
            let lifetime = Lifetime::of(SignedDuration::from_hours(days * 24));
            let windows = WindowSet::from_raw(raw, "windows").unwrap_or_default();
            ServiceAgreement { windows, valid, lifetime, ..ServiceAgreement::default() }
        })
    }

    fn moment(day: i64) -> Timestamp {
        Timestamp::from_second(1_767_225_600 + day * 86_400 + 45_000).unwrap()
    }

    /// The gaps within the horizon, one opening after the other.
    fn gaps(agreement: &ServiceAgreement, closing: Timestamp) -> Vec<Gap> {
        let end = closing + SignedDuration::from_hours(HORIZON_DAYS * 24);
        let near = |opening: &Opening| opening.start.is_none_or(|start| start < end + SignedDuration::from_hours(24));
        let mut near_and_one = true;
        let openings = agreement.openings(closing).take(OPENINGS_MAX);
        let openings: Vec<_> =
            openings.take_while(|opening| std::mem::replace(&mut near_and_one, near(opening))).collect();
        let closings = std::iter::once(Some(closing)).chain(openings.iter().map(|opening| opening.end));
        let pairs = closings.zip(openings.iter().map(|opening| opening.start));
        let gaps = pairs.filter_map(|(closing, opening)| Some(Gap { closing: closing?, opening: opening? }));
        gaps.filter(|gap| gap.closing < end && gap.opening > gap.closing).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        #[test]
        fn time_alone_makes_no_accepted_agreement_fatal(
            agreement in agreements(), first in 0_i64..1_500, later in vec(1_i64..2_500, 4),
        ) {
            let at = |occasion, day| check_openings(&agreement, occasion, moment(day), "windows", "lifetime");
            if at(Occasion::New, first).is_ok() {
                for later in later {
                    prop_assert_eq!(at(Occasion::Kept, first + later).err(), None);
                }
            }
            // What is refused when it is kept is refused when it is new.
            if at(Occasion::Kept, first).is_err() {
                prop_assert!(at(Occasion::New, first).is_err());
            }
        }

        #[test]
        fn steps_find_the_gap_that_a_walk_finds(agreement in agreements(), day in 0_i64..1_500, hours in 1_i64..2_000) {
            let max_age = SignedDuration::from_hours(hours);
            let Some(closing) = agreement.openings(moment(day)).next().and_then(|first| first.end) else { return Ok(()) };
            let walked = gaps(&agreement, closing).into_iter().find(|gap| gap.opening.duration_since(gap.closing) >= max_age);
            let stepped = first_gap(&agreement, closing, HORIZON_DAYS, max_age);
            match walked {
                Some(_) => prop_assert_eq!(stepped, walked),
                // A step may reach over the horizon.
                None => prop_assert!(stepped.is_none_or(|gap| gap.closing >= closing + SignedDuration::from_hours((HORIZON_DAYS - 1) * 24) - max_age)),
            }
        }
    }
}
