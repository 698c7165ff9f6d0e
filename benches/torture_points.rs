//! Each crash point of the gateway, as an end of the process, as a failure and as a delay, while devices publish. Nothing may be lost,
//! stored twice, out of order, or untold in the room. See the README beside this file.
//!
//! Everything is real but the Tor network, as in `torture_kill`; the room is on a real Synapse.

#[path = "torture/record.rs"]
mod record;
#[path = "support/mod.rs"]
#[expect(dead_code, reason = "each bench uses its part")]
mod support;

use record::{Published, Verdict, check_judge, judge, text_of};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};
use support::{behind_broker::BehindBroker, devices::Device, figure, onion::FakeTor, receiver::Receiver, say};
use tidegate::{
    adapters::matrix::ACKNOWLEDGEMENT,
    crash_point::CrashPoint,
    lab::{Mosquitto, MosquittoOptions, RoomClient, Synapse, SynapseOptions},
};

const ACTIONS: [&str; 3] = ["exit", "error", "delay"];
const DEVICES: u64 = 3;
const PASSWORD: &str = "of the gateway in the room";
/// What the log says when a point was hit.
const HIT: &str = "a crash point was hit";
/// The longest that is waited for a point.
const HIT_MAX: Duration = Duration::from_secs(60);
/// A drain is given up when nothing arrives for this long.
const STANDSTILL: Duration = Duration::from_secs(60);

/// Which visit of a point is the armed one: the store comes by the points of a commit while it opens, too.
fn visit(point: CrashPoint) -> u64 {
    match point {
        CrashPoint::CommitBegun
        | CrashPoint::CommitWritten
        | CrashPoint::CommitFlushed
        | CrashPoint::CommitSynced
        | CrashPoint::CheckpointWritten => 6,
        CrashPoint::PublicationReceived | CrashPoint::DeliveryBegun | CrashPoint::DeliveryAnswered => 2,
        _ => 1,
    }
}

fn is_of_a_rewriting(point: CrashPoint) -> bool {
    let name = point.name();
    name.starts_with("Generation") || name.starts_with("Marker")
}

/// A gateway with its devices, and what they have published.
struct Scene {
    gateway: BehindBroker,
    devices: Vec<(String, Device)>,
    missed: Vec<String>,
    /// From which number on each point's messages are, for each device.
    begins: Vec<(String, u64)>,
    ended_by_an_error: u64,
}

impl Scene {
    fn published(&self) -> Published {
        self.devices.iter().map(|(name, device)| (name.clone(), device.counts().0)).collect()
    }

    fn publish(&mut self) {
        for (_, device) in &mut self.devices {
            let (number, _) = device.counts();
            device.publish([text_of(number).as_bytes()]).expect("the broker listens");
        }
        for (_, device) in &mut self.devices {
            device.await_all().expect("the broker acknowledges");
        }
    }

    fn hits(&self) -> usize {
        self.gateway.log().matches(HIT).count()
    }

    /// Arms a point, publishes until it was hit, and lets everything be delivered.
    fn come_by(&mut self, point: CrashPoint, action: &str) {
        let armed = format!("{}:{action}:{}", point.name(), visit(point));
        let (hits, began) = (self.hits(), Instant::now());
        self.begins.push((armed.clone(), self.devices.first().map_or(0, |(_, device)| device.counts().0)));
        self.gateway.start_with(&[("TIDEGATE_TESTNET_CRASH_POINT", &armed)]);
        while self.hits() == hits {
            if began.elapsed() > HIT_MAX {
                self.missed.push(armed);
                break;
            }
            self.publish();
            if is_of_a_rewriting(point) && self.gateway.admin.is_ready() {
                self.gateway.admin.compact();
            }
            thread::sleep(Duration::from_millis(30));
        }
        self.publish();
        if action == "exit" && self.hits() > hits {
            support::wait_for("the end of the process", || self.gateway.has_ended().then_some(()));
        }
        self.drain();
        self.gateway.stop();
    }

    /// Waits until all is delivered; one that has ended is started again, as a service manager would.
    fn drain(&mut self) {
        let wanted: u64 = self.published().values().sum();
        let (mut delivered, mut since) = (0, Instant::now());
        let mut lives = 0;
        while delivered < wanted && since.elapsed() < STANDSTILL {
            if self.gateway.has_ended() {
                lives += 1;
                self.gateway.start();
            }
            let now = self.gateway.admin.account("delivered");
            if now > delivered {
                (delivered, since) = (now, Instant::now());
            }
            thread::sleep(Duration::from_millis(20));
        }
        self.ended_by_an_error += lives;
    }

    /// Waits until the room has heard everything.
    fn drain_reports(&mut self) {
        support::wait_for("the reports", || {
            let outbox = self.gateway.admin.observation("outbox")?;
            (outbox["reports_pending"] == 0).then_some(())
        });
    }
}

/// Those that are behind a later one of their device.
fn late(arrived: &[(String, String)]) -> Vec<(&str, u64)> {
    let mut highest: BTreeMap<&str, u64> = BTreeMap::new();
    let numbered =
        arrived.iter().filter_map(|(device, text)| Some((device.as_str(), text.rsplit(' ').next()?.parse().ok()?)));
    let mut late = Vec::new();
    for (device, number) in numbered {
        let so_far = highest.entry(device).or_insert(number);
        if number < *so_far {
            late.push((device, number));
        }
        *so_far = number.max(*so_far);
    }
    late
}

