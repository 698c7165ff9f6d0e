//! A walk over all pairs of the store while commits go on.
//!
//! It goes in the order of keys, a slice at a time, and each slice is read while no commit is under way. What commits change between two
//! slices is kept with the walk: by a *snapshot* what was there before, of keys that it has yet to come to; by a walk that *keeps up*
//! what is there now, of keys that it has passed.

use std::collections::BTreeMap;
use tidegate_actors::ports::outbox_store::{Batch, Pair};
use tidegate_schemas::messages::outbox::StoreError;

/// Most bytes of keys and values that a snapshot keeps back for itself.
const SNAPSHOT_BYTES_MAX: usize = 32 * 1_024 * 1_024;
/// What a kept key takes beyond its bytes, roughly.
const KEPT_KEY_BYTES: usize = 96;

/// A key with its value, or without one where there is none.
pub(super) type Change = (Vec<u8>, Option<Vec<u8>>);

/// What a walk is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To see everything as it was when the walk began.
    Snapshot,
    /// To have everything as it is when the walk ends.
    KeepUp,
}

/// A walk that is under way.
#[derive(Debug)]
pub(super) struct Walk {
    purpose: Purpose,
    /// The key from which it goes on; none at its end.
    next: Option<Vec<u8>>,
    kept: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    kept_bytes: usize,
}

impl Walk {
    /// At its beginning.
    pub fn new(purpose: Purpose) -> Self {
        Self { purpose, next: Some(Vec::new()), kept: BTreeMap::new(), kept_bytes: 0 }
    }

    /// What is kept of commits, in bytes.
    pub fn kept_bytes(&self) -> usize {
        self.kept_bytes
    }

    fn has_passed(&self, key: &[u8]) -> bool {
        self.next.as_deref().is_none_or(|next| key < next)
    }

    /// To be called before a commit of this batch. `read` gives the present value of a key.
    pub fn before(
        &mut self,
        batch: &Batch,
        read: impl Fn(&[u8]) -> Result<Option<Vec<u8>>, StoreError>,
    ) -> Result<(), StoreError> {
        if self.purpose == Purpose::Snapshot && !self.is_too_large() {
            for (key, _) in &batch.changes {
                if !self.has_passed(key) && !self.kept.contains_key(key) {
                    self.keep(key.clone(), read(key)?);
                }
            }
        }
        Ok(())
    }

    /// To be called after that commit.
    pub fn after(&mut self, batch: &Batch) {
        if self.purpose == Purpose::KeepUp {
            for (key, value) in &batch.changes {
                if self.has_passed(key) {
                    self.keep(key.clone(), value.clone());
                }
            }
        }
    }

    fn keep(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        let bytes_of = |value: &Option<Vec<u8>>| value.as_ref().map_or(0, Vec::len);
        self.kept_bytes += key.len() + KEPT_KEY_BYTES + bytes_of(&value);
        if let Some(earlier) = self.kept.insert(key, value) {
            self.kept_bytes = self.kept_bytes.saturating_sub(bytes_of(&earlier) + KEPT_KEY_BYTES);
        }
    }

    fn is_too_large(&self) -> bool {
        self.kept_bytes > SNAPSHOT_BYTES_MAX
    }

    /// Goes on by a slice, which `read` reads together with the key after it; none when the walk is at its end and nothing is kept.
    ///
    /// To be called while no commit is under way.
    pub fn step(
        &mut self,
        read: impl FnOnce(&[u8]) -> Result<(Vec<Pair>, Option<Vec<u8>>), StoreError>,
    ) -> Result<Option<Vec<Change>>, StoreError> {
        if self.purpose == Purpose::Snapshot && self.is_too_large() {
            return Err(StoreError::Refused(
                "too much has changed while it was read: try again in a quieter hour".into(),
            ));
        }
        let Some(from) = self.next.take() else {
            return Ok(Some(self.take_kept(None)).filter(|changes| !changes.is_empty()));
        };
        let (slice, next) = read(&from)?;
        self.next = next;
        let slice = slice.into_iter().map(|(key, value)| (key, Some(value)));
        Ok(Some(match self.purpose {
            Purpose::Snapshot => {
                let mut seen: BTreeMap<_, _> = slice.collect();
                seen.extend(self.take_kept(self.next.clone()));
                seen.into_iter().filter(|(_, value)| value.is_some()).collect()
            }
            // Keys that were passed before, and keys of this slice: none is both.
            Purpose::KeepUp => self.take_kept(None).into_iter().chain(slice).collect(),
        }))
    }

