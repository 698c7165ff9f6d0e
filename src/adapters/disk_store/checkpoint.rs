//! The checkpoint: how many commits the store must at least hold.
//!
//! A flipped bit in the young part of sled's log makes it forget everything after that bit, without an error. So every commit
//! carries its number in the store, and the last one is also written here, after the commit is durable. A store whose number is
//! below its checkpoint has lost something that was acknowledged, and says so instead of opening.
//!
//! It also says whether the store was closed in order: if so, it need not be read through when it is opened.
//!
//! A second one lies beside the folder, under its name and `.checkpoint`. It tells when the whole folder, with the checkpoint in it, was put
//! back from an older copy: then the store is whole, and still knows nothing of what came after.
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

/// The checkpoint beside the folder.
#[derive(Debug)]
pub(super) struct Beside {
    checkpoint: Checkpoint,
    /// How many commits more than the store it knew of at the opening.
    missing: u64,
}

impl Beside {
    /// Opens the file, or makes it, for a store of this folder and id whose last commit is this one.
    pub fn open(dir: &Path, id: Uuid, last: u64) -> std::io::Result<Self> {
        let mut name = dir.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{FILE}"));
        let checkpoint = Checkpoint::open_file(&dir.with_file_name(name), id)?;
        let missing = checkpoint.read().saturating_sub(last);
        Ok(Self { checkpoint, missing })
    }

    /// How many commits the store lacks since it was put back; 0 when it was not, or once that is [forgotten](Beside::forget).
    pub fn missing(&self) -> u64 {
        self.missing
    }

    /// Records that this commit is durable, unless some are missing: then it stays known how many.
    pub fn write(&mut self, commit: u64) -> std::io::Result<()> {
        if self.missing == 0 { self.checkpoint.write(commit) } else { Ok(()) }
    }

    /// From here on the store is what it is, with this commit as its last.
    pub fn forget(&mut self, last: u64) -> std::io::Result<()> {
        for commit in [last, last.saturating_sub(1)] {
            self.checkpoint.write(commit)?;
        }
        self.checkpoint.sync()?;
        self.missing = 0;
        Ok(())
    }
}

impl Checkpoint {
    /// Opens the file in this folder, or makes it.
    pub fn open(dir: &Path, id: Uuid) -> std::io::Result<Self> {
        Self::open_file(&dir.join(FILE), id)
    }

    fn open_file(path: &Path, id: Uuid) -> std::io::Result<Self> {
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

    #[test]
    fn the_one_beside_tells_what_is_missing_until_that_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let (dir, id) = (folder.path().join("outbox"), Uuid::new_v4());
        let open = |last| Beside::open(&dir, id, last).unwrap();
        let mut beside = open(0);
        (1..=7).for_each(|commit| beside.write(commit).unwrap());
        assert_eq!((open(7).missing(), open(8).missing(), open(3).missing()), (0, 0, 4));
        let mut beside = open(3);
        (4..=6).for_each(|commit| beside.write(commit).unwrap());
        assert_eq!(open(6).missing(), 1, "what came since is not what is missing");
        let mut beside = open(6);
        beside.forget(6).unwrap();
        assert_eq!((beside.missing(), open(6).missing(), open(5).missing()), (0, 0, 1));
        assert_eq!(Beside::open(&dir, Uuid::new_v4(), 1).unwrap().missing(), 0, "another store");
    }
}
