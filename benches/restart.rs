//! How long an actor is away after its first panic, with the real list, store and Tor client. See the README beside this file.
//!
//! The Outbox falls, because the Subscriber, the Dispatcher and all custody stand on it: its store panics in the middle of a commit. The
//! store, the Tor client and the registry file stay open, as they do in the gateway; each round has a gateway of its own, so that
//! every fall is a first one.

#[path = "support/mod.rs"]
#[expect(dead_code, reason = "each bench uses its part")]
mod support;

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use support::{Samples, figure, say};
use tidegate::{
    adapters::{
        arti::{ArtiSettings, ArtiTransport, LazyArti},
        destination_files::DestinationFiles,
        disk_store::{DiskOptions, DiskStore},
        registry_file::RegistryFile,
        system_clock::SystemClock,
        system_entropy::SystemEntropy,
    },
    lab::{ArtiTestSettings, TorNetwork, TorNetworkOptions},
};
use tidegate_actors::{
    handles::Handles,
    list::{self, Parts},
    outbox::{Lease, Limits, OutboxParts},
    ports::{
        outbox_store::{Batch, Held, OutboxStore, Pair},
        transport::Transport,
    },
    registry::RegistryParts,
    supervision::{Bells, Drain, Gateway, GatewayRun, install_panic_hook},
    testing::submissions::submission,
};
use tidegate_schemas::{
    agreement,
    config::file::Vanguards,
    messages::{
        gateway::Observe,
        outbox::{Enqueue, StoreError},
    },
    submission::{Origin, Submission},
};

/// Falls that are measured.
const ROUNDS: usize = 10;
/// The most that any one wait may take.
const LIMIT: Duration = Duration::from_secs(60);

/// The real store, which panics in the next commit when it is asked to.
struct Fragile {
    store: Arc<DiskStore>,
    /// `Some(None)`: in the next commit. `Some(Some(at))`: it did.
    fall: Mutex<Option<Option<Instant>>>,
}

impl Fragile {
    fn fall(&self) -> std::sync::MutexGuard<'_, Option<Option<Instant>>> {
        self.fall.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OutboxStore for Fragile {
    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut fall = self.fall();
        if *fall == Some(None) {
            *fall = Some(Some(Instant::now()));
            drop(fall);
            panic!("as the bench asked");
        }
        drop(fall);
        self.store.commit(batch)
    }
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.get(key)
    }
    fn scan(&self, from: &[u8], to: &[u8], limit: usize, backwards: bool) -> Result<Vec<Pair>, StoreError> {
        self.store.scan(from, to, limit, backwards)
    }
    fn held(&self) -> Held {
        self.store.held()
    }
    fn snapshot(&self, each: &mut dyn FnMut(Vec<Pair>) -> Result<(), StoreError>) -> Result<(), StoreError> {
        self.store.snapshot(each)
    }
    fn compact(&self, progress: &mut dyn FnMut(u64)) -> Result<(), StoreError> {
        self.store.compact(progress)
    }
    fn reopen(&self) -> Result<(), StoreError> {
        self.store.reopen()
    }
    fn disk_bytes(&self) -> u64 {
        self.store.disk_bytes()
    }
}

fn message() -> Enqueue {
    let submission =
        Submission { origin: Origin::Http, ..submission("patient", "ward", "systolic pressure: 117 mmHg") };
    Enqueue { submission, limits: agreement::Limits::default(), break_glass_per_hour: None, stream: None }
}

