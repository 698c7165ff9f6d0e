//! Fakes for the ports, and a clock that goes with tokio's paused time. Behind the feature `testing`.

#[cfg(test)]
pub(crate) mod cases;
pub mod fake_room;
pub mod fake_source;
pub mod fake_transport;
pub mod faults;
pub mod faulty_ports;
pub mod memory_archive;
pub mod memory_registry;
pub mod memory_store;
pub mod outbox_model;
pub mod scripts;
pub mod seeded_entropy;
pub mod sim_clock;
pub mod simulation;
pub mod store_conformance;
pub mod submissions;
pub mod toy_check;
pub mod toy_registry;
pub mod world;
