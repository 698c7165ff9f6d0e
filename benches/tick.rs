//! What one round of the Dispatcher costs, idle and with a hundred destinations due. See the README beside this file.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "figures go to standard output, what is said about them to standard error"
)]

use actix::prelude::*;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tidegate_actors::{
    dispatcher::{Dispatcher, DispatcherParts},
    outbox::{Lease, Limits, Outbox, OutboxParts},
    ports::{clock::Clock, entropy::Entropy, outbox_store::OutboxStore, transport::Transport},
    supervision::{Bells, DeathWatch, Running},
    testing::{
        fake_transport::FakeTransport,
        memory_store::MemoryStore,
        seeded_entropy::SeededEntropy,
        sim_clock::SimClock,
        toy_registry::{ToyRegistry, destination, snapshot},
    },
};
use tidegate_schemas::{
    agreement::{ServiceAgreement, SignalPolicy},
    entry::Account,
    id::DestinationId,
    messages::{
        gateway::Observe,
        outbox::{Signal, SignalSource, SignalWord},
        uplink::Status,
    },
    record::{self, DestinationNumber, DestinationRecord, LAYOUT, Meta, key},
    view::{DispatcherObservation, Observation},
    window::{RawWindow, RawWindows, WindowSet},
};

/// Messages that wait, by the loads of their destinations: no body is read in a round.
const QUEUED: u64 = 1_000_000;
/// Destinations that become due at once.
const DUE: u32 = 100;
/// Times that each is measured.
const IDLE_ROUNDS: u64 = 500;
const DUE_ROUNDS: u64 = 20;

struct Ready;
impl Actor for Ready {
    type Context = Context<Self>;
}
impl Handler<Status> for Ready {
    type Result = MessageResult<Status>;
    fn handle(&mut self, _: Status, _: &mut Self::Context) -> Self::Result {
        MessageResult(tidegate_schemas::view::UplinkStatus::Ready)
    }
}

struct Rig {
    parts: DispatcherParts,
    dispatcher: Addr<Dispatcher>,
    policy: SignalPolicy,
}

fn name(number: u32) -> DestinationId {
    format!("d{number}").parse().expect("an alias")
}

fn contents(destinations: u32) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let account = Account { accepted: QUEUED, queued: QUEUED, ..Account::default() };
    let meta = Meta {
        layout: LAYOUT,
        ledger_first: 1,
        quarantine_first: 1,
        next_destination: destinations,
        account,
        ..Meta::default()
    };
    let mut all = BTreeMap::from([(key::META.to_vec(), record::encode(&key::META, &meta))]);
    for number in 0..destinations {
        let queued = QUEUED / u64::from(destinations);
        let it = DestinationRecord { queued, waiting_bytes: queued * 200, ..DestinationRecord::new(name(number)) };
        let (at, by_name) = (key::destination(number), key::name(it.name.as_str()));
        all.insert(by_name.clone(), record::encode(&by_name, &DestinationNumber(number)));
        all.insert(at.clone(), record::encode(&at, &it));
    }
    all
}

