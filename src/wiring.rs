//! Wiring: from a checked config to a running gateway.
//!
//! Two phases. First everything that is opened once in a process (store, Tor client, broker, room) and the bells; then the list of
//! actors, and the endpoints beside it. What is opened here outlives every restart of an actor.
//!
//! What is read from the disk is read off the System thread, whose heartbeat would end the process otherwise: an outbox that was not
//! closed in order is read through, which takes a while on a slow disk. Nothing of Tor is opened here: see
//! [`LazyArti`].

use crate::{
    adapters::{
        arti::{ArtiSettings, ArtiTransport, LazyArti},
        chain_files::{ChainFiles, ChainOptions},
        destination_files::DestinationFiles,
        disk_store::{DiskOptions, DiskStore, OUTBOX_FOLDER, engine_in, set_aside},
        embedded_broker::{BrokerSpec, EmbeddedBroker},
        matrix::MatrixRoom,
        mqtt::{self, MqttSource},
        registry_file::RegistryFile,
        socks::SocksTransport,
        system_clock::SystemClock,
        system_entropy::SystemEntropy,
    },
    admin::{self, access::Reach, listener::Serving, token::AdminToken},
    audit::AuditLog,
    cli::config_files,
    device_endpoint,
    reload::{Origin, Reloader},
    signal_service::{self, SignalService},
};
use anyhow::Context as _;
use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};
use tidegate_actors::{
    handles::Handles,
    list::{self, Parts},
    outbox::{Lease, Limits, OutboxParts, restored},
    ports::{
        clock::Clock, entropy::Entropy, ledger_archive::LedgerArchive, outbox_store::OutboxStore,
        registry_store::RegistryStore as _, room::Room, source::Source, transport::Transport,
    },
    registry::{DeclaredCell, RegistryParts},
    supervision::{Bells, Gateway, GatewayRun},
};
use tidegate_schemas::{
    chain::Chain,
    clock::TrustPolicy,
    config::{
        devices::DEVICES_FILE,
        file::{Config, MatrixConfig, MqttConfig, OnCorrupt, TorTransport},
    },
    messages::outbox::StoreError,
};
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

/// How often it is told that the state folder is still being opened.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// Longest that requests under way at the device endpoint may take to end.
const ENDPOINT_MAX: Duration = Duration::from_secs(3);
/// Longest that the store may take to be closed.
const STORE_MAX: Duration = Duration::from_secs(10);

/// A gateway that runs.
pub struct Started {
    /// The supervisor's end and address.
    pub gateway: GatewayRun<Handles>,
    /// Reads the config again.
    pub reloader: Arc<Reloader>,
    /// Rung by an operator who wants it to end in order.
    pub drain: Arc<Notify>,
    broker: Option<EmbeddedBroker>,
    device_endpoint: Option<Serving>,
    admin: Option<Serving>,
    signals: Option<SignalService>,
    tor: Option<Arc<LazyArti>>,
    store: Arc<DiskStore>,
}

impl Started {
    /// Closes what brings new messages from outside the list: the device endpoint and the embedded broker.
    pub async fn close_intake(&mut self) {
        if let Some(endpoint) = self.device_endpoint.take()
            && timeout(ENDPOINT_MAX, endpoint.stop(true)).await.is_err()
        {
            tracing::warn!("a request at the device endpoint did not end in time: it gets no answer");
        }
        if let Some(broker) = self.broker.take() {
            broker.stop().await;
        }
    }

    /// Closes the admin endpoint, the onion services for signals, the Tor client and the store, last. A store that was closed is opened without reading it
    /// through. False when the store is still at it after a while: then it holds up the end of the process, too.
    pub async fn close(&mut self) -> bool {
        if let Some(admin) = self.admin.take() {
            admin.stop(false).await;
        }
        // It holds the Tor client.
        if let Some(signals) = self.signals.take() {
            signals.stop().await;
        }
        if let Some(tor) = self.tor.take() {
            tor.close().await;
        }
        let store = Arc::clone(&self.store);
        match timeout(STORE_MAX, tokio::task::spawn_blocking(move || store.close())).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => {
                tracing::warn!(%error, "the outbox was not closed in order; the next start reads it through")
            }
            Ok(Err(_)) => tracing::warn!("closing the outbox failed unexpectedly; the next start reads it through"),
            Err(_) => {
                tracing::warn!("the outbox could not be closed in time; the next start reads it through");
                return false;
            }
        }
        true
    }

    /// Whether the store can be used.
    #[cfg(test)]
    pub(crate) fn store_is_open(&self) -> bool {
        self.store.get(b"m").is_ok()
    }
}

