//! Random storms: whatever falls whenever, the list settles.

use super::toys::{Act, FALLS, Fault, House, LINES, NAMES};
use crate::supervision::{ChildState, Drain, Options};
use proptest::prelude::*;
use std::time::Duration;

#[derive(Debug, Clone)]
enum Step {
    Fall { place: usize, act: Act },
    Hang { place: usize },
    Fault { place: usize, fault: Option<Fault> },
    Wait { ms: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let place = 0..LINES;
    let fault = prop_oneof![
        Just(None),
        Just(Some(Fault::StartFails)),
        Just(Some(Fault::StartPanics)),
        Just(Some(Fault::IgnoresShutdown)),
        (0_u64..2_000).prop_map(|ms| Some(Fault::EndsSlowlyMs(ms))),
        (0_u64..90_000).prop_map(|ms| Some(Fault::PanicsAfterMs(ms))),
    ];
    prop_oneof![
        4 => (place.clone(), prop::sample::select(FALLS.to_vec())).prop_map(|(place, act)| Step::Fall { place, act }),
        1 => place.clone().prop_map(|place| Step::Hang { place }),
        2 => (place, fault).prop_map(|(place, fault)| Step::Fault { place, fault }),
        4 => prop_oneof![Just(0), 0_u64..300, 0_u64..60_000].prop_map(|ms| Step::Wait { ms }),
    ]
}

fn in_a_system<F: Future>(future: F) -> F::Output {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().start_paused(true).build().expect("a runtime")
    };
    actix::System::with_tokio_rt(runtime).block_on(future)
}

async fn storm(steps: Vec<Step>) {
    // Nobody gives up here: the end by an exhausted budget has its own tests.
    let mut options = Options { drain_order: vec!["subscriber"], ..Options::default() };
    options.intensity.restarts_max = 10_000;
    let mut house = House::up_with(options).await;
    for step in steps {
        let told = |place: usize, act| house.addr(place).map(|addr| addr.try_send(super::toys::Do(act)));
        match step {
            // A toy that is down, or whose mailbox is full because it hangs, can't be told anything.
            Step::Fall { place, act } => {
                let _ = told(place, act);
            }
            Step::Hang { place } => {
                let _ = told(place, Act::Hang);
            }
            Step::Fault { place, fault } => {
                let mut faults = house.world.faults.borrow_mut();
                faults.remove(NAMES[place]);
                faults.extend(fault.map(|fault| (NAMES[place], fault)));
            }
            Step::Wait { ms: 0 } => tokio::task::yield_now().await,
            Step::Wait { ms } => tokio::time::sleep(Duration::from_millis(ms)).await,
        }
    }
    // The storm is over. Toys that still carry a timer of a former fault may fall once more before it is quiet.
    house.world.faults.borrow_mut().clear();
    tokio::time::sleep(Duration::from_secs(20 * 60)).await;
    let status = house.status().await;
    for child in &status.children {
        assert_eq!(child.state, ChildState::Running, "{child:?}");
    }
    house.assert_consistent().await;
    assert_eq!(house.world.tasks.get(), LINES, "one task each, none left over");
    let quiet = house.generations().await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(house.generations().await, quiet, "nobody restarts without a reason");
    house.run.addr.send(Drain).await.expect("the gateway lives");
    assert_eq!(house.run.ended().await.code, 0);
}

/// With real budgets, an exhausted one may end the gateway; else everybody is accounted for at every moment.
async fn storm_on_real_budgets(steps: Vec<Step>) {
    let mut house = House::up().await;
    for step in steps {
        if let Step::Fall { place, act } = step {
            let _ = house.addr(place).map(|addr| addr.try_send(super::toys::Do(act)));
        } else if let Step::Wait { ms } = step {
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
    }
    let ended = tokio::time::timeout(Duration::from_secs(60), house.run.ended()).await;
    if let Ok(ended) = ended {
        assert_eq!(ended.code, 70);
        assert_eq!(house.world.tasks.get(), 0);
        return;
    }
    house.assert_consistent().await;
    for child in house.status().await.children {
        let at_rest = matches!(child.state, ChildState::Running | ChildState::Suspended | ChildState::Waiting);
        assert!(at_rest, "{child:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn after_any_storm_everybody_runs_on_the_present_floor(steps in prop::collection::vec(step(), 1..40)) {
        in_a_system(storm(steps));
    }

    #[test]
    fn after_any_falls_every_child_runs_or_is_suspended_or_the_end_was_orderly(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        in_a_system(storm_on_real_budgets(steps));
    }
}
