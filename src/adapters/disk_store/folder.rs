//! The store's folder: its lock, its room on the disk, and what has to be synced.
//!
//! sled can't open on a full disk (it writes a snapshot first), so that a backlog could never be drained to make room. A
//! *ballast* file keeps that room: it is given up when an opening, a commit that removes something, or the writing of a new generation
//! finds the disk full, and made again when there is plenty.

use super::{
    super::disk_room,
    engine::{Files, files},
    format::mismatch,
};
use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock, statvfs};
use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use tidegate_schemas::{config::file::OutboxEngine, messages::outbox::StoreError};

/// Size of the ballast, in bytes; on a small disk it is a quarter of that.
const BALLAST_BYTES_MAX: u64 = 16 * MIB;
const BALLAST_SHARE: u64 = 4;
/// It is made when this much is free besides, in bytes.
const FREE_BESIDE_BALLAST: u64 = 16 * MIB;
/// Free room below which nothing is added: sled writes several times what it is given, and fails badly when that doesn't fit.
const FREE_BYTES_MIN: u64 = 8 * MIB;
/// Free room below which nothing is written at all, even if it removes something.
const FREE_BYTES_MIN_REMOVING: u64 = 2 * MIB;
/// A log this many times as large as what it holds has room within itself.
const LOG_BYTES_PER_HELD_BYTE: u64 = 3;
/// How often, and how long apart, the lock is tried.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(50);
/// Most stores set aside that are named.
const SET_ASIDE_SHOWN_MAX: usize = 16;
const MIB: u64 = 1_024 * 1_024;

/// What stands between the name of a store's folder and the stamp, once it is set aside.
const SET_ASIDE: &str = ".bad-";
/// How the folder of a generation is named, before its number.
const GENERATION: &str = "generation-";
const LOCK_FILE: &str = "LOCK";
const BALLAST_FILE: &str = "ballast";
/// What may lie in a folder in which a store is made.
const FILES_OF_AN_EMPTY_FOLDER: [&str; 5] = [LOCK_FILE, BALLAST_FILE, "FORMAT.new", "checkpoint", "lost+found"];

/// A folder that no other process can open as a store.
#[derive(Debug)]
pub(super) struct Folder {
    pub dir: PathBuf,
    /// The engine's files in [`Folder::data_dir`].
    pub files: Files,
    /// Which of its [generations](super::generations) the store is.
    generation: AtomicU64,
    /// Locked as long as it is open.
    _lock: File,
}

