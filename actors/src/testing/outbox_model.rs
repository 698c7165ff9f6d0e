//! Random histories of the Outbox against a plain model, on whatever store: every acknowledged message is in exactly one state, comes in
//! its turn, and what is marked and counted is what is there.
//!
//! [`play`] is called by property tests: on the memory store here, on the stores on disk in the integration tests. Faults of commits come
//! from [`FailingStore`], which stands before the store.

use super::{
    memory_store::CommitFault,
    seeded_entropy::SeededEntropy,
    sim_clock::SimClock,
    store_conformance::Fixture,
    submissions,
    toy_registry::{ToyRegistry, destination, snapshot},
};
use crate::{
    outbox::{Lease, Limits, Outbox, OutboxParts, examine::examine},
    ports::outbox_store::{Batch, Held, OutboxStore, Pair},
    supervision::{Bells, DeathWatch, Running},
    testing::memory_store::MemoryStore,
};
use actix::prelude::*;
use jiff::SignedDuration;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};
use tidegate_schemas::{
    agreement::{DeviceLimits, HeadOfLine, Lifetime, Limits as QueueLimits, OnFull, RetryPolicy, ServiceAgreement},
    entry::{EntryState, Event},
    id::EntryRef,
    messages::{
        gateway::{Observe, Shutdown},
        outbox::{
            Enqueue, EnqueueError, EntryName, Operate, OperateError, PendingReceipts, PendingReports, Pick, Receipted,
            Reported, Settle, Settlement, Show, StoreError,
        },
        registry::Current,
        tools::Progress,
    },
    record::{self, DestinationRecord, EntryRecord, Meta, RefusedWait, key},
    submission::{Priority, Submission},
    view::{Observation, OutboxObservation, Shown},
};
use tokio::time::Instant;

/// A store whose coming commits fail on demand: their batch is not there, and the store has to be opened again.
struct FailingStore {
    store: RwLock<Arc<dyn OutboxStore>>,
    faults: Mutex<VecDeque<CommitFault>>,
    is_poisoned: Mutex<bool>,
}

impl FailingStore {
    fn before(store: Arc<dyn OutboxStore>) -> Self {
        Self { store: RwLock::new(store), faults: Mutex::default(), is_poisoned: Mutex::default() }
    }
    fn fail_next(&self, fault: CommitFault) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).push_back(fault);
    }
    /// The process ends and begins again. What it had open is let go of before `open` is called.
    fn replace(&self, open: impl FnOnce() -> Arc<dyn OutboxStore>) {
        let mut store = self.store.write().unwrap_or_else(PoisonError::into_inner);
        *store = Arc::new(MemoryStore::new(0));
        *store = open();
        *self.is_poisoned.lock().unwrap_or_else(PoisonError::into_inner) = false;
    }
    fn inner(&self) -> Arc<dyn OutboxStore> {
        Arc::clone(&self.store.read().unwrap_or_else(PoisonError::into_inner))
    }
    fn open(&self) -> Result<Arc<dyn OutboxStore>, StoreError> {
        let is_poisoned = *self.is_poisoned.lock().unwrap_or_else(PoisonError::into_inner);
        if is_poisoned { Err(StoreError::Poisoned) } else { Ok(self.inner()) }
    }
}

impl OutboxStore for FailingStore {
    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        let store = self.open()?;
        let Some(fault) = self.faults.lock().unwrap_or_else(PoisonError::into_inner).pop_front() else {
            return store.commit(batch);
        };
        *self.is_poisoned.lock().unwrap_or_else(PoisonError::into_inner) = true;
        Err(if fault == CommitFault::Full { StoreError::Full } else { StoreError::Io("injected".into()) })
    }
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.open()?.get(key)
    }
    fn scan(&self, from: &[u8], to: &[u8], limit: usize, backwards: bool) -> Result<Vec<Pair>, StoreError> {
        self.open()?.scan(from, to, limit, backwards)
    }
    fn held(&self) -> Held {
        self.inner().held()
    }
    fn snapshot(&self, each: &mut dyn FnMut(Vec<Pair>) -> Result<(), StoreError>) -> Result<(), StoreError> {
        self.open()?.snapshot(each)
    }
    fn compact(&self, progress: &mut dyn FnMut(u64)) -> Result<(), StoreError> {
        self.open()?.compact(progress)
    }
    fn reopen(&self) -> Result<(), StoreError> {
        *self.is_poisoned.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.inner().reopen()
    }
    fn disk_bytes(&self) -> u64 {
        self.inner().disk_bytes()
    }
}

