//! One private Tor network for all the tests of a run.
//!
//! It lives in cargo's folder for tests' files, so the next run starts it again on the same keys and ports, in a fraction of
//! the time. It ends with this process. When another run has the folder, this one gets a temporary one.

use std::path::PathBuf;
use std::sync::Arc;

use tidegate::lab::{LabError, TorNetwork, TorNetworkOptions};
use tokio::sync::OnceCell;

/// The network, started by the first test that asks.
pub async fn network() -> Arc<TorNetwork> {
    static NETWORK: OnceCell<Arc<TorNetwork>> = OnceCell::const_new();
    let start = async {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("tor-network");
        let kept = TorNetworkOptions { folder: Some(folder), ..TorNetworkOptions::default() };
        let network = match TorNetwork::start_async(kept).await {
            Err(LabError::InUse { .. }) => TorNetwork::start_async(TorNetworkOptions::default()).await,
            other => other,
        };
        Arc::new(network.unwrap())
    };
    Arc::clone(NETWORK.get_or_init(|| start).await)
}

/// Runs a blocking step of the lab off the test's own thread.
pub async fn on_network<T: Send + 'static>(step: impl FnOnce(&TorNetwork) -> T + Send + 'static) -> T {
    let network = network().await;
    tokio::task::spawn_blocking(move || step(&network)).await.unwrap()
}
