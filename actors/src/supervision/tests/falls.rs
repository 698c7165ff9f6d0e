//! Who falls with whom, who is left alone, and in which order they come back.

use super::toys::{Act, EXHAUSTED, FALL_TOGETHER, FALLS, Fault, House, LINES, NAMES, NEEDS, Toy, Toys, World, settle};
use crate::supervision::{
    Bell, ChildSpec, ChildState, DeathWatch, Exhausted, Exit, Gateway, Options, Running, StartError, View, WiringError,
};
use std::time::Duration;
use tokio::time::Instant;

/// What tokio's timers may add: they are rounded up to whole milliseconds.
const TIMER: Duration = Duration::from_millis(5);

#[actix::test]
async fn each_fall_of_each_child_restarts_it_and_its_dependants_at_once_and_nobody_else() {
    tokio::time::pause();
    for act in FALLS {
        for place in 0..LINES {
            let mut house = House::up().await;
            let (before, _) = (house.addrs(), house.world.take_log());
            let fell_at = Instant::now();
            house.tell(place, act);
            house.until(|view| view.status.children[place].generation == 2).await;
            house.all_running().await;
            assert_eq!(fell_at.elapsed(), Duration::ZERO, "{act:?}: the first restart has no delay");

            let fallen = FALL_TOGETHER[place];
            for (other, addr) in before.iter().enumerate() {
                let same = *addr == house.addr(other);
                assert_eq!(same, !fallen.contains(&other), "{act:?} of {}: {}", NAMES[place], NAMES[other]);
            }
            let log = house.world.take_log();
            let starts: Vec<_> = fallen.iter().map(|place| format!("start {} g2", NAMES[*place])).collect();
            assert_eq!(log[log.len() - starts.len()..], starts, "{act:?}: restarted in list order, after all stops");
            let asked: Vec<_> = log.iter().filter(|line| line.starts_with("asked")).cloned().collect();
            let expected: Vec<_> = fallen[1..].iter().rev().map(|place| format!("asked {}", NAMES[*place])).collect();
            assert_eq!(asked, expected, "{act:?}: dependants are asked to stop from the top");
            house.assert_consistent().await;
        }
    }
}

