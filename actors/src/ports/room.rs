//! Where deliveries are acknowledged: a Matrix room.

use futures_util::future::BoxFuture;
use std::time::Duration;
use tidegate_schemas::messages::outbox::ReportBatch;

/// Why a report was not posted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RoomError {
    /// The homeserver asks to wait.
    #[error("the homeserver limits our rate")]
    Limited {
        /// How long.
        wait: Duration,
    },
    /// It can't be reached, or has a problem of its own.
    #[error("the homeserver can't be reached: {0}")]
    Unavailable(String),
    /// It refuses: an operator has to look (password, membership, power level).
    #[error("the homeserver refuses: {0}")]
    Refused(String),
}

/// A room that hears delivery reports. Logs in, finds or creates the room by itself, when first needed.
pub trait Room: Send + Sync + 'static {
    /// Posts one notice with these reports under this transaction id, and returns the event's id. Sending the same batch again is
    /// harmless: the transaction id makes it one event.
    fn post(&self, batch: ReportBatch) -> BoxFuture<'static, Result<String, RoomError>>;
}