/// How often the room heard of each message.
fn reports(room: &RoomClient) -> BTreeMap<String, u64> {
    let mut heard = BTreeMap::new();
    for place in room.rooms().expect("its rooms") {
        for notice in room.messages(&place).expect("its messages") {
            for report in notice[ACKNOWLEDGEMENT]["reports"].as_array().into_iter().flatten() {
                assert_eq!(report["state"], "delivered", "{report}");
                let id = report["id"].as_str().or(report["message"].as_str());
                *heard.entry(id.unwrap_or_else(|| panic!("no id: {report}")).to_owned()).or_default() += 1;
            }
        }
    }
    heard
}

fn config(receiver: &Receiver, homeserver: &Synapse, engine: &str) -> String {
    format!(
        "{}retry = {{ steps = [\"1s\"] }}\ntor_budget = {{ fresh_circuits_per_hour = 600 }}\n\
         [outbox]\nengine = \"{engine}\"\nledger_entries = 20\n\
         [matrix]\nhomeserver = \"{}\"\nuser = \"gateway\"\npassword = {{ file = \"room.password\" }}\n",
        receiver.destination_toml(&FakeTor::onion()),
        homeserver.base_url(),
    )
}

/// All points on one engine; what is wrong.
fn torture(engine: &str, folder: &Path) -> u64 {
    let homeserver = Synapse::start(&SynapseOptions::default()).expect("a homeserver");
    let broker = Mosquitto::start(&MosquittoOptions::default()).expect("mosquitto");
    let room = homeserver.register("gateway", PASSWORD).expect("a user");
    fs::write(folder.join("room.password"), PASSWORD).expect("the password");
    let receiver = Receiver::start(folder);
    let tor = FakeTor::before(receiver.address());
    let config = config(&receiver, &homeserver, engine);
    let mut gateway = BehindBroker::new(folder, broker.address(), tor.socks(), &config);
    gateway.start();
    gateway.wait_for_session();
    gateway.stop();
    let connect = |number| {
        let name = format!("bed-{number}");
        let device = Device::connect(broker.address(), &name, &format!("ward/{name}/pulse"));
        (name, device.expect("the broker"))
    };
    let devices = (0..DEVICES).map(connect).collect();
    let mut scene = Scene { gateway, devices, missed: Vec::new(), begins: Vec::new(), ended_by_an_error: 0 };
    for point in CrashPoint::ALL {
        for action in ACTIONS {
            scene.come_by(point, action);
        }
        say(&format!("{engine}: {} was hit as exit, error and delay", point.name()));
    }
    scene.gateway.start();
    scene.drain();
    scene.drain_reports();
    let outbox = scene.gateway.admin.observation("outbox").expect("the outbox's account");
    scene.gateway.stop();
    let (published, arrived) = (scene.published(), receiver.readings());
    let messages: u64 = published.values().sum();
    let Verdict { lost, duplicates, out_of_order, strange } = judge(&published, &arrived);
    let heard = reports(&room);
    let untold = messages.saturating_sub(heard.len() as u64);
    let told_twice = heard.values().filter(|times| **times > 1).count() as u64;
    for (device, number) in late(&arrived) {
        let armed = scene.begins.iter().rev().find(|(_, first)| *first <= number).map_or("none", |(armed, _)| armed);
        say(&format!("{engine}: number {number} of {device} came behind a later one; armed was {armed}"));
    }
    for missed in &scene.missed {
        say(&format!("{engine}: {missed} was not hit"));
    }
    let print =
        |what: &str, value: u64, unit: &str| figure(&format!("torture_points_{engine}_{what}"), value as f64, unit);
    let wanted = (CrashPoint::ALL.len() * ACTIONS.len()) as u64;
    print("hit", wanted - scene.missed.len() as u64, "points and actions");
    print("messages", messages, "messages");
    print("lost", lost, "messages");
    print("duplicates", duplicates, "messages");
    print("out_of_order", out_of_order, "messages");
    print("untold", untold, "messages");
    print("told_twice", told_twice, "messages");
    print("starts_again", scene.ended_by_an_error, "starts");
    let gap = outbox["gap"].as_i64().unwrap_or(i64::MAX).unsigned_abs();
    let wrong = [lost, duplicates, out_of_order, strange, untold, told_twice, gap, scene.missed.len() as u64];
    if wrong == [0; 8] {
        // And this very record, tampered with, would have been found out.
        check_judge(&published, &arrived);
    } else {
        say(&format!("{engine}: outbox {}; {strange} strange", Value::to_string(&outbox)));
    }
    wrong.iter().sum()
}

fn main() -> ExitCode {
    let points = CrashPoint::ALL.map(CrashPoint::name);
    say(&format!("{} points: {}", points.len(), points.join(", ")));
    figure("torture_points", points.len() as f64, "points");
    let mut wrong = 0;
    for engine in ["sled", "redb"] {
        let folder = tempfile::tempdir().expect("a folder");
        wrong += torture(engine, folder.path());
    }
    if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
