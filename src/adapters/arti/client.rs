//! The one Tor client of a process: its life, its status, and streams to onion services.
//!
//! [`ArtiClient::open`] makes it (folders and locks, no network), [`ArtiClient::bootstrap`] connects it to the Tor
//! network and may be called again after a failure, [`ArtiClient::connect`] opens a stream to an onion service. Dropping
//! the last reference ends its runtime with everything on it, the hosted services included.
//!
//! **Too old for the network.** When a new consensus asks for something that this arti lacks, arti ends the process: exit code 1, five
//! seconds after it said so. That is a crash like any other. By then it has noted the demand in its cache, and it looks there before it
//! touches the network, so on the next start the bootstrap alone fails ([`ArtiError::Obsolete`]) and everything else goes on.
//!
//! Limits: a connect takes at most [`CONNECT_LIMIT`], a bootstrap call [`BOOTSTRAP_LIMIT`]. Of two callers that give one
//! onion address different client authorization keys the later wins.

use std::collections::HashMap;
use std::fmt;
use std::fs::{DirBuilder, File, TryLockError};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arti_client::config::BoolOrAuto;
use arti_client::isolation::IsolationHelper;
use arti_client::{BootstrapBehavior, HasKind as _, StreamPrefs, TorClient};
use jiff::Timestamp;
use tidegate_actors::ports::transport::{CircuitId, Isolation};
use tidegate_schemas::clock::ConsensusTimes;
use tidegate_schemas::onion::{OnionAddress, OnionEndpoint};
use tidegate_schemas::outcome::DeliveryError;
use tidegate_schemas::view::UplinkStatus;
use tor_hscrypto::pk::HsId;
use tor_keymgr::KeystoreSelector;
use tor_proto::client::stream::ClientStreamCtrl as _;
use tor_rtcompat::PreferredRuntime;

use super::config::ArtiSettings;
use super::consensus;
use super::errors::{ArtiError, classify};
use super::keys::ClientKey;
use super::runtime::TorRuntime;
use crate::adapters::http_lane::BoxedStream;

/// The longest that one connect may take, whatever its caller allows.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(120);
/// The longest that one bootstrap call waits; arti goes on trying in the background.
pub const BOOTSTRAP_LIMIT: Duration = Duration::from_secs(120);
/// How often readiness is looked at after a bootstrap.
const READY_POLL: Duration = Duration::from_millis(50);
/// How long the end of a client may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);
/// Onion addresses whose key in the key store is remembered; past that the memory starts anew.
const KEYS_REMEMBERED_MAX: usize = 4_096;
/// The lock in the state folder.
const LOCK_FILE: &str = "tidegate.lock";

/// Keeps circuits apart: streams of different values never share one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Apart(Isolation);

impl IsolationHelper for Apart {
    fn compatible_same_type(&self, other: &Self) -> bool {
        self == other
    }

    fn join_same_type(&self, other: &Self) -> Option<Self> {
        (self == other).then(|| self.clone())
    }
}

/// Where the client is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    Opened,
    Bootstrapping,
    Bootstrapped,
    Failed(String),
    Obsolete,
}

/// A Tor client with the runtime that it lives on.
pub struct ArtiClient {
    pub(super) client: Arc<TorClient<PreferredRuntime>>,
    phase: Mutex<Phase>,
    /// The public key that the key store holds for an address, as far as we have looked.
    keys: Mutex<HashMap<OnionAddress, Option<[u8; 32]>>>,
    /// When the newest consensus that was in the cache before us begins.
    cached: Option<Timestamp>,
    pub(super) runtime: TorRuntime,
    /// Held while we live, and let go when all of the above is gone.
    _lock: File,
}

impl fmt::Debug for ArtiClient {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("ArtiClient").field("phase", &*lock(&self.phase)).finish_non_exhaustive()
    }
}

/// Makes the state folder, and keeps other processes out of it. (arti would go on without being able to write.)
fn lock_folder(folder: &Path) -> Result<File, ArtiError> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let lock = File::create(folder.join(LOCK_FILE))?;
    lock.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => ArtiError::InUse,
        TryLockError::Error(error) => error.into(),
    })?;
    Ok(lock)
}

