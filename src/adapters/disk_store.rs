//! The outbox store on disk: numbered, summed-up, synced commits on a database engine.
//!
//! # Why so much around a database
//! As shipped, sled's `flush` is not durable on Linux, large values go to files that are never synced, it opens folders of other
//! versions as empty, panics on damage, can't open on a full disk, and forgets the end of its log after a flipped bit; redb passes a
//! flipped bit on without a word. Each of these has its answer here (see the files of `disk_store/`):
//!
//! - *engine*: what a database has to do; *sled_engine*, *redb_engine*: the two that do it, each with what it needs of its own;
//! - *database*: commits are numbered and summed up; *format*: the marker file `FORMAT`; *folder*: lock, low-water mark, ballast,
//!   syncs of files and names;
//! - *checkpoint*, *contents*: a store that has lost something says so instead of opening;
//! - *walk*: everything is read while commits go on; *generations*: the store is written anew, in less room.
//!
//! # Life
//! [`DiskStore::open`] once in a process. After a failed commit the store is *poisoned*: every handle of the engine is dropped, readers
//! and writers get `Poisoned`, and [`OutboxStore::reopen`] opens it again. If sled failed in the middle of a write without an error of
//! input or output, its handles are kept for ever, since dropping them would make half a batch durable; then only a new process
//! helps, and `reopen` says so. A batch refused for its size or for want of room changes nothing and poisons nothing.
//!
//! # Limits
//! [`VALUE_BYTES_MAX`], [`BATCH_BYTES_MAX`], [`KEY_BYTES_MAX`]; one process, one writer at a time; all calls block.

mod checkpoint;
mod contents;
mod database;
mod engine;
mod folder;
mod format;
mod generations;
mod redb_engine;
mod sled_engine;
mod walk;

use crate::crash_point::{self, CrashPoint};
use checkpoint::{Beside, Checkpoint};
use contents::CommitRecord;
use database::OpenDatabase;
use engine::{Failure, files, io_error};
use folder::Folder;
pub use folder::set_aside;
use format::Format;
use std::{
    fmt,
    fs::File,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, TryLockError},
    time::Duration,
};
use tidegate_actors::ports::outbox_store::{BATCH_BYTES_MAX, Batch, Held, OutboxStore, Pair, VALUE_BYTES_MAX};
use tidegate_schemas::{config::file::OutboxEngine, messages::outbox::StoreError};
use walk::{Purpose, Walk};

/// Folder of the outbox, in the state folder.
pub const OUTBOX_FOLDER: &str = "outbox";
/// Largest key, in bytes: with seventeen entries on a page and [`VALUE_BYTES_MAX`], a page stays far below what sled would move
/// out of its log.
pub const KEY_BYTES_MAX: usize = 1_024;
/// Least and most bytes of an engine's page cache.
const CACHE_BYTES: std::ops::RangeInclusive<u64> = 8 * 1_024 * 1_024..=64 * 1_024 * 1_024;
/// Commits between two looks whether a ballast that was given up can be made again.
const BALLAST_EVERY_COMMITS: u64 = 256;
/// How often, and how long apart, a database is opened again while its threads have not let go of its file.
const OPEN_TRIES: u32 = 50;
const OPEN_PAUSE: Duration = Duration::from_millis(100);
/// How long a snapshot leaves the store to commits after each slice.
const SNAPSHOT_PAUSE: Duration = Duration::from_micros(200);

/// How a store is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskOptions {
    /// What the data is written by.
    pub engine: OutboxEngine,
    /// The engine's page cache, in bytes; clamped to 8 to 64 MiB.
    pub cache_bytes: u64,
}

impl Default for DiskOptions {
    fn default() -> Self {
        Self { engine: OutboxEngine::default(), cache_bytes: *CACHE_BYTES.start() }
    }
}

/// The outbox on disk.
pub struct DiskStore {
    folder: Folder,
    cache_bytes: u64,
    /// Held by the one walk that may be under way.
    walking: Mutex<()>,
    /// Taken for a whole commit or reopening.
    writer: Mutex<Writer>,
    /// Held for reading by whoever uses the database; for writing only to put it in or take it out.
    state: RwLock<State>,
}

struct Writer {
    checkpoint: Checkpoint,
    beside: Beside,
    /// The last commit.
    last: CommitRecord,
    format: Format,
    /// Whether the file `FORMAT` is known to say the same.
    is_format_sure: bool,
    /// Tells a walk what commits change.
    walk: Option<Walk>,
}

