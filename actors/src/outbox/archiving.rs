//! Archiving: every end state of the ledger goes on to the archive, in order and once, before the store lets it go.
//!
//! The archivist is a task beside the writer: it reads what is on disk after the archive's last number, has it appended in slices, and
//! tells the writer how far it has come. The writer never waits for it, and knows no more than that number: so an archive that fails or
//! hangs stops neither intake nor deliveries. The archive's own last number is the truth. After a crash between an append and the
//! pruning of the store, the archivist finds that it is there already.
//!
//! The store's ledger is pruned of what is archived alone, as long as it is below [`UNREPORTED_FACTOR`] times its limit; beyond that the
//! oldest go, counted, and the archive gets a line that says so ([`tidegate_schemas::archive`]).
//!
//! **No number comes twice.** A store that is made anew, or put back from an older copy, would give numbers again that the archive has:
//! it goes on after the archive's last one.
//!
//! [`UNREPORTED_FACTOR`]: super::core::UNREPORTED_FACTOR

use super::{Shared, blocking, core::Core, observe_clock, op::Op, upkeep::PRUNED_AT_ONCE};
use crate::{
    outbox::OutboxParts,
    ports::{
        ledger_archive::{APPEND_ENTRIES_MAX, LedgerArchive},
        outbox_store::OutboxStore,
    },
};
use jiff::{civil::Date, tz::TimeZone};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tidegate_schemas::{
    archive::ArchivedEntry,
    record::{self, LedgerRecord, key},
};
use tokio::sync::mpsc;

/// How often the archivist looks for what is to be archived, when nobody rings; and how long it waits after a failure.
pub(super) const ARCHIVE_EVERY: Duration = Duration::from_secs(30);
/// So many end states that wait for the archive, or as many as the ledger's limit, have the archivist rung at once.
pub(super) const WAITING_RINGS: u64 = APPEND_ENTRIES_MAX as u64;

/// What the writer knows of the archive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Archived {
    /// Whether there is one.
    is_kept: bool,
    /// Its last number; none as long as it has not said.
    last: Option<u64>,
    /// End states that the store let go before they were archived: of this process, and those that the archive has yet to tell of.
    pub lost: u64,
}

impl Archived {
    /// Asks the archive. Blocks.
    pub fn ask(archive: Option<&dyn LedgerArchive>) -> Self {
        // The archivist asks again, and tells of what is wrong with it.
        Self { is_kept: archive.is_some(), last: archive.and_then(|archive| archive.last().ok()), lost: 0 }
    }

    /// Whether the store may let a number go.
    pub fn has(&self, no: u64) -> bool {
        !self.is_kept || self.last.is_some_and(|last| no <= last)
    }
}

impl Core {
    /// The archive's last number is this.
    pub fn archived(&mut self, last: u64) {
        let is_news = self.archived.last.is_none();
        self.archived.last = self.archived.last.max(Some(last));
        if is_news {
            self.count_unarchived();
        }
        self.go_on_after_archive();
        self.prune_ledger(PRUNED_AT_ONCE);
    }

    /// What went between the archive's last number and the first that is left. An archive that has none yet begins with what is left.
    pub fn count_unarchived(&mut self) {
        if let Some(last) = self.archived.last.filter(|last| *last > 0) {
            let gone = self.meta.ledger_first.saturating_sub(last + 1);
            self.archived.lost = self.archived.lost.max(gone);
        }
    }

    /// Numbers that the archive has are never given again.
    pub fn go_on_after_archive(&mut self) {
        let Some(last) = self.archived.last.filter(|last| *last > self.meta.ledger_no) else { return };
        tracing::warn!(
            after = last,
            "the ledger's files know of more end states than the outbox: it is new, or an older copy was put back; its ledger goes on \
             after theirs"
        );
        let meta = &mut self.meta;
        for told in [&mut meta.reported_no, &mut meta.receipted_no] {
            if *told == meta.ledger_no {
                *told = last;
            }
        }
        if meta.ledger_first > meta.ledger_no {
            meta.ledger_first = last + 1;
        }
        meta.ledger_no = last;
    }

    /// Whether the archivist should not wait for its next look.
    pub fn archive_is_due(&self) -> bool {
        self.archive_waiting() >= WAITING_RINGS.min(self.limits.ledger_entries_max)
    }

    /// End states that are kept and not archived.
    pub fn archive_waiting(&self) -> u64 {
        if !self.archived.is_kept {
            return 0;
        }
        let gone_or_archived = self.archived.last.unwrap_or(0).max(self.meta.ledger_first.saturating_sub(1));
        self.meta.ledger_no.saturating_sub(gone_or_archived)
    }
}