struct Rig {
    store: Arc<FailingStore>,
    clock: Arc<SimClock>,
    lease: Lease,
    registry: Recipient<Current>,
}

impl Rig {
    fn new(store: Arc<dyn OutboxStore>) -> Self {
        let _ = Instant::now();
        let agreement =
            ServiceAgreement { lifetime: Lifetime::of(SignedDuration::from_hours(1)), ..ServiceAgreement::default() };
        let registry = ToyRegistry(snapshot(vec![destination("ward", agreement)])).start().recipient();
        let clock = Arc::new(SimClock::at("2026-11-23T12:00:00Z".parse().expect("a moment")));
        Self { store: Arc::new(FailingStore::before(store)), clock, lease: Lease::default(), registry }
    }
    fn start(&self) -> Addr<Outbox> {
        let parts = OutboxParts {
            store: Arc::clone(&self.store) as Arc<dyn OutboxStore>,
            lease: Arc::clone(&self.lease),
            archive: None,
            clock: Arc::clone(&self.clock) as Arc<dyn crate::ports::clock::Clock>,
            entropy: Arc::new(SeededEntropy::new(7)),
            limits: Limits { receipting: true, ..Limits::default() },
            bells: Bells::default(),
        };
        Running::start(Outbox::new(parts, self.registry.clone(), DeathWatch::unwatched("outbox"))).0
    }
}

fn submission(device: &str, body: Vec<u8>) -> Submission {
    submissions::submission(device, "ward", body)
}

/// The places of a pick of everything.
async fn picked(outbox: &Addr<Outbox>, head_of_line: HeadOfLine) -> Vec<u64> {
    let message = Pick {
        destination: "ward".parse().expect("an id"),
        after_seq: 0,
        count_max: 500,
        bytes_max: 1 << 20,
        break_glass_only: false,
        head_of_line,
    };
    outbox.send(message).await.expect("it is up").expect("a pick").iter().map(|entry| entry.seq).collect()
}

/// Waits until it has read what is there: an empty write passes through the writer.
async fn ready(outbox: &Addr<Outbox>) {
    let message = Settle {
        destination: "nobody".parse().expect("an id"),
        settlements: vec![],
        head_of_line: HeadOfLine::default(),
        retry: RetryPolicy::default(),
        busy_ms: 0,
    };
    let _ = outbox.send(message).await;
}

async fn observe(outbox: &Addr<Outbox>) -> OutboxObservation {
    match outbox.send(Observe).await.expect("it is up") {
        Observation::Outbox(seen) => seen,
        other => panic!("{other:?}"),
    }
}

async fn operate(outbox: &Addr<Outbox>, seq: u64, event: Event) -> Result<EntryState, OperateError> {
    let entry = EntryRef { destination: "ward".parse().expect("an id"), seq };
    outbox.send(Operate { entry, event }).await.expect("it is up")
}

fn contents(store: &dyn OutboxStore) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut contents = BTreeMap::new();
    let mut each = |pairs: Vec<Pair>| {
        contents.extend(pairs);
        Ok(())
    };
    store.snapshot(&mut each).expect("a snapshot");
    contents
}

const STEPS_MS: [u64; 3] = [15_500, 60_500, 300_500];
const MESSAGES: u64 = 14;
const DEVICE_MESSAGES: u64 = 7;

