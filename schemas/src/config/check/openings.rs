//! Windows and lifetime together: a message must live to see an opening.

use crate::{
    agreement::{Ages, Lifetime, LifetimeEnd, ServiceAgreement, Validity},
    config::{Problem, Problems},
    window::{RawWindow, RawWindows, WindowSet, local_moment},
};
use jiff::{SignedDuration, Timestamp};

/// How far ahead openings are looked at, in days: a year, so that every season is seen.
const HORIZON_DAYS: i64 = 366;
/// Most openings that are looked at. Windows that open more often than that (every minute, for a week)
/// have shown their pattern by then.
const OPENINGS_MAX: usize = 10_100;

/// Refuses windows that can't be kept: one that never opens, openings that deny windows or the guard swallow, a cutoff that leaves
/// nothing of an opening, a longest gap that is not shorter than the age at which a message ends (a problem at `lifetime_path`). What
/// only time has overtaken is a warning, because a gateway has to start again with the config that it had.
///
/// # Errors
/// All problems at once.
pub fn check_openings(
    agreement: &ServiceAgreement,
    now: Timestamp,
    windows_path: &str,
    lifetime_path: &str,
) -> Result<Vec<Problem>, Problems> {
    let mut problems = Problems::default();
    let mut warnings = Vec::new();
    let windows = &agreement.windows;
    check_each(windows, now, windows_path, &mut problems, &mut warnings);
    if !problems.is_empty() {
        return problems.into_result(warnings);
    }
    if agreement.openings(now).next().is_none() {
        match why_never(agreement, now, windows_path) {
            Ok(problem) => problems.push(problem),
            Err(warning) => warnings.push(warning),
        }
        return problems.into_result(warnings);
    }
    check_edges(agreement, now, windows_path, &mut problems);
    if problems.is_empty()
        && let Lifetime { end: LifetimeEnd::MaxAge(max_age), ages: Ages::Always } = agreement.lifetime
        && let Some((closing, gap)) = longest_gap(agreement, now)
        && max_age <= gap
    {
        problems.push(Problem::new(
            lifetime_path,
            format!(
                "messages live {max_age:#}, but from {} on the windows stay closed for {gap:#}: what came then would expire before it could be delivered",
                closing.to_zoned(windows.zone().clone()).strftime("%Y-%m-%d %H:%M %Z"),
            ),
            "lengthen the lifetime, or add a window",
        ));
    }
    problems.into_result(warnings)
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

/// Guard and cutoff against the shortest opening that the windows themselves make.
fn check_edges(agreement: &ServiceAgreement, now: Timestamp, path: &str, problems: &mut Problems) {
    let windows = &agreement.windows;
    if windows.cutoff().is_zero() && windows.guard().is_zero() {
        return;
    }
    let raw = RawWindows { deny: Vec::new(), guard: None, ..windows.raw().clone() };
    let plain = WindowSet::from_raw(raw, "").unwrap_or_default();
    let plain = ServiceAgreement { windows: plain, ..ServiceAgreement::default() };
    let lengths = plain.openings(now).take(OPENINGS_MAX).filter_map(|o| Some(o.end?.duration_since(o.start?)));
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

/// The longest time between a closing and the next opening within the horizon, and when it begins.
fn longest_gap(agreement: &ServiceAgreement, now: Timestamp) -> Option<(Timestamp, SignedDuration)> {
    let end = now.checked_add(SignedDuration::from_hours(HORIZON_DAYS * 24)).ok()?;
    let mut closing: Option<Timestamp> = None;
    let mut longest: Option<(Timestamp, SignedDuration)> = None;
    for opening in agreement.openings(now).take(OPENINGS_MAX) {
        if let (Some(closing), Some(start)) = (closing, opening.start) {
            let gap = start.duration_since(closing);
            if longest.is_none_or(|(_, longest)| gap > longest) {
                longest = Some((closing, gap));
            }
        }
        closing = opening.end.filter(|closing| *closing < end);
        if closing.is_none() {
            break;
        }
    }
    longest
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

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
        match check_openings(&agreement, now, "windows", "lifetime") {
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
        assert!(check_openings(&agreement, Timestamp::UNIX_EPOCH, "w", "l").is_ok());
        assert!(check(&[("* * * * *", "1m")], 1).is_empty());
    }

    /// What the text of an agreement leads to: problems, then warnings.
    fn told(text: &str) -> (Vec<String>, Vec<String>) {
        let raw: crate::agreement::RawAgreement = toml::from_str(text).unwrap();
        let agreement = raw.check("d", false).unwrap();
        let texts = |problems: Vec<Problem>| problems.iter().map(|p| format!("{}: {}", p.path, p.message)).collect();
        let now = "2026-11-23T12:00:00Z".parse().unwrap();
        match check_openings(&agreement, now, "d.windows", "d.lifetime.max_age") {
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
}
