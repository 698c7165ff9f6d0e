//! Signals over Tor: an onion service of the gateway's for each destination that may say "ready" or "not now".
//!
//! One service a destination, so that two destinations have nothing in common to compare (DESIGN decision 14): each has an address of its own,
//! and its descriptor can be read by the one client key that `tidegate destination signal-key` printed (restricted discovery). What is
//! heard there is believed when it is signed by that destination's receipt key and its number was not heard before; it is then the
//! Outbox's to honour or not, as any other signal is. A signal opens nothing but the destination's window: where data goes is the
//! config's word alone.
//!
//! Off by default. It stands beside the list, on a thread of its own, and lives as long as the process: every `LOOK_EVERY` it looks at the keys in
//! the state folder, at what the Registry has in force and at the Tor client, and starts and ends services accordingly. Nothing of it can
//! fall into intake or deliveries; a service that can't be hosted is tried again after a growing pause, up to `PAUSE_MAX`.
//!
//! Each rendezvous that a destination asks for is a circuit that it makes us build, so it is counted in that destination's Tor budget and
//! not built beyond it (DESIGN decision 13).
//!
//! **What is shared.** The services run in the Tor client that delivers: they share its guards and vanguards (a second set would let
//! more relays see this machine), its directory, and its pool of half-built circuits that were never used. They never share a circuit: each
//! introduction and each rendezvous is built for one service and carries nothing else. All of them come and go with this process.

pub mod keys;

mod serve;

use crate::{
    adapters::arti::{ArtiClient, HostingOptions, LazyArti},
    admin::access::{Reach, ask},
};
use keys::{SignalKeys, SignalKeysError};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::PathBuf,
    sync::{Arc, Weak},
    thread,
    time::Duration,
};
use tidegate_actors::ports::entropy::Entropy;
use tidegate_schemas::{
    id::DestinationId,
    messages::registry::{Current, RegistrySnapshot},
    view::UplinkStatus,
};
use tokio::{
    sync::{oneshot, watch},
    task::AbortHandle,
    time::{Instant, sleep, timeout},
};

/// How often keys, agreements and the Tor client are looked at. Well below the time after which arti ends a process that is too old.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// First pause after a service could not be hosted.
const PAUSE_MIN: Duration = Duration::from_secs(4);
/// Longest such pause.
const PAUSE_MAX: Duration = Duration::from_secs(600);
/// Longest that the end may take.
const STOP_MAX: Duration = Duration::from_secs(3);

/// What it needs.
#[derive(Clone)]
pub struct Settings {
    /// Where the keys are.
    pub state_dir: PathBuf,
    /// The Tor client.
    pub tor: Arc<LazyArti>,
    /// The way to the actors.
    pub reach: Reach,
    /// For the delays of the answers.
    pub entropy: Arc<dyn Entropy>,
}

/// The services, while they run.
#[derive(Debug)]
pub struct SignalService {
    stop: watch::Sender<bool>,
    ended: oneshot::Receiver<()>,
}

impl SignalService {
    /// Takes all services down and lets go of the Tor client.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        // An error means that the thread has ended already.
        if timeout(STOP_MAX, self.ended).await.is_err() {
            tracing::warn!("the onion services for signals did not end in time");
        }
    }
}

/// Starts looking for destinations to host a service for.
///
/// # Errors
/// When the system has no thread to give.
pub fn start(settings: Settings) -> io::Result<SignalService> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (stop, stopping) = watch::channel(false);
    let (done, ended) = oneshot::channel();
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(Host::new(settings).run(stopping));
        drop(runtime);
        let _ = done.send(());
    })?;
    Ok(SignalService { stop, ended })
}

/// A service that runs; dropping it takes it down.
struct Hosted {
    keys: SignalKeys,
    task: AbortHandle,
}
impl Drop for Hosted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Why a service is not tried again yet.
struct Pause {
    until: Instant,
    length: Duration,
}

struct Host {
    settings: Settings,
    quota: Arc<serve::Quota>,
    /// The client on which the services run.
    client: Weak<ArtiClient>,
    hosted: BTreeMap<DestinationId, Hosted>,
    pauses: BTreeMap<DestinationId, Pause>,
    /// What was told once.
    told: BTreeSet<String>,
}

