//! The gateway is killed by SIGKILL at random moments, again and again, while devices publish. Nothing may be lost, stored twice or
//! out of order. See the README beside this file.
//!
//! Everything is real but the Tor network: the release binary, mosquitto with the settings of the guide, `tidegate receiver`. What
//! stands for a system tor is a SOCKS port that leads to the receiver. `ROUNDS` and `SEED` come from the environment.

#[path = "torture/record.rs"]
mod record;
#[path = "support/mod.rs"]
#[expect(dead_code, reason = "each bench uses its part")]
mod support;

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use record::{Published, Verdict, check_judge, judge, text_of};
use std::{
    net::SocketAddr,
    process::ExitCode,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};
use support::{
    behind_broker::BehindBroker,
    devices::Device,
    figure, from_env,
    onion::{FakeTor, check_noting},
    receiver::Receiver,
    say,
};
use tidegate::lab::{Mosquitto, MosquittoOptions};

const ROUNDS: u64 = 200;
const DEVICES: u64 = 5;
/// All devices together publish 20 a second.
const PAUSE: Duration = Duration::from_millis(50 * DEVICES);
/// Latest moment of a kill, from the start or from readiness.
const KILL_MAX: Duration = Duration::from_millis(1_500);
/// How long it takes to take a reading and to deliver it, about.
const TAKING: Duration = Duration::from_millis(8);
/// A destination may build 600 circuits an hour, and each life of the gateway builds up to two for each.
const ROUNDS_PER_DESTINATION: u64 = 200;
/// The drain is given up when nothing arrives for this long.
const STANDSTILL: Duration = Duration::from_secs(60);
/// What may still come after the last one that is awaited, had it been sent twice.
const AFTERMATH: Duration = Duration::from_secs(3);

/// The destinations, all of them at one receiver.
fn destinations(receiver: &Receiver, count: u64) -> String {
    let block = receiver.destination_toml(&FakeTor::onion());
    let one = |number| {
        let named = block.replace("[destination.ward]", &format!("[destination.ward-{number}]"));
        format!("{named}retry = {{ steps = [\"1s\"] }}\ntor_budget = {{ fresh_circuits_per_hour = 600 }}\n")
    };
    (0..count).map(one).collect()
}

