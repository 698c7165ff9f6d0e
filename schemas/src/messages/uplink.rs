//! What can be said to the Uplink: how is Tor, and can this onion service be reached?

use crate::{
    agreement::Destination,
    view::{ConnectionTest, UplinkStatus},
};
use actix::prelude::*;

/// "Can onion services be reached?"
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "UplinkStatus")]
pub struct Status;

/// "Connect to this destination on a fresh circuit, and hang up." Nothing is sent to it, and nothing is counted for or against it.
/// `None`: as many tests as may be are under way already.
#[derive(Clone, Message)]
#[rtype(result = "Option<ConnectionTest>")]
pub struct TestConnection {
    /// Which. Its circuit must be in the budget: whoever asks has paid for it.
    pub destination: Destination,
}
