//! Generations: the store writes itself anew, while commits go on.
//!
//! A data file hardly shrinks, whatever is removed from it. So now and then everything that the store holds is copied into a new one, the
//! next *generation*, in a folder of its own beside the present one:
//!
//! 1. a walk that keeps up copies slice by slice; commits go on into the present generation;
//! 2. with commits stopped for a moment the rest is copied, the sum of what the new one holds is compared with what was committed, and
//!    all of it is synced;
//! 3. the file `FORMAT` is replaced by one that names the new generation: from here on it is the store;
//! 4. commits go on into it, and the files of the old one are removed.
//!
//! Whenever the process ends, `FORMAT` names a whole generation; what lies beside it is removed at the next opening. An error on the
//! way leaves the store as it was.

use super::{
    DiskStore, State, Writer,
    contents::CommitRecord,
    database::OpenDatabase,
    engine::io_error,
    format::Format,
    walk::{Change, Purpose},
    write_format,
};
use crate::crash_point::{self, CrashPoint};
use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::Path,
    sync::{MutexGuard, PoisonError},
};
use tidegate_actors::ports::outbox_store::{BATCH_BYTES_MAX, Batch};
use tidegate_schemas::messages::outbox::StoreError;

/// How many times as much as the store holds its next generation may take, about, while it is written.
const ROOM_PER_HELD_BYTE: u64 = 2;
/// And so much more, in bytes.
const ROOM_BYTES_MIN: u64 = 4 * 1_024 * 1_024;
/// Should it take more after all, it is given up when there is no more room than this, in bytes: what is committed meanwhile needs some.
const ROOM_BYTES_LEFT: u64 = 3 * 1_024 * 1_024;
/// When commits have left more than this to be copied again, in bytes, they wait until that is done.
const BEHIND_BYTES_MAX: usize = 4 * 1_024 * 1_024;
/// A commit of the copy takes about so much of the largest batch, in bytes.
const COPY_BATCH_BYTES: usize = BATCH_BYTES_MAX / 2;

/// A generation that is being made.
struct Draft {
    database: OpenDatabase,
    last: CommitRecord,
    batch: Batch,
    batch_bytes: usize,
}

impl DiskStore {
    /// Writes the store anew. See the module's text.
    pub(super) fn rewrite(&self, progress: &mut dyn FnMut(u64)) -> Result<(), StoreError> {
        let _walking = self.begin_walk(Purpose::KeepUp)?;
        let had_ballast = self.folder.has_ballast();
        let rewritten = self.make_next(progress);
        if had_ballast {
            // It was there, so there is room for it again, whatever became of the copy.
            self.folder.return_ballast();
        } else {
            self.folder.restore_ballast();
        }
        rewritten
    }

    fn make_next(&self, progress: &mut dyn FnMut(u64)) -> Result<(), StoreError> {
        let format = {
            let writer = self.writer();
            // The folder of the next generation may be the one that counts, as long as `FORMAT` is not known.
            self.with(|_| ())?;
            let held_bytes = writer.last.contents.bytes;
            self.find_room(held_bytes.saturating_mul(ROOM_PER_HELD_BYTE).saturating_add(ROOM_BYTES_MIN))?;
            Format { generation: writer.format.generation + 1, ..writer.format }
        };
        let dir = self.folder.dir_of(format.generation);
        let made = Draft::make(&dir, &format, self.cache_bytes).and_then(|mut draft| {
            let copied = self.copy_into(&mut draft, progress);
            match copied.and_then(|()| self.turn_to(format, &dir, &mut draft, progress)) {
                Ok(writer) => Ok(self.replace(writer, format, draft)),
                Err(error) => {
                    let _ = draft.database.close();
                    Err(error)
                }
            }
        });
        let old = match made {
            Ok(old) => old,
            Err(error) => {
                // Locked, so that nobody opens it meanwhile. Where it is not known which one `FORMAT` names, both are needed; and a
                // reopening may have found that it is this one.
                let writer = self.writer();
                if writer.is_format_sure && writer.format.generation != format.generation {
                    let _ = fs::remove_dir_all(&dir);
                }
                return Err(error);
            }
        };
        if let State::Open(old) = old
            && let Err(error) = old.close()
        {
            tracing::warn!(%error, "the old files of the outbox were not closed cleanly");
        }
        // An error is one of this work, though the new generation counts: the room is not free.
        crash_point::hit(CrashPoint::GenerationReplaced)
            .and_then(|()| self.folder.clear_other_generations())
            .map_err(|error| io_error("removing its old files, which the next start tries again,", &error))
    }

