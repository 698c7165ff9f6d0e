//! How quickly a message gets to its receiver, against the paper's way on the same network in the same run, and how quickly a
//! backlog drains. See the README beside this file.

#[path = "support/mod.rs"]
#[expect(dead_code, reason = "each bench uses its part")]
mod support;

use std::time::{Duration, Instant};
use support::{Samples, figure, gateway::Gateway, paper, receiver::Receiver, say, tap::Tap, wait_for};
use tidegate::lab::{
    ClientOptions, HiddenService, HiddenServiceOptions, TorClientProcess, TorNetwork, TorNetworkOptions,
};

/// Rounds, in each of which both ways have their turn.
const ROUNDS: u64 = 8;
/// Messages of one way in one round.
const TURN: u64 = 40;
/// Messages before the first round.
const WARM_UP: u64 = 10;
/// Messages of the backlog.
const BACKLOG: u64 = 3_000;
/// Tries of the paper's client until it gets through at first.
const FIRST_TRIES: u32 = 20;

/// Both ways on one network, side by side.
struct Course {
    gateway: Gateway,
    ours: Tap,
    theirs: Tap,
    sender: paper::Sender,
    delivered: u64,
    // Dropped last, in this order.
    _kept: (Receiver, tidegate::lab::Process, TorClientProcess, [HiddenService; 2], TorNetwork, tempfile::TempDir),
}

impl Course {
    fn new(lag_ms: u32) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let network =
            TorNetwork::start(TorNetworkOptions { lag_ms, ..TorNetworkOptions::default() }).expect("a network");
        let receiver = Receiver::start(folder.path());
        let ours = Tap::before(receiver.address());
        let our_service = network.hidden_service(HiddenServiceOptions::to(ours.address())).expect("a service");
        let (paper_receiver, address) = paper::receiver(folder.path());
        let theirs = Tap::before(address);
        let their_service = network.hidden_service(HiddenServiceOptions::to(theirs.address())).expect("a service");
        let client = network.client(ClientOptions::default()).expect("a client");
        let sender = paper::Sender::start(their_service.onion_address(), client.socks_address());
        // A life that outlasts the closed window of the backlog.
        let destination =
            receiver.destination_toml(our_service.onion_address()) + "lifetime = { max_age = \"400d\" }\n";
        let gateway = Gateway::start(folder.path(), &network, &destination);
        let kept = (receiver, paper_receiver, client, [our_service, their_service], network, folder);
        Self { gateway, ours, theirs, sender, delivered: 0, _kept: kept }
    }

    fn our_way(&mut self) -> Duration {
        self.ours.arm();
        let began = Instant::now();
        self.gateway.hand_in("systolic pressure: 117 mmHg");
        let stored = wait_for("our receiver's answer", || self.ours.answered());
        self.delivered += 1;
        // One message under way: the next is handed in after this one is settled.
        self.gateway.wait_for_delivered(self.delivered);
        stored - began
    }

    fn papers_way(&mut self) -> Option<Duration> {
        self.theirs.arm();
        let began = Instant::now();
        let succeeded = self.sender.send("systolic pressure: 117 mmHg");
        self.theirs.answered().filter(|_| succeeded).map(|stored| stored - began)
    }

    fn compare(&mut self, name: &str) {
        let first = (0..FIRST_TRIES).find_map(|_| self.papers_way());
        assert!(first.is_some(), "the paper's client never got through");
        for _ in 0..WARM_UP {
            self.our_way();
            self.papers_way();
        }
        let (mut ours, mut theirs, mut failed) = (Samples::default(), Samples::default(), 0);
        for round in 1..=ROUNDS {
            (0..TURN).for_each(|_| ours.add(self.our_way()));
            for _ in 0..TURN {
                // The paper's client gives a failed message up; only what arrived counts, in its favour.
                match self.papers_way() {
                    Some(sample) => theirs.add(sample),
                    None => failed += 1,
                }
            }
            say(&format!(
                "{name}: round {round} of {ROUNDS}; p50 {:.1} ms, the paper's {:.1} ms",
                ours.quantile_ms(0.5),
                theirs.quantile_ms(0.5)
            ));
        }
        say(&format!("{name}: {} samples, the paper's {} and {failed} failed", ours.len(), theirs.len()));
        for (way, samples) in [("tidegate", &ours), ("paper", &theirs)] {
            figure(&format!("{name}_{way}_p50"), samples.quantile_ms(0.5), "ms");
            figure(&format!("{name}_{way}_p99"), samples.quantile_ms(0.99), "ms");
        }
        figure(name, ours.quantile_ms(0.5) / theirs.quantile_ms(0.5), "ratio");
    }

    fn drain(&mut self, name: &str) {
        self.gateway.close_window();
        self.gateway.hand_in_backlog(BACKLOG, 1);
        say(&format!("{name}: {BACKLOG} messages of one device wait"));
        let began = Instant::now();
        self.gateway.open_window();
        self.delivered += BACKLOG;
        self.gateway.wait_for_delivered(self.delivered);
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        figure(name, BACKLOG as f64 / began.elapsed().as_secs_f64(), "messages/s");
    }
}

fn main() {
    // As with other benches, a word on the command line picks the figures whose names have it.
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let wants = |name: &str| name.contains(&wanted);
    if wants("delivery_vs_paper") {
        Course::new(0).compare("delivery_vs_paper");
    }
    if wants("delivery_vs_paper_lag25") || wants("drain_rate_lag25") {
        let mut delayed = Course::new(25);
        if wants("delivery_vs_paper_lag25") {
            delayed.compare("delivery_vs_paper_lag25");
        }
        if wants("drain_rate_lag25") {
            delayed.drain("drain_rate_lag25");
        }
    }
}
