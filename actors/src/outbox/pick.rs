//! Picking: what a courier gets next, and what it may still send.
//!
//! By kind: break-glass messages, those of high priority, the others. Of each kind first those that were refused and are due again, by
//! place, then the others by place. What was refused is at most half of a pick while there is anything else.
//!
//! A refused entry that is not due is passed over. Under `block` all later ones of its device and priority are, too, as long as it has
//! its mark, due or not: in one request with it they would overtake it.

use super::{
    entries::REFUSED_WAIT_MAX,
    read::{SLICE, body_of, number_of},
};
use crate::ports::outbox_store::OutboxStore;
use std::collections::{BTreeMap, HashMap, HashSet};
use tidegate_schemas::{
    agreement::HeadOfLine,
    custody::CustodyTime,
    entry::{Entry, Envelope},
    id::DeviceId,
    messages::outbox::{Pick, StillQueued, StoreError},
    record::{self, EntryRecord, RefusedWait, key},
    submission::Priority,
};

/// The kinds, in the order in which they go.
const KINDS: [Priority; 3] = [Priority::BreakGlass, Priority::High, Priority::Normal];

/// What a pick found.
#[derive(Debug, Default)]
pub(super) struct Picked {
    pub entries: Vec<Entry>,
    /// Places whose records or bodies can't be read back.
    pub damaged: Vec<u64>,
}

/// The refused entries of a destination that wait for their next try.
struct Waits {
    now_ms: u64,
    all: BTreeMap<u64, RefusedWait>,
    /// Under `block`: the first of each device and priority.
    blocking: HashMap<(DeviceId, Priority), u64>,
}

impl Waits {
    fn read(
        store: &dyn OutboxStore,
        number: u32,
        time: &CustodyTime,
        head_of_line: HeadOfLine,
    ) -> Result<Self, StoreError> {
        let (mut from, to) = (key::refused(number, 0), key::refused(number, u64::MAX));
        let mut waits = Self { now_ms: time.now_ms, all: BTreeMap::new(), blocking: HashMap::new() };
        for _ in 0..=REFUSED_WAIT_MAX as usize / SLICE {
            let page = store.scan(&from, &to, SLICE, false)?;
            for (at, value) in &page {
                let (Some(seq), Ok(wait)) = (key::seq_of(at), record::decode::<RefusedWait>(at, value)) else {
                    continue;
                };
                if head_of_line == HeadOfLine::Block {
                    // By place: the first one stays.
                    waits.blocking.entry((wait.device.clone(), wait.priority)).or_insert(seq);
                }
                waits.all.insert(seq, wait);
            }
            match page.last() {
                Some((last, _)) if page.len() == SLICE => from = [last.as_slice(), &[0]].concat(),
                _ => break,
            }
        }
        Ok(waits)
    }

    fn is_due(&self, wait: &RefusedWait) -> bool {
        wait.due_custody_ms <= self.now_ms
    }

    fn is_blocked(&self, seq: u64, device: &DeviceId, priority: Priority) -> bool {
        // Without any, no name is copied.
        !self.blocking.is_empty() && self.blocking.get(&(device.clone(), priority)).is_some_and(|first| *first < seq)
    }

    fn may_go(&self, seq: u64, envelope: &Envelope) -> bool {
        self.all.get(&seq).is_none_or(|wait| self.is_due(wait))
            && !self.is_blocked(seq, &envelope.device, envelope.priority)
    }

    /// Those of one kind that are due, by place.
    fn due(&self, kind: Priority) -> Vec<u64> {
        let due = self.all.iter().filter(|(seq, wait)| {
            wait.priority == kind && self.is_due(wait) && !self.is_blocked(**seq, &wait.device, kind)
        });
        due.map(|(seq, _)| *seq).collect()
    }
}

struct Picking<'s> {
    store: &'s dyn OutboxStore,
    number: u32,
    time: &'s CustodyTime,
    waits: Waits,
    picked: Picked,
    count_max: usize,
    bytes_max: usize,
    bytes: usize,
    /// No more go in.
    full: bool,
}

/// The next queued entries. What has outlived the time that its device gave it is left to the sweep, not delivered.
pub(super) fn pick(
    store: &dyn OutboxStore,
    pick: &Pick,
    time: &CustodyTime,
    head_seq: u64,
) -> Result<Picked, StoreError> {
    let Some(number) = number_of(store, &pick.destination)? else { return Ok(Picked::default()) };
    let waits = Waits::read(store, number, time, pick.head_of_line)?;
    let kinds = if pick.break_glass_only { &KINDS[..1] } else { &KINDS };
    let retries: Vec<(Priority, Vec<u64>)> = kinds.iter().map(|kind| (*kind, waits.due(*kind))).collect();
    let mut picking = Picking {
        store,
        number,
        time,
        waits,
        picked: Picked::default(),
        count_max: pick.count_max,
        bytes_max: pick.bytes_max,
        bytes: 0,
        full: pick.count_max == 0,
    };
    let mut retries_left = (pick.count_max / 2).max(1);
    let mut put_off = Vec::new();
    for (kind, due) in retries {
        let now = due.len().min(retries_left);
        retries_left -= now;
        put_off.extend_from_slice(&due[now..]);
        picking.add_places(&due[..now])?;
        match key::class_of(kind) {
            Some(class) => picking.add_urgent(class)?,
            None => picking.add_queue(head_seq.max(pick.after_seq.saturating_add(1)))?,
        }
    }
    picking.add_places(&put_off)?;
    Ok(picking.picked)
}

