//! What a database engine has to do beneath a store: an ordered map, and batches that are atomic and durable.
//!
//! An engine's panics and errors become the port's here: see [`guarded`]. What makes a store of it (limits, numbered commits,
//! sums, room on the disk) is the same for all of them, and stands in the files beside this one.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};
use tidegate_actors::ports::outbox_store::{Batch, Pair};
use tidegate_schemas::{config::file::OutboxEngine, messages::outbox::StoreError};

/// An open database. All handles of its library are in here and nowhere else.
pub(super) trait Engine: Send + Sync {
    /// Reads one value.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Reads at most `wanted` pairs of a range, which is not empty.
    fn slice(&self, from: &[u8], to: Option<&[u8]>, wanted: usize, backwards: bool) -> Result<Vec<Pair>, StoreError>;

    /// Applies the batch and one more value; on return they are on disk. How many bytes became durable, as far as it says; 0 says
    /// that nothing did.
    fn write(&self, batch: &Batch, key: &[u8], value: &[u8]) -> Result<usize, Failure>;

    /// Whether its data file is still the one of that name.
    fn has_file(&self, path: &Path) -> bool;

    /// Lets go of all handles.
    fn close(self: Box<Self>) -> Result<(), StoreError>;

    /// Never lets go of them: for a database that was left in the middle of a write.
    fn abandon(self: Box<Self>);
}

/// What went wrong, and whether the engine may have been left in the middle of a write.
#[derive(Debug)]
pub(super) struct Failure {
    pub error: StoreError,
    /// Its handles must not be dropped: dropping would make half a batch durable.
    pub torn: bool,
}

impl Failure {
    /// A failure that leaves nothing half done.
    pub fn whole(error: StoreError) -> Self {
        Self { error, torn: false }
    }
}

/// The files of an engine, in the folder of a store.
#[derive(Debug, Clone, Copy)]
pub(super) struct Files {
    /// Its name and the generation of its format, as the marker file says it.
    pub backend: &'static str,
    /// Where the data is.
    pub data: &'static str,
    /// What has to be synced once after an opening, folders included.
    pub synced: &'static [&'static str],
    /// Whether it notices a changed bit by itself when it reads; where it doesn't, a store is read through at each opening.
    pub checks_itself: bool,
}

/// The files of this engine.
pub(super) const fn files(engine: OutboxEngine) -> Files {
    match engine {
        OutboxEngine::Sled => {
            Files { backend: "sled-0.34", data: "db", synced: &["db", "conf", "blobs", "."], checks_itself: true }
        }
        OutboxEngine::Redb => {
            Files { backend: "redb-4", data: "outbox.redb", synced: &["outbox.redb", "."], checks_itself: false }
        }
    }
}

/// Does something with an engine's library: its panics become errors.
pub(super) fn guarded<T>(
    engine: &str,
    what: &str,
    work: impl FnOnce() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(StoreError::Corrupt(format!("{engine} panicked while {what}"))))
}

/// An error of input or output in the port's words.
pub(super) fn io_error(what: &str, error: &io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full,
        _ => StoreError::Io(format!("{what}: {error}")),
    }
}
