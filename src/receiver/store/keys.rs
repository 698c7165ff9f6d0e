//! The keys of the tree: a byte that says what it is, then numbers in big endian, so that order is the order of time.

use sha2::{Digest, Sha256};
use tidegate_schemas::id::MessageId;

/// How much of a gateway's hashed name stands in an id's key.
const GATEWAY_BYTES: usize = 8;

/// A key.
pub(super) enum Key<'a> {
    /// Counters.
    Meta,
    /// A reading, by its place in the order of arrival.
    Reading(u64),
    /// A further piece of a reading's body.
    Chunk(u64, u16),
    /// The same order within a device.
    OfDevice(u32, u64),
    /// A device.
    Device(u32),
    /// A remembered message id.
    Id { gateway: &'a str, id: MessageId },
    /// The order in which ids came.
    IdOrder(u64),
}

impl Key<'_> {
    pub(super) const READING: &'static [u8] = b"r";
    pub(super) const DEVICE: &'static [u8] = b"d";
    pub(super) const ID_ORDER: &'static [u8] = b"t";

    pub(super) fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Meta => b"m".to_vec(),
            Self::Reading(sequence) => [Self::READING, &sequence.to_be_bytes()].concat(),
            Self::Chunk(sequence, index) => [&b"c"[..], &sequence.to_be_bytes(), &index.to_be_bytes()].concat(),
            Self::OfDevice(device, sequence) => [&Self::of_device(*device)[..], &sequence.to_be_bytes()].concat(),
            Self::Device(device) => [Self::DEVICE, &device.to_be_bytes()].concat(),
            Self::Id { gateway, id } => {
                let hash = Sha256::digest(gateway.as_bytes());
                [&b"i"[..], &hash[..GATEWAY_BYTES], id.as_bytes()].concat()
            }
            Self::IdOrder(sequence) => [Self::ID_ORDER, &sequence.to_be_bytes()].concat(),
        }
    }

    /// The front of the keys of a device's readings.
    pub(super) fn of_device(device: u32) -> Vec<u8> {
        [&b"v"[..], &device.to_be_bytes()].concat()
    }
}

/// The place in the order of arrival with which a key ends.
pub(super) fn sequence(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(*key.last_chunk()?))
}

/// The number with which a device's key ends.
pub(super) fn device(key: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(*key.last_chunk()?))
}
