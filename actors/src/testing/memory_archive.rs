//! A ledger archive in memory, whose disk can be made to fail.
//!
//! It keeps lines as the files hold them, so that a test verifies the same chain.

use crate::ports::ledger_archive::{APPEND_ENTRIES_MAX, ArchiveError, LedgerArchive};
use jiff::civil::Date;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tidegate_schemas::{
    archive::ArchivedEntry,
    chain::{Chain, Tip, Verifier, Whole},
};

/// Outlives the actors that use it, as a disk does.
#[derive(Debug)]
pub struct MemoryArchive {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    tip: Tip,
    text: Vec<u8>,
    failure: Option<ArchiveError>,
    appends: u64,
    pruned_on: Vec<Date>,
}

impl Default for MemoryArchive {
    fn default() -> Self {
        let inner = Inner {
            tip: Tip::start(Chain::Ledger),
            text: Vec::new(),
            failure: None,
            appends: 0,
            pruned_on: Vec::new(),
        };
        Self { inner: Mutex::new(inner) }
    }
}

impl MemoryArchive {
    /// From now on, every call fails so, or works again.
    pub fn set_failure(&self, failure: Option<ArchiveError>) {
        self.lock().failure = failure;
    }

    /// The numbers that have a line of their own, in order of the lines.
    ///
    /// # Panics
    /// When what is kept is no chain.
    #[must_use]
    pub fn numbers(&self) -> Vec<u64> {
        let inner = self.lock();
        let lines = inner.text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let entries = lines.filter_map(|line| serde_json::from_slice::<ArchivedEntry>(line).ok());
        entries.map(|entry| entry.no).collect()
    }

    /// What the verifier says.
    ///
    /// # Panics
    /// When what is kept is no chain.
    #[must_use]
    pub fn whole(&self) -> Whole {
        let mut verifier = Verifier::of(Chain::Ledger);
        for line in self.lock().text.split_inclusive(|byte| *byte == b'\n') {
            verifier.take(line).expect("the lines are a chain");
        }
        verifier.end()
    }

    /// All lines.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.lock().text).into_owned()
    }

    /// Appends that succeeded.
    #[must_use]
    pub fn appends(&self) -> u64 {
        self.lock().appends
    }

    /// The days on which old files were looked for.
    #[must_use]
    pub fn pruned_on(&self) -> Vec<Date> {
        self.lock().pruned_on.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn works(&self) -> Result<(), ArchiveError> {
        self.failure.clone().map_or(Ok(()), Err)
    }
}

impl LedgerArchive for MemoryArchive {
    fn last(&self) -> Result<u64, ArchiveError> {
        let inner = self.lock();
        inner.works().map(|()| inner.tip.no)
    }

    fn append(&self, entries: &[ArchivedEntry]) -> Result<u64, ArchiveError> {
        let mut inner = self.lock();
        inner.works()?;
        if entries.len() > APPEND_ENTRIES_MAX {
            return Err(ArchiveError::Damaged(format!("{} entries at once", entries.len())));
        }
        let Inner { tip, text, appends, .. } = &mut *inner;
        entries.iter().for_each(|entry| tip.write(entry, text));
        *appends += 1;
        Ok(tip.no)
    }

    fn prune(&self, today: Date) -> Result<u32, ArchiveError> {
        let mut inner = self.lock();
        inner.works()?;
        inner.pruned_on.push(today);
        Ok(0)
    }
}
