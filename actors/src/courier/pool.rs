//! The circuit pool at work: which entries go onto which lane, and what is done with the answers.

use super::{
    CourierParts, IDLE, Orders, PICK_BYTES_MAX, PICK_ENTRIES_MAX,
    lane::{ASK_LIMIT, LaneSlot, Results},
};
use crate::supervision::{Wake, ask};
use futures_util::{StreamExt, future::LocalBoxFuture, stream::FuturesUnordered};
use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap, VecDeque},
    time::Duration,
};
use tidegate_schemas::{
    agreement::{HeadOfLine, Order, StatusLists},
    dispatch::Mode,
    entry::{Entry, Event},
    id::DeviceId,
    messages::outbox::{Fail, Pick, Settle, Settlement},
    outcome::{Disposition, Failure},
    submission::Priority,
    wire,
};
use tokio::time::Instant;

/// How often a courier without work looks for refused messages that are to be tried again, at the most.
const LOOK_AGAIN_MIN: Duration = Duration::from_secs(1);
/// Picks after which the queue is read from its head again, so that an entry that came back to its old place is seen.
const PICKS_FROM_CURSOR_MAX: u32 = 32;

/// A lane that has come back from one request.
struct Returned {
    slot: LaneSlot,
    entries: Vec<Entry>,
    results: Results,
    took: Duration,
}

/// Serves the destination until there is a reason to end.
pub(super) async fn serve(parts: CourierParts, orders: Orders) {
    let mut lifeline = parts.lifeline.clone();
    let mut pool = Pool::new(parts, orders);
    tokio::select! {
        () = pool.run() => {}
        // The Dispatcher is gone: whatever is under way is dropped with the pool.
        _ = lifeline.changed() => {}
    }
}

struct Pool {
    parts: CourierParts,
    orders: Orders,
    idle_lanes: Vec<LaneSlot>,
    /// Lanes that may be at work at once: one more with each success.
    lanes_allowed: usize,
    /// Nothing succeeded yet since the last failure: one message at a time.
    probing: bool,
    /// For how long lanes were at work since the last settlement.
    busy_for: Duration,
    under_way: FuturesUnordered<LocalBoxFuture<'static, Returned>>,
    /// Lane of each device that has entries under way.
    busy: HashMap<DeviceId, usize>,
    pending: VecDeque<Entry>,
    /// Places that are pending or under way.
    known: BTreeSet<u64>,
    cursor: u64,
    picks: u32,
    exhausted: bool,
    ending: bool,
    /// Everything was refused: nothing is parked any more.
    refused: bool,
    /// Since when there is nothing to do.
    idle_since: Option<Instant>,
    /// What was done about the failure that the outbox was told of.
    told: Option<Disposition>,
}

impl Pool {
    fn new(parts: CourierParts, orders: Orders) -> Self {
        let lanes = usize::from(parts.destination.agreement.lanes.max(1));
        let probing = parts.mode == Mode::Probe;
        Self {
            parts,
            orders,
            idle_lanes: (0..lanes).rev().map(LaneSlot::new).collect(),
            lanes_allowed: 1,
            probing,
            busy_for: Duration::ZERO,
            under_way: FuturesUnordered::new(),
            busy: HashMap::new(),
            pending: VecDeque::new(),
            known: BTreeSet::new(),
            cursor: 0,
            picks: 0,
            exhausted: false,
            ending: false,
            refused: false,
            idle_since: None,
            told: None,
        }
    }

    async fn run(&mut self) {
        loop {
            self.ending |= self.orders.closing.get();
            if !self.ending {
                self.ending |= !self.refill().await;
                self.start_lanes();
            }
            self.show();
            if self.under_way.is_empty() {
                if self.ending || !self.wait_for_work().await {
                    return;
                }
                continue;
            }
            let wake = self.orders.wake.clone();
            tokio::select! {
                returned = self.under_way.next() => {
                    if let Some(returned) = returned {
                        self.take_back(returned).await;
                    }
                }
                () = wake.wait() => self.exhausted = false,
            }
        }
    }

    /// Nothing to do: keeps the lanes warm for a while. False when it is time to end.
    async fn wait_for_work(&mut self) -> bool {
        if !self.exhausted {
            return true;
        }
        if self.cursor > 0 {
            // Before it rests it looks from the head: an entry may have come back to a place that was passed.
            (self.cursor, self.exhausted) = (0, false);
            return true;
        }
        let idle_since = *self.idle_since.get_or_insert_with(Instant::now);
        let agreement = &self.parts.destination.agreement;
        // Where refused messages are tried again, they come back by themselves.
        let come_back = agreement.head_of_line != HeadOfLine::ParkAfter(1);
        let step = agreement.retry.steps.first().and_then(|step| Duration::try_from(*step).ok());
        let look = step.filter(|_| come_back).map_or(IDLE, |step| step.clamp(LOOK_AGAIN_MIN, IDLE));
        let woken = self.orders.wake.wait_at_most(look).await == Wake::Rung;
        self.exhausted = false;
        self.cursor = 0;
        woken || idle_since.elapsed() < IDLE
    }

