//! Ends of actors and of the tasks that they own are told apart.

use super::toys::{Act, House, LINES, settle};
use crate::supervision::{Exit, TaskEnd, record_panic_site};

#[actix::test]
async fn every_kind_of_end_is_told_apart() {
    tokio::time::pause();
    let previous = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        record_panic_site(info);
        previous(info);
    }));
    let task = |name, end| Exit::TaskEnded { name, end };
    let ends = [
        (Act::TaskPanics, task("poller", TaskEnd::Panicked)),
        (Act::TaskReturns, task("poller", TaskEnd::Returned)),
        (Act::ForeignAbort, task("poller", TaskEnd::Aborted)),
        (Act::FiniteTaskPanics, task("errand", TaskEnd::Panicked)),
        (Act::Stop, Exit::Stopped),
        (Act::Resign, Exit::Resigned { reason: "tired of it" }),
    ];
    for (act, exit) in ends {
        let mut house = House::up().await;
        house.tell(5, act);
        house.until(|view| view.status.children[5].generation == 2).await;
        assert_eq!(house.child(5).await.last_exit, Some(exit), "{act:?}");
    }
    let mut lines = Vec::new();
    for act in [Act::Panic, Act::PanicSpawned, Act::PanicWaited] {
        let mut house = House::up().await;
        house.tell(5, act);
        house.until(|view| view.status.children[5].generation == 2).await;
        let Some(Exit::Panicked { at: Some(site) }) = house.child(5).await.last_exit else {
            panic!("{act:?}: no site")
        };
        assert_eq!(site.file, "supervision/tests/toys.rs");
        lines.push(site.line);
    }
    assert_ne!(lines[0], lines[1], "a panic in a handler and one in a future differ by their site");
    assert_eq!(lines[1], lines[2], "these two share their source line");
}

#[actix::test]
async fn a_task_with_an_end_and_a_task_that_is_dropped_leave_their_actor_alone() {
    tokio::time::pause();
    for act in [Act::FiniteTaskReturns, Act::DropTask] {
        let house = House::up().await;
        house.tell(5, act);
        settle().await;
        assert_eq!(house.generations().await, [1; LINES], "{act:?}");
        assert_eq!(house.world.tasks.get(), LINES - 1, "{act:?}: the poller it replaced is gone");
    }
}

#[actix::test]
async fn no_task_outlives_its_actor() {
    tokio::time::pause();
    for act in [Act::Panic, Act::Stop, Act::TaskPanics] {
        let mut house = House::up().await;
        assert_eq!(house.world.tasks.get(), LINES);
        house.tell(0, act);
        house.until(|view| view.status.children[0].generation == 2).await;
        house.all_running().await;
        settle().await;
        assert_eq!(house.world.tasks.get(), LINES, "{act:?}");
    }
}
