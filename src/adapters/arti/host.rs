//! An onion service in this process: its streams come out as byte streams, for a web server to serve.
//!
//! The address belongs to the nickname and the state folder, or to the key that the options bring: it is the same after a restart. arti's own status of a
//! service never says "reachable" while it is, so nothing here waits for it; a connect is the proof.
//!
//! Limits: streams of one circuit ([`HostingOptions::streams_per_circuit_max`], the circuit is torn down past it),
//! streams open at once ([`STREAMS_MAX`], more wait), accepted ones that nobody has taken yet ([`WAITING_MAX`]). Streams
//! to any other port than the service's end their circuit. Dropping the value takes the service down.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::{FutureExt as _, Stream, StreamExt as _, future::BoxFuture};
use tidegate_schemas::onion::OnionAddress;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tor_cell::relaycell::msg::Connected;
use tor_hscrypto::pk::HsClientDescEncKey;
use tor_hsservice::config::OnionServiceConfigBuilder;
use tor_hsservice::{RendRequest, RunningOnionService, StreamRequest, handle_rend_requests};
use tor_proto::stream::IncomingStreamRequest;

use super::client::ArtiClient;
use super::errors::{ArtiError, in_words};
use super::keys::ServiceKey;
use super::runtime::Running;
use crate::adapters::http_lane::BoxedStream;

/// Streams of a service that may be open at once.
pub const STREAMS_MAX: usize = 512;
/// Accepted streams that wait for [`HostedService::accept`].
pub const WAITING_MAX: usize = 32;
/// The most clients that restricted discovery names (their keys share a descriptor of 50 kB).
pub const CLIENTS_MAX: usize = 160;
/// Introduction points unless asked otherwise.
pub const INTRO_POINTS_DEFAULT: u8 = 3;
/// Streams of one circuit unless asked otherwise.
pub const STREAMS_PER_CIRCUIT_DEFAULT: u32 = 32;

/// Whether somebody who asks for a rendezvous is let in: each costs a circuit.
pub type Admission = Arc<dyn Fn() -> BoxFuture<'static, bool> + Send + Sync>;

/// How to host an onion service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostingOptions {
    /// Under which its keys are kept: lower-case letters, digits, `-` and `_`.
    pub nickname: String,
    /// Its identity, where the address has to be known before it runs; else arti makes one and keeps it.
    pub key: Option<ServiceKey>,
    /// The only port that is served.
    pub port: u16,
    /// Public lines (`descriptor:x25519:..`) of those who may find the service; empty: all who know the address.
    pub authorized_clients: Vec<String>,
    /// Introduction points, 1 to 20.
    pub intro_points: u8,
    /// Streams that one circuit may have open; a circuit that opens more is torn down.
    pub streams_per_circuit_max: u32,
}

impl HostingOptions {
    /// A service on port 80 for all who know its address.
    #[must_use]
    pub fn named(nickname: impl Into<String>) -> Self {
        Self {
            nickname: nickname.into(),
            key: None,
            port: 80,
            authorized_clients: Vec::new(),
            intro_points: INTRO_POINTS_DEFAULT,
            streams_per_circuit_max: STREAMS_PER_CIRCUIT_DEFAULT,
        }
    }

    fn build(&self) -> Result<tor_hsservice::config::OnionServiceConfig, ArtiError> {
        let refused = |reason: String| ArtiError::Host { reason };
        if self.authorized_clients.len() > CLIENTS_MAX {
            return Err(refused(format!("more than {CLIENTS_MAX} authorized clients don't fit into a descriptor")));
        }
        let nickname = self.nickname.parse().map_err(|_invalid| {
            refused("its nickname may have letters, digits, `-` and `_` only, and must begin with a letter".to_owned())
        })?;
        let mut builder = OnionServiceConfigBuilder::default();
        builder
            .nickname(nickname)
            .num_intro_points(self.intro_points)
            .max_concurrent_streams_per_circuit(self.streams_per_circuit_max);
        for (number, line) in self.authorized_clients.iter().enumerate() {
            let key: HsClientDescEncKey = line.trim().parse().map_err(|_invalid| {
                refused(format!("authorized client {} isn't of the form descriptor:x25519:BASE32", number + 1))
            })?;
            let name = format!("client{number}").parse().map_err(|_invalid| refused("bad client name".to_owned()))?;
            builder.restricted_discovery().enabled(true).static_keys().access().push((name, key));
        }
        builder.build().map_err(|error| refused(error.to_string()))
    }
}

/// A running onion service.
pub struct HostedService {
    address: OnionAddress,
    incoming: mpsc::Receiver<BoxedStream>,
    acceptor: Running<()>,
    // Dropped after the acceptor; takes the service down.
    _service: Arc<RunningOnionService>,
    // The runtime on which all of it runs.
    _client: Arc<ArtiClient>,
}

impl fmt::Debug for HostedService {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("HostedService").field("running", &!self.acceptor.is_finished()).finish_non_exhaustive()
    }
}

impl HostedService {
    /// Its address.
    #[must_use]
    pub fn address(&self) -> &OnionAddress {
        &self.address
    }

