//! The whole list under the real supervisor, on fakes alone and open to every fault: devices keep publishing to several
//! destinations, onion services take what comes, a room hears of it. Under paused time, on one thread.

use super::{
    fake_room::FakeRoom,
    fake_source::FakeSource,
    fake_transport::FakeTransport,
    faults::Faults,
    faulty_ports::Faulty,
    memory_archive::MemoryArchive,
    memory_registry::MemoryRegistry,
    memory_store::MemoryStore,
    seeded_entropy::SeededEntropy,
    sim_clock::SimClock,
    toy_check::ToyCheck,
    toy_registry::{declared_cell, destination},
};
use crate::{
    handles::Handles,
    list::{self, Parts},
    outbox::{Lease, Limits, OutboxParts},
    ports::{clock::Clock, ledger_archive::LedgerArchive, outbox_store::OutboxStore, transport::Transport},
    registry::RegistryParts,
    supervision::{Bells, Drain, Gateway, GatewayRun, GatewayStatus, GetStatus, Options},
    uplink,
};
use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    sync::Arc,
    time::Duration,
};
use tidegate_schemas::{
    agreement::{Destination, RetryPolicy, ServiceAgreement},
    clock::ConsensusTimes,
    id::DestinationId,
    messages::{gateway::Observe, outbox::Loads, registry::Declared},
    route::{IdSource, PayloadHandling, Route, Routes},
    tidings::Tidings,
    view::{DispatcherObservation, Observation, OutboxObservation},
    wire::{self, ReceivedRequest, WireFormat},
};
use tokio::{
    task::AbortHandle,
    time::{Instant, sleep, timeout},
};

/// Destinations, each with a format of its own.
pub const DESTINATIONS: [(&str, WireFormat); 3] =
    [("ward", WireFormat::Raw), ("lab", WireFormat::Cloudevents), ("home", WireFormat::CloudeventsBatch)];
/// Devices, each of which publishes to all destinations.
const DEVICES: u64 = 5;
/// How often a test looks whether what it waits for has come.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What a world is made of.
pub struct Setup {
    /// The wall clock.
    pub clock: Arc<SimClock>,
    /// Who is agreed with.
    pub destinations: Vec<Destination>,
    /// How often a device publishes.
    pub publish_every: Duration,
    /// How often Tor and the clock are looked at, and actors at the least: weeks pass quicker with a longer time.
    pub look_every: Duration,
}

/// The world.
pub struct World {
    /// The faults.
    pub faults: Faults,
    /// The broker.
    pub source: FakeSource,
    /// The onion services.
    pub transport: Arc<FakeTransport>,
    /// The room.
    pub room: FakeRoom,
    /// The disk.
    pub store: Arc<MemoryStore>,
    /// The ledger's archive.
    pub archive: Arc<MemoryArchive>,
    /// The supervisor.
    pub gateway: GatewayRun<Handles>,
    parts: Parts,
    /// Where messages go, in turn.
    names: Vec<DestinationId>,
    published: Rc<Cell<u64>>,
    publisher: AbortHandle,
}

/// A delivery as a service saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Delivery {
    destination: DestinationId,
    id: String,
    body: String,
}

impl World {
    /// Everything starts, and a device publishes every so often.
    ///
    /// # Panics
    /// When the list can't be started.
    #[must_use]
    pub fn start(publish_every: Duration) -> Self {
        Self::with(Setup {
            clock: Arc::new(SimClock::at("2026-11-23T12:00:00Z".parse().expect("a time"))),
            destinations: DESTINATIONS.map(|(name, format)| destination(name, agreement(format))).to_vec(),
            publish_every,
            look_every: uplink::LOOK_EVERY,
        })
    }

