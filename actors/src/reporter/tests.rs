//! Reporter, outbox and a fake room together, under paused time.
#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::{
    outbox::{Lease, Limits, Outbox, OutboxParts},
    ports::{clock::Clock, outbox_store::OutboxStore, room::RoomError},
    supervision::{Bells, Running},
    testing::{
        fake_room::{FakeRoom, Fault},
        memory_store::MemoryStore,
        seeded_entropy::SeededEntropy,
        sim_clock::SimClock,
        submissions::submission,
        toy_registry::{ToyRegistry, destination, snapshot},
    },
};
use proptest::prelude::*;
use tidegate_schemas::{
    agreement::{HeadOfLine, Limits as QueueLimits, RetryPolicy, ServiceAgreement},
    entry::Event,
    messages::outbox::{Enqueue, Settle, Settlement},
};
use tokio::time::Instant;

struct Rig {
    room: FakeRoom,
    outbox: Addr<Outbox>,
    parts: ReporterParts,
    reporter: Addr<Reporter>,
}

impl Rig {
    fn new() -> Self {
        tokio::time::pause();
        let registry = ToyRegistry(snapshot(vec![destination("ward", ServiceAgreement::default())])).start();
        let bells = Bells::default();
        let outbox_parts = OutboxParts {
            store: Arc::new(MemoryStore::new(1)) as Arc<dyn OutboxStore>,
            lease: Lease::default(),
            archive: None,
            clock: Arc::new(SimClock::at("2026-11-23T12:00:00Z".parse().unwrap())) as Arc<dyn Clock>,
            entropy: Arc::new(SeededEntropy::new(1)),
            limits: Limits::default(),
            bells: bells.clone(),
        };
        let outbox = Outbox::new(outbox_parts, registry.recipient(), DeathWatch::unwatched("outbox"));
        let outbox = Running::start(outbox).0;
        let room = FakeRoom::default();
        let parts = ReporterParts {
            room: Arc::new(room.clone()),
            pending: outbox.clone().recipient(),
            reported: outbox.clone().recipient(),
            bell: bells.reporter,
            entropy: Arc::new(SeededEntropy::new(2)),
        };
        let reporter = start(&parts);
        Self { room, outbox, parts, reporter }
    }

    /// So many messages are delivered, one commit each for custody and one for all ends.
    async fn deliver(&self, count: usize) {
        let mut settlements = Vec::new();
        for _ in 0..count {
            let submission = submission("pacemaker", "ward", "70");
            let limits = QueueLimits { messages: 10_000, bytes: 1 << 24, ..QueueLimits::default() };
            let accepted = self
                .outbox
                .send(Enqueue { submission, limits, break_glass_per_hour: None, stream: None })
                .await
                .unwrap()
                .unwrap();
            settlements.push(Settlement { seq: accepted.entry.seq, event: Event::Deliver, error: None, receipt: None });
        }
        self.outbox
            .send(Settle {
                destination: "ward".parse().unwrap(),
                settlements,
                head_of_line: HeadOfLine::default(),
                retry: RetryPolicy::default(),
                busy_ms: 0,
            })
            .await
            .unwrap()
            .unwrap();
    }

    async fn observe(&self) -> ReporterObservation {
        match self.reporter.send(Observe).await.unwrap() {
            Observation::Reporter(seen) => seen,
            other => panic!("{other:?}"),
        }
    }

    async fn pending(&self) -> u64 {
        match self.outbox.send(Observe).await.unwrap() {
            Observation::Outbox(seen) => seen.reports_pending,
            other => panic!("{other:?}"),
        }
    }

    fn restart(&mut self) {
        // As the kernel does after a fall: the old one is gone at once, wherever it was.
        let _ = self.reporter.try_send(Shutdown);
        self.reporter = start(&self.parts);
    }
}

fn start(parts: &ReporterParts) -> Addr<Reporter> {
    Running::start(Reporter::new(parts.clone(), DeathWatch::unwatched("reporter"))).0
}

