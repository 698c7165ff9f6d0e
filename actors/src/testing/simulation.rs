//! Weeks of the whole gateway in virtual time, and the promises that have to hold in them, by name.
//!
//! A [`Script`] says what is agreed with whom and what happens: outages, signals, steps of the wall clock, falls of actors. The same
//! seed gives the same run. When the script is over the world is mended, the last openings pass, and everything that was accepted has to
//! be in exactly one end state (CU-2), under one id (CU-3), in order (OR-1), inside the windows (DW-1, DW-2), told once (RE-1).

use super::{
    fake_transport::Attempt,
    sim_clock::SimClock,
    world::{Setup, World},
};
use jiff::{SignedDuration, Timestamp};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tidegate_schemas::{
    agreement::{Circumstances, Destination, ServiceAgreement},
    entry::EntryState,
    id::DestinationId,
    messages::outbox::{ListLedger, PAGE_ENTRIES_MAX, Signal, SignalSource, SignalWord},
    outcome::DeliveryError,
    view::{LedgerView, SignalView},
};
use tokio::time::{Instant, sleep_until};

/// How often Tor, the clock and the actors are looked at: seldom, so that weeks pass in a minute or two.
const LOOK_EVERY: Duration = Duration::from_secs(300);

/// What happens, and when.
#[derive(Debug, Clone)]
pub enum Happening {
    /// An onion service can't be reached from now on.
    Down(DestinationId, DeliveryError),
    /// It is back.
    Up(DestinationId),
    /// It says when it is ready.
    Signal(DestinationId, SignalWord),
    /// The wall clock is stepped.
    Step(SignedDuration),
    /// An actor's next handler panics.
    Fall(&'static str),
    /// The homeserver is away, or back.
    Room(bool),
    /// The broker's connection breaks.
    Disconnect,
}

/// A run.
#[derive(Debug, Clone)]
pub struct Script {
    /// When it begins, by the wall clock.
    pub at: Timestamp,
    /// What is agreed with whom.
    pub destinations: Vec<Destination>,
    /// How often a device publishes something, to the destinations in turn.
    pub publish_every: Duration,
    /// What happens how long after the beginning, in order.
    pub happenings: Vec<(Duration, Happening)>,
    /// How long devices publish.
    pub lasts: Duration,
    /// How long the last openings may take after that.
    pub settles: Duration,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Messages published.
    pub published: u64,
    /// End states, by their number.
    pub ends: BTreeMap<EntryState, u64>,
    /// Requests that services got or that broke on the way, with the moment of each.
    pub attempts: Vec<Attempt>,
    /// Lanes that were asked for: destination and moment since the beginning.
    pub connects: Vec<(DestinationId, Duration)>,
}

/// A signal that was honoured, as the checks know it.
#[derive(Debug, Clone, Copy)]
struct Honoured {
    ready: bool,
    from: Instant,
    until: Instant,
}

/// Runs a script and checks every promise.
///
/// # Panics
/// When a promise is broken; it is named.
pub async fn run(script: Script) -> Outcome {
    let clock = Arc::new(SimClock::at(script.at));
    let mut world = World::with(Setup {
        clock: Arc::clone(&clock),
        destinations: script.destinations.clone(),
        publish_every: script.publish_every,
        look_every: LOOK_EVERY,
    });
    let began = Instant::now();
    let mut signals: BTreeMap<DestinationId, Vec<Honoured>> = BTreeMap::new();
    for (after, happening) in &script.happenings {
        sleep_until(began + *after).await;
        match happening {
            Happening::Down(destination, error) => world.transport.take_down(destination, *error),
            Happening::Up(destination) => world.transport.bring_up(destination),
            Happening::Signal(destination, word) => {
                if let Some(honoured) = signal(&world, &script, destination, *word).await {
                    signals.entry(destination.clone()).or_default().push(honoured);
                }
            }
            Happening::Step(by) => clock.step(*by),
            Happening::Fall(place) => world.faults.set(place, super::faults::Fault::Panic),
            Happening::Room(there) => world.room.set_away(!there),
            Happening::Disconnect => world.source.disconnect("the link broke", false),
        }
    }
    sleep_until((began + script.lasts).max(Instant::now())).await;
    world.hush();
    world.room.set_away(false);
    for destination in &script.destinations {
        world.transport.bring_up(&destination.id);
    }
    sleep_until(began + script.lasts + script.settles).await;

    let ledger = ledger(&world).await;
    let outcome = Outcome {
        published: world.published(),
        ends: count(&ledger),
        attempts: world.transport.attempts(),
        connects: connects(&world, began),
    };
    check_account(&world, &outcome).await;
    check_windows(&script, &outcome, &signals);
    world.check_identity_and_order("the simulation");
    check_ledger(&world, &ledger);
    world.drain("the simulation").await;
    outcome
}

fn connects(world: &World, began: Instant) -> Vec<(DestinationId, Duration)> {
    let opened = world.transport.opened().into_iter().zip(world.transport.opened_on());
    opened.map(|((destination, ..), on)| (destination, on - began)).collect()
}

async fn signal(world: &World, script: &Script, to: &DestinationId, word: SignalWord) -> Option<Honoured> {
    let policy = script.destinations.iter().find(|destination| destination.id == *to)?.agreement.signal;
    let message = Signal { destination: to.clone(), word, policy, from: SignalSource::Destination, sequence: None };
    let taken = world.handles().outbox?.send(message).await.ok()?.ok()?;
    let ready = matches!(word, SignalWord::Ready(_));
    let from = Instant::now();
    Some(Honoured { ready, from, until: from + Duration::from_secs(u64::from(taken.holds_s)) })
}

async fn ledger(world: &World) -> Vec<LedgerView> {
    let mut all: Vec<LedgerView> = Vec::new();
    let outbox = world.handles().outbox.expect("the outbox is up");
    loop {
        let before = all.last().map(|view| view.no);
        let page =
            outbox.send(ListLedger { before, limit: PAGE_ENTRIES_MAX }).await.expect("an answer").expect("a page");
        if page.is_empty() {
            all.reverse();
            return all;
        }
        all.extend(page);
    }
}

fn count(ledger: &[LedgerView]) -> BTreeMap<EntryState, u64> {
    let mut ends = BTreeMap::new();
    for view in ledger.iter().filter(|view| view.state.is_end()) {
        *ends.entry(view.state).or_default() += 1;
    }
    ends
}

/// CU-2: all that was published is accepted, and has come to one end.
async fn check_account(world: &World, outcome: &Outcome) {
    let seen = world.outbox().await.expect("the outbox is up");
    assert_eq!(seen.gap, 0, "CU-2: {seen:?}");
    assert_eq!(seen.account.accepted, outcome.published, "CU-1, CU-2: {seen:?}");
    assert_eq!(outcome.ends.values().sum::<u64>(), outcome.published, "CU-2, DW-3: {:?} {seen:?}", outcome.ends);
}

/// DW-1 and DW-2: each attempt began while it might, and none ran on past closing and grace.
fn check_windows(script: &Script, outcome: &Outcome, signals: &BTreeMap<DestinationId, Vec<Honoured>>) {
    for attempt in &outcome.attempts {
        let agreement = agreement_of(script, &attempt.destination);
        let signal = signals.get(&attempt.destination).and_then(|all| {
            let last = all.iter().rev().find(|signal| signal.from <= attempt.on)?;
            (attempt.on < last.until).then(|| SignalView {
                ready: last.ready,
                since_ms: millis(attempt.on - last.from),
                left_ms: millis(last.until - attempt.on),
                from: SignalSource::Destination,
            })
        });
        let answer = agreement.evaluate(&Circumstances { signal, ..Circumstances::at(attempt.at) });
        assert!(answer.may_start(attempt.at), "DW-1: {} at {}: {answer:?}", attempt.destination, attempt.at);
        let ended = attempt.at + SignedDuration::try_from(attempt.took).expect("a length");
        assert!(answer.ends_by.is_none_or(|by| ended <= by), "DW-2: {} ended {ended}: {answer:?}", attempt.destination);
    }
}

fn agreement_of<'s>(script: &'s Script, id: &DestinationId) -> &'s ServiceAgreement {
    &script
        .destinations
        .iter()
        .find(|destination| destination.id == *id)
        .expect("a destination of the script")
        .agreement
}

/// RE-1: each end state is told, and told once. Warnings are told beside them.
fn check_ledger(world: &World, ledger: &[LedgerView]) {
    let told = world.room.told();
    let numbers: Vec<u64> = ledger.iter().map(|view| view.no).collect();
    assert_eq!(told, numbers, "RE-1");
    let ids: BTreeSet<String> =
        ledger.iter().filter(|view| view.state.is_end()).map(|view| view.id.to_string()).collect();
    assert_eq!(ids.len() as u64, count(ledger).values().sum::<u64>(), "CU-2: one end each");
}

fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}
