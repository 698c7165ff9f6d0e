//! What can be said to a Courier.

use actix::prelude::*;

/// "Look again: there is more for you, or your agreement has changed."
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Wake;

/// "Your window is closed or you are no longer wanted: start nothing new, and end."
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Close;
