//! The store beneath the Outbox: ordered keys and values, and one commit that is atomic and durable. Nothing of sled shows here.
//!
//! The layout of keys and the meaning of values are the Outbox's (see `tidegate_schemas::record`); a store moves bytes. All calls
//! block, and are made from blocking threads only.

use tidegate_schemas::messages::outbox::StoreError;

/// Largest value, in bytes (sled writes larger ones to unsynced files).
pub const VALUE_BYTES_MAX: usize = 4_096;
/// Largest batch, in bytes of keys and values (half a sled segment).
pub const BATCH_BYTES_MAX: usize = 256 * 1_024;

/// Changes that become durable together or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// In order; a later one wins over an earlier one of the same key. `None` removes.
    pub changes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Batch {
    /// Writes a value.
    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.changes.push((key, Some(value)));
    }
    /// Removes a value.
    pub fn remove(&mut self, key: Vec<u8>) {
        self.changes.push((key, None));
    }
    /// Bytes of keys and values.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.changes.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len)).sum()
    }
}

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// How much a store holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// Pairs of a key and a value.
    pub pairs: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
}

/// An ordered, durable store with one writer.
///
/// Opened once in a process and owned by its adapter: an Outbox actor that is restarted gets the same one again.
pub trait OutboxStore: Send + Sync + 'static {
    /// Applies a batch: on return it is on disk, whole (CU-1).
    ///
    /// # Errors
    /// After an error the outcome is unknown, and every later commit fails with `Poisoned` until [`OutboxStore::reopen`].
    fn commit(&self, batch: &Batch) -> Result<(), StoreError>;

    /// Reads one value.
    ///
    /// # Errors
    /// When the store can't be read.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Reads at most `limit` pairs with `from <= key < to`, from the front, or from the back when `backwards`.
    ///
    /// # Errors
    /// When the store can't be read.
    fn scan(&self, from: &[u8], to: &[u8], limit: usize, backwards: bool) -> Result<Vec<Pair>, StoreError>;

    /// How much it held after its last commit.
    fn held(&self) -> Held;

    /// Hands over everything that it held at one moment of this call, in the order of keys, while commits go on. An error of `each`
    /// ends it.
    ///
    /// # Errors
    /// `Refused` while another one is under way, or when more has changed meanwhile than it can keep; when the store can't be read.
    fn snapshot(&self, each: &mut dyn FnMut(Vec<Pair>) -> Result<(), StoreError>) -> Result<(), StoreError>;

    /// Writes itself anew, in as little room on the disk as it needs, while commits go on. `progress` hears of pairs that were written.
    ///
    /// # Errors
    /// `Refused` where there is no room for both, or something of the kind is under way. After any error it goes on as it was.
    fn compact(&self, progress: &mut dyn FnMut(u64)) -> Result<(), StoreError>;

    /// Opens the store again after a failure, when it is poisoned; else does nothing.
    ///
    /// # Errors
    /// When it can't be opened.
    fn reopen(&self) -> Result<(), StoreError>;

    /// Size on disk, in bytes.
    fn disk_bytes(&self) -> u64;

    /// Room on its disk, in bytes; none where that can't be told.
    fn free_bytes(&self) -> Option<u64> {
        None
    }

    /// Names of damaged stores that were set aside for this one and are still there.
    fn set_aside(&self) -> Vec<String> {
        Vec::new()
    }
}
