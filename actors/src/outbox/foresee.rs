//! Foreseeing: one pass over a destination's queue, in its order, by the pure arithmetic of `schemas::forecast`. Reads what is committed,
//! on a blocking thread, and keeps nothing in memory but the sums. Of a message that is asked about far back in its queue, those before it
//! are looked at up to [`LOOKED_AT_BEFORE_MAX`], and the others are taken to be like them: whoever asks waits for the answer.

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

/// Messages before one that is asked about that are looked at.
const LOOKED_AT_BEFORE_MAX: u64 = 4_000;

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
    let mut looked_at = 0;
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
            looked_at += 1;
            if let Some(asked) = message.about.filter(|asked| *asked > seq && looked_at == LOOKED_AT_BEFORE_MAX) {
                if let Some(entry) = queued(store, number, asked)? {
                    foreseer.pass_over(queued_between(record, seq, asked, looked_at));
                    foreseer.add(asked, &entry.envelope);
                    asked_device = Some(entry.envelope.device);
                }
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

/// About how many wait between two places: as dense as all that waits in turn behind those that were looked at.
fn queued_between(record: &DestinationRecord, from: u64, to: u64, looked_at: u64) -> u64 {
    let left = record.queued.saturating_sub(record.urgent).saturating_sub(looked_at);
    let places = record.next_seq.saturating_sub(from + 1).max(1);
    let between = to.saturating_sub(from + 1);
    let about = u128::from(left) * u128::from(between) / u128::from(places);
    u64::try_from(about).unwrap_or(between).min(between)
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

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_schemas::id::DestinationId;

    #[test]
    fn between_two_places_the_queue_is_as_dense_as_all_behind_the_first() -> Result<(), Box<dyn std::error::Error>> {
        let name: DestinationId = "ward".parse()?;
        let record = |queued, urgent, next_seq| DestinationRecord {
            queued,
            urgent,
            next_seq,
            ..DestinationRecord::new(name.clone())
        };
        // No gap: exact.
        assert_eq!(queued_between(&record(100_000, 0, 100_000), 3_999, 50_000, 4_000), 46_000);
        // Every second one is gone, and ten that go first lie elsewhere.
        assert_eq!(queued_between(&record(50_010, 10, 108_000), 7_999, 58_000, 4_000), 23_000);
        // Neighbours, and a record that is older than what was read.
        assert_eq!(queued_between(&record(9, 0, 9), 4, 5, 4), 0);
        assert_eq!(queued_between(&record(3, 0, 3), 4_000, 9_000, 4_000), 0);
        Ok(())
    }
}
