//! How much memory the gateway takes, and how quickly it opens a full outbox. See the README beside this file.

#[path = "support/mod.rs"]
#[expect(dead_code, reason = "each bench uses its part")]
mod support;

use std::{
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use support::{figure, gateway::Gateway, say};
use tidegate::{
    adapters::disk_store::{DiskOptions, DiskStore},
    lab::{TorNetwork, TorNetworkOptions},
};

/// Messages that wait.
const QUEUED: u64 = 100_000;
/// How long memory is left to settle.
const SETTLE: Duration = Duration::from_secs(20);
/// An onion service that nobody calls: its window is closed.
const DESTINATION: &str = "[destination.ward]\nonion = \"2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid.onion:80\"\n\
    format = \"raw\"\nwindows = { allow = [{ cron = \"0 0 1 1 *\", for = \"1m\" }] }\nlifetime = { max_age = \"400d\" }\n\
    limits = { messages = 200000, bytes = \"1GiB\" }\n";

fn main() {
    let folder = tempfile::tempdir().expect("a folder");
    let network = TorNetwork::start(TorNetworkOptions::default()).expect("a network");
    let mut gateway = Gateway::start(folder.path(), &network, DESTINATION);
    thread::sleep(SETTLE);
    let idle = gateway.resident_mib();
    figure("idle_rss", idle, "MiB");

    let began = Instant::now();
    gateway.hand_in_backlog(QUEUED, 10);
    say(&format!("{QUEUED} messages of 200 bytes taken into custody in {:.1} s", began.elapsed().as_secs_f64()));
    thread::sleep(SETTLE);
    assert_eq!(gateway.account("queued"), QUEUED);
    let full = gateway.resident_mib();
    say(&format!("resident {full:.1} MiB with all of them queued"));
    figure("outbox_100k_rss", full - idle, "MiB");

    gateway.stop();
    figure("outbox_100k_open", opening(&gateway.state()).as_secs_f64(), "s");
    gateway.start_again();
    gateway.hand_in("one more");
    gateway.kill();
    figure("outbox_100k_open_killed", opening(&gateway.state()).as_secs_f64(), "s");
}

/// How long the store takes until its first record can be read.
fn opening(state: &Path) -> Duration {
    let began = Instant::now();
    let store: Arc<DiskStore> =
        DiskStore::open(&state.join("outbox"), DiskOptions::default()).expect("the outbox opens");
    let took = began.elapsed();
    store.close().expect("it closes");
    took
}
