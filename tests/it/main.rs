//! The integration tests, in one binary: arti takes long to link, so it is linked once.

mod house;
#[cfg(feature = "testnet")]
mod lab;
