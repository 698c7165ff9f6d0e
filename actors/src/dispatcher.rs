//! The Dispatcher: opens a courier for each destination that is due, and closes it when its window does.
//!
//! - *Hears* `Explain`, `Observe`, `Shutdown`; takes no orders. A bell (from Outbox, Registry, Uplink, or a courier's death watch) or a
//!   tick of at most `TICK_MAX` wakes it, and it looks at what is due: a new message, an opening, a changed agreement, a restored
//!   uplink, a restart and a clock step are one code path.
//! - *Asks* Registry, Outbox and Uplink below; *owns* the couriers.
//! - *If it dies*: its couriers die with it (their lifeline is cut) and nothing is lost.
//! - *In a drain* it closes its couriers: they start nothing new, and what is under way gets `FINISH_MAX`. When the floor fell there is
//!   nobody to settle with, so it stops at once.
//!
//! Whether a destination is due is `tidegate_schemas::dispatch::decide`'s matter, and `Explain` answers by the same function and the
//! same memory. The first courier of an opening starts after a wait that is drawn once for the opening (a small part of its length,
//! none where it is always open). One courier for a destination at most; one that keeps panicking suspends its destination alone, with
//! a try every 15 minutes.

mod memory;
mod round;
mod seen;
mod wakes;

use crate::{
    outbox::Outbox,
    ports::{clock::Clock, entropy::Entropy, transport::Transport},
    supervision::{Bell, DeathWatch, OwnedTask},
};
use actix::prelude::*;
use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};
use tidegate_schemas::{
    id::DestinationId,
    messages::{
        dispatcher::{Explain, Explained},
        gateway::{Observe, Shutdown},
        registry::Current,
        uplink::Status,
    },
    view::Observation,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

/// Longest time between two looks: no timer trusts the wall clock for longer.
const TICK_MAX: Duration = Duration::from_secs(60);
/// Longest that what is under way may take in a drain; less than the kernel gives a line.
const FINISH_MAX: Duration = Duration::from_secs(3);
/// Questions that wait for their answer; more are not answered.
const QUESTIONS_MAX: usize = 64;

/// What a Dispatcher is made of.
#[derive(Clone)]
pub struct DispatcherParts {
    /// Destinations and agreements.
    pub registry: Recipient<Current>,
    /// What waits.
    pub outbox: Addr<Outbox>,
    /// Whether Tor is ready; absent while that line is suspended.
    pub uplink: Option<Recipient<Status>>,
    /// The way to onion services.
    pub transport: Arc<dyn Transport>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Isolation nonces.
    pub entropy: Arc<dyn Entropy>,
    /// Its own bell.
    pub bell: Bell,
}

/// The asked-for end of the rounds: they answer when no courier is out any more.
type FinishRequest = oneshot::Sender<()>;
/// What somebody wants explained, and to whom.
type Question = (DestinationId, oneshot::Sender<Option<Explained>>);

/// The actor.
pub struct Dispatcher {
    parts: DispatcherParts,
    seen: Rc<RefCell<seen::Seen>>,
    rounds: Option<OwnedTask>,
    /// Asks the rounds to finish.
    finish: Option<oneshot::Sender<FinishRequest>>,
    /// Asks the rounds to explain.
    questions: Option<mpsc::Sender<Question>>,
    watch: DeathWatch,
}

impl Dispatcher {
    /// A Dispatcher.
    #[must_use]
    pub fn new(parts: DispatcherParts, watch: DeathWatch) -> Self {
        Self { parts, seen: Rc::default(), rounds: None, finish: None, questions: None, watch }
    }
}

impl Dispatcher {
    /// Whether all those below are there: it is the end of the whole gateway then, not a fall.
    fn floor_stands(&self) -> bool {
        let DispatcherParts { registry, outbox, uplink, .. } = &self.parts;
        registry.connected() && outbox.connected() && uplink.as_ref().is_none_or(Recipient::connected)
    }
}

impl Actor for Dispatcher {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let (finish, asked) = oneshot::channel();
        self.finish = Some(finish);
        let (questions, questioned) = mpsc::channel(QUESTIONS_MAX);
        self.questions = Some(questions);
        let rounds = round::run(self.parts.clone(), Rc::clone(&self.seen), asked, questioned);
        self.rounds = Some(OwnedTask::spawn(ctx, &self.watch, "rounds", rounds));
    }
}

impl Handler<Observe> for Dispatcher {
    type Result = MessageResult<Observe>;
    fn handle(&mut self, _: Observe, _: &mut Self::Context) -> Self::Result {
        MessageResult(Observation::Dispatcher(self.seen.borrow().observation()))
    }
}

impl Handler<Explain> for Dispatcher {
    type Result = ResponseFuture<Option<Explained>>;
    fn handle(&mut self, message: Explain, _: &mut Self::Context) -> Self::Result {
        let (to, answer) = oneshot::channel();
        let asked = self.questions.as_ref().is_some_and(|rounds| rounds.try_send((message.destination, to)).is_ok());
        Box::pin(async move { if asked { answer.await.ok().flatten() } else { None } })
    }
}

impl Handler<Shutdown> for Dispatcher {
    type Result = ResponseActFuture<Self, ()>;
    fn handle(&mut self, _: Shutdown, _: &mut Self::Context) -> Self::Result {
        let (done, finished) = oneshot::channel();
        let asked = self.floor_stands() && self.finish.take().is_some_and(|finish| finish.send(done).is_ok());
        let wait = async move {
            if asked {
                let _ = timeout(FINISH_MAX, finished).await;
            }
        };
        // What is still under way then is dropped with the couriers; it is delivered again under the same id.
        Box::pin(wait.into_actor(self).map(|(), _, ctx| ctx.stop()))
    }
}

#[cfg(test)]
mod tests;
