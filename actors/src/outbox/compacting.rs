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
use tidegate_schemas::messages::{outbox::StoreError, tools::Progress};

/// How often is looked whether the disk is short.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// Every so many looks the size is compared also where it is not: every ten minutes.
const LOOKS_BETWEEN: u32 = 20;
/// Looks after a writing anew that failed until the next one: an hour; on a disk that is short a minute.
const LOOKS_AFTER_FAILURE: u32 = 120;
const LOOKS_AFTER_FAILURE_SHORT: u32 = 2;
/// So many times what is held the copy may take, about.
const COPY_FACTOR: u64 = 2;
/// The disk is short below this much of what is to stay free, in percent: when the gateway says that it fills up.
const SHORT_PERCENT: u64 = 125;
/// So many times what is held, in a quiet time.
pub(super) const QUIET_FACTOR: u64 = 2;
/// So many times what is held, at any time.
pub(super) const BUSY_FACTOR: u64 = 4;
/// And so many bytes more.
pub(super) const ALLOWANCE_BYTES: u64 = 8 * 1_024 * 1_024;
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

/// Whether there would be so little room meanwhile that nothing is taken.
pub(super) fn would_close_intake(free_bytes: u64, held: Held, min_free_disk: u64) -> bool {
    free_bytes < held.bytes.saturating_mul(COPY_FACTOR).saturating_add(min_free_disk)
}

/// Looks, and has the store written anew when it is time, for ever.
pub(super) async fn compact_loop(parts: OutboxParts, shared: Arc<Mutex<Shared>>) {
    let writes = || shared.lock().unwrap_or_else(PoisonError::into_inner).observation.writes;
    let min_free_disk = parts.limits.min_free_disk;
    let short_bytes = min_free_disk.saturating_mul(SHORT_PERCENT) / 100;
    let mut written = writes();
    let mut until_compared = LOOKS_BETWEEN;
    // Looks that are left out, where the disk is short and where it is not.
    let (mut left_out_short, mut left_out) = (0_u32, 0_u32);
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        (left_out_short, left_out) = (left_out_short.saturating_sub(1), left_out.saturating_sub(1));
        until_compared -= 1;
        let hour = (until_compared == 0).then(|| {
            until_compared = LOOKS_BETWEEN;
            let before = std::mem::replace(&mut written, writes());
            if written.saturating_sub(before) > QUIET_WRITES { Hour::Busy } else { Hour::Quiet }
        });
        let (store, look_at_short, hour) =
            (Arc::clone(&parts.store), left_out_short == 0, hour.filter(|_| left_out == 0));
        let compacted = blocking(move || {
            let free_bytes = store.free_bytes().unwrap_or(u64::MAX);
            let is_short = look_at_short && free_bytes < short_bytes;
            let hour = if is_short { Some(Hour::Short) } else { hour }?;
            let held = store.held();
            if !is_due(store.disk_bytes(), held, hour) {
                return None;
            }
            if hour != Hour::Short && would_close_intake(free_bytes, held, min_free_disk) {
                let what =
                    format!("meanwhile there would be too little room to take anything: {free_bytes} bytes are free");
                return Some((hour, Err(StoreError::Refused(what))));
            }
            Some((hour, tools::compact(&*store, &Progress::default())))
        });
        if let Some((hour, Err(error))) = compacted.await {
            tracing::warn!(%error, "the outbox takes more of the disk than it needs, and could not be written anew");
            match hour {
                Hour::Short => left_out_short = LOOKS_AFTER_FAILURE_SHORT,
                Hour::Quiet | Hour::Busy => left_out = LOOKS_AFTER_FAILURE,
            }
        }
    }
}
