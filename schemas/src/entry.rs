//! The states of an entry, and the only function by which they change.
//!
//! ```text
//!                    +--Hold---> Held ---Release--+
//!                    |                            |
//!   Enqueue --> Queued <--------------------------+
//!                | |  ^---Retry, Unpark-- Parked <--Park-- (the service refuses this message)
//!                | |  ^---Retry---------- Dead   <--Refuse-- (the service says: gone for good)
//!                | +--Deliver--> Delivered
//!                +----Expire---> Expired      (Purge: Purged, Displace: Dropped)
//! ```
//! "In flight" is no state: it lives in the courier's memory alone, and a crash means that the attempt is made again with the
//! same message id (CU-3). Two more end states never were entries: *quarantined* and *refused* (see [`Account`]).

use crate::{
    agreement::{Ages, Lifetime, LifetimeEnd},
    custody::{CustodyTime, Odometer},
    id::{DeviceId, MessageId},
    submission::{Origin, Payload, Priority, ReplyTo},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where an entry stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EntryState {
    /// Waits for its turn.
    Queued,
    /// Stopped by an operator (or by a defect of ours); no attempts.
    Held,
    /// The service refuses this very message; needs a person, is not dead.
    Parked,
    /// The service said that it will never take it; kept with its body until retried or purged.
    Dead,
    /// The service took it. End.
    Delivered,
    /// Its life ended before it could be delivered. End.
    Expired,
    /// An operator removed it. End.
    Purged,
    /// Made room for a newer one, where the agreement says so. End.
    Dropped,
    /// A limit of the agreement kept it out: it never was an entry, and is told of. End.
    Refused,
}

/// What can happen to an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The service took it.
    Deliver,
    /// The service refuses this message.
    Park,
    /// The refusals were the destination's fault after all.
    Unpark,
    /// The service says that it is gone for good.
    Refuse,
    /// An operator stops it, or a defect of ours does.
    Hold,
    /// An operator lets it go on.
    Release,
    /// An operator wants it tried again.
    Retry,
    /// Its life is over.
    Expire,
    /// An operator removes it.
    Purge,
    /// A newer one needs its room.
    Displace,
}

/// An event that this state doesn't know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an entry that is {state:?} can't {event:?}")]
pub struct IllegalTransition {
    /// Where the entry stands.
    pub state: EntryState,
    /// What was asked of it.
    pub event: Event,
}

impl EntryState {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Queued,
        Self::Held,
        Self::Parked,
        Self::Dead,
        Self::Delivered,
        Self::Expired,
        Self::Purged,
        Self::Dropped,
        Self::Refused,
    ];

    /// The next state.
    ///
    /// # Errors
    /// Names the state and the event if they don't go together.
    pub fn on(self, event: Event) -> Result<Self, IllegalTransition> {
        use EntryState as S;
        use Event as E;
        match (self, event) {
            // An attempt that was under way when an operator held the entry may still succeed.
            (S::Queued | S::Held, E::Deliver) => Ok(S::Delivered),
            (S::Queued, E::Park) => Ok(S::Parked),
            (S::Queued, E::Refuse) => Ok(S::Dead),
            (S::Queued, E::Displace) => Ok(S::Dropped),
            (S::Queued | S::Parked, E::Hold) => Ok(S::Held),
            (S::Held, E::Release) => Ok(S::Queued),
            (S::Parked, E::Unpark) => Ok(S::Queued),
            (S::Parked | S::Dead, E::Retry) => Ok(S::Queued),
            (S::Queued | S::Held | S::Parked, E::Expire) => Ok(S::Expired),
            (S::Queued | S::Held | S::Parked | S::Dead, E::Purge) => Ok(S::Purged),
            _ => Err(IllegalTransition { state: self, event }),
        }
    }

    /// Whether nothing can follow and the body is gone.
    #[must_use]
    pub fn is_end(self) -> bool {
        matches!(self, Self::Delivered | Self::Expired | Self::Purged | Self::Dropped | Self::Refused)
    }
}

/// What the gateway knows about a message, apart from its body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The id on the wire.
    pub id: MessageId,
    /// Who sent it.
    pub device: DeviceId,
    /// What is measured.
    pub label: Option<String>,
    /// Content type of the body.
    pub content_type: String,
    /// How it came in.
    pub origin: Origin,
    /// Wall clock at custody, in milliseconds since 1970; for display.
    pub accepted_ms: i64,
    /// Whether the wall clock was trusted then.
    pub clock_trusted: bool,
    /// Custody clock at custody, in milliseconds: what its age is counted from (see `actors::custody_clock`).
    pub accepted_custody_ms: u64,
    /// Custody clock at which its own lifetime ends, where the device set one.
    pub expires_custody_ms: Option<u64>,
    /// Length of the body in bytes.
    pub body_bytes: u32,
    /// What goes first. Break-glass only where its agreement let it in as such.
    pub priority: Priority,
    /// Where its device wants to hear of it.
    pub reply_to: Option<ReplyTo>,
    /// The destination's odometer at custody.
    pub odometer: Odometer,
}

/// What ended a message's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EndedBy {
    /// The lifetime that its device gave it.
    #[error("the lifetime that its device gave it is over")]
    OwnExpiry,
    /// The agreement's age.
    #[error("it is as old as the agreement lets messages become")]
    MaxAge,
    /// The agreement's number of attempts.
    #[error("as many attempts failed as the agreement lets")]
    Attempts,
    /// The agreement's number of openings.
    #[error("it missed as many openings as the agreement lets")]
    MissedWindows,
}

impl Envelope {
    /// Whether it has lived as long as its device let it.
    #[must_use]
    pub fn is_expired(&self, time: &CustodyTime) -> bool {
        let own_ms = self.expires_custody_ms.map(|end| end.saturating_sub(self.accepted_custody_ms));
        own_ms.is_some_and(|own_ms| time.age_ms(self.accepted_custody_ms) >= own_ms)
    }

