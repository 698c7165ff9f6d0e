//! The breadcrumb: by it a start knows that arti may have ended the processes before it.
//!
//! arti calls `process::exit` five seconds after it reads a consensus that asks for protocols which it lacks. It notes that in its
//! directory cache, so that the next client is refused when it is made ([`ArtiError::Obsolete`](super::ArtiError::Obsolete)) and
//! the process lives on. But where the cache can't be kept, every start would be ended again, and intake with it.
//!
//! So this file counts the starts of Tor in a row whose process ended, nobody knows how, before Tor had been good for
//! [`GOOD_AFTER`]. An orderly end removes it, and so does Tor that stayed good. A `kill -9` or a power cut within those moments
//! looks the same. Therefore it takes [`SUSPECT_AFTER`] in a row to raise the suspicion; then Tor alone waits for [`HOLD`], while
//! messages are taken, and is tried again. To try at once, remove the file and start the gateway again.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

/// Starts in a row that ended unaccounted for, after which arti is suspected.
pub const SUSPECT_AFTER: u32 = 5;
/// How long Tor must have been good for its start to count as well done.
pub const GOOD_AFTER: Duration = Duration::from_secs(60);
/// How long a suspected Tor waits before it is tried again; the same time as for every line that is suspended.
pub const HOLD: Duration = Duration::from_secs(900);
/// The file, in the state folder.
pub const FILE: &str = "tor-unfinished-starts";

/// The file.
#[derive(Debug, Clone)]
pub(super) struct Breadcrumb(PathBuf);

impl Breadcrumb {
    /// That of this state folder.
    pub fn in_folder(state_dir: &Path) -> Self {
        Self(state_dir.join(FILE))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Starts in a row that nobody knows the end of. None, if that can't be read.
    pub fn count(&self) -> u32 {
        fs::read_to_string(&self.0).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    }

    /// One more start, on disk when this returns. Blocks.
    pub fn lay(&self) -> io::Result<()> {
        let new = self.0.with_extension("new");
        let mut file = File::create(&new)?;
        writeln!(file, "{}", self.count().saturating_add(1))?;
        file.sync_all()?;
        fs::rename(&new, &self.0)?;
        match self.0.parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    }

    /// All is well. Blocks.
    pub fn clear(&self) {
        // One that stays counts towards a suspicion, which passes by itself.
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn starts_are_counted_until_one_went_well_and_a_damaged_file_counts_none() {
        let folder = tempfile::tempdir().unwrap();
        let crumb = Breadcrumb::in_folder(folder.path());
        assert_eq!(crumb.count(), 0);
        crumb.lay().unwrap();
        crumb.lay().unwrap();
        assert_eq!(Breadcrumb::in_folder(folder.path()).count(), 2);
        crumb.clear();
        crumb.clear();
        assert_eq!(crumb.count(), 0);
        fs::write(crumb.path(), "\0\0\0").unwrap();
        assert_eq!(crumb.count(), 0, "as a power cut may leave it");
    }
}