/// Opens everything and starts the gateway, within an actix System. `origin` is where the config came from.
///
/// # Errors
/// When something that it can't work without is not to be had; the error says what to do.
pub async fn start(config: Config, origin: Origin) -> anyhow::Result<Started> {
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new(config.clock.trust));
    let files = {
        let (config, entropy, clock) = (config.clone(), Arc::clone(&entropy), Arc::clone(&clock));
        off_thread(move || open_files(&config, &*entropy, &*clock)).await?
    };
    let Files { client_id, store, registry_file, token } = files;
    let bells = Bells::default();
    let (broker, source) = open_source(&config, client_id, &entropy)?;
    let tor = open_tor(&config)?;
    let room = match &config.matrix {
        Some(matrix) => Some(open_room(matrix, &config.state_dir, &tor)?),
        None => None,
    };
    let parts = Parts {
        registry: RegistryParts {
            declared: DeclaredCell::new(Mutex::new(Arc::new(config.declared()))),
            store: Arc::new(registry_file),
            check: Arc::new(DestinationFiles {
                base_dir: config_files::base_dir(&origin.path).to_owned(),
                state_dir: config.state_dir.clone(),
                clock: Arc::clone(&clock),
            }),
            clock: Arc::clone(&clock),
            entropy: Arc::clone(&entropy),
            bells: vec![bells.dispatcher.clone(), bells.subscriber.clone(), bells.herald.clone()],
        },
        outbox: outbox_parts(&config, &store, &outbox_clock(&clock), &entropy, &bells, room.is_some()),
        source,
        tidings: Arc::new(config.mqtt.as_ref().map(|mqtt| mqtt.tidings.clone()).unwrap_or_default()),
        signals: config.mqtt.as_ref().is_some_and(|mqtt| mqtt.signals),
        transport: tor.transport,
        room,
        bells,
        look_every: tidegate_actors::uplink::LOOK_EVERY,
    };
    let gateway =
        Gateway::start(list::children(&parts), list::options(&parts)).context("starting the list of actors")?;
    let reach = reach_of(&gateway);
    let audit = AuditLog::in_folder(&config.state_dir, config.ledger.retention_days, Arc::clone(&clock));
    audit.note("start", start_note(&config)).await;
    let reloader = Arc::new(Reloader::new(origin, &config, reach.clone(), Arc::clone(&audit)));
    let device_endpoint = match &config.http {
        Some(http) => Some(device_endpoint::start(device_endpoint::Settings {
            listen: http.listen,
            requests_per_minute: http.requests_per_minute,
            devices_file: config.state_dir.join(DEVICES_FILE),
            reach: reach.clone(),
        })?),
        None => None,
    };
    let signals = match &tor.arti {
        Some(arti) if config.signal_service => Some(signal_service::start(signal_service::Settings {
            state_dir: config.state_dir.clone(),
            tor: Arc::clone(arti),
            reach: reach.clone(),
            entropy,
        })?),
        _ => None,
    };
    let drain = Arc::new(Notify::new());
    let admin = admin::start(admin::Settings {
        listen: config.admin.listen,
        hosts: config.admin.hosts.clone(),
        token,
        audit,
        reach,
        clock,
        reloader: Some(Arc::clone(&reloader)),
        drain: Arc::clone(&drain),
        state_dir: std::path::absolute(&config.state_dir).context("finding the state folder")?,
    })?;
    Ok(Started { gateway, reloader, drain, broker, device_endpoint, admin: Some(admin), signals, tor: tor.arti, store })
}

/// What is read from the state folder before anything runs.
struct Files {
    /// Our id at the broker, if there is one.
    client_id: Option<String>,
    store: Arc<DiskStore>,
    registry_file: RegistryFile,
    token: AdminToken,
}

/// Blocks.
fn open_files(config: &Config, entropy: &dyn Entropy, clock: &dyn Clock) -> anyhow::Result<Files> {
    make_state_dir(&config.state_dir)?;
    let client_id = match &config.mqtt {
        Some(_) => Some(mqtt::client_id(&config.state_dir, entropy)?),
        None => None,
    };
    let token = AdminToken::open_or_create(&config.state_dir, entropy)?;
    let registry_file = RegistryFile::in_folder(&config.state_dir);
    registry_file.load().context("reading what was set at run time")?;
    let store = open_store(config, clock)?;
    Ok(Files { client_id, store, registry_file, token })
}