impl Picking<'_> {
    /// Those that were refused and are due.
    fn add_places(&mut self, seqs: &[u64]) -> Result<(), StoreError> {
        for seq in seqs {
            if self.full {
                break;
            }
            let at = key::queued(self.number, *seq);
            if let Some(value) = self.store.get(&at)? {
                self.add(*seq, &at, &value)?;
            }
        }
        Ok(())
    }

    /// Those of a class of marks that were not refused.
    fn add_urgent(&mut self, class: u8) -> Result<(), StoreError> {
        let (mut from, to) = (key::urgent(self.number, class, 0), key::urgent(self.number, class, u64::MAX));
        while !self.full {
            let page = self.store.scan(&from, &to, SLICE, false)?;
            let seqs: Vec<u64> = page.iter().filter_map(|(at, _)| key::urgent_seq_of(at)).collect();
            let fresh: Vec<u64> = seqs.into_iter().filter(|seq| !self.waits.all.contains_key(seq)).collect();
            self.add_places(&fresh)?;
            match page.last() {
                Some((last, _)) if page.len() == SLICE => from = [last.as_slice(), &[0]].concat(),
                _ => break,
            }
        }
        Ok(())
    }

    /// Those in turn that were not refused.
    fn add_queue(&mut self, from_seq: u64) -> Result<(), StoreError> {
        let (mut from, to) = (key::queued(self.number, from_seq), key::queued(self.number, u64::MAX));
        while !self.full {
            let page = self.store.scan(&from, &to, SLICE, false)?;
            for (at, value) in &page {
                let Some(seq) = key::seq_of(at).filter(|seq| !self.waits.all.contains_key(seq)) else { continue };
                if self.full {
                    return Ok(());
                }
                self.add_in_turn(seq, at, value)?;
            }
            match page.last() {
                Some((last, _)) if page.len() == SLICE => from = [last.as_slice(), &[0]].concat(),
                _ => break,
            }
        }
        Ok(())
    }

    fn add_in_turn(&mut self, seq: u64, at: &[u8], value: &[u8]) -> Result<(), StoreError> {
        match record::decode::<EntryRecord>(at, value) {
            // It came by its mark.
            Ok(record) if key::class_of(record.envelope.priority).is_some() => Ok(()),
            Ok(record) => self.add_record(seq, record),
            Err(_) => {
                self.picked.damaged.push(seq);
                Ok(())
            }
        }
    }

    fn add(&mut self, seq: u64, at: &[u8], value: &[u8]) -> Result<(), StoreError> {
        match record::decode::<EntryRecord>(at, value) {
            Ok(record) => self.add_record(seq, record),
            // The queue is gone through, too: it is found there once more at most.
            Err(_) => {
                self.picked.damaged.push(seq);
                Ok(())
            }
        }
    }

    fn add_record(&mut self, seq: u64, record: EntryRecord) -> Result<(), StoreError> {
        let envelope = &record.envelope;
        if envelope.is_expired(self.time) || self.waits.is_blocked(seq, &envelope.device, envelope.priority) {
            return Ok(());
        }
        let size = envelope.body_bytes as usize;
        if !self.picked.entries.is_empty() && self.bytes + size > self.bytes_max {
            self.full = true;
            return Ok(());
        }
        match body_of(self.store, self.number, seq, &record)? {
            Ok(body) => {
                self.bytes += size;
                self.picked.entries.push(Entry {
                    seq,
                    state: record.state,
                    refusals: record.refusals,
                    envelope: record.envelope,
                    body,
                });
                self.full = self.picked.entries.len() >= self.count_max;
            }
            Err(_) => self.picked.damaged.push(seq),
        }
        Ok(())
    }
}

/// Those of these places that are queued and may be delivered now, together.
pub(super) fn still_queued(
    store: &dyn OutboxStore,
    asked: &StillQueued,
    time: &CustodyTime,
) -> Result<Vec<u64>, StoreError> {
    let Some(number) = number_of(store, &asked.destination)? else { return Ok(vec![]) };
    let waits = Waits::read(store, number, time, asked.head_of_line)?;
    let mut queued = Vec::with_capacity(asked.seqs.len());
    let mut devices = HashSet::new();
    for seq in &asked.seqs {
        let at = key::queued(number, *seq);
        let Some(value) = store.get(&at)? else { continue };
        let Ok(EntryRecord { envelope, .. }) = record::decode(&at, &value) else { continue };
        if envelope.is_expired(time) || !waits.may_go(*seq, &envelope) {
            continue;
        }
        if asked.head_of_line == HeadOfLine::Block && !devices.insert((envelope.device, envelope.priority)) {
            // Of one request any may be refused: a later one must not be taken then.
            continue;
        }
        queued.push(*seq);
    }
    Ok(queued)
}