    /// Everything starts, set up like this.
    ///
    /// # Panics
    /// When the list can't be started.
    #[must_use]
    pub fn with(setup: Setup) -> Self {
        let faults = Faults::install();
        let raw_clock: Arc<dyn Clock> = setup.clock;
        let source = FakeSource::new();
        let transport = Arc::new(FakeTransport::new(Arc::clone(&raw_clock)));
        transport.set_consensus(ConsensusTimes {
            valid_after: raw_clock.now(),
            valid_until: raw_clock.now() + jiff::SignedDuration::from_hours(3),
            fetched: true,
        });
        let room = FakeRoom::default();
        let store = Arc::new(MemoryStore::new(1));
        let archive = Arc::new(MemoryArchive::default());
        let bells = Bells::default();
        let clock: Arc<dyn Clock> = Faulty::new(raw_clock, &faults);
        let entropy = Faulty::new(Arc::new(SeededEntropy::new(1)), &faults);
        let names: Vec<DestinationId> = setup.destinations.iter().map(|destination| destination.id.clone()).collect();
        let parts = Parts {
            registry: RegistryParts {
                declared: declared_cell(setup.destinations, Routes(vec![route()])),
                check: Arc::new(ToyCheck(Arc::clone(&clock))),
                store: Faulty::new(Arc::new(MemoryRegistry::default()), &faults),
                clock: Arc::clone(&clock),
                entropy: entropy.clone(),
                bells: vec![bells.dispatcher.clone(), bells.subscriber.clone(), bells.herald.clone()],
            },
            outbox: OutboxParts {
                store: Faulty::new(Arc::clone(&store) as Arc<dyn OutboxStore>, &faults),
                lease: Lease::default(),
                archive: Some(Faulty::new(Arc::clone(&archive) as Arc<dyn LedgerArchive>, &faults)),
                clock,
                entropy,
                limits: Limits { receipting: true, ..Limits::default() },
                bells: bells.clone(),
            },
            source: Some(Faulty::new(Arc::new(source.clone()), &faults)),
            tidings: Arc::new(Tidings { receipts: true, ..Tidings::default() }),
            signals: false,
            transport: Faulty::new(Arc::clone(&transport) as Arc<dyn Transport>, &faults),
            room: Some(Faulty::new(Arc::new(room.clone()), &faults)),
            bells,
            look_every: setup.look_every,
        };
        let options = list::options(&parts);
        let options = Options { observe_every: options.observe_every.max(setup.look_every), ..options };
        let gateway = Gateway::start(list::children(&parts), options).expect("a sound list");
        let published = Rc::new(Cell::new(0));
        let publishing = publish(source.clone(), Rc::clone(&published), names.clone(), setup.publish_every);
        let publisher = actix::spawn(publishing).abort_handle();
        Self { faults, source, transport, room, store, archive, gateway, parts, names, published, publisher }
    }

    /// Messages published so far; their bodies are their numbers, from 0.
    #[must_use]
    pub fn published(&self) -> u64 {
        self.published.get()
    }

    /// Nobody publishes any more.
    pub fn hush(&self) {
        self.publisher.abort();
    }

    /// What the config files say.
    ///
    /// # Panics
    /// When somebody panicked while changing it.
    #[must_use]
    pub fn declared(&self) -> Arc<Declared> {
        Arc::clone(&self.parts.registry.declared.lock().expect("it is only replaced"))
    }

    /// The addresses of the lines that are up.
    #[must_use]
    pub fn handles(&self) -> Handles {
        self.gateway.view.borrow().handles.clone()
    }

    /// How the lines are.
    ///
    /// # Panics
    /// When the supervisor is gone.
    pub async fn status(&self) -> GatewayStatus {
        self.gateway.addr.send(GetStatus).await.expect("the gateway lives")
    }

    /// What the Outbox says; `None` while it is down.
    pub async fn outbox(&self) -> Option<OutboxObservation> {
        match self.handles().outbox?.send(Observe).await {
            Ok(Observation::Outbox(seen)) => Some(seen),
            _ => None,
        }
    }

    /// What the Dispatcher says; `None` while it is down.
    pub async fn dispatcher(&self) -> Option<DispatcherObservation> {
        match self.handles().dispatcher?.send(Observe).await {
            Ok(Observation::Dispatcher(seen)) => Some(seen),
            _ => None,
        }
    }

    /// The line and all that stand on it, directly or not, as the list says.
    #[must_use]
    pub fn fall_together(&self, fallen: &[String]) -> BTreeSet<String> {
        let mut together: BTreeSet<String> = fallen.iter().cloned().collect();
        for line in list::children(&self.parts) {
            if line.needs.iter().chain(line.uses).any(|below| together.contains(*below)) {
                together.insert(line.name.to_owned());
            }
        }
        together
    }

