//! One window as it is evaluated: days, the times of a day at which it opens, and for how long; or one span of time.
//!
//! Seconds are counted from 1970, of real time or of the wall (as if the wall's clock were UTC's).

use super::{
    days::Days,
    zone::{DAY, FAR, Zone},
};

/// One window.
#[derive(Debug, Clone)]
pub(super) enum Window {
    /// It comes again and again.
    Recurring(Recurring),
    /// It comes once.
    Once(Interval),
}

/// Start included, end not; in seconds of real time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Interval {
    pub start: i64,
    pub end: i64,
}

/// A window that comes again and again.
#[derive(Debug, Clone)]
pub(super) struct Recurring {
    /// The days on which it opens.
    pub days: Days,
    /// When, in seconds of the wall's day, rising.
    pub starts: Box<[i64]>,
    pub length: Length,
}

/// How long an opening lasts, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    /// Until the wall shows that much more; at most a day.
    Wall(i64),
    /// Real time.
    Real(i64),
}

impl Window {
    /// The last interval that begins at `until` or before it, if it can reach beyond `reach`.
    pub fn last(&self, zone: &Zone<'_>, until: i64, reach: i64) -> Option<Interval> {
        match self {
            Self::Once(interval) => (interval.start <= until).then_some(*interval),
            Self::Recurring(rule) => rule.last(zone, until, reach - rule.longest()),
        }
        .filter(|interval| interval.end >= reach)
    }

    /// The first interval that begins after `after`, and at `limit` at the latest.
    pub fn first(&self, zone: &Zone<'_>, after: i64, limit: i64) -> Option<Interval> {
        match self {
            Self::Once(interval) => (after < interval.start && interval.start <= limit).then_some(*interval),
            Self::Recurring(rule) => rule.first(zone, after, limit),
        }
    }

    /// The end of its interval that covers this moment.
    pub fn covering(&self, zone: &Zone<'_>, at: i64) -> Option<i64> {
        self.last(zone, at, at + 1).map(|interval| interval.end)
    }

    /// The start of its first interval that begins before this moment and reaches it.
    pub fn reaching(&self, zone: &Zone<'_>, at: i64) -> Option<i64> {
        let interval = match self {
            Self::Recurring(Recurring { length: Length::Real(length), .. }) => {
                self.first(zone, at - length - 1, at - 1)
            }
            _ => self.last(zone, at - 1, at),
        };
        interval.map(|interval| interval.start)
    }
}

impl Recurring {
    /// No interval is longer, whatever the wall's clock does.
    fn longest(&self) -> i64 {
        match self.length {
            Length::Wall(length) => length + DAY,
            Length::Real(length) => length,
        }
    }

    fn interval(&self, zone: &Zone<'_>, wall: i64, start: i64) -> Interval {
        let end = match self.length {
            Length::Real(length) => start + length,
            Length::Wall(length) => {
                let end = zone.moment(wall + length, start);
                // A gap can swallow the whole window: then it keeps its length, from the moment at which it could open.
                if end > start { end } else { start + length }
            }
        };
        Interval { start, end }
    }

    /// The last interval that begins from `earliest` to `until`.
    fn last(&self, zone: &Zone<'_>, until: i64, earliest: i64) -> Option<Interval> {
        let mut best: Option<(i64, i64)> = None;
        let mut stretch = zone.at(until);
        loop {
            let (first, after) = stretch.own();
            let latest = (until + stretch.offset).min(after - 1);
            if let Some(wall) = self.wall_last(latest, first.max(earliest + stretch.offset)) {
                let start = wall - stretch.offset;
                if best.is_none_or(|(_, best)| start > best) {
                    best = Some((wall, start));
                }
            }
            let settled = stretch.settled();
            if settled <= earliest || best.is_some_and(|(_, best)| best >= settled) {
                break;
            }
            stretch = zone.at(stretch.from - 1);
        }
        best.map(|(wall, start)| self.interval(zone, wall, start))
    }

    /// The first interval that begins after `after`, and at `limit` at the latest.
    fn first(&self, zone: &Zone<'_>, after: i64, limit: i64) -> Option<Interval> {
        let mut best: Option<(i64, i64)> = None;
        let mut stretch = zone.at(after);
        if after < stretch.settled() {
            stretch = zone.at(stretch.from - 1);
        }
        loop {
            let (first, beyond) = stretch.own();
            let earliest = first.max(after + 1 + stretch.offset);
            if let Some(wall) = self.wall_first(earliest, (beyond - 1).min(limit + stretch.offset)) {
                let start = wall - stretch.offset;
                if best.is_none_or(|(_, best)| start < best) {
                    best = Some((wall, start));
                }
            }
            // One that a gap moved may lie behind the first of the next stretch.
            if stretch.until > limit || stretch.until >= FAR || best.is_some_and(|(_, best)| best < stretch.until) {
                break;
            }
            stretch = zone.at(stretch.until);
        }
        best.map(|(wall, start)| self.interval(zone, wall, start))
    }

    /// The last start from `earliest` to `latest` by the wall's clock.
    fn wall_last(&self, latest: i64, earliest: i64) -> Option<i64> {
        if latest < earliest {
            return None;
        }
        let (mut day, first_day) = (latest.div_euclid(DAY), earliest.div_euclid(DAY));
        let mut second = latest.rem_euclid(DAY);
        while day >= first_day {
            if self.days.has(day) {
                let before = self.starts.partition_point(|start| *start <= second);
                if let Some(start) = before.checked_sub(1).and_then(|index| self.starts.get(index)) {
                    let found = day * DAY + start;
                    return (found >= earliest).then_some(found);
                }
            }
            (day, second) = (day - 1, DAY);
        }
        None
    }

    /// The first start from `earliest` to `latest` by the wall's clock.
    fn wall_first(&self, earliest: i64, latest: i64) -> Option<i64> {
        if latest < earliest {
            return None;
        }
        let (mut day, last_day) = (earliest.div_euclid(DAY), latest.div_euclid(DAY));
        let mut second = earliest.rem_euclid(DAY);
        while day <= last_day {
            if self.days.has(day) {
                let before = self.starts.partition_point(|start| *start < second);
                if let Some(start) = self.starts.get(before) {
                    let found = day * DAY + start;
                    return (found <= latest).then_some(found);
                }
                day += 1;
            } else {
                day = self.days.skip(day);
            }
            second = 0;
        }
        None
    }
}