    /// Picks more entries when few are left. False when the outbox does not answer.
    async fn refill(&mut self) -> bool {
        let most = if self.probing { 1 } else { PICK_ENTRIES_MAX };
        let room = most.saturating_sub(self.known.len());
        if self.exhausted || self.pending.len() >= wire::BATCH_EVENTS_MAX || room == 0 {
            return true;
        }
        self.picks += 1;
        if self.known.is_empty() || self.picks.is_multiple_of(PICKS_FROM_CURSOR_MAX) {
            self.cursor = 0;
        }
        let break_glass_only = self.parts.mode == Mode::BreakGlass;
        let message = Pick {
            destination: self.parts.destination.id.clone(),
            after_seq: self.cursor,
            // Those that go first come each time, those that are known already among them.
            count_max: most,
            bytes_max: PICK_BYTES_MAX,
            break_glass_only,
            head_of_line: self.parts.destination.agreement.head_of_line,
        };
        let Ok(Ok(entries)) = ask(&self.parts.outbox, message, ASK_LIMIT).await else { return false };
        self.exhausted = true;
        for entry in entries {
            if self.known.len() >= most || (break_glass_only && entry.envelope.priority != Priority::BreakGlass) {
                continue;
            }
            if entry.envelope.priority == Priority::Normal && entry.refusals == 0 {
                // The others come whatever the cursor says.
                self.cursor = self.cursor.max(entry.seq);
            }
            if self.known.insert(entry.seq) {
                self.exhausted = false;
                self.pending.push_back(entry);
            }
        }
        self.pending.make_contiguous().sort_by_key(turn);
        true
    }

    /// Gives every idle lane what it may carry.
    fn start_lanes(&mut self) {
        while self.under_way.len() < self.lanes_allowed
            && let Some(mut slot) = self.idle_lanes.pop()
        {
            let entries = self.load_for(slot.index);
            if entries.is_empty() {
                self.idle_lanes.push(slot);
                return;
            }
            let (parts, closing) = (self.parts.clone(), self.orders.closing.clone());
            self.under_way.push(Box::pin(async move {
                let began = Instant::now();
                let results = slot.deliver(&parts, &entries, &closing).await;
                slot.touch(&parts);
                Returned { slot, entries, results, took: began.elapsed() }
            }));
            self.idle_since = None;
        }
    }

    /// The next entries for one request, in order; where the agreement asks for order, of devices that have nothing under way on
    /// another lane.
    fn load_for(&mut self, lane: usize) -> Vec<Entry> {
        let ordered = self.parts.destination.agreement.order == Order::PerDevice;
        let most = if self.probing { 1 } else { wire::BATCH_EVENTS_MAX };
        let mut load = Vec::new();
        let mut rest = Vec::with_capacity(self.pending.len());
        for entry in self.pending.drain(..) {
            // A device that is busy elsewhere is passed over with all its entries, so they stay in order.
            let free = !ordered || self.busy.get(&entry.envelope.device).is_none_or(|on| *on == lane);
            if free && load.len() < most { load.push(entry) } else { rest.push(entry) }
        }
        let count = wire::batch_len(&load, self.parts.destination.agreement.format);
        rest.extend(load.split_off(count.min(load.len())));
        rest.sort_by_key(turn);
        self.pending = rest.into();
        for entry in &load {
            self.busy.insert(entry.envelope.device.clone(), lane);
        }
        load
    }

    async fn take_back(&mut self, returned: Returned) {
        let Returned { slot, entries, results, took } = returned;
        self.busy_for += took;
        let lane = slot.index;
        self.idle_lanes.push(slot);
        self.busy.retain(|_, on| *on != lane);
        let mut settlements = Vec::new();
        let mut failure: Option<Failure> = None;
        for entry in &entries {
            self.known.remove(&entry.seq);
        }
        for (seq, result) in results {
            match settlement(seq, result, &self.parts.destination.agreement.statuses) {
                // It was the destination's fault: what another lane brings late is not parked either.
                Ok(settlement) if self.refused && settlement.event == Event::Park => {}
                Ok(settlement) => settlements.push(settlement),
                Err(failed) => failure = failure.or(Some(failed)),
            }
        }
        if settlements.iter().any(|settlement| settlement.event == Event::Deliver) {
            self.ramp_up(&entries, &settlements);
        }
        self.settle(settlements).await;
        if let Some(failure) = failure {
            self.ending = true;
            self.tell_failure(failure).await;
        }
    }

