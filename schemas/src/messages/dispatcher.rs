//! What can be said to the Dispatcher: it takes no orders, but it explains itself.

use crate::{
    agreement::Evaluation,
    dispatch::{Decision, Mode},
    id::DestinationId,
    view::DestinationLoad,
};
use actix::prelude::*;

/// "What about this destination?" Answered by the very decision that the next round acts by, from the same memory. `None`: there is
/// no such destination, or a line below did not answer.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Option<Explained>")]
pub struct Explain {
    /// Which.
    pub destination: DestinationId,
}

/// The answer to [`Explain`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// What is decided now.
    pub decision: Decision,
    /// What the agreement says now.
    pub evaluation: Evaluation,
    /// What waits.
    pub load: DestinationLoad,
    /// How it is served at this moment, if it is.
    pub served: Option<Mode>,
}
