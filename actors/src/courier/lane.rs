//! A lane of the pool: how it is opened, used, and replaced.
//!
//! A lane keeps its isolation while it works, also over a connection that the service closed in good order, because a circuit that
//! is already there tells the network nothing new. After a failure its isolation is forgotten: a new attempt on the old one would
//! join the circuit that is stuck. Every new isolation is paid for from the destination's Tor budget first; one that Tor was not ready
//! to use is kept for the next try, so that a hiccup on our own side costs the destination nothing.
//!
//! Whether the circuit of a known isolation is still there is up to the service, too: where a lane finds itself on another one than
//! before, that one is paid for at once, and given up if the budget is used up. A transport that can't tell circuits apart (a system
//! tor) leaves this uncounted.

use super::CourierParts;
use crate::{
    ports::transport::{CircuitId, Isolation, Lane, Target},
    supervision::ask,
};
use std::{
    cell::Cell,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tidegate_schemas::{
    agreement::Circumstances,
    dispatch::{Door, Mode, door},
    entry::Entry,
    messages::outbox::{Budget, ChangedLoads, Spend, StillQueued},
    outcome::{DeliveryError, Failure},
    view::{DestinationLoad, SignalView},
    wire::{self, WireAnswer, WireRequest},
};
use tokio::time::Instant;

/// After this long without use Tor has dropped the circuit of an isolation, so that using it again means a fresh circuit.
const CIRCUIT_KEPT: Duration = Duration::from_secs(540);
/// How long the Outbox may take to answer.
pub(super) const ASK_LIMIT: Duration = Duration::from_secs(60);

/// The isolations of a destination's lanes, by lane, with the time of their last use. Outlives couriers, not the process.
#[derive(Debug, Clone, Default)]
pub struct IsolationMemory(Arc<Mutex<Vec<Slot>>>);

/// A lane's isolation, its last use, and the circuit that it was last found on.
type Slot = Option<Kept>;

#[derive(Debug, Clone)]
struct Kept {
    isolation: Isolation,
    used: Instant,
    circuit: Option<CircuitId>,
}

impl IsolationMemory {
    fn with<T>(&self, index: usize, act: impl FnOnce(&mut Slot) -> T) -> T {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() <= index {
            slots.resize(index + 1, None);
        }
        act(&mut slots[index])
    }
    fn known(&self, index: usize) -> Option<Isolation> {
        self.with(index, |slot| {
            slot.as_ref().filter(|kept| kept.used.elapsed() < CIRCUIT_KEPT).map(|kept| kept.isolation)
        })
    }
    fn used(&self, index: usize, isolation: Isolation) {
        self.with(index, |slot| {
            let circuit = slot.take().filter(|kept| kept.isolation == isolation).and_then(|kept| kept.circuit);
            *slot = Some(Kept { isolation, used: Instant::now(), circuit });
        });
    }
    /// Takes note of the circuit; true if it is another one than this isolation had before.
    fn is_replaced(&self, index: usize, circuit: Option<CircuitId>) -> bool {
        self.with(index, |slot| {
            let Some((kept, circuit)) = slot.as_mut().zip(circuit) else { return false };
            kept.circuit.replace(circuit.clone()).is_some_and(|before| before != circuit)
        })
    }
    fn forget(&self, index: usize) {
        self.with(index, |slot| *slot = None);
    }
}

/// One lane's place in the pool.
pub(super) struct LaneSlot {
    pub index: usize,
    lane: Option<Box<dyn Lane>>,
    exchanges: u64,
}

/// What came of the entries that were tried, by place. One that is missing was not sent: it stays as it is.
pub(super) type Results = Vec<(u64, Result<Option<bytes::Bytes>, Failure>)>;

/// The entries that a request carried, and the answer to it; none if there was nothing left to send.
type Exchanged = Option<(Vec<Entry>, WireAnswer)>;

impl LaneSlot {
    pub fn new(index: usize) -> Self {
        Self { index, lane: None, exchanges: 0 }
    }

    pub fn is_open(&self) -> bool {
        self.lane.as_ref().is_some_and(|lane| lane.is_open())
    }

    /// Sends these entries in one request and judges the answer. Nothing leaves once `closing` is set.
    ///
    /// A service that refuses a batch without saying which message it means gets them one by one.
    pub async fn deliver(&mut self, parts: &CourierParts, entries: &[Entry], closing: &Cell<bool>) -> Results {
        let (sent, answer) = match self.attempt(parts, entries, closing).await {
            Ok(Some(exchanged)) => exchanged,
            Ok(None) => return Results::new(),
            Err(error) => return self.failed(parts, entries, error),
        };
        if !wire::refuses_as_a_whole(&sent, &parts.destination.agreement.statuses, &answer) {
            return judge(parts, &sent, &answer);
        }
        let mut results = Results::new();
        for (index, entry) in sent.iter().enumerate() {
            match self.attempt(parts, std::slice::from_ref(entry), closing).await {
                Ok(Some((one, answer))) => results.extend(judge(parts, &one, &answer)),
                Ok(None) => {}
                Err(error) => {
                    results.extend(self.failed(parts, &sent[index..], error));
                    break;
                }
            }
        }
        results
    }

    fn failed(&mut self, parts: &CourierParts, entries: &[Entry], error: DeliveryError) -> Results {
        if error.spoils_the_lane() {
            self.lane = None;
            // Where Tor itself was not ready no circuit was built: the isolation that was paid for is still unused.
            if error != DeliveryError::UplinkNotReady {
                parts.isolations.forget(self.index);
            }
        }
        entries.iter().map(|entry| (entry.seq, Err(error.into()))).collect()
    }

    async fn attempt(
        &mut self,
        parts: &CourierParts,
        entries: &[Entry],
        closing: &Cell<bool>,
    ) -> Result<Exchanged, DeliveryError> {
        let reused = self.is_open() && self.exchanges > 0;
        match self.exchange(parts, entries, closing).await {
            // A connection that had gone stale while it was idle says nothing about the service: once more, on a fresh one.
            Err(DeliveryError::ConnectionLost) if reused => {
                self.lane = None;
                parts.isolations.forget(self.index);
                self.exchange(parts, entries, closing).await
            }
            result => result,
        }
    }

    async fn exchange(
        &mut self,
        parts: &CourierParts,
        entries: &[Entry],
        closing: &Cell<bool>,
    ) -> Result<Exchanged, DeliveryError> {
        if !self.is_open() {
            // No circuit for nothing, and none for what can't be written.
            let Some((_, _)) = request_of(parts, entries, closing).await? else { return Ok(None) };
            self.lane = Some(self.open(parts).await?);
            self.exchanges = 0;
        }
        // The last look before the request leaves: the entries were picked a while ago, and opening may have taken minutes.
        let standing = Standing::ask(parts).await?;
        let Some((entries, request)) = request_of(parts, entries, closing).await? else { return Ok(None) };
        let limit = standing.start(parts, parts.destination.agreement.deadlines.exchange)?;
        let Some(lane) = self.lane.as_mut() else { return Err(DeliveryError::Internal) };
        self.exchanges += 1;
        match tokio::time::timeout(limit.length, lane.exchange(request)).await {
            Ok(result) => result.map(|answer| Some((entries, answer))),
            Err(_) => Err(limit.reached(DeliveryError::AnswerTimeout)),
        }
    }

    async fn open(&mut self, parts: &CourierParts) -> Result<Box<dyn Lane>, DeliveryError> {
        let (standing, deadline) = (Standing::ask(parts).await?, parts.destination.agreement.deadlines.connect);
        let mut limit = standing.start(parts, deadline)?;
        let isolation = match parts.isolations.known(self.index) {
            Some(isolation) => isolation,
            None => {
                spend(parts).await?;
                let isolation = Isolation(parts.entropy.bytes16());
                // It is paid for; should the window have closed meanwhile, it waits for the next try.
                parts.isolations.used(self.index, isolation);
                limit = standing.start(parts, deadline)?;
                isolation
            }
        };
        parts.isolations.used(self.index, isolation);
        let opening = parts.transport.open(Target::from(&*parts.destination), isolation);
        let lane = match tokio::time::timeout(limit.length, opening).await {
            Ok(result) => result?,
            Err(_) => {
                // Cut off in the middle: what Tor has begun on this isolation goes on, and would be joined.
                parts.isolations.forget(self.index);
                return Err(limit.reached(DeliveryError::ConnectTimeout));
            }
        };
        if parts.isolations.is_replaced(self.index, lane.circuit())
            && let Err(error) = spend(parts).await
        {
            parts.isolations.forget(self.index);
            return Err(error);
        }
        Ok(lane)
    }

    /// Says that the circuit was used just now.
    pub fn touch(&self, parts: &CourierParts) {
        if let Some(isolation) = parts.isolations.known(self.index) {
            parts.isolations.used(self.index, isolation);
        }
    }
}

fn judge(parts: &CourierParts, sent: &[Entry], answer: &WireAnswer) -> Results {
    let verdicts = wire::judge(sent, &parts.destination, answer);
    sent.iter().map(|entry| entry.seq).zip(verdicts).collect()
}

/// Those of these entries that may still be sent, and the request for them; none if there is nothing to send.
async fn request_of(
    parts: &CourierParts,
    entries: &[Entry],
    closing: &Cell<bool>,
) -> Result<Option<(Vec<Entry>, WireRequest)>, DeliveryError> {
    let message = StillQueued {
        destination: parts.destination.id.clone(),
        seqs: entries.iter().map(|entry| entry.seq).collect(),
        head_of_line: parts.destination.agreement.head_of_line,
    };
    // An outbox that doesn't answer is met again with the next pick, which ends the courier.
    let Ok(Ok(queued)) = ask(&parts.outbox, message, ASK_LIMIT).await else { return Ok(None) };
    let entries: Vec<Entry> = entries.iter().filter(|entry| queued.contains(&entry.seq)).cloned().collect();
    if entries.is_empty() || closing.get() {
        return Ok(None);
    }
    let request = wire::encode(&entries, &parts.destination, parts.clock.now())?;
    Ok(Some((entries, request)))
}

async fn spend(parts: &CourierParts) -> Result<(), DeliveryError> {
    let message = Spend {
        destination: parts.destination.id.clone(),
        fresh_circuits_per_hour: parts.destination.agreement.fresh_circuits_per_hour,
    };
    match ask(&parts.outbox, message, ASK_LIMIT).await {
        Ok(Ok(Budget::Granted)) => Ok(()),
        Ok(Ok(Budget::UsedUp { .. })) => Err(DeliveryError::TorBudget),
        // Without its account no circuit is built.
        Ok(Err(_)) | Err(_) => Err(DeliveryError::UplinkNotReady),
    }
}

/// A deadline that the window may have shortened.
struct Limit {
    length: Duration,
    by_window: bool,
}

impl Limit {
    fn reached(&self, otherwise: DeliveryError) -> DeliveryError {
        if self.by_window { DeliveryError::WindowClosed } else { otherwise }
    }
}

/// What operators and signals say of the destination, asked right before a start.
struct Standing {
    load: DestinationLoad,
    asked: Instant,
}

impl Standing {
    async fn ask(parts: &CourierParts) -> Result<Self, DeliveryError> {
        let message = ChangedLoads { since: u64::MAX, also: vec![parts.destination.id.clone()] };
        let answer = ask(&parts.outbox, message, ASK_LIMIT).await.ok();
        // An outbox that doesn't answer is met again with the next pick, which ends the courier.
        let load = answer.and_then(|answer| answer.loads.into_iter().next()).ok_or(DeliveryError::UplinkNotReady)?;
        Ok(Self { load, asked: Instant::now() })
    }

    /// The deadline of something that starts now: before the cutoff, or not at all (DW-1); not past the closing plus grace (DW-2).
    fn start(&self, parts: &CourierParts, deadline: jiff::SignedDuration) -> Result<Limit, DeliveryError> {
        let (now, agreement) = (parts.clock.now(), &parts.destination.agreement);
        let passed_ms = u64::try_from(self.asked.elapsed().as_millis()).unwrap_or(u64::MAX);
        let signal = self.load.signal.filter(|signal| signal.left_ms > passed_ms).map(|signal| SignalView {
            since_ms: signal.since_ms + passed_ms,
            left_ms: signal.left_ms - passed_ms,
            ..signal
        });
        let load = DestinationLoad { signal, ..self.load.clone() };
        let clock_trusted = parts.clock.trusted();
        let evaluation =
            agreement.evaluate(&Circumstances { at: now, clock_trusted, paused: load.paused, signal: load.signal });
        let ends_by = match door(agreement, &evaluation, &load, now) {
            Door::Open { .. } => evaluation.ends_by,
            Door::Glass if parts.mode == Mode::BreakGlass => None,
            Door::Glass | Door::Shut => return Err(DeliveryError::WindowClosed),
        };
        let left = ends_by.map(|ends_by| ends_by.duration_since(now));
        let by_window = left.is_some_and(|left| left < deadline);
        let length = left.filter(|_| by_window).unwrap_or(deadline);
        Ok(Limit { length: Duration::try_from(length).unwrap_or(Duration::ZERO), by_window })
    }
}
