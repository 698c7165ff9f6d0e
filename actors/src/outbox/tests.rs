//! The Outbox over a store in memory, with faults: what is answered is on disk, and the account never has a gap.
#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::{
    supervision::Running,
    testing::{
        memory_archive::MemoryArchive,
        memory_store::{CommitFault, MemoryStore},
        seeded_entropy::SeededEntropy,
        sim_clock::SimClock,
        submissions,
        toy_registry::{ToyRegistry, destination, snapshot},
    },
};
use jiff::SignedDuration;
use std::collections::BTreeSet;
use tidegate_schemas::{
    agreement::{DeviceLimits, HeadOfLine, Lifetime, Limits as QueueLimits, OnFull, RetryPolicy, ServiceAgreement},
    entry::{EntryState, Event},
    id::{EntryRef, MessageId},
    messages::{
        gateway::{Observe, Shutdown},
        outbox::{
            Budget, Enqueue, EnqueueError, EntryName, Fail, Ignore, IntakeLimit, List, ListLedger, ListQuarantine,
            Loads, Operate, OperateError, PendingReceipts, PendingReports, Pick, Quarantine, Receipted, Reported,
            Reserve, SetPaused, Settle, Settlement, Show, Signal, SignalError, SignalTaken, Spend, StillQueued,
        },
        tools::Progress,
    },
    outcome::DeliveryError,
    submission::{Origin, QuarantineReason, Redelivery, Submission},
    view::{DestinationLoad, Observation, Shown},
};

mod archiving;
mod clock;
mod damage;
mod examine;
mod expiry;
mod limits;
mod lives;
mod model;
mod poison;
mod priorities;
mod receipts;
mod redelivery;
mod refusals;
mod serials;
mod signals;
mod streams;
mod tools;

const LIMITS: QueueLimits = limits_of(1_000, 1 << 20);

const fn limits_of(messages: u64, bytes: u64) -> QueueLimits {
    let device = DeviceLimits { messages: None, bytes: None, per_minute: None };
    QueueLimits { messages, bytes, on_full: OnFull::Reject, device }
}

pub(crate) struct Rig {
    pub store: Arc<MemoryStore>,
    pub clock: Arc<SimClock>,
    pub archive: Option<Arc<MemoryArchive>>,
    lease: Lease,
    registry: Recipient<Current>,
    pub bells: Bells,
}

impl Rig {
    fn new() -> Self {
        let _ = tokio::time::Instant::now();
        let agreement =
            ServiceAgreement { lifetime: Lifetime::of(SignedDuration::from_hours(1)), ..ServiceAgreement::default() };
        let registry = ToyRegistry(snapshot(vec![destination("ward", agreement)])).start().recipient();
        let clock = Arc::new(SimClock::at("2026-11-23T12:00:00Z".parse().unwrap()));
        let (store, lease, bells) = (Arc::new(MemoryStore::new(7)), Lease::default(), Bells::default());
        Self { store, clock, archive: None, lease, registry, bells }
    }
    fn start(&self) -> Addr<Outbox> {
        self.start_with(Limits::default())
    }
    fn start_with(&self, limits: Limits) -> Addr<Outbox> {
        let parts = OutboxParts {
            store: Arc::clone(&self.store) as Arc<dyn OutboxStore>,
            lease: Arc::clone(&self.lease),
            archive: self.archive.clone().map(|archive| archive as Arc<dyn LedgerArchive>),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            entropy: Arc::new(SeededEntropy::new(self.store.commits())),
            limits,
            bells: self.bells.clone(),
        };
        let outbox = Outbox::new(parts, self.registry.clone(), DeathWatch::unwatched("outbox"));
        Running::start(outbox).0
    }
}

fn submission(device: &str, body: impl Into<bytes::Bytes>) -> Submission {
    submissions::submission(device, "ward", body)
}

