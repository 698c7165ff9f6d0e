//! Numbers that nobody had before, a restart or not: given in blocks, each on disk before it is given.

use super::core::Core;
use tidegate_schemas::{
    messages::outbox::{Reserve, StoreError},
    record::key,
    tidings::Serials,
};

impl Core {
    /// The first of a block.
    pub fn reserve(&mut self, message: Reserve) -> Result<u64, StoreError> {
        let Serials { next } = self.read(&key::SERIALS)?.unwrap_or_default();
        self.put(key::SERIALS.to_vec(), &Serials { next: next.saturating_add(u64::from(message.count)) });
        Ok(next)
    }
}
