//! Dispatcher, couriers and outbox together, under paused time: weeks pass in a blink.
#![expect(clippy::unwrap_used, reason = "tests")]

mod drain;

use super::*;
use crate::{
    outbox::{Lease, Limits, OutboxParts},
    ports::outbox_store::OutboxStore,
    supervision::{Bells, Running},
    testing::{
        fake_transport::{Attempt, FakeTransport},
        memory_store::MemoryStore,
        seeded_entropy::SeededEntropy,
        sim_clock::SimClock,
        submissions::submission,
        toy_registry::{Become, ToyRegistry, destination, snapshot},
    },
};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use tidegate_schemas::{
    agreement::{Breaker, Circumstances, Destination, IntakeTerms, RetryPolicy, ServiceAgreement},
    id::DestinationId,
    messages::{
        outbox::{Enqueue, Loads},
        registry::{Broken, RegistrySnapshot},
    },
    outcome::DeliveryError,
    view::{DestinationLoad, DispatcherObservation, OutboxObservation, UplinkStatus},
    window::{RawWindow, RawWindows, WindowSet},
    wire::WireFormat,
};

mod break_glass;
mod couriers;
mod explained;
mod failures;
mod openings;
mod outages;
mod work;

struct ReadyUplink(Arc<FakeTransport>);
impl Actor for ReadyUplink {
    type Context = Context<Self>;
}
impl Handler<Status> for ReadyUplink {
    type Result = MessageResult<Status>;
    fn handle(&mut self, _: Status, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.0.status())
    }
}

struct Rig {
    clock: Arc<SimClock>,
    transport: Arc<FakeTransport>,
    outbox: Addr<Outbox>,
    dispatcher: Addr<Dispatcher>,
    registry: Addr<ToyRegistry>,
    parts: DispatcherParts,
    outbox_parts: OutboxParts,
}

const START: &str = "2026-11-23T12:00:00Z";

fn ward() -> DestinationId {
    "ward".parse().unwrap()
}

/// Raw messages, short retries, no breaker, a generous budget: what a test doesn't set must not get in its way.
fn agreement() -> ServiceAgreement {
    ServiceAgreement {
        format: WireFormat::Raw,
        retry: RetryPolicy { steps: vec![SignedDuration::from_secs(15)], jitter: 0.0 },
        breaker: Breaker { failures: u32::MAX, ..Breaker::default() },
        fresh_circuits_per_hour: 600,
        ..ServiceAgreement::default()
    }
}

fn nightly(from: &str, to: &str) -> WindowSet {
    let window = RawWindow { from: Some(from.into()), to: Some(to.into()), ..RawWindow::default() };
    let raw = RawWindows { timezone: Some("UTC".into()), allow: vec![window], ..RawWindows::default() };
    WindowSet::from_raw(raw, "windows").unwrap()
}

impl Rig {
    fn new(destinations: Vec<Destination>) -> Self {
        let clock = Arc::new(SimClock::at(START.parse().unwrap()));
        let transport = Arc::new(FakeTransport::new(Arc::clone(&clock) as Arc<dyn Clock>));
        let registry = ToyRegistry(snapshot(destinations)).start();
        let bells = Bells::default();
        let entropy = Arc::new(SeededEntropy::new(1));
        let outbox_parts = OutboxParts {
            store: Arc::new(MemoryStore::new(1)) as Arc<dyn OutboxStore>,
            lease: Lease::default(),
            archive: None,
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            entropy: Arc::clone(&entropy) as Arc<dyn Entropy>,
            limits: Limits { reporting: false, ..Limits::default() },
            bells: bells.clone(),
        };
        let outbox = Outbox::new(outbox_parts.clone(), registry.clone().recipient(), DeathWatch::unwatched("outbox"));
        let outbox = Running::start(outbox).0;
        let parts = DispatcherParts {
            registry: registry.clone().recipient(),
            outbox: outbox.clone(),
            uplink: Some(ReadyUplink(Arc::clone(&transport)).start().recipient()),
            transport: Arc::clone(&transport) as Arc<dyn Transport>,
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            entropy,
            bell: bells.dispatcher,
        };
        let dispatcher = Running::start(Dispatcher::new(parts.clone(), DeathWatch::unwatched("dispatcher"))).0;
        Self { clock, transport, outbox, dispatcher, registry, parts, outbox_parts }
    }