async fn enqueue(
    outbox: &Addr<Outbox>,
    submission: Submission,
) -> Result<tidegate_schemas::messages::outbox::Accepted, EnqueueError> {
    outbox.send(Enqueue { submission, limits: LIMITS, break_glass_per_hour: None, stream: None }).await.unwrap()
}

async fn settle(outbox: &Addr<Outbox>, seq: u64, event: Event) -> tidegate_schemas::messages::outbox::Settled {
    let error = (event != Event::Deliver).then_some(DeliveryError::Status(422));
    let settlements = vec![Settlement { seq, event, error, receipt: None }];
    outbox
        .send(Settle {
            destination: "ward".parse().unwrap(),
            settlements,
            head_of_line: HeadOfLine::default(),
            retry: RetryPolicy::default(),
            busy_ms: 0,
        })
        .await
        .unwrap()
        .unwrap()
}

/// Settles many entries at once, as one answer of the service does.
async fn settle_by(
    outbox: &Addr<Outbox>,
    events: &[(u64, Event)],
    head_of_line: HeadOfLine,
) -> tidegate_schemas::messages::outbox::Settled {
    let settlement = |(seq, event): &(u64, Event)| {
        let error = (*event != Event::Deliver).then_some(DeliveryError::Status(422));
        Settlement { seq: *seq, event: *event, error, receipt: None }
    };
    let message = Settle {
        destination: "ward".parse().unwrap(),
        settlements: events.iter().map(settlement).collect(),
        head_of_line,
        retry: RetryPolicy { jitter: 0.0, ..RetryPolicy::default() },
        busy_ms: 0,
    };
    outbox.send(message).await.unwrap().unwrap()
}

/// The places of a pick.
async fn pick_by(
    outbox: &Addr<Outbox>,
    count_max: usize,
    head_of_line: HeadOfLine,
    break_glass_only: bool,
) -> Vec<u64> {
    let destination = "ward".parse().unwrap();
    let message = Pick { destination, after_seq: 0, count_max, bytes_max: 1 << 20, break_glass_only, head_of_line };
    outbox.send(message).await.unwrap().unwrap().iter().map(|entry| entry.seq).collect()
}

async fn load(outbox: &Addr<Outbox>) -> DestinationLoad {
    outbox.send(Loads).await.unwrap().remove(0)
}

/// Waits until a restarted outbox has read what is there: an empty write passes through the writer.
async fn ready(outbox: &Addr<Outbox>) {
    let message = Settle {
        destination: "nobody".parse().unwrap(),
        settlements: vec![],
        head_of_line: HeadOfLine::default(),
        retry: RetryPolicy::default(),
        busy_ms: 0,
    };
    let _ = outbox.send(message).await.unwrap();
}

async fn pick(outbox: &Addr<Outbox>) -> Vec<tidegate_schemas::entry::Entry> {
    let message = Pick {
        destination: "ward".parse().unwrap(),
        after_seq: 0,
        count_max: 500,
        bytes_max: 1 << 20,
        break_glass_only: false,
        head_of_line: HeadOfLine::default(),
    };
    outbox.send(message).await.unwrap().unwrap()
}

async fn observe(outbox: &Addr<Outbox>) -> OutboxObservation {
    match outbox.send(Observe).await.unwrap() {
        Observation::Outbox(seen) => seen,
        other => panic!("{other:?}"),
    }
}

async fn operate(outbox: &Addr<Outbox>, seq: u64, event: Event) -> Result<EntryState, OperateError> {
    let entry = EntryRef { destination: "ward".parse().unwrap(), seq };
    outbox.send(Operate { entry, event }).await.unwrap()
}

#[actix::test]
async fn a_hundred_equal_readings_are_a_hundred_entries_in_order() {
    let rig = Rig::new();
    let outbox = rig.start();
    for _ in 0..100 {
        assert!(!enqueue(&outbox, submission("patient", "70 bpm")).await.unwrap().duplicate);
    }
    let picked = pick(&outbox).await;
    assert_eq!(picked.iter().map(|e| e.seq).collect::<Vec<_>>(), (1..=100).collect::<Vec<_>>());
    assert_eq!(picked.iter().map(|e| e.envelope.id).collect::<BTreeSet<MessageId>>().len(), 100);
}