    /// Something was delivered: one more lane may work.
    fn ramp_up(&mut self, entries: &[Entry], settlements: &[Settlement]) {
        self.probing = false;
        let lanes = usize::from(self.parts.destination.agreement.lanes.max(1));
        self.lanes_allowed = (self.lanes_allowed + 1).min(lanes);
        if self.parts.mode != Mode::BreakGlass {
            return;
        }
        for settlement in settlements.iter().filter(|settlement| settlement.event == Event::Deliver) {
            if let Some(entry) = entries.iter().find(|entry| entry.seq == settlement.seq) {
                tracing::warn!(destination = %self.parts.destination.id, id = %entry.envelope.id,
                    "a break-glass message went out through a closed window");
            }
        }
    }

    async fn settle(&mut self, settlements: Vec<Settlement>) {
        if settlements.is_empty() {
            return;
        }
        let delivered = settlements.iter().filter(|s| s.event == Event::Deliver).count() as u64;
        let refused = settlements.iter().rev().find(|s| s.event == Event::Park).and_then(|s| s.error);
        let agreement = &self.parts.destination.agreement;
        let message = Settle {
            destination: self.parts.destination.id.clone(),
            settlements,
            head_of_line: agreement.head_of_line,
            retry: agreement.retry.clone(),
            busy_ms: u32::try_from(std::mem::take(&mut self.busy_for).as_millis()).unwrap_or(u32::MAX),
        };
        match ask(&self.parts.outbox, message, ASK_LIMIT).await {
            Ok(Ok(settled)) => {
                self.orders.seen.borrow_mut().delivered += delivered;
                if settled.everything_refused {
                    tracing::warn!(destination = %self.parts.destination.id,
                        "ten messages in a row were refused: the destination is taken to be at fault, none is parked");
                    self.ending = true;
                    self.refused = true;
                    if let Some(error) = refused {
                        self.tell_failure(error.into()).await;
                    }
                }
            }
            // What was delivered is delivered again, under the same id (CU-3).
            Ok(Err(error)) => {
                tracing::warn!(destination = %self.parts.destination.id, %error, "deliveries could not be settled");
                self.ending = true;
            }
            Err(_) => self.ending = true,
        }
    }

    /// Lanes fail together, and that is one failure of the destination: only the first is told, or the first that counts.
    async fn tell_failure(&mut self, failure: Failure) {
        let disposition = failure.error.disposition();
        if self.told.is_some_and(|told| told != Disposition::Snooze || disposition == Disposition::Snooze) {
            return;
        }
        self.told = Some(disposition);
        if disposition == Disposition::Snooze {
            tracing::debug!(destination = %self.parts.destination.id, reason = %failure.error, "paused");
        } else {
            tracing::debug!(destination = %self.parts.destination.id, reason = %failure.error, "not delivered now");
        }
        let message = Fail {
            destination: self.parts.destination.id.clone(),
            error: failure.error,
            retry_after_s: failure.retry_after_s,
            retry: self.parts.destination.agreement.retry.clone(),
        };
        // Should the outbox not hear it, the next courier finds out anew.
        let _ = ask(&self.parts.outbox, message, ASK_LIMIT).await;
    }

    fn show(&self) {
        let mut seen = self.orders.seen.borrow_mut();
        let open = self.idle_lanes.iter().filter(|slot| slot.is_open()).count() + self.under_way.len();
        seen.lanes_allowed = u8::try_from(self.lanes_allowed).unwrap_or(u8::MAX);
        seen.lanes = u8::try_from(open).unwrap_or(u8::MAX);
        seen.in_flight = (self.known.len() - self.pending.len()) as u64;
    }
}

/// What goes first: by priority, then by place.
fn turn(entry: &Entry) -> (Reverse<Priority>, u64) {
    (Reverse(entry.envelope.priority), entry.seq)
}

/// What one result means for its entry; the error is one of the destination's.
fn settlement(
    seq: u64,
    result: Result<Option<bytes::Bytes>, Failure>,
    statuses: &StatusLists,
) -> Result<Settlement, Failure> {
    let failure = match result {
        Ok(receipt) => return Ok(Settlement { seq, event: Event::Deliver, error: None, receipt }),
        Err(failure) => failure,
    };
    let event = match statuses.disposition(failure.error) {
        Disposition::Park => Event::Park,
        Disposition::Refuse => Event::Refuse,
        Disposition::Hold => Event::Hold,
        Disposition::Defer | Disposition::Snooze => return Err(failure),
    };
    Ok(Settlement { seq, event, error: Some(failure.error), receipt: None })
}