    /// Waits for this, at most so long.
    ///
    /// # Panics
    /// When it does not come about.
    pub async fn until(&self, what: &str, limit: Duration, mut is: impl AsyncFnMut(&Self) -> bool) {
        let deadline = Instant::now() + limit;
        while !is(self).await {
            if Instant::now() > deadline {
                let told = self.room.told().len();
                panic!(
                    "not within {limit:?}: {what}; {} published, {} kept, {told} told\n{:?}\n{:?}\n{:?}",
                    self.published(),
                    self.source.kept(),
                    self.outbox().await,
                    self.dispatcher().await,
                    self.status().await
                );
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Whether all that was published is delivered by the account, acknowledged to the broker, and told to the room.
    pub async fn is_settled(&self) -> bool {
        let Some(outbox) = self.outbox().await else { return false };
        outbox.account.delivered == self.published() && self.source.kept() == 0 && outbox.reports_pending == 0
    }

    /// Nobody publishes any more; waits until everything is settled, checks every promise, and drains.
    ///
    /// # Panics
    /// When a promise is broken.
    pub async fn settle(mut self, place: &str) {
        self.publisher.abort();
        let limit = Duration::from_secs(1_200);
        self.until(&format!("{place}: everything is settled"), limit, Self::is_settled).await;
        let archived = async |world: &Self| world.archive.whole().last_no == world.published();
        self.until(&format!("{place}: everything is archived"), limit, archived).await;
        let whole = self.archive.whole();
        assert_eq!((whole.lines, whole.first_no, whole.lost), (self.published(), 1, 0), "{place}: once and in order");
        let account = self.outbox().await.expect("the outbox is up");
        assert_eq!((account.gap, account.account.accepted), (0, self.published()), "{place}: {account:?}");
        assert_eq!(account.account.delivered, self.published(), "{place}: {account:?}");
        assert_eq!(self.source.acks_out_of_order(), 0, "{place}");
        self.check_deliveries(place);
        self.check_reports(place);
        for load in self.handles().outbox.expect("the outbox is up").send(Loads).await.expect("an answer") {
            assert_eq!((load.queued, load.parked, load.dead), (0, 0, 0), "{place}: {load:?}");
        }
        self.drain(place).await;
    }

    /// The gateway ends in order.
    ///
    /// # Panics
    /// When it does not.
    pub async fn drain(&mut self, place: &str) {
        self.gateway.addr.send(Drain).await.expect("the gateway lives");
        let ended = timeout(Duration::from_secs(20), self.gateway.ended()).await;
        assert_eq!(ended.expect("the drain ends").code, 0, "{place}");
    }

    fn deliveries(&self) -> Vec<Delivery> {
        let mut all = Vec::new();
        for attempt in self.transport.attempts().iter().filter(|attempt| attempt.outcome == Ok(200)) {
            let request = &attempt.request;
            let headers: Vec<_> =
                request.headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
            let body = bytes::Bytes::copy_from_slice(request.body.reveal());
            let received =
                ReceivedRequest { method: request.method, path: &request.path, headers: &headers, body: &body };
            for event in wire::decode(received).expect("readings") {
                all.push(Delivery {
                    destination: attempt.destination.clone(),
                    id: event.id.expect("an id").to_string(),
                    body: String::from_utf8(event.body.reveal().to_vec()).expect("a number"),
                });
            }
        }
        all
    }

    fn check_deliveries(&self, place: &str) {
        let numbers = self.check_identity_and_order(place);
        assert_eq!(numbers, (0..self.published()).collect::<Vec<_>>(), "{place}: each arrived");
    }

    /// What arrived, arrived at its destination, under one id, in its device's order; what came again came under the same id. Their
    /// numbers.
    ///
    /// # Panics
    /// When one did not.
    pub fn check_identity_and_order(&self, place: &str) -> Vec<u64> {
        let mut id_of = BTreeMap::<u64, String>::new();
        let mut body_of = BTreeMap::<String, u64>::new();
        let mut last = BTreeMap::<u64, u64>::new();
        for delivery in self.deliveries() {
            let number: u64 = delivery.body.parse().expect("a number");
            assert_eq!(delivery.destination, self.names[place_of(number, self.names.len())], "{place}");
            let known = body_of.entry(delivery.id.clone()).or_insert(number);
            assert_eq!(*known, number, "{place}: one id for two messages");
            if let Some(before) = id_of.insert(number, delivery.id.clone()) {
                assert_eq!(before, delivery.id, "{place}: message {number} was taken into custody twice");
            } else {
                let stream = number % (DEVICES * self.names.len() as u64);
                let before = last.insert(stream, number);
                assert!(before < Some(number), "{place}: {number} came after {before:?} of the same device (OR-1)");
            }
        }
        id_of.into_keys().collect()
    }

    /// The room was told of each end once, in order.
    fn check_reports(&self, place: &str) {
        assert_eq!(self.room.told(), (1..=self.published()).collect::<Vec<_>>(), "{place}: told once and in order");
        let events = self.room.events();
        let ids: BTreeSet<String> =
            events.iter().flat_map(|event| event.batch.reports.iter().map(|report| report.id.to_string())).collect();
        assert_eq!(ids.len() as u64, self.published(), "{place}: a report for each message");
    }
}

async fn publish(source: FakeSource, published: Rc<Cell<u64>>, names: Vec<DestinationId>, every: Duration) {
    loop {
        let number = published.get();
        let to = &names[place_of(number, names.len())];
        source.publish(&format!("{to}/device-{}/pulse", number % DEVICES), number.to_string());
        published.set(number + 1);
        sleep(every).await;
    }
}

/// Messages go to the destinations in turn.
fn place_of(number: u64, destinations: usize) -> usize {
    usize::try_from(number % destinations as u64).unwrap_or_default()
}

/// Short retries and a generous budget of circuits: what a test does not set must not get in its way.
fn agreement(format: WireFormat) -> ServiceAgreement {
    ServiceAgreement {
        format,
        retry: RetryPolicy { steps: vec![jiff::SignedDuration::from_secs(5)], jitter: 0.0 },
        fresh_circuits_per_hour: 600,
        ..ServiceAgreement::default()
    }
}

fn route() -> Route {
    Route {
        filter: "{destination}/{device}/pulse".parse().expect("a filter"),
        device: IdSource::Capture,
        destination: IdSource::Capture,
        allow: None,
        payload: PayloadHandling::Opaque,
        retained: false,
        priority: tidegate_schemas::submission::Priority::Normal,
    }
}
