//! The life of the process: start, signals, drain, exit code.
//!
//! SIGTERM or SIGINT drains: intake closes first (device endpoint, embedded broker, subscriber), then what is under way gets a bounded
//! time, then the process ends with 0. A second signal ends it at once. An exhausted restart budget of a line that intake needs, or a
//! System thread that stands still, ends it with 70, so that whoever started it starts it again: nothing that was acknowledged is
//! only in memory.

use crate::wiring::{self, Started};
use anyhow::Context as _;
use std::time::Duration;
use tidegate_actors::supervision::{Drain, Ended, Heartbeat, install_panic_hook};
use tidegate_schemas::config::file::Config;
use tokio::signal::unix::{SignalKind, signal};

/// Exit code when the gateway gave up (EX_SOFTWARE of sysexits).
pub const EXIT_GAVE_UP: u8 = 70;
/// Longest that the whole drain may take before the process ends regardless.
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

#[expect(clippy::disallowed_methods, reason = "the one thread that may: the orderly way is blocked")]
fn exit_at_once(code: u8) {
    std::process::exit(i32::from(code));
}

async fn live(mut started: Started) -> anyhow::Result<Ended> {
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    tokio::select! {
        ended = started.gateway.ended() => return Ok(ended),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("draining: intake closes, what is under way may finish; a second signal ends at once");
    started.close_intake().await;
    let _ = started.gateway.addr.send(Drain).await;
    tokio::select! {
        ended = started.gateway.ended() => {
            started.close().await;
            Ok(ended)
        }
        () = tokio::time::sleep(DRAIN_MAX) => {
            Ok(Ended { code: EXIT_GAVE_UP, reason: "the drain took too long".into() })
        }
        _ = terminate.recv() => Ok(Ended { code: EXIT_GAVE_UP, reason: "a second signal came".into() }),
        _ = interrupt.recv() => Ok(Ended { code: EXIT_GAVE_UP, reason: "a second signal came".into() }),
    }
}
