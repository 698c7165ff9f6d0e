//! What the store must hold, in three numbers: how many pairs, how many bytes, and the sum of their hashes.
//!
//! A sum doesn't depend on order, so a commit updates it from the pairs that it changes, and it is kept in the same batch. After a
//! crash the store is read once, and has to come to the same sum: damage in the middle of sled's log, which sled passes over
//! without a word, shows here. It is no protection against somebody who writes the files on purpose.

use std::collections::BTreeMap;
use tidegate_actors::ports::outbox_store::Batch;
use uuid::Uuid;

const RECORD_VERSION: u8 = 1;
pub(super) const RECORD_BYTES: usize = 1 + 16 + 4 * 8 + 4;

/// Count, bytes and sum of all pairs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Contents {
    pub pairs: u64,
    /// Of keys and values.
    pub bytes: u64,
    pub sum: u64,
}

impl Contents {
    /// With one more pair.
    pub fn add(&mut self, key: &[u8], value: &[u8]) {
        self.pairs = self.pairs.wrapping_add(1);
        self.bytes = self.bytes.wrapping_add(length(key, value));
        self.sum = self.sum.wrapping_add(hash(key, value));
    }

    /// With one pair less.
    pub fn remove(&mut self, key: &[u8], value: &[u8]) {
        self.pairs = self.pairs.wrapping_sub(1);
        self.bytes = self.bytes.wrapping_sub(length(key, value));
        self.sum = self.sum.wrapping_sub(hash(key, value));
    }

    /// What the batch makes of it. `read` gives the present value of a key; it is called once for each key of the batch.
    pub fn after<E, V: AsRef<[u8]>>(
        mut self,
        batch: &Batch,
        read: impl Fn(&[u8]) -> Result<Option<V>, E>,
    ) -> Result<Self, E> {
        let last_changes: BTreeMap<&[u8], Option<&[u8]>> =
            batch.changes.iter().map(|(key, value)| (key.as_slice(), value.as_deref())).collect();
        for (key, value) in last_changes {
            if let Some(old) = read(key)? {
                self.remove(key, old.as_ref());
            }
            if let Some(new) = value {
                self.add(key, new);
            }
        }
        Ok(self)
    }
}

fn length(key: &[u8], value: &[u8]) -> u64 {
    u64::try_from(key.len() + value.len()).unwrap_or(u64::MAX)
}

/// 64 bits of two checksums with different beginnings, mixed so that they don't cancel each other out in a sum.
fn hash(key: &[u8], value: &[u8]) -> u64 {
    let sum = |seed: u32| {
        let mut hasher = crc32fast::Hasher::new_with_initial(seed);
        hasher.update(&u32::try_from(key.len()).unwrap_or(u32::MAX).to_be_bytes());
        hasher.update(key);
        hasher.update(value);
        hasher.finalize()
    };
    let mut bits = u64::from(sum(0x7469_6465)) << 32 | u64::from(crc32fast::hash(value).wrapping_mul(31) ^ sum(0));
    // The finaliser of MurmurHash3.
    bits = (bits ^ (bits >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    bits = (bits ^ (bits >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    bits ^ (bits >> 33)
}

/// The store's own record, in every batch: which store, which commit, what it holds after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CommitRecord {
    pub id: Uuid,
    pub commit: u64,
    pub contents: Contents,
}

impl CommitRecord {
    /// As stored.
    pub fn encode(&self) -> [u8; RECORD_BYTES] {
        let mut record = [0; RECORD_BYTES];
        record[0] = RECORD_VERSION;
        record[1..17].copy_from_slice(self.id.as_bytes());
        record[17..25].copy_from_slice(&self.commit.to_be_bytes());
        record[25..33].copy_from_slice(&self.contents.pairs.to_be_bytes());
        record[33..41].copy_from_slice(&self.contents.bytes.to_be_bytes());
        record[41..49].copy_from_slice(&self.contents.sum.to_be_bytes());
        let check = crc32fast::hash(&record[..49]);
        record[49..].copy_from_slice(&check.to_be_bytes());
        record
    }

    /// `None` when it is damaged.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let number = |range| bytes.get(range).and_then(|part: &[u8]| part.try_into().ok()).map(u64::from_be_bytes);
        let id = Uuid::from_slice(bytes.get(1..17)?).ok()?;
        let contents = Contents { pairs: number(25..33)?, bytes: number(33..41)?, sum: number(41..49)? };
        let record = Self { id, commit: number(17..25)?, contents };
        (record.encode() == bytes).then_some(record)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;
    use std::convert::Infallible;

    fn of(map: &BTreeMap<Vec<u8>, Vec<u8>>) -> Contents {
        let mut contents = Contents::default();
        map.iter().for_each(|(key, value)| contents.add(key, value));
        contents
    }

    proptest! {
        #[test]
        fn batches_keep_it_equal_to_a_count_from_nothing(
            batches in prop::collection::vec(
                prop::collection::vec((prop::collection::vec(0_u8..4, 1..3), any::<Option<u8>>()), 0..12), 0..12)
        ) {
            let mut map = BTreeMap::new();
            let mut contents = Contents::default();
            for changes in batches {
                let changes = changes.into_iter().map(|(key, value)| (key, value.map(|byte| vec![byte; 3])));
                let batch = Batch { changes: changes.collect() };
                contents = contents.after(&batch, |key| Ok::<_, Infallible>(map.get(key).cloned())).unwrap();
                for (key, value) in batch.changes {
                    match value {
                        Some(value) => map.insert(key, value),
                        None => map.remove(&key),
                    };
                }
                prop_assert_eq!(contents, of(&map));
            }
        }

        #[test]
        fn a_lost_or_changed_pair_shows(pairs in prop::collection::btree_map(any::<[u8; 2]>(), any::<[u8; 4]>(), 1..40)) {
            let map: BTreeMap<Vec<u8>, Vec<u8>> = pairs.iter().map(|(k, v)| (k.to_vec(), v.to_vec())).collect();
            for key in map.keys() {
                let (mut less, mut other) = (map.clone(), map.clone());
                less.remove(key);
                other.get_mut(key).unwrap()[0] ^= 1;
                prop_assert!(of(&less) != of(&map) && of(&other) != of(&map));
            }
        }

        #[test]
        fn a_record_survives_its_bytes_and_no_bytes_make_it_panic(id: [u8; 16], n: [u64; 4], at in 0..RECORD_BYTES) {
            let contents = Contents { pairs: n[0], bytes: n[1], sum: n[2] };
            let record = CommitRecord { id: Uuid::from_bytes(id), commit: n[3], contents };
            let mut bytes = record.encode();
            prop_assert_eq!(CommitRecord::decode(&bytes), Some(record));
            prop_assert_eq!(CommitRecord::decode(&bytes[..at]), None);
            bytes[at] ^= 4;
            prop_assert_eq!(CommitRecord::decode(&bytes), None);
        }
    }
}