/// Nothing that these locks guard is ever half-changed, so a panic elsewhere spoils nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ArtiClient {
    /// Makes the client: folders, locks, keys. Doesn't touch the network.
    ///
    /// # Errors
    /// When the settings, the folders or their permissions don't do, or another process has them.
    pub async fn open(settings: ArtiSettings) -> Result<Arc<Self>, ArtiError> {
        let config = settings.build()?;
        let lock = lock_folder(&settings.state_folder)?;
        // arti panics without one. An error means that this process has one already, which is as good.
        let _installed_before = rustls::crypto::ring::default_provider().install_default();
        let runtime = TorRuntime::start()?;
        let cache = settings.cache_folder;
        let cached = runtime.run(async move { consensus::newest_in_cache(&cache) }).await?.unwrap_or_else(|error| {
            tracing::warn!(%error, "Tor's cache could not be read: Tor does not vouch for the wall clock");
            Some(Timestamp::MAX)
        });
        let client = runtime.run(async move {
            let builder = TorClient::with_runtime(PreferredRuntime::current()?)
                .config(config)
                // A stream that is asked for too early fails at once, as it should: the caller waits for its bell.
                .bootstrap_behavior(BootstrapBehavior::Manual);
            builder.create_unbootstrapped_async().await.map_err(|error| ArtiError::start(&error))
        });
        let client = client.await??;
        Ok(Arc::new(Self {
            client,
            phase: Mutex::new(Phase::Opened),
            keys: Mutex::default(),
            cached,
            runtime,
            _lock: lock,
        }))
    }

    /// Ends the client in order: what it learned of relays and circuits is written before this returns, and its folders
    /// are free. Does nothing while somebody else holds the client; a client that is merely dropped ends soon after.
    pub async fn close(self: Arc<Self>) {
        let Some(Self { client, runtime, _lock, .. }) = Arc::into_inner(self) else { return };
        let stopped = client.wait_for_stop();
        drop(client);
        if tokio::time::timeout(CLOSE_LIMIT, stopped).await.is_err() {
            tracing::warn!("the Tor client did not end in time; what it learned last may be lost");
        }
        drop(runtime);
    }

    /// Connects to the Tor network; returns when onion services can be reached.
    ///
    /// # Errors
    /// When it can't within [`BOOTSTRAP_LIMIT`]; it may be called again.
    pub async fn bootstrap(&self) -> Result<(), ArtiError> {
        *lock(&self.phase) = Phase::Bootstrapping;
        let client = Arc::clone(&self.client);
        let attempt = self.runtime.run(async move {
            tokio::time::timeout(BOOTSTRAP_LIMIT, async {
                client.bootstrap().await?;
                // arti returns a moment before it counts itself ready for traffic.
                while !client.bootstrap_status().ready_for_traffic() {
                    tokio::time::sleep(READY_POLL).await;
                }
                Ok(())
            })
            .await
        });
        let result = match attempt.await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(error))) => Err(ArtiError::bootstrap(&error)),
            Ok(Err(_elapsed)) => {
                let seconds = BOOTSTRAP_LIMIT.as_secs();
                let reason = format!("not within {seconds} s ({})", self.client.bootstrap_status());
                Err(ArtiError::Bootstrap { reason })
            }
            Err(ended) => Err(ended.into()),
        };
        *lock(&self.phase) = match &result {
            Ok(()) => Phase::Bootstrapped,
            Err(ArtiError::Obsolete) => Phase::Obsolete,
            Err(error) => Phase::Failed(error.to_string()),
        };
        result
    }

    /// How it stands now.
    #[must_use]
    pub fn status(&self) -> UplinkStatus {
        let phase = lock(&self.phase).clone();
        match phase {
            Phase::Opened => UplinkStatus::Starting,
            Phase::Failed(reason) => UplinkStatus::Failed { reason },
            Phase::Obsolete => UplinkStatus::Obsolete { reason: ArtiError::Obsolete.to_string() },
            Phase::Bootstrapped if self.client.bootstrap_status().ready_for_traffic() => UplinkStatus::Ready,
            // It was bootstrapped, and lost its connection or let its directory expire.
            Phase::Bootstrapped | Phase::Bootstrapping => {
                let status = self.client.bootstrap_status();
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0..=100")]
                let percent = (status.as_frac() * 100.0).clamp(0.0, 100.0) as u8;
                let doing = status.blocked().map_or_else(|| status.to_string(), |blockage| blockage.to_string());
                UplinkStatus::Bootstrapping { percent, doing }
            }
        }
    }

    /// The times of the newest consensus; absent until it has been bootstrapped.
    #[must_use]
    pub fn consensus(&self) -> Option<ConsensusTimes> {
        // Before that arti may hold its own lock for a while.
        if *lock(&self.phase) != Phase::Bootstrapped {
            return None;
        }
        consensus::times(&*self.client.dirmgr().ok()?, self.cached)
    }

    /// Opens a stream to an onion service. `client_key` is the secret for a service with client authorization.
    ///
    /// # Errors
    /// How the attempt failed, within [`CONNECT_LIMIT`]. After a failure the caller takes another isolation.
    pub async fn connect(
        self: &Arc<Self>,
        endpoint: OnionEndpoint,
        isolation: Isolation,
        client_key: Option<ClientKey>,
    ) -> Result<BoxedStream, DeliveryError> {
        self.connect_on(endpoint, isolation, client_key).await.map(|(stream, _)| stream)
    }

    /// As [`Self::connect`], with the circuit that the stream runs on; none if it has gone already.
    ///
    /// # Errors
    /// The same.
    pub async fn connect_on(
        self: &Arc<Self>,
        endpoint: OnionEndpoint,
        isolation: Isolation,
        client_key: Option<ClientKey>,
    ) -> Result<(BoxedStream, Option<CircuitId>), DeliveryError> {
        let this = Arc::clone(self);
        let attempt = self.runtime.run(async move {
            this.set_client_key(&endpoint.address, client_key.as_ref()).map_err(|error| {
                tracing::warn!(%error, "an onion service can't be reached");
                DeliveryError::Internal
            })?;
            let mut prefs = StreamPrefs::new();
            prefs.connect_to_onion_services(BoolOrAuto::Explicit(true)).set_isolation(Apart(isolation));
            let host = endpoint.address.reveal();
            let connect = this.client.connect_with_prefs((host.as_str(), endpoint.port), &prefs);
            match tokio::time::timeout(CONNECT_LIMIT, connect).await {
                Ok(Ok(stream)) => {
                    let tunnel = stream.client_stream_ctrl().and_then(|control| control.tunnel());
                    let circuit = tunnel.map(|tunnel| CircuitId(tunnel.unique_id().to_string()));
                    Ok((Box::new(stream) as BoxedStream, circuit))
                }
                Ok(Err(error)) => {
                    tracing::debug!(kind = ?error.kind(), "a connect to an onion service failed");
                    Err(classify(&error))
                }
                Err(_elapsed) => Err(DeliveryError::ConnectTimeout),
            }
        });
        attempt.await.unwrap_or(Err(DeliveryError::Internal))
    }

    /// Makes `key` the client authorization key for this service, or removes the one there is. Takes effect at once, and
    /// lasts over restarts. Blocks for a file operation when something changes.
    ///
    /// # Errors
    /// When the key store can't be read or written.
    pub fn set_client_key(&self, service: &OnionAddress, key: Option<&ClientKey>) -> Result<(), ArtiError> {
        let failed = |error: arti_client::Error| ArtiError::Keys { reason: super::errors::in_words(&error) };
        let wanted = key.map(|key| *key.arti_public().as_ref().as_bytes());
        let mut known = lock(&self.keys);
        if known.get(service) == Some(&wanted) {
            return Ok(());
        }
        let id: HsId = service.reveal().parse().map_err(|_invalid| ArtiError::Keys {
            // A valid checksum around a point that isn't on the curve.
            reason: "the onion address is no valid public key".to_owned(),
        })?;
        let stored = self.client.get_service_discovery_key(id).map_err(failed)?;
        if stored.map(|key| *key.as_ref().as_bytes()) != wanted {
            self.client.remove_service_discovery_key(KeystoreSelector::Primary, id).map_err(failed)?;
            if let Some(key) = key {
                self.client
                    .insert_service_discovery_key(KeystoreSelector::Primary, id, key.arti_secret())
                    .map_err(failed)?;
            }
        }
        if known.len() >= KEYS_REMEMBERED_MAX {
            known.clear();
        }
        known.insert(service.clone(), wanted);
        Ok(())
    }
}
