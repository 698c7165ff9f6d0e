//! The real list under the real supervisor: whatever falls, nothing is lost, and nobody else notices.
#![expect(clippy::unwrap_used, reason = "tests")]

use crate::{
    supervision::{ChildState, Exit, GatewayStatus, Options, TaskEnd},
    testing::{
        faults::{Fault, Kind},
        memory_store::CommitFault,
        toy_registry::destination,
        world::{DESTINATIONS, World},
    },
};
use proptest::prelude::*;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tidegate_schemas::{
    agreement::ServiceAgreement,
    condition::Condition,
    config::raw::RawDestination,
    messages::registry::{Expect, PutDestination},
};
use tokio::time::{sleep, timeout};

mod reload;
mod weeks;

/// A message every so often, and the time that a service takes to answer: some are always on their way.
const FLOW: Duration = Duration::from_millis(190);
const LATENCY: Duration = Duration::from_millis(210);
/// From the first message to the fault: several moments, so that it meets different things on their way.
const MOMENTS_MS: [u64; 2] = [1_907, 2_333];
/// The Courier is no line of the list: the Dispatcher owns it.
const COURIER: &str = "courier";

/// A world in which everything has come up and has worked.
async fn warm() -> World {
    let world = World::start(FLOW);
    world.transport.set_latency(LATENCY);
    let up = Duration::from_secs(10);
    world.until("deliveries to all", up, async |world| couriers(world).await.len() == DESTINATIONS.len()).await;
    world.until("a report", up, async |world| !world.room.told().is_empty()).await;
    world
}

/// Destination and count of deliveries of every courier that is out.
async fn couriers(world: &World) -> Vec<(String, u64)> {
    let seen = world.dispatcher().await.map(|seen| seen.couriers).unwrap_or_default();
    seen.into_iter().map(|courier| (courier.destination.to_string(), courier.delivered)).collect()
}

/// Brings about the calls that are made when something starts, when an operator acts, and after a failed disk.
async fn stir(world: &World) {
    let registry = world.handles().registry;
    if let Some(registry) = registry {
        let raw = RawDestination {
            onion: Some(destination("api", ServiceAgreement::default()).endpoint.reveal()),
            ..RawDestination::default()
        };
        let put = PutDestination {
            destination: "api".parse().unwrap(),
            raw: Box::new(raw),
            expect: Expect::Either,
            condition: Condition::default(),
            dry_run: false,
        };
        // It may be the one that falls.
        let _ = registry.send(put).await;
    }
    world.store.fail_next(1, CommitFault::Io);
    sleep(Duration::from_secs(3)).await;
    for line in ["registry", "uplink"] {
        world.faults.set(line, Fault::Panic);
        sleep(Duration::from_secs(3)).await;
    }
}

fn generations(status: &GatewayStatus) -> Vec<(String, u64)> {
    status.children.iter().map(|child| (child.name.to_owned(), child.generation)).collect()
}

/// Those that fell by themselves between two looks, as often as they did.
fn fallen(before: &GatewayStatus, after: &GatewayStatus) -> Vec<String> {
    let lines = before.children.iter().zip(&after.children);
    lines
        .flat_map(|(before, after)| {
            let falls = usize::try_from(after.falls_total - before.falls_total).unwrap();
            std::iter::repeat_n(after.name.to_owned(), falls)
        })
        .collect()
}

fn restarted(before: &GatewayStatus, after: &GatewayStatus) -> BTreeSet<String> {
    let changed = generations(before).into_iter().zip(generations(after)).filter(|(before, after)| before != after);
    changed.map(|(_, (name, _))| name).collect()
}

async fn struck(world: &World, place: &str) {
    let what = format!("a fault in {place}: nobody reaches it, so nothing shows that the list survives it");
    world.until(&what, Duration::from_secs(100), async |world| world.faults.struck(place) == 1).await;
}

async fn all_running(world: &World, place: &str) {
    let limit = Duration::from_secs(60);
    world.until(&format!("{place}: all run again"), limit, async |world| world.status().await.all_running()).await;
}

