//! Whether a destination is served now, and if not, why not and when it is looked at again: the one decision that the Dispatcher
//! acts by and that `explain` shows.
//!
//! Its life: the Dispatcher gathers a [`Situation`] (what was agreed, what waits, how Tor stands, what it remembers of its couriers),
//! asks [`decide`], and opens a courier or notes the next look. Nothing is kept here: the same situation gives the same answer.
//!
//! - *Back-off belongs to the destination*, and a failure that came before the present opening (or signal) began holds nothing back:
//!   each opening gets one probe at once. What Tor itself asks for (budget, pauses) no opening resets.
//! - *Breaker*: after so many failures, and so long without a success, one probe an opening, and one in each [`PROBE_EVERY`] of a long
//!   one; where there is no next opening, one in each [`Breaker::since_success`](crate::agreement::Breaker).
//! - *Break-glass* goes through a closed window and does not wait for a drawn start; it never goes through a pause, the end of the
//!   agreement, a back-off, or Tor's budget.

use crate::{
    agreement::{Evaluation, ServiceAgreement, Why},
    outcome::DeliveryError,
    view::DestinationLoad,
};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// While a breaker is open, an opening that lasts longer than this sees a probe this often (or as seldom as `since_success` says):
/// else a service that came back would wait for an opening that may be months away.
pub const PROBE_EVERY: SignedDuration = SignedDuration::from_hours(6);

/// All that the decision depends on.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// What was agreed.
    pub agreement: &'a ServiceAgreement,
    /// What the agreement says at `now`.
    pub evaluation: &'a Evaluation,
    /// What waits, and what happened of late.
    pub load: &'a DestinationLoad,
    /// Whether Tor is ready.
    pub uplink_ready: bool,
    /// The wall clock.
    pub now: Timestamp,
    /// The moment that was drawn for the first start of the present opening; none where starts are not spread.
    pub drawn_start: Option<Timestamp>,
    /// What is remembered of the destination's couriers.
    pub couriers: CourierMemory,
}

/// What is remembered of a destination's couriers. Lengths of the monotonic clock, in milliseconds; 0 is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CourierMemory {
    /// Its couriers keep falling: for so long there is none.
    pub suspended_ms: u64,
    /// The last one ended or fell just now: for so long there is no other.
    pub rests_ms: u64,
}

/// How a courier goes about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The last attempt failed: one message on one lane; once that succeeds, as `Full`.
    Probe,
    /// From one lane up to as many as agreed.
    Full,
    /// The window is closed: break-glass messages alone.
    BreakGlass,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "decision", rename_all = "snake_case")]
pub enum Decision {
    /// A courier is opened now.
    Go {
        /// How it goes about it.
        mode: Mode,
    },
    /// None is, for all of these reasons.
    Wait {
        /// In the order in which they are told; never empty. All of them have to pass.
        chain: Vec<Reason>,
        /// When the answer changes by itself, at the earliest. None: it does not, until something happens (a message, a signal, an
        /// operator, Tor, another agreement, the clock).
        next_look: Option<Timestamp>,
    },
}

impl Decision {
    /// How it goes about it, where it goes.
    #[must_use]
    pub fn mode(&self) -> Option<Mode> {
        match self {
            Self::Go { mode } => Some(*mode),
            Self::Wait { .. } => None,
        }
    }

    /// What is in the way, in order; nothing where it goes.
    #[must_use]
    pub fn chain(&self) -> &[Reason] {
        match self {
            Self::Go { .. } => &[],
            Self::Wait { chain, .. } => chain,
        }
    }
}

/// One thing that is in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reason {
    /// What.
    pub hindrance: Hindrance,
    /// Until when, where that is known.
    pub until: Option<Timestamp>,
}

