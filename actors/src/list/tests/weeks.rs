//! Weeks of the whole gateway in virtual time: see `testing::simulation` for the promises that are checked in each.

use crate::testing::{scripts, simulation};
use std::time::Duration;
use tidegate_schemas::entry::EntryState;

#[actix::test]
async fn four_weeks_of_outages_signals_clock_steps_and_summer_time_keep_every_promise() {
    tokio::time::pause();
    let outcome = simulation::run(scripts::four_weeks(1)).await;
    let ends = |state| outcome.ends.get(&state).copied().unwrap_or(0);

    assert!(outcome.published > 5_000);
    assert!(ends(EntryState::Delivered) > outcome.published * 3 / 4, "{:?}", outcome.ends);
    assert!(ends(EntryState::Expired) > 0, "the lab's: {:?}", outcome.ends);
}

#[actix::test]
async fn a_week_without_a_destination_costs_a_handful_of_attempts_each_night() {
    tokio::time::pause();
    let outcome = simulation::run(scripts::week_without_the_ward()).await;
    let during = |at: &Duration| (Duration::from_secs(86_400)..Duration::from_secs(8 * 86_400)).contains(at);
    let attempts = outcome.connects.iter().filter(|(_, at)| during(at)).count();

    assert!((7..=40).contains(&attempts), "{attempts}");
    assert_eq!(outcome.ends.get(&EntryState::Delivered), Some(&outcome.published));
}

#[actix::test]
async fn a_service_that_drops_every_rendezvous_gets_no_more_circuits_than_its_budget() {
    tokio::time::pause();
    let outcome = simulation::run(scripts::hostile_day()).await;
    let circuits = outcome.connects.iter().filter(|(_, at)| *at < Duration::from_secs(86_400)).count();

    assert!((12..=12 * 24).contains(&circuits), "{circuits}");
    assert_eq!(outcome.ends.get(&EntryState::Delivered), Some(&outcome.published));
}
