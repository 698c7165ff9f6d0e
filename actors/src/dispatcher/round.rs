//! The rounds of the Dispatcher: look at what is due or has changed, open and close couriers, and know when to look again.
//!
//! A round looks at the destinations whose time has come ([`Wakes`]), whose load changed since the last round (the Outbox tells by
//! revision), and whose couriers ended; so it costs what is due, and not what exists. It looks at all of them at the start, at least
//! every `FULL_EVERY`, and when something changed that concerns all: what the Registry says, whether Tor is ready, whether the clock is
//! believed, or the clock itself (a step of the wall clock against the monotonic one).

use super::{DispatcherParts, FinishRequest, Question, TICK_MAX, memory::Memory, seen::Seen, wakes::Wakes};
use crate::{
    courier::{Courier, CourierParts},
    supervision::{Death, DeathWatch, Exit, Running, TaskEnd, ask},
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
    dispatch::{Decision, Door, Mode, Situation, decide, door},
    id::DestinationId,
    messages::{
        courier::{Close, Wake},
        dispatcher::Explained,
        outbox::{ChangedLoads, LoadsAt},
        registry::{Current, RegistrySnapshot},
        uplink::Status,
    },
    view::{DestinationLoad, UplinkStatus},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

/// How long a line below may take to answer.
const ASK_LIMIT: Duration = Duration::from_secs(10);
/// Least time from a courier's start to the next one of the same destination after it ended.
const REOPEN_MIN: Duration = Duration::from_secs(1);
/// How often a courier whose mailbox was full is told to close again.
const CLOSE_AGAIN: Duration = Duration::from_millis(100);
/// Least time between two looks at a destination that nothing but time asks for.
const LOOK_MIN: Duration = Duration::from_millis(10);
/// How often all destinations are looked at, whatever the index says.
const FULL_EVERY: Duration = Duration::from_secs(600);
/// The wall clock was set when it differs by more than this from where the monotonic clock expects it.
const CLOCK_STEP: SignedDuration = SignedDuration::from_secs(1);

/// A courier that is out.
struct Out {
    address: Addr<Courier>,
    death: Death,
    destination: Arc<Destination>,
    mode: Mode,
    started: Instant,
    closing: bool,
    /// Dropped with this: ends the courier.
    _lifeline: watch::Sender<()>,
}

/// What holds for all destinations in one round.
#[derive(Debug, Clone, Copy)]
struct Moment {
    wall: Timestamp,
    at: Instant,
    clock_trusted: bool,
    uplink_ready: bool,
}

impl Moment {
    /// When the wall clock will show this, if nobody sets it.
    fn instant_of(&self, time: Timestamp) -> Instant {
        let left = Duration::try_from(time.duration_since(self.wall)).unwrap_or(Duration::ZERO);
        self.at.checked_add(left.max(LOOK_MIN)).unwrap_or(self.at + FULL_EVERY)
    }

    fn evaluate(&self, destination: &Destination, load: &DestinationLoad) -> Evaluation {
        destination.agreement.evaluate(&Circumstances {
            at: self.wall,
            clock_trusted: self.clock_trusted,
            paused: load.paused,
            signal: load.signal,
        })
    }
}

struct Rounds {
    parts: DispatcherParts,
    seen: Rc<RefCell<Seen>>,
    out: BTreeMap<DestinationId, Out>,
    memory: HashMap<DestinationId, Memory>,
    generation: u64,
    wakes: Wakes,
    /// What the Registry said last.
    snapshot: Arc<RegistrySnapshot>,
    /// Up to where the changes of the Outbox are known.
    revision: u64,
    /// The last round.
    last: Option<Moment>,
    /// When all are looked at next.
    full_at: Instant,
    /// Since when (wall clock) somebody could have started what is open.
    began: Timestamp,
}

/// Rounds, until it is asked to finish; then it waits to be dropped.
pub(super) async fn run(
    parts: DispatcherParts,
    seen: Rc<RefCell<Seen>>,
    mut asked: oneshot::Receiver<FinishRequest>,
    mut questions: mpsc::Receiver<Question>,
) {
    let bell = parts.bell.clone();
    let mut rounds = Rounds::new(parts, seen);
    loop {
        let wait = tokio::select! {
            wait = rounds.look() => wait.unwrap_or(Duration::from_secs(1)),
            Ok(done) = &mut asked => return rounds.finish(done).await,
        };
        let until = Instant::now() + wait.clamp(Duration::from_millis(1), TICK_MAX);
        loop {
            tokio::select! {
                _ = bell.wait_at_most(until.saturating_duration_since(Instant::now())) => break,
                Some((destination, to)) = questions.recv() => drop(to.send(rounds.explain(&destination).await)),
                Ok(done) = &mut asked => return rounds.finish(done).await,
            }
        }
    }
}

impl Rounds {
    fn new(parts: DispatcherParts, seen: Rc<RefCell<Seen>>) -> Self {
        let began = parts.clock.now();
        Self {
            parts,
            seen,
            out: BTreeMap::new(),
            memory: HashMap::new(),
            generation: 0,
            wakes: Wakes::default(),
            snapshot: Arc::default(),
            revision: 0,
            last: None,
            full_at: Instant::now(),
            began,
        }
    }

    /// One look. Returns how long until the next one is needed; `None` when a line below did not answer.
    async fn look(&mut self) -> Option<Duration> {
        let began = Instant::now();
        let ended = self.bury();
        let Some((snapshot, moment)) = self.moment().await else {
            // Whatever ended is found again by looking at all.
            self.revision = 0;
            return None;
        };
        let all = self.concerns_all(snapshot, &moment);
        let mut also = self.wakes.due(moment.at);
        also.extend(ended);
        let since = if all { 0 } else { self.revision };
        let Ok(LoadsAt { revision, loads }) = ask(&self.parts.outbox, ChangedLoads { since, also }, ASK_LIMIT).await
        else {
            self.revision = 0;
            return None;
        };
        self.revision = revision;
        for load in &loads {
            self.reconcile(load, &moment);
        }
        let mut seen = self.seen.borrow_mut();
        seen.rounds += 1;
        seen.looked_at += loads.len() as u64;
        seen.took += began.elapsed();
        let next = self.wakes.next().map_or(self.full_at, |next| next.min(self.full_at));
        Some(next.saturating_duration_since(Instant::now()))
    }

    async fn moment(&self) -> Option<(Arc<RegistrySnapshot>, Moment)> {
        let snapshot = tokio::time::timeout(ASK_LIMIT, self.parts.registry.send(Current)).await.ok()?.ok()?;
        let uplink_ready = self.uplink_ready().await;
        let (wall, clock_trusted) = (self.parts.clock.now(), self.parts.clock.trusted());
        Some((snapshot, Moment { wall, at: Instant::now(), clock_trusted, uplink_ready }))
    }

    async fn uplink_ready(&self) -> bool {
        let Some(uplink) = &self.parts.uplink else { return false };
        let answer = tokio::time::timeout(ASK_LIMIT, uplink.send(Status)).await;
        matches!(answer, Ok(Ok(UplinkStatus::Ready)))
    }

    /// Takes note of what is new for every destination. True when all have to be looked at.
    fn concerns_all(&mut self, snapshot: Arc<RegistrySnapshot>, moment: &Moment) -> bool {
        let agreements_changed = !Arc::ptr_eq(&self.snapshot, &snapshot);
        if agreements_changed {
            self.snapshot = snapshot;
            self.close_what_changed();
        }
        let stepped = self.last.is_some_and(|last| {
            let by_wall = moment.wall.duration_since(last.wall);
            let by_monotonic = SignedDuration::try_from(moment.at - last.at).unwrap_or(SignedDuration::MAX);
            by_wall.saturating_sub(by_monotonic).abs() > CLOCK_STEP
        });
        if stepped {
            self.began = moment.wall;
            self.memory.values_mut().for_each(Memory::forget_opening);
        }
        let circumstances = |moment: &Moment| (moment.clock_trusted, moment.uplink_ready);
        let changed = self.last.is_none_or(|last| circumstances(&last) != circumstances(moment));
        self.last = Some(*moment);
        let all = agreements_changed || stepped || changed || self.revision == 0 || moment.at >= self.full_at;
        if all {
            self.full_at = moment.at + FULL_EVERY;
        }
        all
    }

    /// A courier works by the agreement that it was opened with; a changed one gets a new courier. Who is no destination any more is
    /// forgotten.
    fn close_what_changed(&mut self) {
        let destinations = &self.snapshot.destinations;
        for (id, out) in &mut self.out {
            let current = destinations.get(id).map(|registered| &registered.destination);
            if current != Some(&*out.destination) {
                close(out);
            }
        }
        self.memory.retain(|id, _| destinations.contains_key(id));
        let mut seen = self.seen.borrow_mut();
        seen.suspended.retain(|id| destinations.contains_key(id));
        seen.waiting.retain(|id, _| destinations.contains_key(id));
    }

    /// Takes note of couriers that have ended, and says whose they were.
    fn bury(&mut self) -> Vec<DestinationId> {
        let ended: Vec<(DestinationId, Exit)> =
            self.out.iter().filter_map(|(id, out)| out.death.peek().map(|exit| (id.clone(), exit))).collect();
        let mut seen = self.seen.borrow_mut();
        for (id, exit) in &ended {
            let Some(out) = self.out.remove(id) else { continue };
            seen.couriers.remove(id);
            let memory = self.memory.entry(id.clone()).or_default();
            memory.rest_until(out.started + REOPEN_MIN);
            if is_fall(exit) {
                tracing::error!(destination = %id, %exit, "a courier fell");
                if memory.fell(Instant::now()) {
                    seen.suspended.insert(id.clone());
                }
            }
        }
        ended.into_iter().map(|(id, _)| id).collect()
    }

    /// Brings one destination to where it should be: the one place that opens and closes.
    fn reconcile(&mut self, load: &DestinationLoad, moment: &Moment) {
        let id = &load.destination;
        let snapshot = Arc::clone(&self.snapshot);
        let Some(registered) = snapshot.destinations.get(id) else {
            self.wakes.set(id, None);
            return;
        };
        let destination = &registered.destination;
        let evaluation = moment.evaluate(destination, load);
        let start = self.drawn_start(id, &evaluation, load).filter(|start| moment.wall < *start);
        if let Some(out) = self.out.get_mut(id) {
            let at = go_on(out, &evaluation, load, moment, start);
            self.wakes.set(id, at);
            return;
        }
        let decision = self.decide(destination, &evaluation, load, moment);
        let mut seen = self.seen.borrow_mut();
        match decision {
            Decision::Go { mode } => {
                seen.waiting.remove(id);
                seen.suspended.remove(id);
                drop(seen);
                self.open(Arc::new(destination.clone()), mode, moment.at);
                self.wakes.set(id, changes_at(&evaluation, moment));
            }
            Decision::Wait { chain, next_look } => {
                match chain.first().filter(|_| load.queued > 0) {
                    Some(reason) => drop(seen.waiting.insert(id.clone(), *reason)),
                    None => drop(seen.waiting.remove(id)),
                }
                self.wakes.set(id, next_look.map(|time| moment.instant_of(time)));
            }
        }
    }

    /// The first start of the present opening. Under a signal nothing is spread, and its beginning is none of the opening.
    fn drawn_start(
        &mut self,
        id: &DestinationId,
        evaluation: &Evaluation,
        load: &DestinationLoad,
    ) -> Option<Timestamp> {
        if load.signal.is_some_and(|signal| signal.ready) {
            return None;
        }
        let memory = self.memory.entry(id.clone()).or_default();
        memory.drawn_start(evaluation, self.began, &*self.parts.entropy)
    }

    /// The decision, and the memory that it needs: the same for a round and for whoever asks.
    fn decide(
        &mut self,
        destination: &Destination,
        evaluation: &Evaluation,
        load: &DestinationLoad,
        moment: &Moment,
    ) -> Decision {
        let drawn_start = self.drawn_start(&destination.id, evaluation, load);
        let memory = self.memory.entry(destination.id.clone()).or_default();
        decide(&Situation {
            agreement: &destination.agreement,
            evaluation,
            load,
            uplink_ready: moment.uplink_ready,
            now: moment.wall,
            drawn_start,
            couriers: memory.couriers(moment.at),
        })
    }

    /// What the next round would do with this destination, and why.
    async fn explain(&mut self, id: &DestinationId) -> Option<Explained> {
        let (snapshot, moment) = self.moment().await?;
        let also = vec![id.clone()];
        let loads = ask(&self.parts.outbox, ChangedLoads { since: u64::MAX, also }, ASK_LIMIT).await.ok()?.loads;
        let (registered, load) = (snapshot.destinations.get(id)?, loads.into_iter().next()?);
        let evaluation = moment.evaluate(&registered.destination, &load);
        let decision = self.decide(&registered.destination, &evaluation, &load, &moment);
        let served = self.out.get(id).filter(|out| !out.closing && out.death.peek().is_none()).map(|out| out.mode);
        Some(Explained { decision, evaluation, load, served })
    }

    fn open(&mut self, destination: Arc<Destination>, mode: Mode, now: Instant) {
        self.generation += 1;
        let (watch, death) = DeathWatch::pair("courier", self.generation, self.parts.bell.clone());
        let (lifeline, held) = watch::channel(());
        let memory = self.memory.entry(destination.id.clone()).or_default();
        memory.opened(now);
        let parts = CourierParts {
            destination: Arc::clone(&destination),
            mode,
            transport: Arc::clone(&self.parts.transport),
            outbox: self.parts.outbox.clone(),
            clock: Arc::clone(&self.parts.clock),
            entropy: Arc::clone(&self.parts.entropy),
            isolations: memory.isolations.clone(),
            lifeline: held,
        };
        let id = destination.id.clone();
        let courier = Courier::new(parts, watch);
        self.seen.borrow_mut().couriers.insert(id.clone(), courier.seen());
        // As a line of the list is started; its end is the lifeline's matter, so nothing else of it is kept.
        let (address, _) = Running::start(courier);
        let out = Out { address, death, destination, mode, started: now, closing: false, _lifeline: lifeline };
        self.out.insert(id, out);
    }

    /// Opens nothing more, and waits until the couriers have ended: each when what it has under way is settled.
    async fn finish(mut self, done: oneshot::Sender<()>) {
        self.bury();
        while !self.out.is_empty() {
            self.out.values_mut().for_each(close);
            self.parts.bell.wait_at_most(CLOSE_AGAIN).await;
            self.bury();
        }
        // The actor may be gone already.
        let _ = done.send(());
        std::future::pending().await
    }
}

/// What becomes of a courier that is out. Returns when it is looked at again.
fn go_on(
    out: &mut Out,
    evaluation: &Evaluation,
    load: &DestinationLoad,
    moment: &Moment,
    start: Option<Timestamp>,
) -> Option<Instant> {
    let wanted = match door(&out.destination.agreement, evaluation, load, moment.wall) {
        Door::Open { .. } => out.mode != Mode::BreakGlass || start.is_some(),
        Door::Glass => out.mode == Mode::BreakGlass,
        Door::Shut => false,
    };
    if !wanted {
        close(out);
    } else if load.queued > 0 && load.due_in_ms.max(load.snoozed_ms) == 0 {
        // A full mailbox means that it was woken already.
        let _ = out.address.try_send(Wake);
    }
    match (wanted, out.closing) {
        (false, true) => None,
        (false, false) => Some(moment.at + CLOSE_AGAIN),
        (true, _) => {
            let starts = start.map(|start| moment.instant_of(start));
            changes_at(evaluation, moment).into_iter().chain(starts).min()
        }
    }
}

/// When the agreement's answer changes by itself.
fn changes_at(evaluation: &Evaluation, moment: &Moment) -> Option<Instant> {
    let until = evaluation.until.into_iter().chain(evaluation.starts_until).filter(|time| *time > moment.wall).min()?;
    Some(moment.instant_of(until))
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