/// One fault at one place at one moment, from a fresh world to the last check.
async fn survive(place: &str, fault: Fault, moment_ms: u64) {
    let case = format!("{fault:?} of {place} after {moment_ms} ms");
    let world = warm().await;
    sleep(Duration::from_millis(moment_ms)).await;
    let (before, opened) = (world.status().await, world.faults.entered(COURIER));
    world.faults.set(place, fault);
    struck(&world, place).await;
    // Time to be noticed (a panic at once, a silence by the next observation), and for messages to come meanwhile and after.
    let noticed = if fault == Fault::Hang {
        Options::default().observe_every + Options::default().observe_limit
    } else {
        Duration::ZERO
    };
    sleep(noticed + Duration::from_secs(3)).await;
    all_running(&world, &case).await;
    let after = world.status().await;
    let (actor, task) = place.split_once('/').map_or((place, None), |(actor, task)| (actor, Some(task)));
    if actor == COURIER {
        assert_eq!(generations(&before), generations(&after), "{case}: no line notices");
        assert_eq!(world.faults.entered(COURIER), opened + 1, "{case}: one other courier, for its destination alone");
    } else {
        assert_eq!(fallen(&before, &after), [actor], "{case}: it fell once, and nobody else by itself");
        let together = world.fall_together(&[actor.to_owned()]);
        for (then, now) in before.children.iter().zip(&after.children) {
            let starts = u64::from(together.contains(now.name));
            assert_eq!(now.generation - then.generation, starts, "{case}: starts of {}", now.name);
        }
        match (after.child(actor).unwrap().last_exit.clone().unwrap(), task, fault) {
            (Exit::TaskEnded { name, end: TaskEnd::Panicked }, Some(task), Fault::Panic) => assert_eq!(name, task),
            (Exit::Panicked { .. }, None, Fault::Panic) | (Exit::Stuck, None, Fault::Hang) => {}
            (exit, ..) => panic!("{case}: {exit}"),
        }
        if !together.contains("dispatcher") {
            assert_eq!(world.faults.entered(COURIER), opened, "{case}: every courier went on");
        }
        if !together.contains("subscriber") {
            assert_eq!(world.source.connections(), 1, "{case}: the broker noticed nothing");
        }
    }
    world.settle(&case).await;
}

/// The places of a kind in a world that has worked and has seen trouble.
async fn places(kind: Kind) -> Vec<String> {
    let world = warm().await;
    stir(&world).await;
    let places = world.faults.places(kind);
    world.settle("trouble").await;
    places
}

#[actix::test]
async fn no_actor_of_the_list_is_out_of_the_tests_reach() {
    tokio::time::pause();
    let world = warm().await;
    let status = world.status().await;
    let mut actors: Vec<String> = status.children.iter().map(|line| line.name.to_owned()).collect();
    actors.push(COURIER.to_owned());
    actors.sort();
    assert_eq!(world.faults.watched(), actors, "an actor is a line of the list, or the Dispatcher's courier");
    assert_eq!(world.faults.places(Kind::Actor), actors, "every actor is started by Running and named as its type");
    for task in world.faults.places(Kind::Task) {
        let owner = task.split('/').next().unwrap().to_owned();
        assert!(actors.contains(&owner), "{task}");
    }
    world.settle("nothing happens").await;
}

#[actix::test]
async fn each_actor_panics_in_turn_and_nothing_is_lost_nor_anybody_else_disturbed() {
    tokio::time::pause();
    for actor in places(Kind::Actor).await {
        for moment in MOMENTS_MS {
            survive(&actor, Fault::Panic, moment).await;
        }
    }
}

#[actix::test]
async fn each_task_of_each_actor_panics_in_turn_and_nothing_is_lost_nor_anybody_else_disturbed() {
    tokio::time::pause();
    let tasks = places(Kind::Task).await;
    assert!(tasks.len() >= 6, "{tasks:?}");
    for task in tasks {
        for moment in MOMENTS_MS {
            survive(&task, Fault::Panic, moment).await;
        }
    }
}

#[actix::test]
async fn each_line_whose_handlers_stop_without_an_end_is_replaced_and_nothing_is_lost() {
    tokio::time::pause();
    let world = warm().await;
    let lines: Vec<&str> = world.status().await.children.iter().map(|line| line.name).collect();
    world.settle("nothing happens").await;
    for line in lines {
        survive(line, Fault::Hang, MOMENTS_MS[0]).await;
    }
}

#[actix::test]
async fn each_call_of_a_port_panics_in_turn_whoever_makes_it_and_nothing_is_lost() {
    tokio::time::pause();
    let calls = places(Kind::Call).await;
    assert!(calls.len() >= 20, "{calls:?}");
    for call in calls {
        let world = warm().await;
        sleep(Duration::from_millis(MOMENTS_MS[0])).await;
        let before = world.status().await;
        world.faults.set(&call, Fault::Panic);
        sleep(Duration::from_secs(3)).await;
        let stirred = world.faults.struck(&call) == 0;
        if stirred {
            stir(&world).await;
        }
        struck(&world, &call).await;
        sleep(Duration::from_secs(3)).await;
        all_running(&world, &call).await;
        let after = world.status().await;
        let fell = fallen(&before, &after);
        assert!(stirred || fell.len() <= 1, "{call}: {fell:?}");
        assert_eq!(restarted(&before, &after), world.fall_together(&fell), "{call}: {fell:?}");
        world.settle(&call).await;
    }
}