/// Runs blocking work on a thread of its own, and says now and then that it goes on.
async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> anyhow::Result<T> + Send + 'static) -> anyhow::Result<T> {
    let began = Instant::now();
    let mut done = tokio::task::spawn_blocking(work);
    loop {
        match timeout(TELL_EVERY, &mut done).await {
            Ok(ended) => return ended.context("opening the state folder failed unexpectedly")?,
            Err(_) => {
                let seconds = began.elapsed().as_secs();
                tracing::info!(seconds, "the outbox is still being opened: after an unclean end it is read through");
            }
        }
    }
}

fn make_state_dir(dir: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).with_context(|| {
        format!("making the state folder {}: set state_dir to a folder that may be written", dir.display())
    })
}

type Intake = (Option<EmbeddedBroker>, Option<Arc<dyn Source>>);

fn open_source(config: &Config, client_id: Option<String>, entropy: &Arc<dyn Entropy>) -> anyhow::Result<Intake> {
    let (Some(mqtt), Some(client_id)) = (&config.mqtt, client_id) else { return Ok((None, None)) };
    let broker = if mqtt.embedded { Some(start_broker(mqtt, config, &client_id, entropy)?) } else { None };
    let source = MqttSource::new(mqtt.clone(), client_id, &config.state_dir, broker.as_ref(), Arc::clone(entropy))?;
    Ok((broker, Some(Arc::new(source))))
}

fn start_broker(
    mqtt: &MqttConfig,
    config: &Config,
    client_id: &str,
    entropy: &Arc<dyn Entropy>,
) -> anyhow::Result<EmbeddedBroker> {
    let devices = config.state_dir.join(DEVICES_FILE);
    let credentials = (!config.devices.is_empty()).then_some(devices);
    let spec = BrokerSpec::of_this_program(mqtt.listen(), credentials, client_id.to_owned())?;
    Ok(EmbeddedBroker::start(spec, Arc::clone(entropy))?)
}

/// The way to Tor: as a transport for deliveries, and as a client for a homeserver behind an onion service.
struct Tor {
    transport: Arc<dyn Transport>,
    arti: Option<Arc<LazyArti>>,
}

fn open_tor(config: &Config) -> anyhow::Result<Tor> {
    match config.tor.transport {
        TorTransport::Socks(proxy) => Ok(Tor { transport: Arc::new(SocksTransport::new(proxy)?), arti: None }),
        TorTransport::Arti => {
            let client = LazyArti::new(arti_settings(config)?, &config.state_dir);
            Ok(Tor { transport: Arc::new(ArtiTransport::new(Arc::clone(&client))), arti: Some(client) })
        }
    }
}

/// In a build with the feature `testnet`, `TIDEGATE_TESTNET` names the folder of a private Tor network.
fn arti_settings(config: &Config) -> anyhow::Result<ArtiSettings> {
    let settings = ArtiSettings::below(&config.state_dir, config.tor.vanguards);
    #[cfg(feature = "testnet")]
    if let Some(folder) = std::env::var_os("TIDEGATE_TESTNET") {
        tracing::warn!("this gateway speaks to a private Tor network for tests: it gives no anonymity");
        return Ok(settings.on_testnet(crate::lab::ArtiTestSettings::load(Path::new(&folder))?));
    }
    Ok(settings)
}

fn open_room(matrix: &MatrixConfig, state_dir: &Path, tor: &Tor) -> anyhow::Result<Arc<dyn Room>> {
    Ok(Arc::new(MatrixRoom::open(matrix, state_dir, tor.arti.clone())?))
}

