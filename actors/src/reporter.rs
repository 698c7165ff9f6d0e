//! The Reporter: tells the room what became of each message.
//!
//! - *Hears* `Observe`, `Shutdown`; takes no orders. A bell from the Outbox or a tick of at most `TICK_MAX` wakes it, and it looks at
//!   what nobody has told the room yet.
//! - *Asks* the Outbox below for a range of reports, posts it, and tells the Outbox that the room has it.
//! - *If it dies*: nothing else notices. The range and its transaction id are on disk before they leave, so that the next Reporter
//!   posts the very same, and the homeserver makes one event of both.
//!
//! **Rate.** Synapse lets an account send 0.2 events a second, 10 in a burst. The Reporter stays below with a bucket of its own
//! (`BURST`, `REFILL_PER_S`): one delivery a notice while few wait, up to `REPORTS_MAX` in one when many do or when the bucket
//! is empty and waiting lets them merge. 1,000 deliveries need 10 notices and no more than a minute or two.
//!
//! **An outage** of the homeserver is waited out here, with a back-off; deliveries don't know of it.

mod bucket;
mod round;

use crate::{
    ports::{entropy::Entropy, room::Room},
    supervision::{Bell, DeathWatch, OwnedTask},
};
use actix::prelude::*;
use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};
use tidegate_schemas::{
    messages::{
        gateway::{Observe, Shutdown},
        outbox::{PendingReports, Reported},
    },
    view::{Observation, ReporterObservation},
};

/// Longest time between two looks.
const TICK_MAX: Duration = Duration::from_secs(60);
/// Most reports of one notice: about 25 kB of the 65 kB that an event may have.
const REPORTS_MAX: usize = 100;
/// Up to so many waiting behind a notice, each gets a notice of its own.
const FEW: u64 = 3;
/// Notices in a burst; Synapse's default allows 10.
const BURST: f64 = 8.0;
/// Notices a second in the long run; Synapse's default allows 0.2.
const REFILL_PER_S: f64 = 0.18;

/// What a Reporter is made of.
#[derive(Clone)]
pub struct ReporterParts {
    /// The room.
    pub room: Arc<dyn Room>,
    /// What nobody has told the room yet.
    pub pending: Recipient<PendingReports>,
    /// Takes note of what the room has.
    pub reported: Recipient<Reported>,
    /// Its own bell.
    pub bell: Bell,
    /// Jitter.
    pub entropy: Arc<dyn Entropy>,
}

/// The actor.
pub struct Reporter {
    parts: ReporterParts,
    seen: Rc<RefCell<ReporterObservation>>,
    rounds: Option<OwnedTask>,
    watch: DeathWatch,
}

impl Reporter {
    /// A Reporter.
    #[must_use]
    pub fn new(parts: ReporterParts, watch: DeathWatch) -> Self {
        Self { parts, seen: Rc::default(), rounds: None, watch }
    }
}

impl Actor for Reporter {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let rounds = round::run(self.parts.clone(), Rc::clone(&self.seen));
        self.rounds = Some(OwnedTask::spawn(ctx, &self.watch, "rounds", rounds));
    }
}

impl Handler<Observe> for Reporter {
    type Result = MessageResult<Observe>;
    fn handle(&mut self, _: Observe, _: &mut Self::Context) -> Self::Result {
        MessageResult(Observation::Reporter(self.seen.borrow().clone()))
    }
}

impl Handler<Shutdown> for Reporter {
    type Result = ();
    fn handle(&mut self, _: Shutdown, ctx: &mut Self::Context) {
        // A notice under way is dropped; it is posted again under the same transaction id.
        self.rounds = None;
        ctx.stop();
    }
}

#[cfg(test)]
mod tests;
