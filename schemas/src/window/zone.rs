//! What a clock on the wall of a time zone shows, and when: in whole seconds, as stretches of time in which its offset holds.
//!
//! One rule says which moment a time on the wall is: one that a change of the clock skips (a gap) moves forward by the change, one
//! that exists twice (a fold) is the first of the two. So each stretch owns a range of times on the wall, from which its moments
//! follow by one subtraction; within a stretch their order is the same.

use jiff::{Timestamp, tz::TimeZone};
use std::cell::Cell;

/// Before all moments, in seconds.
const LONG_AGO: i64 = -(1 << 41);
/// After all moments, in seconds.
pub(super) const FAR: i64 = 1 << 41;
/// Seconds of a day.
pub(super) const DAY: i64 = 86_400;

/// A time in which the offset of a zone holds. All in seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stretch {
    /// Its first moment.
    pub from: i64,
    /// The first moment after it.
    pub until: i64,
    /// The offset before it.
    pub before: i64,
    /// The offset.
    pub offset: i64,
    /// The offset after it.
    pub after: i64,
}

impl Stretch {
    /// The times on the wall whose moments follow from this offset: the first, and the first after them. What a gap behind it skips
    /// belongs to it, and the second pass of a fold before it does not.
    pub fn own(&self) -> (i64, i64) {
        (self.from + self.offset.max(self.before), self.until + self.offset.max(self.after))
    }

    /// Up to here there may be moments of the stretch before, moved by the gap between the two.
    pub fn settled(&self) -> i64 {
        self.from + (self.offset - self.before).max(0)
    }
}

/// A time zone, with the stretch that was asked for last.
pub(super) struct Zone<'z> {
    zone: &'z TimeZone,
    last: Cell<Stretch>,
}

impl<'z> Zone<'z> {
    pub fn new(zone: &'z TimeZone) -> Self {
        let nothing = Stretch { from: 0, until: 0, before: 0, offset: 0, after: 0 };
        Self { zone, last: Cell::new(nothing) }
    }

    /// The stretch of a moment.
    pub fn at(&self, second: i64) -> Stretch {
        let last = self.last.get();
        if last.from <= second && second < last.until {
            return last;
        }
        let second = second.clamp(Timestamp::MIN.as_second() + DAY, Timestamp::MAX.as_second() - DAY);
        let moment = |second: i64| Timestamp::from_second(second).unwrap_or(Timestamp::MAX);
        let offset_at = |second: i64| i64::from(self.zone.to_offset(moment(second)).seconds());
        let offset = offset_at(second);
        // The change at this moment itself is the beginning of its stretch.
        let from = self.zone.preceding(moment(second + 1)).next().map(|change| change.timestamp().as_second());
        let next = self.zone.following(moment(second)).next();
        let stretch = Stretch {
            from: from.unwrap_or(LONG_AGO),
            until: next.as_ref().map_or(FAR, |change| change.timestamp().as_second()),
            before: from.map_or(offset, |from| offset_at(from - 1)),
            offset,
            after: next.as_ref().map_or(offset, |change| i64::from(change.offset().seconds())),
        };
        self.last.set(stretch);
        stretch
    }

    /// The moment at which the wall shows this; `near` is a moment not far from it.
    pub fn moment(&self, wall: i64, near: i64) -> i64 {
        let mut stretch = self.at(near);
        loop {
            let (first, after) = stretch.own();
            if wall < first {
                stretch = self.at(stretch.from - 1);
            } else if wall >= after {
                stretch = self.at(stretch.until);
            } else {
                return wall - stretch.offset;
            }
        }
    }
}
