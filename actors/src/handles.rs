//! The addresses of the lines that are up, as the kernel publishes them after every change.
//!
//! The HTTP endpoints live beside the list and look here with each request: a line that is down, or is being restarted, is absent.

use crate::{
    dispatcher::Dispatcher, herald::Herald, outbox::Outbox, registry::Registry, reporter::Reporter,
    subscriber::Subscriber, uplink::Uplink,
};
use actix::Addr;

/// The addresses.
#[derive(Clone, Default)]
pub struct Handles {
    /// Line 1.
    pub registry: Option<Addr<Registry>>,
    /// Line 2.
    pub outbox: Option<Addr<Outbox>>,
    /// Line 3; absent for good when no broker is configured.
    pub subscriber: Option<Addr<Subscriber>>,
    /// Line 4.
    pub uplink: Option<Addr<Uplink>>,
    /// Line 5.
    pub dispatcher: Option<Addr<Dispatcher>>,
    /// Line 6; absent for good when no broker is configured.
    pub herald: Option<Addr<Herald>>,
    /// Line 7; absent for good when no room is configured.
    pub reporter: Option<Addr<Reporter>>,
}