/// What can be in the way of a delivery, in the order in which it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Hindrance {
    /// An operator paused the destination.
    Paused,
    /// Nothing is queued.
    NothingQueued,
    /// The agreement does not hold yet.
    BeforeAgreement,
    /// The agreement holds no more.
    AfterAgreement,
    /// The window is closed.
    WindowClosed,
    /// A deny window covers this moment.
    Denied,
    /// The destination said "not now".
    NotNow,
    /// Nothing but a signal opens it.
    WaitsForSignal,
    /// Its windows depend on the time, and the clock is not believed.
    ClockUntrusted,
    /// The opening is about to end.
    CuttingOff,
    /// The start that was drawn for this opening is still to come.
    StartSpread,
    /// Tor is not ready.
    TorNotReady,
    /// The destination's fresh circuits of this hour are used up.
    TorBudget,
    /// Tor was not ready after all when it was last tried.
    TorPause,
    /// The last attempt failed.
    BackOff {
        /// Failures in a row.
        failures: u32,
        /// The last one.
        error: Option<DeliveryError>,
    },
    /// It failed too often, too long: one probe an opening.
    Breaker {
        /// Failures in a row.
        failures: u32,
        /// The last one.
        error: Option<DeliveryError>,
    },
    /// It refused ten messages in a row.
    EverythingRefused,
    /// Its couriers keep falling: a defect of the gateway.
    CourierSuspended,
    /// Its last courier ended just now.
    CourierRests,
}

impl Reason {
    /// A sentence for people, with the time in their zone.
    #[must_use]
    pub fn sentence(&self, zone: &TimeZone) -> String {
        match self.until {
            Some(until) => {
                let at = until.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S %Q").to_string();
                format!("{} until {at}", self.hindrance)
            }
            None => self.hindrance.to_string(),
        }
    }
}

impl fmt::Display for Hindrance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed = |f: &mut fmt::Formatter<'_>, failures: u32, error: Option<DeliveryError>| {
            let times = if failures == 1 { "failure" } else { "failures in a row" };
            write!(f, "after {failures} {times}")?;
            error.map_or(Ok(()), |error| write!(f, " ({error})"))
        };
        match self {
            Self::Paused => f.write_str("an operator paused this destination"),
            Self::NothingQueued => f.write_str("nothing is queued"),
            Self::BeforeAgreement => f.write_str("the agreement does not hold yet,"),
            Self::AfterAgreement => f.write_str("the agreement holds no more"),
            Self::WindowClosed => f.write_str("the window is closed"),
            Self::Denied => f.write_str("a deny window keeps it closed"),
            Self::NotNow => f.write_str("it said \"not now\","),
            Self::WaitsForSignal => f.write_str("it waits for a signal that it is ready"),
            Self::ClockUntrusted => f.write_str("the window depends on the time, and the clock is not trusted"),
            Self::CuttingOff => f.write_str("the window is about to close, and nothing starts"),
            Self::StartSpread => f.write_str("the window is open; its start, drawn at random, waits"),
            Self::TorNotReady => f.write_str("tor is not ready"),
            Self::TorBudget => f.write_str("the tor budget of this hour is used up"),
            Self::TorPause => f.write_str("tor was not ready when it was last tried; a pause"),
            Self::BackOff { failures, error } => {
                f.write_str("back-off ")?;
                failed(f, *failures, *error)
            }
            Self::Breaker { failures, error } => {
                f.write_str("the breaker is open ")?;
                failed(f, *failures, *error)?;
                f.write_str(", no probe")
            }
            Self::EverythingRefused => f.write_str("it refused everything that was sent; that is tried again, not"),
            Self::CourierSuspended => f.write_str("its couriers keep falling (a defect of the gateway); suspended"),
            Self::CourierRests => f.write_str("its last courier ended just now; a rest"),
        }
    }
}

/// How a destination's door stands: what a delivery may start through. Asked again before each start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// Open; the opening (or a signal after it) began so many milliseconds ago, where it has a beginning.
    Open {
        /// Milliseconds.
        since_ms: Option<u64>,
    },
    /// Closed, and a break-glass message waits that may go through.
    Glass,
    /// Closed.
    Shut,
}

