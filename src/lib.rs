//! How Tidegate touches the world: adapters, HTTP endpoints, the command line and the wiring of the actors.
//!
//! The rules are in `tidegate-schemas`, the actors in `tidegate-actors`; the heavy crates (rumqttc, arti, ruma, sled, actix-web,
//! clap) are named in this package alone, each in its own room.

pub mod adapters;
pub mod admin;
pub mod audit;
pub mod cli;
pub mod crash_point;
pub mod device_endpoint;
#[cfg(feature = "testnet")]
pub mod lab;
pub mod lifecycle;
pub mod receiver;
pub mod reload;
pub mod reread;
pub mod signal_service;
pub mod telemetry;
pub mod vital_signs;
pub mod wiring;

mod console;
mod web;
