//! One round of the Dispatcher: look at what is due, open and close couriers, and know when to look again.

use super::{DispatcherParts, FinishRequest, TICK_MAX};
use crate::{
    courier::{Courier, CourierParts, IsolationMemory},
    supervision::{Death, DeathWatch, Exit, Intensity, RestartBudget, Running, TaskEnd, Verdict, ask},
};
use actix::prelude::*;
use jiff::{SignedDuration, Timestamp};
use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    rc::Rc,
    sync::Arc,
    time::Duration,
};
use tidegate_schemas::{
    agreement::{Circumstances, Destination, Evaluation},
    id::DestinationId,
    messages::{
        courier::{Close, Wake},
        gateway::Observe,
        outbox::Loads,
        registry::{Current, RegistrySnapshot},
        uplink::Status,
    },
    view::{CourierObservation, DestinationLoad, DispatcherObservation, Observation, UplinkStatus},
};
use tokio::{
    sync::{oneshot, watch},
    time::Instant,
};

/// How long a line below may take to answer.
const ASK_LIMIT: Duration = Duration::from_secs(10);
/// Least time from a courier's start to the next one of the same destination after it ended.
const REOPEN_MIN: Duration = Duration::from_secs(1);
/// Time until a destination whose couriers keep falling is tried again.
const SUSPENDED: Duration = Duration::from_secs(900);
/// How often a courier whose mailbox was full is told to close again.
const FINISH_LOOK: Duration = Duration::from_millis(100);

/// The part of an opening over which starts are spread.
const START_SHARE: f64 = 0.05;
/// Longest that a start waits for that.
const START_SPREAD_MAX: SignedDuration = SignedDuration::from_secs(600);

/// A courier that is out.
struct Out {
    address: Addr<Courier>,
    death: Death,
    destination: Arc<Destination>,
    started: Instant,
    closing: bool,
    /// Dropped with this: ends the courier.
    _lifeline: watch::Sender<()>,
}

/// What is remembered of a destination between couriers.
struct Memory {
    isolations: IsolationMemory,
    budget: RestartBudget,
    not_before: Instant,
    suspended: bool,
    opening: Option<Opening>,
}

/// An opening that is under way, and the start that was drawn for it.
#[derive(Clone, Copy)]
struct Opening {
    closes: Timestamp,
    starts: Timestamp,
}

struct Rounds {
    parts: DispatcherParts,
    seen: Rc<RefCell<DispatcherObservation>>,
    out: BTreeMap<DestinationId, Out>,
    memory: HashMap<DestinationId, Memory>,
    generation: u64,
}

/// Rounds, until it is asked to finish; then it waits to be dropped.
pub(super) async fn run(
    parts: DispatcherParts,
    seen: Rc<RefCell<DispatcherObservation>>,
    mut asked: oneshot::Receiver<FinishRequest>,
) {
    let bell = parts.bell.clone();
    let mut rounds = Rounds { parts, seen, out: BTreeMap::new(), memory: HashMap::new(), generation: 0 };
    loop {
        let round = async {
            let wait = rounds.look().await.unwrap_or(Duration::from_secs(1));
            bell.wait_at_most(wait.clamp(Duration::from_millis(1), TICK_MAX)).await;
        };
        tokio::select! {
            () = round => {}
            Ok(done) = &mut asked => {
                rounds.finish().await;
                // The actor may be gone already.
                let _ = done.send(());
                return std::future::pending().await;
            }
        }
    }
}

impl Rounds {
    /// One look. Returns how long until the next one is needed; `None` when a line below did not answer.
    async fn look(&mut self) -> Option<Duration> {
        self.bury();
        let snapshot = tokio::time::timeout(ASK_LIMIT, self.parts.registry.send(Current)).await.ok()?.ok()?;
        let loads = ask(&self.parts.outbox, Loads, ASK_LIMIT).await.ok()?;
        let ready = self.uplink_ready().await;
        let next = self.reconcile(&snapshot, &loads, ready);
        self.show().await;
        Some(next)
    }

    /// Opens nothing more, and waits until the couriers have ended: each when what it has under way is settled.
    async fn finish(&mut self) {
        self.bury();
        while !self.out.is_empty() {
            self.out.values_mut().for_each(close);
            self.parts.bell.wait_at_most(FINISH_LOOK).await;
            self.bury();
        }
    }

    async fn uplink_ready(&self) -> bool {
        let Some(uplink) = &self.parts.uplink else { return false };
        let answer = tokio::time::timeout(ASK_LIMIT, uplink.send(Status)).await;
        matches!(answer, Ok(Ok(UplinkStatus::Ready)))
    }

    /// Takes note of couriers that have ended.
    fn bury(&mut self) {
        let ended: Vec<(DestinationId, Exit)> =
            self.out.iter().filter_map(|(id, out)| out.death.peek().map(|exit| (id.clone(), exit))).collect();
        for (id, exit) in ended {
            let Some(out) = self.out.remove(&id) else { continue };
            let memory = memory_of(&mut self.memory, &id);
            memory.not_before = out.started + REOPEN_MIN;
            if is_fall(&exit) {
                tracing::error!(destination = %id, %exit, "a courier fell");
                match memory.budget.fell(Instant::now()) {
                    Verdict::Restart { after } => memory.not_before = Instant::now() + after,
                    Verdict::Exhausted => {
                        memory.suspended = true;
                        memory.not_before = Instant::now() + SUSPENDED;
                    }
                }
            }
        }
    }

