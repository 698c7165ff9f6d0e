//! A bound HTTP server: what the two endpoints have in common in being started and stopped.

use actix_web::dev::{Server, ServerHandle};
use std::{
    io,
    net::{SocketAddr, TcpListener},
};
use tokio::task::JoinHandle;

/// An HTTP server that runs. Dropping it leaves it running; [`Serving::stop`] ends it.
#[derive(Debug)]
pub struct Serving {
    address: SocketAddr,
    handle: ServerHandle,
    task: JoinHandle<io::Result<()>>,
}

impl Serving {
    /// Runs a server whose listener is bound to this address. Within an actix System.
    #[must_use]
    pub fn new(address: SocketAddr, server: Server) -> Self {
        let handle = server.handle();
        Self { address, handle, task: actix_web::rt::spawn(server) }
    }

    /// Where it listens: the port is a real one, even if port 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more connections, lets requests under way end (`graceful`), and ends.
    pub async fn stop(self, graceful: bool) {
        self.handle.stop(graceful).await;
        if let Ok(Err(error)) = self.task.await {
            tracing::warn!(address = %self.address, %error, "an HTTP server ended with an error");
        }
    }
}

/// Why an endpoint could not be started.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address can't be had.
    #[error(
        "could not listen on {address} for the {endpoint} ({source}): does another gateway run? see {key} in the config"
    )]
    Bind {
        /// Which endpoint.
        endpoint: &'static str,
        /// Key of the config.
        key: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The address is not loopback, and there are no credentials.
    #[error(
        "the {endpoint} listens on {address}, which is not loopback, and no device has credentials: add one with \
         `tidegate device add NAME --destinations ...`, or listen on 127.0.0.1 ({key} in the config)"
    )]
    NoCredentials {
        /// Which endpoint.
        endpoint: &'static str,
        /// Key of the config.
        key: &'static str,
        /// Where.
        address: SocketAddr,
    },
    /// The file of tokens can't be read.
    #[error("{0}")]
    Tokens(String),
    /// The devices file can't be read.
    #[error("{0}")]
    Devices(String),
}

/// Binds a listener.
pub(crate) fn bind(
    address: SocketAddr,
    endpoint: &'static str,
    key: &'static str,
) -> Result<(TcpListener, SocketAddr), ListenError> {
    let failed = |source| ListenError::Bind { endpoint, key, address, source };
    let listener = TcpListener::bind(address).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}
