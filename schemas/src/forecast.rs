//! A forecast: when what waits for a destination will have gone, how many openings that takes, and which messages will miss
//! their end before.
//!
//! Pure arithmetic over the queue in its order, the openings of an agreement and the rate of late. It is a forecast, not a promise: it
//! takes the destination to be up in each opening and to take messages as fast as it did, and nothing new to come. The same arithmetic
//! under another agreement is a simulation of it.

use crate::{
    agreement::{Ages, Circumstances, LifetimeEnd, ServiceAgreement},
    custody::{CustodyTime, Odometer},
    entry::{EndedBy, Envelope},
    record::Throughput,
};
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Messages that a forecast looks at.
pub const LOOKED_AT_MAX: u64 = 100_000;
/// Messages that will miss their end and are named.
pub const NAMED_MAX: usize = 20;
/// Openings that a forecast walks through: far more than a lifetime should need.
const OPENINGS_MAX: usize = 10_000;
/// Least time of lanes at work for a rate to be known, in milliseconds.
const BUSY_MS_MIN: u64 = 500;

/// The rate of late.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rate {
    /// Messages a second, while lanes are at work.
    pub messages_per_s: f64,
    /// Body bytes a second, while lanes are at work.
    pub bytes_per_s: f64,
}

impl Rate {
    /// The rate that was observed, if enough was.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    pub fn observed(of_late: &Throughput) -> Option<Self> {
        let seconds = of_late.busy_ms as f64 / 1_000.0;
        (of_late.busy_ms >= BUSY_MS_MIN && of_late.messages > 0).then(|| Self {
            messages_per_s: of_late.messages as f64 / seconds,
            bytes_per_s: of_late.bytes as f64 / seconds,
        })
    }
}

/// What is foreseen.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Forecast {
    /// Queued messages that were looked at, in their order.
    pub messages: u64,
    /// Their bodies, in bytes.
    pub bytes: u64,
    /// Whether those are all; of a message that was asked about, only those up to it are looked at.
    pub complete: bool,
    /// The rate of late; absent while too little was delivered to know one.
    pub rate: Option<Rate>,
    /// Openings that are needed, the one under way included. Absent without a rate, or when no end is in sight.
    pub openings_needed: Option<u32>,
    /// When the last one will have gone.
    pub done_at: Option<Timestamp>,
    /// Messages whose life is over already under this agreement.
    pub over_now: u64,
    /// Messages that will end before the next opening begins (none while it is open).
    pub end_before_opening: u64,
    /// Messages that will end before their turn comes, those included.
    pub will_miss: u64,
    /// The first of them.
    pub missed: Vec<Missed>,
    /// The message that was asked about, if it is queued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<Turn>,
}

/// What is foreseen of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Turn {
    /// Messages that go before it.
    pub ahead: u64,
    /// Whether some of those were not looked at, and taken to be like those that were: then `ahead` and `at` are near, not exact.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub estimated: bool,
    /// When its turn comes: with a rate of late, else at the earliest. Absent when no opening is in sight.
    pub at: Option<Timestamp>,
    /// When its life ends, and by what, if nothing is delivered before. Absent where time alone does not end it.
    pub ends: Option<(Timestamp, EndedBy)>,
}

/// A message that will end before its turn comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Missed {
    /// Its place.
    pub seq: u64,
    /// When it ends; absent where it has ended already.
    pub ends_at: Option<Timestamp>,
    /// What ends it.
    pub ended_by: EndedBy,
}

/// Makes a forecast of messages that are handed to it in their order.
#[derive(Debug)]
pub struct Foreseer<'a> {
    agreement: &'a ServiceAgreement,
    now: Timestamp,
    time: CustodyTime,
    odometer: Odometer,
    cost: Option<Cost>,
    openings: Openings<'a>,
    work: Work,
    opens_at: Option<Timestamp>,
    about: Option<u64>,
    worked_ms: f64,
    estimated: bool,
    seen: Forecast,
}