/// Ends a walk when it is dropped.
struct Walking<'s> {
    store: &'s DiskStore,
    _only: MutexGuard<'s, ()>,
}

impl Drop for Walking<'_> {
    fn drop(&mut self) {
        self.store.writer().walk = None;
    }
}

enum State {
    Open(OpenDatabase),
    /// Every handle is dropped.
    Poisoned,
    /// The handles are kept: see the module's text.
    Abandoned,
}

impl DiskStore {
    /// Opens the store in this folder, or makes it there.
    ///
    /// # Errors
    /// `Locked` when a process has it; `Format` when the folder holds something else; `Corrupt` when it is damaged (the folder
    /// is never removed: see [`set_aside`]); `Full`, `Io`.
    pub fn open(dir: &Path, options: DiskOptions) -> Result<Arc<Self>, StoreError> {
        let folder = Folder::lock(dir, files(options.engine))?;
        let (mut format, found) = match Format::read(&folder.dir, options.engine)? {
            Some(format) => (format, true),
            None => {
                folder.check_unused(options.engine)?;
                (Format::new(options.engine), false)
            }
        };
        folder.set_generation(format.generation);
        if !found {
            write_format(&folder, &format)?;
        }
        if !format.ready {
            folder.clear_unfinished().map_err(|error| io_error("clearing an unfinished store", &error))?;
        }
        if format.ready && !folder.has_room_to_remove() {
            // A generation that was being written when the process ended may be what fills the disk.
            folder.clear_leftovers().map_err(|error| io_error("removing its old files", &error))?;
        }
        let cache_bytes = options.cache_bytes.clamp(*CACHE_BYTES.start(), *CACHE_BYTES.end());
        let mut checkpoint =
            Checkpoint::open(&folder.dir, format.id).map_err(|error| io_error("opening its checkpoint", &error))?;
        let (engine, last) = open_engine(&folder, &checkpoint, &format, cache_bytes)?;
        let written = checkpoint.write(last.commit).and_then(|()| checkpoint.sync());
        written.map_err(|error| io_error("writing its checkpoint", &error))?;
        let mut beside = Beside::open(&folder.dir, format.id, last.commit)
            .map_err(|error| io_error("opening the checkpoint beside it", &error))?;
        beside.write(last.commit).map_err(|error| io_error("writing the checkpoint beside it", &error))?;
        if !format.ready {
            format.ready = true;
            write_format(&folder, &format)?;
        }
        if let Err(error) = folder.clear_other_generations() {
            tracing::warn!(%error, "old files of the outbox could not be removed; the next start tries again");
        }
        folder.restore_ballast();
        let state = RwLock::new(State::Open(engine));
        let writer = Mutex::new(Writer { checkpoint, beside, last, format, is_format_sure: true, walk: None });
        Ok(Arc::new(Self { folder, cache_bytes, walking: Mutex::default(), writer, state }))
    }

    /// How many commits are missing because the whole folder was put back from an older copy: what it says waits may be delivered. 0 else.
    pub fn missing_commits(&self) -> u64 {
        self.writer().beside.missing()
    }

    /// Takes the store for what it is, whatever is missing.
    ///
    /// # Errors
    /// When that can't be written down.
    pub fn forget_missing(&self) -> Result<(), StoreError> {
        let mut writer = self.writer();
        let last = writer.last.commit;
        writer.beside.forget(last).map_err(|error| io_error("writing the checkpoint beside it", &error))
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on commits tell the walk what they change.
    fn begin_walk(&self, purpose: Purpose) -> Result<Walking<'_>, StoreError> {
        let only = match self.walking.try_lock() {
            Ok(only) => only,
            Err(TryLockError::Poisoned(only)) => only.into_inner(),
            Err(TryLockError::WouldBlock) => {
                let what = "the outbox is being read through or written anew already: try again when that has ended";
                return Err(StoreError::Refused(what.into()));
            }
        };
        self.writer().walk = Some(Walk::new(purpose));
        Ok(Walking { store: self, _only: only })
    }

    /// The next changes of the walk that is under way; none at its end.
    fn step(&self, writer: &mut Writer) -> Result<Option<Vec<walk::Change>>, StoreError> {
        // It ended when the store was poisoned.
        let walk = writer.walk.as_mut().ok_or(StoreError::Poisoned)?;
        self.with(|database| walk.step(|from| database.slice_from(from)))?
    }

