//! Children that fall again and again.

use super::toys::{Act, Fault, House, LINES, NAMES, World, settle};
use crate::supervision::{CODE_GAVE_UP, ChildState, Exit, Options};
use std::time::Duration;
use tokio::time::{Instant, timeout};

const HOUR: Duration = Duration::from_secs(3600);

#[actix::test]
async fn a_reporter_that_always_panics_is_suspended_and_disturbs_nobody_for_an_hour() {
    tokio::time::pause();
    let mut house = House::up().await;
    let before = house.addrs();
    house.world.faults.borrow_mut().insert("reporter", Fault::PanicsAfterMs(3));
    house.tell(5, Act::Panic);
    assert!(timeout(HOUR, house.run.ended()).await.is_err(), "0 exits");
    for place in (0..LINES).filter(|place| *place != 5) {
        assert_eq!(house.addr(place), before[place], "{} was never restarted", NAMES[place]);
    }
    let child = house.child(5).await;
    assert_eq!(child.state, ChildState::Suspended);
    assert!(matches!(child.last_exit, Some(Exit::Panicked { .. })));
    // Six falls exhaust the budget; then one try each 15 minutes.
    assert!((8..=10).contains(&child.falls_total), "{}", child.falls_total);
    house.world.faults.borrow_mut().clear();
    house.all_running().await;
}

#[actix::test]
async fn a_suspended_uplink_keeps_its_dependants_down_and_nobody_else() {
    tokio::time::pause();
    let mut house = House::up().await;
    house.world.faults.borrow_mut().insert("uplink", Fault::StartFails);
    house.tell(3, Act::Panic);
    house.until(|view| view.status.children[3].state == ChildState::Suspended).await;
    settle().await;
    let states: Vec<_> = house.status().await.children.iter().map(|child| child.state).collect();
    use ChildState::{Running, Suspended, Waiting};
    assert_eq!(states, [Running, Running, Running, Suspended, Waiting, Running, Waiting]);
    assert_eq!(house.generations().await[..3], [1, 1, 1], "intake never noticed");
    house.assert_consistent().await;

    let suspended_at = Instant::now();
    house.world.faults.borrow_mut().clear();
    house.all_running().await;
    let waited = suspended_at.elapsed();
    assert!(waited <= Options::default().suspended_retry && waited >= Duration::from_secs(14 * 60), "{waited:?}");
    house.assert_consistent().await;
}

#[actix::test]
async fn a_try_after_a_suspension_that_lasts_gives_back_the_full_budget() {
    tokio::time::pause();
    let mut house = House::up().await;
    house.world.faults.borrow_mut().insert("console", Fault::StartFails);
    house.tell(6, Act::Panic);
    house.until(|view| view.status.children[6].state == ChildState::Suspended).await;
    house.world.faults.borrow_mut().clear();
    house.all_running().await;
    tokio::time::sleep(Duration::from_secs(61)).await;
    for _ in 0..5 {
        house.tell(6, Act::Panic);
        settle().await;
        assert_ne!(house.state(6).await, ChildState::Suspended);
        house.all_running().await;
    }
}

#[actix::test]
async fn an_outbox_that_always_panics_ends_the_gateway_in_order_with_code_70() {
    tokio::time::pause();
    let mut house = House::up().await;
    house.world.faults.borrow_mut().insert("outbox", Fault::PanicsAfterMs(0));
    let began = Instant::now();
    house.tell(1, Act::Panic);
    let ended = timeout(HOUR, house.run.ended()).await.expect("it ends");
    assert_eq!(ended.code, CODE_GAVE_UP);
    assert!(ended.reason.starts_with("outbox fell too often, last: panicked"), "{}", ended.reason);
    // Five restarts, after 0, 0.2, 1, 5 and 15 seconds, and the sixth fall.
    assert!(began.elapsed() >= Duration::from_millis(21_200) && began.elapsed() < Duration::from_secs(22));
    let log = house.world.take_log();
    assert_eq!(log.iter().filter(|line| line.starts_with("start outbox")).count(), 6);
    assert_eq!(log.last().map(String::as_str), Some("stop registry"), "the registry is the last to go");
    assert_eq!(house.world.tasks.get(), 0, "nothing is left running");
}

#[actix::test]
async fn a_registry_that_never_starts_ends_the_gateway_with_code_70() {
    tokio::time::pause();
    let world = World::default();
    world.faults.borrow_mut().insert("registry", Fault::StartFails);
    let mut run = world.start(Options::default());
    let ended = timeout(HOUR, run.ended()).await.expect("it ends");
    assert_eq!(ended.code, CODE_GAVE_UP);
    assert!(ended.reason.contains("could not start: open the toy box"), "{}", ended.reason);
    assert!(world.take_log().iter().all(|line| line.contains("uplink")), "only who stands on nobody ever ran");
}

#[actix::test]
async fn a_stuck_outbox_is_charged_like_any_fall() {
    tokio::time::pause();
    let mut house = House::up().await;
    for fall in 1..=3 {
        house.tell(1, Act::Hang);
        house.until(|view| view.status.children[1].generation == fall + 1).await;
        house.all_running().await;
    }
    assert_eq!(house.child(1).await.falls_total, 3);
}

#[actix::test]
async fn the_panic_of_the_gateway_itself_is_seen_by_main() {
    tokio::time::pause();
    let world = World::default();
    let mut children = world.children();
    // Nothing that a child does may reach this; a forget function of our own is the only way in.
    children[5].forget = |_| panic!("on purpose, in the gateway");
    let mut run = crate::supervision::Gateway::start(children, Options::default()).expect("a sound list");
    run.view.wait_for(|view| view.status.all_running()).await.expect("it runs");
    let reporter = run.view.borrow().handles.0[5].clone().expect("it runs");
    reporter.try_send(super::toys::Do(Act::Stop)).expect("room");
    let ended = timeout(HOUR, run.ended()).await.expect("it ends");
    assert_eq!(ended.code, CODE_GAVE_UP);
}