impl Host {
    fn new(settings: Settings) -> Self {
        let quota = Arc::new(serve::quota_of_all());
        let (hosted, pauses, told) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        Self { settings, quota, client: Weak::new(), hosted, pauses, told }
    }

    async fn run(mut self, mut stopping: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                _ = stopping.wait_for(|stop| *stop) => return,
                () = self.look() => {}
            }
            tokio::select! {
                _ = stopping.wait_for(|stop| *stop) => return,
                () = sleep(LOOK_EVERY) => {}
            }
        }
    }

    async fn look(&mut self) {
        let client = self.settings.tor.client();
        if client.as_ref().is_none_or(|client| !std::ptr::eq(Arc::as_ptr(client), self.client.as_ptr())) {
            // A client that was given up must not be kept alive by its services.
            self.hosted.clear();
            self.client = client.as_ref().map(Arc::downgrade).unwrap_or_default();
        }
        let Some(client) = client.filter(|client| client.status() == UplinkStatus::Ready) else { return };
        let access = self.settings.reach.look().access;
        // While the Registry restarts, all stays as it is.
        let Ok(registry) = ask(access.current.as_ref(), Current).await else { return };
        let wanted = self.wanted(&registry).await;
        self.hosted.retain(|alias, hosted| wanted.get(alias) == Some(&hosted.keys) && !hosted.task.is_finished());
        self.pauses.retain(|alias, _| wanted.contains_key(alias));
        for (alias, keys) in wanted {
            let paused = self.pauses.get(&alias).is_some_and(|pause| Instant::now() < pause.until);
            if !paused && !self.hosted.contains_key(&alias) {
                self.host(&client, alias, keys).await;
            }
        }
    }

    /// Destinations that have keys, accept signals, and whose signature is known.
    async fn wanted(&mut self, registry: &RegistrySnapshot) -> BTreeMap<DestinationId, SignalKeys> {
        let folder = self.settings.state_dir.clone();
        let read = tokio::task::spawn_blocking(move || keys::read_all(&folder)).await;
        let all = match read {
            Ok(Ok(all)) => all,
            Ok(Err(error)) => {
                self.tell(&error);
                return BTreeMap::new();
            }
            Err(_) => return BTreeMap::new(),
        };
        let mut wanted = BTreeMap::new();
        for (alias, keys) in all {
            let accepts = registry.destinations.get(&alias).is_some_and(|registered| {
                let destination = &registered.destination;
                destination.agreement.signal.accept && destination.keys.receipt_key.is_some()
            });
            match keys {
                Ok(keys) if accepts => drop(wanted.insert(alias, keys)),
                Ok(_) => {}
                Err(error) => self.tell(&error),
            }
        }
        wanted
    }

    fn tell(&mut self, error: &SignalKeysError) {
        if self.told.len() < keys::SERVICES_MAX && self.told.insert(error.to_string()) {
            tracing::warn!(%error, "a destination can't signal over Tor");
        }
    }

    async fn host(&mut self, client: &Arc<ArtiClient>, alias: DestinationId, keys: SignalKeys) {
        let address = keys.service.address();
        let options = HostingOptions {
            key: Some(keys.service.clone()),
            authorized_clients: vec![keys.client.clone()],
            streams_per_circuit_max: 2,
            // A new key is a new service.
            ..HostingOptions::named(format!("signal-{alias}-{}", &address.reveal()[..8]))
        };
        let admit = serve::admission(alias.clone(), self.settings.reach.clone());
        match client.host_for(options, admit).await {
            Ok(service) => {
                tracing::info!(destination = %alias, "its signals are heard over Tor");
                let ear = serve::Ear {
                    destination: alias.clone(),
                    address,
                    reach: self.settings.reach.clone(),
                    entropy: Arc::clone(&self.settings.entropy),
                    quota: Arc::clone(&self.quota),
                };
                let task = tokio::spawn(serve::serve(service, ear)).abort_handle();
                self.pauses.remove(&alias);
                self.hosted.insert(alias, Hosted { keys, task });
            }
            Err(error) => {
                let length = self.pauses.get(&alias).map_or(PAUSE_MIN, |pause| (pause.length * 2).min(PAUSE_MAX));
                tracing::warn!(destination = %alias, %error, pause = ?length, "its signals can't be heard over Tor; it is tried again");
                self.pauses.insert(alias, Pause { until: Instant::now() + length, length });
            }
        }
    }
}
