//! What can be said to the Gateway. What it says to its children is in the schemas (`messages::gateway`), since every actor
//! understands it; these two speak of the kernel's own types.

use super::GatewayStatus;
use actix::Message;

/// Asks the Gateway to end everything in order, intake first. From `main`, on SIGTERM. The end itself is seen by
/// `GatewayRun::ended`; a second `Drain` changes nothing.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Drain;

/// Asks the Gateway for the state of every child. From the admin endpoint and the tests.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "GatewayStatus")]
pub struct GetStatus;
