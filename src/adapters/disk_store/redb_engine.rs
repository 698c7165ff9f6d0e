//! redb 4 as an engine: the only place that names redb.
//!
//! One file, one table, one write transaction a commit, which redb syncs before it returns. It opens on a full disk and bounds its
//! memory better than sled does, and it doesn't see a flipped bit in a value: the store's sums and the records' checksums do. After an
//! unclean end it repairs itself when it is opened, which takes a moment for each hundred megabytes.

use super::{
    engine::{Engine, Failure, files, guarded, io_error},
    sled_engine::same_file,
};
use crate::crash_point::{self, CrashPoint};
use redb::{Builder, Database, Durability, ReadableDatabase as _, TableDefinition};
use std::{fs::File, ops::Bound, path::Path};
use tidegate_actors::ports::outbox_store::{Batch, Pair};
use tidegate_schemas::{config::file::OutboxEngine, messages::outbox::StoreError};

const TABLE: TableDefinition<'static, &'static [u8], &'static [u8]> = TableDefinition::new("outbox");

/// An open redb database.
pub(super) struct RedbEngine {
    db: Database,
    /// Our own descriptor of its file.
    file: File,
}

impl RedbEngine {
    /// Opens the database in this folder, or makes it there.
    pub fn open(dir: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        let path = dir.join(files(OutboxEngine::Redb).data);
        let cache_bytes = usize::try_from(cache_bytes).unwrap_or(usize::MAX);
        let db = calling("opening", || Ok(Builder::new().set_cache_size(cache_bytes).create(&path)?))?;
        let file = File::open(path).map_err(|error| io_error("opening its file", &error))?;
        let engine = Self { db, file };
        calling("making its table", || {
            let made = engine.db.begin_write()?;
            made.open_table(TABLE)?;
            Ok(made.commit()?)
        })?;
        Ok(engine)
    }
}

impl Engine for RedbEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        calling("reading", || {
            let table = self.db.begin_read()?.open_table(TABLE)?;
            Ok(table.get(key)?.map(|value| value.value().to_vec()))
        })
    }

    fn slice(&self, from: &[u8], to: Option<&[u8]>, wanted: usize, backwards: bool) -> Result<Vec<Pair>, StoreError> {
        calling("scanning", || {
            let table = self.db.begin_read()?.open_table(TABLE)?;
            let bounds = (Bound::Included(from), to.map_or(Bound::Unbounded, Bound::Excluded));
            let mut range = table.range::<&[u8]>(bounds)?;
            let mut pairs = Vec::new();
            while pairs.len() < wanted {
                let next = if backwards { range.next_back() } else { range.next() };
                let Some(pair) = next else { break };
                let (key, value) = pair?;
                pairs.push((key.value().to_vec(), value.value().to_vec()));
            }
            Ok(pairs)
        })
    }

    /// A transaction that fails is rolled back; only of its last step the outcome is unknown, which the next opening settles.
    fn write(&self, batch: &Batch, key: &[u8], value: &[u8]) -> Result<usize, Failure> {
        calling("writing a commit", || {
            let mut writing = self.db.begin_write()?;
            writing.set_durability(Durability::Immediate)?;
            {
                let mut table = writing.open_table(TABLE)?;
                for (key, value) in &batch.changes {
                    match value {
                        Some(value) => drop(table.insert(key.as_slice(), value.as_slice())?),
                        None => drop(table.remove(key.as_slice())?),
                    }
                }
                table.insert(key, value)?;
            }
            crash_point::hit(CrashPoint::CommitWritten)?;
            writing.commit()?;
            crash_point::hit(CrashPoint::CommitFlushed)?;
            Ok(batch.bytes() + key.len() + value.len())
        })
        .map_err(Failure::whole)
    }

    fn has_file(&self, path: &Path) -> bool {
        same_file(&self.file, path)
    }

    fn close(self: Box<Self>) -> Result<(), StoreError> {
        calling("being closed", || Ok(self.db.close()?))
    }

    fn abandon(self: Box<Self>) {
        std::mem::forget(self);
    }
}

/// Does something with redb. No message of redb's is passed on where it might show data.
fn calling<T>(what: &str, work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, StoreError> {
    guarded("redb", what, || work().map_err(|error| store_error(what, &error)))
}

fn store_error(what: &str, error: &redb::Error) -> StoreError {
    match error {
        redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => StoreError::Locked,
        redb::Error::Io(error) => io_error(what, error),
        redb::Error::PreviousIo => StoreError::Io(format!("{what}: input or output failed before")),
        redb::Error::UpgradeRequired(version) => {
            super::format::mismatch(format!("of redb's file format {version}"), OutboxEngine::Redb)
        }
        redb::Error::Corrupted(_) => StoreError::Corrupt(format!("redb found damage while {what}")),
        _ => StoreError::Corrupt(format!("redb failed inside while {what}")),
    }
}