fn parts(state: &Path, store: &Arc<Fragile>, transport: &Arc<dyn Transport>) -> Parts {
    let bells = Bells::default();
    Parts {
        registry: RegistryParts {
            declared: Arc::default(),
            store: Arc::new(RegistryFile::in_folder(state)),
            check: Arc::new(DestinationFiles {
                base_dir: state.to_owned(),
                state_dir: state.to_owned(),
                clock: Arc::new(SystemClock::default()),
            }),
            clock: Arc::new(SystemClock::default()),
            entropy: Arc::new(SystemEntropy),
            bells: vec![bells.dispatcher.clone()],
        },
        outbox: OutboxParts {
            store: Arc::clone(store) as Arc<dyn OutboxStore>,
            lease: Lease::default(),
            archive: None,
            clock: Arc::new(SystemClock::default()),
            entropy: Arc::new(SystemEntropy),
            limits: Limits { reporting: false, ..Limits::default() },
            bells: bells.clone(),
        },
        source: None,
        tidings: Arc::default(),
        signals: false,
        transport: Arc::clone(transport),
        room: None,
        bells,
        look_every: tidegate_actors::uplink::LOOK_EVERY,
    }
}

/// When the Outbox of this incarnation or a later one first answers, and when it has first taken custody.
async fn answering(gateway: &GatewayRun<Handles>, generation: u64) -> (Instant, Instant) {
    let deadline = Instant::now() + LIMIT;
    let mut answered = None;
    loop {
        let outbox = {
            let view = gateway.view.borrow();
            let line = view.status.children.iter().find(|line| line.name == "outbox").expect("the line");
            view.handles.outbox.clone().filter(|_| line.generation >= generation)
        };
        if let Some(outbox) = outbox {
            if outbox.send(Observe).await.is_ok() {
                answered.get_or_insert_with(Instant::now);
            }
            if let Ok(Ok(_accepted)) = outbox.send(message()).await {
                return (answered.expect("it answered before"), Instant::now());
            }
        }
        assert!(Instant::now() < deadline, "the Outbox did not come back");
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
}

fn generation(gateway: &GatewayRun<Handles>) -> u64 {
    let view = gateway.view.borrow();
    view.status.children.iter().find(|line| line.name == "outbox").expect("the line").generation
}

fn main() {
    // As the gateway does: without it, a backtrace of the first panic would be timed.
    install_panic_hook();
    let folder = tempfile::tempdir().expect("a folder");
    let network = TorNetwork::start(TorNetworkOptions::default()).expect("a network");
    let testnet = ArtiTestSettings::load(network.folder()).expect("its settings");
    actix::System::new().block_on(async {
        let settings = ArtiSettings::below(folder.path(), Vanguards::Lite).on_testnet(testnet);
        let client = LazyArti::new(settings, folder.path());
        client.bootstrap().await.expect("Tor");
        let transport: Arc<dyn Transport> = Arc::new(ArtiTransport::new(client));
        let store = DiskStore::open(&folder.path().join("outbox"), DiskOptions::default()).expect("a store");
        let store = Arc::new(Fragile { store, fall: Mutex::new(None) });
        let (mut answer, mut custody) = (Samples::default(), Samples::default());
        for _ in 0..ROUNDS {
            let parts = parts(folder.path(), &store, &transport);
            let mut gateway = Gateway::start(list::children(&parts), list::options(&parts)).expect("a list");
            let _up = answering(&gateway, 0).await;
            let before = generation(&gateway);
            *store.fall() = Some(None);
            let outbox = gateway.view.borrow().handles.outbox.clone().expect("it is up");
            let refused = outbox.send(message()).await;
            assert!(!matches!(refused, Ok(Ok(_))), "nothing is acknowledged that is not on disk");
            let (answered, took) = answering(&gateway, before + 1).await;
            let fell = store.fall().take().flatten().expect("it fell");
            answer.add(answered - fell);
            custody.add(took - fell);
            gateway.addr.send(Drain).await.expect("it drains");
            assert_eq!(gateway.ended().await.code, 0);
        }
        say(&format!("{} falls; median {:.2} ms", answer.len(), answer.quantile_ms(0.5)));
        // The worst of them: each is somebody's first panic.
        figure("panic_restart", answer.quantile_ms(1.0), "ms");
        figure("panic_restart_custody", custody.quantile_ms(1.0), "ms");
        store.store.close().expect("it closes");
    });
}