    /// Closes the store; later calls get `Poisoned`. May take a while: sled flushes.
    ///
    /// # Errors
    /// When something could not be written. Nothing that was committed is lost by that.
    pub fn close(&self) -> Result<(), StoreError> {
        let mut writer = self.writer();
        writer.walk = None;
        if matches!(*self.state.read().unwrap_or_else(PoisonError::into_inner), State::Open(_)) {
            self.take_out(false)?;
            let last = writer.last.commit;
            writer.checkpoint.write_closed(last).map_err(|error| io_error("writing its checkpoint", &error))?;
        }
        Ok(())
    }

    /// Takes the database out, so that the store is poisoned.
    fn take_out(&self, torn: bool) -> Result<(), StoreError> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let next = if torn || matches!(*state, State::Abandoned) { State::Abandoned } else { State::Poisoned };
        match std::mem::replace(&mut *state, next) {
            State::Open(engine) if torn => {
                engine.abandon();
                Ok(())
            }
            State::Open(engine) => engine.close(),
            State::Poisoned | State::Abandoned => Ok(()),
        }
    }

    /// Does something with the database while it is open.
    fn with<T>(&self, work: impl FnOnce(&OpenDatabase) -> T) -> Result<T, StoreError> {
        match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            State::Open(engine) => Ok(work(engine)),
            State::Poisoned | State::Abandoned => Err(StoreError::Poisoned),
        }
    }
}

impl OutboxStore for DiskStore {
    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        check_limits(batch)?;
        let mut writer = self.writer();
        let outcome: Result<CommitRecord, Option<Failure>> = self.with(|engine| {
            if batch.changes.is_empty() {
                return Ok(writer.last);
            }
            let removes = batch.changes.iter().any(|(_, value)| value.is_none());
            let held_bytes = writer.last.contents.bytes;
            let has_room = self.folder.has_room_to_add(held_bytes) || (removes && self.folder.has_room_to_remove());
            if !has_room {
                return Err(None);
            }
            if let Some(walk) = &mut writer.walk {
                walk.before(batch, |key| engine.get(key)).map_err(Failure::whole).map_err(Some)?;
            }
            let record = engine.commit(batch, &writer.last).map_err(Some)?;
            if let Some(walk) = &mut writer.walk {
                walk.after(batch);
            }
            Ok(record)
        })?;
        match outcome {
            Ok(record) if record == writer.last => return Ok(()),
            Ok(record) => writer.last = record,
            Err(None) => return Err(StoreError::Full),
            Err(Some(failure)) => {
                tracing::error!(error = %failure.error, "a commit of the outbox failed: it has to be opened again");
                writer.walk = None;
                if let Err(error) = self.take_out(failure.torn) {
                    tracing::warn!(%error, "the outbox was not closed cleanly");
                }
                return Err(failure.error);
            }
        }
        let commit = writer.last.commit;
        let written = writer
            .checkpoint
            .write(commit)
            .and_then(|()| crash_point::hit(CrashPoint::CheckpointWritten))
            .and_then(|()| writer.beside.write(commit));
        if let Err(error) = written {
            // The commit is durable; the checkpoint only lags.
            tracing::warn!(%error, "the checkpoint of the outbox could not be written");
        }
        if commit.is_multiple_of(BALLAST_EVERY_COMMITS) && !self.folder.has_ballast() {
            self.folder.restore_ballast();
        }
        Ok(())
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.with(|engine| engine.get(key))?
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize, backwards: bool) -> Result<Vec<Pair>, StoreError> {
        self.with(|engine| engine.scan(from, to, limit, backwards))?
    }

    fn held(&self) -> Held {
        let contents = self.writer().last.contents;
        Held { pairs: contents.pairs, bytes: contents.bytes }
    }

    fn snapshot(&self, each: &mut dyn FnMut(Vec<Pair>) -> Result<(), StoreError>) -> Result<(), StoreError> {
        let _walking = self.begin_walk(Purpose::Snapshot)?;
        loop {
            let Some(changes) = self.step(&mut self.writer())? else { return Ok(()) };
            each(changes.into_iter().filter_map(|(key, value)| Some((key, value?))).collect())?;
            std::thread::sleep(SNAPSHOT_PAUSE);
        }
    }

    fn compact(&self, progress: &mut dyn FnMut(u64)) -> Result<(), StoreError> {
        self.rewrite(progress)
    }

    fn reopen(&self) -> Result<(), StoreError> {
        let mut writer = self.writer();
        match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            State::Open(_) => return Ok(()),
            State::Poisoned => {}
            State::Abandoned => {
                let reason = "the database failed in the middle of a write: the process has to be started again";
                return Err(StoreError::Io(reason.into()));
            }
        }
        if !writer.is_format_sure {
            let format = Format::read(&self.folder.dir, writer.format.engine)?;
            let format = format.ok_or_else(|| StoreError::Corrupt("its file FORMAT is missing".into()))?;
            // On a full disk it takes the ballast.
            let _ = self.folder.has_room_to_remove();
            write_format(&self.folder, &format)?;
            self.folder.set_generation(format.generation);
            (writer.format, writer.is_format_sure) = (format, true);
        }
        forget_cached_pages(&self.folder);
        let (engine, last) = open_engine(&self.folder, &writer.checkpoint, &writer.format, self.cache_bytes)?;
        writer.last = last;
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = State::Open(engine);
        self.folder.restore_ballast();
        Ok(())
    }

    fn disk_bytes(&self) -> u64 {
        self.folder.disk_bytes()
    }

    fn free_bytes(&self) -> Option<u64> {
        self.folder.room().ok()
    }

    fn set_aside(&self) -> Vec<String> {
        folder::set_aside_beside(&self.folder.dir)
    }
}

