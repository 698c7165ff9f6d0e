//! The Uplink: life of the Tor client.
//!
//! - *Hears* `Status`, `TestConnection`, `Observe`, `Shutdown`.
//! - *Rings* the Dispatcher when onion services can be reached, or no longer can.
//! - *If it dies*: the Tor client itself belongs to its adapter and goes on; the next Uplink finds it as it is. When it is suspended
//!   the Dispatcher opens no courier, and intake goes on: nothing in Tor may ever interrupt it.
//!
//! Life: bootstrap, with a growing back-off while it fails (`RETRY_FIRST` to `RETRY_MAX`); then look every `LOOK_EVERY` whether
//! it still stands, and bootstrap again when it doesn't: at once when the transport says that it failed (a system tor that hung up or
//! is being restarted), and after `DOWN_MAX` when it says that it is connecting again by itself. A client that is too old for the
//! network is tried again like one that fails, and shown as obsolete: only an update helps, and everything else goes on.
//!
//! For an operator it tests the connection to a destination: opens a lane on an isolation of its own and hangs up. Whether that may be,
//! by the window and the Tor budget, is up to who asks. At most [`TESTS_MAX`] tests are under way.
//!
//! Beside that it tells the wall clock what time Tor says it is, and tells the log and the Dispatcher when the clock is believed and
//! when no longer (`clock_watch.rs`).

mod clock_watch;

use crate::{
    ports::{
        clock::Clock,
        entropy::Entropy,
        transport::{Isolation, Target, Transport},
    },
    supervision::{Bell, DeathWatch, OwnedTask},
};
use actix::prelude::*;
use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};
use tidegate_schemas::{
    messages::{
        gateway::{Observe, Shutdown},
        uplink::{Status, TestConnection},
    },
    outcome::DeliveryError,
    view::{ConnectionTest, Observation, UplinkObservation, UplinkStatus},
};
use tokio::time::Instant;

/// First pause after a failed bootstrap.
const RETRY_FIRST: Duration = Duration::from_secs(2);
/// Longest pause after a failed bootstrap.
const RETRY_MAX: Duration = Duration::from_secs(300);
/// How often a client that is ready is looked at.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often one that is not is looked at.
const LOOK_WHILE_DOWN: Duration = Duration::from_millis(100);
/// How long a client that bootstrapped may be unready before it is bootstrapped again.
const DOWN_MAX: Duration = Duration::from_secs(60);

/// Tests of a connection at once.
pub const TESTS_MAX: usize = 2;

/// What an Uplink is made of.
#[derive(Clone)]
pub struct UplinkParts {
    /// The way to onion services.
    pub transport: Arc<dyn Transport>,
    /// The wall clock, which Tor vouches for.
    pub clock: Arc<dyn Clock>,
    /// Jitter.
    pub entropy: Arc<dyn Entropy>,
    /// The Dispatcher's bell.
    pub dispatcher: Bell,
    /// The Herald's bell.
    pub herald: Bell,
    /// How often a client that is ready, and the clock, are looked at: [`LOOK_EVERY`].
    pub look_every: Duration,
}

/// The actor.
pub struct Uplink {
    parts: UplinkParts,
    seen: Rc<RefCell<UplinkObservation>>,
    life: Option<OwnedTask>,
    clock: Option<OwnedTask>,
    tests: usize,
    watch: DeathWatch,
}

impl Uplink {
    /// An Uplink.
    #[must_use]
    pub fn new(parts: UplinkParts, watch: DeathWatch) -> Self {
        let transport = parts.transport.name().to_owned();
        let seen = UplinkObservation { transport, ..UplinkObservation::default() };
        Self { parts, seen: Rc::new(RefCell::new(seen)), life: None, clock: None, tests: 0, watch }
    }
}

