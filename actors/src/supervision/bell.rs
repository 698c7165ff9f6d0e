//! Bells: news goes up the list without an address and without a payload.
//!
//! An actor holds addresses only of lines below its own. To tell a line above "look again" it rings that line's bell.
//! Rings coalesce: any number of them before the listener looks are one wake-up, so a bell can't be a queue, can't be full,
//! and ringing never waits. A bell outlives the actors on both of its ends: it is made before any actor starts and stays the
//! same through restarts.
//!
//! Limits: one listener per bell. A ring may have been heard by an incarnation that fell before it acted, so a listener
//! acts once when it starts, and also by a tick of at most 60 s ([`Bell::wait_at_most`]): a lost ring costs time, no more.

use std::{sync::Arc, time::Duration};
use tokio::sync::Notify;

/// A coalescing wake-up without payload. Clones are the same bell.
#[derive(Debug, Clone, Default)]
pub struct Bell(Arc<Notify>);

/// What ended the wait for a bell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// Somebody rang.
    Rung,
    /// The time was up.
    Tick,
}

impl Bell {
    /// Wakes the listener, now or when it next waits. Never waits, never fails, from any thread.
    pub fn ring(&self) {
        self.0.notify_one();
    }

    /// Waits until somebody rings; returns at once if somebody did since the last wait. Cancel-safe.
    pub async fn wait(&self) {
        self.0.notified().await;
    }

    /// As [`Bell::wait`], but for at most `limit`: the wait of a reconciler.
    pub async fn wait_at_most(&self, limit: Duration) -> Wake {
        match tokio::time::timeout(limit, self.wait()).await {
            Ok(()) => Wake::Rung,
            Err(_) => Wake::Tick,
        }
    }
}

/// Every bell of the gateway, by the line that listens. Made before any actor starts (the first phase of the wiring); the
/// start functions then hand each line its own bell to listen to and the others to ring (the second).
#[derive(Debug, Clone, Default)]
pub struct Bells {
    /// Rung by the Registry: routes or destinations changed.
    pub subscriber: Bell,
    /// Rung by the Outbox, the Registry and the Uplink: something may be due, open or reachable.
    pub dispatcher: Bell,
    /// Rung by the Outbox, the Registry, the Uplink and the Subscriber (at a new connection): there may be news for devices.
    pub herald: Bell,
    /// Rung by the Outbox: a delivery report is pending.
    pub reporter: Bell,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn rings_before_the_wait_are_one_wake_up() {
        let bell = Bell::default();
        let other_end = bell.clone();
        for _ in 0..1000 {
            other_end.ring();
        }
        assert_eq!(bell.wait_at_most(Duration::from_secs(60)).await, Wake::Rung);
        assert_eq!(bell.wait_at_most(Duration::from_secs(60)).await, Wake::Tick);
    }

    #[tokio::test(start_paused = true)]
    async fn a_ring_for_a_listener_that_died_before_it_looked_goes_to_the_next() {
        let bell = Bell::default();
        let mut first = Box::pin(bell.wait());
        tokio::select! { biased; () = &mut first => unreachable!("nobody rang"), () = std::future::ready(()) => {} }
        bell.ring();
        drop(first);
        assert_eq!(bell.wait_at_most(Duration::from_secs(60)).await, Wake::Rung);
    }
}