/// What is done to the Outbox. Numbers choose among the messages that there are.
#[derive(Debug, Clone)]
pub enum Act {
    /// A message comes.
    Enqueue(u8, Priority, OnFull),
    /// A courier says what became of one.
    Settle(u8, Event),
    /// An operator acts on one.
    Operate(u8, Event),
    /// A coming commit fails.
    Fault(CommitFault),
    /// The process ends and begins again.
    Restart,
    /// So many seconds pass.
    Advance(u16),
    /// The room and the devices hear what ended.
    Report,
}

impl Act {
    /// An act from any four numbers, so that a property needs no strategy of its own.
    #[must_use]
    pub fn from_numbers([kind, a, b, c]: [u16; 4]) -> Self {
        let events =
            [Event::Deliver, Event::Deliver, Event::Park, Event::Park, Event::Park, Event::Refuse, Event::Hold];
        let operations = [Event::Hold, Event::Release, Event::Retry, Event::Purge];
        let faults = [CommitFault::Full, CommitFault::Io, CommitFault::LostBeforeFlush];
        let priorities = [Priority::Normal, Priority::Normal, Priority::High, Priority::BreakGlass];
        let n = a.to_be_bytes()[1];
        match kind % 23 {
            0..=7 => {
                let on_full = if c % 2 == 0 { OnFull::Reject } else { OnFull::DropOldest };
                Self::Enqueue(n, one_of(&priorities, b), on_full)
            }
            8..=14 => Self::Settle(n, one_of(&events, b)),
            15..=17 => Self::Operate(n, one_of(&operations, b)),
            18 => Self::Fault(one_of(&faults, b)),
            19 => Self::Restart,
            20 | 21 => Self::Advance(b % 399 + 1),
            _ => Self::Report,
        }
    }
}

fn one_of<T: Clone>(all: &[T], number: u16) -> T {
    all[usize::from(number) % all.len()].clone()
}

#[derive(Debug, Clone)]
struct Message {
    state: EntryState,
    device: String,
    priority: Priority,
    refusals: u32,
    due_ms: Option<u64>,
}

/// All that was ever acknowledged, by its place; and the row of refusals.
struct Model {
    began: Instant,
    head_of_line: HeadOfLine,
    messages: BTreeMap<u64, Message>,
    row: Vec<(u64, u32)>,
    everything_refused: bool,
    refused: u64,
}

