//! Cron expressions: which days and which times of the day they name. The time zone then says which moments those are, by the one rule
//! of all windows.
//!
//! croner reads the expression and says which days it means. Its own search is not used: its rule for daylight-saving changes
//! depends on how many hours and minutes an expression names, opens twice in a fold and skips what lies in a gap.

use super::days::Days;
use crate::config::Problem;
use croner::parser::{CronParser, Seconds};

/// The fields: what each is called, what it may hold, and an example.
const FIELDS: [(&str, &str, &str); 5] = [
    ("minute", "0-59", "*/15"),
    ("hour", "0-23", "8,20"),
    ("day of month", "1-31, or L for the last", "1,15"),
    ("month", "1-12 or JAN-DEC", "4-9"),
    ("day of week", "0-7 (0 and 7 are Sunday) or MON-SUN", "MON-FRI"),
];

/// What is wrong with an expression.
#[derive(Debug)]
pub(super) struct Flaw {
    message: String,
    hint: String,
}

impl Flaw {
    pub fn at(self, path: String) -> Problem {
        Problem::new(path, self.message, self.hint)
    }
}

/// The days, and the seconds of the day at which it opens.
pub(super) fn parse(text: &str) -> Result<(Days, Box<[i64]>), Flaw> {
    let read = |text: &str| CronParser::builder().seconds(Seconds::Disallowed).build().parse(text);
    let cron = read(text).map_err(|_| {
        let fields: Vec<&str> = text.split_whitespace().collect();
        if fields.len() != FIELDS.len() {
            return Flaw {
                message: format!("a cron expression has five fields, and this has {}", fields.len()),
                hint: "minute, hour, day of month, month, day of week: \"0 */6 * * *\" is every six hours".to_owned(),
            };
        }
        // Each field by itself says which of them it is.
        let wrong = (0..FIELDS.len()).find(|index| {
            let mut alone = ["*"; FIELDS.len()];
            alone[*index] = fields[*index];
            read(&alone.join(" ")).is_err()
        });
        match wrong.map(|index| (FIELDS[index], fields[index])) {
            Some(((name, allowed, example), found)) => Flaw {
                message: format!("not a cron expression: the {name} can't be {found:?}"),
                hint: format!("the {name} is {allowed}, such as {example:?}; * is every one"),
            },
            None => Flaw {
                message: "not a cron expression: its fields don't go together".to_owned(),
                hint: "\"0 */6 * * *\" is every six hours".to_owned(),
            },
        }
    })?;
    let pattern = cron.pattern;
    let hours = (0..24_u32).filter(|hour| pattern.hour_match(*hour).unwrap_or(false));
    let starts = hours.flat_map(|hour| {
        let minutes = (0..60_u32).filter(|minute| pattern.minute_match(*minute).unwrap_or(false));
        minutes.map(move |minute| i64::from(hour * 60 + minute) * 60).collect::<Vec<_>>()
    });
    let starts = starts.collect();
    Ok((Days::of_cron(pattern), starts))
}