    fn reconcile(&mut self, snapshot: &RegistrySnapshot, loads: &[DestinationLoad], ready: bool) -> Duration {
        let now = self.parts.clock.now();
        let trusted = self.parts.clock.trusted();
        let mut next = TICK_MAX;
        self.close_what_changed(snapshot);
        for load in loads {
            let Some(registered) = snapshot.destinations.get(&load.destination) else { continue };
            let destination = &registered.destination;
            let evaluation = destination.agreement.evaluate(&Circumstances {
                at: now,
                clock_trusted: trusted,
                paused: load.paused,
                signal: None,
            });
            let open = evaluation.may_start(now);
            if let Some(until) = evaluation.until {
                next = next.min(Duration::try_from(until.duration_since(now)).unwrap_or(Duration::ZERO));
            }
            let starts_in = if open { self.starts_in(&load.destination, &evaluation, now) } else { Duration::ZERO };
            if let Some(out) = self.out.get_mut(&load.destination) {
                if !open {
                    close(out);
                } else if load.queued > 0 && load.due_in_ms.max(load.snoozed_ms) == 0 {
                    // A full mailbox means that it was woken already.
                    let _ = out.address.try_send(Wake);
                }
                continue;
            }
            if load.queued == 0 || !open {
                continue;
            }
            let not_before = memory_of(&mut self.memory, &load.destination).not_before;
            let wait = starts_in
                .max(Duration::from_millis(load.due_in_ms.max(load.snoozed_ms)))
                .max(not_before.saturating_duration_since(Instant::now()));
            if !wait.is_zero() {
                next = next.min(wait);
            } else if ready {
                let memory = memory_of(&mut self.memory, &load.destination);
                if std::mem::take(&mut memory.suspended) {
                    memory.budget.begin_probation(Instant::now());
                }
                self.open(Arc::new(destination.clone()));
            }
        }
        next
    }

    /// How long until the drawn start of this opening. One draw for each opening, whether anything waits or not, so that the hour at
    /// which many windows open brings no burst, and the start says nothing of the queue. What is always open starts at once.
    fn starts_in(&mut self, id: &DestinationId, evaluation: &Evaluation, now: Timestamp) -> Duration {
        let Some(closes) = evaluation.until else { return Duration::ZERO };
        let memory = memory_of(&mut self.memory, id);
        let opening = memory.opening.filter(|opening| opening.closes == closes).unwrap_or_else(|| {
            let spread = closes.duration_since(now).mul_f64(START_SHARE).min(START_SPREAD_MAX);
            let wait = spread.mul_f64(self.parts.entropy.unit());
            Opening { closes, starts: now.saturating_add(wait).unwrap_or(now) }
        });
        memory.opening = Some(opening);
        Duration::try_from(opening.starts.duration_since(now)).unwrap_or(Duration::ZERO)
    }

    /// A courier works by the agreement that it was opened with; a changed one gets a new courier.
    fn close_what_changed(&mut self, snapshot: &RegistrySnapshot) {
        for (id, out) in &mut self.out {
            let current = snapshot.destinations.get(id).map(|registered| &registered.destination);
            if current != Some(&*out.destination) {
                close(out);
            }
        }
    }

    fn open(&mut self, destination: Arc<Destination>) {
        self.generation += 1;
        let (watch, death) = DeathWatch::pair("courier", self.generation, self.parts.bell.clone());
        let (lifeline, held) = watch::channel(());
        let isolations = memory_of(&mut self.memory, &destination.id).isolations.clone();
        let parts = CourierParts {
            destination: Arc::clone(&destination),
            transport: Arc::clone(&self.parts.transport),
            outbox: self.parts.outbox.clone(),
            clock: Arc::clone(&self.parts.clock),
            entropy: Arc::clone(&self.parts.entropy),
            isolations,
            lifeline: held,
        };
        // As a line of the list is started; its end is the lifeline's matter, so nothing else of it is kept.
        let (address, _) = Running::start(Courier::new(parts, watch));
        let id = destination.id.clone();
        let started = Instant::now();
        self.out.insert(id, Out { address, death, destination, started, closing: false, _lifeline: lifeline });
    }

    async fn show(&self) {
        let mut couriers = Vec::new();
        for (id, out) in &self.out {
            // A courier that is too busy to answer is shown by its name alone.
            let mut seen = CourierObservation { destination: id.clone(), lanes: 0, in_flight: 0, delivered: 0 };
            if let Ok(Observation::Courier(observed)) = ask(&out.address, Observe, Duration::from_millis(200)).await {
                seen = observed;
            }
            couriers.push(seen);
        }
        let suspended = self.memory.iter().filter(|(_, m)| m.suspended).map(|(id, _)| id.clone()).collect();
        let rounds = self.seen.borrow().rounds + 1;
        *self.seen.borrow_mut() = DispatcherObservation { couriers, suspended, rounds };
    }
}

/// A courier ends by itself when its deliveries do; everything else is a fall.
fn is_fall(exit: &Exit) -> bool {
    !matches!(exit, Exit::Stopped | Exit::TaskEnded { end: TaskEnd::Returned, .. })
}

fn close(out: &mut Out) {
    if !out.closing {
        out.closing = out.address.try_send(Close).is_ok();
    }
}

fn memory_of<'m>(memory: &'m mut HashMap<DestinationId, Memory>, id: &DestinationId) -> &'m mut Memory {
    memory.entry(id.clone()).or_insert_with(|| Memory {
        isolations: IsolationMemory::default(),
        budget: RestartBudget::new(Intensity::default()),
        not_before: Instant::now(),
        suspended: false,
        opening: None,
    })
}