/// Milliseconds of work of one message.
#[derive(Debug, Clone, Copy)]
struct Cost {
    per_message_ms: f64,
    per_byte_ms: f64,
}

impl Cost {
    /// Half of the work is laid to the number of messages, half to their bytes: for the mix of late it is what was observed.
    #[expect(clippy::cast_precision_loss, reason = "a forecast")]
    fn observed(of_late: &Throughput) -> Option<Self> {
        Rate::observed(of_late)?;
        let half_ms = of_late.busy_ms as f64 / 2.0;
        let (messages, bytes) = (of_late.messages as f64, of_late.bytes as f64);
        Some(if of_late.bytes == 0 {
            Self { per_message_ms: 2.0 * half_ms / messages, per_byte_ms: 0.0 }
        } else {
            Self { per_message_ms: half_ms / messages, per_byte_ms: half_ms / bytes }
        })
    }
}

/// An opening, as far as it lies ahead.
#[derive(Debug, Clone, Copy)]
struct Ahead {
    begins: Timestamp,
    /// Up to here something may start in it; none: no end in sight.
    starts_until: Option<Timestamp>,
    closes: Option<Timestamp>,
    /// Milliseconds of the openings before it.
    open_before_ms: u64,
}

/// The openings from a moment on, looked up as far as they are needed.
#[derive(Debug)]
struct Openings<'a> {
    agreement: &'a ServiceAgreement,
    known: Vec<Ahead>,
    /// Where to look on; none: there are no more.
    look_on: Option<Timestamp>,
}

impl<'a> Openings<'a> {
    fn from(agreement: &'a ServiceAgreement, now: Timestamp) -> Self {
        Self { agreement, known: Vec::new(), look_on: Some(now) }
    }

    fn get(&mut self, index: usize) -> Option<Ahead> {
        while self.known.len() <= index && self.known.len() < OPENINGS_MAX {
            self.look_on()?;
        }
        self.known.get(index).copied()
    }

    fn look_on(&mut self) -> Option<()> {
        let mut from = self.look_on.take()?;
        loop {
            let answer = self.agreement.evaluate(&Circumstances::at(from));
            if answer.open && answer.starts_until.is_none_or(|until| until > from) {
                let closes = answer.next_closing;
                let open_before_ms = self.known.last().map_or(0, |last| last.open_before_ms + last.length_ms());
                self.known.push(Ahead { begins: from, starts_until: answer.starts_until, closes, open_before_ms });
                self.look_on = closes;
                return Some(());
            }
            from = answer.next_opening.filter(|opening| *opening > from)?;
        }
    }
}

impl Ahead {
    fn length_ms(&self) -> u64 {
        let length = self.closes.map(|closes| closes.duration_since(self.begins).as_millis());
        length.map_or(u64::MAX / 2, |ms| u64::try_from(ms).unwrap_or(0))
    }
}

/// How far the time of the openings is spent, message after message.
#[derive(Debug, Default)]
struct Work {
    /// Which opening.
    index: usize,
    /// How much of it is spent.
    spent_ms: f64,
}

impl Work {
    /// When the next message's turn is; none when the openings don't suffice.
    fn turn(&mut self, openings: &mut Openings<'_>) -> Option<Timestamp> {
        loop {
            let opening = openings.get(self.index)?;
            let at = opening.begins.saturating_add(duration_of(self.spent_ms)).ok()?;
            if opening.starts_until.is_some_and(|until| at >= until) {
                (self.index, self.spent_ms) = (self.index + 1, 0.0);
                continue;
            }
            return Some(at);
        }
    }
}

