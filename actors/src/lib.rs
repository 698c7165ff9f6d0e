//! Who says what to whom in Tidegate: the supervised actors, and the ports through which they touch the world.
//!
//! **The gateway is a list.** An actor holds addresses only of lines below it, and rings payload-free bells of lines above it.
//! If one falls, those that hold its address, directly or not, restart with it, in list order. See `supervision`.
//!
//! ```text
//!   7 Reporter    delivery report -> room
//!   6 Herald      states, receipts -> devices
//!   5 Dispatcher  opens a courier for each destination that is due
//!       Courier   owns its circuit pool (lanes)
//!   4 Uplink      life of the Tor client
//!   3 Subscriber  publication -> submission
//!   2 Outbox      single writer, durable custody
//!   1 Registry    devices, destinations, routes
//! ```

pub mod ports;

pub mod supervision;

pub mod registry;

pub mod outbox;

pub mod subscriber;

pub mod uplink;

pub mod dispatcher;

pub mod courier;

pub mod herald;

pub mod reporter;

pub mod handles;

pub mod list;

#[cfg(feature = "testing")]
pub mod testing;
