//! Receipts: which devices have not heard yet how their messages ended. That a message was accepted is told by whoever took it in.
//!
//! They are read from the ledger, after the last number that was receipted. What has nobody to tell is passed over: in memory at once,
//! on disk with the next commit, so that it is neither written for nor looked at again. Where no receipts are given, that number goes with
//! the ledger; so they begin with what ends after they were switched on.

use super::{
    core::Core,
    upkeep::{PRUNED_AT_ONCE, PRUNED_PER_ENTRY},
};
use crate::ports::outbox_store::OutboxStore;
use tidegate_schemas::{
    entry::EntryState,
    messages::outbox::{DeviceReceipt, Receipted, StoreError},
    record::{self, LedgerRecord, key},
    submission::Origin,
};

/// Records read at a time.
const SLICE: usize = 256;

/// Whether its device is to hear of it. A warning is for people, and who was refused has heard it from whoever took it in; who came by HTTP has no topic of its own.
fn is_told(record: &LedgerRecord) -> bool {
    !matches!(record.state, EntryState::Queued | EntryState::Refused)
        && (record.reply_to.is_some() || record.origin != Origin::Http)
}

/// The next receipts after a ledger number, and up to which number there is nobody to tell.
pub(super) fn pending(
    store: &dyn OutboxStore,
    after: u64,
    count_max: usize,
) -> Result<(Vec<DeviceReceipt>, u64), StoreError> {
    let (mut receipts, mut passed) = (Vec::new(), after);
    let (mut from, to) = (key::ledger(after.saturating_add(1)), key::ledger(u64::MAX));
    loop {
        let page = store.scan(&from, &to, SLICE, false)?;
        for (at, value) in &page {
            let Some(no) = at.get(1..9).and_then(|b| b.try_into().ok()).map(u64::from_be_bytes) else { continue };
            // One that can't be read can't be told.
            let told = record::decode::<LedgerRecord>(at, value).ok().filter(is_told);
            if let Some(record) = told {
                receipts.push(record.receipt(no));
                if receipts.len() >= count_max.max(1) {
                    return Ok((receipts, passed));
                }
            } else if receipts.is_empty() {
                passed = no;
            }
        }
        match page.last() {
            Some((last, _)) if page.len() == SLICE => from = [last.as_slice(), &[0]].concat(),
            _ => return Ok((receipts, passed)),
        }
    }
}

impl Core {
    /// The devices have heard of everything up to here.
    pub fn receipted(&mut self, message: Receipted) {
        self.pass_receipts(message.last);
        self.prune_ledger(PRUNED_AT_ONCE);
        self.touch();
    }

    /// As [`Core::receipted`], but it is enough that it is on disk with the next commit.
    pub fn pass_receipts(&mut self, last: u64) {
        if last > self.meta.receipted_no && last <= self.meta.ledger_no {
            self.meta.receipted_no = last;
            self.prune_ledger(PRUNED_PER_ENTRY);
        }
    }

    /// A ledger record goes that its device has not heard of. Whether it should have is read from it.
    pub fn lose_receipt(&mut self, no: u64) {
        let record = self.read::<LedgerRecord>(&key::ledger(no)).ok().flatten();
        self.meta.receipts_lost += u64::from(record.is_some_and(|record| is_told(&record)));
        self.meta.receipted_no = self.meta.receipted_no.max(no);
    }
}