impl Model {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).expect("as the model says")
    }

    fn place(&self, n: u8) -> Option<u64> {
        self.messages.keys().nth(usize::from(n) % self.messages.len().max(1)).copied()
    }

    fn get(&mut self, seq: u64) -> &mut Message {
        self.messages.get_mut(&seq).expect("as the model says")
    }

    /// Those that make room for a message; none if it is refused.
    fn room_for(&self, device: &str, priority: Priority, on_full: OnFull) -> Option<Vec<u64>> {
        let waits = |of: Option<&str>| {
            let waiting = self.messages.values().filter(|m| !m.state.is_end());
            waiting.filter(|m| of.is_none_or(|of| m.device == of)).count() as u64
        };
        let mut dropped: Vec<u64> = Vec::new();
        for (of, most) in [(Some(device), DEVICE_MESSAGES), (None, MESSAGES)] {
            while waits(of) + 1 - dropped.len() as u64 > most {
                let oldest = self.messages.iter().find(|(seq, m)| {
                    m.state == EntryState::Queued
                        && of.is_none_or(|of| m.device == of)
                        && m.priority <= priority
                        && !dropped.contains(seq)
                });
                match oldest {
                    Some((seq, _)) if on_full == OnFull::DropOldest => dropped.push(*seq),
                    _ => return None,
                }
            }
        }
        Some(dropped)
    }

    fn settle(&mut self, seq: u64, event: Event) -> bool {
        let message = self.messages[&seq].clone();
        let Ok(next) = message.state.on(event) else { return false };
        match event {
            Event::Park => {
                let refusals = message.refusals + 1;
                let parks = matches!(self.head_of_line, HeadOfLine::ParkAfter(most) if refusals >= most);
                let due_ms = self.now_ms() + STEPS_MS[usize::try_from(refusals - 1).expect("as the model says").min(2)];
                let state = if parks { next } else { EntryState::Queued };
                *self.get(seq) = Message { state, refusals, due_ms: (!parks).then_some(due_ms), ..message };
                match self.row.iter_mut().find(|(other, _)| *other == seq) {
                    Some((_, times)) => *times += 1,
                    None => self.row.push((seq, 1)),
                }
                if self.row.len() >= 10 {
                    self.undo();
                    self.everything_refused = true;
                }
            }
            _ => self.get(seq).state = next,
        }
        if event == Event::Deliver {
            if self.everything_refused {
                self.undo();
            }
            self.row.clear();
            self.everything_refused = false;
        }
        true
    }

    fn undo(&mut self) {
        for (seq, times) in std::mem::take(&mut self.row) {
            let message = self.get(seq);
            if matches!(message.state, EntryState::Parked | EntryState::Queued) {
                message.state = EntryState::Queued;
                message.refusals = message.refusals.saturating_sub(times);
                message.due_ms = None;
            }
        }
    }

    fn operate(&mut self, seq: u64, event: Event) -> Option<EntryState> {
        let message = self.get(seq);
        let retried = event == Event::Retry && message.state == EntryState::Queued && message.due_ms.is_some();
        let next = if retried { EntryState::Queued } else { message.state.on(event).ok()? };
        message.state = next;
        if event == Event::Retry {
            (message.refusals, message.due_ms) = (0, None);
        }
        Some(next)
    }

    /// What a pick of everything gives.
    fn turn(&self) -> Vec<u64> {
        let queued: Vec<(&u64, &Message)> =
            self.messages.iter().filter(|(_, m)| m.state == EntryState::Queued).collect();
        let blocked = |seq: u64, message: &Message| {
            self.head_of_line == HeadOfLine::Block
                && queued.iter().any(|(other, m)| {
                    **other < seq
                        && m.due_ms.is_some()
                        && (&m.device, m.priority) == (&message.device, message.priority)
                })
        };
        let mut turn = Vec::new();
        for kind in [Priority::BreakGlass, Priority::High, Priority::Normal] {
            for retries in [true, false] {
                let of_kind = queued.iter().filter(|(_, m)| m.priority == kind && m.due_ms.is_some() == retries);
                let due = of_kind.filter(|(_, m)| m.due_ms.is_none_or(|due_ms| due_ms <= self.now_ms()));
                turn.extend(due.filter(|(seq, m)| !blocked(**seq, m)).map(|(seq, _)| **seq));
            }
        }
        turn
    }
}

fn retry() -> RetryPolicy {
    let steps = STEPS_MS.map(|ms| SignedDuration::from_millis(i64::try_from(ms).expect("as the model says"))).to_vec();
    RetryPolicy { steps, jitter: 0.0 }
}

