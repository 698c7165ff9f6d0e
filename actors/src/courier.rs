//! A Courier serves one destination while it is due, and owns its circuit pool: the lanes.
//!
//! - *Hears* `Wake` (there is more), `Close` (start nothing new), `Observe`, `Shutdown`.
//! - *Tells* the Outbox below: `Pick`, `StillQueued`, `ChangedLoads`, `Spend`, `Settle`, `Fail`.
//! - *If it dies*: its destination pauses; nothing is lost, because "in flight" is only in its memory. The Dispatcher opens another.
//!
//! Life: pick entries in order; hand them to lanes, a device's entries to one lane at a time (OR-1), a batch where the format knows
//! batches; settle each answer in one commit; pick again. A failure that is the destination's (`Defer`, `Snooze`) is told to the
//! Outbox, which decides when to try again, and ends the courier once what is under way has ended. With nothing to do it keeps its
//! lanes warm for `IDLE` and then ends, too.
//!
//! What was picked is not sent blindly: right before a request leaves, the Outbox is asked which of its entries are queued still, so
//! that after an operator's hold or purge nothing leaves that was not under way.
//!
//! Each connection and each request is a start: right before it the agreement is evaluated anew, pauses and signals included. Nothing
//! starts after the cutoff (DW-1), and what is under way at the closing is cut off when the agreed grace is over (DW-2). A courier in
//! break-glass mode carries break-glass messages alone, through a closed window, and says so in the log at each delivery.
//!
//! Throughput ramps up: one lane at first, one more with each success, up to those agreed. A probe (the last attempt failed) is one
//! message on that lane, until it succeeds.
//!
//! Limits: `PICK_ENTRIES_MAX` and `PICK_BYTES_MAX` in memory for a destination, lanes by its agreement.

mod lane;
mod pool;

pub use lane::IsolationMemory;

use crate::{
    outbox::Outbox,
    ports::{clock::Clock, entropy::Entropy, transport::Transport},
    supervision::{Bell, DeathWatch, OwnedTask},
};
use actix::prelude::*;
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::Duration,
};
use tidegate_schemas::{
    agreement::Destination,
    dispatch::Mode,
    messages::{
        courier::{Close, Wake},
        gateway::{Observe, Shutdown},
    },
    view::{CourierObservation, Observation},
};
use tokio::sync::watch;

/// Entries that a courier holds at most.
const PICK_ENTRIES_MAX: usize = 400;
/// Body bytes that a courier picks at a time.
const PICK_BYTES_MAX: usize = 1024 * 1024;
/// How long a courier without work keeps its lanes.
const IDLE: Duration = Duration::from_secs(300);

/// What a Courier is made of.
#[derive(Clone)]
pub struct CourierParts {
    /// Whom it serves.
    pub destination: Arc<Destination>,
    /// How it goes about it.
    pub mode: Mode,
    /// The way to onion services.
    pub transport: Arc<dyn Transport>,
    /// The outbox.
    pub outbox: Addr<Outbox>,
    /// The wall clock, for windows.
    pub clock: Arc<dyn Clock>,
    /// Isolation nonces.
    pub entropy: Arc<dyn Entropy>,
    /// The destination's isolations, which outlive a courier.
    pub isolations: IsolationMemory,
    /// Ends the courier when its other end, the Dispatcher's, is dropped.
    pub lifeline: watch::Receiver<()>,
}

/// The actor.
pub struct Courier {
    parts: CourierParts,
    orders: Orders,
    work: Option<OwnedTask>,
    watch: DeathWatch,
}

/// What the actor's handlers and its work have in common.
#[derive(Clone)]
struct Orders {
    wake: Bell,
    closing: Rc<Cell<bool>>,
    seen: Rc<RefCell<CourierObservation>>,
}

impl Courier {
    /// A courier; `watch` tells the Dispatcher of its end.
    #[must_use]
    pub fn new(parts: CourierParts, watch: DeathWatch) -> Self {
        let seen = CourierObservation {
            destination: parts.destination.id.clone(),
            mode: parts.mode,
            lanes: 0,
            lanes_allowed: 1,
            in_flight: 0,
            delivered: 0,
        };
        let orders = Orders { wake: Bell::default(), closing: Rc::default(), seen: Rc::new(RefCell::new(seen)) };
        Self { parts, orders, work: None, watch }
    }

    /// What it shows of itself, kept up to date while it lives: read without asking it.
    #[must_use]
    pub fn seen(&self) -> Rc<RefCell<CourierObservation>> {
        Rc::clone(&self.orders.seen)
    }
}

impl Actor for Courier {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let work = pool::serve(self.parts.clone(), self.orders.clone());
        self.work = Some(OwnedTask::spawn(ctx, &self.watch, "deliveries", work));
    }
}

impl Handler<Wake> for Courier {
    type Result = ();
    fn handle(&mut self, _: Wake, _: &mut Self::Context) {
        self.orders.wake.ring();
    }
}

impl Handler<Close> for Courier {
    type Result = ();
    fn handle(&mut self, _: Close, _: &mut Self::Context) {
        self.orders.closing.set(true);
        self.orders.wake.ring();
    }
}

impl Handler<Observe> for Courier {
    type Result = MessageResult<Observe>;
    fn handle(&mut self, _: Observe, _: &mut Self::Context) -> Self::Result {
        MessageResult(Observation::Courier(self.orders.seen.borrow().clone()))
    }
}

impl Handler<Shutdown> for Courier {
    type Result = ();
    fn handle(&mut self, _: Shutdown, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
