//! What every actor of the list understands, so that the Gateway can watch and stop it.

use crate::view::Observation;
use actix::prelude::*;

/// "How are you?" Every actor answers with a typed snapshot; one that doesn't answer in time is stuck.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Observation")]
pub struct Observe;

/// "Finish what you have in hand and stop." The actor answers when it is about to stop.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Shutdown;