/// Does the acts on an Outbox over the fixture's store and on the model, and compares them after each. In an actix system with paused time.
///
/// # Panics
/// When they differ.
pub async fn play(fixture: &mut dyn Fixture, head_of_line: HeadOfLine, acts: Vec<Act>) {
    let rig = Rig::new(fixture.store());
    let mut outbox = rig.start();
    let (began, messages, row) = (Instant::now(), BTreeMap::new(), Vec::new());
    let mut model = Model { began, head_of_line, messages, row, everything_refused: false, refused: 0 };
    for act in acts {
        match act {
            Act::Enqueue(n, priority, on_full) => {
                let device = format!("d{}", n % 3);
                let room = model.room_for(&device, priority, on_full);
                let per_device = DeviceLimits { messages: Some(DEVICE_MESSAGES), bytes: None, per_minute: Some(1_000) };
                let limits = QueueLimits { messages: MESSAGES, bytes: 1 << 20, on_full, device: per_device };
                let submission = Submission { priority, ..submission(&device, vec![n; usize::from(n) * 40]) };
                let message = Enqueue { submission, limits, break_glass_per_hour: Some(u16::MAX), stream: None };
                match (outbox.send(message).await.expect("as the model says"), room) {
                    (Ok(accepted), Some(dropped)) => {
                        for seq in dropped {
                            model.get(seq).state = EntryState::Dropped;
                        }
                        let state = EntryState::Queued;
                        let message = Message { state, device, priority, refusals: 0, due_ms: None };
                        model.messages.insert(accepted.entry.seq, message);
                    }
                    (Err(EnqueueError::Refused { recorded: true, .. }), None) => model.refused += 1,
                    (Err(EnqueueError::Store(_)), _) => {}
                    (answer, room) => panic!("{answer:?}, and the model says {room:?}"),
                }
            }
            Act::Settle(n, event) => {
                // Mostly what a courier would have in hand.
                let turn = model.turn();
                let picked = (n % 4 > 0).then(|| turn.get(usize::from(n) % turn.len().max(1)).copied()).flatten();
                if let Some(seq) = picked.or_else(|| model.place(n)) {
                    let settlements = vec![Settlement { seq, event, error: None, receipt: None }];
                    let destination = "ward".parse().expect("as the model says");
                    let message = Settle { destination, settlements, head_of_line, retry: retry(), busy_ms: 900_000 };
                    if let Ok(settled) = outbox.send(message).await.expect("as the model says") {
                        assert_eq!(model.settle(seq, event), settled.overtaken.is_empty());
                    }
                }
            }
            Act::Operate(n, event) => {
                if let Some(seq) = model.place(n) {
                    match operate(&outbox, seq, event).await {
                        Err(OperateError::Store(_)) => {}
                        answer => assert_eq!(model.operate(seq, event), answer.ok()),
                    }
                }
            }
            Act::Fault(fault) => rig.store.fail_next(fault),
            Act::Restart => {
                outbox.send(Shutdown).await.expect("as the model says");
                while outbox.connected() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                rig.store.replace(|| {
                    fixture.restart();
                    fixture.store()
                });
                outbox = rig.start();
                ready(&outbox).await;
            }
            Act::Advance(seconds) => {
                tokio::time::sleep(Duration::from_secs(u64::from(seconds))).await;
                expire(&outbox, &mut model).await;
            }
            Act::Report => {
                if let Ok(Some(batch)) = outbox.send(PendingReports { count_max: 10 }).await.expect("as the model says")
                {
                    let _ = outbox
                        .send(Reported { last: batch.last, event_id: "$e".into() })
                        .await
                        .expect("as the model says");
                }
                let receipts = outbox
                    .send(PendingReceipts { count_max: 3 })
                    .await
                    .expect("as the model says")
                    .expect("as the model says");
                if let Some(last) = receipts.last() {
                    let _ = outbox.send(Receipted { last: last.no }).await.expect("as the model says");
                }
            }
        }
        check(&outbox, &model).await;
    }
    // Nothing is under way any more: what is on disk is all there is.
    outbox.send(Shutdown).await.expect("as the model says");
    while outbox.connected() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    scan(&*rig.store, &model);
}

/// Entries that ended by themselves; all others are where the model says.
async fn expire(outbox: &Addr<Outbox>, model: &mut Model) {
    for (seq, message) in &mut model.messages {
        let place = EntryRef { destination: "ward".parse().expect("as the model says"), seq: *seq };
        let state = match outbox
            .send(Show { name: EntryName::Place(place) })
            .await
            .expect("as the model says")
            .expect("as the model says")
        {
            Some(Shown::Waiting(view)) => view.state,
            Some(Shown::Ended(view)) => view.state,
            None => panic!("an acknowledged entry is nowhere"),
        };
        if state == EntryState::Expired && message.state.on(Event::Expire).is_ok() {
            message.state = state;
        }
        assert_eq!(state, message.state);
    }
}