#[actix::test]
async fn a_redelivery_is_known_by_dup_packet_and_content_within_its_session_alone() {
    let rig = Rig::new();
    let outbox = rig.start();
    let sent = |session, packet_id, dup, body: &'static str| {
        let redelivery = Some(Redelivery::Mqtt { session, packet_id, dup });
        enqueue(&outbox, Submission { redelivery, ..submission("patient", body) })
    };
    let first = sent(1, 5, false, "70").await.unwrap();
    let again = sent(1, 5, true, "70").await.unwrap();
    assert!(again.duplicate && again.id == first.id && again.entry == first.entry);
    assert!(!sent(1, 5, false, "70").await.unwrap().duplicate, "the packet id was reused");
    assert!(!sent(1, 6, true, "70").await.unwrap().duplicate, "another packet");
    assert!(!sent(1, 5, true, "71").await.unwrap().duplicate, "another content");
    assert!(!sent(2, 5, true, "71").await.unwrap().duplicate, "another session");
}

#[actix::test]
async fn an_idempotency_key_is_remembered_for_two_days_and_refuses_another_body() {
    tokio::time::pause();
    let rig = Rig::new();
    let outbox = rig.start();
    let keyed = |body: &'static str| {
        let redelivery = Some(Redelivery::Key("k1".into()));
        Submission { origin: Origin::Http, redelivery, ..submission("patient", body) }
    };
    let first = enqueue(&outbox, keyed("70")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(40 * 3600)).await;
    assert_eq!(enqueue(&outbox, keyed("70")).await.unwrap().id, first.id);
    assert_eq!(enqueue(&outbox, keyed("71")).await, Err(EnqueueError::KeyReused));
    tokio::time::sleep(Duration::from_secs(20 * 3600)).await;
    assert!(!enqueue(&outbox, keyed("71")).await.unwrap().duplicate);
    assert_eq!(rig.store.contents().keys().filter(|key| key[0] == b'u').count(), 1, "old keys are removed");
}

#[actix::test]
async fn large_bodies_come_back_whole_and_leave_nothing_behind() {
    let rig = Rig::new();
    let outbox = rig.start();
    for bytes in [0, 1, 3_000, 4_096, 100_000, 128 * 1024] {
        let body: Vec<u8> = (0..bytes).map(|i| (i % 251) as u8).collect();
        let seq = enqueue(&outbox, submission("patient", body.clone())).await.unwrap().entry.seq;
        let picked = pick(&outbox).await;
        assert_eq!(&picked[0].body.reveal()[..], &body[..]);
        settle(&outbox, seq, Event::Deliver).await;
    }
    assert!(rig.store.contents().keys().all(|key| !matches!(key[0], b'm' | b'b' | b'h')));
    assert_eq!(observe(&outbox).await.waiting_bytes, 0);
}

#[actix::test]
async fn a_failed_commit_acknowledges_nothing_and_the_next_one_works() {
    for fault in [CommitFault::Full, CommitFault::Io, CommitFault::LostBeforeFlush, CommitFault::Unknown] {
        let rig = Rig::new();
        let outbox = rig.start();
        enqueue(&outbox, submission("patient", "1")).await.unwrap();
        rig.store.fail_next(1, fault);
        assert!(matches!(enqueue(&outbox, submission("patient", "2")).await, Err(EnqueueError::Store(_))));
        enqueue(&outbox, submission("patient", "3")).await.unwrap();
        let seen = observe(&outbox).await;
        assert_eq!((seen.gap, seen.failure), (0, None));
        let bodies: Vec<_> = pick(&outbox).await.iter().map(|e| e.body.reveal().to_vec()).collect();
        assert!(bodies.contains(&b"1".to_vec()) && bodies.contains(&b"3".to_vec()), "{fault:?}");
        assert_eq!(seen.account.queued as usize, bodies.len());
    }
}