/// Archives, for ever.
pub(super) async fn archive_loop(
    archive: Arc<dyn LedgerArchive>,
    parts: OutboxParts,
    shared: Arc<Mutex<Shared>>,
    ops: mpsc::WeakSender<Op>,
) {
    let bell = lock(&shared).archive_bell.clone();
    let (mut told, mut pruned_on) = (None, None);
    loop {
        if lock(&shared).archive_failure.is_some() {
            tokio::time::sleep(ARCHIVE_EVERY).await;
        } else {
            bell.wait_at_most(ARCHIVE_EVERY).await;
        }
        let mut done = archive_all(&archive, &parts, &shared, &ops, &mut told).await;
        let today = today(&parts, &shared);
        if done.is_ok() && today.is_some() && today != pruned_on {
            done = prune(&archive, today).await;
            pruned_on = today.filter(|_| done.is_ok());
        }
        note(&shared, done.err());
    }
}

fn lock(shared: &Mutex<Shared>) -> std::sync::MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Archives what is on disk now, slice by slice, and tells the writer after each how far it is.
async fn archive_all(
    archive: &Arc<dyn LedgerArchive>,
    parts: &OutboxParts,
    shared: &Mutex<Shared>,
    ops: &mpsc::WeakSender<Op>,
    told: &mut Option<u64>,
) -> Result<(), String> {
    // None before the store is read.
    let Some(until) = lock(shared).ledger_no else { return Ok(()) };
    loop {
        let (store, archive) = (Arc::clone(&parts.store), Arc::clone(archive));
        let (before, last) = blocking(move || archive_slice(&*store, &*archive, until)).await?;
        // The first time also where it stood: what is missing before that is counted by it.
        for no in [before, last] {
            if *told == Some(no) {
                continue;
            }
            // At the end of the work there is nobody to tell; the next one asks the archive.
            let Some(ops) = ops.upgrade() else { return std::future::pending().await };
            if ops.send(Op::Archived(no)).await.is_err() {
                return std::future::pending().await;
            }
            *told = Some(no);
        }
        if last >= until || last == before {
            return Ok(());
        }
    }
}

/// The archive's last number before, and after. Blocks.
fn archive_slice(store: &dyn OutboxStore, archive: &dyn LedgerArchive, until: u64) -> Result<(u64, u64), String> {
    let before = archive.last().map_err(|error| error.to_string())?;
    let (mut from, to) = (key::ledger(before.saturating_add(1)), key::ledger(until.saturating_add(1)));
    loop {
        let page = store.scan(&from, &to, APPEND_ENTRIES_MAX, false).map_err(|error| error.to_string())?;
        let entries: Vec<ArchivedEntry> = page.iter().filter_map(|(at, value)| archived(at, value)).collect();
        if !entries.is_empty() {
            let last = archive.append(&entries).map_err(|error| error.to_string())?;
            return Ok((before, last));
        }
        // Those that can't be read are told of as lost, by the line before the next one that can.
        match page.last() {
            Some((last, _)) if page.len() == APPEND_ENTRIES_MAX => from = [last.as_slice(), &[0]].concat(),
            _ => return Ok((before, before)),
        }
    }
}

fn archived(at: &[u8], value: &[u8]) -> Option<ArchivedEntry> {
    let no = at.get(1..9).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes)?;
    record::decode::<LedgerRecord>(at, value).ok().map(|record| ArchivedEntry::of(no, record))
}

/// The day, where the clock is believed: a wrong one must not remove anything.
fn today(parts: &OutboxParts, shared: &Mutex<Shared>) -> Option<Date> {
    let (moment, _) = observe_clock(parts, shared)?;
    moment.wall_trusted.then(|| parts.clock.now().to_zoned(TimeZone::UTC).date())
}

async fn prune(archive: &Arc<dyn LedgerArchive>, today: Option<Date>) -> Result<(), String> {
    let (Some(today), archive) = (today, Arc::clone(archive)) else { return Ok(()) };
    let removed = blocking(move || archive.prune(today)).await.map_err(|error| error.to_string())?;
    if removed > 0 {
        tracing::info!(removed, "files of the ledger were removed: they are older than ledger.retention_days");
    }
    Ok(())
}

/// Shows how it went, and tells of a failure when it begins and when it ends.
fn note(shared: &Mutex<Shared>, failure: Option<String>) {
    let mut shared = lock(shared);
    match (&shared.archive_failure, &failure) {
        (None, Some(error)) => {
            tracing::warn!(error, "the ledger can't be archived; it waits in the outbox, and is tried again");
        }
        (Some(_), None) => tracing::info!("the ledger is archived again"),
        _ => {}
    }
    shared.archive_failure = failure;
}
