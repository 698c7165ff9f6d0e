//! Reading: what operators ask for, and what picking is made of. Runs on blocking threads beside the writer and sees what is committed.

use crate::ports::outbox_store::OutboxStore;
use tidegate_schemas::{
    custody::CustodyTime,
    entry::EntryState,
    id::{DestinationId, DeviceId, EntryRef, MessageId},
    messages::outbox::{EntryName, EntryPage, StoreError},
    record::{self, DestinationNumber, EntryRecord, LedgerRecord, QuarantineRecord, RecordError, key},
    submission::Payload,
    view::{LedgerView, QuarantineView, Shown},
};

/// Pairs read at a time: a long iterator would fill the memory.
pub(super) const SLICE: usize = 256;
/// Records that one listing looks at before it gives a page with a cursor, however few match.
const LOOKED_AT_MAX: usize = 20_000;

pub(super) fn number_of(store: &dyn OutboxStore, name: &DestinationId) -> Result<Option<u32>, StoreError> {
    let at = key::name(name.as_str());
    let Some(value) = store.get(&at)? else { return Ok(None) };
    record::decode::<DestinationNumber>(&at, &value)
        .map(|number| Some(number.0))
        .map_err(|error| StoreError::Corrupt(error.to_string()))
}

pub(super) type Body = Result<Payload, RecordError>;

/// The body, from its record or its chunks.
pub(super) fn body_of(
    store: &dyn OutboxStore,
    number: u32,
    seq: u64,
    record: &EntryRecord,
) -> Result<Body, StoreError> {
    if record.chunks == 0 {
        return Ok(Ok(Payload::new(record.body.clone())));
    }
    let mut body = Vec::with_capacity(record.envelope.body_bytes as usize);
    for chunk in 0..record.chunks {
        let at = key::chunk(number, seq, chunk);
        let Some(value) = store.get(&at)? else { return Ok(Err(RecordError::Short)) };
        match record::decode_chunk(&at, &value) {
            Ok(bytes) => body.extend_from_slice(bytes),
            Err(error) => return Ok(Err(error)),
        }
    }
    if body.len() == record.envelope.body_bytes as usize {
        Ok(Ok(Payload::new(body)))
    } else {
        Ok(Err(RecordError::Short))
    }
}

/// What a listing asks for.
#[derive(Debug, Clone)]
pub(super) struct Filter {
    pub states: Vec<EntryState>,
    pub device: Option<DeviceId>,
    pub id: Option<MessageId>,
}

impl Filter {
    fn wants(&self, record: &EntryRecord) -> bool {
        (self.states.is_empty() || self.states.contains(&record.state))
            && self.device.as_ref().is_none_or(|device| *device == record.envelope.device)
            && self.id.is_none_or(|id| id == record.envelope.id)
    }
}

/// A page of entries of these destinations (sorted), after a place.
pub(super) fn list(
    store: &dyn OutboxStore,
    destinations: &[DestinationId],
    filter: &Filter,
    after: Option<&EntryRef>,
    limit: usize,
    time: &CustodyTime,
) -> Result<EntryPage, StoreError> {
    let mut page = EntryPage::default();
    let mut looked_at = 0_usize;
    for name in destinations {
        let from_seq = match after {
            Some(after) if *name < after.destination => continue,
            Some(after) if *name == after.destination => after.seq.saturating_add(1),
            _ => 0,
        };
        let Some(number) = number_of(store, name)? else { continue };
        let mut places = Places::new(store, number, from_seq);
        while let Some((seq, record)) = places.next()? {
            looked_at += 1;
            let entry = EntryRef { destination: name.clone(), seq };
            if filter.wants(&record) {
                page.entries.push(record.view(entry.clone(), time));
            }
            if page.entries.len() >= limit || looked_at >= LOOKED_AT_MAX {
                page.next = Some(entry);
                return Ok(page);
            }
        }
    }
    Ok(page)
}

/// Walks the queued and the aside entries of one destination together, in order of place.
struct Places<'s> {
    store: &'s dyn OutboxStore,
    queued: Walk,
    aside: Walk,
}

struct Walk {
    from: Vec<u8>,
    to: Vec<u8>,
    slice: std::collections::VecDeque<(u64, EntryRecord)>,
    done: bool,
}

