//! The integration tests, in one binary: arti takes long to link, so it is linked once.

#![expect(clippy::unwrap_used, reason = "tests")]

mod admin;
#[cfg(feature = "testnet")]
mod arti;
#[cfg(feature = "testnet")]
mod chain;
mod check;
mod cli;
mod deploy;
mod device_endpoint;
mod house;
mod http_support;
#[cfg(feature = "testnet")]
mod lab;
#[cfg(feature = "testnet")]
mod matrix;
#[cfg(feature = "testnet")]
mod mqtt;
mod receiver;
#[cfg(feature = "testnet")]
mod reload;
#[cfg(feature = "testnet")]
mod startup;
mod store;
mod strace;
#[cfg(feature = "testnet")]
mod tor_net;