fn open_store(config: &Config, clock: &dyn Clock) -> anyhow::Result<Arc<DiskStore>> {
    let folder = config.state_dir.join(OUTBOX_FOLDER);
    let options = DiskOptions { engine: config.outbox.engine, cache_bytes: config.outbox.cache_bytes };
    let opening = || format!("opening the outbox in {}", folder.display());
    match DiskStore::open(&folder, options) {
        Err(damage @ StoreError::Corrupt(_)) if config.outbox.on_corrupt == OnCorrupt::SetAside => {
            let stamp = clock.now().strftime("%Y%m%dT%H%M%SZ").to_string();
            let kept = set_aside(&folder, &stamp).with_context(opening)?;
            tracing::error!(%damage, kept = %kept.display(), "the outbox was set aside, as outbox.on_corrupt says: what waited in \
                it is not delivered until it is restored; a new one begins");
            DiskStore::open(&folder, options).with_context(opening)
        }
        Err(damage @ StoreError::Corrupt(_)) => Err(anyhow::anyhow!(
            "{damage}; nothing was removed: restore that folder from a backup, or set outbox.on_corrupt = \"set_aside\", by which \
             it is moved away and the gateway begins with an empty outbox"
        ))
        .with_context(opening),
        Err(other @ StoreError::Format { .. }) => match engine_in(&folder) {
            Ok(Some(engine)) if engine != config.outbox.engine => {
                let (engine, wanted) = (format!("{engine:?}").to_lowercase(), format!("{:?}", config.outbox.engine).to_lowercase());
                Err(anyhow::anyhow!(
                    "it was made by {engine}, and outbox.engine says {wanted}: set it to \"{engine}\", or take it over with `tidegate \
                     outbox export` and `import` (docs/custody.md)"
                ))
            }
            _ => Err(other.into()),
        }
        .with_context(opening),
        opened => opened.with_context(opening),
    }
    .and_then(|store| hold_what_was_put_back(&store).with_context(opening).map(|()| store))
}

/// Where the folder of the outbox was put back from an older copy, its destinations wait for a person.
fn hold_what_was_put_back(store: &DiskStore) -> anyhow::Result<()> {
    let missing_commits = store.missing_commits();
    if missing_commits > 0 {
        let paused = restored::hold(store)?;
        store.forget_missing()?;
        tracing::error!(
            missing_commits,
            paused,
            "the outbox was put back from an older copy: what it says waits may have been \
            delivered since, and would be delivered again; so its destinations are paused. Look at `tidegate outbox list`, then let \
            them go on with `tidegate destination resume NAME`"
        );
    }
    Ok(())
}

/// In a build with the feature `testnet`, a test can stop this clock, and with it the handler that asks: see `lab::standstill`.
fn outbox_clock(clock: &Arc<dyn Clock>) -> Arc<dyn Clock> {
    #[cfg(feature = "testnet")]
    let clock = &crate::lab::standstill::as_environment_says(clock);
    Arc::clone(clock)
}

fn outbox_parts(
    config: &Config,
    store: &Arc<DiskStore>,
    clock: &Arc<dyn Clock>,
    entropy: &Arc<dyn Entropy>,
    bells: &Bells,
    reporting: bool,
) -> OutboxParts {
    let heard = |mqtt: &MqttConfig| mqtt.tidings.receipts || !mqtt.tidings.response_topics.is_empty();
    OutboxParts {
        store: Arc::clone(store) as Arc<dyn OutboxStore>,
        lease: Lease::default(),
        archive: config.ledger.archive.then(|| ledger_files(config)),
        clock: Arc::clone(clock),
        entropy: Arc::clone(entropy),
        limits: Limits {
            ledger_entries_max: config.outbox.ledger_entries_max,
            quarantine_entries_max: config.outbox.quarantine_entries_max,
            reporting,
            receipting: config.mqtt.as_ref().is_some_and(heard),
            max_messages: config.outbox.max_messages,
            max_bytes: config.outbox.max_bytes,
            min_free_disk: config.outbox.min_free_disk,
        },
        bells: bells.clone(),
    }
}

/// What the outbox has to keep free is kept free twice, so that these files never take the last room that there is for messages.
fn ledger_files(config: &Config) -> Arc<dyn LedgerArchive> {
    let options = ChainOptions {
        retention_days: config.ledger.retention_days,
        min_free_bytes: config.outbox.min_free_disk.saturating_mul(2),
    };
    Arc::new(ChainFiles::of(Chain::Ledger, &config.state_dir, options))
}

/// What is put on record of a start: the version, and whether somebody said that the clock is right.
fn start_note(config: &Config) -> String {
    let version = env!("CARGO_PKG_VERSION");
    match config.clock.trust {
        TrustPolicy::Assume => {
            format!("version {version}; the clock is believed because the config says so (clock.trust)")
        }
        TrustPolicy::Auto => format!("version {version}"),
    }
}

/// How the endpoints find the actors: by the view that the supervisor publishes.
fn reach_of(gateway: &GatewayRun<Handles>) -> Reach {
    let view = gateway.view.clone();
    Reach::new(move || admin::access::situation(&view.borrow()))
}