impl Actor for Uplink {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let life = live(self.parts.clone(), Rc::clone(&self.seen));
        self.life = Some(OwnedTask::spawn(ctx, &self.watch, "life", life));
        let clock = clock_watch::run(self.parts.clone());
        self.clock = Some(OwnedTask::spawn(ctx, &self.watch, "clock", clock));
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
                if matches!(parts.transport.status(), UplinkStatus::Obsolete { .. }) {
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

/// Rings at each change of readiness; returns when the client failed, or has not been ready for [`DOWN_MAX`].
///
/// A client may say that it is bootstrapped a moment before it counts itself ready, so readiness is looked at, not inferred.
async fn stand(parts: &UplinkParts) {
    let transport = parts.transport.name();
    let (mut ready, mut changed) = (false, Instant::now());
    while ready || changed.elapsed() < DOWN_MAX {
        let status = parts.transport.status();
        let now = status == UplinkStatus::Ready;
        if now != ready {
            (ready, changed) = (now, Instant::now());
            if ready {
                tracing::info!(transport, "onion services can be reached");
            } else {
                tracing::warn!(transport, "onion services can't be reached any more");
            }
            parts.dispatcher.ring();
            parts.herald.ring();
        }
        if matches!(status, UplinkStatus::Failed { .. } | UplinkStatus::Obsolete { .. }) {
            // Nothing but a bootstrap brings it back.
            return;
        }
        tokio::time::sleep(if ready { parts.look_every } else { LOOK_WHILE_DOWN }).await;
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

impl Handler<TestConnection> for Uplink {
    /// Within the actor's own context, so that it ends with the actor.
    type Result = ResponseActFuture<Self, Option<ConnectionTest>>;
    fn handle(&mut self, TestConnection { destination }: TestConnection, _: &mut Self::Context) -> Self::Result {
        if self.tests >= TESTS_MAX {
            return Box::pin(actix::fut::ready(None));
        }
        self.tests += 1;
        let (transport, isolation) = (Arc::clone(&self.parts.transport), Isolation(self.parts.entropy.bytes16()));
        let test = async move {
            let begun = Instant::now();
            let limit = Duration::try_from(destination.agreement.deadlines.connect).unwrap_or_default();
            let ended = match transport.status() {
                UplinkStatus::Ready => {
                    let opening = transport.open(Target::from(&destination), isolation);
                    let opened = tokio::time::timeout(limit, opening).await;
                    opened.unwrap_or(Err(DeliveryError::ConnectTimeout)).map(drop)
                }
                _ => Err(DeliveryError::UplinkNotReady),
            };
            let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            Some(ConnectionTest::of(destination.id, took_ms, ended))
        };
        Box::pin(test.into_actor(self).map(|tested, uplink, _| {
            uplink.tests -= 1;
            tested
        }))
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
        ports::transport::Lane,
        supervision::{Running, Wake},
        testing::{fake_transport::FakeTransport, seeded_entropy::SeededEntropy, sim_clock::SimClock},
    };
    use futures_util::future::BoxFuture;
    use jiff::SignedDuration;
    use std::sync::Mutex;
    use tidegate_schemas::{
        agreement::{Destination, DestinationKeys, ServiceAgreement},
        clock::ConsensusTimes,
        onion::{OnionAddress, OnionEndpoint},
    };

    #[actix::test]
    async fn the_dispatcher_hears_of_readiness_when_it_comes_not_when_the_bootstrap_returns() {
        tokio::time::pause();
        let clock: Arc<dyn Clock> = Arc::new(SimClock::at("2026-11-23T12:00:00Z".parse().unwrap()));
        let transport = Arc::new(FakeTransport::new(Arc::clone(&clock)));
        let bell = Bell::default();
        let parts = UplinkParts {
            transport: Arc::clone(&transport) as Arc<dyn Transport>,
            clock,
            entropy: Arc::new(SeededEntropy::new(1)),
            dispatcher: bell.clone(),
            herald: Bell::default(),
            look_every: LOOK_EVERY,
        };
        let (uplink, _running) = Running::start(Uplink::new(parts, DeathWatch::unwatched("uplink")));
        assert_eq!(bell.wait_at_most(Duration::from_secs(1)).await, Wake::Rung);
        transport.set_status(UplinkStatus::Bootstrapping { percent: 90, doing: "directory".into() });
        assert_eq!(bell.wait_at_most(Duration::from_secs(6)).await, Wake::Rung, "it is gone");
        assert_ne!(uplink.send(Status).await.unwrap(), UplinkStatus::Ready);
        transport.set_status(UplinkStatus::Ready);
        assert_eq!(bell.wait_at_most(Duration::from_millis(200)).await, Wake::Rung, "it is back");
    }

    fn ward() -> Destination {
        let mut agreement = ServiceAgreement::default();
        agreement.deadlines.connect = SignedDuration::from_secs(20);
        let endpoint = OnionEndpoint { address: OnionAddress::from_public_key([7; 32]), port: 80 };
        Destination { id: "ward".parse().unwrap(), endpoint, agreement, keys: DestinationKeys::default() }
    }

    #[actix::test]
    async fn a_test_connects_on_its_own_circuit_sends_nothing_and_ends_at_the_deadline() {
        tokio::time::pause();
        let clock: Arc<dyn Clock> = Arc::new(SimClock::at("2026-11-23T12:00:00Z".parse().unwrap()));
        let transport = Arc::new(FakeTransport::new(Arc::clone(&clock)));
        let parts = UplinkParts {
            transport: Arc::clone(&transport) as Arc<dyn Transport>,
            clock,
            entropy: Arc::new(SeededEntropy::new(1)),
            dispatcher: Bell::default(),
            herald: Bell::default(),
            look_every: LOOK_EVERY,
        };
        let (uplink, _running) = Running::start(Uplink::new(parts, DeathWatch::unwatched("uplink")));
        let test = || uplink.send(TestConnection { destination: ward() });
        let (one, other) = (test().await.unwrap().unwrap(), test().await.unwrap().unwrap());
        assert!(one.reached && other.reached && one.took_ms >= 10, "{one:?}");
        let opened = transport.opened();
        assert!(opened.len() == 2 && opened[0].1 != opened[1].1, "{opened:?}");
        transport.take_down(&ward().id, DeliveryError::DescriptorNotFound);
        let failed = test().await.unwrap().unwrap();
        assert_eq!((failed.reached, failed.error), (false, Some(DeliveryError::DescriptorNotFound)));
        // One that hangs is given up at the agreement's deadline; no more than so many hang at once.
        transport.bring_up(&ward().id);
        transport.set_latency(Duration::from_secs(3_600));
        let (slow, slower, refused) = tokio::join!(test(), test(), test());
        assert_eq!(refused.unwrap(), None);
        for slow in [slow, slower] {
            let slow = slow.unwrap().unwrap();
            assert_eq!(slow.error, Some(DeliveryError::ConnectTimeout));
            // The timer's own grain is a millisecond.
            assert!((20_000..=20_001).contains(&slow.took_ms), "{}", slow.took_ms);
        }
        transport.set_status(UplinkStatus::Starting);
        assert_eq!(test().await.unwrap().unwrap().error, Some(DeliveryError::UplinkNotReady));
        assert!(transport.attempts().is_empty());
        assert_eq!(transport.opened().len(), 5);
    }

    /// As the SOCKS adapter is: a broken handshake makes it failed, and only a bootstrap that works makes it ready again.
    struct Socks(Mutex<(UplinkStatus, u32)>);

    impl Socks {
        /// tor is gone for the next so many bootstraps.
        fn breaks(&self, bootstraps: u32) {
            *self.0.lock().unwrap() = (UplinkStatus::Failed { reason: "it hung up".into() }, bootstraps);
        }
    }

    impl Transport for Socks {
        fn name(&self) -> &'static str {
            "system tor"
        }
        fn status(&self) -> UplinkStatus {
            self.0.lock().unwrap().0.clone()
        }
        fn consensus(&self) -> Option<ConsensusTimes> {
            None
        }
        fn bootstrap(&self) -> BoxFuture<'static, Result<(), String>> {
            let mut world = self.0.lock().unwrap();
            let works = world.1 == 0;
            if works {
                world.0 = UplinkStatus::Ready;
            }
            world.1 = world.1.saturating_sub(1);
            Box::pin(std::future::ready(works.then_some(()).ok_or_else(|| "no tor there".to_owned())))
        }
        fn open(&self, _: Target, _: Isolation) -> BoxFuture<'static, Result<Box<dyn Lane>, DeliveryError>> {
            Box::pin(std::future::ready(Err(DeliveryError::UplinkNotReady)))
        }
    }

    #[actix::test]
    async fn a_tor_that_hung_up_or_is_restarted_is_looked_for_at_once_and_then_with_pauses() {
        tokio::time::pause();
        let transport = Arc::new(Socks(Mutex::new((UplinkStatus::Starting, 0))));
        let bell = Bell::default();
        let parts = UplinkParts {
            transport: Arc::clone(&transport) as Arc<dyn Transport>,
            clock: Arc::new(SimClock::at("2026-11-23T12:00:00Z".parse().unwrap())),
            entropy: Arc::new(SeededEntropy::new(1)),
            dispatcher: bell.clone(),
            herald: Bell::default(),
            look_every: LOOK_EVERY,
        };
        let (_uplink, _running) = Running::start(Uplink::new(parts, DeathWatch::unwatched("uplink")));
        assert_eq!(bell.wait_at_most(Duration::from_secs(1)).await, Wake::Rung);
        for (bootstraps_in_vain, back_within) in [(0, LOOK_EVERY), (1, LOOK_EVERY + 2 * RETRY_FIRST)] {
            transport.breaks(bootstraps_in_vain);
            let gone = Instant::now();
            while transport.status() != UplinkStatus::Ready {
                tokio::time::sleep(Duration::from_millis(10)).await;
                assert!(gone.elapsed() < back_within + Duration::from_millis(100), "still {:?}", transport.status());
            }
            assert_eq!(bell.wait_at_most(LOOK_EVERY).await, Wake::Rung, "the dispatcher hears of it");
        }
    }
}