impl Work {
    /// So much work, opening after opening.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    fn spend(&mut self, openings: &mut Openings<'_>, mut work_ms: f64) {
        while let Some(opening) = openings.get(self.index) {
            let room_ms = opening.starts_until.map_or(f64::INFINITY, |until| {
                (until.duration_since(opening.begins).as_millis() as f64 - self.spent_ms).max(0.0)
            });
            if work_ms < room_ms {
                self.spent_ms += work_ms;
                return;
            }
            work_ms -= room_ms;
            (self.index, self.spent_ms) = (self.index + 1, 0.0);
        }
    }
}

fn duration_of(ms: f64) -> SignedDuration {
    SignedDuration::try_from_secs_f64(ms / 1_000.0).unwrap_or(SignedDuration::MAX)
}

impl<'a> Foreseer<'a> {
    /// A forecast under this agreement, from this moment on. `time` and `odometer` are the destination's present ones.
    #[must_use]
    pub fn new(
        agreement: &'a ServiceAgreement,
        now: Timestamp,
        time: CustodyTime,
        odometer: Odometer,
        of_late: &Throughput,
    ) -> Self {
        let answer = agreement.evaluate(&Circumstances::at(now));
        Self {
            agreement,
            now,
            time,
            odometer,
            cost: Cost::observed(of_late),
            openings: Openings::from(agreement, now),
            work: Work::default(),
            about: None,
            worked_ms: 0.0,
            estimated: false,
            opens_at: if answer.open { None } else { answer.next_opening },
            seen: Forecast { rate: Rate::observed(of_late), complete: true, ..Forecast::default() },
        }
    }

    /// Asks about the message at this place: nothing behind it is looked at.
    #[must_use]
    pub fn about(mut self, seq: u64) -> Self {
        self.about = Some(seq);
        self
    }

    /// The next message of the queue. False when enough was looked at.
    pub fn add(&mut self, seq: u64, envelope: &Envelope) -> bool {
        if self.seen.messages >= LOOKED_AT_MAX {
            self.seen.complete = false;
            return false;
        }
        self.look_at(seq, envelope);
        if self.about == Some(seq) {
            self.seen.complete = false;
            return false;
        }
        true
    }

    fn look_at(&mut self, seq: u64, envelope: &Envelope) {
        self.seen.messages += 1;
        self.seen.bytes += u64::from(envelope.body_bytes);
        let asked = self.about == Some(seq);
        if let Some(ended_by) = envelope.ended_by(&self.time, &self.odometer, &self.agreement.lifetime) {
            self.seen.over_now += 1;
            if asked {
                self.seen.turn = Some(self.turn(None, Some((self.now, ended_by))));
            }
            self.miss(Missed { seq, ends_at: None, ended_by });
            return;
        }
        let end = self.end_of(envelope);
        if let (Some(opens), Some((ends, _))) = (self.opens_at, end)
            && ends <= opens
        {
            self.seen.end_before_opening += 1;
        }
        let turn = self.work.turn(&mut self.openings);
        if asked {
            self.seen.turn = Some(self.turn(turn, end));
        }
        match end {
            Some((ends, ended_by)) if turn.is_none_or(|turn| ends <= turn) => {
                self.miss(Missed { seq, ends_at: Some(ends), ended_by });
            }
            // Without a rate each has its turn at the earliest.
            _ => {
                let cost = |cost: Cost| cost.per_byte_ms.mul_add(f64::from(envelope.body_bytes), cost.per_message_ms);
                let cost_ms = self.cost.map_or(0.0, cost);
                self.work.spent_ms += cost_ms;
                self.worked_ms += cost_ms;
            }
        }
    }

    /// That of the message that was looked at last.
    fn turn(&self, at: Option<Timestamp>, ends: Option<(Timestamp, EndedBy)>) -> Turn {
        Turn { ahead: self.seen.messages - 1, estimated: self.estimated, at, ends }
    }

