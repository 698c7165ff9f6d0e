//! The way to the homeserver: TCP to an address nearby, or a stream to an onion service.
//!
//! No name is ever looked up and no public address is dialled: an [`Address`](Dial::Address) is checked when it is made. Through Tor the
//! homeserver has an isolation of its own, so that it never shares a circuit with a destination; after a failure it gets a new one,
//! because a new attempt on the old one would join the circuit that is stuck.

use super::MatrixError;
use crate::adapters::{arti::LazyArti, http_lane::BoxedStream, system_entropy::SystemEntropy};
use http::HeaderValue;
use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tidegate_actors::ports::{entropy::Entropy as _, transport::Isolation};
use tidegate_schemas::{config::file::Homeserver, onion::OnionEndpoint};
use tokio::{net::TcpStream, time::timeout};

/// How long a connection over TCP may take.
const TCP_LIMIT: Duration = Duration::from_secs(30);
/// How long a stream through Tor may take.
const ONION_LIMIT: Duration = Duration::from_secs(120);

/// Why there is no connection. Names no onion address.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    /// TCP.
    #[error("no connection to it: {0}")]
    Tcp(#[from] std::io::Error),
    /// Tor.
    #[error("no stream to its onion service: {0}")]
    Onion(tidegate_schemas::outcome::DeliveryError),
    /// Either.
    #[error("no connection to it within {} s", .0.as_secs())]
    Slow(Duration),
}

/// Where it is, and how to get there.
pub(super) enum Dial {
    /// Loopback or a private network.
    Address(SocketAddr),
    /// Through Tor.
    Onion {
        /// The process's client.
        arti: Arc<LazyArti>,
        /// The service.
        endpoint: OnionEndpoint,
        /// Kept until an attempt fails.
        isolation: Mutex<Isolation>,
    },
}

impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "Address({address})"),
            Self::Onion { .. } => f.write_str("Onion([onion address])"),
        }
    }
}

impl Dial {
    /// The way to this homeserver.
    ///
    /// # Errors
    /// When it is at a public address, or an onion service and there is no arti.
    pub fn new(homeserver: &Homeserver, arti: Option<Arc<LazyArti>>) -> Result<Self, MatrixError> {
        match homeserver {
            Homeserver::Address(address) if is_near(address.ip()) => Ok(Self::Address(*address)),
            Homeserver::Address(address) => Err(MatrixError::Far(address.ip())),
            Homeserver::Onion(endpoint) => {
                let arti = arti.ok_or(MatrixError::NoArti)?;
                let isolation = Mutex::new(Isolation(SystemEntropy.bytes16()));
                Ok(Self::Onion { arti, endpoint: endpoint.clone(), isolation })
            }
        }
    }

    /// What `Host` says. Sensitive where it is an onion address.
    pub fn host(&self) -> Result<HeaderValue, MatrixError> {
        let (text, sensitive) = match self {
            Self::Address(address) => (address.to_string(), false),
            Self::Onion { endpoint, .. } if endpoint.port == 80 => (endpoint.address.reveal(), true),
            Self::Onion { endpoint, .. } => (endpoint.reveal(), true),
        };
        let mut host = HeaderValue::try_from(text).map_err(|_impossible| MatrixError::Host)?;
        host.set_sensitive(sensitive);
        Ok(host)
    }

    /// A new connection.
    ///
    /// # Errors
    /// How it failed, within the limit of its kind.
    pub async fn dial(&self) -> Result<BoxedStream, DialError> {
        match self {
            Self::Address(address) => {
                let stream =
                    timeout(TCP_LIMIT, TcpStream::connect(address)).await.map_err(|_| DialError::Slow(TCP_LIMIT))??;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
            Self::Onion { arti, endpoint, isolation } => {
                let current = *isolation.lock().unwrap_or_else(PoisonError::into_inner);
                let connecting = arti.connect(endpoint.clone(), current, None);
                let result = match timeout(ONION_LIMIT, connecting).await {
                    Ok(result) => result.map_err(DialError::Onion),
                    Err(_elapsed) => Err(DialError::Slow(ONION_LIMIT)),
                };
                if result.is_err() {
                    self.renew();
                }
                result
            }
        }
    }

    /// The next stream takes a new circuit.
    pub fn renew(&self) {
        if let Self::Onion { isolation, .. } = self {
            *isolation.lock().unwrap_or_else(PoisonError::into_inner) = Isolation(SystemEntropy.bytes16());
        }
    }
}

/// Loopback, or an address of a private network (RFC 1918, RFC 4193).
fn is_near(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local(),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use tidegate_schemas::onion::OnionAddress;

    #[test]
    fn only_what_is_near_is_dialled() {
        for (address, near) in [
            ("127.0.0.1:8008", true),
            ("10.1.2.3:8008", true),
            ("[fd00::1]:8008", true),
            ("1.1.1.1:8008", false),
            ("[::ffff:1.1.1.1]:8008", false),
            ("[2606:4700::1]:8008", false),
            ("169.254.1.1:80", false),
            ("0.0.0.0:80", false),
        ] {
            let dial = Dial::new(&Homeserver::Address(address.parse().unwrap()), None);
            assert_eq!(dial.is_ok(), near, "{address}");
        }
    }

    #[test]
    fn an_onion_service_without_arti_is_refused_with_what_to_do_and_never_named() {
        let address = OnionAddress::from_public_key([7; 32]);
        let name = address.reveal();
        let error = Dial::new(&Homeserver::Onion(OnionEndpoint { address, port: 80 }), None).unwrap_err().to_string();
        assert!(error.contains("tor.transport") && !error.contains(&name), "{error}");
    }
}
