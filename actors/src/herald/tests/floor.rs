//! What a Herald under test stands on.

use crate::{
    herald::{Herald, HeraldParts},
    ports::source::{Announcement, Source as _},
    supervision::{Bell, DeathWatch, Running},
    testing::{
        fake_source::FakeSource,
        sim_clock::SimClock,
        toy_registry::{Become, ToyRegistry, snapshot},
    },
};
use actix::prelude::*;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tidegate_schemas::{
    agreement::Destination,
    messages::{
        gateway::{Observe, Shutdown},
        outbox::{DeviceReceipt, Loads, PendingReceipts, Receipted, Reserve, StoreError},
        registry::RegistrySnapshot,
        uplink::Status,
    },
    record::Throughput,
    tidings::Tidings,
    view::{CourierObservation, DestinationLoad, DispatcherObservation, HeraldObservation, Observation, UplinkStatus},
};

/// What the lines below say.
#[derive(Default)]
pub struct Below {
    pub loads: Vec<DestinationLoad>,
    pub uplink: UplinkStatus,
    pub dispatcher: DispatcherObservation,
    pub pending: Vec<DeviceReceipt>,
    pub reserved: u64,
    /// Up to where the devices have heard.
    pub receipted: Vec<u64>,
    pub looks: u64,
    pub fails: bool,
}

/// Outbox, Uplink and Dispatcher in one.
pub struct ToyBelow(pub Arc<Mutex<Below>>);

impl ToyBelow {
    fn lock(&self) -> MutexGuard<'_, Below> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
impl Actor for ToyBelow {
    type Context = Context<Self>;
}
impl Handler<Loads> for ToyBelow {
    type Result = MessageResult<Loads>;
    fn handle(&mut self, _: Loads, _: &mut Self::Context) -> Self::Result {
        let mut below = self.lock();
        below.looks += 1;
        MessageResult(below.loads.clone())
    }
}
impl Handler<Reserve> for ToyBelow {
    type Result = MessageResult<Reserve>;
    fn handle(&mut self, message: Reserve, _: &mut Self::Context) -> Self::Result {
        let mut below = self.lock();
        if below.fails {
            return MessageResult(Err(StoreError::Full));
        }
        let first = below.reserved;
        below.reserved += u64::from(message.count);
        MessageResult(Ok(first))
    }
}
impl Handler<PendingReceipts> for ToyBelow {
    type Result = MessageResult<PendingReceipts>;
    fn handle(&mut self, message: PendingReceipts, _: &mut Self::Context) -> Self::Result {
        let below = self.lock();
        let heard = below.receipted.last().copied().unwrap_or_default();
        let pending = below.pending.iter().filter(|receipt| receipt.no > heard).take(message.count_max);
        MessageResult(Ok(pending.cloned().collect()))
    }
}
impl Handler<Receipted> for ToyBelow {
    type Result = MessageResult<Receipted>;
    fn handle(&mut self, message: Receipted, _: &mut Self::Context) -> Self::Result {
        self.lock().receipted.push(message.last);
        MessageResult(Ok(()))
    }
}
impl Handler<Status> for ToyBelow {
    type Result = MessageResult<Status>;
    fn handle(&mut self, _: Status, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.lock().uplink.clone())
    }
}
impl Handler<Observe> for ToyBelow {
    type Result = MessageResult<Observe>;
    fn handle(&mut self, _: Observe, _: &mut Self::Context) -> Self::Result {
        MessageResult(Observation::Dispatcher(self.lock().dispatcher.clone()))
    }
}

/// A Herald, its broker and its floor.
pub struct House {
    pub broker: FakeSource,
    pub below: Arc<Mutex<Below>>,
    pub clock: Arc<SimClock>,
    pub bell: Bell,
    pub herald: Addr<Herald>,
    registry: Addr<ToyRegistry>,
    parts: HeraldParts,
}

impl House {
    pub async fn up(destinations: Vec<Destination>) -> Self {
        Self::with(destinations, Tidings { receipts: true, ..Tidings::default() }).await
    }

