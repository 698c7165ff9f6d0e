//! The checkpoint: how many commits the store must at least hold.
//!
//! A flipped bit in the young part of sled's log makes it forget everything after that bit, without an error. So every commit
//! carries its number in the store, and the last one is also written here, after the commit is durable. A store whose number is
//! below its checkpoint has lost something that was acknowledged, and says so instead of opening.
//!
//! It also says whether the store was closed in order: if so, it need not be read through when it is opened.
//!
//! Limits: the checkpoint is synced once a second, so that it doesn't cost a second sync for each commit. After a power cut it
//! may be a second behind, and then a loss within that second shows only if a record is missed by the account.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::FileExt as _,
    path::Path,
    time::{Duration, Instant},
};
use uuid::Uuid;

const FILE: &str = "checkpoint";
/// Two slots, written in turn: a torn write leaves the other one.
const SLOT_BYTES: u64 = 64;
/// Where the number of the commit lies after which the store was closed.
const CLOSED_OFFSET: u64 = 2 * SLOT_BYTES;
const RECORD_BYTES: usize = 12;
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// The open checkpoint file.
#[derive(Debug)]
pub(super) struct Checkpoint {
    file: File,
    id: Uuid,
    synced: Instant,
    dirty: bool,
}

impl Checkpoint {
    /// Opens the file, or makes it.
    pub fn open(dir: &Path, id: Uuid) -> std::io::Result<Self> {
        let path = dir.join(FILE);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        Ok(Self { file, id, synced: Instant::now(), dirty: false })
    }

    /// The number of the last commit that was recorded; 0 when there is none, or the file is another store's.
    pub fn read(&self) -> u64 {
        [0, SLOT_BYTES].into_iter().filter_map(|offset| self.read_slot(offset)).max().unwrap_or(0)
    }

    /// Whether the store was closed in order after this commit.
    pub fn closed_after(&self, commit: u64) -> bool {
        self.read_slot(CLOSED_OFFSET) == Some(commit)
    }

    fn read_slot(&self, offset: u64) -> Option<u64> {
        let mut record = [0; RECORD_BYTES];
        self.file.read_exact_at(&mut record, offset).ok()?;
        let (number, _) = record.split_first_chunk::<8>()?;
        let number = u64::from_be_bytes(*number);
        (self.record(number) == record).then_some(number)
    }

    /// Records that this commit is durable.
    pub fn write(&mut self, commit: u64) -> std::io::Result<()> {
        self.file.write_all_at(&self.record(commit), commit % 2 * SLOT_BYTES)?;
        self.dirty = true;
        if self.synced.elapsed() >= SYNC_EVERY { self.sync() } else { Ok(()) }
    }

    /// Records, durably, that the store was closed in order after this commit.
    pub fn write_closed(&mut self, commit: u64) -> std::io::Result<()> {
        self.file.write_all_at(&self.record(commit), CLOSED_OFFSET)?;
        self.dirty = true;
        self.sync()
    }

    /// Makes it durable.
    pub fn sync(&mut self) -> std::io::Result<()> {
        if self.dirty {
            self.file.sync_data()?;
            self.dirty = false;
        }
        self.synced = Instant::now();
        Ok(())
    }

    fn record(&self, commit: u64) -> [u8; RECORD_BYTES] {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(self.id.as_bytes());
        hasher.update(&commit.to_be_bytes());
        let mut record = [0; RECORD_BYTES];
        record[..8].copy_from_slice(&commit.to_be_bytes());
        record[8..].copy_from_slice(&hasher.finalize().to_be_bytes());
        record
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_highest_whole_number_counts() {
        let dir = tempfile::tempdir().unwrap();
        let id = Uuid::new_v4();
        let mut checkpoint = Checkpoint::open(dir.path(), id).unwrap();
        assert_eq!(checkpoint.read(), 0);
        for commit in 1..=5 {
            checkpoint.write(commit).unwrap();
        }
        checkpoint.sync().unwrap();
        assert_eq!(Checkpoint::open(dir.path(), id).unwrap().read(), 5);
        assert_eq!(Checkpoint::open(dir.path(), Uuid::new_v4()).unwrap().read(), 0, "another store's");
        // The write of 5 was torn.
        checkpoint.file.write_all_at(&[0xff], SLOT_BYTES + 9).unwrap();
        assert_eq!(checkpoint.read(), 4);
        assert!(!checkpoint.closed_after(4));
        checkpoint.write_closed(4).unwrap();
        assert!(checkpoint.closed_after(4) && !checkpoint.closed_after(5));
    }
}
