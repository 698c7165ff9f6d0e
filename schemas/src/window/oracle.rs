//! A slow second opinion on windows: it walks through the minutes of ten days and notes what the clock on the wall shows at each.
//!
//! It shares nothing with the evaluation but the time zone's offset at a moment: it is given the windows as drawn, not as text.
#![expect(clippy::unwrap_used, reason = "tests")]
use jiff::{Timestamp, civil, tz::TimeZone};

/// How far it walks, to each side, in minutes.
const WALK: i64 = 5 * 1_440;
/// How far it can be asked, to each side: intervals that begin before the walk don't reach further.
pub const REACH: i64 = WALK - 2 * 1_440;

/// A window, as drawn. Minutes of the day, of lengths, and of the wall since 1970.
#[derive(Debug, Clone)]
pub enum Drawn {
    Calendar { weekdays: Vec<i8>, dates: Option<(Vec<i8>, bool)>, months: Option<Vec<i8>>, from: i64, to: i64 },
    Cron { minutes: Vec<i64>, hours: Vec<i64>, weekdays: Option<Vec<i8>>, length: i64 },
    Span { from: i64, until: i64 },
}

/// The minutes around a moment.
pub struct Walk {
    /// The first of them, in minutes since 1970.
    pub first: i64,
    /// The wall's minute at the first; then for every minute of the wall from there on the real minute, if there is one.
    wall_first: i64,
    real: Vec<Option<i64>>,
}

impl Walk {
    pub fn new(zone: &TimeZone, around: Timestamp) -> Self {
        let first = around.as_second().div_euclid(60) - WALK;
        let wall = |minute: i64| {
            minute + i64::from(zone.to_offset(Timestamp::from_second(minute * 60).unwrap()).seconds()) / 60
        };
        let wall_first = wall(first);
        let mut real: Vec<Option<i64>> = Vec::new();
        for minute in first..first + 2 * WALK {
            let shown = usize::try_from(wall(minute) - wall_first);
            // Before the walk's first minute of the wall, or shown already: a second pass.
            let Ok(shown) = shown else { continue };
            // What is skipped comes later by what is skipped.
            let skipped = shown.saturating_sub(real.len());
            for n in 0..i64::try_from(skipped).unwrap() {
                real.push(Some(minute + n));
            }
            if shown == real.len() {
                real.push(Some(minute));
            }
        }
        Self { first, wall_first, real }
    }

    pub fn len(&self) -> usize {
        usize::try_from(2 * WALK).unwrap()
    }

    fn at(&self, wall: i64) -> Option<i64> {
        *self.real.get(usize::try_from(wall - self.wall_first).ok()?)?
    }

    /// Every minute: whether one of the windows covers it.
    pub fn covered(&self, windows: &[Drawn]) -> Vec<bool> {
        let mut covered = vec![false; self.len()];
        let mut cover = |start: i64, end: i64| {
            for minute in start.max(self.first)..end.min(self.first + 2 * WALK) {
                covered[usize::try_from(minute - self.first).unwrap()] = true;
            }
        };
        let days = self.wall_first.div_euclid(1_440)..=(self.wall_first + 2 * WALK).div_euclid(1_440);
        for window in windows {
            for day in days.clone().filter(|_| !matches!(window, Drawn::Span { .. })) {
                let date = civil::date(1970, 1, 1).checked_add(jiff::Span::new().days(day)).unwrap();
                let weekday = date.weekday().to_monday_zero_offset();
                match window {
                    Drawn::Calendar { weekdays, dates, months, from, to } => {
                        let on_date = dates.as_ref().is_none_or(|(dates, last)| {
                            dates.contains(&date.day()) || (*last && date.day() == date.days_in_month())
                        });
                        let in_month = months.as_ref().is_none_or(|months| months.contains(&date.month()));
                        if !weekdays.contains(&weekday) || !on_date || !in_month {
                            continue;
                        }
                        let length = if to > from { to - from } else { to + 1_440 - from };
                        let Some(start) = self.at(day * 1_440 + from) else { continue };
                        let end = self.at(day * 1_440 + from + length).unwrap_or(i64::MAX);
                        cover(start, if end > start { end } else { start + length });
                    }
                    Drawn::Cron { minutes, hours, weekdays, length } => {
                        if weekdays.as_ref().is_some_and(|weekdays| !weekdays.contains(&weekday)) {
                            continue;
                        }
                        for hour in hours {
                            for minute in minutes {
                                if let Some(start) = self.at(day * 1_440 + hour * 60 + minute) {
                                    cover(start, start + length);
                                }
                            }
                        }
                    }
                    Drawn::Span { .. } => {}
                }
            }
            if let Drawn::Span { from, until } = window {
                let start = if *from < self.wall_first { Some(self.first) } else { self.at(*from) };
                let end = if *until < self.wall_first { Some(self.first) } else { self.at(*until) };
                if let Some(start) = start {
                    cover(start, end.unwrap_or(i64::MAX));
                }
            }
        }
        covered
    }
}

/// Only what is open for the guard's length before and behind stays open.
pub fn guarded(open: &[bool], guard: i64) -> Vec<bool> {
    let guard = usize::try_from(guard).unwrap();
    (0..open.len())
        .map(|minute| (minute.saturating_sub(guard)..=(minute + guard).min(open.len() - 1)).all(|near| open[near]))
        .collect()
}
