//! The orderly end.

use super::toys::{Act, Fault, House, LINES, NAMES, World, settle};
use crate::supervision::{CODE_DRAINED, ChildState, Drain, Options, Phase};
use std::time::Duration;
use tokio::time::Instant;

fn intake_first() -> Options {
    let drain_order = vec!["subscriber", "console", "reporter", "dispatcher"];
    Options { drain_order, ..Options::default() }
}

fn asked(world: &World) -> Vec<String> {
    let line = |line: String| line.strip_prefix("asked ").map(str::to_owned);
    world.take_log().into_iter().filter_map(line).collect()
}

#[actix::test]
async fn a_drain_stops_intake_first_then_from_the_top_and_ends_with_0() {
    tokio::time::pause();
    let mut house = House::up_with(intake_first()).await;
    house.run.addr.send(Drain).await.expect("the gateway lives");
    house.run.addr.send(Drain).await.ok();
    let ended = house.run.ended().await;
    assert_eq!((ended.code, ended.reason.as_str()), (CODE_DRAINED, "drained"));
    let order = ["subscriber", "console", "reporter", "dispatcher", "uplink", "outbox", "registry"];
    assert_eq!(asked(&house.world), order);
    let view = house.run.view.borrow();
    assert_eq!(view.status.phase, Phase::Ended);
    assert!(view.status.children.iter().all(|child| child.state == ChildState::Stopped));
    assert!(view.handles.0.iter().all(Option::is_none), "nobody is offered an address any more");
    drop(view);
    settle().await;
    assert_eq!(house.world.tasks.get(), 0);
    assert!(!house.run.addr.connected());
}

#[actix::test]
async fn children_that_ignore_a_drain_are_cut_off_within_its_limit_and_the_outbox_still_gets_its_share() {
    tokio::time::pause();
    let mut house = House::up_with(intake_first()).await;
    for name in NAMES {
        house.world.faults.borrow_mut().insert(name, Fault::IgnoresShutdown);
    }
    house.world.faults.borrow_mut().insert("outbox", Fault::EndsSlowlyMs(250));
    let began = Instant::now();
    house.run.addr.send(Drain).await.expect("the gateway lives");
    let ended = house.run.ended().await;
    assert_eq!(ended.code, CODE_DRAINED);
    assert!(began.elapsed() <= Duration::from_millis(10_010), "{:?}", began.elapsed());
    let log = house.world.take_log();
    let position = |what: &str| log.iter().position(|line| line == what).expect("it is in the log");
    assert!(position("stop outbox") < position("asked registry"), "the outbox ended by itself, in time");
}

#[actix::test]
async fn a_fall_and_a_hang_during_a_drain_do_not_stop_it_and_restart_nobody() {
    tokio::time::pause();
    let mut house = House::up_with(intake_first()).await;
    house.world.faults.borrow_mut().insert("subscriber", Fault::EndsSlowlyMs(3_000));
    house.tell(4, Act::Hang);
    house.run.addr.send(Drain).await.expect("the gateway lives");
    settle().await;
    house.world.take_log();
    let uplink = house.addr(3).expect("still offered");
    uplink.try_send(super::toys::Do(Act::Panic)).expect("room");
    let outbox = house.addr(1).expect("still offered");
    outbox.try_send(super::toys::Do(Act::Panic)).expect("room");
    let ended = house.run.ended().await;
    assert_eq!(ended.code, CODE_DRAINED);
    assert!(!house.world.take_log().iter().any(|line| line.starts_with("start")));
    assert_eq!(house.world.tasks.get(), 0);
}

#[actix::test]
async fn a_drain_in_the_middle_of_a_restart_and_of_a_suspension_ends_too() {
    tokio::time::pause();
    let mut house = House::up_with(intake_first()).await;
    house.world.faults.borrow_mut().insert("uplink", Fault::StartFails);
    house.tell(3, Act::Panic);
    house.until(|view| view.status.children[3].state == ChildState::Suspended).await;
    house.world.faults.borrow_mut().insert("reporter", Fault::EndsSlowlyMs(40));
    house.tell(1, Act::Panic);
    settle().await;
    let began = Instant::now();
    house.run.addr.send(Drain).await.expect("the gateway lives");
    let ended = house.run.ended().await;
    assert_eq!(ended.code, CODE_DRAINED);
    assert!(began.elapsed() <= Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(house.run.view.borrow().status.children.len(), LINES);
}

#[actix::test]
async fn one_child_that_ignores_a_drain_costs_its_own_limit_only() {
    tokio::time::pause();
    let mut house = House::up_with(intake_first()).await;
    house.world.faults.borrow_mut().insert("reporter", Fault::IgnoresShutdown);
    let began = Instant::now();
    house.run.addr.send(Drain).await.expect("the gateway lives");
    assert_eq!(house.run.ended().await.code, CODE_DRAINED);
    let late = began.elapsed() - Options::default().drain_stop_limit;
    assert!(late <= Duration::from_millis(5), "{late:?}");
}
