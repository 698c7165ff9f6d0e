//! The audit log: who did what, when, and how it ended, in a chain of lines that can't be changed unseen (`audit/` in the state folder).
//!
//! An act is put on record before it begins; what can't be put on record is not done. How it ended is the second line, and is written before
//! the answer goes out; where that fails, the act stands as one whose end is not known, and the log of the process says so. What the
//! gateway itself has to tell, such as a start with a clock that it was told to believe, is one line.
//!
//! Files are kept as long as the ledger's. They are written also when the disk is nearly full, since an operator's act may be what makes
//! room; a line has about 300 bytes.

use crate::adapters::chain_files::{ChainFiles, ChainOptions};
use jiff::{civil::Date, tz::TimeZone};
use std::{
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};
use tidegate_actors::ports::{clock::Clock, ledger_archive::ArchiveError};
use tidegate_schemas::{audit::AuditEntry, chain::Chain};

/// Longest text of a member, in bytes: all of them together fit a line.
const TEXT_BYTES_MAX: usize = 512;

/// One of these per process.
pub struct AuditLog {
    files: ChainFiles,
    clock: Arc<dyn Clock>,
    /// The day on which old files were last looked for. Its lock is held for an append: numbers are given one after the other.
    pruned: Mutex<Option<Date>>,
    failures: AtomicU64,
}

/// What somebody does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Act {
    /// The name of a token; `signal` for a signal to the process, `gateway` for the gateway itself.
    pub who: String,
    /// What.
    pub act: String,
    /// To what.
    pub target: Option<String>,
    /// How.
    pub detail: Option<String>,
}

impl AuditLog {
    /// The log in this state folder. Nothing is read yet.
    #[must_use]
    pub fn in_folder(state_dir: &Path, retention_days: u32, clock: Arc<dyn Clock>) -> Arc<Self> {
        let files = ChainFiles::of(Chain::Audit, state_dir, ChainOptions { retention_days, min_free_bytes: 0 });
        Arc::new(Self { files, clock, pruned: Mutex::default(), failures: AtomicU64::new(0) })
    }

    /// Puts an act on record; the number of its line.
    ///
    /// # Errors
    /// When it could not be written: then it must not be done.
    pub async fn begin(self: &Arc<Self>, act: Act) -> Result<u64, ArchiveError> {
        self.append(act, None, None).await
    }

    /// Puts on record how an act ended: an HTTP status, and what is to be known of it.
    pub async fn end(self: &Arc<Self>, of: u64, act: Act, status: u16) {
        // It was told.
        let _ = self.append(act, Some(of), Some(status)).await;
    }

    /// Puts on record what is no act of an operator's.
    pub async fn note(self: &Arc<Self>, act: &str, detail: String) {
        let act = Act { who: "gateway".to_owned(), act: act.to_owned(), target: None, detail: Some(detail) };
        let _ = self.append(act, None, None).await;
    }

    /// Lines that could not be written since the start.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    async fn append(self: &Arc<Self>, act: Act, of: Option<u64>, status: Option<u16>) -> Result<u64, ArchiveError> {
        let log = Arc::clone(self);
        let written = tokio::task::spawn_blocking(move || log.append_now(act, of, status)).await;
        let written =
            written.unwrap_or_else(|_| Err(ArchiveError::Damaged("writing the audit log failed unexpectedly".into())));
        if let Err(error) = &written {
            self.failures.fetch_add(1, Ordering::Relaxed);
            tracing::error!(%error, "the audit log could not be written");
        }
        written
    }

    /// Blocks.
    fn append_now(&self, act: Act, of: Option<u64>, status: Option<u16>) -> Result<u64, ArchiveError> {
        let mut pruned = self.pruned.lock().unwrap_or_else(PoisonError::into_inner);
        let (now, trusted) = (self.clock.now(), self.clock.trusted());
        let no = self.files.last()? + 1;
        let Act { who, act, target, detail } = act;
        let entry = AuditEntry {
            no,
            at_ms: now.as_millisecond(),
            clock_untrusted: !trusted,
            who,
            act,
            target: target.map(cut),
            detail: detail.map(cut),
            of,
            status,
        };
        self.files.append(&[entry])?;
        let today = now.to_zoned(TimeZone::UTC).date();
        if trusted && *pruned != Some(today) {
            *pruned = Some(today);
            if let Err(error) = self.files.prune(today) {
                tracing::warn!(%error, "old files of the audit log could not be removed");
            }
        }
        Ok(no)
    }
}

fn cut(mut text: String) -> String {
    let end = (0..=TEXT_BYTES_MAX.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.truncate(end);
    text
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::adapters::chain_files::{files_in, newest_lines};
    use tidegate_actors::testing::sim_clock::SimClock;
    use tidegate_schemas::chain::Verifier;

    fn act(who: &str, act: &str) -> Act {
        Act { who: who.into(), act: act.into(), target: Some("ward/42".into()), detail: None }
    }

    #[tokio::test]
    async fn acts_of_many_at_once_are_one_chain_and_each_end_names_its_beginning() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(SimClock::at("2026-11-23T12:00:00Z".parse().unwrap()));
        for _ in 0..2 {
            let log = AuditLog::in_folder(folder.path(), 30, clock.clone());
            let acts = (0..20).map(async |no| {
                let of = log.begin(act(&format!("op-{no}"), "purge")).await.unwrap();
                log.end(of, act(&format!("op-{no}"), "purge"), 200).await;
            });
            futures_util::future::join_all(acts).await;
            log.note("start", "x".repeat(5_000)).await;
            assert_eq!(log.failures(), 0);
        }
        let folder = folder.path().join("audit");
        let lines: Vec<AuditEntry> = newest_lines(&folder, None, 1_000).unwrap();
        assert_eq!(lines.len(), 82);
        for end in lines.iter().filter(|line| line.of.is_some()) {
            let begun = lines.iter().find(|line| Some(line.no) == end.of).unwrap();
            assert_eq!((&begun.who, begun.status, end.status), (&end.who, None, Some(200)));
        }
        let mut verifier = Verifier::of(Chain::Audit);
        for (_, path) in files_in(&folder).unwrap() {
            let text = std::fs::read(path).unwrap();
            text.split_inclusive(|byte| *byte == b'\n').for_each(|line| verifier.take(line).unwrap());
        }
        assert_eq!((verifier.tip().no, newest_lines::<AuditEntry>(&folder, Some(80), 3).unwrap()[0].no), (82, 79));
    }

    #[tokio::test]
    async fn what_cannot_be_put_on_record_is_an_error_and_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("audit"), "in the way").unwrap();
        let clock = Arc::new(SimClock::at("2026-11-23T12:00:00Z".parse().unwrap()));
        let log = AuditLog::in_folder(folder.path(), 30, clock);
        assert!(log.begin(act("a", "purge")).await.is_err());
        assert_eq!(log.failures(), 1);
        std::fs::remove_file(folder.path().join("audit")).unwrap();
        assert_eq!(log.begin(act("a", "purge")).await, Ok(1));
    }
}
