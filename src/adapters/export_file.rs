//! A file that an export is written to: for its owner alone, whole or not there.
//!
//! It is written as a *part*, under a name that nobody else has (`NAME.RANDOM.part`), and gets its own name when everything is on the
//! disk; never in place of another file. A part that does not come to that is removed when it is dropped. What a killed process leaves
//! among the backups goes when the next one begins.

use super::disk_room;
use std::{
    fs::{self, DirBuilder, File},
    io::{self, BufWriter, Write},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};
use tempfile::NamedTempFile;
use tidegate_schemas::{
    export::{FORMAT, Header},
    record::LAYOUT,
};

/// What the names of backups begin and end with.
const BACKUP: (&str, &str) = ("outbox-", ".tidegate");
/// What stands between: the second, in UTC.
const STAMP: &str = "%Y%m%dT%H%M%SZ";
/// What the names of parts end with.
const PART: &str = ".part";

/// A file that is being written. Dropped before it is finished, it is removed.
#[derive(Debug)]
pub struct ExportFile {
    path: PathBuf,
    part: NamedTempFile,
}

impl ExportFile {
    /// Begins one. There must be no file of that name.
    ///
    /// # Errors
    /// `AlreadyExists` when there is one; when the part can't be made.
    pub fn create(path: &Path) -> io::Result<Self> {
        if path.symlink_metadata().is_ok() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "it exists already: name a new file"));
        }
        let mut begins = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        begins.push(".");
        // Made anew, for its owner alone: nothing that somebody else put there is written to.
        let part = tempfile::Builder::new().prefix(&begins).suffix(PART).tempfile_in(folder_of(path))?;
        Ok(Self { path: path.to_owned(), part })
    }

    /// Where to write.
    ///
    /// # Errors
    /// When the file can't be had twice.
    pub fn writer(&self) -> io::Result<impl Write + Send + use<>> {
        Ok(BufWriter::new(self.part.as_file().try_clone()?))
    }

    /// Says how much room its disk has, in bytes; none where that can't be told.
    pub fn free_bytes(&self) -> impl Fn() -> Option<u64> + Send + use<> {
        let folder = folder_of(&self.path).to_owned();
        move || disk_room::free_bytes(&folder).ok()
    }

    /// Everything was written: makes it durable, under its name. Its size, in bytes.
    ///
    /// # Errors
    /// `AlreadyExists` when somebody else has made a file of that name meanwhile, which stays as it is; when it can't be done.
    pub fn finish(self) -> io::Result<u64> {
        let file = self.part.as_file();
        file.sync_all()?;
        let bytes = file.metadata()?.len();
        self.part.persist_noclobber(&self.path).map_err(|failed| failed.error)?;
        File::open(folder_of(&self.path))?.sync_all()?;
        Ok(bytes)
    }
}

/// Moves an export, never in place of another file; it is copied where it can't have a second name, as on another disk. It has its new
/// name durably before it loses the old one.
///
/// # Errors
/// `AlreadyExists` when there is such a file; when it can't be moved or copied. The old one is still there then.
pub fn move_whole(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(error),
        Err(_) => copy_whole(from, to)?,
        Ok(()) => File::open(folder_of(to))?.sync_all()?,
    }
    fs::remove_file(from)
}

