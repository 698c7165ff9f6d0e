//! The Uplink: life of the Tor client.
//!
//! - *Hears* `Status`, `Observe`, `Shutdown`.
//! - *Rings* the Dispatcher when onion services can be reached, or no longer can.
//! - *If it dies*: the Tor client itself belongs to its adapter and goes on; the next Uplink finds it as it is. When it is suspended
//!   the Dispatcher opens no courier, and intake goes on: nothing in Tor may ever interrupt it.
//!
//! Life: bootstrap, with a growing back-off while it fails (`RETRY_FIRST` to `RETRY_MAX`); then look every `LOOK_EVERY` whether
//! it still stands, and bootstrap again when it doesn't. A client that is too old for the network is tried
//! again like one that fails, and shown as obsolete: only an update helps, and everything else goes on.

use crate::{
    ports::{entropy::Entropy, transport::Transport},
    supervision::{Bell, DeathWatch, OwnedTask},
};
use actix::prelude::*;
use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};
use tidegate_schemas::{
    messages::{
        gateway::{Observe, Shutdown},
        uplink::Status,
    },
    view::{Observation, UplinkObservation, UplinkStatus},
};
use tokio::time::Instant;

/// First pause after a failed bootstrap.
const RETRY_FIRST: Duration = Duration::from_secs(2);
/// Longest pause after a failed bootstrap.
const RETRY_MAX: Duration = Duration::from_secs(300);
/// How often a client that is ready is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How often one that is not is looked at.
const LOOK_WHILE_DOWN: Duration = Duration::from_millis(100);
/// How long a client that bootstrapped may be unready before it is bootstrapped again.
const DOWN_MAX: Duration = Duration::from_secs(60);

/// What an Uplink is made of.
#[derive(Clone)]
pub struct UplinkParts {
    /// The way to onion services.
    pub transport: Arc<dyn Transport>,
    /// Jitter.
    pub entropy: Arc<dyn Entropy>,
    /// The Dispatcher's bell.
    pub dispatcher: Bell,
}

/// The actor.
pub struct Uplink {
    parts: UplinkParts,
    seen: Rc<RefCell<UplinkObservation>>,
    life: Option<OwnedTask>,
    watch: DeathWatch,
}

impl Uplink {
    /// An Uplink.
    #[must_use]
    pub fn new(parts: UplinkParts, watch: DeathWatch) -> Self {
        let transport = parts.transport.name().to_owned();
        let seen = UplinkObservation { transport, ..UplinkObservation::default() };
        Self { parts, seen: Rc::new(RefCell::new(seen)), life: None, watch }
    }
}

impl Actor for Uplink {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let life = live(self.parts.clone(), Rc::clone(&self.seen));
        self.life = Some(OwnedTask::spawn(ctx, &self.watch, "life", life));
    }
}

async fn live(parts: UplinkParts, seen: Rc<RefCell<UplinkObservation>>) {
    let mut pause = RETRY_FIRST;
    loop {
        seen.borrow_mut().attempts += 1;
        match parts.transport.bootstrap().await {
            Ok(()) => {
                pause = RETRY_FIRST;
                stand(&parts).await;
            }
            Err(reason) => {
                let transport = parts.transport.name();
                if parts.transport.status() == UplinkStatus::Obsolete {
                    tracing::error!(transport, %reason, "onion services can't be reached; messages are taken and wait");
                } else {
                    tracing::warn!(transport, %reason, "tor did not connect; it is tried again");
                }
                seen.borrow_mut().status = UplinkStatus::Failed { reason };
                tokio::time::sleep(pause.mul_f64(1.0 + 0.2 * parts.entropy.unit())).await;
                pause = (pause * 2).min(RETRY_MAX);
            }
        }
    }
}

/// Rings at each change of readiness; returns when the client has not been ready for [`DOWN_MAX`].
///
/// A client may say that it is bootstrapped a moment before it counts itself ready, so readiness is looked at, not inferred.
async fn stand(parts: &UplinkParts) {
    let transport = parts.transport.name();
    let (mut ready, mut changed) = (false, Instant::now());
    while ready || changed.elapsed() < DOWN_MAX {
        let now = parts.transport.status() == UplinkStatus::Ready;
        if now != ready {
            (ready, changed) = (now, Instant::now());
            if ready {
                tracing::info!(transport, "onion services can be reached");
            } else {
                tracing::warn!(transport, "onion services can't be reached any more");
            }
            parts.dispatcher.ring();
        }
        tokio::time::sleep(if ready { LOOK_EVERY } else { LOOK_WHILE_DOWN }).await;
    }
}

impl Uplink {
    /// The transport's own word, but for the reason of a failure that it may have forgotten.
    fn status(&self) -> UplinkStatus {
        match (self.parts.transport.status(), &self.seen.borrow().status) {
            (UplinkStatus::Starting, failed @ UplinkStatus::Failed { .. }) => failed.clone(),
            (status, _) => status,
        }
    }
}

impl Handler<Status> for Uplink {
    type Result = MessageResult<Status>;
    fn handle(&mut self, _: Status, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.status())
    }
}

impl Handler<Observe> for Uplink {
    type Result = MessageResult<Observe>;
    fn handle(&mut self, _: Observe, _: &mut Self::Context) -> Self::Result {
        let status = self.status();
        MessageResult(Observation::Uplink(UplinkObservation { status, ..self.seen.borrow().clone() }))
    }
}

impl Handler<Shutdown> for Uplink {
    type Result = ();
    fn handle(&mut self, _: Shutdown, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::{
        ports::clock::Clock,
        supervision::{Running, Wake},
        testing::{fake_transport::FakeTransport, seeded_entropy::SeededEntropy, sim_clock::SimClock},
    };

    #[actix::test]
    async fn the_dispatcher_hears_of_readiness_when_it_comes_not_when_the_bootstrap_returns() {
        tokio::time::pause();
        let clock: Arc<dyn Clock> = Arc::new(SimClock::at("2026-11-23T12:00:00Z".parse().unwrap()));
        let transport = Arc::new(FakeTransport::new(clock));
        let bell = Bell::default();
        let parts = UplinkParts {
            transport: Arc::clone(&transport) as Arc<dyn Transport>,
            entropy: Arc::new(SeededEntropy::new(1)),
            dispatcher: bell.clone(),
        };
        let (uplink, _running) = Running::start(Uplink::new(parts, DeathWatch::unwatched("uplink")));
        assert_eq!(bell.wait_at_most(Duration::from_secs(1)).await, Wake::Rung);
        transport.set_status(UplinkStatus::Bootstrapping { percent: 90, doing: "directory".into() });
        assert_eq!(bell.wait_at_most(Duration::from_secs(6)).await, Wake::Rung, "it is gone");
        assert_ne!(uplink.send(Status).await.unwrap(), UplinkStatus::Ready);
        transport.set_status(UplinkStatus::Ready);
        assert_eq!(bell.wait_at_most(Duration::from_millis(200)).await, Wake::Rung, "it is back");
    }
}
