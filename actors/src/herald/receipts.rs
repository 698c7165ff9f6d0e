//! What became of each message: from the ledger to the device that wants to hear of it.

use super::{ANNOUNCE_LIMIT, HeraldParts, RECEIPTS_AT_ONCE, RETRY, Seen, TICK_MAX, ask};
use crate::ports::source::{AnnounceError, Announcement};
use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use std::time::Duration;
use tidegate_schemas::{
    messages::{
        outbox::{DeviceReceipt, PendingReceipts, Receipted},
        registry::{Current, RegistrySnapshot},
    },
    submission::ReplyTo,
    tidings::ReceiptTiding,
};
use tokio::time::timeout;

/// Tells receipts.
pub(super) struct Receipts {
    parts: HeraldParts,
    seen: Seen,
}

impl Receipts {
    pub fn new(parts: HeraldParts, seen: Seen) -> Self {
        Self { parts, seen }
    }

    /// Tells one batch. Returns how long until the next look is needed.
    pub async fn tell(&self) -> Duration {
        // The bell rings when there is a connection.
        if self.parts.source.connection().is_none() {
            return TICK_MAX;
        }
        let asked = ask(&self.parts.pending, PendingReceipts { count_max: RECEIPTS_AT_ONCE }).await;
        let Some(Ok(pending)) = asked else { return RETRY };
        if pending.is_empty() {
            return TICK_MAX;
        }
        let Some(snapshot) = ask(&self.parts.registry, Current).await else { return RETRY };
        let answers = join_all(pending.iter().map(|receipt| self.answer(receipt, &snapshot))).await;
        let mut last = None;
        let mut all = true;
        for (receipt, answer) in pending.iter().zip(answers) {
            if !self.note(answer) {
                all = false;
                break;
            }
            last = Some(receipt.no);
        }
        if let Some(last) = last
            && !matches!(ask(&self.parts.receipted, Receipted { last }).await, Some(Ok(())))
        {
            return RETRY;
        }
        if all { Duration::ZERO } else { RETRY }
    }

    /// Hands a receipt over at once, in its turn; `None` is the answer for a device that doesn't want to hear of it.
    fn answer(
        &self,
        receipt: &DeviceReceipt,
        snapshot: &RegistrySnapshot,
    ) -> BoxFuture<'static, Option<Result<(), AnnounceError>>> {
        let DeviceReceipt { device, origin, reply_to, .. } = receipt;
        let to = self.parts.tidings.receipt_to(device, *origin, reply_to.as_ref(), &snapshot.routes);
        let Some((ReplyTo { topic, correlation }, told)) = to.zip(ReceiptTiding::of(receipt)) else {
            return Box::pin(std::future::ready(None));
        };
        let time = self.parts.clock.trusted().then(|| self.parts.clock.now());
        let payload = Bytes::from(told.body(time));
        let answer = self.parts.source.announce(Announcement { topic, payload, retained: false, correlation });
        Box::pin(async move { Some(timeout(ANNOUNCE_LIMIT, answer).await.unwrap_or(Err(AnnounceError::Lost))) })
    }

    /// Whether the matter is done with.
    fn note(&self, answer: Option<Result<(), AnnounceError>>) -> bool {
        let mut seen = self.seen.borrow_mut();
        match answer {
            None => {}
            Some(Ok(())) => {
                seen.receipts_published += 1;
                seen.last_error = None;
            }
            // It would be refused for ever, and hold up all behind it.
            Some(Err(error @ AnnounceError::Refused(_))) => {
                seen.refused += 1;
                seen.last_error = Some(error.to_string());
            }
            Some(Err(error)) => {
                seen.last_error = Some(error.to_string());
                return false;
            }
        }
        true
    }
}
