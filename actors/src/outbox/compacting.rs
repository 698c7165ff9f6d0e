//! The store is written anew when it takes much more of the disk than what it holds.
//!
//! A data file grows with what passes through it, and hardly shrinks. So now and then the size on disk is compared with what is held:
//! above [`QUIET_FACTOR`] times that and [`ALLOWANCE_BYTES`] the store is written anew if little is going on, above
//! [`BUSY_FACTOR`] times in any case. That bounds what it takes by the latter, and once more what it holds while it is written; a gateway
//! whose disk has no room for that says so and goes on.
//!
//! Where the disk has so little room that nothing more is taken, or soon will not be, more is worth the work: above [`SHORT_FACTOR`] times
//! and [`SHORT_ALLOWANCE_BYTES`]. So a disk that the outbox itself has filled is free again once it is drained.

use super::{OutboxParts, Shared, blocking, tools};
use crate::ports::outbox_store::Held;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tidegate_schemas::messages::tools::Progress;

/// How often is looked whether the disk is short.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// Every so many looks the size is compared also where it is not: every ten minutes.
const LOOKS_BETWEEN: u32 = 20;
/// Looks that are left out after a writing anew that failed: an hour; on a disk that is short a minute.
const LOOKS_AFTER_FAILURE: u32 = 120;
const LOOKS_AFTER_FAILURE_SHORT: u32 = 2;
/// The disk is short below this much of what is to stay free, in percent: when the gateway says that it fills up.
const SHORT_PERCENT: u64 = 125;
/// So many times what is held, in a quiet time.
pub(super) const QUIET_FACTOR: u64 = 4;
/// So many times what is held, at any time.
pub(super) const BUSY_FACTOR: u64 = 8;
/// And so many bytes more.
pub(super) const ALLOWANCE_BYTES: u64 = 64 * 1_024 * 1_024;
/// Writes between two looks up to which it is a quiet time: ten a second.
const QUIET_WRITES: u64 = 6_000;

/// Where the disk is short.
pub(super) const SHORT_FACTOR: u64 = 2;
/// Likewise.
pub(super) const SHORT_ALLOWANCE_BYTES: u64 = 4 * 1_024 * 1_024;

/// How things are when the size is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hour {
    Quiet,
    Busy,
    /// The disk has little room.
    Short,
}

/// Whether it is time.
pub(super) fn is_due(disk_bytes: u64, held: Held, hour: Hour) -> bool {
    let (factor, allowance) = match hour {
        Hour::Quiet => (QUIET_FACTOR, ALLOWANCE_BYTES),
        Hour::Busy => (BUSY_FACTOR, ALLOWANCE_BYTES),
        Hour::Short => (SHORT_FACTOR, SHORT_ALLOWANCE_BYTES),
    };
    disk_bytes > held.bytes.saturating_mul(factor).saturating_add(allowance)
}

/// Looks, and has the store written anew when it is time, for ever.
pub(super) async fn compact_loop(parts: OutboxParts, shared: Arc<Mutex<Shared>>) {
    let writes = || shared.lock().unwrap_or_else(PoisonError::into_inner).observation.writes;
    let short_bytes = parts.limits.min_free_disk / 100 * SHORT_PERCENT;
    let (mut written, mut until_compared, mut leave_out) = (writes(), LOOKS_BETWEEN, 0_u32);
    loop {
        tokio::time::sleep(LOOK_EVERY * (1 + std::mem::take(&mut leave_out))).await;
        until_compared = until_compared.saturating_sub(1);
        let hour = if until_compared > 0 {
            None
        } else {
            until_compared = LOOKS_BETWEEN;
            let before = std::mem::replace(&mut written, writes());
            Some(if written.saturating_sub(before) > QUIET_WRITES { Hour::Busy } else { Hour::Quiet })
        };
        let store = Arc::clone(&parts.store);
        let compacted = blocking(move || {
            let is_short = store.free_bytes().is_some_and(|free| free < short_bytes);
            let hour = if is_short { Some(Hour::Short) } else { hour }?;
            let is_due = is_due(store.disk_bytes(), store.held(), hour);
            is_due.then(|| (hour, tools::compact(&*store, &Progress::default())))
        });
        if let Some((hour, Err(error))) = compacted.await {
            tracing::warn!(%error, "the outbox takes more of the disk than it needs, and could not be written anew");
            leave_out = if hour == Hour::Short { LOOKS_AFTER_FAILURE_SHORT } else { LOOKS_AFTER_FAILURE };
        }
    }
}
