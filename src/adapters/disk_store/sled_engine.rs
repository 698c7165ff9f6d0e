//! sled 0.34.7 as an engine, with what it leaves to its user: the only place that names sled.
//!
//! Its `flush` calls `sync_file_range`, which survives a killed process but not a power cut. So a file descriptor of our own on its
//! log `db` is synced after every flush. It panics on damaged files, writes when it is opened, and writes values above a few KiB to
//! files that are never synced (hence the store's limits).

use super::engine::{Engine, Failure, files, guarded, io_error};
use crate::crash_point::{self, CrashPoint};
use std::{fs::File, os::unix::fs::MetadataExt as _, path::Path};
use tidegate_actors::ports::outbox_store::{Batch, Pair};
use tidegate_schemas::{config::file::OutboxEngine, messages::outbox::StoreError};

/// An open sled database: one tree, no background flusher.
pub(super) struct SledEngine {
    db: sled::Db,
    /// Our own descriptor of sled's log.
    log: File,
}

impl SledEngine {
    /// Opens the database in this folder, or makes it there.
    pub fn open(dir: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        let config = sled::Config::new()
            .path(dir)
            .cache_capacity(cache_bytes)
            .mode(sled::Mode::LowSpace)
            .use_compression(false)
            .flush_every_ms(None);
        let db = calling("opening", || config.open())?;
        let log = File::open(dir.join(files(OutboxEngine::Sled).data));
        Ok(Self { db, log: log.map_err(|error| io_error("opening its log", &error))? })
    }
}

impl Engine for SledEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(calling("reading", || self.db.get(key))?.map(|value| value.to_vec()))
    }

    /// With an iterator of its own: a long one keeps everything that it passed in memory.
    fn slice(&self, from: &[u8], to: Option<&[u8]>, wanted: usize, backwards: bool) -> Result<Vec<Pair>, StoreError> {
        calling("scanning", || {
            let range = match to {
                Some(to) => self.db.range(from..to),
                None => self.db.range(from..),
            };
            let owned = |pair: sled::Result<(sled::IVec, sled::IVec)>| pair.map(|(k, v)| (k.to_vec(), v.to_vec()));
            match backwards {
                true => range.rev().take(wanted).map(owned).collect(),
                false => range.take(wanted).map(owned).collect(),
            }
        })
    }

    fn write(&self, batch: &Batch, key: &[u8], value: &[u8]) -> Result<usize, Failure> {
        let mut changes = sled::Batch::default();
        for (key, value) in &batch.changes {
            match value {
                Some(value) => changes.insert(key.as_slice(), value.as_slice()),
                None => changes.remove(key.as_slice()),
            }
        }
        changes.insert(key, value);
        // After an error of input or output sled refuses every further write, so that dropping its handles is safe then.
        calling("writing a commit", || self.db.apply_batch(changes)).map_err(|error| {
            let torn = !matches!(error, StoreError::Full | StoreError::Io(_));
            Failure { error, torn }
        })?;
        at(CrashPoint::CommitWritten)?;
        let flushed = calling("flushing a commit", || self.db.flush()).map_err(Failure::whole)?;
        at(CrashPoint::CommitFlushed)?;
        self.log.sync_data().map_err(|error| Failure::whole(io_error("syncing a commit", &error)))?;
        Ok(flushed)
    }

    fn has_file(&self, path: &Path) -> bool {
        same_file(&self.log, path)
    }

    /// sled flushes when it is dropped, and may panic.
    fn close(self: Box<Self>) -> Result<(), StoreError> {
        calling("being closed", || {
            drop(self);
            Ok(())
        })
    }

    fn abandon(self: Box<Self>) {
        std::mem::forget(self);
    }
}

fn at(point: CrashPoint) -> Result<(), Failure> {
    crash_point::hit(point).map_err(|error| Failure::whole(io_error("committing", &error)))
}

/// Whether this open file is the one of that name.
pub(super) fn same_file(file: &File, path: &Path) -> bool {
    let same = |a: &std::fs::Metadata, b: &std::fs::Metadata| a.ino() == b.ino() && a.dev() == b.dev();
    matches!((file.metadata(), path.metadata()), (Ok(ours), Ok(named)) if same(&ours, &named))
}

/// Does something with sled. No message of sled's is passed on where it might show data.
fn calling<T>(what: &str, work: impl FnOnce() -> sled::Result<T>) -> Result<T, StoreError> {
    guarded("sled", what, || work().map_err(|error| store_error(what, &error)))
}

fn store_error(what: &str, error: &sled::Error) -> StoreError {
    match error {
        // sled's words for a lock that another process holds.
        sled::Error::Io(error) if error.to_string().starts_with("could not acquire lock") => StoreError::Locked,
        sled::Error::Io(error) => io_error(what, error),
        sled::Error::Unsupported(reason) => {
            super::format::mismatch(format!("that sled refuses ({reason})"), OutboxEngine::Sled)
        }
        sled::Error::Corruption { .. } => StoreError::Corrupt(format!("sled found damage while {what}")),
        sled::Error::CollectionNotFound(_) => StoreError::Corrupt(format!("sled misses a collection while {what}")),
        sled::Error::ReportableBug(_) => StoreError::Corrupt(format!("sled failed inside while {what}")),
    }
}
