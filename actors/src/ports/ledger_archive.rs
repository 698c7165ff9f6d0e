//! Where the ledger goes for good: a chain of lines that outlives the store's own, bounded ledger. Nothing of files shows here.
//!
//! All calls block, and are made from blocking threads only. What a line holds and how lines hang together: `tidegate_schemas::chain`.

use jiff::civil::Date;
use tidegate_schemas::archive::ArchivedEntry;

/// Most entries of one append.
pub const APPEND_ENTRIES_MAX: usize = 256;

/// Why the archive could not be read or written. Names no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// There is too little room: what is left of the disk is for the outbox.
    #[error("the disk has too little room for these files ({free} bytes, {wanted} are to stay free)")]
    Full {
        /// Room there is, in bytes.
        free: u64,
        /// Room that is to stay, in bytes.
        wanted: u64,
    },
    /// Input or output failed.
    #[error("{0}: {1}")]
    Io(String, String),
    /// What is there can't be gone on from.
    #[error("{0}")]
    Damaged(String),
}

/// The archive. Opened once in a process; its calls take turns.
pub trait LedgerArchive: Send + Sync + 'static {
    /// The last ledger number that is archived, durably; 0 while there is none. What it says is the truth, whatever anybody remembers.
    ///
    /// # Errors
    /// When that can't be found out.
    fn last(&self) -> Result<u64, ArchiveError>;

    /// Goes on with these entries, in order of their numbers, at most [`APPEND_ENTRIES_MAX`]. Those up to the last one are there already
    /// and passed over. On return all are on disk; the last number.
    ///
    /// # Errors
    /// When one is not; some of the first may be there all the same.
    fn append(&self, entries: &[ArchivedEntry]) -> Result<u64, ArchiveError>;

    /// Removes what is older than is to be kept, seen from this day. How many files that were.
    ///
    /// # Errors
    /// When it could not be removed.
    fn prune(&self, today: Date) -> Result<u32, ArchiveError>;
}