fn up_to(last: u64) -> Vec<u64> {
    (1..=last).collect()
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

fn unavailable() -> Option<Fault> {
    Some(Fault::Error(RoomError::Unavailable("connection refused".into())))
}

#[actix::test]
async fn a_few_deliveries_get_a_notice_each_and_at_once() {
    let rig = Rig::new();
    rig.deliver(3).await;
    pass(1).await;
    assert_eq!((rig.room.told(), rig.room.events().len()), (up_to(3), 3));
    let seen = rig.observe().await;
    assert_eq!((seen.events_sent, seen.reports_sent, seen.last_error), (3, 3, None));
    assert_eq!(rig.pending().await, 0);
}

#[actix::test]
async fn a_thousand_deliveries_are_told_within_five_minutes_of_synapses_default_limit() {
    let rig = Rig::new();
    rig.room.limit(0.2, 10.0);
    let start = Instant::now();
    rig.deliver(1_000).await;
    while rig.pending().await > 0 {
        pass(1).await;
        assert!(start.elapsed() <= Duration::from_secs(300), "{} are still pending", rig.pending().await);
    }
    assert_eq!(rig.room.told(), up_to(1_000));
    assert_eq!(rig.room.limited(), 0, "our own bucket kept us below");
}

#[actix::test]
async fn a_thousand_deliveries_one_by_one_are_told_within_five_minutes() {
    let rig = Rig::new();
    rig.room.limit(0.2, 10.0);
    let start = Instant::now();
    for _ in 0..1_000 {
        rig.deliver(1).await;
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    while rig.pending().await > 0 {
        pass(1).await;
    }
    assert!(start.elapsed() <= Duration::from_secs(300), "{:?}", start.elapsed());
    assert_eq!((rig.room.told(), rig.room.limited()), (up_to(1_000), 0));
}

#[actix::test]
async fn what_gathers_while_notices_are_scarce_is_merged() {
    let rig = Rig::new();
    // More than the burst, so that the bucket is empty.
    for _ in 0..12 {
        rig.deliver(1).await;
        pass(1).await;
    }
    pass(60).await;
    assert_eq!(rig.room.told(), up_to(12));
    assert!(rig.room.events().len() < 12, "{} notices", rig.room.events().len());
}

#[actix::test]
async fn a_limit_is_waited_out_and_nothing_is_asked_before() {
    let rig = Rig::new();
    rig.room.script([Some(Fault::Error(RoomError::Limited { wait: Duration::from_secs(308) }))]);
    rig.deliver(2).await;
    pass(307).await;
    assert_eq!((rig.room.requests(), rig.room.told()), (1, vec![]));
    assert_eq!(rig.observe().await.last_error.as_deref(), Some("the homeserver limits our rate"));
    pass(20).await;
    assert_eq!((rig.room.told(), rig.observe().await.last_error), (up_to(2), None));
}

#[actix::test]
async fn an_outage_is_tried_ever_less_often_and_told_when_it_is_over() {
    let rig = Rig::new();
    rig.room.script((0..10_000).map(|_| unavailable()));
    rig.deliver(5).await;
    pass(3_600).await;
    let requests = rig.room.requests();
    assert!((60..80).contains(&requests), "{requests} tries in an hour");
    rig.room.heal();
    pass(61).await;
    assert_eq!((rig.room.told(), rig.pending().await), (up_to(5), 0));
}

#[actix::test]
async fn a_refusal_is_tried_every_five_minutes() {
    let rig = Rig::new();
    rig.room.script((0..10_000).map(|_| Some(Fault::Error(RoomError::Refused("not in the room".into())))));
    rig.deliver(1).await;
    pass(3_600).await;
    assert_eq!(rig.room.requests(), 12);
    assert!(rig.observe().await.last_error.unwrap().contains("not in the room"));
}

#[actix::test]
async fn a_room_that_never_answers_is_given_up() {
    let rig = Rig::new();
    rig.room.script([Some(Fault::Hang)]);
    rig.deliver(1).await;
    pass(905).await;
    assert_eq!(rig.room.told(), up_to(1));
}

#[actix::test]
async fn an_event_whose_answer_got_lost_is_not_made_twice() {
    let rig = Rig::new();
    rig.room.script([Some(Fault::LostAnswer), Some(Fault::LostAnswer)]);
    rig.deliver(1).await;
    pass(30).await;
    assert_eq!((rig.room.requests(), rig.room.events().len(), rig.pending().await), (3, 1, 0));
}

#[actix::test]
async fn a_panic_in_the_room_ends_the_actor_and_the_next_one_goes_on() {
    let mut rig = Rig::new();
    rig.room.script([Some(Fault::Panic)]);
    rig.deliver(2).await;
    pass(5).await;
    assert!(!rig.reporter.connected());
    rig.restart();
    pass(5).await;
    assert_eq!(rig.room.told(), up_to(2));
}

#[derive(Debug, Clone)]
enum Step {
    Deliver(usize),
    Pass(u64),
    Restart,
    Faults(Vec<Option<Fault>>),
}

fn fault() -> impl Strategy<Value = Option<Fault>> {
    prop_oneof![
        2 => Just(None),
        2 => (1_u64..400).prop_map(|s| Some(Fault::Error(RoomError::Limited { wait: Duration::from_secs(s) }))),
        2 => Just(unavailable()),
        2 => Just(Some(Fault::LostAnswer)),
        1 => Just(Some(Fault::Hang)),
        1 => Just(Some(Fault::Error(RoomError::Refused("no".into())))),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1_usize..30).prop_map(Step::Deliver),
        4 => (0_u64..20_000).prop_map(Step::Pass),
        2 => Just(Step::Restart),
        2 => proptest::collection::vec(fault(), 1..6).prop_map(Step::Faults),
    ]
}

async fn play(steps: Vec<Step>) {
    let mut rig = Rig::new();
    rig.room.limit(0.2, 10.0);
    let mut delivered = 0;
    for step in steps {
        match step {
            Step::Deliver(count) => {
                rig.deliver(count).await;
                delivered += count as u64;
            }
            Step::Pass(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
            Step::Restart => rig.restart(),
            Step::Faults(faults) => rig.room.script(faults),
        }
        let told = rig.room.told();
        assert_eq!(told, up_to(told.len() as u64), "in order, each once, at any moment");
    }
    rig.room.heal();
    pass(3_600).await;
    assert_eq!(rig.room.told(), up_to(delivered));
    assert_eq!(rig.pending().await, 0);
    assert!(rig.room.events().iter().all(|event| event.batch.reports.len() <= REPORTS_MAX));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn each_report_exactly_once_and_in_order_whatever_happens(steps in proptest::collection::vec(step(), 1..30)) {
        actix::System::new().block_on(play(steps));
    }
}
