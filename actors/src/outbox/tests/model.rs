//! Random histories against a plain model: every acknowledged message is in exactly one state, comes in its turn, and what is marked and
//! counted is what is there.

use super::*;
use crate::{outbox::examine::examine, testing::cases::cases};
use proptest::prelude::*;
use std::collections::BTreeMap;
use tidegate_schemas::{
    record::{self, EntryRecord, Meta, RefusedWait, key},
    submission::Priority,
};

/// Steps that end between the whole seconds by which time goes on.
const STEPS_MS: [u64; 3] = [15_500, 60_500, 300_500];
const MESSAGES: u64 = 14;
const DEVICE_MESSAGES: u64 = 7;

#[derive(Debug, Clone)]
enum Act {
    Enqueue(u8, Priority, OnFull),
    Settle(u8, Event),
    Operate(u8, Event),
    Fault(CommitFault),
    Restart,
    Advance(u16),
    Report,
}

fn act() -> impl Strategy<Value = Act> {
    let event = prop::sample::select(vec![
        Event::Deliver,
        Event::Deliver,
        Event::Park,
        Event::Park,
        Event::Park,
        Event::Refuse,
        Event::Hold,
    ]);
    let operation = prop::sample::select(vec![Event::Hold, Event::Release, Event::Retry, Event::Purge]);
    let fault = prop::sample::select(vec![CommitFault::Full, CommitFault::Io, CommitFault::LostBeforeFlush]);
    let priority = prop::sample::select(vec![Priority::Normal, Priority::Normal, Priority::High, Priority::BreakGlass]);
    let on_full = prop::sample::select(vec![OnFull::Reject, OnFull::DropOldest]);
    prop_oneof![
        8 => (any::<u8>(), priority, on_full).prop_map(|(n, p, f)| Act::Enqueue(n, p, f)),
        8 => (any::<u8>(), event).prop_map(|(n, e)| Act::Settle(n, e)),
        3 => (any::<u8>(), operation).prop_map(|(n, e)| Act::Operate(n, e)),
        1 => fault.prop_map(Act::Fault),
        1 => Just(Act::Restart),
        2 => (1_u16..400).prop_map(Act::Advance),
        1 => Just(Act::Report),
    ]
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
        u64::try_from(self.began.elapsed().as_millis()).unwrap()
    }

    fn place(&self, n: u8) -> Option<u64> {
        self.messages.keys().nth(usize::from(n) % self.messages.len().max(1)).copied()
    }

    fn get(&mut self, seq: u64) -> &mut Message {
        self.messages.get_mut(&seq).unwrap()
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
                let due_ms = self.now_ms() + STEPS_MS[usize::try_from(refusals - 1).unwrap().min(2)];
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
    let steps = STEPS_MS.map(|ms| SignedDuration::from_millis(i64::try_from(ms).unwrap())).to_vec();
    RetryPolicy { steps, jitter: 0.0 }
}

async fn play(head_of_line: HeadOfLine, acts: Vec<Act>) -> Result<(), TestCaseError> {
    let rig = Rig::new();
    let limits = Limits { receipting: true, ..Limits::default() };
    let mut outbox = rig.start_with(limits);
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
                let message = Enqueue { submission, limits, break_glass_per_hour: Some(u16::MAX) };
                match (outbox.send(message).await.unwrap(), room) {
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
                    (answer, room) => prop_assert!(false, "{answer:?}, and the model says {room:?}"),
                }
            }
            Act::Settle(n, event) => {
                // Mostly what a courier would have in hand.
                let turn = model.turn();
                let picked = (n % 4 > 0).then(|| turn.get(usize::from(n) % turn.len().max(1)).copied()).flatten();
                if let Some(seq) = picked.or_else(|| model.place(n)) {
                    let settlements = vec![Settlement { seq, event, error: None, receipt: None }];
                    let destination = "ward".parse().unwrap();
                    let message = Settle { destination, settlements, head_of_line, retry: retry(), busy_ms: 900_000 };
                    if let Ok(settled) = outbox.send(message).await.unwrap() {
                        prop_assert_eq!(model.settle(seq, event), settled.overtaken.is_empty());
                    }
                }
            }
            Act::Operate(n, event) => {
                if let Some(seq) = model.place(n) {
                    match operate(&outbox, seq, event).await {
                        Err(OperateError::Store(_)) => {}
                        answer => prop_assert_eq!(model.operate(seq, event), answer.ok()),
                    }
                }
            }
            Act::Fault(fault) => rig.store.fail_next(1, fault),
            Act::Restart => {
                outbox.send(Shutdown).await.unwrap();
                while outbox.connected() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                outbox = rig.start_with(limits);
                ready(&outbox).await;
            }
            Act::Advance(seconds) => {
                tokio::time::sleep(Duration::from_secs(u64::from(seconds))).await;
                expire(&outbox, &mut model).await?;
            }
            Act::Report => {
                if let Ok(Some(batch)) = outbox.send(PendingReports { count_max: 10 }).await.unwrap() {
                    let _ = outbox.send(Reported { last: batch.last, event_id: "$e".into() }).await.unwrap();
                }
                let receipts = outbox.send(PendingReceipts { count_max: 3 }).await.unwrap().unwrap();
                if let Some(last) = receipts.last() {
                    let _ = outbox.send(Receipted { last: last.no }).await.unwrap();
                }
            }
        }
        check(&outbox, &model).await?;
    }
    // Nothing is under way any more: what is on disk is all there is.
    outbox.send(Shutdown).await.unwrap();
    while outbox.connected() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    scan(&rig, &model)
}

