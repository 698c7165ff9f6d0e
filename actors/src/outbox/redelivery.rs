//! Redeliveries: what makes one recognisable, and what of that is on disk (DESIGN decision 12).
//!
//! Each packet id of the broker's session has one slot: what the last publication under it was, and what became of it. A publication
//! with DUP under the same id, in the same session, of the same content is that publication again. One without DUP is a new one, and
//! takes the slot over whatever becomes of it: stored, refused, quarantined; or it empties the slot: ignored.
//!
//! What remains: a broker that hands out a packet id anew, and whose first sending under it got lost with the connection, sends it
//! again with DUP. If its content equals that of the slot, which nothing has taken over, it is taken for the earlier publication and
//! a reading is lost. So a slot is worth nothing once [`SLOT_SENDINGS_MAX`] publications came for the first time after it: mosquitto counts
//! its ids up to 65,535 before it begins again, which closes the hole. A broker that reuses low ids at once (the embedded one) leaves it open, for
//! equal contents within one flight of a broken connection.
//!
//! A slot helps to know a redelivery and is nothing else's only copy: one that can't be read is taken for an empty one.

use super::core::Core;
use sha2::{Digest, Sha256};
use tidegate_schemas::{
    id::{EntryRef, MessageId},
    messages::outbox::{Accepted, EnqueueError, Ignore, Quarantine, StoreError},
    record::{self, KeySlot, PacketSlot, QuarantineRecord, Record, RecordError, key},
    submission::{Redelivery, Submission},
};

/// Length of a bucket of idempotency slots, in milliseconds of custody (6 hours).
const BUCKET_MS: u64 = 6 * 3_600_000;
/// Buckets that are looked into: an Idempotency-Key is remembered for 42 to 48 hours.
const BUCKETS: u32 = 8;
/// After so many first sendings a packet's slot is stale: three quarters of all packet ids. So much of what a broker has in flight to us
/// is known when it comes again, and an id comes round only after its slot is stale, as long as a broken connection swallows no more than
/// the other quarter. In flight can be far more than the broker's limit: mosquitto 2.0.11, which saves after each change and is busy with
/// sixteen devices, reads one acknowledgement for sixteen publications that it sends, and had sent 42,000 beyond those that it had read
/// acknowledgements for, under a limit of 100. What is sent again moves nothing on: else the first that are stale make the next ones so.
const SLOT_SENDINGS_MAX: u64 = 48_000;
/// Longest topic kept in quarantine, in bytes.
const TOPIC_BYTES_KEPT: usize = 256;

/// What a redelivered publication had become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Known {
    /// This entry.
    Made(Accepted),
    /// None: it was refused or quarantined, which is on record.
    Unmade,
}

impl Core {
    /// What became of it when it came before; none for a new one.
    pub fn find_known(&mut self, submission: &Submission, content: [u8; 16]) -> Result<Option<Known>, EnqueueError> {
        let slot = match &submission.redelivery {
            Some(mark @ Redelivery::Mqtt { .. }) => self.packet_slot(mark, content)?.map(|slot| slot.made),
            Some(Redelivery::Key(_)) => self.key_slot(submission, content)?.map(|slot| Some(slot.made)),
            None => None,
        };
        Ok(match slot {
            Some(Some(made)) => self.accepted(made).map(Known::Made),
            Some(None) => Some(Known::Unmade),
            None => None,
        })
    }

    fn accepted(&self, (number, seq, id): (u32, u64, MessageId)) -> Option<Accepted> {
        let destination = self.dests.get(&number).map(|dest| dest.record.name.clone())?;
        Some(Accepted { id, entry: EntryRef { destination, seq }, duplicate: true })
    }

    /// The slot of a publication that is marked as sent before, if it was this one.
    fn packet_slot(&mut self, mark: &Redelivery, content: [u8; 16]) -> Result<Option<PacketSlot>, StoreError> {
        let Redelivery::Mqtt { packet_id, dup: true, .. } = mark else { return Ok(None) };
        let slot: Option<PacketSlot> = self.read_slot(&key::packet(*packet_id))?;
        let is_fresh = |slot: &PacketSlot| self.first_sendings.saturating_sub(slot.first_sendings) <= SLOT_SENDINGS_MAX;
        Ok(slot.filter(|slot| is_of(slot, mark, content) && is_fresh(slot)))
    }

    fn key_slot(&mut self, submission: &Submission, content: [u8; 16]) -> Result<Option<KeySlot>, EnqueueError> {
        let hash = key_hash(submission);
        let newest = self.bucket();
        for bucket in (newest.saturating_sub(BUCKETS - 1)..=newest).rev() {
            if let Some(slot) = self.read_slot::<KeySlot>(&key::idempotency(bucket, &hash))? {
                return if slot.content == content { Ok(Some(slot)) } else { Err(EnqueueError::KeyReused) };
            }
        }
        Ok(None)
    }

