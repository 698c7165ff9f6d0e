//! Wiring: from a checked config to a running gateway.
//!
//! Two phases. First everything that is opened once in a process (store, Tor client, broker, room) and the bells; then the list of
//! actors, and the endpoints beside it. What is opened here outlives every restart of an actor.

use crate::{
    adapters::{
        arti::{ArtiClient, ArtiSettings, ArtiTransport},
        embedded_broker::{BrokerSpec, EmbeddedBroker},
        matrix::MatrixRoom,
        mqtt::{self, MqttSource},
        registry_file::RegistryFile,
        sled_store::{SledOptions, SledStore},
        socks::SocksTransport,
        system_clock::SystemClock,
        system_entropy::SystemEntropy,
    },
    admin::{self, access::Reach, listener::Serving, token::AdminToken},
    device_endpoint,
};
use anyhow::Context as _;
use std::{path::Path, sync::Arc};
use tidegate_actors::{
    handles::Handles,
    list::{self, Parts},
    outbox::{Lease, Limits, OutboxParts},
    ports::{
        clock::Clock, entropy::Entropy, outbox_store::OutboxStore, registry_store::RegistryStore as _, room::Room,
        source::Source, transport::Transport,
    },
    registry::RegistryParts,
    supervision::{Bells, Gateway, GatewayRun},
};
use tidegate_schemas::config::{
    devices::DEVICES_FILE,
    file::{Config, MatrixConfig, MqttConfig, TorTransport},
};

/// Folder of the outbox, in the state folder.
const OUTBOX_FOLDER: &str = "outbox";

/// A gateway that runs.
pub struct Started {
    /// The supervisor's end and address.
    pub gateway: GatewayRun<Handles>,
    broker: Option<EmbeddedBroker>,
    device_endpoint: Option<Serving>,
    admin: Option<Serving>,
    store: Arc<SledStore>,
}

impl Started {
    /// Closes what brings new messages from outside the list: the device endpoint and the embedded broker.
    pub async fn close_intake(&mut self) {
        if let Some(endpoint) = self.device_endpoint.take() {
            endpoint.stop(true).await;
        }
        if let Some(broker) = self.broker.take() {
            broker.stop().await;
        }
    }

    /// Closes the admin endpoint and the store, last. A store that was closed is opened without reading it through.
    pub async fn close(&mut self) {
        if let Some(admin) = self.admin.take() {
            admin.stop(false).await;
        }
        let store = Arc::clone(&self.store);
        match tokio::task::spawn_blocking(move || store.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "the outbox was not closed in order; the next start reads it through")
            }
            Err(_) => tracing::warn!("closing the outbox failed unexpectedly; the next start reads it through"),
        }
    }
}

/// Opens everything and starts the gateway, within an actix System.
///
/// # Errors
/// When something that it can't work without is not to be had; the error says what to do.
pub async fn start(config: Config) -> anyhow::Result<Started> {
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    make_state_dir(&config.state_dir)?;
    let bells = Bells::default();
    let (broker, source) = open_source(&config, &entropy)?;
    let tor = open_tor(&config).await?;
    let room = match &config.matrix {
        Some(matrix) => Some(open_room(matrix, &config.state_dir, &tor)?),
        None => None,
    };
    let store = open_store(&config)?;
    let registry_file = RegistryFile::in_folder(&config.state_dir);
    registry_file.load().context("reading what was set at run time")?;
    let parts = Parts {
        registry: RegistryParts {
            destinations: config.destinations.clone(),
            routes: Arc::new(config.routes.clone()),
            store: Arc::new(registry_file),
            clock: Arc::clone(&clock),
            entropy: Arc::clone(&entropy),
            bells: vec![bells.dispatcher.clone(), bells.subscriber.clone()],
        },
        outbox: outbox_parts(&config, &store, &outbox_clock(&clock), &entropy, &bells, room.is_some()),
        source,
        transport: tor.transport,
        room,
        bells,
    };
    let gateway =
        Gateway::start(list::children(&parts), list::options(&parts)).context("starting the list of actors")?;
    let reach = reach_of(&gateway);
    let device_endpoint = match &config.http {
        Some(http) => Some(device_endpoint::start(device_endpoint::Settings {
            listen: http.listen,
            requests_per_minute: http.requests_per_minute,
            devices_file: config.state_dir.join(DEVICES_FILE),
            reach: reach.clone(),
        })?),
        None => None,
    };
    let admin = admin::start(admin::Settings {
        listen: config.admin.listen,
        hosts: config.admin.hosts.clone(),
        token: AdminToken::open_or_create(&config.state_dir, &*entropy)?,
        reach,
        clock,
    })?;
    Ok(Started { gateway, broker, device_endpoint, admin: Some(admin), store })
}

fn make_state_dir(dir: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).with_context(|| {
        format!("making the state folder {}: set state_dir to a folder that may be written", dir.display())
    })
}

type Intake = (Option<EmbeddedBroker>, Option<Arc<dyn Source>>);

fn open_source(config: &Config, entropy: &Arc<dyn Entropy>) -> anyhow::Result<Intake> {
    let Some(mqtt) = &config.mqtt else { return Ok((None, None)) };
    let client_id = mqtt::client_id(&config.state_dir, &**entropy)?;
    let broker = if mqtt.embedded { Some(start_broker(mqtt, config, &client_id, entropy)?) } else { None };
    let login = broker.as_ref().map(EmbeddedBroker::login);
    let source = MqttSource::new(mqtt.clone(), client_id, &config.state_dir, login, Arc::clone(entropy))?;
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
    arti: Option<Arc<ArtiClient>>,
}

async fn open_tor(config: &Config) -> anyhow::Result<Tor> {
    match config.tor.transport {
        TorTransport::Socks(proxy) => Ok(Tor { transport: Arc::new(SocksTransport::new(proxy)?), arti: None }),
        TorTransport::Arti => {
            let client = ArtiClient::open(arti_settings(config)?).await.context("opening the Tor client")?;
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

fn open_store(config: &Config) -> anyhow::Result<Arc<SledStore>> {
    let folder = config.state_dir.join(OUTBOX_FOLDER);
    let options = SledOptions { cache_bytes: config.outbox.cache_bytes };
    SledStore::open(&folder, options).with_context(|| format!("opening the outbox in {}", folder.display()))
}

/// In a build with the feature `testnet`, a test can stop this clock, and with it the handler that asks: see `lab::standstill`.
fn outbox_clock(clock: &Arc<dyn Clock>) -> Arc<dyn Clock> {
    #[cfg(feature = "testnet")]
    let clock = &crate::lab::standstill::as_environment_says(clock);
    Arc::clone(clock)
}

fn outbox_parts(
    config: &Config,
    store: &Arc<SledStore>,
    clock: &Arc<dyn Clock>,
    entropy: &Arc<dyn Entropy>,
    bells: &Bells,
    reporting: bool,
) -> OutboxParts {
    OutboxParts {
        store: Arc::clone(store) as Arc<dyn OutboxStore>,
        lease: Lease::default(),
        clock: Arc::clone(clock),
        entropy: Arc::clone(entropy),
        limits: Limits {
            ledger_entries_max: config.outbox.ledger_entries_max,
            quarantine_entries_max: config.outbox.quarantine_entries_max,
            reporting,
        },
        bells: bells.clone(),
    }
}

/// How the endpoints find the actors: by the view that the supervisor publishes.
fn reach_of(gateway: &GatewayRun<Handles>) -> Reach {
    let view = gateway.view.clone();
    Reach::new(move || admin::access::situation(&view.borrow()))
}
