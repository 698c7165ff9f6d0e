//! What is shown of the Dispatcher: kept up to date where things happen, put together only when somebody asks.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Duration,
};
use tidegate_schemas::{
    dispatch::Reason,
    id::DestinationId,
    view::{CourierObservation, DispatcherObservation, WaitingDestination},
};

/// Waiting destinations that are shown by name.
const WAITING_SHOWN_MAX: usize = 100;

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Of each courier that is out, its own words.
    pub couriers: BTreeMap<DestinationId, Rc<RefCell<CourierObservation>>>,
    /// Destinations whose couriers keep falling.
    pub suspended: BTreeSet<DestinationId>,
    /// The first reason of each destination that waits with something queued.
    pub waiting: BTreeMap<DestinationId, Reason>,
    /// Rounds done.
    pub rounds: u64,
    /// Destinations looked at.
    pub looked_at: u64,
    /// Time that it took.
    pub took: Duration,
}

impl Seen {
    /// For whoever asks.
    pub fn observation(&self) -> DispatcherObservation {
        let waiting =
            |(id, reason): (&DestinationId, &Reason)| WaitingDestination { destination: id.clone(), reason: *reason };
        DispatcherObservation {
            couriers: self.couriers.values().map(|seen| seen.borrow().clone()).collect(),
            suspended: self.suspended.iter().cloned().collect(),
            waiting: self.waiting.iter().take(WAITING_SHOWN_MAX).map(waiting).collect(),
            waiting_total: self.waiting.len() as u64,
            rounds: self.rounds,
            looked_at: self.looked_at,
            took_us: u64::try_from(self.took.as_micros()).unwrap_or(u64::MAX),
        }
    }
}
