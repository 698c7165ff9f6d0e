//! The store is written anew when it takes much more of the disk than what it holds.
//!
//! A data file grows with what passes through it, and hardly shrinks. So now and then the size on disk is compared with what is held:
//! above [`QUIET_FACTOR`] times that and [`ALLOWANCE_BYTES`] the store is written anew if little is going on, above
//! [`BUSY_FACTOR`] times in any case. That bounds what it takes by the latter, and once more what it holds while it is written; a gateway
//! whose disk has no room for that says so and goes on.

use super::{OutboxParts, Shared, blocking, tools};
use crate::ports::outbox_store::Held;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tidegate_schemas::messages::tools::Progress;

/// How often that is compared.
const LOOK_EVERY: Duration = Duration::from_secs(600);
/// Looks that are left out after one that failed: an hour.
const LOOKS_AFTER_FAILURE: u32 = 6;
/// So many times what is held, in a quiet time.
pub(super) const QUIET_FACTOR: u64 = 4;
/// So many times what is held, at any time.
pub(super) const BUSY_FACTOR: u64 = 8;
/// And so many bytes more.
pub(super) const ALLOWANCE_BYTES: u64 = 64 * 1_024 * 1_024;
/// Writes between two looks up to which it is a quiet time: ten a second.
const QUIET_WRITES: u64 = 6_000;

/// Whether it is time.
pub(super) fn is_due(disk_bytes: u64, held: Held, is_quiet: bool) -> bool {
    let factor = if is_quiet { QUIET_FACTOR } else { BUSY_FACTOR };
    disk_bytes > held.bytes.saturating_mul(factor).saturating_add(ALLOWANCE_BYTES)
}

/// Compares, and has the store written anew, for ever.
pub(super) async fn compact_loop(parts: OutboxParts, shared: Arc<Mutex<Shared>>) {
    let writes = || shared.lock().unwrap_or_else(PoisonError::into_inner).observation.writes;
    let mut written = writes();
    let mut leave_out = 0;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let before = std::mem::replace(&mut written, writes());
        if leave_out > 0 {
            leave_out -= 1;
            continue;
        }
        let is_quiet = written.saturating_sub(before) <= QUIET_WRITES;
        let store = Arc::clone(&parts.store);
        let compacted = blocking(move || {
            let is_due = is_due(store.disk_bytes(), store.held(), is_quiet);
            is_due.then(|| tools::compact(&*store, &Progress::default()))
        });
        if let Some(Err(error)) = compacted.await {
            tracing::warn!(%error, "the outbox takes more of the disk than it needs, and could not be written anew");
            leave_out = LOOKS_AFTER_FAILURE;
        }
    }
}
