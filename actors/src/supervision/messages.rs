//! What the Gateway says to its children, and what can be said to the Gateway.

use super::GatewayStatus;
use actix::Message;
use std::time::Duration;

/// What an actor answers to [`Observe`].
pub type Observation = serde_json::Value;

/// Asks a child for a snapshot of itself: liveness, status page and tests in one. From the Gateway, every 10 s.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Observation")]
pub struct Observe;

/// Asks a child to end. From the Gateway. The child finishes what fits in `limit` and calls `ctx.stop()`; after `limit` it
/// is cut off. Its death is the answer.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Shutdown {
    /// Why.
    pub cause: ShutdownCause,
    /// How long the child may take.
    pub limit: Duration,
}

/// Why a child is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShutdownCause {
    /// A line whose address it holds has fallen: end at once, the next incarnation follows.
    FloorFell,
    /// The process ends: finish what is in hand.
    Drain,
}

/// Asks the Gateway to end everything in order, intake first. From `main`, on SIGTERM. The end itself is seen by
/// `GatewayRun::ended`; a second `Drain` changes nothing.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Drain;

/// Asks the Gateway for the state of every child. From the admin endpoint and the tests.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "GatewayStatus")]
pub struct GetStatus;
