//! What can be said to the Dispatcher. It takes no orders: a bell or a tick wakes it, and it reads what is due.

use crate::id::DestinationId;
use actix::prelude::*;

/// A courier has ended. Sent by the courier's death watch, however it ended.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct CourierEnded {
    /// Whose courier.
    pub destination: DestinationId,
    /// Which one: stale news of a courier that was replaced is ignored.
    pub generation: u64,
    /// Whether it panicked.
    pub panicked: bool,
}
