#![expect(clippy::unwrap_used, reason = "tests")]
//! The Subscriber with a broker in memory, an outbox that answers when it is told to, and virtual time.

mod custody;
mod house;
mod random;
mod rules;