    pub async fn with(destinations: Vec<Destination>, tidings: Tidings) -> Self {
        tokio::time::pause();
        let broker = FakeSource::new();
        let (sender, mut events) = tokio::sync::mpsc::channel(8);
        actix::spawn(broker.run(vec![], sender));
        let bell = Bell::default();
        let rung = bell.clone();
        // As the Subscriber does.
        actix::spawn(async move {
            while events.recv().await.is_some() {
                rung.ring();
            }
        });
        let below = Arc::new(Mutex::new(Below { uplink: UplinkStatus::Ready, ..Below::default() }));
        let floor = ToyBelow(Arc::clone(&below)).start();
        let registry = ToyRegistry(snapshot(destinations)).start();
        let clock = Arc::new(SimClock::at("2026-11-23T12:00:00Z".parse().unwrap()));
        let parts = HeraldParts {
            source: Arc::new(broker.clone()),
            tidings: Arc::new(tidings),
            registry: registry.clone().recipient(),
            loads: floor.clone().recipient(),
            reserve: floor.clone().recipient(),
            pending: floor.clone().recipient(),
            receipted: floor.clone().recipient(),
            uplink: Some(floor.clone().recipient()),
            dispatcher: Some(floor.recipient()),
            clock: clock.clone(),
            bell: bell.clone(),
        };
        let herald = start(&parts);
        Self { broker, below, clock, bell, herald, registry, parts }
    }

    pub fn below(&self) -> MutexGuard<'_, Below> {
        self.below.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another Herald follows.
    pub async fn restart(&mut self) {
        self.herald.send(Shutdown).await.unwrap();
        self.herald = start(&self.parts);
    }

    pub async fn declare(&self, destinations: Vec<Destination>) {
        self.become_known(RegistrySnapshot::clone(&snapshot(destinations))).await;
    }

    pub async fn become_known(&self, snapshot: RegistrySnapshot) {
        self.registry.send(Become(Arc::new(snapshot))).await.unwrap();
        self.bell.ring();
    }

    pub async fn observe(&self) -> HeraldObservation {
        match self.herald.send(Observe).await.unwrap() {
            Observation::Herald(seen) => seen,
            other => panic!("{other:?}"),
        }
    }

    /// The states that a destination was told with, in order: word and number.
    pub fn states(&self, alias: &str) -> Vec<(String, u64)> {
        let topic = format!("tidegate/destinations/{alias}/state");
        let all = self.broker.announced().into_iter().filter(|it| it.topic == topic);
        all.map(|it| (word(&it), json(&it)["seq"].as_u64().unwrap())).collect()
    }

    /// The present word of a destination, as somebody who subscribes now hears it.
    pub fn word(&self, alias: &str) -> Option<String> {
        self.broker.retained(&format!("tidegate/destinations/{alias}/state")).map(|it| word(&it))
    }
}

fn start(parts: &HeraldParts) -> Addr<Herald> {
    Running::start(Herald::new(parts.clone(), DeathWatch::unwatched("herald"))).0
}

pub fn json(announcement: &Announcement) -> serde_json::Value {
    serde_json::from_slice(&announcement.payload).unwrap()
}

fn word(announcement: &Announcement) -> String {
    json(announcement)["state"].as_str().unwrap().to_owned()
}

pub fn load(alias: &str) -> DestinationLoad {
    DestinationLoad {
        destination: alias.parse().unwrap(),
        queued: 1,
        held: 0,
        parked: 0,
        dead: 0,
        delivered: 0,
        waiting_bytes: 0,
        due_in_ms: 0,
        snoozed_ms: 0,
        last_failure_ago_ms: None,
        last_success_ago_ms: None,
        paused: false,
        signal: None,
        urgent: 0,
        break_glass: 0,
        refused_waiting: 0,
        throughput: Throughput::default(),
        failures: 0,
        last_error: None,
        everything_refused: false,
        fresh_circuits_last_hour: 0,
        oldest_age_ms: None,
    }
}

pub fn courier(alias: &str) -> CourierObservation {
    CourierObservation {
        destination: alias.parse().unwrap(),
        lanes: 1,
        lanes_allowed: 1,
        mode: tidegate_schemas::dispatch::Mode::Full,
        in_flight: 1,
        delivered: 0,
    }
}

/// Lets virtual time pass.
pub async fn pass(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}