/// Go, or wait and why.
#[must_use]
pub fn decide(situation: &Situation<'_>) -> Decision {
    let load = situation.load;
    let in_ms = |ms: u64| situation.now.saturating_add(length(ms)).ok();
    let mut chain = Vec::new();
    let mut add = |hindrance, until| chain.push(Reason { hindrance, until });
    if load.paused {
        add(Hindrance::Paused, None);
    }
    if load.queued == 0 {
        add(Hindrance::NothingQueued, None);
    }
    let Situation { agreement, evaluation, now, .. } = *situation;
    let door = door(agreement, evaluation, load, now);
    if door == Door::Shut && !load.paused {
        let (hindrance, until, _) = closed(agreement, evaluation);
        add(hindrance, until);
    }
    let spread = situation.drawn_start.filter(|start| now < *start && ready_signal_ms(agreement, load).is_none());
    let glass = load.break_glass > 0 && agreement.break_glass.is_some();
    if let (Some(start), Door::Open { .. }, false) = (spread, door, glass) {
        add(Hindrance::StartSpread, Some(start));
    }
    if !situation.uplink_ready {
        add(Hindrance::TorNotReady, None);
    }
    if load.snoozed_ms > 0 {
        let used_up = load.fresh_circuits_last_hour >= situation.agreement.fresh_circuits_per_hour;
        add(if used_up { Hindrance::TorBudget } else { Hindrance::TorPause }, in_ms(load.snoozed_ms));
    }
    let retry = retry(situation, door);
    if let Some(reason) = retry {
        add(reason.hindrance, reason.until);
        if load.everything_refused {
            add(Hindrance::EverythingRefused, reason.until);
        }
    }
    let CourierMemory { suspended_ms, rests_ms } = situation.couriers;
    if suspended_ms > 0 {
        add(Hindrance::CourierSuspended, in_ms(suspended_ms));
    } else if rests_ms > 0 {
        add(Hindrance::CourierRests, in_ms(rests_ms));
    }
    if !chain.is_empty() {
        // All of them have to pass; a fresh opening lets a failed destination be tried earlier.
        let last = chain.iter().map(|reason| reason.until).collect::<Option<Vec<_>>>();
        let opening = situation.evaluation.next_opening.filter(|_| retry.is_some());
        let next_look = last.and_then(|untils| untils.into_iter().max()).map(|at| opening.map_or(at, |o| o.min(at)));
        return Decision::Wait { chain, next_look };
    }
    let mode = match door {
        Door::Glass => Mode::BreakGlass,
        // The others wait for the start that was drawn.
        Door::Open { .. } if spread.is_some() => Mode::BreakGlass,
        Door::Open { .. } | Door::Shut if load.failures > 0 => Mode::Probe,
        Door::Open { .. } | Door::Shut => Mode::Full,
    };
    Decision::Go { mode }
}

/// How the door stands at this moment. `evaluation` is the agreement's at that moment.
#[must_use]
pub fn door(agreement: &ServiceAgreement, evaluation: &Evaluation, load: &DestinationLoad, now: Timestamp) -> Door {
    if load.paused {
        return Door::Shut;
    }
    if evaluation.may_start(now) {
        let opened_ms = evaluation.since.map(|since| millis(now.duration_since(since)));
        // Whichever began later: both let a destination that failed before be tried again.
        let since_ms = opened_ms.into_iter().chain(ready_signal_ms(agreement, load)).min();
        return Door::Open { since_ms };
    }
    let (_, _, glass) = closed(agreement, evaluation);
    if glass && load.break_glass > 0 && agreement.break_glass.is_some() { Door::Glass } else { Door::Shut }
}

