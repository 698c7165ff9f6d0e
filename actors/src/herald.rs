//! The Herald: tells devices how the destinations are, and what became of their messages.
//!
//! - *Hears* `Observe`, `Shutdown`; takes no orders. A bell (from the Outbox, the Registry, the Uplink, or the Subscriber when the broker
//!   is connected anew) or a tick of at most `TICK_MAX` wakes it, and it looks at what is.
//! - *Asks* the Registry for agreements and routes, the Outbox for loads and pending receipts, the Uplink for Tor, the Dispatcher for
//!   the couriers that are out. Does without the last two while they are suspended.
//! - *Tells* the broker, by the Subscriber's connection; and the Outbox, up to where the devices have heard.
//! - *If it dies*: nothing else notices. The next Herald tells every state anew, and every receipt whose answer it did not see.
//!
//! **States** (`states`) are retained, one topic for each destination: what differs from what the broker has is published, on a new
//! connection everything, because a broker may have forgotten. Looks are a second apart, so no destination has more than one state
//! a second, and what came and went between is never told. A destination that is no more has its retained state taken away.
//!
//! **Sequence numbers** rise for each destination, across restarts, whatever the clock does: a number reserved on disk for this Herald,
//! times [`STATES_PER_NUMBER`], and the count of the destination's own states. So a gap tells nothing of other destinations.
//!
//! **Receipts** (`receipts`) of ends come from the ledger in its order, and count as told when the broker has them: at least once. That a
//! message is accepted, the Subscriber tells before it acknowledges.
//!
//! What a device is told names no other destination, no address, no length of a queue and no payload: see `tidegate_schemas::tidings`.
//!
//! Limits: `AT_ONCE` publications under way, of each kind; one batch of `RECEIPTS_AT_ONCE` receipts in memory. A broker that is slow,
//! full or away delays devices and nobody else.

mod receipts;
mod states;

use crate::{
    ports::{clock::Clock, source::Source},
    supervision::{Bell, DeathWatch, OwnedTask},
};
use actix::prelude::*;
use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};
use tidegate_schemas::{
    messages::{
        gateway::{Observe, Shutdown},
        outbox::{Loads, PendingReceipts, Receipted, Reserve},
        registry::Current,
        uplink::Status,
    },
    tidings::Tidings,
    view::{HeraldObservation, Observation},
};
use tokio::time::{sleep, timeout};

/// Longest time between two looks.
const TICK_MAX: Duration = Duration::from_secs(60);
/// Shortest time between two looks: what happens meanwhile is told together.
const GATHER: Duration = Duration::from_millis(100);
/// How long a line below may take to answer.
const ASK_LIMIT: Duration = Duration::from_secs(10);
/// How long the broker may take to answer a publication.
const ANNOUNCE_LIMIT: Duration = Duration::from_secs(10);
/// Pause after a publication that the broker did not take, or a line below that gave no answer.
const RETRY: Duration = Duration::from_secs(5);
/// Publications of one kind under way at once.
const AT_ONCE: usize = 16;
/// Receipts of one batch.
const RECEIPTS_AT_ONCE: usize = 64;
/// States of one destination for each number that is reserved on disk.
pub const STATES_PER_NUMBER: u64 = 65_536;

/// What a Herald is made of.
#[derive(Clone)]
pub struct HeraldParts {
    /// The broker's connection.
    pub source: Arc<dyn Source>,
    /// What devices are told, and where.
    pub tidings: Arc<Tidings>,
    /// Agreements and routes.
    pub registry: Recipient<Current>,
    /// What waits.
    pub loads: Recipient<Loads>,
    /// Sequence numbers.
    pub reserve: Recipient<Reserve>,
    /// Ends that devices have not heard of.
    pub pending: Recipient<PendingReceipts>,
    /// Takes note of what they have heard.
    pub receipted: Recipient<Receipted>,
    /// Whether Tor is ready; absent while that line is suspended.
    pub uplink: Option<Recipient<Status>>,
    /// Which couriers are out; absent while that line is suspended.
    pub dispatcher: Option<Recipient<Observe>>,
    /// The times that are told.
    pub clock: Arc<dyn Clock>,
    /// Its own bell.
    pub bell: Bell,
}

/// What the actor and its rounds both see; they live on one thread.
type Seen = Rc<RefCell<HeraldObservation>>;

/// The actor.
pub struct Herald {
    parts: HeraldParts,
    seen: Seen,
    rounds: Option<OwnedTask>,
    watch: DeathWatch,
}

impl Herald {
    /// A Herald.
    #[must_use]
    pub fn new(parts: HeraldParts, watch: DeathWatch) -> Self {
        Self { parts, seen: Rc::default(), rounds: None, watch }
    }
}

impl Actor for Herald {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let rounds = run(self.parts.clone(), Rc::clone(&self.seen));
        self.rounds = Some(OwnedTask::spawn(ctx, &self.watch, "rounds", rounds));
    }
}

impl Handler<Observe> for Herald {
    type Result = MessageResult<Observe>;
    fn handle(&mut self, _: Observe, _: &mut Self::Context) -> Self::Result {
        MessageResult(Observation::Herald(self.seen.borrow().clone()))
    }
}

impl Handler<Shutdown> for Herald {
    type Result = ();
    fn handle(&mut self, _: Shutdown, ctx: &mut Self::Context) {
        // What is under way is told again by the next one.
        self.rounds = None;
        ctx.stop();
    }
}

/// Rounds, for ever.
async fn run(parts: HeraldParts, seen: Seen) {
    let bell = parts.bell.clone();
    let mut states = states::States::new(parts.clone(), Rc::clone(&seen));
    let receipts = receipts::Receipts::new(parts, seen);
    loop {
        let (states_in, receipts_in) = tokio::join!(states.look(), receipts.tell());
        let wait = states_in.min(receipts_in).min(TICK_MAX);
        if !wait.is_zero() {
            sleep(GATHER).await;
            bell.wait_at_most(wait.saturating_sub(GATHER)).await;
        }
    }
}

/// Asks a line below. `None`: it gave no answer; if it is gone, this actor is about to be restarted anyway.
async fn ask<M>(whom: &Recipient<M>, message: M) -> Option<M::Result>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    timeout(ASK_LIMIT, whom.send(message)).await.ok()?.ok()
}

#[cfg(test)]
mod tests;
