//! The whole gateway on a disk that its own outbox fills: it takes nothing more, is killed, opens again without more room, is
//! drained, and goes on taking by itself. See the README beside this file.
//!
//! Everything is real but the Tor network, as in `torture_kill`. The disk is a small one in a mount namespace of its own, in which this
//! program starts itself again.

#[path = "torture/record.rs"]
mod record;
#[path = "../tests/it/store/small_disk.rs"]
mod small_disk;
#[path = "support/mod.rs"]
#[expect(dead_code, reason = "each bench uses its part")]
mod support;

use record::{Arrived, Published, Verdict, check_judge, judge, text_of};
use serde_json::Value;
use small_disk::{NEEDS, with_small_disk};
use std::{
    fs,
    path::Path,
    process::{Command, ExitCode},
    thread,
    time::{Duration, Instant},
};
use support::{behind_broker::BehindBroker, devices::Device, figure, onion::FakeTor, receiver::Receiver, say};
use tidegate::lab::{Mosquitto, MosquittoOptions};

const DISK: &str = "40m";
/// Room that the gateway leaves for what has to be written besides readings, such as an operator's word or a circuit that is paid for:
/// below 8 MiB the store itself refuses these.
const MIN_FREE_DISK: &str = "12MiB";
const DEVICES: u64 = 5;
/// Publications of each device in one round; the next round waits for the gateway.
const ROUND: u64 = 40;
/// Rounds that the broker has to keep, because the gateway takes no more.
const REFUSED_ROUNDS: u64 = 5;
/// Bytes of a body: the reading, and dots behind it.
const BODY_BYTES: usize = 900;
/// More than fits on the disk.
const MESSAGES_MAX: u64 = 60_000;
/// When a round is not taken within this, the gateway takes no more. It tries again in between.
const STOPPED: Duration = Duration::from_secs(10);
/// The longest that an opening may take.
const OPEN_MAX: Duration = Duration::from_secs(60);
/// The longest that the drain may take, and that the gateway may take to go on taking.
const DRAIN_MAX: Duration = Duration::from_secs(240);
/// What may still come after the last one that is awaited, had it been sent twice.
const AFTERMATH: Duration = Duration::from_secs(3);
const ENGINES: [&str; 2] = ["sled", "redb"];
/// The role of this program on the small disk.
const INSIDE: &str = "inside";

fn body(number: u64) -> String {
    format!("{:.<BODY_BYTES$}", text_of(number))
}

/// The reading of a body that arrived whole; anything else stays what it is, and is strange to the judge.
fn reading_of(body: &str) -> &str {
    if body.len() == BODY_BYTES { body.trim_end_matches('.') } else { body }
}

struct Bench {
    gateway: BehindBroker,
    devices: Vec<(String, Device)>,
    published: u64,
}

impl Bench {
    /// Each device publishes one round, and hears the broker's acknowledgements.
    fn publish_round(&mut self) {
        for (_, device) in &mut self.devices {
            let (first, _) = device.counts();
            let bodies: Vec<String> = (first..first + ROUND).map(body).collect();
            device.publish(bodies.iter().map(String::as_bytes)).expect("the broker listens");
        }
        for (_, device) in &mut self.devices {
            device.await_all().expect("the broker acknowledges");
        }
        self.published += ROUND * DEVICES;
    }

    fn account(&mut self, state: &str) -> u64 {
        self.gateway.check();
        self.gateway.admin.account(state)
    }

    /// Waits until the number of the account is that of all publications; false when it is not in time.
    fn reaches_all(&mut self, state: &str, in_time: Duration) -> bool {
        let began = Instant::now();
        let mut reached = 0;
        while reached < self.published && began.elapsed() < in_time {
            thread::sleep(Duration::from_millis(10));
            reached = self.account(state);
        }
        reached >= self.published
    }

    /// Publishes until no more is taken, and some more; how many were taken then.
    fn fill(&mut self) -> Option<u64> {
        while self.published < MESSAGES_MAX {
            self.publish_round();
            if !self.reaches_all("accepted", STOPPED) {
                (0..REFUSED_ROUNDS).for_each(|_| self.publish_round());
                let taken = self.account("accepted");
                say(&format!("{taken} taken of {} published", self.published));
                return Some(taken);
            }
        }
        None
    }

    /// Whether the outbox was opened with at least so many in its account.
    fn opens(&mut self, accepted: u64) -> bool {
        let began = Instant::now();
        while began.elapsed() < OPEN_MAX {
            if self.account("accepted") >= accepted {
                return true;
            }
            thread::sleep(Duration::from_millis(10));
        }
        false
    }

    /// An operator's word to the destination, said again while it is not taken; how often it was not.
    fn tell(&mut self, word: &str) -> u64 {
        let began = Instant::now();
        let path = format!("/api/v1/destinations/ward/{word}");
        let mut refused = 0;
        while self.gateway.admin.ask("POST", &path, None).is_none() {
            refused += 1;
            assert!(began.elapsed() < OPEN_MAX, "the destination does not hear {word:?}");
            thread::sleep(Duration::from_millis(200));
        }
        refused
    }