impl fmt::Debug for DiskStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskStore").field("dir", &self.folder.dir).finish_non_exhaustive()
    }
}

impl Drop for DiskStore {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::warn!(%error, "the outbox was not closed cleanly");
        }
    }
}

/// By which engine the store in this folder was made; none where there is none.
///
/// # Errors
/// When what lies there is no store of ours.
pub fn engine_in(dir: &Path) -> Result<Option<OutboxEngine>, StoreError> {
    for engine in [OutboxEngine::Sled, OutboxEngine::Redb] {
        match Format::read(dir, engine) {
            Ok(found) => return Ok(found.map(|_| engine)),
            Err(StoreError::Format { .. }) if engine != OutboxEngine::Redb => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Opens the database; sled writes while it opens, and does so on a full disk, without the ballast.
fn open_engine(
    folder: &Folder,
    checkpoint: &Checkpoint,
    format: &Format,
    cache_bytes: u64,
) -> Result<(OpenDatabase, CommitRecord), StoreError> {
    let open = || {
        folder.clear_half_snapshots().map_err(|error| io_error("clearing a half-written snapshot", &error))?;
        OpenDatabase::open(folder, checkpoint, (format.engine, format.id), cache_bytes, !format.ready)
    };
    if !folder.has_room_to_remove() {
        return Err(StoreError::Full);
    }
    for _ in 0..OPEN_TRIES {
        match open() {
            // The folder is ours: these are threads of sled that have not yet let go of an earlier opening by this process.
            Err(StoreError::Locked) => std::thread::sleep(OPEN_PAUSE),
            Err(StoreError::Full) if folder.give_up_ballast() => {}
            outcome => return outcome,
        }
    }
    Err(StoreError::Locked)
}

fn write_format(folder: &Folder, format: &Format) -> Result<(), StoreError> {
    format.write(&folder.dir).map_err(|error| io_error("writing its file FORMAT", &error))
}

/// After a failed sync the page cache may show what never reached the disk. What isn't dirty is read from the disk again.
fn forget_cached_pages(folder: &Folder) {
    if let Ok(log) = File::open(folder.data_file()) {
        let _ = rustix::fs::fadvise(&log, 0, None, rustix::fs::Advice::DontNeed);
    }
}

fn check_limits(batch: &Batch) -> Result<(), StoreError> {
    let refused = |what: &str, bytes: usize, most: usize| {
        Err(StoreError::Io(format!("refused: a {what} of {bytes} bytes, at most {most} are allowed")))
    };
    for (key, value) in &batch.changes {
        match value {
            _ if key.is_empty() => return Err(StoreError::Io("refused: an empty key".into())),
            _ if key.len() > KEY_BYTES_MAX => return refused("key", key.len(), KEY_BYTES_MAX),
            Some(value) if value.len() > VALUE_BYTES_MAX => return refused("value", value.len(), VALUE_BYTES_MAX),
            _ => {}
        }
    }
    if batch.bytes() > BATCH_BYTES_MAX {
        return refused("batch", batch.bytes(), BATCH_BYTES_MAX);
    }
    Ok(())
}