/// Entries that ended by themselves; all others are where the model says.
async fn expire(outbox: &Addr<Outbox>, model: &mut Model) -> Result<(), TestCaseError> {
    for (seq, message) in &mut model.messages {
        let place = EntryRef { destination: "ward".parse().unwrap(), seq: *seq };
        let state = match outbox.send(Show { name: EntryName::Place(place) }).await.unwrap().unwrap() {
            Some(Shown::Waiting(view)) => view.state,
            Some(Shown::Ended(view)) => view.state,
            None => panic!("an acknowledged entry is nowhere"),
        };
        if state == EntryState::Expired && message.state.on(Event::Expire).is_ok() {
            message.state = state;
        }
        prop_assert_eq!(state, message.state);
    }
    Ok(())
}

async fn check(outbox: &Addr<Outbox>, model: &Model) -> Result<(), TestCaseError> {
    let seen = observe(outbox).await;
    prop_assert_eq!((seen.gap, seen.account.refused), (0, model.refused));
    let mut account = seen.account;
    for state in EntryState::ALL.into_iter().filter(|state| *state != EntryState::Refused) {
        let expected = model.messages.values().filter(|m| m.state == state).count() as u64;
        prop_assert_eq!(*account.slot(state), expected, "{:?}", state);
    }
    prop_assert_eq!(pick_by(outbox, 500, model.head_of_line, false).await, model.turn());
    Ok(())
}

/// Marks and counters are those of a full scan.
fn scan(rig: &Rig, model: &Model) -> Result<(), TestCaseError> {
    let contents = rig.store.contents();
    let mut entries: BTreeMap<u64, EntryRecord> = BTreeMap::new();
    for (at, value) in contents.iter().filter(|(at, _)| matches!(at[0], b'm' | b'h')) {
        let entry: EntryRecord = record::decode(at, value).unwrap();
        prop_assert_eq!(at[0] == b'm', entry.state == EntryState::Queued);
        prop_assert!(entries.insert(key::seq_of(at).unwrap(), entry).is_none(), "once");
    }
    let queued = || entries.iter().filter(|(_, entry)| entry.state == EntryState::Queued);
    let urgent: Vec<Vec<u8>> = queued()
        .filter_map(|(seq, entry)| key::class_of(entry.envelope.priority).map(|class| key::urgent(0, class, *seq)))
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let of_kind = |prefix: u8| contents.keys().filter(|at| at[0] == prefix).cloned().collect::<Vec<_>>();
    prop_assert_eq!(of_kind(b'i'), urgent.clone());
    let waits: Vec<Vec<u8>> =
        queued().filter(|(_, entry)| entry.due_custody_ms > 0).map(|(seq, _)| key::refused(0, *seq)).collect();
    prop_assert_eq!(of_kind(b'r'), waits.clone());
    for at in &waits {
        let (wait, entry) =
            (record::decode::<RefusedWait>(at, &contents[at]).unwrap(), &entries[&key::seq_of(at).unwrap()]);
        prop_assert_eq!((wait.device, wait.due_custody_ms), (entry.envelope.device.clone(), entry.due_custody_ms));
    }
    for (seq, entry) in &entries {
        let message = &model.messages[seq];
        prop_assert_eq!((entry.state, entry.refusals), (message.state, message.refusals));
        prop_assert_eq!(entry.due_custody_ms > 0, message.due_ms.is_some());
    }
    if model.messages.is_empty() {
        return Ok(());
    }
    let at = key::destination(0);
    let dest: DestinationRecord = record::decode(&at, &contents[&at]).unwrap();
    let count = |state| entries.values().filter(|entry| entry.state == state).count() as u64;
    prop_assert_eq!(
        (dest.queued, dest.held, dest.parked, dest.dead),
        (count(EntryState::Queued), count(EntryState::Held), count(EntryState::Parked), count(EntryState::Dead))
    );
    let bytes: u64 = entries.values().map(|entry| u64::from(entry.envelope.body_bytes)).sum();
    prop_assert_eq!(dest.waiting_bytes, bytes);
    let alarms = queued().filter(|(_, entry)| entry.envelope.priority == Priority::BreakGlass).count() as u64;
    prop_assert_eq!(
        (dest.urgent, dest.break_glass, dest.refused_waiting),
        (urgent.len() as u64, alarms, waits.len() as u64)
    );
    prop_assert!(dest.park_streak.len() < 10 && dest.throughput.busy_ms <= 3_600_000);
    let meta: Meta = record::decode(&key::META, &contents[&key::META[..]]).unwrap();
    prop_assert_eq!((meta.account.gap(), meta.account.queued), (0, dest.queued));
    let examined = examine(&MemoryStore::with_contents(0, contents.clone()), &Progress::default()).unwrap();
    prop_assert_eq!((examined.problems, examined.destinations[0].queued), (Vec::<String>::new(), dest.queued));
    Ok(())
}

proptest! {
    #![proptest_config(cases(96))]

    #[test]
    fn whatever_happens_every_acknowledged_entry_is_in_exactly_one_state_and_comes_in_its_turn(
        head_of_line in prop::sample::select(vec![
            HeadOfLine::Block, HeadOfLine::Rotate, HeadOfLine::ParkAfter(1), HeadOfLine::ParkAfter(3),
        ]),
        acts in prop::collection::vec(act(), 1..80),
    ) {
        actix::System::new().block_on(async move {
            tokio::time::pause();
            play(head_of_line, acts).await
        })?;
    }
}
