//! A chain of lines in files: `ledger/2026-11-23.jsonl` or `audit/2026-11-23.jsonl` in the state folder, one file a day (UTC).
//!
//! What a line holds and how lines hang together is `tidegate_schemas::chain`'s; this file appends, syncs and removes.
//!
//! - **Durable on return**: after an append the file is synced, and the folder when a file was made. A file that is gone on with after a
//!   start is synced first, so that what is there is on disk before anybody counts on it.
//! - **A torn end** is what a crash in the middle of an append leaves: the last line is not whole. It was not confirmed, so it is cut off;
//!   what has to be there comes again.
//! - **The order of the files is the order of the numbers**: a line of a day, by the wall clock, before the newest file's goes into the
//!   newest file all the same.
//! - **Retention** goes by the day in the name. The newest file stays, however old: it holds the hash that the next line names.
//!
//! Limits: nothing is appended when less than [`ChainOptions::min_free_bytes`] of the disk are free.

use super::disk_room;
use crate::crash_point::{self, CrashPoint};
use jiff::{Span, Timestamp, civil::Date, tz::TimeZone};
use serde::de::DeserializeOwned;
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};
use tidegate_actors::ports::ledger_archive::{APPEND_ENTRIES_MAX, ArchiveError, LedgerArchive};
use tidegate_schemas::{
    archive::ArchivedEntry,
    chain::{Chain, LINE_BYTES_MAX, Line, Link, Tip},
};

/// What follows the day in a file's name.
const ENDING: &str = ".jsonl";
/// How much of the newest file's end is read at the start, in bytes: as much as one append may have left there.
const TAIL_BYTES: usize = APPEND_ENTRIES_MAX * LINE_BYTES_MAX;

/// What an operator decides about the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainOptions {
    /// How many days a file is kept after its own.
    pub retention_days: u32,
    /// Room on the disk below which nothing is appended, in bytes.
    pub min_free_bytes: u64,
}

/// The files of a chain. One of these per process; the gateway's own lock on its outbox keeps other processes away.
#[derive(Debug)]
pub struct ChainFiles {
    chain: Chain,
    folder: PathBuf,
    options: ChainOptions,
    /// None until the folder was read, and after a failure.
    open: Mutex<Option<Open>>,
}

/// Where the chain stands.
#[derive(Debug, Clone, Copy)]
struct Open {
    tip: Tip,
    /// The newest file and its length; none while there is none.
    newest: Option<(Date, u64)>,
}

/// The files of a folder, oldest first. What is not named like one is none.
///
/// # Errors
/// When the folder can't be listed. One that isn't there has no files.
pub fn files_in(folder: &Path) -> io::Result<Vec<(Date, PathBuf)>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if let Some(day) = path.file_name().and_then(|name| name.to_str()).and_then(day_of) {
            files.push((day, path));
        }
    }
    files.sort();
    Ok(files)
}

/// The newest lines of a folder's files, newest first: at most as many as asked, with numbers below `before`. What is torn or no such line
/// is left out.
///
/// # Errors
/// When a file can't be read.
pub fn newest_lines<L: Line + DeserializeOwned>(
    folder: &Path,
    before: Option<u64>,
    count: usize,
) -> io::Result<Vec<L>> {
    let mut newest: Vec<L> = Vec::new();
    for (_, path) in files_in(folder)?.into_iter().rev() {
        let text = match fs::read(path) {
            // Retention took it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            text => text?,
        };
        let lines = text.split(|byte| *byte == b'\n').rev().filter_map(|line| serde_json::from_slice::<L>(line).ok());
        let older = lines.filter(|line| before.is_none_or(|before| line.no() < before));
        newest.extend(older.take(count - newest.len()));
        if newest.len() >= count {
            break;
        }
    }
    Ok(newest)
}

/// The day of a file's name; none for any other spelling.
fn day_of(name: &str) -> Option<Date> {
    let day: Date = name.strip_suffix(ENDING)?.parse().ok()?;
    (name_of(day) == name).then_some(day)
}

fn name_of(day: Date) -> String {
    format!("{day}{ENDING}")
}

fn failed(what: &str, error: &io::Error) -> ArchiveError {
    ArchiveError::Io(what.to_owned(), error.to_string())
}

impl ChainFiles {
    /// The files of a chain in its own folder of this state folder, which is made when the first file is. Nothing is read yet.
    #[must_use]
    pub fn of(chain: Chain, state_dir: &Path, options: ChainOptions) -> Self {
        Self { chain, folder: state_dir.join(chain.name()), options, open: Mutex::new(None) }
    }

    fn path(&self, day: Date) -> PathBuf {
        self.folder.join(name_of(day))
    }

