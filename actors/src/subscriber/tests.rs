//! The Subscriber with a broker in memory, an outbox that answers when it is told to, and virtual time.
#![expect(clippy::unwrap_used, reason = "tests")]

mod custody;
mod house;
mod random;
mod receipts;
mod rules;
mod signals;
