//! How many appends one commit carries: the Outbox on the real store, against bare appends to the same disk. Each side is a process of
//! its own, so that a library can slow its syncs.

use super::support::print;
use actix::prelude::*;
use std::{
    cell::Cell,
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};
use tidegate::adapters::{
    disk_store::{DiskOptions, DiskStore},
    system_clock::SystemClock,
    system_entropy::SystemEntropy,
};
use tidegate_actors::{
    outbox::{Lease, Limits, Outbox, OutboxParts},
    ports::outbox_store::OutboxStore,
    supervision::{Bells, DeathWatch, Running},
    testing::{
        submissions::submission,
        toy_registry::{ToyRegistry, destination, snapshot},
    },
};
use tidegate_schemas::{
    agreement::{self, ServiceAgreement},
    messages::{gateway::Observe, outbox::Enqueue},
    view::Observation,
};

/// Roles of this program.
pub const APPEND: &str = "append";
pub const SYNC: &str = "sync";
/// Who hands in, each waiting for its answer.
const PRODUCERS: u32 = 256;
const WARM_UP: Duration = Duration::from_millis(500);
const MEASURED: Duration = Duration::from_secs(3);

/// Runs this program in a role on a fresh folder of the build's disk; the numbers that it prints.
pub fn run(role: &str, preload: Option<&Path>) -> Vec<f64> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.arg(role).arg(folder.path());
    if let Some(library) = preload {
        command.env("LD_PRELOAD", library);
    }
    let done = command.output().expect("this program");
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{role}: {}", String::from_utf8_lossy(&done.stderr));
    said.split_whitespace().map(|number| number.parse().expect("a number")).collect()
}

/// Builds the library that slows syncs.
pub fn slow_syncs(folder: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/intake/slow_sync.c");
    let library = folder.join("slow_sync.so");
    let built = Command::new("cc").args(["-shared", "-fPIC", "-O2", "-o"]).arg(&library).arg(source).status();
    assert!(built.expect("a C compiler").success(), "slow_sync.c could not be built");
    library
}

/// Prints how often a second 4 KiB are appended and synced.
pub fn sync(folder: &Path) {
    let mut file = File::create(folder.join("appended")).expect("a file");
    let block = [0x5a; 4_096];
    let began = Instant::now();
    let mut count = 0_u32;
    while began.elapsed() < MEASURED {
        file.write_all(&block).expect("an append");
        file.sync_data().expect("a sync");
        count += 1;
    }
    print(&format!("{}", f64::from(count) / began.elapsed().as_secs_f64()));
}

/// Prints acknowledged appends a second, and for each commit.
pub fn append(folder: &Path) {
    actix::System::new().block_on(async {
        let store = DiskStore::open(&folder.join("outbox"), DiskOptions::default()).expect("a store");
        let registry = ToyRegistry(snapshot(vec![destination("ward", ServiceAgreement::default())])).start();
        let parts = OutboxParts {
            store: store as Arc<dyn OutboxStore>,
            lease: Lease::default(),
            archive: None,
            clock: Arc::new(SystemClock::default()),
            entropy: Arc::new(SystemEntropy),
            limits: Limits { reporting: false, ..Limits::default() },
            bells: Bells::default(),
        };
        let outbox = Running::start(Outbox::new(parts, registry.recipient(), DeathWatch::unwatched("outbox"))).0;
        let taken = Rc::new(Cell::new(0_u64));
        for number in 0..PRODUCERS {
            let (outbox, taken) = (outbox.clone(), Rc::clone(&taken));
            actix::spawn(async move {
                loop {
                    outbox.send(message(number)).await.expect("an answer").expect("in custody");
                    taken.set(taken.get() + 1);
                }
            });
        }
        tokio::time::sleep(WARM_UP).await;
        let look = || (Instant::now(), taken.get());
        let ((began, before), commits_before) = (look(), commits(&outbox).await);
        tokio::time::sleep(MEASURED).await;
        let ((ended, after), commits_after) = (look(), commits(&outbox).await);
        let (acks, commits) = ((after - before) as f64, (commits_after - commits_before) as f64);
        print(&format!("{} {}", acks / (ended - began).as_secs_f64(), acks / commits));
    });
}

async fn commits(outbox: &Addr<Outbox>) -> u64 {
    match outbox.send(Observe).await.expect("an answer") {
        Observation::Outbox(seen) => seen.commits,
        other => panic!("not the outbox: {other:?}"),
    }
}

fn message(number: u32) -> Enqueue {
    let submission = submission(
        &format!("bed-{number}"),
        "ward",
        "systolic pressure: 117 mmHg, diastolic pressure: 74 mmHg, pulse: 70",
    );
    let limits = agreement::Limits { messages: u64::MAX, bytes: u64::MAX, ..agreement::Limits::default() };
    Enqueue { submission, limits, break_glass_per_hour: None, stream: None }
}
