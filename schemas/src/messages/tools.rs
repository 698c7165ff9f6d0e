//! Long work on the outbox that operators ask for while it runs: checking, exporting, counting it, and writing it anew.
//!
//! Said to the Outbox, which does it beside its writer. Each of them shows how far it is by a [`Progress`], which whoever asked keeps
//! a clone of. Work that was begun goes on when nobody waits for its answer any more.

use crate::{export::Header, id::DestinationId, messages::outbox::StoreError};
use actix::Message;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// How far a long work is, in records.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    done: AtomicU64,
    of: AtomicU64,
}

/// One look at a [`Progress`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Done {
    /// Records that are done.
    pub done: u64,
    /// Records that there were at the beginning.
    pub of: u64,
}

impl Progress {
    /// Says how many records there are.
    pub fn begin(&self, of: u64) {
        self.0.of.store(of, Ordering::Relaxed);
    }
    /// Says that more of them are done.
    pub fn add(&self, records: u64) {
        self.0.done.fetch_add(records, Ordering::Relaxed);
    }
    /// How far it is.
    #[must_use]
    pub fn look(&self) -> Done {
        Done { done: self.0.done.load(Ordering::Relaxed), of: self.0.of.load(Ordering::Relaxed) }
    }
}

/// "Read everything, and compare it with the counters."
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Checked, StoreError>")]
pub struct Check {
    /// How far it is.
    pub progress: Progress,
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Checked {
    /// Records, of every kind.
    pub records: u64,
    /// Their keys and values, in bytes.
    pub bytes: u64,
    /// Size on disk, in bytes.
    pub disk_bytes: u64,
    /// Messages that were ever accepted.
    pub accepted: u64,
    /// Messages that wait.
    pub waiting: u64,
    /// Ledger records.
    pub ledger: u64,
    /// Quarantine records.
    pub quarantine: u64,
    /// What is there of each destination.
    pub destinations: Vec<CheckedDestination>,
    /// What is wrong, in words; at most a hundred.
    pub problems: Vec<String>,
    /// What is wrong, in all.
    pub problems_total: u64,
}

/// What a check found of one destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CheckedDestination {
    /// The alias.
    pub destination: DestinationId,
    /// Queued entries.
    pub queued: u64,
    /// Held, parked and dead ones.
    pub aside: u64,
    /// Their bodies, in bytes.
    pub body_bytes: u64,
    /// How many of them are younger than an hour, a day, a week, and older.
    pub by_age: [u64; 4],
}

/// Says how much room there is, in bytes; none where that can't be told.
pub type FreeBytes = Box<dyn Fn() -> Option<u64> + Send>;

/// "Write everything, as it is now, in the form of an export." Refused where that would leave less of the disk that it goes to than the
/// gateway needs to take messages.
#[derive(Message)]
#[rtype(result = "Result<Exported, ExportFailed>")]
pub struct Export {
    /// Where to; making it durable is the asker's.
    pub to: Box<dyn Write + Send>,
    /// What is free where it goes.
    pub free_bytes: FreeBytes,
    /// What stands at its beginning.
    pub header: Header,
    /// How far it is.
    pub progress: Progress,
}

impl fmt::Debug for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Export").field("header", &self.header).finish_non_exhaustive()
    }
}

/// It is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exported {
    /// Records in it.
    pub records: u64,
}

/// Why it could not be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExportFailed {
    /// The outbox can't be read; `Refused` where there is no room for the export.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Output failed.
    #[error("it could not be written: {reason}")]
    Output {
        /// What kind of failure it was: a full disk is told apart.
        kind: io::ErrorKind,
        /// The failure in words.
        reason: String,
    },
}

/// "Write yourself anew, in as little room as it takes."
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Compacted, StoreError>")]
pub struct Compact {
    /// How far it is.
    pub progress: Progress,
}

/// It is written anew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Compacted {
    /// Size on disk before, in bytes.
    pub before_bytes: u64,
    /// Size on disk now, in bytes.
    pub after_bytes: u64,
}

/// "What waits, of which age, and how much room does it take?"
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<Stats, StoreError>")]
pub struct CountStats;

/// What waits, by age, and what room it takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Stats {
    /// By name.
    pub destinations: Vec<DestinationStats>,
    /// Records of every kind.
    pub records: u64,
    /// Their keys and values, in bytes.
    pub held_bytes: u64,
    /// Size on disk, in bytes.
    pub disk_bytes: u64,
    /// Room on that disk, in bytes; absent where that can't be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_bytes: Option<u64>,
}

/// What waits for one destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DestinationStats {
    /// The alias.
    pub destination: DestinationId,
    /// Entries by state.
    pub queued: u64,
    /// Stopped by an operator.
    pub held: u64,
    /// Refused, and put aside.
    pub parked: u64,
    /// Given up.
    pub dead: u64,
    /// Bodies of all of these, in bytes.
    pub body_bytes: u64,
    /// Age of the oldest of them, in seconds; absent where none waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_s: Option<u64>,
    /// How many of them are younger than an hour, a day, a week, and older.
    pub by_age: [u64; 4],
}