    fn read_slot<R: Record>(&mut self, at: &[u8]) -> Result<Option<R>, StoreError> {
        let Some(value) = self.read_raw(at)? else { return Ok(None) };
        match record::decode(at, &value) {
            Ok(slot) => Ok(Some(slot)),
            // Of an earlier version.
            Err(RecordError::Kind { found_type, wanted_type, .. }) if found_type == wanted_type => Ok(None),
            Err(error) => {
                self.tally.slots_unreadable += 1;
                tracing::error!(%error, "a redelivery can't be recognised: the disk may be failing");
                Ok(None)
            }
        }
    }

    /// Keeps what became of it, for when it comes again.
    pub fn remember(&mut self, submission: &Submission, content: [u8; 16], made: Option<(u32, u64, MessageId)>) {
        match (&submission.redelivery, made) {
            (Some(mark @ Redelivery::Mqtt { .. }), made) => self.remember_packet(mark, content, made),
            (Some(Redelivery::Key(_)), Some(made)) => {
                let at = key::idempotency(self.bucket(), &key_hash(submission));
                self.put(at, &KeySlot { content, made });
            }
            _ => {}
        }
    }

    fn remember_packet(&mut self, mark: &Redelivery, content: [u8; 16], made: Option<(u32, u64, MessageId)>) {
        if let Redelivery::Mqtt { session, packet_id, dup } = mark {
            // What can't be read was told when it was looked for.
            let slot = if *dup { self.read::<PacketSlot>(&key::packet(*packet_id)).ok().flatten() } else { None };
            if !slot.is_some_and(|slot| is_of(&slot, mark, content)) {
                self.first_sendings += 1;
            }
            let first_sendings = self.first_sendings;
            self.put(key::packet(*packet_id), &PacketSlot { session: *session, content, made, first_sendings });
        }
    }

    /// Keeps the metadata of a publication that is no entry, once.
    pub fn quarantine(&mut self, message: Quarantine) -> Result<(), StoreError> {
        let Quarantine { reason, mut topic, body_bytes, origin, redelivery } = message;
        let content = hash(&[b"quarantine", topic.as_bytes(), &body_bytes.to_be_bytes()]);
        if let Some(mark) = &redelivery
            && self.packet_slot(mark, content)?.is_some()
        {
            return Ok(());
        }
        self.meta.account.accepted += 1;
        self.meta.account.quarantined += 1;
        if let Some(mark) = &redelivery {
            self.remember_packet(mark, content, None);
        }
        let cut = (0..=TOPIC_BYTES_KEPT.min(topic.len())).rev().find(|at| topic.is_char_boundary(*at)).unwrap_or(0);
        topic.truncate(cut);
        self.add_quarantine_record(QuarantineRecord {
            reason,
            id: None,
            device: None,
            topic,
            body_bytes,
            origin,
            at_ms: self.moment.wall_ms,
        });
        Ok(())
    }

    /// Its packet id stands for nothing any more.
    pub fn ignore(&mut self, message: &Ignore) -> Result<(), StoreError> {
        if let Redelivery::Mqtt { packet_id, dup, .. } = &message.redelivery {
            self.first_sendings += u64::from(!dup);
            let at = key::packet(*packet_id);
            if self.read_raw(&at)?.is_some() {
                self.remove(at);
            }
        }
        Ok(())
    }

    fn bucket(&self) -> u32 {
        u32::try_from(self.moment.custody_ms / BUCKET_MS).unwrap_or(u32::MAX)
    }

    /// The oldest bucket that is still looked into.
    pub fn oldest_bucket_kept(&self) -> u32 {
        self.bucket().saturating_sub(BUCKETS - 1)
    }
}

/// Whether a slot is of this publication, stale or not.
fn is_of(slot: &PacketSlot, mark: &Redelivery, content: [u8; 16]) -> bool {
    matches!(mark, Redelivery::Mqtt { session, .. } if slot.session == *session && slot.content == content)
}

fn hash(parts: &[&[u8]]) -> [u8; 16] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    let mut half = [0; 16];
    half.copy_from_slice(&hasher.finalize()[..16]);
    half
}

/// Of all that makes two publications the same, but for their packet.
pub(super) fn content_hash(submission: &Submission) -> [u8; 16] {
    hash(&[
        submission.destination.as_str().as_bytes(),
        submission.device.as_str().as_bytes(),
        submission.label.as_deref().unwrap_or_default().as_bytes(),
        submission.content_type.as_bytes(),
        submission.payload.reveal(),
    ])
}

/// Of an Idempotency-Key within its device and destination.
fn key_hash(submission: &Submission) -> [u8; 16] {
    let key = match &submission.redelivery {
        Some(Redelivery::Key(key)) => key.as_str(),
        _ => "",
    };
    hash(&[submission.destination.as_str().as_bytes(), submission.device.as_str().as_bytes(), key.as_bytes()])
}