/// Publishes at its pace until it is told to stop; returns how many the broker has acknowledged, which are all.
fn run_device(broker: SocketAddr, name: &str, topic: &str, stop: &AtomicBool, published: &AtomicU64) -> u64 {
    let mut device = Device::connect(broker, name, topic).expect("the broker");
    let mut due = Instant::now();
    while !stop.load(Ordering::SeqCst) {
        let (number, _) = device.counts();
        published.fetch_add(1, Ordering::SeqCst);
        device.publish([text_of(number).as_bytes()]).expect("the broker listens");
        device.await_all().expect("the broker acknowledges");
        due += PAUSE;
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    device.counts().1
}

/// What the rounds met.
#[derive(Default)]
struct Met {
    /// Kills before the admin endpoint said ready.
    before_ready: u64,
    slowest_ready: Duration,
    /// Redeliveries that a gateway took for what they are: the one before it had stored them, and was killed before the broker heard.
    recognised: u64,
}

/// Starts the gateway and kills it, `rounds` times. `published` counts up before each publication.
fn run_rounds(gateway: &mut BehindBroker, rounds: u64, random: &mut StdRng, published: &AtomicU64) -> Met {
    let mut met = Met::default();
    for round in 0..rounds {
        let started = Instant::now();
        gateway.start();
        match round % 3 {
            // While it takes a reading: on its way in, in the commit, between commit and acknowledgement, on its way out.
            0 => {
                wait_for_readiness(gateway, started, &mut met);
                thread::sleep(KILL_MAX.mul_f64(random.random::<f64>() / 3.0));
                let before = published.load(Ordering::SeqCst);
                while published.load(Ordering::SeqCst) == before {
                    thread::sleep(Duration::from_micros(100));
                }
                thread::sleep(TAKING.mul_f64(random.random()));
            }
            // At any moment from readiness on.
            1 => {
                wait_for_readiness(gateway, started, &mut met);
                thread::sleep(KILL_MAX.mul_f64(random.random()));
                let subscriber = gateway.admin.observation("subscriber");
                met.recognised += subscriber.and_then(|seen| seen["duplicates"].as_u64()).unwrap_or_default();
            }
            // From the start, rather soon: while it opens its store, takes up its session and what waits there.
            _ => {
                thread::sleep(KILL_MAX.mul_f64(random.random::<f64>().powi(3)));
                met.before_ready += u64::from(!gateway.admin.is_ready());
            }
        }
        // One that ended by itself was not killed by us: that would be a finding.
        gateway.check();
        gateway.kill();
        if round % 20 == 19 {
            say(&format!("{} rounds", round + 1));
        }
    }
    met
}

fn wait_for_readiness(gateway: &mut BehindBroker, started: Instant, met: &mut Met) {
    support::wait_for("the gateway's readiness", || {
        gateway.check();
        gateway.admin.is_ready().then_some(())
    });
    met.slowest_ready = met.slowest_ready.max(started.elapsed());
}

/// Waits until as many have arrived as were published, or none arrives any more.
fn drain(gateway: &mut BehindBroker, wanted: u64) {
    let (mut delivered, mut since) = (0, Instant::now());
    while delivered < wanted && since.elapsed() < STANDSTILL {
        gateway.check();
        let now = gateway.admin.account("delivered");
        if now > delivered {
            (delivered, since) = (now, Instant::now());
        }
        thread::sleep(Duration::from_millis(50));
    }
    say(&format!("{delivered} delivered by the gateway's account, {wanted} published"));
}

fn main() -> ExitCode {
    let rounds = from_env("ROUNDS").unwrap_or(ROUNDS);
    let seed = from_env("SEED").unwrap_or_else(rand::random);
    say(&format!("{rounds} rounds; the same moments again with SEED={seed}"));
    // The checks can find fault.
    check_noting();
    let two = |device: &str| (0..4).map(move |number| (device.to_owned(), text_of(number))).collect::<Vec<_>>();
    check_judge(&Published::from([("a".into(), 4), ("b".into(), 4)]), &[two("a"), two("b")].concat());

    let folder = tempfile::tempdir().expect("a folder");
    let broker = Mosquitto::start(&MosquittoOptions::default()).expect("mosquitto");
    let receiver = Receiver::start(folder.path());
    let tor = FakeTor::before(receiver.address());
    let count = rounds.div_ceil(ROUNDS_PER_DESTINATION).clamp(2, DEVICES);
    let mut gateway = BehindBroker::new(folder.path(), broker.address(), tor.socks(), &destinations(&receiver, count));
    // From here on the broker keeps a session for it, and with it every publication.
    gateway.start();
    gateway.wait_for_session();
    gateway.kill();

    let (stop, counted) = (AtomicBool::new(false), AtomicU64::new(0));
    let began = Instant::now();
    let (met, published) = thread::scope(|scope| {
        let devices: Vec<_> = (0..DEVICES)
            .map(|number| {
                let (name, topic) = (format!("bed-{number}"), format!("ward-{}/bed-{number}/pulse", number % count));
                let (stop, counted, broker) = (&stop, &counted, broker.address());
                scope.spawn(move || (run_device(broker, &name, &topic, stop, counted), name))
            })
            .collect();
        // A panic in the rounds must end the devices, too.
        let met = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            run_rounds(&mut gateway, rounds, &mut StdRng::seed_from_u64(seed), &counted)
        }));
        stop.store(true, Ordering::SeqCst);
        let acknowledged = devices.into_iter().map(|device| device.join().expect("a device"));
        let published: Published = acknowledged.map(|(count, name)| (name, count)).collect();
        (met.unwrap_or_else(|panic| std::panic::resume_unwind(panic)), published)
    });
    let messages: u64 = published.values().sum();
    say(&format!(
        "{} kills before readiness; readiness after at most {:.2} s; {:.0} s, {:.1} messages a second",
        met.before_ready,
        met.slowest_ready.as_secs_f64(),
        began.elapsed().as_secs_f64(),
        messages as f64 / began.elapsed().as_secs_f64(),
    ));

    gateway.start();
    drain(&mut gateway, messages);
    thread::sleep(AFTERMATH);
    let outbox = gateway.admin.observation("outbox").expect("the outbox's account");
    let subscriber = gateway.admin.observation("subscriber").expect("the subscriber's account");
    say(&format!("outbox {}; gap {}; subscriber {subscriber}", outbox["account"], outbox["gap"]));
    gateway.stop();
    let arrived = receiver.readings();
    let Verdict { lost, duplicates, out_of_order, strange } = judge(&published, &arrived);
    let (sent, different) = tor.passed();
    assert!(different > 0, "no event was seen to pass");
    figure("torture_kill_rounds", rounds as f64, "rounds");
    figure("torture_kill_messages", messages as f64, "messages");
    figure("torture_kill_lost", lost as f64, "messages");
    figure("torture_kill_duplicates", duplicates as f64, "messages");
    figure("torture_kill_out_of_order", out_of_order as f64, "messages");
    // That the kills came at bad moments: what the gateway and the receiver had to recognise.
    figure("torture_kill_redelivered", met.recognised as f64, "messages");
    figure("torture_kill_resent", (sent - different) as f64, "messages");
    let gap = outbox["gap"].as_i64().unwrap_or(i64::MAX);
    let clean = [lost, duplicates, out_of_order, strange] == [0; 4] && gap == 0 && different == messages;
    if clean {
        // And this very record, tampered with, would have been found out.
        check_judge(&published, &arrived);
        return ExitCode::SUCCESS;
    }
    say(&format!(
        "FAILED with SEED={seed}: {strange} strange, gap {gap}, {different} different ids for {messages} messages"
    ));
    ExitCode::FAILURE
}
