//! An outbox as it was some time ago: imported from an export, or put back from an old copy.
//!
//! What it says waits may have been delivered since, and would be delivered again: so all its destinations are paused, until a person has
//! looked. And the broker's session went on: a packet id may stand for another publication by now, so none is known, and what the
//! broker sends again is taken again, rather than lost.

use crate::ports::outbox_store::{BATCH_BYTES_MAX, Batch, OutboxStore};
use tidegate_schemas::{
    messages::outbox::StoreError,
    record::{self, DestinationRecord, RecordError},
};

/// What becomes of a record when the outbox it is of is restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Restored {
    /// It stays.
    Same,
    /// It is a destination, which is paused now.
    Paused(Vec<u8>),
    /// It goes.
    Gone,
}

/// What becomes of the record at this key.
///
/// # Errors
/// When a destination can't be read.
pub fn restored(at: &[u8], value: &[u8]) -> Result<Restored, RecordError> {
    match at.first() {
        Some(b'p') => Ok(Restored::Gone),
        Some(b'd') => {
            let record: DestinationRecord = record::decode(at, value)?;
            let paused = DestinationRecord { paused: true, signal: None, ..record };
            Ok(Restored::Paused(record::encode(at, &paused)))
        }
        _ => Ok(Restored::Same),
    }
}

/// Makes a store that was put back from an old copy such a one, in place; how many destinations are paused.
///
/// # Errors
/// When it can't be read or written. It can be done again then.
pub fn hold(store: &dyn OutboxStore) -> Result<u64, StoreError> {
    let (mut batch, mut paused) = (Batch::default(), 0);
    for kind in [b'd', b'p'] {
        for (at, value) in store.scan(&[kind], &[kind + 1], usize::MAX, false)? {
            let outcome = restored(&at, &value)
                .map_err(|error| StoreError::Corrupt(format!("a destination can't be read: {error}")))?;
            match outcome {
                Restored::Same => {}
                Restored::Paused(value) => {
                    paused += 1;
                    batch.put(at, value);
                }
                Restored::Gone => batch.remove(at),
            }
            if batch.bytes() > BATCH_BYTES_MAX / 2 {
                store.commit(&std::mem::take(&mut batch))?;
            }
        }
    }
    store.commit(&batch)?;
    Ok(paused)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::testing::memory_store::MemoryStore;
    use tidegate_schemas::record::{PacketSlot, key};

    #[test]
    fn destinations_are_paused_and_packet_ids_forgotten() {
        let store = MemoryStore::new(1);
        let mut batch = Batch::default();
        for number in 1..=3 {
            let at = key::destination(number);
            let name = format!("ward-{number}").parse().unwrap();
            batch.put(at.clone(), record::encode(&at, &DestinationRecord::new(name)));
        }
        let slot = PacketSlot { session: 1, content: [0; 16], made: None, first_sendings: 1 };
        batch.put(key::packet(7), record::encode(&key::packet(7), &slot));
        batch.put(b"m".to_vec(), b"left alone".to_vec());
        store.commit(&batch).unwrap();
        assert_eq!(hold(&store), Ok(3));
        let all = store.contents();
        assert_eq!(all.len(), 4);
        for number in 1..=3 {
            let at = key::destination(number);
            let record: DestinationRecord = record::decode(&at, &all[&at]).unwrap();
            assert!(record.paused && record.signal.is_none());
        }
        assert_eq!(hold(&store), Ok(3), "again");
    }
}
