//! The open database as a store: numbered commits with the sum of what they leave, looked through when it is opened.
//!
//! An engine may forget the end of its log, or lose a page, without a word. So every commit carries its number and the sum of all that the
//! store holds after it; see `checkpoint` and `contents`.

use super::{
    checkpoint::Checkpoint,
    contents::{CommitRecord, Contents},
    engine::{Engine, Failure, files, io_error},
    folder::Folder,
    redb_engine::RedbEngine,
    sled_engine::SledEngine,
};
use crate::crash_point::{self, CrashPoint};
use std::path::Path;
use tidegate_actors::ports::outbox_store::{Batch, Pair};
use tidegate_schemas::{config::file::OutboxEngine, messages::outbox::StoreError};
use uuid::Uuid;

/// The store's own key: the record of the last commit. No batch may use it, no scan shows it.
const COMMIT_KEY: &[u8] = b"";
/// The first key that a batch may use.
const FIRST_KEY: &[u8] = &[0];
/// Pairs read with one iterator: a long one keeps everything that it passed in memory.
const SLICE_PAIRS: usize = 256;

/// An open database.
pub(super) struct OpenDatabase {
    engine: Box<dyn Engine>,
    id: Uuid,
}

impl OpenDatabase {
    /// Opens the database, looks whether everything is there, and proves that a flush reaches the disk. Returns it with the
    /// record of its last commit.
    ///
    /// `fresh`: the store is being made, so that it may be empty.
    pub fn open(
        folder: &Folder,
        checkpoint: &Checkpoint,
        (kind, id): (OutboxEngine, Uuid),
        cache_bytes: u64,
        fresh: bool,
    ) -> Result<(Self, CommitRecord), StoreError> {
        if !fresh && !folder.data_file().metadata().is_ok_and(|metadata| metadata.len() > 0) {
            return Err(StoreError::Corrupt(format!("its data file {} is missing or empty", files(kind).data)));
        }
        let database = Self { engine: open_engine(kind, &folder.data_dir(), cache_bytes)?, id };
        match database.examine(folder, checkpoint, fresh) {
            Ok(record) => Ok((database, record)),
            Err(error) => {
                // Dropping it may panic on a damaged file, too; the first error is the one that tells.
                let _ = database.close();
                Err(error)
            }
        }
    }

    /// Makes a database in this folder, which is empty; with the record from which its commits go on.
    pub fn make(
        dir: &Path,
        (kind, id): (OutboxEngine, Uuid),
        cache_bytes: u64,
    ) -> Result<(Self, CommitRecord), StoreError> {
        let database = Self { engine: open_engine(kind, dir, cache_bytes)?, id };
        Ok((database, CommitRecord { id, commit: 0, contents: Contents::default() }))
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
        if !folder.files.checks_itself || !checkpoint.closed_after(last.commit) {
            self.read_through(last.contents)?;
        }
        let next = CommitRecord { commit: last.commit + 1, ..last };
        self.prove_flush(&folder.data_file(), &next)?;
        folder.sync(&folder.data_dir()).map_err(|error| io_error("syncing its folder", &error))?;
        Ok(next)
    }

    /// Reads everything once, and compares it with what was committed.
    fn read_through(&self, committed: Contents) -> Result<(), StoreError> {
        let mut found = Contents::default();
        let mut next = Some(FIRST_KEY.to_vec());
        while let Some(from) = next {
            let (slice, after) = self.slice_from(&from)?;
            slice.iter().for_each(|(key, value)| found.add(key, value));
            next = after;
        }
        match (found == committed, found.pairs, committed.pairs) {
            (true, ..) => Ok(()),
            (false, found, committed) if found < committed => {
                Err(StoreError::Corrupt(format!("{} of its {committed} records are missing", committed - found)))
            }
            _ => Err(StoreError::Corrupt("some of its records are not those that were committed".into())),
        }
    }

