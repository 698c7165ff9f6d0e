//! Free ports on loopback.
//!
//! The ports come from below the kernel's ephemeral range (32768 and up by default). A port from the ephemeral range
//! would be free now and taken later, as the local end of somebody's outgoing connection, when a network is started again
//! on the ports that are written in its relays' descriptors.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// First port that is given out.
const PORT_MIN: u16 = 15_000;
/// First port that isn't given out any more.
const PORT_END: u16 = 32_000;

/// An address on 127.0.0.1.
#[must_use]
pub fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Finds `count` different ports on 127.0.0.1 that nothing listens on.
///
/// Nothing keeps the ports between this call and their use; the search starts at a random place, so that two programs
/// that search at once rarely meet.
///
/// # Errors
/// When there are fewer free ports than asked for.
pub fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    let span = u64::from(PORT_END - PORT_MIN);
    let start = RandomState::new().build_hasher().finish() % span;
    // All listeners stay open until the last is found.
    let listeners: Vec<TcpListener> = (0..span)
        .map(|step| PORT_MIN + u16::try_from((start + step) % span).unwrap_or_default())
        .filter_map(|port| TcpListener::bind(loopback(port)).ok())
        .take(count)
        .collect();
    if listeners.len() < count {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "too few free ports on 127.0.0.1"));
    }
    listeners.iter().map(|listener| listener.local_addr().map(|address| address.port())).collect()
}

/// Whether nothing listens on this port of 127.0.0.1.
#[must_use]
pub fn is_free(port: u16) -> bool {
    TcpListener::bind(loopback(port)).is_ok()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn ports_are_different_and_free() {
        let mut ports = free_ports(20).unwrap();
        assert!(ports.iter().all(|&port| is_free(port)));
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 20);
    }

    #[test]
    fn a_taken_port_is_not_free() {
        let listener = TcpListener::bind(loopback(0)).unwrap();
        assert!(!is_free(listener.local_addr().unwrap().port()));
    }
}