    /// Custody clock at which its own lifetime or this age ends it, at the earliest.
    #[must_use]
    pub fn may_end_at(&self, time: &CustodyTime, max_age_ms: u64) -> u64 {
        let own_ms = self.expires_custody_ms.map_or(u64::MAX, |end| end.saturating_sub(self.accepted_custody_ms));
        let left_ms = max_age_ms.min(own_ms).saturating_sub(time.age_ms(self.accepted_custody_ms));
        time.now_ms.saturating_add(left_ms)
    }

    /// What has ended its life, if it is over; `odometer` is its destination's now.
    #[must_use]
    pub fn ended_by(&self, time: &CustodyTime, odometer: &Odometer, lifetime: &Lifetime) -> Option<EndedBy> {
        if self.is_expired(time) {
            return Some(EndedBy::OwnExpiry);
        }
        match lifetime.end {
            LifetimeEnd::MaxAge(age) => {
                let lived_ms = match lifetime.ages {
                    Ages::Always => time.age_ms(self.accepted_custody_ms),
                    Ages::WhileOpen => odometer.open_ms.saturating_sub(self.odometer.open_ms),
                };
                (lived_ms >= u64::try_from(age.as_millis()).unwrap_or(u64::MAX)).then_some(EndedBy::MaxAge)
            }
            LifetimeEnd::Attempts(most) => {
                let failed = odometer.attempts.saturating_sub(self.odometer.attempts);
                (failed >= u64::from(most)).then_some(EndedBy::Attempts)
            }
            LifetimeEnd::MissedWindows(most) => {
                let missed = odometer.closings.saturating_sub(self.odometer.closings);
                (missed >= u64::from(most)).then_some(EndedBy::MissedWindows)
            }
        }
    }
}

/// An entry with its body, as a courier gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the destination's order.
    pub seq: u64,
    /// Where it stands.
    pub state: EntryState,
    /// Times that the service refused it.
    pub refusals: u32,
    /// What is known about it.
    pub envelope: Envelope,
    /// The body.
    pub body: Payload,
}

/// The accounting identity of CU-2: everything that was accepted is in exactly one of these.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Account {
    /// Acknowledged to a broker or an HTTP client, ever.
    pub accepted: u64,
    /// Waiting now.
    pub queued: u64,
    /// Held now.
    pub held: u64,
    /// Parked now.
    pub parked: u64,
    /// Dead letters now.
    pub dead: u64,
    /// Delivered, ever.
    pub delivered: u64,
    /// Expired, ever.
    pub expired: u64,
    /// Purged, ever.
    pub purged: u64,
    /// Quarantined, ever.
    pub quarantined: u64,
    /// Refused because a destination was full, ever.
    pub refused: u64,
    /// Dropped for newer ones, ever.
    pub dropped: u64,
}

impl Account {
    /// The slot of a state.
    pub fn slot(&mut self, state: EntryState) -> &mut u64 {
        match state {
            EntryState::Queued => &mut self.queued,
            EntryState::Held => &mut self.held,
            EntryState::Parked => &mut self.parked,
            EntryState::Dead => &mut self.dead,
            EntryState::Delivered => &mut self.delivered,
            EntryState::Expired => &mut self.expired,
            EntryState::Purged => &mut self.purged,
            EntryState::Dropped => &mut self.dropped,
            EntryState::Refused => &mut self.refused,
        }
    }

    /// Accepted minus the sum of all states; anything but 0 is a defect (CU-2).
    #[must_use]
    pub fn gap(&self) -> i128 {
        let sum = [
            self.queued,
            self.held,
            self.parked,
            self.dead,
            self.delivered,
            self.expired,
            self.purged,
            self.quarantined,
            self.refused,
            self.dropped,
        ]
        .iter()
        .map(|n| i128::from(*n))
        .sum::<i128>();
        i128::from(self.accepted) - sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: [Event; 10] = [
        Event::Deliver,
        Event::Park,
        Event::Unpark,
        Event::Refuse,
        Event::Hold,
        Event::Release,
        Event::Retry,
        Event::Expire,
        Event::Purge,
        Event::Displace,
    ];

    #[test]
    fn an_end_state_knows_no_event() {
        for state in EntryState::ALL.into_iter().filter(|s| s.is_end()) {
            for event in EVENTS {
                assert_eq!(state.on(event), Err(IllegalTransition { state, event }));
            }
        }
    }

    #[test]
    fn whatever_is_alive_can_be_purged_and_comes_back_to_the_queue_by_one_verb() {
        for state in EntryState::ALL.into_iter().filter(|s| !s.is_end()) {
            assert_eq!(state.on(Event::Purge), Ok(EntryState::Purged));
            if state != EntryState::Queued {
                let back = [Event::Release, Event::Retry].iter().filter(|e| state.on(**e) == Ok(EntryState::Queued));
                assert_eq!(back.count(), 1, "{state:?}");
            }
        }
    }

    #[test]
    fn only_the_queue_and_an_attempt_under_way_lead_to_delivered() {
        let from: Vec<_> = EntryState::ALL.into_iter().filter(|s| s.on(Event::Deliver).is_ok()).collect();
        assert_eq!(from, [EntryState::Queued, EntryState::Held]);
    }

    #[test]
    fn a_gap_in_the_account_is_seen() {
        let mut account = Account { accepted: 3, queued: 1, delivered: 1, quarantined: 1, ..Account::default() };
        assert_eq!(account.gap(), 0);
        *account.slot(EntryState::Queued) -= 1;
        assert_eq!(account.gap(), 1);
    }
}
