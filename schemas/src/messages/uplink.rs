//! What can be said to the Uplink: how is Tor?

use crate::view::UplinkStatus;
use actix::prelude::*;

/// "Can onion services be reached?"
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "UplinkStatus")]
pub struct Status;
