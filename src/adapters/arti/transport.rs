//! arti as the [`Transport`] of deliveries: lanes over circuits of their own isolation.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tidegate_actors::ports::transport::{Isolation, Lane, Target, Transport};
use tidegate_schemas::clock::ConsensusTimes;
use tidegate_schemas::outcome::DeliveryError;
use tidegate_schemas::view::UplinkStatus;

use super::keys::ClientKey;
use super::lazy::LazyArti;
use crate::adapters::http_lane::HttpLane;

/// Deliveries through the Tor client of this process.
#[derive(Debug, Clone)]
pub struct ArtiTransport {
    client: Arc<LazyArti>,
}

impl ArtiTransport {
    /// Delivers through this client.
    #[must_use]
    pub fn new(client: Arc<LazyArti>) -> Self {
        Self { client }
    }
}

impl Transport for ArtiTransport {
    fn name(&self) -> &'static str {
        "arti"
    }

    fn status(&self) -> UplinkStatus {
        self.client.status()
    }

    fn consensus(&self) -> Option<ConsensusTimes> {
        self.client.client()?.consensus()
    }

    fn bootstrap(&self) -> BoxFuture<'static, Result<(), String>> {
        let client = Arc::clone(&self.client);
        Box::pin(async move { client.bootstrap().await.map_err(|error| error.to_string()) })
    }

    fn open(&self, target: Target, isolation: Isolation) -> BoxFuture<'static, Result<Box<dyn Lane>, DeliveryError>> {
        let client = self.client.client();
        Box::pin(async move {
            let client = client.ok_or(DeliveryError::UplinkNotReady)?;
            let Target { destination, endpoint, client_auth } = target;
            let key = client_auth.map(ClientKey::from_secret);
            let (stream, circuit) = client.connect_on(endpoint.clone(), isolation, key).await.inspect_err(|error| {
                tracing::debug!(%destination, %error, "no lane");
            })?;
            let lane = HttpLane::open(stream, &endpoint, client.runtime.handle()).await?.on_circuit(circuit);
            Ok(Box::new(lane) as Box<dyn Lane>)
        })
    }
}