    fn say_how_it_is(&self, folder: &Path) {
        let [outbox, subscriber] =
            ["outbox", "subscriber"].map(|actor| self.gateway.admin.observation(actor).unwrap_or(Value::Null));
        let load = self.gateway.admin.ask("GET", "/api/v1/destinations/ward", None).map(|view| view["load"].clone());
        let log = fs::read_to_string(folder.join("gateway.log")).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(12).collect();
        let room = Command::new("df").arg("--block-size=1").arg(folder.join("state")).output().map(|done| done.stdout);
        let room = String::from_utf8_lossy(&room.unwrap_or_default()).lines().last().unwrap_or_default().to_owned();
        say(&format!(
            "disk {room}\noutbox {outbox}\nsubscriber {subscriber}\nload {load:?}\nlog, the last first:\n{}",
            tail.join("\n")
        ));
    }
}

/// All of it, on a folder whose `state` is the small disk.
fn inside(engine: &str, folder: &Path) -> bool {
    let broker = Mosquitto::start(&MosquittoOptions::default()).expect("mosquitto");
    let receiver = Receiver::start(folder);
    let tor = FakeTor::before(receiver.address());
    let destination = format!(
        "[outbox]\nengine = \"{engine}\"\nmin_free_disk = \"{MIN_FREE_DISK}\"\nledger_entries = 2000\n{}retry = {{ steps = [\"1s\"] }}\n\
         tor_budget = {{ fresh_circuits_per_hour = 600 }}\n",
        receiver.destination_toml(&FakeTor::onion()),
    );
    let gateway = BehindBroker::new(folder, broker.address(), tor.socks(), &destination);
    let connect = |number| {
        let name = format!("bed-{number}");
        let device = Device::connect(broker.address(), &name, &format!("ward/{name}/pulse")).expect("the broker");
        (name, device)
    };
    let mut bench = Bench { gateway, devices: (0..DEVICES).map(connect).collect(), published: 0 };
    bench.gateway.start();
    bench.gateway.wait_for_session();
    bench.tell("pause");

    let Some(taken) = bench.fill() else {
        say("the disk did not become full");
        return false;
    };
    bench.say_how_it_is(folder);
    bench.gateway.kill();
    bench.gateway.start();
    let opened = bench.opens(taken);
    bench.say_how_it_is(folder);
    let refused = if opened { bench.tell("resume") } else { 0 };
    say(&format!("the operator's word was refused {refused} times"));
    let resumed = opened && bench.reaches_all("accepted", DRAIN_MAX);
    let drained = resumed && bench.reaches_all("delivered", DRAIN_MAX);
    thread::sleep(AFTERMATH);
    bench.say_how_it_is(folder);

    let arrived: Arrived =
        receiver.readings().into_iter().map(|(device, body)| (device, reading_of(&body).to_owned())).collect();
    let published: Published = bench.devices.iter().map(|(name, device)| (name.clone(), device.counts().1)).collect();
    let Verdict { lost, duplicates, out_of_order, strange } = judge(&published, &arrived);
    let figure =
        |what: &str, value: u64, unit: &str| figure(&format!("torture_full_{engine}_{what}"), value as f64, unit);
    figure("messages", bench.published, "messages");
    figure("taken_when_full", taken, "messages");
    figure("lost", lost, "messages");
    figure("duplicates", duplicates, "messages");
    figure("opened", u64::from(opened), "of 1");
    figure("resumed", u64::from(resumed), "of 1");
    let clean = [lost, duplicates, out_of_order, strange] == [0; 4] && opened && resumed && drained;
    if clean {
        // And this very record, tampered with, would have been found out.
        check_judge(&published, &arrived);
    } else {
        say(&format!(
            "FAILED: {out_of_order} out of order, {strange} strange, drained: {drained}; what was never taken the broker still has"
        ));
    }
    clean
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, engine, folder] = &arguments[..]
        && role == INSIDE
    {
        return if inside(engine, Path::new(folder)) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let mut all_clean = true;
    // Those that are named, or both.
    let named: Vec<&str> = ENGINES.into_iter().filter(|engine| arguments.iter().any(|it| it == engine)).collect();
    for engine in if named.is_empty() { ENGINES.to_vec() } else { named } {
        let folder = tempfile::tempdir().expect("a folder");
        let state = folder.path().join("state");
        fs::create_dir(&state).expect("a folder");
        let Some(words) = with_small_disk(state.as_os_str(), DISK) else {
            say(&format!("this needs {NEEDS}"));
            return ExitCode::FAILURE;
        };
        let program = std::env::current_exe().expect("this program");
        let ran =
            Command::new(words[0]).args(&words[1..]).arg(program).args([INSIDE, engine]).arg(folder.path()).status();
        all_clean &= ran.expect("this program").success();
    }
    if all_clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