    /// Commits only the commit's own number, and checks that it was written to the very file of that name.
    pub fn prove_flush(&self, path: &Path, record: &CommitRecord) -> Result<(), StoreError> {
        let flushed = self.write(&Batch::default(), record).map_err(|failure| failure.error)?;
        match (flushed, self.engine.has_file(path)) {
            (0, _) => Err(StoreError::Io("the self-test of flush wrote nothing".into())),
            (_, false) => Err(StoreError::Io("the data file was replaced while it was opened".into())),
            _ => Ok(()),
        }
    }

    /// Applies a batch and syncs it; returns its record.
    pub fn commit(&self, batch: &Batch, last: &CommitRecord) -> Result<CommitRecord, Failure> {
        // Every page that the batch touches is read here. If one is damaged, it shows before anything has changed, and not in the
        // middle of the batch.
        let contents = last.contents.after(batch, |key| self.engine.get(key)).map_err(Failure::whole)?;
        let record = CommitRecord { id: self.id, commit: last.commit + 1, contents };
        at(CrashPoint::CommitBegun)?;
        self.write(batch, &record)?;
        at(CrashPoint::CommitSynced)?;
        Ok(record)
    }

    fn write(&self, batch: &Batch, record: &CommitRecord) -> Result<usize, Failure> {
        self.engine.write(batch, COMMIT_KEY, &record.encode())
    }

    /// Reads one value.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        if key == COMMIT_KEY {
            return Ok(None);
        }
        self.engine.get(key)
    }

    /// The next pairs from this key on, and where to go on; none at the end.
    pub fn slice_from(&self, from: &[u8]) -> Result<(Vec<Pair>, Option<Vec<u8>>), StoreError> {
        let slice = self.engine.slice(from.max(FIRST_KEY), None, SLICE_PAIRS, false)?;
        let next = slice.last().filter(|_| slice.len() == SLICE_PAIRS).map(|(last, _)| key_after(last));
        Ok((slice, next))
    }

    /// Reads a range, in slices.
    pub fn scan(&self, from: &[u8], to: &[u8], limit: usize, backwards: bool) -> Result<Vec<Pair>, StoreError> {
        let (mut from, mut to) = (from.max(FIRST_KEY).to_vec(), to.to_vec());
        let mut pairs: Vec<Pair> = Vec::new();
        while from < to && pairs.len() < limit {
            let wanted = SLICE_PAIRS.min(limit - pairs.len());
            let slice = self.engine.slice(&from, Some(&to), wanted, backwards)?;
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

    fn last_commit(&self) -> Result<Option<CommitRecord>, StoreError> {
        let Some(bytes) = self.engine.get(COMMIT_KEY)? else { return Ok(None) };
        match CommitRecord::decode(&bytes) {
            Some(record) if record.id == self.id => Ok(Some(record)),
            Some(_) => Err(StoreError::Corrupt("its data file belongs to another outbox".into())),
            None => Err(StoreError::Corrupt("the record of its last commit is damaged".into())),
        }
    }

    /// Lets go of all handles of the engine.
    pub fn close(self) -> Result<(), StoreError> {
        self.engine.close()
    }

    /// Never lets go of them.
    pub fn abandon(self) {
        self.engine.abandon();
    }
}

fn open_engine(kind: OutboxEngine, dir: &Path, cache_bytes: u64) -> Result<Box<dyn Engine>, StoreError> {
    Ok(match kind {
        OutboxEngine::Sled => Box::new(SledEngine::open(dir, cache_bytes)?),
        OutboxEngine::Redb => Box::new(RedbEngine::open(dir, cache_bytes)?),
    })
}

fn at(point: CrashPoint) -> Result<(), Failure> {
    crash_point::hit(point).map_err(|error| Failure::whole(io_error("committing", &error)))
}

/// The next possible key.
fn key_after(key: &[u8]) -> Vec<u8> {
    let mut next = key.to_vec();
    next.push(0);
    next
}
