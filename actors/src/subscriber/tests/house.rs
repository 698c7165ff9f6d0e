//! The floor of a Subscriber under test.

use crate::{
    subscriber::{Floor, Subscriber},
    supervision::{Bell, DeathWatch},
    testing::{fake_source::FakeSource, sim_clock::SimClock},
};
use actix::prelude::*;
use bytes::Bytes;
use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tidegate_schemas::{
    agreement::{Destination, DestinationKeys, ServiceAgreement},
    config::file::DestinationSource,
    id::{EntryRef, MessageId},
    messages::{
        gateway::{Observe, Shutdown},
        outbox::{
            Accepted, Enqueue, EnqueueError, Ignore, IntakeLimit, Quarantine, Signal, SignalError, SignalTaken,
            StoreError,
        },
        registry::{Current, RegisteredDestination, RegistrySnapshot},
    },
    route::{IdSource, PayloadHandling, Route, Routes},
    submission::{QuarantineReason, Redelivery},
    tidings::{Own, Tidings},
    view::{Observation, SubscriberObservation},
};

/// How the outbox answers.
#[derive(Debug, Clone, Copy, Default)]
pub struct Manner {
    /// The store fails.
    pub fails: bool,
    /// The destination is full; `Some(recorded)`.
    pub full: Option<bool>,
    /// The n-th reply takes `reply_ms[n % 4]` milliseconds.
    pub reply_ms: [u64; 4],
}

/// What the outbox did.
#[derive(Debug, Default)]
pub struct Journal {
    pub manner: Manner,
    /// What it took, by content, with its redelivery mark; in order of arrival.
    pub custody: Vec<(Bytes, Option<Redelivery>)>,
    /// What is on disk, by content.
    pub flushed: Vec<Bytes>,
    pub quarantined: Vec<(QuarantineReason, String, u64)>,
    /// What was signalled, with whether it was honoured.
    pub signals: Vec<(Signal, bool)>,
    pub asked: u64,
}

pub type Shared = Arc<Mutex<Journal>>;

pub fn lock(journal: &Shared) -> std::sync::MutexGuard<'_, Journal> {
    journal.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An outbox: takes in order of arrival, flushes after a while, and only then answers.
pub struct ToyOutbox(pub Shared);

impl Actor for ToyOutbox {
    type Context = Context<Self>;
}

impl ToyOutbox {
    fn turn(&self) -> (Manner, Duration) {
        let mut journal = lock(&self.0);
        let delay = journal.manner.reply_ms[usize::try_from(journal.asked % 4).unwrap()];
        journal.asked += 1;
        (journal.manner, Duration::from_millis(delay))
    }
}

impl Handler<Enqueue> for ToyOutbox {
    type Result = ResponseFuture<Result<Accepted, EnqueueError>>;

    fn handle(&mut self, message: Enqueue, _: &mut Self::Context) -> Self::Result {
        let (manner, delay) = self.turn();
        let journal = Arc::clone(&self.0);
        let submission = message.submission;
        let content = submission.payload.reveal().clone();
        let mut duplicate = false;
        if !manner.fails && manner.full.is_none() {
            let mut journal = lock(&journal);
            if let Some(Redelivery::Mqtt { session, packet_id, dup: true }) = submission.redelivery {
                duplicate = journal.custody.iter().any(|(known, mark)| {
                    *known == content
                        && matches!(mark, Some(Redelivery::Mqtt { session: s, packet_id: p, .. }) if (*s, *p) == (session, packet_id))
                });
            }
            if !duplicate {
                journal.custody.push((content.clone(), submission.redelivery.clone()));
            }
        }
        Box::pin(async move {
            tokio::time::sleep(delay).await;
            if manner.fails {
                return Err(StoreError::Full.into());
            }
            if let Some(recorded) = manner.full {
                return Err(EnqueueError::Refused { limit: IntakeLimit::Destination, recorded });
            }
            lock(&journal).flushed.push(content);
            let entry = EntryRef { destination: submission.destination, seq: 1 };
            Ok(Accepted { id: MessageId::from_random([7; 16]), entry, duplicate })
        })
    }
}

impl Handler<Quarantine> for ToyOutbox {
    type Result = ResponseFuture<Result<(), StoreError>>;

    fn handle(&mut self, message: Quarantine, _: &mut Self::Context) -> Self::Result {
        let (manner, delay) = self.turn();
        let journal = Arc::clone(&self.0);
        Box::pin(async move {
            tokio::time::sleep(delay).await;
            if manner.fails {
                return Err(StoreError::Full);
            }
            lock(&journal).quarantined.push((message.reason, message.topic, message.body_bytes));
            Ok(())
        })
    }
}

impl Handler<Ignore> for ToyOutbox {
    type Result = ResponseFuture<Result<(), StoreError>>;

    fn handle(&mut self, _: Ignore, _: &mut Self::Context) -> Self::Result {
        let (manner, delay) = self.turn();
        Box::pin(async move {
            tokio::time::sleep(delay).await;
            if manner.fails { Err(StoreError::Full) } else { Ok(()) }
        })
    }
}

impl Handler<Signal> for ToyOutbox {
    type Result = ResponseFuture<Result<SignalTaken, SignalError>>;

