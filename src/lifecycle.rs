//! The life of the process: start, signals, drain, exit code.
//!
//! SIGTERM or SIGINT drains: intake closes first (device endpoint, embedded broker, subscriber), then what is under way gets a bounded
//! time, then the store is closed and the process ends with 0. An exhausted restart budget of a line that intake needs ends it with 70,
//! in the same order, and a System thread that stands still ends it with 70 at once, so that whoever started it starts it again:
//! nothing that was acknowledged is only in memory. During all of this, a second signal ends the process at once.

use crate::wiring::{self, Started};
use anyhow::Context as _;
use std::time::Duration;
use tidegate_actors::supervision::{Drain, Ended, Heartbeat, install_panic_hook};
use tidegate_schemas::config::file::Config;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Exit code when the gateway gave up (EX_SOFTWARE of sysexits).
pub const EXIT_GAVE_UP: u8 = 70;
/// Longest that the lines may take to drain together.
const DRAIN_MAX: Duration = Duration::from_secs(15);

/// Runs the gateway until it ends; the exit code.
///
/// # Errors
/// When it could not be started.
pub fn run(config: Config) -> anyhow::Result<u8> {
    install_panic_hook();
    let system = actix::System::new();
    let ended = system.block_on(async {
        let _beat = Heartbeat::start(Heartbeat::EVERY, Heartbeat::LIMIT, |silence| {
            tracing::error!(silent_s = silence.as_secs(), "the gateway's main thread stands still: the process ends");
            exit_at_once(EXIT_GAVE_UP);
        })
        .context("starting the heartbeat")?;
        let started = wiring::start(config).await?;
        live(started).await
    })?;
    if ended.code == 0 {
        tracing::info!(reason = %ended.reason, "the gateway has ended");
    } else {
        tracing::error!(reason = %ended.reason, "the gateway has ended");
    }
    Ok(ended.code)
}

#[expect(clippy::disallowed_methods, reason = "the orderly way is blocked, or was called off by a second signal")]
fn exit_at_once(code: u8) -> ! {
    std::process::exit(i32::from(code))
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("listening for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("listening for SIGINT")?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

async fn live(mut started: Started) -> anyhow::Result<Ended> {
    let mut signals = Signals::listen()?;
    let ended = tokio::select! {
        ended = started.gateway.ended() => Some(ended),
        () = signals.next() => None,
    };
    match &ended {
        Some(ended) => tracing::error!(reason = %ended.reason, "the gateway gave up: the rest is closed in order"),
        None => tracing::info!("draining: intake closes, what is under way may finish; a second signal ends at once"),
    }
    tokio::select! {
        ended = end(&mut started, ended) => Ok(ended),
        () = signals.next() => {
            tracing::error!("a second signal came: the process ends at once");
            exit_at_once(EXIT_GAVE_UP)
        }
    }
}

/// Ends everything in order, each step within its limit; the list of actors may have ended already.
async fn end(started: &mut Started, ended: Option<Ended>) -> Ended {
    started.close_intake().await;
    let ended = match ended {
        Some(ended) => ended,
        None => drain(started).await,
    };
    if !started.close().await {
        // The thread that closes the store would be waited for.
        tracing::error!(reason = %ended.reason, "the gateway has ended, and its store is not closed: the process ends at once");
        exit_at_once(EXIT_GAVE_UP);
    }
    ended
}

async fn drain(started: &mut Started) -> Ended {
    // A Gateway that is gone is told by its end.
    let _ = started.gateway.addr.send(Drain).await;
    let ended = tokio::time::timeout(DRAIN_MAX, started.gateway.ended()).await;
    ended.unwrap_or_else(|_| Ended { code: EXIT_GAVE_UP, reason: "the drain took too long".into() })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use tidegate_schemas::config::{check::Surroundings, source::ConfigText};

    const TEXT: &str = "mqtt.enabled = false\nhttp.listen = \"127.0.0.1:0\"\nadmin.listen = \"127.0.0.1:0\"\n";

    #[actix::test]
    async fn a_gateway_that_ended_by_itself_closes_its_store_too() {
        let folder = tempfile::tempdir().unwrap();
        // Tor can't make its folder.
        std::fs::write(folder.path().join("tor"), "").unwrap();
        let around = Surroundings {
            base_dir: folder.path(),
            state_dir: folder.path(),
            now: "2026-11-27T12:00:00Z".parse().unwrap(),
            mqtt_tls: false,
            read_file: &|_| Err(std::io::ErrorKind::NotFound.into()),
        };
        let config = ConfigText::parse(TEXT, &[]).unwrap().check(&around).unwrap();
        let mut started = wiring::start(config).await.unwrap();
        // It ends as it does when it gives up: without anybody's signal.
        started.gateway.addr.send(Drain).await.unwrap();
        let ended = Ended { code: EXIT_GAVE_UP, ..started.gateway.ended().await };
        assert!(started.store_is_open());
        assert_eq!(end(&mut started, Some(ended)).await.code, EXIT_GAVE_UP);
        assert!(!started.store_is_open());
    }
}