    /// Takes what is kept of keys before this one; all of it without one.
    fn take_kept(&mut self, before: Option<Vec<u8>>) -> Vec<Change> {
        let later = before.map_or_else(BTreeMap::new, |before| self.kept.split_off(&before));
        let taken = std::mem::replace(&mut self.kept, later);
        let bytes = |(key, value): (&Vec<u8>, &Option<Vec<u8>>)| {
            key.len() + KEPT_KEY_BYTES + value.as_ref().map_or(0, Vec::len)
        };
        self.kept_bytes = self.kept.iter().map(bytes).sum();
        taken.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    type Map = BTreeMap<Vec<u8>, Vec<u8>>;

    fn read(map: &Map, from: &[u8]) -> Result<(Vec<Pair>, Option<Vec<u8>>), StoreError> {
        let slice: Vec<Pair> = map.range(from.to_vec()..).take(3).map(|(k, v)| (k.clone(), v.clone())).collect();
        let next = slice.last().filter(|_| slice.len() == 3).map(|(last, _)| [last.as_slice(), &[0]].concat());
        Ok((slice, next))
    }

    fn commit(map: &mut Map, walk: &mut Walk, changes: &[(u8, Option<u8>)]) {
        let change = |(key, value): &(u8, Option<u8>)| (vec![*key], value.map(|value| vec![value]));
        let batch = Batch { changes: changes.iter().map(change).collect() };
        walk.before(&batch, |key| Ok(map.get(key).cloned())).unwrap();
        for (key, value) in batch.changes.clone() {
            match value {
                Some(value) => drop(map.insert(key, value)),
                None => drop(map.remove(&key)),
            }
        }
        walk.after(&batch);
    }

    fn changes() -> impl Strategy<Value = Vec<(u8, Option<u8>)>> {
        prop::collection::vec((0_u8..24, any::<Option<u8>>()), 0..6)
    }

    proptest! {
        #[test]
        fn a_snapshot_is_of_its_beginning_and_in_order(
            begins in prop::collection::btree_map(0_u8..24, any::<u8>(), 0..24),
            commits in prop::collection::vec(changes(), 0..16),
        ) {
            let mut map: Map = begins.into_iter().map(|(key, value)| (vec![key], vec![value])).collect();
            let (expected, mut walk) = (map.clone(), Walk::new(Purpose::Snapshot));
            let (mut found, mut commits) = (Vec::new(), commits.into_iter());
            while let Some(pairs) = walk.step(|from| read(&map, from)).unwrap() {
                found.extend(pairs.into_iter().map(|(key, value)| (key, value.unwrap())));
                commit(&mut map, &mut walk, &commits.next().unwrap_or_default());
            }
            prop_assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn a_walk_that_keeps_up_has_everything_at_its_end(
            begins in prop::collection::btree_map(0_u8..24, any::<u8>(), 0..24),
            commits in prop::collection::vec(changes(), 0..16),
        ) {
            let mut map: Map = begins.into_iter().map(|(key, value)| (vec![key], vec![value])).collect();
            let (mut walk, mut copy, mut commits) = (Walk::new(Purpose::KeepUp), Map::new(), commits.into_iter());
            while let Some(changes) = walk.step(|from| read(&map, from)).unwrap() {
                for (key, value) in changes {
                    match value {
                        Some(value) => drop(copy.insert(key, value)),
                        None => drop(copy.remove(&key)),
                    }
                }
                commit(&mut map, &mut walk, &commits.next().unwrap_or_default());
            }
            prop_assert_eq!(copy, map);
        }
    }

    #[test]
    fn a_snapshot_that_would_keep_too_much_is_refused() {
        let (mut walk, map) = (Walk::new(Purpose::Snapshot), Map::new());
        for n in 0..9_000_u32 {
            let batch = Batch { changes: vec![(n.to_be_bytes().to_vec(), None)] };
            walk.before(&batch, |_| Ok(Some(vec![0; 4_000]))).unwrap();
        }
        assert!(walk.kept_bytes() < SNAPSHOT_BYTES_MAX + 5_000);
        assert!(matches!(walk.step(|from| read(&map, from)), Err(StoreError::Refused(_))));
    }
}
