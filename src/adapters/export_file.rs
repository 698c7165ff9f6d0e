//! A file that an export is written to: for its owner alone, whole or not there.
//!
//! It is written under its name with `.part` behind it, and gets its own name when everything is on the disk.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, BufWriter, Write},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};
use tidegate_schemas::{
    export::{FORMAT, Header},
    record::LAYOUT,
};

/// What the names of backups begin and end with.
const BACKUP: (&str, &str) = ("outbox-", ".tidegate");

/// A file that is being written.
#[derive(Debug)]
pub struct ExportFile {
    path: PathBuf,
    part: PathBuf,
    file: File,
}

impl ExportFile {
    /// Begins one. There must be no file of that name.
    ///
    /// # Errors
    /// When there is one, or the part can't be made.
    pub fn create(path: &Path) -> io::Result<Self> {
        if path.exists() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "it exists already: name a new file"));
        }
        let mut part = path.to_owned().into_os_string();
        part.push(".part");
        let part = PathBuf::from(part);
        // A part that was left behind is of an export that did not come to its end. Nothing that somebody else put there is written to.
        match fs::remove_file(&part) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
        Ok(Self { path: path.to_owned(), part, file })
    }

    /// Where to write.
    ///
    /// # Errors
    /// When the file can't be had twice.
    pub fn writer(&self) -> io::Result<impl Write + Send + use<>> {
        Ok(BufWriter::new(self.file.try_clone()?))
    }

    /// Everything was written: makes it durable, under its name. Its size, in bytes.
    ///
    /// # Errors
    /// When that can't be done.
    pub fn finish(self) -> io::Result<u64> {
        self.file.sync_all()?;
        let bytes = self.file.metadata()?.len();
        fs::rename(&self.part, &self.path)?;
        let folder = self.path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()?;
        Ok(bytes)
    }

    /// Removes what was written.
    pub fn discard(self) {
        let _ = fs::remove_file(&self.part);
    }
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

/// Begins a backup in this folder, which is made if need be; its name tells the second.
///
/// # Errors
/// When it can't be made.
pub fn begin_backup(folder: &Path, at: jiff::Timestamp) -> io::Result<(String, ExportFile)> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let name = format!("{}{}{}", BACKUP.0, at.strftime("%Y%m%dT%H%M%SZ"), BACKUP.1);
    let file = ExportFile::create(&folder.join(&name))?;
    Ok((name, file))
}

/// Removes all backups of this folder but the newest; how many.
///
/// # Errors
/// When the folder can't be read, or a file can't be removed.
pub fn keep_newest(folder: &Path, kept: usize) -> io::Result<usize> {
    let names = fs::read_dir(folder)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut backups: Vec<String> =
        names.filter(|name| name.starts_with(BACKUP.0) && name.ends_with(BACKUP.1)).collect();
    // Their names are in the order of time.
    backups.sort();
    let too_many = backups.len().saturating_sub(kept);
    backups.truncate(too_many);
    backups.iter().try_for_each(|name| fs::remove_file(folder.join(name)))?;
    Ok(too_many)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn it_is_there_when_it_is_whole_and_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("all.tidegate");
        let begun = ExportFile::create(&path).unwrap();
        begun.writer().unwrap().write_all(b"half").unwrap();
        assert!(!path.exists());
        drop(begun);
        let file = ExportFile::create(&path).unwrap();
        file.writer().unwrap().write_all(b"whole").unwrap();
        assert_eq!(file.finish().unwrap(), 5);
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(ExportFile::create(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no part is left");
    }

    #[test]
    fn only_the_newest_backups_are_kept_and_nothing_else_is_touched() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("backups");
        for second in [5, 3, 4, 1, 2] {
            let (_, file) = begin_backup(&dir, jiff::Timestamp::from_second(second).unwrap()).unwrap();
            file.finish().unwrap();
        }
        fs::write(dir.join("outbox-mine.txt"), "").unwrap();
        assert_eq!(keep_newest(&dir, 2).unwrap(), 3);
        assert_eq!(keep_newest(&dir, 2).unwrap(), 0);
        let mut left: Vec<_> =
            fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        assert_eq!(left, ["outbox-19700101T000004Z.tidegate", "outbox-19700101T000005Z.tidegate", "outbox-mine.txt"]);
    }
}