#[actix::test]
async fn a_full_destination_refuses_and_says_so_on_disk_for_a_brokers_publication() {
    let rig = Rig::new();
    let outbox = rig.start();
    let limits = limits_of(2, 1_000);
    let send = |origin| {
        outbox.send(Enqueue {
            submission: Submission { origin, ..submission("p", "x") },
            limits,
            break_glass_per_hour: None,
            stream: None,
        })
    };
    for _ in 0..2 {
        send(Origin::MqttQos1).await.unwrap().unwrap();
    }
    assert_eq!(
        send(Origin::MqttQos1).await.unwrap(),
        Err(EnqueueError::Refused { limit: IntakeLimit::Destination, recorded: true })
    );
    assert_eq!(
        send(Origin::Http).await.unwrap(),
        Err(EnqueueError::Refused { limit: IntakeLimit::Destination, recorded: false })
    );
    let seen = observe(&outbox).await;
    assert_eq!((seen.account.refused, seen.account.accepted, seen.gap), (1, 3, 0));
}

#[actix::test]
async fn ten_refusals_in_a_row_are_the_destinations_fault_and_leave_nothing_parked() {
    let rig = Rig::new();
    let outbox = rig.start();
    for _ in 0..12 {
        enqueue(&outbox, submission("p", "x")).await.unwrap();
    }
    for seq in 1..=9 {
        assert!(!settle(&outbox, seq, Event::Park).await.everything_refused);
    }
    assert_eq!(observe(&outbox).await.account.parked, 9);
    assert!(settle(&outbox, 10, Event::Park).await.everything_refused);
    let seen = observe(&outbox).await;
    assert_eq!((seen.account.parked, seen.account.queued, seen.gap), (0, 12, 0));
    assert_eq!(pick(&outbox).await.first().map(|e| e.seq), Some(1), "they are back at their places");
}

#[actix::test]
async fn one_poison_message_in_a_hundred_is_parked_alone() {
    let rig = Rig::new();
    let outbox = rig.start();
    for _ in 0..100 {
        enqueue(&outbox, submission("p", "x")).await.unwrap();
    }
    for seq in 1..=100 {
        settle(&outbox, seq, if seq == 50 { Event::Park } else { Event::Deliver }).await;
    }
    let seen = observe(&outbox).await;
    assert_eq!((seen.account.parked, seen.account.delivered, seen.gap), (1, 99, 0));
    assert_eq!(operate(&outbox, 50, Event::Retry).await, Ok(EntryState::Queued));
    assert_eq!(pick(&outbox).await[0].seq, 50);
}

#[actix::test]
async fn held_entries_are_out_of_the_queue_and_come_back_to_their_place() {
    let rig = Rig::new();
    let outbox = rig.start();
    for _ in 0..3 {
        enqueue(&outbox, submission("p", "x")).await.unwrap();
    }
    operate(&outbox, 1, Event::Hold).await.unwrap();
    assert_eq!(pick(&outbox).await[0].seq, 2);
    assert!(matches!(operate(&outbox, 1, Event::Retry).await, Err(OperateError::Illegal(_))));
    operate(&outbox, 1, Event::Release).await.unwrap();
    assert_eq!(pick(&outbox).await[0].seq, 1);
    operate(&outbox, 1, Event::Purge).await.unwrap();
    assert!(matches!(operate(&outbox, 1, Event::Purge).await, Err(OperateError::Unknown(_))));
    assert!(matches!(operate(&outbox, 99, Event::Hold).await, Err(OperateError::Unknown(_))));
    let place = EntryRef { destination: "ward".parse().unwrap(), seq: 1 };
    let shown = outbox.send(Show { name: EntryName::Place(place) }).await.unwrap().unwrap();
    assert!(matches!(shown, Some(Shown::Ended(ended)) if ended.state == EntryState::Purged));
}

