//! On which days a window opens: days of the week, days of the month, months; or what a cron expression says of them.
//!
//! Days are counted from 1970-01-01.

use croner::CronPattern;
use jiff::{
    Timestamp,
    civil::{Date, Weekday},
    tz::Offset,
};

/// All months.
const ALL_MONTHS: u16 = 0b1_1111_1111_1110;

/// Days on which a window opens; what is not named does not matter.
#[derive(Debug, Clone)]
pub(super) struct Days {
    /// Bit 0 is Monday.
    pub weekdays: [bool; 7],
    /// Days of the month.
    pub dates: Option<Dates>,
    /// Bit 1 is January.
    pub months: u16,
    /// What cron says of the day.
    pub cron: Option<Box<CronPattern>>,
}

/// Days of the month.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dates {
    /// Bit 1 is the first.
    pub numbers: u32,
    /// The last, whatever its number.
    pub last: bool,
}

impl Default for Days {
    fn default() -> Self {
        Self { weekdays: [true; 7], dates: None, months: ALL_MONTHS, cron: None }
    }
}

impl Days {
    /// Days by a cron expression.
    pub fn of_cron(pattern: CronPattern) -> Self {
        let months = (1..=12_u16).filter(|month| pattern.month_match(u32::from(*month)).unwrap_or(false));
        let months = months.fold(0, |all, month| all | 1 << month);
        Self { months, cron: Some(Box::new(pattern)), ..Self::default() }
    }

    /// Whether it opens on this day.
    pub fn has(&self, day: i64) -> bool {
        let weekday = usize::try_from((day + 3).rem_euclid(7)).unwrap_or(0);
        if !self.weekdays[weekday] {
            return false;
        }
        if self.dates.is_none() && self.cron.is_none() && self.months == ALL_MONTHS {
            return true;
        }
        let date = date(day);
        self.has_month(date)
            && self.dates.is_none_or(|dates| dates.has(date))
            && self.cron.as_ref().is_none_or(|pattern| cron_has(pattern, date))
    }

    /// The next day after one on which it does not open, on which it could: the first of a month if this month is none of its own.
    pub fn skip(&self, day: i64) -> i64 {
        if self.months == ALL_MONTHS {
            return day + 1;
        }
        let date = date(day);
        if self.has_month(date) { day + 1 } else { day + i64::from(date.days_in_month() - date.day()) + 1 }
    }

    fn has_month(&self, date: Date) -> bool {
        self.months & 1 << date.month() != 0
    }
}

impl Dates {
    fn has(self, date: Date) -> bool {
        self.numbers & 1 << date.day() != 0 || (self.last && date.day() == date.days_in_month())
    }
}

fn date(day: i64) -> Date {
    let midnight = Timestamp::from_second(day * super::zone::DAY).unwrap_or(Timestamp::MAX);
    Offset::UTC.to_datetime(midnight).date()
}

fn cron_has(pattern: &CronPattern, date: Date) -> bool {
    let number = |number: i8| u32::try_from(number).unwrap_or(0);
    let weekday = match date.weekday() {
        Weekday::Sunday => croner::Weekday::Sunday,
        Weekday::Monday => croner::Weekday::Monday,
        Weekday::Tuesday => croner::Weekday::Tuesday,
        Weekday::Wednesday => croner::Weekday::Wednesday,
        Weekday::Thursday => croner::Weekday::Thursday,
        Weekday::Friday => croner::Weekday::Friday,
        Weekday::Saturday => croner::Weekday::Saturday,
    };
    pattern.day_match(i32::from(date.year()), number(date.month()), number(date.day()), weekday).unwrap_or(false)
}
