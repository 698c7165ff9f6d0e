//! Damage: an entry that can't be read back leaves the queue, and its raw bytes are kept for whoever can mend them.
//!
//! They lie under `x` and are no part of the queue: they count as quarantined, and their bytes no longer as waiting. At most
//! [`DAMAGED_KEPT_MAX`] are kept, with their chunks; a disk that goes on failing fills nothing.

use super::core::Core;
use crate::ports::outbox_store::Pair;
use tidegate_schemas::{
    id::{DestinationId, EntryRef},
    messages::outbox::StoreError,
    record::{self, EntryRecord, QuarantineRecord, key},
    submission::{Origin, QuarantineReason},
};

/// Damaged entries that are kept.
const DAMAGED_KEPT_MAX: usize = 64;
/// Chunks of one body, at most: 256 KiB of them.
const CHUNKS_MAX: usize = 128;

impl Core {
    /// Sets one entry of the queue aside. Reads the store, so nothing may be staged.
    pub fn set_damaged_aside(&mut self, destination: &DestinationId, seq: u64) {
        let Some(number) = self.names.get(destination).copied() else { return };
        let at = key::queued(number, seq);
        let Ok(Some(raw)) = self.read_raw(&at) else { return };
        let body_bytes = self.body_bytes_of(number, seq, &raw);
        if let Err(error) = self.remove_marks_of_damaged(number, seq) {
            tracing::warn!(%error, "a damaged message could not be set aside");
            return;
        }
        // Whose it was may not be known any more: counted anew when it is asked for.
        self.occupancy.forget(Some(number));
        self.put_raw(key::damaged(number, seq), raw);
        self.remove(at);
        self.meta.account.queued = self.meta.account.queued.saturating_sub(1);
        self.meta.account.quarantined += 1;
        if let Some(dest) = self.dest(number) {
            let waited_bytes = dest.waiting_bytes;
            dest.queued = dest.queued.saturating_sub(1);
            dest.release_bytes(body_bytes);
            if dest.head_seq == seq {
                dest.head_seq = seq + 1;
            }
            let waiting_bytes = dest.waiting_bytes;
            self.waiting_bytes = (self.waiting_bytes + waiting_bytes).saturating_sub(waited_bytes);
        }
        self.add_quarantine_record(QuarantineRecord {
            reason: QuarantineReason::Damaged,
            id: None,
            device: None,
            topic: EntryRef { destination: destination.clone(), seq }.to_string(),
            body_bytes,
            origin: Origin::MqttQos1,
            at_ms: self.moment.wall_ms,
        });
        tracing::error!(%destination, seq, "a stored message is damaged and was set aside: the disk may be failing");
        if let Err(error) = self.prune_damaged() {
            tracing::warn!(%error, "old damaged messages could not be removed");
        }
    }

    /// As the envelope says, where it can be read; else what is there of it.
    fn body_bytes_of(&self, number: u32, seq: u64, raw: &[u8]) -> u64 {
        if let Ok(entry) = record::decode::<EntryRecord>(&key::queued(number, seq), raw) {
            return u64::from(entry.envelope.body_bytes);
        }
        let chunks = self.chunks_of(number, seq).unwrap_or_default();
        let bytes: usize = chunks.iter().map(|(_, value)| value.len()).sum();
        if chunks.is_empty() { raw.len() as u64 } else { bytes as u64 }
    }

    fn chunks_of(&self, number: u32, seq: u64) -> Result<Vec<Pair>, StoreError> {
        self.store.scan(&key::chunk(number, seq, 0), &key::chunk(number, seq, u16::MAX), CHUNKS_MAX, false)
    }

    /// Makes room for the one that is staged.
    fn prune_damaged(&mut self) -> Result<(), StoreError> {
        let kept = self.store.scan(&key::damaged(0, 0), b"y", DAMAGED_KEPT_MAX + 1, false)?;
        for (at, _) in kept.iter().take((kept.len() + 1).saturating_sub(DAMAGED_KEPT_MAX)) {
            let number = at.get(1..5).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
            if let (Some(number), Some(seq)) = (number, key::seq_of(at)) {
                for (chunk_at, _) in self.chunks_of(number, seq)? {
                    self.remove(chunk_at);
                }
            }
            self.remove(at.clone());
        }
        Ok(())
    }
}