    /// Dispatcher and Outbox end and begin anew over the same store, as after a fall of the Outbox.
    async fn restart(&mut self) {
        self.dispatcher.send(Shutdown).await.unwrap();
        self.outbox.send(Shutdown).await.unwrap();
        pass(1).await;
        let registry = self.registry.clone().recipient();
        let outbox = Outbox::new(self.outbox_parts.clone(), registry, DeathWatch::unwatched("outbox"));
        self.outbox = Running::start(outbox).0;
        self.parts.outbox = self.outbox.clone();
        let dispatcher = Dispatcher::new(self.parts.clone(), DeathWatch::unwatched("dispatcher"));
        self.dispatcher = Running::start(dispatcher).0;
    }

    async fn seen(&self) -> DispatcherObservation {
        match self.dispatcher.send(Observe).await.unwrap() {
            Observation::Dispatcher(seen) => seen,
            other => panic!("{other:?}"),
        }
    }

    async fn hand_in(&self, to: &str, device: &str, body: String) {
        let submission = submission(device, to, body);
        let limits = tidegate_schemas::agreement::Limits::default();
        self.outbox
            .send(Enqueue { submission, limits, break_glass_per_hour: None, stream: None })
            .await
            .unwrap()
            .unwrap();
    }

    async fn load(&self, of: &str) -> DestinationLoad {
        let loads = self.outbox.send(Loads).await.unwrap();
        loads.into_iter().find(|load| load.destination.as_str() == of).unwrap()
    }

    async fn account(&self) -> OutboxObservation {
        match self.outbox.send(Observe).await.unwrap() {
            Observation::Outbox(seen) => seen,
            other => panic!("{other:?}"),
        }
    }