async fn check(outbox: &Addr<Outbox>, model: &Model) {
    let seen = observe(outbox).await;
    assert_eq!((seen.gap, seen.account.refused), (0, model.refused));
    let mut account = seen.account;
    for state in EntryState::ALL.into_iter().filter(|state| *state != EntryState::Refused) {
        let expected = model.messages.values().filter(|m| m.state == state).count() as u64;
        assert_eq!(*account.slot(state), expected, "{:?}", state);
    }
    assert_eq!(picked(outbox, model.head_of_line).await, model.turn());
}

/// Marks and counters are those of a full scan.
fn scan(store: &dyn OutboxStore, model: &Model) {
    let contents = contents(store);
    let mut entries: BTreeMap<u64, EntryRecord> = BTreeMap::new();
    for (at, value) in contents.iter().filter(|(at, _)| matches!(at[0], b'm' | b'h')) {
        let entry: EntryRecord = record::decode(at, value).expect("as the model says");
        assert_eq!(at[0] == b'm', entry.state == EntryState::Queued);
        assert!(entries.insert(key::seq_of(at).expect("as the model says"), entry).is_none(), "once");
    }
    let queued = || entries.iter().filter(|(_, entry)| entry.state == EntryState::Queued);
    let urgent: Vec<Vec<u8>> = queued()
        .filter_map(|(seq, entry)| key::class_of(entry.envelope.priority).map(|class| key::urgent(0, class, *seq)))
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let of_kind = |prefix: u8| contents.keys().filter(|at| at[0] == prefix).cloned().collect::<Vec<_>>();
    assert_eq!(of_kind(b'i'), urgent.clone());
    let waits: Vec<Vec<u8>> =
        queued().filter(|(_, entry)| entry.due_custody_ms > 0).map(|(seq, _)| key::refused(0, *seq)).collect();
    assert_eq!(of_kind(b'r'), waits.clone());
    for at in &waits {
        let (wait, entry) = (
            record::decode::<RefusedWait>(at, &contents[at]).expect("as the model says"),
            &entries[&key::seq_of(at).expect("as the model says")],
        );
        assert_eq!((wait.device, wait.due_custody_ms), (entry.envelope.device.clone(), entry.due_custody_ms));
    }
    for (seq, entry) in &entries {
        let message = &model.messages[seq];
        assert_eq!((entry.state, entry.refusals), (message.state, message.refusals));
        assert_eq!(entry.due_custody_ms > 0, message.due_ms.is_some());
    }
    if model.messages.is_empty() {
        return;
    }
    let at = key::destination(0);
    let dest: DestinationRecord = record::decode(&at, &contents[&at]).expect("as the model says");
    let count = |state| entries.values().filter(|entry| entry.state == state).count() as u64;
    assert_eq!(
        (dest.queued, dest.held, dest.parked, dest.dead),
        (count(EntryState::Queued), count(EntryState::Held), count(EntryState::Parked), count(EntryState::Dead))
    );
    let bytes: u64 = entries.values().map(|entry| u64::from(entry.envelope.body_bytes)).sum();
    assert_eq!(dest.waiting_bytes, bytes);
    let alarms = queued().filter(|(_, entry)| entry.envelope.priority == Priority::BreakGlass).count() as u64;
    assert_eq!(
        (dest.urgent, dest.break_glass, dest.refused_waiting),
        (urgent.len() as u64, alarms, waits.len() as u64)
    );
    assert!(dest.park_streak.len() < 10 && dest.throughput.busy_ms <= 3_600_000);
    let meta: Meta = record::decode(&key::META, &contents[&key::META[..]]).expect("as the model says");
    assert_eq!((meta.account.gap(), meta.account.queued), (0, dest.queued));
    let examined =
        examine(&MemoryStore::with_contents(0, contents.clone()), &Progress::default()).expect("as the model says");
    assert_eq!((examined.problems, examined.destinations[0].queued), (Vec::<String>::new(), dest.queued));
}