#[actix::test]
async fn a_reporter_that_panics_at_each_activation_for_an_hour_costs_no_exit_no_reconnect_and_no_acknowledgement() {
    tokio::time::pause();
    for place in ["reporter", "reporter/rounds", "room.post", "room.post done"] {
        // As often as the paper's pacemaker.
        let mut world = World::start(Duration::from_secs(10));
        world.until("a first report", Duration::from_secs(10), async |world| !world.room.told().is_empty()).await;
        world.faults.set(place, Fault::PanicAlways);
        for minute in 0..60 {
            let ended = timeout(Duration::from_secs(60), world.gateway.ended()).await;
            assert_eq!(ended.ok(), None, "{place}: no exit");
            let account = world.outbox().await.unwrap().account;
            assert!(account.delivered + 2 >= world.published(), "{place}, minute {minute}: messages flow: {account:?}");
        }
        assert!(world.faults.struck(place) >= 8, "{place}: {} panics", world.faults.struck(place));
        assert!(world.room.told().len() < 100, "{place}: the room hears next to nothing");
        let status = world.status().await;
        for line in status.children.iter().filter(|line| line.name != "reporter") {
            assert_eq!((line.generation, line.falls_total), (1, 0), "{place}: {} was not disturbed", line.name);
        }
        assert_eq!(status.child("reporter").unwrap().state, ChildState::Suspended, "{place}");
        assert_eq!(world.source.connections(), 1, "{place}: no reconnect");
        world.faults.heal();
        world.settle(place).await;
    }
}

#[actix::test]
async fn a_herald_that_panics_at_each_look_for_an_hour_costs_devices_their_news_and_nothing_else() {
    tokio::time::pause();
    for place in ["herald", "herald/rounds", "source.connection"] {
        let mut world = World::start(Duration::from_secs(10));
        world
            .until("a first state", Duration::from_secs(10), async |world| told_states(world) == DESTINATIONS.len())
            .await;
        world.faults.set(place, Fault::PanicAlways);
        for minute in 0..60 {
            let ended = timeout(Duration::from_secs(60), world.gateway.ended()).await;
            assert_eq!(ended.ok(), None, "{place}: no exit");
            let account = world.outbox().await.unwrap().account;
            assert!(account.delivered + 2 >= world.published(), "{place}, minute {minute}: messages flow: {account:?}");
        }
        assert!(world.faults.struck(place) >= 8, "{place}: {} panics", world.faults.struck(place));
        let status = world.status().await;
        for line in status.children.iter().filter(|line| line.name != "herald") {
            assert_eq!((line.generation, line.falls_total), (1, 0), "{place}: {} was not disturbed", line.name);
        }
        assert_eq!(status.child("herald").unwrap().state, ChildState::Suspended, "{place}");
        world.faults.heal();
        world
            .until("states again", Duration::from_secs(1_000), async |world| told_states(world) == DESTINATIONS.len())
            .await;
        world.settle(place).await;
    }
}

/// Destinations whose state a device can hear now, told by a Herald that is up.
fn told_states(world: &World) -> usize {
    let up = world.handles().herald.is_some();
    let topic = |name: &str| format!("tidegate/destinations/{name}/state");
    DESTINATIONS.iter().filter(|(name, _)| up && world.source.retained(&topic(name)).is_some()).count()
}

/// Falls in any order, some before the one before is repaired, and the last check.
async fn storm(falls: Vec<(prop::sample::Index, u64)>) {
    tokio::time::pause();
    let world = warm().await;
    let places = [world.faults.places(Kind::Actor), world.faults.places(Kind::Task)].concat();
    let mut of_actor = BTreeMap::<String, u32>::new();
    for (index, pause_ms) in &falls {
        let place = index.get(&places);
        let count = of_actor.entry(place.split('/').next().unwrap().to_owned()).or_default();
        *count += 1;
        // One more within a minute would end the gateway, as it should.
        if *count <= 5 {
            world.faults.set(place, Fault::Panic);
        }
        sleep(Duration::from_millis(*pause_ms)).await;
    }
    world.faults.heal();
    all_running(&world, "a storm").await;
    world.settle(&format!("{falls:?}")).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    #[test]
    fn falls_in_any_order_and_close_together_lose_nothing(
        falls in prop::collection::vec((any::<prop::sample::Index>(), 0_u64..3_000), 2..16)
    ) {
        actix::System::new().block_on(storm(falls));
    }
}