    /// Bodies that the service took, in order.
    fn taken(&self, of: &str) -> Vec<String> {
        let taken = |attempt: &Attempt| attempt.outcome == Ok(200) && attempt.destination.as_str() == of;
        let text = |attempt: &Attempt| String::from_utf8(attempt.request.body.reveal().to_vec()).unwrap();
        self.transport.attempts().iter().filter(|a| taken(a)).map(text).collect()
    }
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[actix::test]
async fn a_reading_goes_out_at_once_when_the_window_is_open() {
    tokio::time::pause();
    let rig = Rig::new(vec![destination("ward", agreement())]);
    pass(5).await;
    rig.hand_in("ward", "p", "70".into()).await;
    pass(1).await;
    assert_eq!(rig.taken("ward"), ["70"]);
}

#[actix::test]
async fn a_week_with_a_two_day_outage_delivers_everything_in_order_and_inside_the_window() {
    tokio::time::pause();
    let windows = nightly("03:00", "05:00");
    let rig = Rig::new(vec![destination("ward", ServiceAgreement { windows: windows.clone(), ..agreement() })]);
    for n in 0..7 * 144 {
        let day = n / 144;
        match day {
            2 => rig.transport.take_down(&ward(), DeliveryError::DescriptorNotFound),
            4 => rig.transport.bring_up(&ward()),
            _ => {}
        }
        rig.hand_in("ward", "p", n.to_string()).await;
        pass(600).await;
    }
    pass(86_400).await;
    assert_eq!(rig.taken("ward"), (0..7 * 144).map(|n| n.to_string()).collect::<Vec<_>>());
    let agreement = ServiceAgreement { windows, ..agreement() };
    let is_open = |at| agreement.evaluate(&Circumstances::at(at)).open;
    for attempt in rig.transport.attempts() {
        assert!(is_open(attempt.at), "DW-1: {}", attempt.at);
    }
    for (_, _, at) in rig.transport.opened() {
        assert!(is_open(at), "DW-1: a circuit at {at}");
    }
    let seen = rig.account().await;
    assert_eq!((seen.gap, seen.account.delivered), (0, 7 * 144));
    assert_eq!(rig.load("ward").await.failures, 0);
}

#[actix::test]
async fn a_closed_window_counts_nothing_and_logs_no_failure() {
    tokio::time::pause();
    let rig =
        Rig::new(vec![destination("ward", ServiceAgreement { windows: nightly("03:00", "05:00"), ..agreement() })]);
    rig.hand_in("ward", "p", "70".into()).await;
    pass(10 * 3600).await;
    let load = rig.load("ward").await;
    assert_eq!((load.failures, load.last_error, load.fresh_circuits_last_hour), (0, None, 0));
    assert!(rig.transport.opened().is_empty());
}

#[actix::test]
async fn an_attempt_is_cut_off_at_the_closing_plus_grace() {
    tokio::time::pause();
    let rig =
        Rig::new(vec![destination("ward", ServiceAgreement { windows: nightly("12:00", "12:01"), ..agreement() })]);
    rig.transport.set_latency(Duration::from_secs(50));
    rig.hand_in("ward", "p", "70".into()).await;
    pass(3_600).await;
    assert!(
        rig.transport.attempts().is_empty(),
        "DW-2: the exchange began at 12:00:50 and would have ended at 12:01:40"
    );
    let load = rig.load("ward").await;
    assert_eq!((load.failures, load.queued), (0, 1), "DW-4");
}

#[actix::test]
async fn one_poison_message_in_a_hundred_lets_the_others_pass_in_the_same_opening() {
    tokio::time::pause();
    let rig = Rig::new(vec![destination("ward", agreement())]);
    rig.transport.answer(&ward(), Arc::new(|request| (request.body.reveal() == "50").then_some(Ok(422))));
    for n in 0..100 {
        rig.hand_in("ward", "p", n.to_string()).await;
    }
    pass(60).await;
    assert_eq!(rig.taken("ward"), (0..100).filter(|n| *n != 50).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!(rig.account().await.account.parked, 1);
}

#[actix::test]
async fn a_service_that_refuses_everything_leaves_nothing_parked_and_is_backed_off() {
    tokio::time::pause();
    // More than ten in one batch, and more than one lane: some refusals come after the tenth.
    for (format, devices, count) in
        [(WireFormat::Raw, 1, 50), (WireFormat::Raw, 3, 25), (WireFormat::CloudeventsBatch, 3, 25)]
    {
        let rig = Rig::new(vec![destination("ward", ServiceAgreement { format, ..agreement() })]);
        rig.transport.answer(&ward(), Arc::new(|_| Some(Ok(422))));
        for n in 0..count {
            rig.hand_in("ward", &format!("p{}", n % devices), n.to_string()).await;
        }
        pass(70).await;
        let (seen, load) = (rig.account().await, rig.load("ward").await);
        assert_eq!((seen.account.parked, seen.account.queued, seen.gap), (0, count, 0), "{format:?} {devices}");
        assert!(load.everything_refused && load.failures > 0);
        rig.transport.answer(&ward(), Arc::new(|_| None));
        pass(120).await;
        assert_eq!(rig.account().await.account.delivered, count, "{format:?} {devices}");
        assert!(!rig.load("ward").await.everything_refused);
    }
}

#[actix::test]
async fn what_a_service_refused_while_it_refused_everything_comes_back_with_its_first_success() {
    tokio::time::pause();
    let rig = Rig::new(vec![destination("ward", ServiceAgreement { lanes: 1, ..agreement() })]);
    rig.transport.answer(&ward(), Arc::new(|_| Some(Ok(422))));
    for n in 0..20 {
        rig.hand_in("ward", "p", n.to_string()).await;
    }
    pass(5).await;
    assert!(rig.load("ward").await.everything_refused);
    // The next try breaks off before the tenth refusal.
    rig.transport.answer(
        &ward(),
        Arc::new(|request| {
            Some(if request.body.reveal() == "4" { Err(DeliveryError::ConnectionLost) } else { Ok(422) })
        }),
    );
    pass(15).await;
    assert_eq!(rig.account().await.account.parked, 4);
    // It is well again, but for one message.
    rig.transport.answer(&ward(), Arc::new(|request| (request.body.reveal() == "0").then_some(Ok(422))));
    pass(60).await;
    let account = rig.account().await.account;
    assert_eq!((account.delivered, account.parked), (19, 1));
}

#[actix::test]
async fn a_service_that_is_gone_for_good_makes_dead_letters_and_other_statuses_do_not() {
    tokio::time::pause();
    for (status, dead) in [(410, 1), (404, 0), (403, 0), (500, 0), (302, 0)] {
        let rig = Rig::new(vec![destination("ward", agreement())]);
        rig.transport.answer(&ward(), Arc::new(move |_| Some(Ok(status))));
        rig.hand_in("ward", "p", "70".into()).await;
        pass(60).await;
        let seen = rig.account().await;
        assert_eq!((seen.account.dead, seen.account.queued), (dead, 1 - dead), "{status}");
    }
}

#[actix::test]
async fn two_destinations_never_share_an_isolation_and_one_that_is_down_slows_no_other() {
    tokio::time::pause();
    let rig = Rig::new(vec![destination("ward", agreement()), destination("lab", agreement())]);
    rig.transport.take_down(&ward(), DeliveryError::ConnectTimeout);
    for n in 0..20 {
        rig.hand_in("ward", "p", n.to_string()).await;
        rig.hand_in("lab", "p", n.to_string()).await;
    }
    pass(5).await;
    assert_eq!(rig.taken("lab").len(), 20);
    rig.transport.bring_up(&ward());
    pass(60).await;
    assert_eq!(rig.taken("ward").len(), 20);
    let mut by_isolation = BTreeMap::<[u8; 16], BTreeSet<DestinationId>>::new();
    for (destination, isolation, _) in rig.transport.opened() {
        by_isolation.entry(isolation.0).or_default().insert(destination);
    }
    assert!(by_isolation.values().all(|destinations| destinations.len() == 1), "PR-3");
}

#[actix::test]
async fn a_failure_is_followed_by_a_fresh_isolation_within_the_budget() {
    tokio::time::pause();
    let rig = Rig::new(vec![destination("ward", ServiceAgreement { fresh_circuits_per_hour: 5, ..agreement() })]);
    rig.transport.take_down(&ward(), DeliveryError::RendezvousFailed);
    rig.hand_in("ward", "p", "70".into()).await;
    pass(3_500).await;
    let opened = rig.transport.opened();
    assert_eq!(opened.len(), 5, "decision 13");
    assert_eq!(opened.iter().map(|(_, isolation, _)| isolation.0).collect::<BTreeSet<_>>().len(), 5);
    assert_eq!(rig.load("ward").await.last_error, Some(DeliveryError::TorBudget));
    rig.transport.bring_up(&ward());
    pass(3_600).await;
    assert_eq!(rig.taken("ward"), ["70"]);
}

#[actix::test]
async fn lanes_keep_the_order_of_each_device() {
    tokio::time::pause();
    for format in [WireFormat::Raw, WireFormat::CloudeventsBatch] {
        let rig = Rig::new(vec![destination("ward", ServiceAgreement { lanes: 4, format, ..agreement() })]);
        for n in 0..400 {
            rig.hand_in("ward", &format!("d{}", n % 7), format!("{}:{n:04}", n % 7)).await;
        }
        pass(120).await;
        assert_eq!(rig.account().await.account.delivered, 400);
        if format == WireFormat::Raw {
            let mut last = BTreeMap::<String, String>::new();
            for body in rig.taken("ward") {
                let (device, n) = body.split_once(':').unwrap();
                let before = last.insert(device.to_owned(), n.to_owned());
                assert!(before.is_none_or(|before| *before < *n), "OR-1: {body}");
            }
            let lanes: BTreeSet<[u8; 16]> = rig.transport.attempts().iter().map(|a| a.isolation.0).collect();
            assert!(lanes.len() > 1, "several lanes were at work");
        }
    }
}

#[actix::test]
async fn nothing_is_tried_before_tor_is_ready_nor_counted() {
    tokio::time::pause();
    let rig = Rig::new(vec![destination("ward", agreement())]);
    rig.transport.set_status(UplinkStatus::Starting);
    rig.hand_in("ward", "p", "70".into()).await;
    pass(300).await;
    assert!(rig.transport.opened().is_empty());
    rig.transport.set_status(UplinkStatus::Ready);
    pass(61).await;
    assert_eq!(rig.taken("ward"), ["70"]);
}

#[actix::test]
async fn a_clock_that_is_not_trusted_opens_only_what_does_not_depend_on_the_time() {
    tokio::time::pause();
    let timed = ServiceAgreement { windows: nightly("00:00", "24:00"), ..agreement() };
    let nights = ServiceAgreement { windows: nightly("12:00", "13:00"), ..agreement() };
    let rig = Rig::new(vec![destination("lab", agreement()), destination("ward", nights), destination("all", timed)]);
    rig.clock.set_trusted(false);
    for to in ["lab", "ward", "all"] {
        rig.hand_in(to, "p", "70".into()).await;
    }
    pass(120).await;
    assert_eq!((rig.taken("lab").len(), rig.taken("ward").len()), (1, 0));
    rig.clock.set_trusted(true);
    pass(240).await;
    assert_eq!(rig.taken("ward").len(), 1);
}

#[actix::test]
async fn new_windows_take_effect_at_once() {
    tokio::time::pause();
    let rig =
        Rig::new(vec![destination("ward", ServiceAgreement { windows: nightly("03:00", "05:00"), ..agreement() })]);
    rig.hand_in("ward", "p", "70".into()).await;
    pass(300).await;
    assert!(rig.taken("ward").is_empty());
    rig.registry.send(Become(snapshot(vec![destination("ward", agreement())]))).await.unwrap();
    rig.parts.bell.ring();
    pass(2).await;
    assert_eq!(rig.taken("ward"), ["70"]);
}

#[actix::test]
async fn nothing_goes_to_a_destination_that_can_not_be_used_any_more_and_nothing_of_it_is_lost() {
    tokio::time::pause();
    let rig = Rig::new(vec![]);
    let broken = Broken { reason: "its time zone is gone".into(), intake: IntakeTerms::default() };
    let spoilt = RegistrySnapshot { broken: [(ward(), broken)].into(), ..(*snapshot(vec![])).clone() };
    rig.registry.send(Become(Arc::new(spoilt))).await.unwrap();
    rig.hand_in("ward", "p", "70".into()).await;
    pass(2 * 86_400).await;
    assert!(rig.transport.opened().is_empty());
    assert_eq!((rig.load("ward").await.queued, rig.account().await.gap), (1, 0));
    let explained = rig.dispatcher.send(tidegate_schemas::messages::dispatcher::Explain { destination: ward() });
    assert!(explained.await.unwrap().is_none());
    rig.registry.send(Become(snapshot(vec![destination("ward", agreement())]))).await.unwrap();
    rig.parts.bell.ring();
    pass(2).await;
    assert_eq!(rig.load("ward").await.queued, 0, "put right");
}

#[actix::test]
async fn couriers_that_keep_panicking_suspend_their_destination_alone() {
    tokio::time::pause();
    let rig = Rig::new(vec![destination("ward", agreement()), destination("lab", agreement())]);
    rig.transport.panic_next(6);
    rig.hand_in("ward", "p", "70".into()).await;
    pass(120).await;
    let Observation::Dispatcher(seen) = rig.dispatcher.send(Observe).await.unwrap() else { panic!() };
    assert_eq!(seen.suspended, [ward()]);
    rig.hand_in("lab", "p", "71".into()).await;
    pass(5).await;
    assert_eq!(rig.taken("lab"), ["71"]);
    pass(900).await;
    assert_eq!(rig.taken("ward"), ["70"], "tried again after 15 minutes");
}

#[actix::test]
async fn when_the_dispatcher_falls_its_couriers_fall_with_it_and_the_next_one_goes_on() {
    tokio::time::pause();
    let rig = Rig::new(vec![destination("ward", agreement())]);
    rig.transport.set_latency(Duration::from_secs(20));
    rig.hand_in("ward", "p", "70".into()).await;
    pass(25).await;
    rig.dispatcher.send(Shutdown).await.unwrap();
    pass(60).await;
    assert!(rig.transport.attempts().is_empty(), "the request under way was dropped with its courier");
    let next = Running::start(Dispatcher::new(rig.parts.clone(), DeathWatch::unwatched("dispatcher")));
    pass(60).await;
    assert_eq!(rig.taken("ward"), ["70"]);
    drop(next);
}

#[actix::test]
async fn a_connection_that_went_stale_is_replaced_at_once() {
    tokio::time::pause();
    let rig = Rig::new(vec![destination("ward", agreement())]);
    rig.hand_in("ward", "p", "1".into()).await;
    pass(30).await;
    let first = std::sync::atomic::AtomicBool::new(true);
    rig.transport.answer(
        &ward(),
        Arc::new(move |_| {
            first.swap(false, std::sync::atomic::Ordering::Relaxed).then_some(Err(DeliveryError::ConnectionLost))
        }),
    );
    let before: Timestamp = rig.clock.now();
    rig.hand_in("ward", "p", "2".into()).await;
    pass(2).await;
    assert_eq!(rig.taken("ward"), ["1", "2"]);
    assert!(rig.clock.now().duration_since(before).as_secs() <= 3);
    assert_eq!(rig.load("ward").await.failures, 0);
}