    fn handle(&mut self, message: Signal, _: &mut Self::Context) -> Self::Result {
        let (manner, delay) = self.turn();
        let journal = Arc::clone(&self.0);
        Box::pin(async move {
            tokio::time::sleep(delay).await;
            if manner.fails {
                return Err(StoreError::Full.into());
            }
            let honoured = message.policy.accept;
            lock(&journal).signals.push((message, honoured));
            if honoured { Ok(SignalTaken { holds_s: 1 }) } else { Err(SignalError::NotAccepted) }
        })
    }
}

/// A registry whose snapshot the test can change.
pub struct ToyRegistry(pub Arc<Mutex<RegistrySnapshot>>);

impl Actor for ToyRegistry {
    type Context = Context<Self>;
}
impl Handler<Current> for ToyRegistry {
    type Result = MessageResult<Current>;

    fn handle(&mut self, _: Current, _: &mut Self::Context) -> Self::Result {
        MessageResult(Arc::new(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()))
    }
}

pub fn route(filter: &str) -> Route {
    Route {
        filter: filter.parse().unwrap(),
        device: IdSource::Fixed("pacemaker".parse().unwrap()),
        destination: IdSource::Capture,
        allow: Some(vec!["cardiology".parse().unwrap(), "nowhere".parse().unwrap()]),
        payload: PayloadHandling::Opaque,
        retained: false,
        priority: tidegate_schemas::submission::Priority::Normal,
    }
}

pub fn snapshot(routes: Vec<Route>) -> RegistrySnapshot {
    // The Tor Project's web site: any valid address serves, for nothing is sent.
    let endpoint = "2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid.onion:80".parse().unwrap();
    let id: tidegate_schemas::id::DestinationId = "cardiology".parse().unwrap();
    let destination = Destination {
        id: id.clone(),
        endpoint,
        agreement: ServiceAgreement::default(),
        keys: DestinationKeys::default(),
    };
    let registered = Arc::new(RegisteredDestination { destination, source: DestinationSource::Api, version: 1 });
    RegistrySnapshot {
        revision: 1,
        destinations: BTreeMap::from([(id, registered)]),
        routes: Arc::new(Routes(routes)),
        ..RegistrySnapshot::default()
    }
}

/// A Subscriber, its broker and its floor.
pub struct House {
    pub broker: FakeSource,
    pub journal: Shared,
    pub registry: Arc<Mutex<RegistrySnapshot>>,
    pub bell: Bell,
    pub subscriber: Addr<Subscriber>,
}

impl House {
    pub fn up() -> Self {
        tokio::time::pause();
        Self::on(FakeSource::new(), Shared::default())
    }

    /// One that takes signals, too.
    pub fn up_with_signals() -> Self {
        tokio::time::pause();
        Self::build(FakeSource::new(), Shared::default(), true)
    }

    /// A (further) Subscriber for this broker and this outbox.
    pub fn on(broker: FakeSource, journal: Shared) -> Self {
        Self::build(broker, journal, false)
    }

    fn build(broker: FakeSource, journal: Shared, signals: bool) -> Self {
        let flushed = Arc::clone(&journal);
        broker.on_ack(Box::new(move |publication| {
            let journal = lock(&flushed);
            let content = publication.payload.reveal();
            let known = journal.flushed.contains(content)
                || journal.quarantined.iter().any(|(_, topic, _)| publication.topic.starts_with(topic.as_str()))
                || journal.manner.full == Some(true)
                || publication.retained
                || match Tidings::default().own(&publication.topic) {
                    Some(Own::Signal(alias)) if signals => journal
                        .signals
                        .iter()
                        .any(|(signal, honoured)| *honoured && Some(&signal.destination) == alias.as_ref()),
                    own => own.is_some(),
                };
            assert!(known, "CU-1: acknowledged before it was on disk");
        }));
        let registry = Arc::new(Mutex::new(snapshot(vec![route("{destination}/+")])));
        let bell = Bell::default();
        let outbox = ToyOutbox(Arc::clone(&journal)).start();
        let floor = Floor {
            source: Arc::new(broker.clone()),
            registry: ToyRegistry(Arc::clone(&registry)).start().recipient(),
            enqueue: outbox.clone().recipient(),
            quarantine: outbox.clone().recipient(),
            ignore: outbox.clone().recipient(),
            tidings: Arc::new(Tidings { receipts: true, ..Tidings::default() }),
            clock: Arc::new(SimClock::at("2026-11-23T12:00:00Z".parse().unwrap())),
            herald: Bell::default(),
            signals: signals.then(|| outbox.recipient()),
            bell: bell.clone(),
        };
        let subscriber = Subscriber::new(floor, DeathWatch::unwatched("subscriber")).start();
        Self { broker, journal, registry, bell, subscriber }
    }

    pub async fn observe(&self) -> SubscriberObservation {
        match self.subscriber.send(Observe).await.unwrap() {
            Observation::Subscriber(observation) => observation,
            other => panic!("not a Subscriber: {other:?}"),
        }
    }

    pub async fn shut_down(&self) {
        self.subscriber.send(Shutdown).await.unwrap();
    }

    pub fn set_manner(&self, manner: Manner) {
        lock(&self.journal).manner = manner;
    }
}

/// Lets virtual time pass.
pub async fn pass(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

/// Waits until it holds, for at most a virtual hour.
pub async fn until<F: Future<Output = bool>>(mut holds: impl FnMut() -> F) {
    for _ in 0..360_000 {
        if holds().await {
            return;
        }
        pass(10).await;
    }
    panic!("it never came to hold");
}
