//! The values of the tree: a version byte, the record in postcard, and a checksum over key and record, so that neither a flipped bit
//! nor a value under a wrong key is ever taken for a reading.

use super::{CHUNK_BYTES, HEAD_BYTES_MAX};
use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tidegate_schemas::{custody::ClockRecord, id::MessageId};

/// The layout of the records.
const VERSION: u8 = 1;
const CHECKSUM_BYTES: usize = 4;

/// Counters, written with every commit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Meta {
    pub(super) next_sequence: u64,
    pub(super) next_device: u32,
    pub(super) readings: u64,
    pub(super) bytes: u64,
    pub(super) ids: u64,
    /// The store's clock and the wall clock at this commit, and whether the latter was to be believed.
    pub(super) clock_ms: u64,
    pub(super) wall_ms: i64,
    pub(super) wall_trusted: bool,
    /// What the store's clock remembers.
    pub(super) clock: ClockRecord,
}

/// A device and its newest reading.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Device {
    /// Its name; `None` for readings in a format that names none.
    pub(crate) name: Option<String>,
    /// How many readings of it there are.
    pub(crate) readings: u64,
    /// Its newest reading.
    pub(crate) last_sequence: u64,
    /// When that came, in milliseconds since 1970.
    pub(crate) last_received_ms: i64,
}

/// A remembered message id.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct IdRecord {
    pub(super) received_ms: i64,
    pub(super) content_hash: [u8; 32],
}
impl IdRecord {
    pub(super) fn received(&self) -> Timestamp {
        Timestamp::from_millisecond(self.received_ms).unwrap_or_default()
    }
}

/// A reading.
#[derive(Serialize, Deserialize)]
pub(super) struct ReadingRecord {
    pub(super) id: MessageId,
    pub(super) gateway: String,
    pub(super) device: u32,
    pub(super) label: Option<String>,
    pub(super) content_type: String,
    pub(super) received_ms: i64,
    /// The store's clock when it came: by this it ages.
    pub(super) clock_ms: u64,
    pub(super) body_bytes: u32,
    /// The body, or its beginning.
    pub(super) head: Vec<u8>,
}
impl ReadingRecord {
    /// How many chunks follow the head.
    pub(super) fn chunks(&self) -> u16 {
        let rest = (self.body_bytes as usize).saturating_sub(HEAD_BYTES_MAX);
        u16::try_from(rest.div_ceil(CHUNK_BYTES)).unwrap_or(u16::MAX)
    }
}

fn checksum(key: &[u8], bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hash = crc32fast::Hasher::new();
    hash.update(key);
    hash.update(bytes);
    hash.finalize().to_be_bytes()
}

/// A value that holds these bytes.
pub(super) fn seal(key: &[u8], bytes: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(1 + bytes.len() + CHECKSUM_BYTES);
    value.push(VERSION);
    value.extend_from_slice(bytes);
    let checksum = checksum(key, &value);
    value.extend_from_slice(&checksum);
    value
}

/// The bytes that a value holds; `None` if it is damaged.
pub(super) fn unseal<'a>(key: &[u8], value: &'a [u8]) -> Option<&'a [u8]> {
    let (sealed, found) = value.split_at_checked(value.len().checked_sub(CHECKSUM_BYTES)?)?;
    let (version, bytes) = sealed.split_first()?;
    (*version == VERSION && checksum(key, sealed) == found).then_some(bytes)
}

/// The value of a record.
pub(super) fn write(key: &[u8], record: &impl Serialize) -> Vec<u8> {
    let bytes = postcard::to_stdvec(record).expect("postcard writes plain structs into memory without fail");
    seal(key, &bytes)
}

/// The record of a value; `None` if it is damaged.
pub(super) fn read<T: DeserializeOwned>(key: &[u8], value: &[u8]) -> Option<T> {
    postcard::from_bytes(unseal(key, value)?).ok()
}
