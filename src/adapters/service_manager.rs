//! What the service manager hears of the gateway: sd_notify(3), as systemd speaks it. The only file that names the crate.
//!
//! One datagram to the socket that `NOTIFY_SOCKET` names; where it names none, nobody is told and nothing is done. A full socket makes a
//! sender wait, so it is sent off the System thread, for a bounded time.

use sd_notify::NotifyState;
use std::{env, time::Duration};
use tokio::{task::spawn_blocking, time::timeout};

/// Longest that telling may take.
const TELL_MAX: Duration = Duration::from_secs(2);

/// What can be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// All that was asked for is done: the start, or a reload.
    Ready,
    /// The config is being read again.
    Reloading,
    /// The gateway drains.
    Stopping,
    /// It is alive.
    Alive,
    /// How it is, in a sentence.
    Status(String),
}

/// Whether there is anybody to tell.
#[must_use]
pub fn listens() -> bool {
    env::var_os("NOTIFY_SOCKET").is_some()
}

/// How long the service manager waits for a sign of life, if it waits for one of this process.
#[must_use]
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|limit| listens() && !limit.is_zero())
}

/// Tells this, in one datagram. That nobody took it is in the log, and changes nothing.
pub async fn tell(news: Vec<News>) {
    if !listens() {
        return;
    }
    let sent = timeout(TELL_MAX, spawn_blocking(move || send(&news))).await;
    match sent {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(error))) => tracing::warn!(%error, "the service manager could not be told how the gateway is"),
        Ok(Err(_)) => tracing::warn!("telling the service manager how the gateway is failed unexpectedly"),
        Err(_) => tracing::warn!("the service manager did not take in time how the gateway is"),
    }
}

/// Blocks.
fn send(news: &[News]) -> std::io::Result<()> {
    let mut states = Vec::new();
    for one in news {
        match one {
            News::Ready => states.push(NotifyState::Ready),
            // Newer systemds tell by the time that the READY=1 after it is meant for this reload.
            News::Reloading => states.extend([NotifyState::Reloading, NotifyState::monotonic_usec_now()?]),
            News::Stopping => states.push(NotifyState::Stopping),
            News::Alive => states.push(NotifyState::Watchdog),
            News::Status(sentence) => states.push(NotifyState::Status(sentence)),
        }
    }
    sd_notify::notify(&states)
}
