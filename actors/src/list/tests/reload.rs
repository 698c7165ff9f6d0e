//! Reloads in the whole list: what waits for a destination that goes is kept, through a fall too, and delivered when it is back.
use super::*;
use tidegate_schemas::{
    messages::{
        outbox::Loads,
        registry::{Declared, Reload},
    },
    outcome::DeliveryError,
};

async fn reload(world: &World, declared: Declared) {
    let registry = world.handles().registry.unwrap();
    let message = Reload { declared: declared.into(), condition: Condition::default(), dry_run: false };
    assert_eq!(registry.send(message).await.unwrap().unwrap().changed.len(), 1);
}

/// Queued for it, and deliveries to it so far.
async fn ward(world: &World) -> (u64, usize) {
    let loads = world.handles().outbox.unwrap().send(Loads).await.unwrap();
    let queued = loads.iter().find(|load| load.destination.as_str() == "ward").map_or(0, |load| load.queued);
    let attempts = world.transport.attempts();
    (
        queued,
        attempts.iter().filter(|attempt| attempt.destination.as_str() == "ward" && attempt.outcome.is_ok()).count(),
    )
}

#[actix::test]
async fn what_waits_for_a_destination_that_a_reload_drops_is_delivered_when_it_comes_back() {
    tokio::time::pause();
    let world = warm().await;
    world.transport.take_down(&"ward".parse().unwrap(), DeliveryError::ServiceDown);
    sleep(Duration::from_secs(20)).await;
    world.hush();
    let before = world.declared();
    let without = before.destinations.iter().filter(|declared| declared.destination.id.as_str() != "ward").cloned();
    let mut routes = (*before.routes).clone();
    // Else the reload would be refused: it names it.
    routes.0[0].allow = None;
    reload(&world, Declared { destinations: without.collect(), routes: routes.into(), ..Declared::default() }).await;
    world.transport.bring_up(&"ward".parse().unwrap());
    let waiting = ward(&world).await;
    assert!(waiting.0 > 10, "{waiting:?}");
    // The Registry that starts again knows of the reload.
    world.faults.set("registry", Fault::Panic);
    struck(&world, "registry").await;
    sleep(Duration::from_secs(3_600)).await;
    all_running(&world, "registry").await;
    assert_eq!(ward(&world).await, waiting, "nothing delivered, nothing lost");
    reload(&world, (*before).clone()).await;
    world.settle("a destination that comes back").await;
}
