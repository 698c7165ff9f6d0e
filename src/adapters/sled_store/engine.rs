//! The open sled database, with what sled leaves to its user: a real sync, a net for its panics, plain errors.
//!
//! sled 0.34's `flush` calls `sync_file_range`, which survives a killed process but not a power cut. So a file descriptor of our
//! own on its log `db` is synced after every flush. sled panics on damaged files; a panic becomes an error here.

use super::{
    checkpoint::Checkpoint,
    contents::{CommitRecord, Contents},
    folder::Folder,
};
use std::{
    fs::File,
    io,
    os::unix::fs::MetadataExt as _,
    panic::{AssertUnwindSafe, catch_unwind},
};
use tidegate_actors::ports::outbox_store::{Batch, Pair};
use tidegate_schemas::messages::outbox::StoreError;
use uuid::Uuid;

/// The store's own key: the record of the last commit. No batch may use it, no scan shows it.
const COMMIT_KEY: &[u8] = b"";
/// The first key that a batch may use.
const FIRST_KEY: &[u8] = &[0];
/// Pairs read with one iterator: a long one keeps everything that it passed in memory.
const SLICE_PAIRS: usize = 256;

/// An open database. All handles of sled are in here and nowhere else.
pub(super) struct Engine {
    db: sled::Db,
    /// Our own descriptor of sled's log.
    log: File,
    id: Uuid,
}

/// What went wrong, and whether sled may have been left in the middle of a write.
#[derive(Debug)]
pub(super) struct Failure {
    pub error: StoreError,
    /// Its handles must not be dropped: dropping flushes, and would make half a batch durable.
    pub torn: bool,
}

impl Engine {
    /// Opens the database, looks whether everything is there, and proves that a flush reaches the disk. Returns it with the
    /// record of its last commit.
    ///
    /// `fresh`: the store is being made, so that it may be empty.
    pub fn open(
        folder: &Folder,
        checkpoint: &Checkpoint,
        id: Uuid,
        cache_bytes: u64,
        fresh: bool,
    ) -> Result<(Self, CommitRecord), StoreError> {
        let db_path = folder.dir.join("db");
        if !fresh && !db_path.metadata().is_ok_and(|metadata| metadata.len() > 0) {
            return Err(StoreError::Corrupt("its data file db is missing or empty".into()));
        }
        let config = sled::Config::new()
            .path(&folder.dir)
            .cache_capacity(cache_bytes)
            .mode(sled::Mode::LowSpace)
            .use_compression(false)
            .flush_every_ms(None);
        let db = guarded("opening", || config.open())?;
        let log = File::open(&db_path).map_err(|error| io_error("opening its log", &error))?;
        let engine = Self { db, log, id };
        match engine.examine(folder, checkpoint, fresh) {
            Ok(record) => Ok((engine, record)),
            Err(error) => {
                // Dropping it may panic on a damaged file, too; the first error is the one that tells.
                let _ = engine.close();
                Err(error)
            }
        }
    }

    fn examine(&self, folder: &Folder, checkpoint: &Checkpoint, fresh: bool) -> Result<CommitRecord, StoreError> {
        let last = match self.last_commit()? {
            Some(record) => record,
            None if fresh => CommitRecord { id: self.id, commit: 0, contents: Contents::default() },
            None => return Err(StoreError::Corrupt("it has lost all its commits".into())),
        };
        let least = checkpoint.read();
        if last.commit < least {
            return Err(StoreError::Corrupt(format!("its last {} commits are missing", least - last.commit)));
        }
        if !checkpoint.closed_after(last.commit) {
            self.read_through(last.contents)?;
        }
        let next = CommitRecord { commit: last.commit + 1, ..last };
        self.prove_flush(&folder.dir.join("db"), &next)?;
        folder.sync().map_err(|error| io_error("syncing its folder", &error))?;
        Ok(next)
    }

    /// Reads everything once, and compares it with what was committed.
    fn read_through(&self, committed: Contents) -> Result<(), StoreError> {
        let mut found = Contents::default();
        let mut from = FIRST_KEY.to_vec();
        loop {
            let slice = guarded("reading it through", || {
                self.db.range(from.as_slice()..).take(SLICE_PAIRS).collect::<sled::Result<Vec<_>>>()
            })?;
            slice.iter().for_each(|(key, value)| found.add(key, value));
            match slice.last() {
                Some((last, _)) if slice.len() == SLICE_PAIRS => from = key_after(last),
                _ => break,
            }
        }
        match (found == committed, found.pairs, committed.pairs) {
            (true, ..) => Ok(()),
            (false, found, committed) if found < committed => {
                Err(StoreError::Corrupt(format!("{} of its {committed} records are missing", committed - found)))
            }
            _ => Err(StoreError::Corrupt("some of its records are not those that were committed".into())),
        }
    }

    /// Commits only the commit's own number, and checks that sled wrote it to the very file that we sync.
    fn prove_flush(&self, db_path: &std::path::Path, record: &CommitRecord) -> Result<(), StoreError> {
        let flushed = self.write(&Batch::default(), record).map_err(|failure| failure.error)?;
        if flushed == 0 {
            return Err(StoreError::Io("the self-test of flush wrote nothing".into()));
        }
        let same = |a: &std::fs::Metadata, b: &std::fs::Metadata| a.ino() == b.ino() && a.dev() == b.dev();
        match (self.log.metadata(), db_path.metadata()) {
            (Ok(ours), Ok(named)) if same(&ours, &named) => Ok(()),
            _ => Err(StoreError::Io("the data file was replaced while it was opened".into())),
        }
    }