#[actix::test]
async fn a_page_has_a_cursor_and_the_pages_together_have_everything_once() {
    let rig = Rig::new();
    let outbox = rig.start();
    for _ in 0..25 {
        enqueue(&outbox, submission("p", "x")).await.unwrap();
    }
    for seq in [3, 4, 20] {
        operate(&outbox, seq, Event::Hold).await.unwrap();
    }
    let (mut after, mut seqs) = (None, vec![]);
    loop {
        let list = List { destination: None, states: vec![], device: None, after, limit: 7 };
        let page = outbox.send(list).await.unwrap().unwrap();
        seqs.extend(page.entries.iter().map(|e| e.entry.seq));
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    assert_eq!(seqs, (1..=25).collect::<Vec<_>>());
    let states = vec![EntryState::Held];
    let held = List { destination: None, states, device: Some("p".parse().unwrap()), after: None, limit: 100 };
    let held: Vec<u64> = outbox.send(held).await.unwrap().unwrap().entries.iter().map(|e| e.entry.seq).collect();
    assert_eq!(held, [3, 4, 20]);
}

#[actix::test]
async fn messages_expire_by_custody_and_never_by_the_wall_clock() {
    tokio::time::pause();
    let rig = Rig::new();
    let outbox = rig.start();
    enqueue(&outbox, submission("p", "x")).await.unwrap();
    // 30 days ahead and back: nothing expires.
    rig.clock.step(SignedDuration::from_hours(720));
    tokio::time::sleep(Duration::from_secs(120)).await;
    rig.clock.step(SignedDuration::from_hours(-720));
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(observe(&outbox).await.account.expired, 0);
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    let seen = observe(&outbox).await;
    assert_eq!((seen.account.expired, seen.account.queued, seen.gap), (1, 0, 0));
}

#[actix::test]
async fn a_message_with_its_own_lifetime_ends_with_it() {
    tokio::time::pause();
    let rig = Rig::new();
    let outbox = rig.start();
    enqueue(&outbox, Submission { expiry_s: Some(60), ..submission("p", "x") }).await.unwrap();
    enqueue(&outbox, submission("p", "y")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(observe(&outbox).await.account.expired, 1);
}

#[actix::test]
async fn the_tor_budget_holds_over_a_restart() {
    tokio::time::pause();
    let rig = Rig::new();
    let spend = |outbox: Addr<Outbox>| async move {
        let message = Spend { destination: "ward".parse().unwrap(), fresh_circuits_per_hour: 3 };
        outbox.send(message).await.unwrap().unwrap()
    };
    let outbox = rig.start();
    for _ in 0..2 {
        assert_eq!(spend(outbox.clone()).await, Budget::Granted);
    }
    outbox.send(Shutdown).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let outbox = rig.start();
    assert_eq!(spend(outbox.clone()).await, Budget::Granted);
    let Budget::UsedUp { wait } = spend(outbox.clone()).await else { panic!("a fourth circuit") };
    assert!(wait.as_secs() > 3_400 && wait.as_secs() <= 3_600, "{wait:?}");
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert_eq!(spend(outbox).await, Budget::Granted);
}

#[actix::test]
async fn a_failure_backs_the_destination_off_and_a_success_ends_that() {
    tokio::time::pause();
    let rig = Rig::new();
    let outbox = rig.start();
    enqueue(&outbox, submission("p", "x")).await.unwrap();
    let fail = |error| Fail {
        destination: "ward".parse().unwrap(),
        error,
        retry_after_s: None,
        retry: RetryPolicy::default(),
    };
    outbox.send(fail(DeliveryError::WindowClosed)).await.unwrap().unwrap();
    assert_eq!(outbox.send(Loads).await.unwrap()[0].failures, 0, "DW-4: a closed window is no failure");
    for _ in 0..3 {
        outbox.send(fail(DeliveryError::DescriptorNotFound)).await.unwrap().unwrap();
    }
    let load = &outbox.send(Loads).await.unwrap()[0];
    assert!(load.failures == 3 && load.due_in_ms >= 300_000, "{load:?}");
    settle(&outbox, 1, Event::Deliver).await;
    let load = &outbox.send(Loads).await.unwrap()[0];
    assert!(load.failures == 0 && load.due_in_ms == 0 && load.last_error.is_none());
}

#[actix::test]
async fn a_reserved_report_comes_again_as_it_was_until_the_room_has_it() {
    let rig = Rig::new();
    let outbox = rig.start();
    for _ in 0..5 {
        let seq = enqueue(&outbox, submission("p", "x")).await.unwrap().entry.seq;
        settle(&outbox, seq, Event::Deliver).await;
    }
    let ask =
        |outbox: Addr<Outbox>| async move { outbox.send(PendingReports { count_max: 2 }).await.unwrap().unwrap() };
    let first = ask(outbox.clone()).await.unwrap();
    assert_eq!((first.first, first.last, first.reports.len(), first.more), (1, 2, 2, 3));
    outbox.send(Shutdown).await.unwrap();
    let outbox = rig.start();
    assert_eq!(ask(outbox.clone()).await.unwrap(), first, "the same range under the same transaction id");
    outbox.send(Reported { last: 2, event_id: "$e".into() }).await.unwrap().unwrap();
    let second = ask(outbox.clone()).await.unwrap();
    assert!(second.first == 3 && second.transaction_id != first.transaction_id);
    assert_eq!(observe(&outbox).await.reports_pending, 3);
}

#[actix::test]
async fn the_ledger_and_the_quarantine_stay_within_their_limits() {
    let rig = Rig::new();
    let limits = Limits { ledger_entries_max: 10, quarantine_entries_max: 5, ..Limits::default() };
    let outbox = rig.start_with(limits);
    for _ in 0..80 {
        let seq = enqueue(&outbox, submission("p", "x")).await.unwrap().entry.seq;
        settle(&outbox, seq, Event::Deliver).await;
    }
    for _ in 0..8 {
        let quarantine = Quarantine {
            reason: QuarantineReason::NoRoute,
            topic: "ä".repeat(300),
            body_bytes: 1,
            origin: Origin::MqttQos0,
            redelivery: None,
        };
        outbox.send(quarantine).await.unwrap().unwrap();
    }
    let count = |prefix: u8| rig.store.contents().keys().filter(|key| key[0] == prefix).count();
    // Nobody heard them: five times the limit, then the oldest go, counted.
    assert_eq!((count(b'l'), count(b'q')), (50, 5));
    let seen = observe(&outbox).await;
    assert_eq!((seen.account.quarantined, seen.account.delivered, seen.gap), (8, 80, 0));
    outbox.send(Reported { last: 80, event_id: "$e".into() }).await.unwrap().unwrap();
    assert_eq!(count(b'l'), 10);
}

#[actix::test]
async fn a_damaged_entry_is_set_aside_and_the_next_one_comes() {
    let rig = Rig::new();
    let outbox = rig.start();
    for body in ["1", "2"] {
        enqueue(&outbox, submission("p", body)).await.unwrap();
    }
    outbox.send(Shutdown).await.unwrap();
    let mut contents = rig.store.contents();
    let at = contents.keys().find(|key| key[0] == b'm').cloned().unwrap();
    contents.get_mut(&at).unwrap()[8] ^= 1;
    let rig = Rig { store: Arc::new(MemoryStore::with_contents(1, contents)), ..rig };
    let outbox = rig.start();
    ready(&outbox).await;
    assert_eq!(pick(&outbox).await.iter().map(|e| e.seq).collect::<Vec<_>>(), [2]);
    while observe(&outbox).await.account.quarantined == 0 {
        tokio::task::yield_now().await;
    }
    let seen = observe(&outbox).await;
    assert_eq!((seen.account.queued, seen.account.quarantined, seen.gap), (1, 1, 0));
}