    /// Sees to it that there is so much room on the disk. That is what the ballast is for, too, if it is enough: afterwards there is
    /// room for it again.
    fn find_room(&self, wanted: u64) -> Result<(), StoreError> {
        let too_little = || self.folder.room().ok().filter(|free| *free < wanted);
        let mut free = too_little();
        if free.is_some_and(|free| free + self.folder.ballast_bytes() >= wanted) && self.folder.give_up_ballast() {
            free = too_little();
        }
        free.map_or(Ok(()), |free| {
            let what =
                format!("there is no room to write the outbox anew: {wanted} bytes are wanted, the disk has {free}");
            Err(StoreError::Refused(what))
        })
    }

    /// Copies everything, but for what commits change at the very end.
    fn copy_into(&self, draft: &mut Draft, progress: &mut dyn FnMut(u64)) -> Result<(), StoreError> {
        loop {
            let mut writer = self.writer();
            let is_behind = writer.walk.as_ref().is_some_and(|walk| walk.kept_bytes() > BEHIND_BYTES_MAX);
            let Some(changes) = self.step(&mut writer)? else { break };
            // Whoever commits faster than this copies has to wait for it.
            let stopped = is_behind.then_some(writer);
            self.find_room(ROOM_BYTES_LEFT)?;
            draft.add(changes, progress)?;
            drop(stopped);
        }
        crash_point::hit(CrashPoint::GenerationCopied).map_err(|error| io_error("copying", &error))
    }

    /// Stops commits, copies the rest, compares, syncs, and has `FORMAT` name the new generation.
    fn turn_to(
        &self,
        format: Format,
        dir: &Path,
        draft: &mut Draft,
        progress: &mut dyn FnMut(u64),
    ) -> Result<MutexGuard<'_, Writer>, StoreError> {
        let mut writer = self.writer();
        while let Some(changes) = self.step(&mut writer)? {
            draft.add(changes, progress)?;
        }
        draft.flush()?;
        if draft.last.contents != writer.last.contents {
            return Err(StoreError::Corrupt("what was written anew is not what the outbox holds".into()));
        }
        draft.last.commit = writer.last.commit + 1;
        draft.database.prove_flush(&dir.join(self.folder.files.data), &draft.last)?;
        let synced = self.folder.sync(dir).and_then(|()| crash_point::hit(CrashPoint::GenerationSynced));
        synced.map_err(|error| io_error("syncing its folder", &error))?;
        // Without it the old one still counts.
        format.draft(&self.folder.dir).map_err(|error| io_error("writing its file FORMAT", &error))?;
        if let Err(error) = Format::turn(&self.folder.dir) {
            // Which one it names now is not known. Were that to stay so, the next commit could be in the one that doesn't count.
            if write_format(&self.folder, &writer.format).is_err() {
                writer.is_format_sure = false;
                let _ = self.take_out(false);
            }
            return Err(io_error("replacing its file FORMAT", &error));
        }
        Ok(writer)
    }

    /// From here on commits go into the new generation. What was the store until now is handed back.
    fn replace(&self, mut writer: MutexGuard<'_, Writer>, format: Format, draft: Draft) -> State {
        self.folder.set_generation(format.generation);
        writer.format = format;
        writer.last = draft.last;
        writer.walk = None;
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *state, State::Open(draft.database));
        drop(state);
        let written = writer.checkpoint.write(draft.last.commit).and_then(|()| writer.beside.write(draft.last.commit));
        if let Err(error) = written {
            tracing::warn!(%error, "the checkpoint of the outbox could not be written");
        }
        old
    }
}

impl Draft {
    fn make(dir: &Path, format: &Format, cache_bytes: u64) -> Result<Self, StoreError> {
        match fs::remove_dir_all(dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error("making a folder", &error)),
            _ => {}
        }
        let made =
            DirBuilder::new().mode(0o700).create(dir).and_then(|()| crash_point::hit(CrashPoint::GenerationMade));
        made.map_err(|error| io_error("making a folder", &error))?;
        let (database, last) = OpenDatabase::make(dir, (format.engine, format.id), cache_bytes)?;
        Ok(Self { database, last, batch: Batch::default(), batch_bytes: 0 })
    }

    fn add(&mut self, changes: Vec<Change>, progress: &mut dyn FnMut(u64)) -> Result<(), StoreError> {
        progress(changes.len() as u64);
        for (key, value) in changes {
            self.batch_bytes += key.len() + value.as_ref().map_or(0, Vec::len);
            self.batch.changes.push((key, value));
            if self.batch_bytes >= COPY_BATCH_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        if !batch.changes.is_empty() {
            self.last = self.database.commit(&batch, &self.last).map_err(|failure| failure.error)?;
        }
        Ok(())
    }
}
