//! Foreseeing: one pass over a destination's queue, in its order, by the pure arithmetic of `schemas::forecast`. Reads what is committed,
//! on a blocking thread, and keeps nothing in memory but the sums.

use super::read::{SLICE, number_of};
use crate::ports::outbox_store::OutboxStore;
use jiff::Timestamp;
use tidegate_schemas::{
    agreement::HeadOfLine,
    custody::CustodyTime,
    forecast::Foreseer,
    id::DeviceId,
    messages::outbox::{Foresee, Foreseen, StoreError},
    record::{self, DestinationRecord, EntryRecord, RefusedWait, key},
};

/// The forecast that is asked for; `record` is the destination's as the writer published it last.
pub(super) fn foresee(
    store: &dyn OutboxStore,
    message: &Foresee,
    record: &DestinationRecord,
    time: CustodyTime,
    now: Timestamp,
) -> Result<Foreseen, StoreError> {
    let agreement = &message.agreement;
    let mut foreseer = Foreseer::new(agreement, now, time.clone(), record.odometer, &record.throughput);
    if let Some(seq) = message.about {
        foreseer = foreseer.about(seq);
    }
    let Some(number) = number_of(store, &message.destination)? else {
        return Ok(Foreseen { forecast: foreseer.finish(), behind: None });
    };
    let mut asked_device = None;
    // Those that go first, then the others: as a pick has them.
    let urgent = urgent_seqs(store, number)?;
    for seq in &urgent {
        if let Some(entry) = queued(store, number, *seq)? {
            if message.about == Some(*seq) {
                asked_device = Some(entry.envelope.device.clone());
            }
            if !foreseer.add(*seq, &entry.envelope) {
                break;
            }
        }
    }
    let over = message.about.is_some() && asked_device.is_some();
    let (first, to) = (key::queued(number, record.head_seq), key::queued(number, u64::MAX));
    let mut next = (!over).then_some(first);
    'queue: while let Some(from) = next.take() {
        let page = store.scan(&from, &to, SLICE, false)?;
        for (at, value) in &page {
            let (Some(seq), Ok(entry)) = (key::seq_of(at), record::decode::<EntryRecord>(at, value)) else { continue };
            if urgent.binary_search(&seq).is_ok() {
                continue;
            }
            if message.about == Some(seq) {
                asked_device = Some(entry.envelope.device.clone());
            }
            if !foreseer.add(seq, &entry.envelope) {
                break 'queue;
            }
        }
        let last = page.last().filter(|_| page.len() == SLICE);
        next = last.map(|(last, _)| [last.as_slice(), &[0]].concat());
    }
    let behind = match (message.about, asked_device) {
        (Some(seq), Some(device)) if agreement.head_of_line == HeadOfLine::Block => {
            blocked_by(store, number, seq, &device, &time)?
        }
        _ => None,
    };
    Ok(Foreseen { forecast: foreseer.finish(), behind })
}

fn queued(store: &dyn OutboxStore, number: u32, seq: u64) -> Result<Option<EntryRecord>, StoreError> {
    let at = key::queued(number, seq);
    Ok(store.get(&at)?.and_then(|value| record::decode(&at, &value).ok()))
}

/// Places of the marks of what goes first, break-glass before high priority, each in order. Sorted by place for the look-up.
fn urgent_seqs(store: &dyn OutboxStore, number: u32) -> Result<Vec<u64>, StoreError> {
    let mut seqs = Vec::new();
    let (mut from, to) = (key::urgent(number, 0, 0), key::urgent(number, u8::MAX, u64::MAX));
    loop {
        let page = store.scan(&from, &to, SLICE, false)?;
        let seq_of = |at: &[u8]| at.get(6..14).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
        seqs.extend(page.iter().filter_map(|(at, _)| seq_of(at)));
        match page.last() {
            Some((last, _)) if page.len() == SLICE => from = [last.as_slice(), &[0]].concat(),
            _ => break,
        }
    }
    seqs.sort_unstable();
    Ok(seqs)
}

/// The earlier message of this device that was refused and holds back what comes after it.
fn blocked_by(
    store: &dyn OutboxStore,
    number: u32,
    seq: u64,
    device: &DeviceId,
    time: &CustodyTime,
) -> Result<Option<u64>, StoreError> {
    let marks = store.scan(&key::refused(number, 0), &key::refused(number, seq), SLICE, false)?;
    let holds = marks.iter().find_map(|(at, value)| {
        let mark: RefusedWait = record::decode(at, value).ok()?;
        (mark.device == *device && mark.due_custody_ms > time.now_ms).then(|| key::seq_of(at)).flatten()
    });
    Ok(holds)
}
