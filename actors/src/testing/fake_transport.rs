//! Onion services that a test commands: up or down, slow, refusing; every attempt is written down.

use crate::ports::{
    clock::Clock,
    transport::{CircuitId, Isolation, Lane, Target, Transport},
};
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tidegate_schemas::{
    clock::ConsensusTimes,
    id::DestinationId,
    outcome::DeliveryError,
    view::UplinkStatus,
    wire::{WireAnswer, WireRequest},
};
use tokio::time::Instant;

/// What a service answers to a request; `None` is 200.
pub type Answer = Arc<dyn Fn(&WireRequest) -> Option<Result<u16, DeliveryError>> + Send + Sync>;

/// One request that a service got.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// Whose service.
    pub destination: DestinationId,
    /// On which circuit.
    pub isolation: Isolation,
    /// When it began, by the wall clock.
    pub at: Timestamp,
    /// When it began, by the monotonic clock.
    pub on: Instant,
    /// How long it took.
    pub took: Duration,
    /// What.
    pub request: WireRequest,
    /// What was answered.
    pub outcome: Result<u16, DeliveryError>,
}

/// The transport.
pub struct FakeTransport {
    world: Arc<Mutex<World>>,
    clock: Arc<dyn Clock>,
}

struct World {
    status: UplinkStatus,
    consensus: Option<ConsensusTimes>,
    down: HashMap<DestinationId, DeliveryError>,
    answers: HashMap<DestinationId, Answer>,
    latency: Duration,
    attempts: Vec<Attempt>,
    opened: Vec<(DestinationId, Isolation, Timestamp)>,
    opened_on: Vec<Instant>,
    panics_left: u32,
    hangs_up: bool,
    circuits: HashMap<Isolation, u64>,
    circuits_built: u64,
}

fn lock(world: &Mutex<World>) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FakeTransport {
    /// Tor is ready, every service is up and answers 200 after 10 ms.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let world = World {
            status: UplinkStatus::Ready,
            consensus: None,
            down: HashMap::new(),
            answers: HashMap::new(),
            latency: Duration::from_millis(10),
            attempts: Vec::new(),
            opened: Vec::new(),
            opened_on: Vec::new(),
            panics_left: 0,
            hangs_up: false,
            circuits: HashMap::new(),
            circuits_built: 0,
        };
        Self { world: Arc::new(Mutex::new(world)), clock }
    }
    /// How Tor stands.
    pub fn set_status(&self, status: UplinkStatus) {
        lock(&self.world).status = status;
    }
    /// What time Tor tells.
    pub fn set_consensus(&self, times: ConsensusTimes) {
        lock(&self.world).consensus = Some(times);
    }
    /// A service goes down: it can't be reached, for this reason.
    pub fn take_down(&self, destination: &DestinationId, error: DeliveryError) {
        lock(&self.world).down.insert(destination.clone(), error);
    }
    /// A service is back.
    pub fn bring_up(&self, destination: &DestinationId) {
        lock(&self.world).down.remove(destination);
    }
    /// What a service answers from now on.
    pub fn answer(&self, destination: &DestinationId, answer: Answer) {
        lock(&self.world).answers.insert(destination.clone(), answer);
    }
    /// How long a connection and an answer take.
    pub fn set_latency(&self, latency: Duration) {
        lock(&self.world).latency = latency;
    }
    /// Whether services end the circuit after each answer; the next lane gets another one, whatever its isolation.
    pub fn set_hangs_up(&self, hangs_up: bool) {
        lock(&self.world).hangs_up = hangs_up;
    }
    /// Circuits that were built so far.
    #[must_use]
    pub fn circuits_built(&self) -> u64 {
        lock(&self.world).circuits_built
    }
    /// The next so many exchanges panic.
    pub fn panic_next(&self, exchanges: u32) {
        lock(&self.world).panics_left = exchanges;
    }
    /// Every request so far.
    #[must_use]
    pub fn attempts(&self) -> Vec<Attempt> {
        lock(&self.world).attempts.clone()
    }
    /// Every lane that was asked for so far.
    #[must_use]
    pub fn opened(&self) -> Vec<(DestinationId, Isolation, Timestamp)> {
        lock(&self.world).opened.clone()
    }
}