    /// The next stream to its port; `None` when the service has ended.
    pub async fn accept(&mut self) -> Option<BoxedStream> {
        self.incoming.recv().await
    }
}

impl ArtiClient {
    /// Launches an onion service. It is published once the client is bootstrapped, and reachable about a second later.
    ///
    /// # Errors
    /// When the options don't do, or the service's keys can't be made or read, or one of this nickname runs already.
    pub async fn host(self: &Arc<Self>, options: HostingOptions) -> Result<HostedService, ArtiError> {
        self.host_for(options, Arc::new(|| std::future::ready(true).boxed())).await
    }

    /// The same for those alone that `admit` lets in: it is asked before each rendezvous circuit is built.
    ///
    /// # Errors
    /// As [`ArtiClient::host`].
    pub async fn host_for(
        self: &Arc<Self>,
        options: HostingOptions,
        admit: Admission,
    ) -> Result<HostedService, ArtiError> {
        let config = options.build()?;
        let client = Arc::clone(&self.client);
        let keypair = options.key.as_ref().map(ServiceKey::arti_keypair);
        let launched = self.runtime.run(async move {
            if let Some(keypair) = keypair {
                let launched = client.launch_onion_service_with_hsid(config.clone(), keypair);
                if let Ok(found) = launched {
                    return Ok(found.map(|(service, requests)| (service, requests.boxed())));
                }
                // The key is there from an earlier start; any other trouble comes again below.
            }
            client
                .launch_onion_service(config)
                .map(|found| found.map(|(service, requests)| (service, requests.boxed())))
        });
        let refused = |reason: &str| ArtiError::Host { reason: reason.to_owned() };
        let (service, requests) = launched
            .await?
            .map_err(|error| ArtiError::Host { reason: in_words(&error) })?
            .ok_or_else(|| refused("arti says that it is switched off"))?;
        let id = service.onion_address().ok_or_else(|| refused("it has no key"))?;
        let address = OnionAddress::from_public_key(id.into());
        if options.key.is_some_and(|key| key.address() != address) {
            return Err(refused("another key is kept under its nickname"));
        }
        let (sender, incoming) = mpsc::channel(WAITING_MAX);
        let acceptor = self.runtime.run(accept_all(admitted(requests, admit), options.port, sender));
        Ok(HostedService { address, incoming, acceptor, _service: service, _client: Arc::clone(self) })
    }
}

/// Those requests for a rendezvous that are let in; the others are told nothing.
fn admitted(
    requests: impl Stream<Item = RendRequest> + Send,
    admit: Admission,
) -> impl Stream<Item = RendRequest> + Send {
    requests.filter_map(move |request| {
        let admitted = admit();
        async move {
            if admitted.await {
                return Some(request);
            }
            // An error means that it is over already.
            let _over = request.reject().await;
            None
        }
    })
}

async fn accept_all(requests: impl Stream<Item = RendRequest> + Send, port: u16, sender: mpsc::Sender<BoxedStream>) {
    let slots = Arc::new(Semaphore::new(STREAMS_MAX));
    let mut requests = std::pin::pin!(handle_rend_requests(requests));
    let mut accepting = JoinSet::new();
    while let Some(request) = requests.next().await {
        while accepting.try_join_next().is_some() {}
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        accepting.spawn(accept_one(request, port, slot, sender.clone()));
    }
}

async fn accept_one(request: StreamRequest, port: u16, slot: OwnedSemaphorePermit, sender: mpsc::Sender<BoxedStream>) {
    let wanted = matches!(request.request(), IncomingStreamRequest::Begin(begin) if begin.port() == port);
    if !wanted {
        // Whoever tries other ports scans; the circuit goes. An error means that it has gone already.
        let _gone = request.shutdown_circuit();
        return;
    }
    match request.accept(Connected::new_empty()).await {
        // An error: nobody accepts any more, and the stream closes.
        Ok(stream) => drop(sender.send(Box::new(Slotted { stream, _slot: slot })).await),
        Err(error) => tracing::debug!(%error, "a stream to the onion service ended before it was accepted"),
    }
}

/// A stream that holds one of the service's [`STREAMS_MAX`] places.
struct Slotted<S> {
    stream: S,
    _slot: OwnedSemaphorePermit,
}

impl<S: AsyncRead + Unpin> AsyncRead for Slotted<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Slotted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::adapters::arti::ClientKey;

    #[test]
    fn options_are_checked() {
        HostingOptions::named("receiver").build().unwrap();
        let line = ClientKey::from_secret([9; 32]).public_line();
        let with = |clients: Vec<String>| HostingOptions { authorized_clients: clients, ..HostingOptions::named("r") };
        with(vec![line.clone(), line.clone()]).build().unwrap();
        assert!(with(vec!["descriptor:x25519:short".to_owned()]).build().unwrap_err().to_string().contains("client 1"));
        with(vec![line; CLIENTS_MAX + 1]).build().unwrap_err();
        assert!(HostingOptions::named("../x").build().unwrap_err().to_string().contains("nickname"));
    }
}
