//! How onion services are reached. Two adapters: arti in the process, or the SOCKS port of a system tor.

use futures_util::future::BoxFuture;
use std::fmt;
use tidegate_schemas::{
    agreement::Destination,
    clock::ConsensusTimes,
    id::DestinationId,
    onion::OnionEndpoint,
    outcome::DeliveryError,
    view::UplinkStatus,
    wire::{WireAnswer, WireRequest},
};

/// Where a lane leads.
#[derive(Clone)]
pub struct Target {
    /// The alias, for logs.
    pub destination: DestinationId,
    /// The onion service.
    pub endpoint: OnionEndpoint,
    /// x25519 secret of onion client authorization, if the service asks for it.
    pub client_auth: Option<[u8; 32]>,
}
impl From<&Destination> for Target {
    fn from(destination: &Destination) -> Self {
        let Destination { id, endpoint, keys, .. } = destination;
        Self { destination: id.clone(), endpoint: endpoint.clone(), client_auth: keys.client_auth }
    }
}
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("destination", &self.destination).finish_non_exhaustive()
    }
}

/// What keeps circuits apart: only lanes of an equal isolation may share one (PR-3). A lane that failed gets a new nonce, because
/// a new attempt on the old isolation would join the circuit that is stuck.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Isolation(pub [u8; 16]);

/// A circuit to an onion service, named within this process: equal names are one circuit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CircuitId(pub String);

/// A circuit with its keep-alive HTTP/1.1 connection.
pub trait Lane: Send {
    /// One request and its answer, at most `ANSWER_BYTES_MAX` of it. Redirects are answers like any other.
    ///
    /// The caller sets the deadline by dropping the future: whatever still runs for it is aborted.
    fn exchange<'a>(&'a mut self, request: WireRequest) -> BoxFuture<'a, Result<WireAnswer, DeliveryError>>;

    /// Whether the connection is still there, as far as one can know without asking.
    fn is_open(&self) -> bool;

    /// The circuit that it runs on; none where the transport can't tell (a system tor does not say).
    fn circuit(&self) -> Option<CircuitId>;
}

/// The way to onion services. Opened once in a process and owned by its adapter.
pub trait Transport: Send + Sync + 'static {
    /// What it is, in words: `arti`, `system tor`.
    fn name(&self) -> &'static str;

    /// How it stands now.
    fn status(&self) -> UplinkStatus;

    /// The times of the newest consensus, which tell how late it is; absent where there is none yet, or nobody tells.
    fn consensus(&self) -> Option<ConsensusTimes>;

    /// Connects to the Tor network; returns when onion services can be reached, or with the reason in words.
    fn bootstrap(&self) -> BoxFuture<'static, Result<(), String>>;

    /// Opens a lane. The caller sets the deadline by dropping the future: whatever still runs for it is aborted.
    fn open(&self, target: Target, isolation: Isolation) -> BoxFuture<'static, Result<Box<dyn Lane>, DeliveryError>>;
}
