//! The MQTT adapter on a real mosquitto, and the embedded broker as a real child process.
//!
//! The other side is Debian's `mosquitto_pub`: a client that shares no code with ours.

pub mod bench;
mod bodies;
mod embedded;
mod sessions;
mod tidings;
