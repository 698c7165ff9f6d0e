//! HTTP/1.1 on whatever brings connections: a loopback listener, or the streams of an onion service.
//!
//! Limits: connections at once, bytes and time of a request's head; the application bounds the bodies. A connection whose peer has
//! shown no right within a short time is ended, so that strangers who say nothing can't keep a gateway out; one that is known may
//! idle between requests, as a gateway's lane does. No `date` and no `server` in an answer. At the end connections finish what is under way, within [`CLOSING_TIME_MAX`].

use super::{ReceiverLimits, app::App};
use futures_util::{StreamExt, stream, stream::BoxStream};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::{Semaphore, watch},
    task::JoinSet,
};

/// Most bytes of a request's head.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Most headers of a request.
const HEADERS_MAX: usize = 64;
/// How long a connection may take for the head of its next request; a gateway's idle lane lives as long.
const HEAD_TIME_MAX: Duration = Duration::from_secs(300);
/// How long a stranger's connection may take to finish what is under way when its time is over.
const STRANGER_END_MAX: Duration = Duration::from_secs(5);
/// How long connections may take to finish at the end.
const CLOSING_TIME_MAX: Duration = Duration::from_secs(5);
/// Pause after a failed accept (no file descriptors left, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Bytes in both directions.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Duplex for T {}

/// A connection that someone opened to the receiver.
pub type Connection = Box<dyn Duplex>;

/// Where connections come from.
pub struct Entrance(BoxStream<'static, Connection>);

/// The address is not loopback.
#[derive(Debug, thiserror::Error)]
pub enum EntranceError {
    /// The receiver's page would be open to the network.
    #[error("the receiver listens on loopback only, not on {0}: put a system tor or a reverse proxy with TLS in front")]
    NotLoopback(SocketAddr),
    /// Binding failed.
    #[error("listening on {address} failed: {source}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// The system's words.
        source: std::io::Error,
    },
}

impl Entrance {
    /// A listener on loopback, and the address that it got (port 0 asks for a free one).
    ///
    /// # Errors
    /// [`EntranceError`] if the address is not loopback or not free.
    pub async fn loopback(address: SocketAddr) -> Result<(Self, SocketAddr), EntranceError> {
        if !address.ip().is_loopback() {
            return Err(EntranceError::NotLoopback(address));
        }
        let bind = async {
            let listener = TcpListener::bind(address).await?;
            let bound = listener.local_addr()?;
            Ok((listener, bound))
        };
        let (listener, bound) = bind.await.map_err(|source| EntranceError::Bind { address, source })?;
        let connections = stream::unfold(listener, |listener| async move {
            loop {
                match listener.accept().await {
                    Ok((connection, _)) => {
                        // Answers are small; waiting to fill a packet only delays them.
                        let _ = connection.set_nodelay(true);
                        return Some((Box::new(connection) as Connection, listener));
                    }
                    Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
                }
            }
        });
        Ok((Self(connections.boxed()), bound))
    }

    /// Connections that something else accepts, such as the onion service of this process. The stream's end closes the entrance.
    #[must_use]
    pub fn streams(connections: impl stream::Stream<Item = Connection> + Send + 'static) -> Self {
        Self(connections.boxed())
    }
}

/// The peer of a connection; it is known once a request of its showed a right to write or to read. Travels with each request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Peer(Arc<AtomicBool>);

impl Peer {
    /// The peer that sent a request.
    pub(crate) fn of<B>(request: &Request<B>) -> Self {
        request.extensions().get().cloned().unwrap_or_default()
    }

    /// It showed a right.
    pub(crate) fn is_known(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Ready when the time is over in which a stranger may become known, if this one has not.
    async fn overstays(&self, limit: Duration) {
        tokio::time::sleep(limit).await;
        if self.0.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }
}

/// Ready when the receiver ends.
pub(crate) async fn closed(closing: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which is the end as well.
    let _ = closing.wait_for(|closing| *closing).await;
}

/// Serves connections until the end is announced or all entrances are closed.
pub(crate) async fn serve(
    app: Arc<App>,
    entrances: Vec<Entrance>,
    limits: ReceiverLimits,
    mut closing: watch::Receiver<bool>,
) {
    let mut connections = stream::select_all(entrances.into_iter().map(|entrance| entrance.0));
    let slots = Arc::new(Semaphore::new(limits.connections_max));
    let mut running = JoinSet::new();
    loop {
        // A slot first: when all are taken, new connections wait outside.
        let next = async {
            let slot = slots.clone().acquire_owned().await.ok()?;
            Some((slot, connections.next().await?))
        };
        let next = tokio::select! {
            () = closed(&mut closing) => None,
            next = next => next,
        };
        let Some((slot, connection)) = next else { break };
        let (app, closing) = (app.clone(), closing.clone());
        running.spawn(async move {
            serve_connection(app, connection, limits.stranger_time, closing).await;
            drop(slot);
        });
        while running.try_join_next().is_some() {}
    }
    let finished = async { while running.join_next().await.is_some() {} };
    if tokio::time::timeout(CLOSING_TIME_MAX, finished).await.is_err() {
        running.shutdown().await;
    }
}

async fn serve_connection(
    app: Arc<App>,
    connection: Connection,
    stranger_time: Duration,
    mut closing: watch::Receiver<bool>,
) {
    let peer = Peer::default();
    let service = service_fn(|mut request: Request<Incoming>| {
        let app = app.clone();
        request.extensions_mut().insert(peer.clone());
        async move { Ok::<_, Infallible>(app.handle(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .auto_date_header(false)
        .serve_connection(TokioIo::new(connection), service);
    let mut connection = pin!(connection);
    tokio::select! {
        // How a connection of a stranger ends is no event of ours.
        _ = connection.as_mut() => {}
        () = closed(&mut closing) => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
        () = peer.overstays(stranger_time) => {
            connection.as_mut().graceful_shutdown();
            let _ = tokio::time::timeout(STRANGER_END_MAX, connection).await;
        }
    }
}