impl Walk {
    fn fill(&mut self, store: &dyn OutboxStore) -> Result<(), StoreError> {
        while self.slice.is_empty() && !self.done {
            let pairs = store.scan(&self.from, &self.to, SLICE, false)?;
            self.done = pairs.len() < SLICE;
            if let Some((last, _)) = pairs.last() {
                self.from = [last.as_slice(), &[0]].concat();
            }
            for (at, value) in pairs {
                if let (Some(seq), Ok(record)) = (key::seq_of(&at), record::decode(&at, &value)) {
                    self.slice.push_back((seq, record));
                }
            }
        }
        Ok(())
    }
}

impl<'s> Places<'s> {
    fn new(store: &'s dyn OutboxStore, number: u32, from_seq: u64) -> Self {
        let walk = |from, to| Walk { from, to, slice: std::collections::VecDeque::new(), done: false };
        Self {
            store,
            queued: walk(key::queued(number, from_seq), key::queued(number, u64::MAX)),
            aside: walk(key::aside(number, from_seq), key::aside(number, u64::MAX)),
        }
    }

    fn next(&mut self) -> Result<Option<(u64, EntryRecord)>, StoreError> {
        self.queued.fill(self.store)?;
        self.aside.fill(self.store)?;
        let queued = self.queued.slice.front().map(|(seq, _)| *seq);
        let aside = self.aside.slice.front().map(|(seq, _)| *seq);
        let from_queue = match (queued, aside) {
            (Some(q), Some(a)) => q <= a,
            (q, _) => q.is_some(),
        };
        Ok(if from_queue { self.queued.slice.pop_front() } else { self.aside.slice.pop_front() })
    }
}

/// One entry by place or id; one that has ended is looked for in the ledger.
pub(super) fn show(
    store: &dyn OutboxStore,
    destinations: &[DestinationId],
    name: &EntryName,
    time: &CustodyTime,
) -> Result<Option<Shown>, StoreError> {
    match name {
        EntryName::Place(place) => {
            if let Some(number) = number_of(store, &place.destination)? {
                for at in [key::queued(number, place.seq), key::aside(number, place.seq)] {
                    if let Some(value) = store.get(&at)? {
                        let record: EntryRecord =
                            record::decode(&at, &value).map_err(|e| StoreError::Corrupt(e.to_string()))?;
                        return Ok(Some(Shown::Waiting(record.view(place.clone(), time))));
                    }
                }
            }
            find_in_ledger(store, |view| view.entry == *place)
        }
        EntryName::Id(id) => {
            let filter = Filter { states: vec![], device: None, id: Some(*id) };
            let mut after = None;
            loop {
                let page = list(store, destinations, &filter, after.as_ref(), 1, time)?;
                if let Some(view) = page.entries.into_iter().next() {
                    return Ok(Some(Shown::Waiting(view)));
                }
                match page.next {
                    Some(next) => after = Some(next),
                    None => return find_in_ledger(store, |view| view.id == *id),
                }
            }
        }
    }
}

fn find_in_ledger(store: &dyn OutboxStore, wanted: impl Fn(&LedgerView) -> bool) -> Result<Option<Shown>, StoreError> {
    let mut before = None;
    loop {
        let page = ledger(store, before, SLICE)?;
        let Some(last) = page.last().map(|view| view.no) else { return Ok(None) };
        if let Some(view) = page.into_iter().find(|view| wanted(view)) {
            return Ok(Some(Shown::Ended(view)));
        }
        before = Some(last);
    }
}

/// The ledger, newest first.
pub(super) fn ledger(
    store: &dyn OutboxStore,
    before: Option<u64>,
    limit: usize,
) -> Result<Vec<LedgerView>, StoreError> {
    let pairs = store.scan(&key::ledger(0), &key::ledger(before.unwrap_or(u64::MAX)), limit, true)?;
    Ok(pairs
        .into_iter()
        .filter_map(|(at, value)| {
            let no = at.get(1..9).and_then(|b| b.try_into().ok()).map(u64::from_be_bytes)?;
            record::decode::<LedgerRecord>(&at, &value).ok().map(|record| record.view(no))
        })
        .collect())
}

/// The quarantine, newest first.
pub(super) fn quarantine(
    store: &dyn OutboxStore,
    before: Option<u64>,
    limit: usize,
) -> Result<Vec<QuarantineView>, StoreError> {
    let pairs = store.scan(&key::quarantine(0), &key::quarantine(before.unwrap_or(u64::MAX)), limit, true)?;
    Ok(pairs
        .into_iter()
        .filter_map(|(at, value)| {
            let no = at.get(1..9).and_then(|b| b.try_into().ok()).map(u64::from_be_bytes)?;
            record::decode::<QuarantineRecord>(&at, &value).ok().map(|record| record.view(no))
        })
        .collect())
}
