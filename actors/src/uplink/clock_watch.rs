//! The watch over the wall clock: a task of the Uplink, because Tor is one of those who vouch for it.
//!
//! Every [`super::LOOK_EVERY`] it hands the times of Tor's consensus to the clock, and asks it whether it is to be believed. When that
//! changes it says so in the log, and rings the Dispatcher, whose windows open or close by it. It runs while Tor connects or fails,
//! too: the kernel may vouch at any time. While the Uplink is suspended the Dispatcher's own ticks find out.

use super::UplinkParts;
use tidegate_schemas::clock::ClockTrust;

/// Never returns.
pub(super) async fn run(parts: UplinkParts) {
    let mut last = None;
    loop {
        if let Some(times) = parts.transport.consensus() {
            parts.clock.told_by_tor(times);
        }
        let trust = parts.clock.trust();
        if last != Some(trust) {
            tell(trust);
            // At its own start the Dispatcher looks by itself.
            if last.is_some_and(|last: ClockTrust| last.trusted() != trust.trusted()) {
                parts.dispatcher.ring();
                parts.herald.ring();
            }
            last = Some(trust);
        }
        tokio::time::sleep(parts.look_every).await;
    }
}

fn tell(trust: ClockTrust) {
    let (reason, why, hint) = (trust.name(), trust.why(), trust.hint());
    if trust.is_alarm() {
        tracing::error!(reason, hint, "ALARM: the wall clock is not believed, and what depends on it waits: {why}");
    } else if !trust.trusted() {
        tracing::warn!(reason, hint, "the wall clock is not believed, and what depends on it waits: {why}");
    } else if trust == ClockTrust::Assumed {
        tracing::warn!(reason, hint, "the wall clock is believed as the config says: {why}");
    } else {
        tracing::info!(reason, "the wall clock is believed: {why}");
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::{
        ports::{clock::Clock, transport::Transport},
        supervision::{Bell, DeathWatch, Running, Wake},
        testing::{fake_transport::FakeTransport, seeded_entropy::SeededEntropy, sim_clock::SimClock},
        uplink::LOOK_EVERY,
        uplink::Uplink,
    };
    use std::sync::Arc;
    use std::time::Duration;
    use tidegate_schemas::{clock::ConsensusTimes, view::UplinkStatus};

    #[actix::test]
    async fn tors_times_reach_the_clock_and_a_change_of_trust_the_dispatcher_even_while_tor_fails() {
        tokio::time::pause();
        let clock = Arc::new(SimClock::at("2026-11-23T12:00:00Z".parse().unwrap()));
        clock.set_trust(ClockTrust::Unvouched);
        let transport = Arc::new(FakeTransport::new(Arc::clone(&clock) as Arc<dyn Clock>));
        transport.set_status(UplinkStatus::Failed { reason: "down".into() });
        let bell = Bell::default();
        let parts = UplinkParts {
            transport: Arc::clone(&transport) as Arc<dyn Transport>,
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            entropy: Arc::new(SeededEntropy::new(1)),
            dispatcher: bell.clone(),
            herald: Bell::default(),
            look_every: LOOK_EVERY,
        };
        let (_uplink, _running) = Running::start(Uplink::new(parts, DeathWatch::unwatched("uplink")));
        assert_eq!(bell.wait_at_most(Duration::from_secs(20)).await, Wake::Tick, "nothing has changed");
        assert_eq!(clock.told(), None);
        let valid_after = "2026-11-23T11:00:00Z".parse().unwrap();
        let valid_until = "2026-11-23T14:00:00Z".parse().unwrap();
        let times = ConsensusTimes { valid_after, valid_until, fetched: true };
        transport.set_consensus(times);
        clock.set_trust(ClockTrust::WithinConsensus);
        assert_eq!(bell.wait_at_most(LOOK_EVERY * 2).await, Wake::Rung, "it is believed");
        assert_eq!(clock.told(), Some(times));
        clock.set_trust(ClockTrust::KernelSynchronised);
        assert_eq!(bell.wait_at_most(Duration::from_secs(20)).await, Wake::Tick, "believed for another reason");
        clock.set_trust(ClockTrust::Apart);
        assert_eq!(bell.wait_at_most(LOOK_EVERY * 2).await, Wake::Rung, "it is no longer believed");
    }
}
