//! Windows and lifetime together: a message must live to see an opening.

use crate::{
    agreement::{Ages, Lifetime, LifetimeEnd, ServiceAgreement},
    config::{Problem, Problems},
    window::{RawWindows, WindowSet},
};
use jiff::{SignedDuration, Timestamp};

/// How far ahead openings are looked at, in days: a year, so that every season is seen.
const HORIZON_DAYS: i64 = 366;
/// Most openings that are looked at. Windows that open more often than that (every minute, for a week)
/// have shown their pattern by then.
const OPENINGS_MAX: usize = 10_100;

/// Refuses windows that never open (a problem at their place below `windows_path`), and windows whose longest gap is not shorter
/// than the age at which a message ends (a problem at `lifetime_path`).
///
/// # Errors
/// All problems at once.
pub fn check_openings(
    agreement: &ServiceAgreement,
    now: Timestamp,
    windows_path: &str,
    lifetime_path: &str,
) -> Result<(), Problems> {
    let mut problems = Problems::default();
    let windows = &agreement.windows;
    for (index, window) in windows.raw().allow.iter().enumerate() {
        let alone = RawWindows {
            timezone: windows.raw().timezone.clone(),
            allow: vec![window.clone()],
            ..RawWindows::default()
        };
        // What can't be read was refused where it was read.
        let Ok(alone) = WindowSet::from_raw(alone, "") else { continue };
        let alone = ServiceAgreement { windows: alone, ..ServiceAgreement::default() };
        if alone.openings(now).next().is_none() {
            let key = if window.cron.is_some() { ".cron" } else { "" };
            problems.push(Problem::new(
                format!("{windows_path}.allow[{index}]{key}"),
                "this window never opens",
                "there is no such day in any year",
            ));
        }
    }
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
    problems.into_result(())
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
    use crate::window::RawWindow;

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
            Ok(()) => Vec::new(),
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
}
