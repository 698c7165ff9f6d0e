//! When a cron window opens: the expression is read in civil time, as what a clock on the wall shows, and the time zone then says
//! which moment that is, by the one rule of all windows.
//!
//! croner has a rule of its own for daylight-saving changes, which depends on how many hours and minutes an expression names: it
//! opens twice in a fold and skips what lies in a gap. So it is asked in UTC alone, where there are neither.

use croner::Cron;
use jiff::{SignedDuration, Timestamp, civil::DateTime, tz::TimeZone};

/// No change of a zone's offset is larger, and no zone changes twice within this time.
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// The first opening after a moment.
pub(super) fn next_start(cron: &Cron, zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
    // What a gap moved forward may still lie ahead, though the wall's clock has passed it.
    let moved = change_before(zone, after).max(SignedDuration::ZERO);
    let mut at = wall(zone, after)?.checked_sub(moved).ok()?;
    let mut inclusive = true;
    let mut first: Option<Timestamp> = None;
    while let Ok(found) = cron.find_next_occurrence(&at.to_zoned(TimeZone::UTC).ok()?, inclusive) {
        (at, inclusive) = (found.datetime(), false);
        // An opening beyond the best so far may come before it, if that one was moved.
        if first.is_some_and(|first| wall(zone, first).is_none_or(|wall| at >= wall)) {
            break;
        }
        if let Some(start) = moment(zone, at).filter(|start| *start > after) {
            first = Some(first.map_or(start, |first| first.min(start)));
        }
    }
    first
}

/// The last opening at a moment or before it.
pub(super) fn previous_start(cron: &Cron, zone: &TimeZone, until: Timestamp) -> Option<Timestamp> {
    // In the second pass of a fold, openings of the first may stand later on the wall's clock.
    let back = change_before(zone, until).min(SignedDuration::ZERO).abs();
    let mut at = wall(zone, until)?.checked_add(back).ok()?;
    let mut inclusive = true;
    let mut last: Option<(Timestamp, DateTime)> = None;
    while let Ok(found) = cron.find_previous_occurrence(&at.to_zoned(TimeZone::UTC).ok()?, inclusive) {
        (at, inclusive) = (found.datetime(), false);
        // Earlier on the wall's clock, but moved beyond the best so far by a gap: only that much earlier.
        if last.is_some_and(|(_, earliest)| at < earliest) {
            break;
        }
        let Some(start) = moment(zone, at).filter(|start| *start <= until) else { continue };
        if last.is_none_or(|(last, _)| start > last) {
            let moved = change_before(zone, start).max(SignedDuration::ZERO);
            last = Some((start, wall(zone, start)?.checked_sub(moved).ok()?));
        }
    }
    last.map(|(last, _)| last)
}

/// What the clock on the wall shows, in whole seconds.
fn wall(zone: &TimeZone, at: Timestamp) -> Option<DateTime> {
    Some(zone.to_datetime(Timestamp::from_second(at.as_second()).ok()?))
}

/// "compatible": a time in a gap moves forward, one in a fold is the first of the two.
fn moment(zone: &TimeZone, at: DateTime) -> Option<Timestamp> {
    zone.to_ambiguous_timestamp(at).compatible().ok()
}

/// By how much the wall's clock was set in the day before: forward is positive.
fn change_before(zone: &TimeZone, at: Timestamp) -> SignedDuration {
    let before = at.checked_sub(DAY).unwrap_or(Timestamp::MIN);
    let seconds = i64::from(zone.to_offset(at).seconds()) - i64::from(zone.to_offset(before).seconds());
    SignedDuration::from_secs(seconds)
}