/// What keeps the door closed, until when, and whether break-glass goes through that.
fn closed(agreement: &ServiceAgreement, evaluation: &Evaluation) -> (Hindrance, Option<Timestamp>, bool) {
    let opens = evaluation.next_opening.or(evaluation.until);
    match evaluation.why {
        Why::Paused => (Hindrance::Paused, None, false),
        Why::BeforeAgreement => {
            let holds = agreement.valid.from.and_then(|from| from.checked_add(agreement.windows.guard()).ok());
            (Hindrance::BeforeAgreement, holds, false)
        }
        Why::AfterAgreement => (Hindrance::AfterAgreement, None, false),
        // Whether the agreement holds is a matter of time, too.
        Why::ClockUntrusted => {
            let holds = agreement.valid.from.is_none() && agreement.valid.until.is_none();
            (Hindrance::ClockUntrusted, None, holds)
        }
        Why::Denied => (Hindrance::Denied, opens, true),
        Why::NotNow => (Hindrance::NotNow, opens, true),
        Why::WaitsForSignal => (Hindrance::WaitsForSignal, None, true),
        Why::OutsideWindows | Why::Guarded => (Hindrance::WindowClosed, opens, true),
        // Open, and yet nothing starts any more: the cutoff has passed.
        Why::NoWindows | Why::InsideWindow | Why::Signalled => (Hindrance::CuttingOff, opens, true),
    }
}

/// For how long a "ready" has held, if one holds.
fn ready_signal_ms(agreement: &ServiceAgreement, load: &DestinationLoad) -> Option<u64> {
    load.signal.filter(|signal| signal.ready && agreement.signal.accept).map(|signal| signal.since_ms)
}

/// What the failures of this opening keep it from.
fn retry(situation: &Situation<'_>, door: Door) -> Option<Reason> {
    let Situation { agreement, evaluation, load, now, .. } = *situation;
    let since_ms = match door {
        Door::Open { since_ms } => since_ms,
        Door::Glass => None,
        // The next opening begins anew.
        Door::Shut => return None,
    };
    let failed_ms = load.last_failure_ago_ms.filter(|_| load.failures > 0)?;
    if since_ms.is_some_and(|since_ms| failed_ms > since_ms) {
        return None;
    }
    let (failures, error) = (load.failures, load.last_error);
    let breaker = agreement.breaker;
    // One that never took anything is measured by how long something has waited for it.
    let without_ms = load.last_success_ago_ms.or(load.oldest_age_ms);
    let no_success = without_ms.is_some_and(|ago_ms| ago_ms >= millis(breaker.since_success));
    let due_ms = load.due_in_ms;
    if failures >= breaker.failures && no_success {
        // A wait for the next opening ends with it. Where none is known, or this one lasts long, there is a probe now and then.
        let opening = evaluation.next_opening.filter(|opening| door != Door::Glass && *opening > now);
        let every = opening.map_or(breaker.since_success, |_| breaker.since_success.max(PROBE_EVERY));
        let left_ms = millis(every).saturating_sub(failed_ms).max(due_ms);
        let probe = now.saturating_add(length(left_ms)).ok().filter(|_| left_ms > 0);
        let ends = evaluation.starts_until.into_iter().chain(evaluation.until).min();
        let until = match opening {
            Some(opening) if probe.is_some_and(|probe| ends.is_some_and(|end| end <= probe)) => Some(opening),
            _ => probe,
        };
        return until.map(|until| Reason { hindrance: Hindrance::Breaker { failures, error }, until: Some(until) });
    }
    let until = now.saturating_add(length(due_ms)).ok().filter(|_| due_ms > 0)?;
    Some(Reason { hindrance: Hindrance::BackOff { failures, error }, until: Some(until) })
}

fn length(ms: u64) -> SignedDuration {
    SignedDuration::from_millis(i64::try_from(ms).unwrap_or(i64::MAX))
}

fn millis(length: SignedDuration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(0)
}

#[cfg(test)]
mod tests;