impl Rig {
    async fn new(destinations: u32) -> Self {
        let night = RawWindow { from: Some("03:00".into()), to: Some("05:00".into()), ..RawWindow::default() };
        let raw = RawWindows { timezone: Some("Europe/Madrid".into()), allow: vec![night], ..RawWindows::default() };
        let policy = SignalPolicy { accept: true, per_hour: u16::MAX, ..SignalPolicy::default() };
        let agreement = || ServiceAgreement {
            windows: WindowSet::from_raw(raw.clone(), "windows").expect("windows"),
            signal: policy,
            ..ServiceAgreement::default()
        };
        let all = (0..destinations).map(|number| destination(name(number).as_str(), agreement())).collect();
        let clock: Arc<dyn Clock> = Arc::new(SimClock::at("2026-11-23T12:00:00Z".parse().expect("a time")));
        let entropy: Arc<dyn Entropy> = Arc::new(SeededEntropy::new(1));
        let (registry, bells) = (ToyRegistry(snapshot(all)).start(), Bells::default());
        let outbox_parts = OutboxParts {
            store: Arc::new(MemoryStore::with_contents(1, contents(destinations))) as Arc<dyn OutboxStore>,
            lease: Lease::default(),
            archive: None,
            clock: Arc::clone(&clock),
            entropy: Arc::clone(&entropy),
            limits: Limits::default(),
            bells: bells.clone(),
        };
        let outbox = Outbox::new(outbox_parts, registry.clone().recipient(), DeathWatch::unwatched("outbox"));
        let parts = DispatcherParts {
            registry: registry.recipient(),
            outbox: Running::start(outbox).0,
            uplink: Some(Ready.start().recipient()),
            transport: Arc::new(FakeTransport::new(Arc::clone(&clock))) as Arc<dyn Transport>,
            clock,
            entropy,
            bell: bells.dispatcher,
        };
        let dispatcher = Running::start(Dispatcher::new(parts.clone(), DeathWatch::unwatched("dispatcher"))).0;
        let rig = Self { parts, dispatcher, policy };
        rig.until(|seen| seen.waiting_total == u64::from(destinations)).await;
        rig
    }

    async fn seen(&self) -> DispatcherObservation {
        match self.dispatcher.send(Observe).await {
            Ok(Observation::Dispatcher(seen)) => seen,
            other => panic!("{other:?}"),
        }
    }

    async fn until(&self, is: impl Fn(&DispatcherObservation) -> bool) -> DispatcherObservation {
        let looking = async {
            loop {
                let seen = self.seen().await;
                if is(&seen) {
                    return seen;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(120), looking).await.expect("it comes about")
    }

    /// Microseconds of a round in which nothing is due.
    async fn idle(&self) -> f64 {
        let before = self.seen().await;
        for round in 1..=IDLE_ROUNDS {
            self.parts.bell.ring();
            self.until(|seen| seen.rounds >= before.rounds + round).await;
        }
        let after = self.seen().await;
        (after.took_us - before.took_us) as f64 / (after.rounds - before.rounds) as f64
    }

    async fn say(&self, word: SignalWord) {
        let said = (0..DUE).map(|number| {
            let from = SignalSource::Operator;
            self.parts.outbox.send(Signal {
                destination: name(number),
                word,
                policy: self.policy,
                from,
                sequence: None,
            })
        });
        for answer in futures_util::future::join_all(said).await {
            answer.expect("the outbox lives").expect("a signal is taken");
        }
    }

    /// Microseconds of the rounds in which a hundred destinations become due and get their couriers.
    async fn due(&self) -> f64 {
        let mut took_us = 0;
        for _ in 0..DUE_ROUNDS {
            let before = self.seen().await;
            self.say(SignalWord::Ready(600)).await;
            let after = self.until(|seen| seen.couriers.len() == DUE as usize).await;
            took_us += after.took_us - before.took_us;
            self.say(SignalWord::Clear).await;
            self.until(|seen| seen.couriers.is_empty()).await;
            // No courier is opened within a second of the last one.
            tokio::time::sleep(Duration::from_millis(1_100)).await;
        }
        took_us as f64 / DUE_ROUNDS as f64
    }
}

fn measure(destinations: u32) -> (f64, f64) {
    System::new().block_on(async move {
        let rig = Rig::new(destinations).await;
        (rig.idle().await, rig.due().await)
    })
}

fn main() {
    let (few, many) = (measure(1_000), measure(10_000));
    eprintln!("rounds with 1,000 destinations: idle {:.1} us, {DUE} due {:.1} us", few.0, few.1);
    eprintln!("a round: ask registry, outbox and uplink, decide what changed or is due, open the couriers");
    println!("figure tick_10k_idle {:.1} us", many.0);
    println!("figure tick_10k_100due {:.1} us", many.1);
    println!("figure tick_10k_vs_1k_idle {:.2} x", many.0 / few.0);
    println!("figure tick_10k_vs_1k_100due {:.2} x", many.1 / few.1);
}