    /// Applies a batch and syncs it; returns its record.
    pub fn commit(&self, batch: &Batch, last: &CommitRecord) -> Result<CommitRecord, Failure> {
        // Every page that the batch touches is read here. If one is damaged, it shows before anything has changed, and not in the
        // middle of the batch.
        let contents = guarded("reading before a commit", || last.contents.after(batch, |key| self.db.get(key)))
            .map_err(|error| Failure { error, torn: false })?;
        let record = CommitRecord { id: self.id, commit: last.commit + 1, contents };
        self.write(batch, &record)?;
        Ok(record)
    }

    fn write(&self, batch: &Batch, record: &CommitRecord) -> Result<usize, Failure> {
        let mut changes = sled::Batch::default();
        for (key, value) in &batch.changes {
            match value {
                Some(value) => changes.insert(key.as_slice(), value.as_slice()),
                None => changes.remove(key.as_slice()),
            }
        }
        changes.insert(COMMIT_KEY, &record.encode()[..]);
        // After an error of input or output sled refuses every further write, so that dropping its handles is safe then.
        guarded("writing a commit", || self.db.apply_batch(changes)).map_err(|error| {
            let torn = !matches!(error, StoreError::Full | StoreError::Io(_));
            Failure { error, torn }
        })?;
        let flushed =
            guarded("flushing a commit", || self.db.flush()).map_err(|error| Failure { error, torn: false })?;
        self.log.sync_data().map_err(|error| Failure { error: io_error("syncing a commit", &error), torn: false })?;
        Ok(flushed)
    }

    /// Reads one value.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        if key == COMMIT_KEY {
            return Ok(None);
        }
        Ok(guarded("reading", || self.db.get(key))?.map(|value| value.to_vec()))
    }

    /// Reads a range, in slices.
    pub fn scan(&self, from: &[u8], to: &[u8], limit: usize, backwards: bool) -> Result<Vec<Pair>, StoreError> {
        let (mut from, mut to) = (from.max(FIRST_KEY).to_vec(), to.to_vec());
        let mut pairs: Vec<Pair> = Vec::new();
        while from < to && pairs.len() < limit {
            let wanted = SLICE_PAIRS.min(limit - pairs.len());
            let slice = guarded("scanning", || self.slice(&from, &to, wanted, backwards))?;
            let whole = slice.len() == wanted;
            pairs.extend(slice);
            match pairs.last() {
                Some((last, _)) if whole && backwards => to = last.clone(),
                Some((last, _)) if whole => from = key_after(last),
                _ => break,
            }
        }
        Ok(pairs)
    }

    fn slice(&self, from: &[u8], to: &[u8], wanted: usize, backwards: bool) -> sled::Result<Vec<Pair>> {
        let range = self.db.range(from..to);
        let owned = |pair: sled::Result<(sled::IVec, sled::IVec)>| pair.map(|(k, v)| (k.to_vec(), v.to_vec()));
        if backwards { range.rev().take(wanted).map(owned).collect() } else { range.take(wanted).map(owned).collect() }
    }

    fn last_commit(&self) -> Result<Option<CommitRecord>, StoreError> {
        let Some(bytes) = guarded("reading its last commit", || self.db.get(COMMIT_KEY))? else { return Ok(None) };
        match CommitRecord::decode(&bytes) {
            Some(record) if record.id == self.id => Ok(Some(record)),
            Some(_) => Err(StoreError::Corrupt("its data file belongs to another outbox".into())),
            None => Err(StoreError::Corrupt("the record of its last commit is damaged".into())),
        }
    }

    /// Lets go of all handles; sled flushes when it is dropped, and may panic.
    pub fn close(self) -> Result<(), StoreError> {
        catch_unwind(AssertUnwindSafe(|| drop(self)))
            .map_err(|_| StoreError::Io("sled panicked while it was closed".into()))
    }

    /// Never lets go of the handles: for a database that was left in the middle of a write.
    pub fn abandon(self) {
        std::mem::forget(self);
    }
}

/// Does something with sled; panics and sled's errors become ours. No message of sled's is passed on where it might show data.
fn guarded<T>(what: &str, work: impl FnOnce() -> sled::Result<T>) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(store_error(what, &error)),
        Err(_) => Err(StoreError::Corrupt(format!("sled panicked while {what}"))),
    }
}

fn store_error(what: &str, error: &sled::Error) -> StoreError {
    match error {
        // sled's words for a lock that another process holds.
        sled::Error::Io(error) if error.to_string().starts_with("could not acquire lock") => StoreError::Locked,
        sled::Error::Io(error) => io_error(what, error),
        sled::Error::Unsupported(reason) => super::format::mismatch(format!("that sled refuses ({reason})")),
        sled::Error::Corruption { .. } => StoreError::Corrupt(format!("sled found damage while {what}")),
        sled::Error::CollectionNotFound(_) => StoreError::Corrupt(format!("sled misses a collection while {what}")),
        sled::Error::ReportableBug(_) => StoreError::Corrupt(format!("sled failed inside while {what}")),
    }
}

/// An error of input or output in the port's words.
pub(super) fn io_error(what: &str, error: &io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full,
        _ => StoreError::Io(format!("{what}: {error}")),
    }
}

/// The next possible key.
fn key_after(key: &[u8]) -> Vec<u8> {
    let mut next = key.to_vec();
    next.push(0);
    next
}