impl Folder {
    /// Makes the folder if need be, for its owner alone, and locks it.
    pub fn lock(dir: &Path, files: Files) -> Result<Self, StoreError> {
        let io = |what: &str, error: io::Error| StoreError::Io(format!("{what} the folder of the outbox: {error}"));
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| io("making", error))?;
        let lock = OpenOptions::new().write(true).create(true).truncate(false).open(dir.join(LOCK_FILE));
        let lock = lock.map_err(|error| io("locking", error))?;
        take_lock(&lock)?;
        fs::set_permissions(dir, Permissions::from_mode(0o700)).map_err(|error| io("protecting", error))?;
        Ok(Self { dir: dir.to_owned(), files, generation: AtomicU64::new(0), _lock: lock })
    }

    /// Says which generation the store is.
    pub fn set_generation(&self, generation: u64) {
        self.generation.store(generation, Ordering::Release);
    }

    /// Where the engine's files are.
    pub fn data_dir(&self) -> PathBuf {
        self.dir_of(self.generation.load(Ordering::Acquire))
    }

    /// Where the engine's files of a generation are: the first one has them in the folder itself.
    pub fn dir_of(&self, generation: u64) -> PathBuf {
        if generation == 0 { self.dir.clone() } else { self.dir.join(format!("{GENERATION}{generation}")) }
    }

    /// Where the data is.
    pub fn data_file(&self) -> PathBuf {
        self.data_dir().join(self.files.data)
    }

    /// Refuses a folder without our marker in which something lies.
    pub fn check_unused(&self, engine: OutboxEngine) -> Result<(), StoreError> {
        let entries =
            fs::read_dir(&self.dir).map_err(|error| StoreError::Io(format!("listing the folder: {error}")))?;
        for entry in entries {
            let name = entry.map_err(|error| StoreError::Io(format!("listing the folder: {error}")))?.file_name();
            if !FILES_OF_AN_EMPTY_FOLDER.iter().any(|known| name.to_str() == Some(known)) {
                let name: String = name.to_string_lossy().chars().take(64).collect();
                return Err(mismatch(format!("none (its folder has no file FORMAT, but holds {name:?})"), engine));
            }
        }
        Ok(())
    }

    /// Removes what an opening left behind that never came to its end: no commit has returned on it.
    pub fn clear_unfinished(&self) -> io::Result<()> {
        match fs::remove_file(self.dir.join("checkpoint")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => self.clear_first_generation(),
        }
    }

    /// Removes every generation but the store's own: the ones before it, and one that did not come to its end.
    pub fn clear_other_generations(&self) -> io::Result<()> {
        let ours = self.data_dir();
        // All that can be removed is, whatever else can't.
        let mut cleared = if ours == self.dir { Ok(()) } else { self.clear_first_generation() };
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.strip_prefix(GENERATION).is_some_and(|number| number.parse::<u64>().is_ok()) && path != ours {
                cleared = cleared.and(fs::remove_dir_all(path));
            }
        }
        cleared
    }

    /// The same, when it may be that a crash came before the marker was synced: what it names has to be so for ever first.
    pub fn clear_leftovers(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()?;
        self.clear_other_generations()
    }

    /// Removes the engine's files that lie in the folder itself.
    fn clear_first_generation(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            match entry.file_name().to_str() {
                Some("db" | "conf" | "outbox.redb") => fs::remove_file(entry.path())?,
                Some("blobs") => fs::remove_dir_all(entry.path())?,
                Some(name) if name.starts_with("snap.") => fs::remove_file(entry.path())?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes snapshots that were cut short by a full disk or a crash: sled would take the newest of them for a whole one, find
    /// it damaged, and never open again. They carry another name until they are whole, so none of these counts.
    pub fn clear_half_snapshots(&self) -> io::Result<()> {
        let Ok(entries) = fs::read_dir(self.data_dir()) else { return Ok(()) };
        for entry in entries {
            let entry = entry?;
            if entry.file_name().to_str().is_some_and(|name| name.starts_with("snap.") && name.ends_with(".generating"))
            {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Makes durable what an engine itself doesn't sync: its files, their names, and the folder's own name.
    pub fn sync(&self, data_dir: &Path) -> io::Result<()> {
        for name in self.files.synced {
            File::open(data_dir.join(name))?.sync_all()?;
        }
        File::open(&self.dir)?.sync_all()?;
        match self.dir.canonicalize()?.parent() {
            Some(parent) => File::open(parent)?.sync_all(),
            None => Ok(()),
        }
    }

    /// Whether there is room for a commit that adds, when the store holds this many bytes of keys and values.
    ///
    /// A data file never shrinks by much, but what was removed from it is used again. So one that is mostly empty needs no
    /// more of the disk than what a removal needs.
    pub fn has_room_to_add(&self, held_bytes: u64) -> bool {
        let free = self.free_bytes();
        let least_log_bytes = held_bytes.saturating_mul(LOG_BYTES_PER_HELD_BYTE).saturating_add(FREE_BYTES_MIN);
        free >= FREE_BYTES_MIN || (free >= FREE_BYTES_MIN_REMOVING && self.log_bytes() >= least_log_bytes)
    }

    /// Whether there is room for a commit that removes something, or for an opening; gives up the ballast if need be.
    pub fn has_room_to_remove(&self) -> bool {
        let has_room = || self.free_bytes() >= FREE_BYTES_MIN_REMOVING;
        has_room() || (self.give_up_ballast() && has_room())
    }

    /// Blocks of the data file, in bytes.
    fn log_bytes(&self) -> u64 {
        self.data_file().metadata().map_or(0, |metadata| metadata.blocks() * 512)
    }

    /// Makes the ballast, when it isn't there and there is plenty of room.
    pub fn restore_ballast(&self) {
        self.make_ballast(FREE_BESIDE_BALLAST);
    }

    /// Makes the ballast again that was there a moment ago, when it isn't there and there is room.
    pub fn return_ballast(&self) {
        self.make_ballast(FREE_BYTES_MIN_REMOVING);
    }

    /// Makes the ballast, when it isn't there and this much stays free, in bytes.
    fn make_ballast(&self, free_beside: u64) {
        let path = self.dir.join(BALLAST_FILE);
        let Ok(disk) = statvfs(&self.dir) else { return };
        let bytes = (disk.f_blocks.saturating_mul(disk.f_frsize) / BALLAST_SHARE).min(BALLAST_BYTES_MAX);
        if self.has_ballast() || self.free_bytes() < bytes + free_beside {
            return;
        }
        let made = File::create(&path).and_then(|file| {
            fallocate(&file, FallocateFlags::empty(), 0, bytes)?;
            file.sync_all()
        });
        if let Err(error) = made {
            // A file system without fallocate, or no room after all: the store works, only a full disk is worse then.
            tracing::warn!(%error, "the ballast of the outbox could not be made");
            let _ = fs::remove_file(&path);
        }
    }

    /// Frees the room of the ballast; says whether there was one.
    pub fn give_up_ballast(&self) -> bool {
        let given = self.has_ballast() && fs::remove_file(self.dir.join(BALLAST_FILE)).is_ok();
        if given {
            tracing::warn!("the disk of the outbox is full: its reserve was given up");
            if let Ok(dir) = File::open(&self.dir) {
                // The room is free when the removal is committed.
                let _ = dir.sync_all();
            }
        }
        given
    }

    /// Whether the ballast is there.
    pub fn has_ballast(&self) -> bool {
        self.ballast_bytes() > 0
    }

    /// What the ballast takes, in bytes. A crash in the middle of its making leaves an empty file, which is none.
    pub fn ballast_bytes(&self) -> u64 {
        self.dir.join(BALLAST_FILE).metadata().map_or(0, |metadata| metadata.blocks() * 512)
    }

    /// What an unprivileged process may still write, in bytes; a lot when that can't be told.
    fn free_bytes(&self) -> u64 {
        self.room().unwrap_or(u64::MAX)
    }

    /// What an unprivileged process may still write, in bytes.
    pub fn room(&self) -> io::Result<u64> {
        disk_room::free_bytes(&self.dir)
    }

    /// Blocks of all files but the ballast, in bytes.
    pub fn disk_bytes(&self) -> u64 {
        blocks(&self.dir, Some(BALLAST_FILE))
    }
}

/// Takes the lock. Waits a moment for it: a process that is just ending, or being started, may hold it for that long.
fn take_lock(lock: &File) -> Result<(), StoreError> {
    for _ in 0..LOCK_TRIES {
        match flock(lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(LOCK_PAUSE),
            Err(error) => return Err(StoreError::Io(format!("locking the folder of the outbox: {error}"))),
        }
    }
    Err(StoreError::Locked)
}

fn blocks(dir: &Path, but: Option<&str>) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let mut bytes = 0_u64;
    for entry in entries.flatten().filter(|entry| but.is_none() || entry.file_name().to_str() != but) {
        let Ok(metadata) = entry.metadata() else { continue };
        bytes += if metadata.is_dir() { blocks(&entry.path(), None) } else { metadata.blocks() * 512 };
    }
    bytes
}

/// Moves a damaged store away, to `<dir>.bad-<stamp>`, so that a new one can be made in its place. Nothing is ever deleted.
///
/// Whether to do so is the operator's decision: without it, the gateway doesn't start on a damaged outbox.
///
/// # Errors
/// `Locked` while the store is open, by this process or another; `Io` when it can't be moved.
pub fn set_aside(dir: &Path, stamp: &str) -> Result<PathBuf, StoreError> {
    let io = |error: io::Error| StoreError::Io(format!("moving the folder of the outbox away: {error}"));
    if !dir.is_dir() {
        return Err(StoreError::Io("moving the folder of the outbox away: there is none".into()));
    }
    let locked = Folder::lock(dir, files(OutboxEngine::default()))?;
    let mut name = dir.file_name().ok_or_else(|| io(io::ErrorKind::InvalidInput.into()))?.to_owned();
    name.push(format!("{SET_ASIDE}{stamp}"));
    let target = dir.with_file_name(name);
    if target.exists() {
        return Err(io(io::ErrorKind::AlreadyExists.into()));
    }
    fs::rename(dir, &target).map_err(io)?;
    drop(locked);
    if let Some(parent) = target.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        File::open(parent).and_then(|parent| parent.sync_all()).map_err(io)?;
    }
    Ok(target)
}

/// Names of the stores that were set aside for this one and are still there, at most [`SET_ASIDE_SHOWN_MAX`].
pub(super) fn set_aside_beside(dir: &Path) -> Vec<String> {
    let (Some(parent), Some(name)) = (dir.parent(), dir.file_name().and_then(|name| name.to_str())) else {
        return Vec::new();
    };
    let begins = format!("{name}{SET_ASIDE}");
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut found: Vec<String> = names.filter(|name| name.starts_with(&begins)).take(SET_ASIDE_SHOWN_MAX).collect();
    found.sort();
    found
}