    /// Takes its turn. What fails is forgotten: the next turn finds out from the files where they end.
    fn turn<T>(&self, act: impl FnOnce(&mut Open) -> Result<T, ArchiveError>) -> Result<T, ArchiveError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let mut now = match *open {
            Some(now) => now,
            None => self.read_end()?,
        };
        let done = act(&mut now);
        *open = done.is_ok().then_some(now);
        done
    }

    /// Finds the last line, and cuts off what an append that never ended left after it.
    fn read_end(&self) -> Result<Open, ArchiveError> {
        let files = files_in(&self.folder)
            .map_err(|error| failed(&format!("listing the files of the {}", self.chain), &error))?;
        let newest = files.last().map(|(day, _)| *day);
        if newest.is_some() {
            self.sync_folder()?;
        }
        for (day, path) in files.iter().rev() {
            let reading = |error: io::Error| failed(&format!("reading {}", name_of(*day)), &error);
            let file = OpenOptions::new().read(true).write(true).open(path).map_err(reading)?;
            let length = file.metadata().map_err(reading)?.len();
            let (end, link) = last_line(self.chain, &file, length).map_err(reading)?;
            if end < length {
                self.cut(&file, *day, newest, length, end)?;
            }
            // What is there may be in memory alone: its process ended before it was synced.
            file.sync_all().map_err(reading)?;
            if let Some(link) = link {
                let newest = newest.map(|newest| (newest, if newest == *day { end } else { 0 }));
                return Ok(Open { tip: link.tip(), newest });
            }
            if end > 0 {
                return Err(self.damaged(*day));
            }
            // An empty one was made right before a crash.
        }
        Ok(Open { tip: Tip::start(self.chain), newest: newest.map(|newest| (newest, 0)) })
    }

    fn cut(&self, file: &File, day: Date, newest: Option<Date>, length: u64, end: u64) -> Result<(), ArchiveError> {
        // Only the newest file can have an append that never ended.
        if newest != Some(day) {
            return Err(self.damaged(day));
        }
        let (file_name, bytes) = (name_of(day), length - end);
        tracing::warn!(
            chain = %self.chain,
            file = file_name,
            bytes,
            "the newest file of a chain does not end with a whole line: what follows its last one is cut off"
        );
        file.set_len(end).map_err(|error| failed(&format!("cutting {file_name}"), &error))
    }

    fn damaged(&self, day: Date) -> ArchiveError {
        let (chain, name) = (self.chain, name_of(day));
        ArchiveError::Damaged(format!(
            "{name} is damaged at its end, so that the {chain} can't be gone on with; `tidegate {chain} verify` shows the place. Restore \
             the file, or move the folder away to begin a new chain"
        ))
    }

    fn sync_folder(&self) -> Result<(), ArchiveError> {
        let synced = File::open(&self.folder).and_then(|folder| folder.sync_all());
        synced.map_err(|error| failed(&format!("syncing the folder of the {}", self.chain), &error))
    }

    fn make_folder(&self) -> Result<(), ArchiveError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.folder);
        made.map_err(|error| failed(&format!("making the folder of the {}", self.chain), &error))
    }

    fn check_room(&self) -> Result<(), ArchiveError> {
        let free =
            disk_room::free_bytes(&self.folder).map_err(|error| failed("asking for room on the disk", &error))?;
        let wanted = self.options.min_free_bytes;
        if free < wanted { Err(ArchiveError::Full { free, wanted }) } else { Ok(()) }
    }

    /// The file of a line: its day's, but never one before the newest.
    fn day_for(line: &impl Line, newest: Option<Date>) -> Date {
        let at = Timestamp::from_millisecond(line.at_ms().max(0)).unwrap_or(Timestamp::UNIX_EPOCH);
        let day = at.to_zoned(TimeZone::UTC).date();
        newest.map_or(day, |newest| newest.max(day))
    }

    /// Appends lines to one day's file and makes them durable.
    fn append_to(&self, open: &mut Open, day: Date, tip: Tip, lines: &[u8]) -> Result<(), ArchiveError> {
        let name = name_of(day);
        let writing = |error: io::Error| failed(&format!("writing {name}"), &error);
        let goes_on = open.newest.filter(|(newest, _)| *newest == day);
        let file = OpenOptions::new().write(true).create_new(goes_on.is_none()).mode(0o600).open(self.path(day));
        let file = file.map_err(writing)?;
        let from = goes_on.map_or(0, |(_, length)| length);
        let length = file.metadata().map_err(writing)?.len();
        if length != from {
            return Err(ArchiveError::Damaged(format!(
                "{name} has {length} bytes and had {from}: somebody else wrote there"
            )));
        }
        let written = file
            .write_all_at(lines, from)
            .and_then(|()| self.crash_point(CrashPoint::LedgerWritten))
            .and_then(|()| file.sync_data())
            .and_then(|()| self.crash_point(CrashPoint::LedgerSynced));
        if let Err(error) = written {
            // It is not known to be on disk: it must not be taken for archived by the next look.
            let undone = file.set_len(from).and_then(|()| file.sync_data());
            if let Err(error) = undone {
                tracing::warn!(%error, file = name, "what was written in part could not be taken back");
            }
            return Err(writing(error));
        }
        if goes_on.is_none() {
            self.sync_folder()?;
        }
        *open = Open { tip, newest: Some((day, from + lines.len() as u64)) };
        Ok(())
    }

    /// The ledger's alone: an operator's act must not be in the way of the outbox's points.
    fn crash_point(&self, point: CrashPoint) -> io::Result<()> {
        if self.chain == Chain::Ledger { crash_point::hit(point) } else { Ok(()) }
    }

    /// The last number that is on disk; 0 while there is none.
    ///
    /// # Errors
    /// When that can't be found out.
    pub fn last(&self) -> Result<u64, ArchiveError> {
        self.turn(|open| Ok(open.tip.no))
    }

    /// Goes on with these lines, in order of their numbers, at most [`APPEND_ENTRIES_MAX`]. Those up to the last one are there already and
    /// passed over. On return all are on disk; the last number.
    ///
    /// # Errors
    /// When one is not; some of the first may be there all the same.
    pub fn append<L: Line>(&self, lines: &[L]) -> Result<u64, ArchiveError> {
        self.turn(|open| {
            self.make_folder()?;
            self.check_room()?;
            let mut rest = lines;
            while let Some(first) = rest.first() {
                let newest = open.newest.map(|(newest, _)| newest);
                let day = Self::day_for(first, newest);
                let count = rest.iter().take_while(|line| Self::day_for(*line, Some(day)) == day).count();
                let (now, later) = rest.split_at(count);
                let (mut tip, mut text) = (open.tip, Vec::new());
                now.iter().for_each(|line| tip.write(line, &mut text));
                if !text.is_empty() {
                    self.append_to(open, day, tip, &text)?;
                }
                rest = later;
            }
            Ok(open.tip.no)
        })
    }

    /// Removes what is older than is to be kept, seen from this day. How many files that were.
    ///
    /// # Errors
    /// When it could not be removed.
    pub fn prune(&self, today: Date) -> Result<u32, ArchiveError> {
        self.turn(|_| {
            let listing = |error: io::Error| failed(&format!("listing the files of the {}", self.chain), &error);
            let mut files = files_in(&self.folder).map_err(listing)?;
            // The newest one stays.
            files.pop();
            let kept_days = Span::new().try_days(i64::from(self.options.retention_days));
            let oldest_kept = kept_days.and_then(|days| today.checked_sub(days)).unwrap_or(Date::MIN);
            let mut removed = 0;
            for (day, path) in files.into_iter().filter(|(day, _)| *day < oldest_kept) {
                fs::remove_file(path).map_err(|error| failed(&format!("removing {}", name_of(day)), &error))?;
                removed += 1;
            }
            if removed > 0 {
                self.sync_folder()?;
            }
            Ok(removed)
        })
    }
}

/// Where the last whole line that holds ends, and what it is. Only what an append can have left is looked through.
fn last_line(chain: Chain, file: &File, length: u64) -> io::Result<(u64, Option<Link>)> {
    let from = length.saturating_sub(TAIL_BYTES as u64);
    let mut tail = vec![0; usize::try_from(length - from).unwrap_or(TAIL_BYTES)];
    file.read_exact_at(&mut tail, from)?;
    let mut end = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    while end > 0 {
        let start = tail[..end - 1].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        if let Some(link) = Link::read(chain, &tail[start..end - 1]) {
            return Ok((from + end as u64, Some(link)));
        }
        end = start;
    }
    // Nothing holds. In a longer file more is wrong than what one append leaves, so nothing of it is cut.
    Ok(if from == 0 { (0, None) } else { (length, None) })
}

impl LedgerArchive for ChainFiles {
    fn last(&self) -> Result<u64, ArchiveError> {
        self.last()
    }
    fn append(&self, entries: &[ArchivedEntry]) -> Result<u64, ArchiveError> {
        self.append(entries)
    }
    fn prune(&self, today: Date) -> Result<u32, ArchiveError> {
        self.prune(today)
    }
}

#[cfg(test)]
mod tests;
