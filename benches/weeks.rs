//! What outages cost, by the simulation: connection attempts in a week without a destination that has a night window, and circuits in
//! a day of a service that drops every rendezvous. The whole gateway under virtual time, every promise checked; see the README.
#![expect(clippy::print_stdout, reason = "figures go to standard output")]

use std::time::Duration;
use tidegate_actors::testing::{
    scripts,
    simulation::{self, Outcome},
};

const DAY: Duration = Duration::from_secs(86_400);

fn run(script: simulation::Script) -> Outcome {
    actix::System::new().block_on(async {
        tokio::time::pause();
        simulation::run(script).await
    })
}

fn connects(outcome: &Outcome, from: Duration, to: Duration) -> usize {
    outcome.connects.iter().filter(|(_, at)| (from..to).contains(at)).count()
}

fn main() {
    let week = run(scripts::week_without_the_ward());
    println!("figure outage_attempts {} attempts", connects(&week, DAY, 8 * DAY));
    let hostile = run(scripts::hostile_day());
    println!("figure hostile_day_circuits {} circuits", connects(&hostile, Duration::ZERO, DAY));
    let weeks = run(scripts::four_weeks(1));
    println!("figure four_weeks_messages {} messages", weeks.published);
    println!("figure four_weeks_attempts {} attempts", weeks.connects.len());
}