fn copy_whole(from: &Path, to: &Path) -> io::Result<()> {
    let file = ExportFile::create(to)?;
    let mut writer = file.writer()?;
    let bytes = io::copy(&mut File::open(from)?, &mut writer)?;
    // What it holds back can fail to be written, too: a writer that is dropped doesn't tell.
    writer.flush()?;
    if file.finish()? == bytes { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// What stands at the beginning of an export that is written now.
#[must_use]
pub fn header(at: jiff::Timestamp) -> Header {
    Header {
        format: FORMAT,
        layout: LAYOUT,
        written_by: format!("tidegate {}", env!("CARGO_PKG_VERSION")),
        written_ms: at.as_millisecond(),
    }
}

/// Begins a backup in this folder, which is made if need be; its name tells the second. To be called while nobody else writes one there:
/// parts that earlier ones left are removed.
///
/// # Errors
/// `AlreadyExists` when there is one of this second; when it can't be made.
pub fn begin_backup(folder: &Path, at: jiff::Timestamp) -> io::Result<(String, ExportFile)> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    for name in names_in(folder)?.iter().filter(|name| is_part_of_backup(name)) {
        // One that stays takes room, and harms nothing else.
        if let Err(error) = fs::remove_file(folder.join(name)) {
            tracing::warn!(%error, name, "what is left of a backup that did not come to its end could not be removed");
        }
    }
    let name = format!("{}{}{}", BACKUP.0, at.strftime(STAMP), BACKUP.1);
    let file = ExportFile::create(&folder.join(&name))?;
    Ok((name, file))
}

/// Removes all backups of this folder but the newest by their names, `kept` of them (0 removes none). The one that was just written is one
/// of those, whatever the clock said. How many were removed, and what stood in the way of the others: a failure to read the folder or to
/// remove a file.
pub fn keep_newest(folder: &Path, kept: usize, just_written: &str) -> (usize, io::Result<()>) {
    if kept == 0 {
        return (0, Ok(()));
    }
    let mut removed = 0;
    let pruned = names_in(folder).and_then(|mut others| {
        others.retain(|name| is_backup(name) && name != just_written);
        // Their names are in the order of time.
        others.sort();
        let too_many = (others.len() + 1).saturating_sub(kept);
        others.iter().take(too_many).try_for_each(|name| {
            fs::remove_file(folder.join(name))?;
            removed += 1;
            Ok(())
        })
    });
    (removed, pruned)
}

fn names_in(folder: &Path) -> io::Result<Vec<String>> {
    Ok(fs::read_dir(folder)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect())
}

/// Whether a backup is named so; none for any other spelling.
fn is_backup(name: &str) -> bool {
    let stamp = name.strip_prefix(BACKUP.0).and_then(|rest| rest.strip_suffix(BACKUP.1));
    stamp.is_some_and(|stamp| {
        jiff::civil::DateTime::strptime(STAMP, stamp).is_ok_and(|at| at.strftime(STAMP).to_string() == stamp)
    })
}

fn is_part_of_backup(name: &str) -> bool {
    let backup = name.strip_suffix(PART).and_then(|rest| Some(&rest[..rest.find(BACKUP.1)? + BACKUP.1.len()]));
    backup.is_some_and(is_backup)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn at(second: i64) -> jiff::Timestamp {
        jiff::Timestamp::from_second(second).unwrap()
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names = names_in(folder).unwrap();
        names.sort();
        names
    }

    #[test]
    fn it_is_there_when_it_is_whole_and_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("all.tidegate");
        let begun = ExportFile::create(&path).unwrap();
        begun.writer().unwrap().write_all(b"half").unwrap();
        assert!(!path.exists());
        assert_eq!(names(folder.path()).len(), 1, "its part");
        drop(begun);
        assert_eq!(names(folder.path()), [""; 0], "no part is left");
        let file = ExportFile::create(&path).unwrap();
        file.writer().unwrap().write_all(b"whole").unwrap();
        assert!(file.free_bytes()().is_some_and(|free| free > 0));
        assert_eq!(file.finish().unwrap(), 5);
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(ExportFile::create(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(names(folder.path()), ["all.tidegate"]);
    }

    #[test]
    fn two_that_are_written_at_once_do_not_touch_each_other_and_the_first_one_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("all.tidegate");
        let (one, other) = (ExportFile::create(&path).unwrap(), ExportFile::create(&path).unwrap());
        one.writer().unwrap().write_all(b"one").unwrap();
        other.writer().unwrap().write_all(b"another").unwrap();
        assert_eq!(one.finish().unwrap(), 3);
        assert_eq!(other.finish().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(names(folder.path()), ["all.tidegate"], "no part is left");
    }

    #[test]
    fn it_is_moved_or_copied_whole_and_never_in_place_of_another() {
        let folder = tempfile::tempdir().unwrap();
        let [from, to, copy] = ["from", "to", "copy"].map(|name| folder.path().join(name));
        let contents = vec![7; 100_000];
        fs::write(&from, &contents).unwrap();
        copy_whole(&from, &copy).unwrap();
        assert_eq!(fs::read(&copy).unwrap(), contents);
        for act in [move_whole, copy_whole] {
            assert_eq!(act(&from, &copy).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        }
        move_whole(&from, &to).unwrap();
        assert!(!from.exists());
        assert_eq!(fs::read(&to).unwrap(), contents);
    }

    #[test]
    fn what_a_killed_backup_left_goes_when_the_next_one_begins() {
        let folder = tempfile::tempdir().unwrap();
        let left = ["outbox-20270104T120000Z.tidegate.part", "outbox-20270104T120000Z.tidegate.x1Y2z3.part"];
        let foreign = ["mine.part", "outbox-mine.part", "outbox-mine.tidegate.part"];
        for name in left.iter().chain(&foreign) {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let (name, file) = begin_backup(folder.path(), at(1)).unwrap();
        file.finish().unwrap();
        assert_eq!(names(folder.path()), [&foreign[..1], &[name.as_str()], &foreign[1..]].concat());
    }

    #[test]
    fn only_the_newest_backups_are_kept_and_nothing_else_is_touched() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("backups");
        let written = [5, 3, 4, 1, 2].map(|second| {
            let (name, file) = begin_backup(&dir, at(second)).unwrap();
            file.finish().unwrap();
            name
        });
        let foreign = ["outbox-19700101T000000.tidegate", "outbox-before-upgrade.tidegate", "outbox-mine.txt"];
        foreign.iter().for_each(|name| fs::write(dir.join(name), "").unwrap());
        assert_eq!(keep_newest(&dir, 0, &written[0]).0, 0);
        assert_eq!(keep_newest(&dir, 2, &written[0]).0, 3);
        assert_eq!(keep_newest(&dir, 2, &written[0]).0, 0);
        let kept = ["outbox-19700101T000004Z.tidegate", "outbox-19700101T000005Z.tidegate"];
        assert_eq!(names(&dir), [&foreign[..1], &kept, &foreign[1..]].concat());
        // The clock was set back: what was just written has the oldest name.
        let (name, file) = begin_backup(&dir, at(1)).unwrap();
        file.finish().unwrap();
        let (removed, pruned) = keep_newest(&dir, 2, &name);
        assert!(removed == 1 && pruned.is_ok());
        assert_eq!(names(&dir), [&foreign[..1], &[name.as_str(), kept[1]], &foreign[1..]].concat());
    }

    #[test]
    fn a_backup_that_can_not_be_removed_is_told_with_those_that_were() {
        let dir = tempfile::tempdir().unwrap();
        for second in [1, 3] {
            begin_backup(dir.path(), at(second)).unwrap().1.finish().unwrap();
        }
        fs::create_dir(dir.path().join("outbox-19700101T000002Z.tidegate")).unwrap();
        let (removed, pruned) = keep_newest(dir.path(), 1, "outbox-19700101T000003Z.tidegate");
        assert!(removed == 1 && pruned.is_err());
    }
}
