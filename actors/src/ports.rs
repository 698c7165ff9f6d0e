//! Ports: what the actors need of the world, as traits. Adapters in the root package fulfil them; the fakes in `testing` too.

pub mod clock;
pub mod destination_check;
pub mod entropy;
pub mod ledger_archive;
pub mod outbox_store;
pub mod registry_store;
pub mod room;
pub mod source;
pub mod transport;
