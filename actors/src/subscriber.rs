//! Subscriber: turns publications into custody, and acknowledges each only when it is on disk (CU-1).
//!
//! It stands directly above the Outbox and needs nothing of Tor or Matrix, so nothing in Tor or Matrix can interrupt intake.
//!
//! ```text
//!   Source::run --events--> route --Enqueue / Quarantine--> Outbox
//!        ^                                                    |
//!        +---- ack, in order of receipt, after the reply <----+
//! ```
//!
//! # Rules
//!
//! - What no route takes, what is too large, and what names a destination that isn't there is *quarantined* (metadata, on disk)
//!   and then acknowledged: an error would make the broker send it again for ever, and block what comes after it.
//! - Where signals are taken over MQTT, their topics come before every route (see `signals`).
//! - A full destination records the refusal; the publication is acknowledged and counted as refused.
//! - What lies below the gateway's own prefix is never a reading: a route `#` must not take our own states.
//! - A device that asked for it is told that its message is accepted, or refused, once that is on disk and before the broker hears of
//!   it: if the broker has our acknowledgement, it has the receipt, too, and else it delivers again. A response topic that may not be
//!   answered is taken off the message, which is taken all the same.
//! - A store that fails acknowledges nothing. Everything in hand is given up, the connection is closed (so that the broker
//!   delivers again, in order), and after a pause that grows to [`PAUSE_MAX`] it is opened again. The actor stays: a full disk
//!   must not use up its restart budget.
//! - An acknowledgement goes only to the connection that delivered (see [`crate::ports::source::AckToken`]); a void one is
//!   counted, and the redelivery is recognised by the Outbox.
//!
//! # Limits
//!
//! [`IN_HAND_MAX`] publications wait for their flush; beyond it nothing is read from the source, which is back-pressure: the
//! broker keeps what we don't read. Publications at QoS 0 have nobody who waits: one that meets a failed store or a drain is
//! lost, as QoS 0 has it.
//!
//! # Life
//!
//! The work is done by one owned task (`intake`), whose end ends the actor. On `Shutdown` intake stops first; what is in hand
//! gets its answer and its acknowledgement (at most [`DRAIN_MAX`]), and what was not read stays with the broker.

use crate::{
    ports::{clock::Clock, source::Source},
    supervision::{Bell, DeathWatch, OwnedTask},
};
use actix::prelude::*;
use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};
use tidegate_schemas::{
    messages::{
        gateway::{Observe, Shutdown},
        outbox::{Enqueue, Ignore, Quarantine, Signal},
        registry::Current,
    },
    tidings::Tidings,
    view::{Observation, SubscriberObservation},
};
use tokio::sync::oneshot;

mod intake;
mod signals;
#[cfg(test)]
mod tests;
mod verdict;

/// Most publications that wait for their flush (a count; each has at most 128 KiB of body).
pub const IN_HAND_MAX: usize = 256;
/// Most events that wait between the source and the intake (a count; each has at most 1 MiB of body).
pub const EVENTS_MAX: usize = 32;
/// Most receipts that wait for the broker's answer (a count); beyond it they are lost, and counted.
pub const RECEIPTS_MAX: usize = 256;
/// First pause after a failed store.
pub const PAUSE_MIN: Duration = Duration::from_millis(500);
/// Longest pause after a failed store.
pub const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Longest that a drain waits for what is in hand.
pub const DRAIN_MAX: Duration = Duration::from_secs(5);
/// What the last acknowledgements get at least to leave through the source before its connection is dropped.
pub const ACKS_LINGER: Duration = Duration::from_millis(100);
/// What they get at most.
pub const ACKS_LINGER_MAX: Duration = Duration::from_secs(2);

/// Bytes of a topic that quarantine keeps.
const QUARANTINED_TOPIC_BYTES_MAX: usize = 256;

/// What the Subscriber stands on. Requests go through recipients, so that a test can put anything behind them.
#[derive(Clone)]
pub struct Floor {
    /// The broker's connection.
    pub source: Arc<dyn Source>,
    /// Who knows routes and destinations.
    pub registry: Recipient<Current>,
    /// Who takes custody.
    pub enqueue: Recipient<Enqueue>,
    /// Who keeps the metadata of what has no destination.
    pub quarantine: Recipient<Quarantine>,
    /// Who forgets the packet id of what is not taken.
    pub ignore: Recipient<Ignore>,
    /// What devices are told, and where.
    pub tidings: Arc<Tidings>,
    /// The times of receipts.
    pub clock: Arc<dyn Clock>,
    /// The Herald's bell: the broker of a new connection may have forgotten everything.
    pub herald: Bell,
    /// Where signals go, if they are taken over MQTT.
    pub signals: Option<Recipient<Signal>>,
    /// Rung when routes or destinations changed.
    pub bell: Bell,
}
impl std::fmt::Debug for Floor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Floor").field("source", &self.source.describe()).finish_non_exhaustive()
    }
}

/// What the actor and its intake both see; they live on one thread.
type State = Rc<RefCell<SubscriberObservation>>;

/// The asked-for end of the intake: it answers through the inner channel when nothing is in hand any more.
type DrainRequest = oneshot::Sender<()>;

/// The actor. See the module.
#[derive(Debug)]
pub struct Subscriber {
    floor: Floor,
    state: State,
    drain: Option<oneshot::Sender<DrainRequest>>,
    intake: Option<OwnedTask>,
    // Last: fields drop in order, and the kernel must hear after the task is aborted.
    watch: DeathWatch,
}

impl Subscriber {
    /// A Subscriber on this floor.
    #[must_use]
    pub fn new(floor: Floor, watch: DeathWatch) -> Self {
        let broker = floor.source.describe();
        let state = Rc::new(RefCell::new(SubscriberObservation { broker, ..SubscriberObservation::default() }));
        Self { floor, state, drain: None, intake: None, watch }
    }
}

impl Actor for Subscriber {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let (drain, asked) = oneshot::channel();
        let intake = intake::Intake::new(self.floor.clone(), Rc::clone(&self.state));
        self.drain = Some(drain);
        self.intake = Some(OwnedTask::spawn(ctx, &self.watch, "intake", intake.run(asked)));
    }
}

impl Handler<Observe> for Subscriber {
    type Result = MessageResult<Observe>;

    fn handle(&mut self, _: Observe, _: &mut Self::Context) -> Self::Result {
        let embedded = self.floor.source.embedded();
        MessageResult(Observation::Subscriber(SubscriberObservation { embedded, ..self.state.borrow().clone() }))
    }
}

impl Handler<Shutdown> for Subscriber {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: Shutdown, _: &mut Self::Context) -> Self::Result {
        let (done, drained) = oneshot::channel();
        // An intake that is gone has nothing in hand; its end stops the actor by itself.
        let asked = self.drain.take().is_some_and(|drain| drain.send(done).is_ok());
        let wait = async move {
            if asked {
                let _ = drained.await;
            }
        };
        Box::pin(wait.into_actor(self).map(|(), _, ctx| ctx.stop()))
    }
}
