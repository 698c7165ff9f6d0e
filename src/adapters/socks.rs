//! The other way to onion services: the SOCKS port of a system `tor` on this machine.
//!
//! The onion address goes to tor as a name and is never resolved here. Isolation is tor's own `IsolateSOCKSAuth`: streams
//! with different user names share no circuit. We offer tor no other method than user name and password, because a
//! port with `PreferSOCKSNoAuth` would otherwise drop the user name, and the isolation with it (PR-3).
//!
//! What SOCKS can't do: client authorization keys lie in tor's own `ClientOnionAuthDir`, not with us; how far tor has
//! come with its start can't be asked, so "ready" means that its port answers. Which stage of a connect failed is told
//! only by ports with the flag `ExtendedErrors`; others give a rough class.
//!
//! Limits: one connect takes at most [`CONNECT_LIMIT`], the question whether tor answers [`ANSWER_LIMIT`].

mod handshake;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tidegate_actors::ports::transport::{Isolation, Lane, Target, Transport};
use tidegate_schemas::clock::ConsensusTimes;
use tidegate_schemas::onion::OnionEndpoint;
use tidegate_schemas::outcome::DeliveryError;
use tidegate_schemas::view::UplinkStatus;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::time::timeout;

use self::handshake::HandshakeError;
use super::http_lane::{BoxedStream, HttpLane};

/// The longest that one connect may take, whatever its caller allows.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(120);
/// How long tor may take to answer the first question of a SOCKS connection.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// A SOCKS address that isn't on loopback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the SOCKS port of tor must be on loopback: whoever sits between us and it would see where readings go")]
pub struct NotLoopback;

/// Deliveries through a system tor.
#[derive(Debug, Clone)]
pub struct SocksTransport {
    proxy: SocketAddr,
    status: Arc<Mutex<UplinkStatus>>,
}

impl SocksTransport {
    /// Delivers through the tor at this address.
    ///
    /// # Errors
    /// When the address isn't on loopback.
    pub fn new(proxy: SocketAddr) -> Result<Self, NotLoopback> {
        if !proxy.ip().is_loopback() {
            return Err(NotLoopback);
        }
        Ok(Self { proxy, status: Arc::default() })
    }

    /// Opens a stream to an onion service.
    ///
    /// # Errors
    /// How the attempt failed, within [`CONNECT_LIMIT`]. After a failure the caller takes another isolation.
    pub async fn connect(&self, endpoint: &OnionEndpoint, isolation: Isolation) -> Result<BoxedStream, DeliveryError> {
        let attempt = async {
            let mut stream = self.authenticate(isolation).await?;
            handshake::connect(&mut stream, &endpoint.address.reveal(), endpoint.port).await?;
            Ok(Box::new(stream) as BoxedStream)
        };
        match timeout(CONNECT_LIMIT, attempt).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(HandshakeError::Refused(code))) => {
                tracing::debug!(code = format_args!("{code:#04x}"), "tor could not reach an onion service");
                Err(handshake::classify(code))
            }
            Ok(Err(error)) => {
                self.set_status(UplinkStatus::Failed { reason: error.to_string() });
                Err(DeliveryError::UplinkNotReady)
            }
            Err(_elapsed) => Err(DeliveryError::ConnectTimeout),
        }
    }

    /// A connection to tor on which it has taken the isolation.
    async fn authenticate(&self, isolation: Isolation) -> Result<TcpStream, HandshakeError> {
        let begin = async {
            let mut stream = TcpStream::connect(self.proxy).await?;
            stream.set_nodelay(true)?;
            let user = data_encoding::HEXLOWER.encode(&isolation.0);
            handshake::authenticate(&mut stream, &user).await?;
            Ok(stream)
        };
        timeout(ANSWER_LIMIT, begin).await.unwrap_or(Err(HandshakeError::Silent))
    }

    fn set_status(&self, status: UplinkStatus) {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }
}

impl Transport for SocksTransport {
    fn name(&self) -> &'static str {
        "system tor"
    }

    fn status(&self) -> UplinkStatus {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A SOCKS port tells nothing of the consensus.
    fn consensus(&self) -> Option<ConsensusTimes> {
        None
    }

    fn bootstrap(&self) -> BoxFuture<'static, Result<(), String>> {
        let this = self.clone();
        Box::pin(async move {
            let answer = this.authenticate(Isolation([0; 16])).await;
            match answer {
                Ok(_closed_again) => {
                    this.set_status(UplinkStatus::Ready);
                    Ok(())
                }
                Err(error) => {
                    let reason = error.to_string();
                    this.set_status(UplinkStatus::Failed { reason: reason.clone() });
                    Err(reason)
                }
            }
        })
    }

    fn open(&self, target: Target, isolation: Isolation) -> BoxFuture<'static, Result<Box<dyn Lane>, DeliveryError>> {
        let this = self.clone();
        Box::pin(async move {
            let Target { destination, endpoint, client_auth: _in_tors_own_folder } = target;
            let stream = this.connect(&endpoint, isolation).await.inspect_err(|error| {
                tracing::debug!(%destination, %error, "no lane");
            })?;
            let runtime = Handle::try_current().map_err(|_no_runtime| DeliveryError::Internal)?;
            let lane = HttpLane::open(stream, &endpoint, &runtime).await?;
            Ok(Box::new(lane) as Box<dyn Lane>)
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use tidegate_schemas::onion::OnionAddress;
    use tokio::net::TcpListener;

    #[test]
    fn only_a_tor_on_this_machine_is_used() {
        SocksTransport::new("127.0.0.1:9050".parse().unwrap()).unwrap();
        SocksTransport::new("192.168.1.2:9050".parse().unwrap()).unwrap_err();
    }

    #[tokio::test]
    async fn a_missing_tor_is_our_fault_not_the_destinations() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let transport = SocksTransport::new(listener.local_addr().unwrap()).unwrap();
        drop(listener);
        assert_eq!(transport.status(), UplinkStatus::Starting);
        assert!(transport.bootstrap().await.unwrap_err().contains("SOCKS"));
        let endpoint = OnionEndpoint { address: OnionAddress::from_public_key([1; 32]), port: 80 };
        let error = transport.connect(&endpoint, Isolation([1; 16])).await.err().unwrap();
        assert_eq!(error, DeliveryError::UplinkNotReady);
        assert!(matches!(transport.status(), UplinkStatus::Failed { .. }));
    }
}