#[actix::test]
async fn dependants_are_not_charged_for_the_fall_of_their_floor() {
    tokio::time::pause();
    let mut house = House::up().await;
    for fall in 1..=20 {
        house.tell(0, Act::Panic);
        house.until(|view| view.status.children[0].generation == fall + 1).await;
        house.all_running().await;
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    let status = house.status().await;
    assert_eq!(status.children[0].falls_total, 20);
    for child in &status.children[1..] {
        assert_eq!(child.falls_total, 0, "{}", child.name);
    }
    assert_eq!(status.children[1].restarts_total, 20);
    assert_eq!(status.children[3].restarts_total, 0, "uplink does not stand on the registry");
}

#[actix::test]
async fn a_dependant_that_falls_because_its_floor_did_is_not_charged_either() {
    tokio::time::pause();
    let mut house = House::up().await;
    house.tell(2, Act::Panic);
    house.tell(1, Act::Panic);
    house.tell(4, Act::Stop);
    house.until(|view| view.status.children[1].generation == 2).await;
    house.all_running().await;
    let falls: Vec<_> = house.status().await.children.iter().map(|child| child.falls_total).collect();
    assert_eq!(falls, [0, 1, 0, 0, 0, 0, 0]);
    house.assert_consistent().await;
}

#[actix::test]
async fn a_child_that_falls_while_others_are_restarted_comes_back_too() {
    tokio::time::pause();
    let mut house = House::up().await;
    // The console takes its time, so the restart of the outbox is still under way when the uplink and the registry fall.
    house.world.faults.borrow_mut().insert("console", Fault::EndsSlowlyMs(40));
    house.tell(1, Act::Panic);
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(house.state(1).await, ChildState::Restarting, "it waits for those above to end");
    assert!(house.addr(6).is_none(), "who is being stopped is offered to nobody");
    house.tell(3, Act::Panic);
    tokio::time::sleep(Duration::from_millis(10)).await;
    house.tell(0, Act::Panic);
    house.all_running().await;
    assert_eq!(house.generations().await, [2; LINES], "one restart each, not one for each fall");
    house.assert_consistent().await;
}

#[actix::test]
async fn an_independent_fall_is_repaired_while_a_slow_restart_is_under_way() {
    tokio::time::pause();
    let mut house = House::up().await;
    house.world.faults.borrow_mut().insert("console", Fault::EndsSlowlyMs(45));
    house.tell(3, Act::Panic);
    settle().await;
    let fell_at = Instant::now();
    house.tell(5, Act::Panic);
    house.until(|view| view.status.children[5].generation == 2).await;
    assert_eq!(fell_at.elapsed(), Duration::ZERO, "the reporter waits for nobody");
    assert_eq!(house.state(3).await, ChildState::Restarting, "the uplink still waits for the console");
    house.all_running().await;
    assert_eq!(house.generations().await, [1, 1, 1, 2, 2, 2, 2]);
}

#[actix::test]
async fn a_dependant_that_ignores_the_shutdown_is_cut_off() {
    tokio::time::pause();
    let mut house = House::up().await;
    house.world.faults.borrow_mut().insert("dispatcher", Fault::IgnoresShutdown);
    let fell_at = Instant::now();
    house.tell(3, Act::Panic);
    house.until(|view| view.status.children[4].generation == 2).await;
    let late = fell_at.elapsed() - Options::default().restart_stop_limit;
    assert!(late <= TIMER, "{late:?}");
    house.all_running().await;
    house.assert_consistent().await;
}

#[actix::test]
async fn a_start_that_fails_or_panics_counts_as_a_fall() {
    tokio::time::pause();
    for fault in [Fault::StartFails, Fault::StartPanics] {
        let mut house = House::up().await;
        house.world.faults.borrow_mut().insert("reporter", fault);
        house.tell(5, Act::Panic);
        house.until(|view| view.status.children[5].state == ChildState::Suspended).await;
        let child = house.child(5).await;
        assert_eq!(child.falls_total, 6, "{fault:?}");
        let reason = child.last_exit.expect("it fell");
        match fault {
            Fault::StartFails => assert_eq!(reason.to_string(), "could not start: open the toy box: it is locked"),
            _ => assert!(matches!(reason, Exit::Panicked { .. })),
        }
        house.assert_consistent().await;

        house.world.faults.borrow_mut().clear();
        house.all_running().await;
        assert_eq!(house.generations().await, [1, 1, 1, 1, 1, 7, 1], "{fault:?}");
    }
}

#[actix::test]
async fn an_actor_that_awaits_for_ever_is_found_by_observation_and_replaced() {
    tokio::time::pause();
    let mut house = House::up().await;
    let (old, limit) = (house.addrs(), Options::default());
    let hung_at = Instant::now();
    house.tell(1, Act::Hang);
    house.until(|view| view.status.children[1].generation == 2).await;
    house.all_running().await;
    assert!(hung_at.elapsed() <= limit.observe_every + limit.observe_limit + TIMER, "{:?}", hung_at.elapsed());
    assert_eq!(house.child(1).await.last_exit, Some(Exit::Stuck));
    assert!(!old[1].as_ref().expect("it ran").connected(), "the stuck one is really gone");
    assert_eq!((house.addr(0), house.addr(3)), (old[0].clone(), old[3].clone()));
    assert_eq!(house.world.tasks.get(), LINES, "and so is the task that it owned");
    house.assert_consistent().await;
}

#[actix::test]
async fn a_full_mailbox_hides_no_stuck_actor_and_no_shutdown() {
    tokio::time::pause();
    let mut house = House::up().await;
    house.tell(4, Act::Hang);
    let addr = house.addr(4).expect("it runs");
    while addr.try_send(super::toys::Do(Act::Stop)).is_ok() {}
    house.until(|view| view.status.children[4].generation == 2).await;
    assert_eq!(house.child(4).await.last_exit, Some(Exit::Stuck));
}

#[actix::test]
async fn healthy_children_are_observed_and_stay() {
    tokio::time::pause();
    let house = House::up().await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let status = house.status().await;
    for child in &status.children {
        assert_eq!((child.generation, child.state), (1, ChildState::Running));
        let age = child.observed.expect("observed").elapsed();
        assert!(age <= Options::default().observe_every, "{age:?}");
    }
    let shown = serde_json::to_value(&status).expect("it serialises");
    assert_eq!(shown["children"][0]["name"], "registry");
    assert!(shown["children"][0]["observation_age_ms"].as_u64().is_some_and(|age| age <= 10_000));
}

#[actix::test]
async fn a_soft_need_restarts_its_user_but_does_not_keep_it_down() {
    tokio::time::pause();
    let world = World::default();
    let mut children = world.children();
    children[4].needs = &["registry", "outbox"];
    children[4].uses = &["uplink"];
    children[6].needs = &["dispatcher"];
    let (starts, seen) = (std::rc::Rc::new(std::cell::RefCell::new(Vec::new())), world.clone());
    let record = std::rc::Rc::clone(&starts);
    children[4].start = Box::new(move |watch, toys: &mut Toys| {
        record.borrow_mut().push(toys.0[3].is_some());
        let (addr, running) = Running::start(Toy::new(&seen, watch));
        toys.0[4] = Some(addr);
        Ok(running)
    });
    children[6].start = {
        let world = world.clone();
        Box::new(move |watch, toys: &mut Toys| {
            let (addr, running) = Running::start(Toy::new(&world, watch));
            toys.0[6] = Some(addr);
            Ok::<_, StartError>(running)
        })
    };
    let run = Gateway::start(children, Options::default()).expect("a sound list");
    let mut house = House { world, run };
    house.all_running().await;
    house.world.faults.borrow_mut().insert("uplink", Fault::StartFails);
    house.tell(3, Act::Panic);
    house.until(|view| view.status.children[3].state == ChildState::Suspended).await;
    settle().await;
    assert_eq!((house.state(4).await, house.state(6).await), (ChildState::Running, ChildState::Running));
    assert_eq!(*starts.borrow(), [true, false]);
    house.world.faults.borrow_mut().clear();
    house.all_running().await;
    assert_eq!(*starts.borrow(), [true, false, true], "it gets the address when the other is back");
    assert_eq!(house.generations().await[..3], [1, 1, 1]);
    house.assert_consistent().await;
}

#[test]
fn a_list_that_makes_no_sense_is_refused() {
    fn spec(name: &'static str, needs: &'static [&'static str]) -> ChildSpec<Toys> {
        let start = Box::new(|_, _: &mut Toys| Err(StartError::new("start", "never called")));
        ChildSpec { name, needs, uses: &[], exhausted: Exhausted::Exit, start, forget: |_| {} }
    }
    let refused = |children, options| Gateway::start(children, options).err();
    let twice = vec![spec("a", &[]), spec("a", &[])];
    assert_eq!(refused(twice, Options::default()), Some(WiringError::Duplicate { name: "a" }));
    let upward = vec![spec("a", &["b"]), spec("b", &[])];
    assert_eq!(refused(upward, Options::default()), Some(WiringError::NotBelow { child: "a", need: "b" }));
    let order = Options { drain_order: vec!["z"], ..Options::default() };
    assert_eq!(refused(vec![spec("a", &[])], order), Some(WiringError::UnknownInDrainOrder { name: "z" }));
}

#[test]
fn the_table_of_the_tests_agrees_with_its_own_needs() {
    for (place, expected) in FALL_TOGETHER.iter().enumerate() {
        let mut fallen = vec![place];
        for (above, needs) in NEEDS.iter().enumerate().skip(place + 1) {
            if needs.iter().any(|need| fallen.iter().any(|fallen| NAMES[*fallen] == *need)) {
                fallen.push(above);
            }
        }
        assert_eq!(fallen, *expected);
    }
    assert_eq!(EXHAUSTED.iter().filter(|it| **it == Exhausted::Exit).count(), 3);
}

#[actix::test]
async fn the_late_death_of_an_actor_that_was_left_behind_reaches_nobody() {
    tokio::time::pause();
    let world = World::default();
    let mut children = world.children();
    // A console that does not carry its watch, so that the kernel does not see it end.
    let (toys_world, watches) = (world.clone(), std::rc::Rc::new(std::cell::RefCell::new(Vec::new())));
    let kept = std::rc::Rc::clone(&watches);
    children[6].start = Box::new(move |watch: DeathWatch, toys: &mut Toys| {
        let inner = DeathWatch::pair("console", watch.generation(), Bell::default()).0;
        kept.borrow_mut().push(watch);
        let (addr, running) = Running::start(Toy::new(&toys_world, inner));
        toys.0[6] = Some(addr);
        Ok(running)
    });
    let run = Gateway::start(children, Options::default()).expect("a sound list");
    let mut house = House { world, run };
    house.all_running().await;
    house.tell(3, Act::Panic);
    house.until(|view| view.status.children[6].generation == 2).await;
    house.all_running().await;
    let before = house.addrs();

    drop(watches.borrow_mut().remove(0));
    settle().await;
    assert!(house.addrs() == before, "the death of generation 1 changes nothing");
    assert_eq!(house.child(6).await.falls_total, 0);

    drop(watches.borrow_mut().remove(0));
    settle().await;
    assert_eq!((house.child(6).await.falls_total, house.generations().await[6]), (1, 3), "that of generation 2 does");
}

#[test]
fn what_is_published_can_be_read_from_the_threads_of_an_http_server() {
    fn shareable<T: Send + Sync>() {}
    shareable::<tokio::sync::watch::Receiver<View<Toys>>>();
}
