//! What actors say to each other, one file for each receiver: `messages/outbox.rs` is what is said to the Outbox, beside the long work
//! that operators ask of it (`messages/tools.rs`).
//!
//! Messages are verbs, what they carry are nouns. A reply is part of the message. Nothing here can be sent upward in the list:
//! that is what bells are for. Dispatcher and Reporter have no file: they take no orders, they look at what is due.

pub mod courier;
pub mod dispatcher;
pub mod gateway;
pub mod outbox;
pub mod registry;
pub mod tools;
pub mod uplink;
