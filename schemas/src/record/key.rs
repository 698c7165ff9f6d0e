//! Keys of the outbox: see the table in [`super`].

use crate::submission::Priority;

/// The key of [`super::Meta`].
pub const META: [u8; 1] = [0];

/// The key of [`super::ClockRecord`].
pub const CLOCK: [u8; 1] = [1];

/// The key of [`super::Serials`].
pub const SERIALS: [u8; 1] = [2];

/// The key of [`super::FirstSendings`].
pub const FIRST_SENDINGS: [u8; 1] = [3];

fn numbered(prefix: u8, dest: u32) -> Vec<u8> {
    let mut key = vec![prefix];
    key.extend_from_slice(&dest.to_be_bytes());
    key
}
fn placed(prefix: u8, dest: u32, seq: u64) -> Vec<u8> {
    let mut key = numbered(prefix, dest);
    key.extend_from_slice(&seq.to_be_bytes());
    key
}
/// A destination's record.
#[must_use]
pub fn destination(dest: u32) -> Vec<u8> {
    numbered(b'd', dest)
}
/// A destination's directory entry.
#[must_use]
pub fn name(name: &str) -> Vec<u8> {
    [b"n", name.as_bytes()].concat()
}
/// A queued entry.
#[must_use]
pub fn queued(dest: u32, seq: u64) -> Vec<u8> {
    placed(b'm', dest, seq)
}
/// The mark of a queued entry that goes first.
#[must_use]
pub fn urgent(dest: u32, class: u8, seq: u64) -> Vec<u8> {
    let mut key = numbered(b'i', dest);
    key.push(class);
    key.extend_from_slice(&seq.to_be_bytes());
    key
}
/// The class of the mark of an entry that goes first; none for one that goes in turn.
#[must_use]
pub fn class_of(priority: Priority) -> Option<u8> {
    match priority {
        Priority::BreakGlass => Some(0),
        Priority::High => Some(1),
        Priority::Normal => None,
    }
}
/// The place in the key of a mark of an entry that goes first (`i`).
#[must_use]
pub fn urgent_seq_of(key: &[u8]) -> Option<u64> {
    key.get(6..14).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes)
}
/// A refused entry that waits.
#[must_use]
pub fn refused(dest: u32, seq: u64) -> Vec<u8> {
    placed(b'r', dest, seq)
}
/// An entry that is held, parked or dead.
#[must_use]
pub fn aside(dest: u32, seq: u64) -> Vec<u8> {
    placed(b'h', dest, seq)
}
/// A chunk of a body.
#[must_use]
pub fn chunk(dest: u32, seq: u64, chunk: u16) -> Vec<u8> {
    let mut key = placed(b'b', dest, seq);
    key.extend_from_slice(&chunk.to_be_bytes());
    key
}
/// A damaged entry, as it was found.
#[must_use]
pub fn damaged(dest: u32, seq: u64) -> Vec<u8> {
    placed(b'x', dest, seq)
}
/// A packet slot.
#[must_use]
pub fn packet(packet_id: u16) -> Vec<u8> {
    let mut key = vec![b'p'];
    key.extend_from_slice(&packet_id.to_be_bytes());
    key
}
/// An idempotency slot.
#[must_use]
pub fn idempotency(bucket: u32, hash: &[u8; 16]) -> Vec<u8> {
    let mut key = numbered(b'u', bucket);
    key.extend_from_slice(hash);
    key
}
/// The first key of a bucket of idempotency slots.
#[must_use]
pub fn idempotency_bucket(bucket: u32) -> Vec<u8> {
    numbered(b'u', bucket)
}
/// A quarantine record.
#[must_use]
pub fn quarantine(no: u64) -> Vec<u8> {
    [&b"q"[..], &no.to_be_bytes()].concat()
}
/// A ledger record.
#[must_use]
pub fn ledger(no: u64) -> Vec<u8> {
    [&b"l"[..], &no.to_be_bytes()].concat()
}
/// The place in a key of an entry, or of its mark of a refusal (`m`, `h` or `r`).
#[must_use]
pub fn seq_of(key: &[u8]) -> Option<u64> {
    key.get(5..13).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes)
}
