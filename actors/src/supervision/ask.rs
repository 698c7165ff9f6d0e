//! Asking an actor, with a time limit.
//!
//! What actix 0.13 does with a full mailbox (capacity 16): `try_send` refuses, while the request of `send().await` enters
//! all the same, since actix clones the sender for it and a fresh clone may always put in one message. So `send` never waits
//! for room and exerts no back-pressure: a mailbox is bounded by its capacity plus the requests under way, and whoever
//! starts requests must bound their number. The tests of this folder hold actix to that.

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
    match tokio::time::timeout(limit, to.send(message)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => Err(AskError::Closed),
        Err(_) => Err(AskError::TimedOut),
    }
}
