//! Asking an actor with a time limit that holds.
//!
//! Two traps of actix 0.13 make this a function. When a mailbox is full, a request through the *same* `Addr` value that
//! filled it is parked without a waker: it may never be looked at again. And `Request::timeout` is not even polled while
//! the request is parked. A fresh clone of the address is never parked: its first message always enters, so the mailbox is
//! bounded by its capacity plus the number of askers, each of which has one request under way.

use actix::{Actor, Addr, Handler, Message, dev::ToEnvelope};
use std::time::Duration;
use thiserror::Error;

/// Why an actor gave no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AskError {
    /// The actor has ended, or dropped the request: the floor is gone, or being replaced.
    #[error("the actor has ended")]
    Closed,
    /// No answer within the limit; the message may still be handled.
    #[error("the actor did not answer in time")]
    TimedOut,
}

/// Sends `message` and waits for the answer, for at most `limit`, even when the mailbox is full.
///
/// # Errors
/// [`AskError::Closed`] if the actor is gone, [`AskError::TimedOut`] after `limit`.
pub async fn ask<A, M>(to: &Addr<A>, message: M, limit: Duration) -> Result<M::Result, AskError>
where
    A: Actor + Handler<M>,
    A::Context: ToEnvelope<A, M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    // The clone lives as long as the request: see the module's doc.
    let fresh = to.clone();
    match tokio::time::timeout(limit, fresh.send(message)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => Err(AskError::Closed),
        Err(_) => Err(AskError::TimedOut),
    }
}