    /// The next messages of the queue, this many, without a look at them: taken to be like those that were looked at. Only for a
    /// forecast about a message behind them; it says then that it is an estimate. Does nothing when none was looked at.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an estimate"
    )]
    pub fn pass_over(&mut self, count: u64) {
        if count == 0 || self.seen.messages == 0 {
            return;
        }
        let share = count as f64 / self.seen.messages as f64;
        let work_ms = self.worked_ms * share;
        self.seen.bytes += (self.seen.bytes as f64 * share) as u64;
        self.seen.messages += count;
        self.estimated = true;
        self.worked_ms += work_ms;
        self.work.spend(&mut self.openings, work_ms);
    }

    fn miss(&mut self, missed: Missed) {
        self.seen.will_miss += 1;
        if self.seen.missed.len() < NAMED_MAX {
            self.seen.missed.push(missed);
        }
    }

    /// When its life ends, and by what, if nothing is delivered before.
    fn end_of(&mut self, envelope: &Envelope) -> Option<(Timestamp, EndedBy)> {
        let now = self.now;
        let after = |left_ms: u64| {
            let left = SignedDuration::from_millis(i64::try_from(left_ms).unwrap_or(i64::MAX));
            now.saturating_add(left).ok()
        };
        let age_ms = self.time.age_ms(envelope.accepted_custody_ms);
        let own = envelope
            .expires_custody_ms
            .map(|end| end.saturating_sub(envelope.accepted_custody_ms).saturating_sub(age_ms))
            .and_then(after)
            .map(|ends| (ends, EndedBy::OwnExpiry));
        let agreed = match self.agreement.lifetime.end {
            LifetimeEnd::MaxAge(age) => {
                let age_max_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
                let ends = match self.agreement.lifetime.ages {
                    Ages::Always => after(age_max_ms.saturating_sub(age_ms)),
                    Ages::WhileOpen => {
                        let lived_ms = self.odometer.open_ms.saturating_sub(envelope.odometer.open_ms);
                        self.open_for(age_max_ms.saturating_sub(lived_ms))
                    }
                };
                ends.map(|ends| (ends, EndedBy::MaxAge))
            }
            LifetimeEnd::MissedWindows(most) => {
                let missed = self.odometer.closings.saturating_sub(envelope.odometer.closings);
                let left = u64::from(most).saturating_sub(missed);
                self.closing_after(left).map(|ends| (ends, EndedBy::MissedWindows))
            }
            // It takes the destination to be up.
            LifetimeEnd::Attempts(_) => None,
        };
        own.into_iter().chain(agreed).min_by_key(|(ends, _)| *ends)
    }

    /// When the destination will have been open for so long.
    fn open_for(&mut self, left_ms: u64) -> Option<Timestamp> {
        let mut index = self.openings.known.partition_point(|ahead| ahead.open_before_ms + ahead.length_ms() < left_ms);
        loop {
            let ahead = self.openings.get(index)?;
            if ahead.open_before_ms + ahead.length_ms() >= left_ms {
                let into_it = i64::try_from(left_ms.saturating_sub(ahead.open_before_ms)).unwrap_or(i64::MAX);
                return ahead.begins.saturating_add(SignedDuration::from_millis(into_it)).ok();
            }
            index += 1;
        }
    }

    /// The end of so many openings from now on.
    fn closing_after(&mut self, openings: u64) -> Option<Timestamp> {
        let index = usize::try_from(openings.max(1) - 1).unwrap_or(usize::MAX);
        self.openings.get(index)?.closes
    }

    /// The forecast of all that was handed in.
    #[must_use]
    pub fn finish(mut self) -> Forecast {
        if self.cost.is_some() && self.seen.complete {
            let last = self.openings.get(self.work.index);
            self.seen.done_at = last.and_then(|last| last.begins.saturating_add(duration_of(self.work.spent_ms)).ok());
            let needed = if self.seen.messages == 0 { 0 } else { self.work.index + 1 };
            self.seen.openings_needed = self.seen.done_at.and_then(|_| u32::try_from(needed).ok());
        }
        self.seen
    }
}

#[cfg(test)]
mod tests;