impl FakeTransport {
    /// When each of those lanes was asked for, by the monotonic clock.
    #[must_use]
    pub fn opened_on(&self) -> Vec<Instant> {
        lock(&self.world).opened_on.clone()
    }
}

struct FakeLane {
    world: Arc<Mutex<World>>,
    clock: Arc<dyn Clock>,
    destination: DestinationId,
    isolation: Isolation,
    circuit: CircuitId,
    open: bool,
}

impl Lane for FakeLane {
    fn exchange<'a>(&'a mut self, request: WireRequest) -> BoxFuture<'a, Result<WireAnswer, DeliveryError>> {
        Box::pin(async move {
            let (at, on) = (self.clock.now(), Instant::now());
            let (latency, panics) = {
                let mut world = lock(&self.world);
                let panics = world.panics_left > 0;
                world.panics_left = world.panics_left.saturating_sub(1);
                (world.latency, panics)
            };
            assert!(!panics, "on purpose");
            tokio::time::sleep(latency).await;
            let outcome = {
                let world = lock(&self.world);
                let scripted = world.answers.get(&self.destination).and_then(|answer| answer(&request));
                match (world.down.get(&self.destination), scripted) {
                    (Some(_), _) => Err(DeliveryError::ConnectionLost),
                    (None, Some(outcome)) => outcome,
                    (None, None) => Ok(200),
                }
            };
            let (destination, isolation) = (self.destination.clone(), self.isolation);
            lock(&self.world).attempts.push(Attempt {
                destination,
                isolation,
                at,
                on,
                took: on.elapsed(),
                request,
                outcome,
            });
            self.open = outcome.is_ok() && !lock(&self.world).hangs_up;
            if !self.open {
                lock(&self.world).circuits.remove(&self.isolation);
            }
            outcome.map(|status| WireAnswer { status, headers: vec![], body: bytes::Bytes::new() })
        })
    }

    fn is_open(&self) -> bool {
        self.open
    }

    fn circuit(&self) -> Option<CircuitId> {
        Some(self.circuit.clone())
    }
}

impl Transport for FakeTransport {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn status(&self) -> UplinkStatus {
        lock(&self.world).status.clone()
    }

    fn consensus(&self) -> Option<ConsensusTimes> {
        lock(&self.world).consensus
    }

    fn bootstrap(&self) -> BoxFuture<'static, Result<(), String>> {
        let world = Arc::clone(&self.world);
        Box::pin(async move {
            match &lock(&world).status {
                UplinkStatus::Ready => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
    }

    fn open(&self, target: Target, isolation: Isolation) -> BoxFuture<'static, Result<Box<dyn Lane>, DeliveryError>> {
        let (world, clock) = (Arc::clone(&self.world), Arc::clone(&self.clock));
        Box::pin(async move {
            lock(&world).opened.push((target.destination.clone(), isolation, clock.now()));
            lock(&world).opened_on.push(Instant::now());
            let latency = lock(&world).latency;
            tokio::time::sleep(latency).await;
            if let Some(error) = lock(&world).down.get(&target.destination) {
                return Err(*error);
            }
            let destination = target.destination;
            let number = {
                let mut world = lock(&world);
                let next = world.circuits_built + 1;
                let number = *world.circuits.entry(isolation).or_insert(next);
                world.circuits_built = world.circuits_built.max(number);
                number
            };
            let circuit = CircuitId(number.to_string());
            Ok(Box::new(FakeLane { world, clock, destination, isolation, circuit, open: true }) as Box<dyn Lane>)
        })
    }
}
