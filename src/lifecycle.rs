//! The life of the process: start, signals, drain, exit code.
//!
//! SIGTERM, SIGINT or an operator's word (`POST /api/v1/drain`) drains: intake closes first (device endpoint, embedded broker, subscriber), then what is under way gets a bounded
//! time, then the store is closed and the process ends with 0. An exhausted restart budget of a line that intake needs ends it with 70,
//! in the same order, and a System thread that stands still ends it with 70 at once, so that whoever started it starts it again:
//! nothing that was acknowledged is only in memory. During all of this, a second signal ends the process at once.
//!
//! A service manager that asked for it (`NOTIFY_SOCKET`) hears when the gateway is ready, that it is alive, when it reloads and when it
//! drains: see [`crate::vital_signs`].
//!
//! SIGHUP reads the config again ([`crate::reload`]); one that comes while that is under way asks for it once more.

use crate::{
    adapters::service_manager::{self, News},
    reload::{Origin, Reloader},
    vital_signs::VitalSigns,
    wiring::{self, Started},
};
use anyhow::Context as _;
use futures_util::{FutureExt as _, future::LocalBoxFuture};
use std::{cell::Cell, rc::Rc, sync::Arc, time::Duration};
use tidegate_actors::supervision::{Drain, Ended, Heartbeat, install_panic_hook};
use tidegate_schemas::config::file::Config;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Exit code when the gateway gave up (EX_SOFTWARE of sysexits).
pub const EXIT_GAVE_UP: u8 = 70;
/// Longest that the lines may take to drain together.
const DRAIN_MAX: Duration = Duration::from_secs(15);

/// Runs the gateway until it ends; the exit code. `origin` is where the config came from.
///
/// # Errors
/// When it could not be started.
pub fn run(config: Config, origin: Origin) -> anyhow::Result<u8> {
    install_panic_hook();
    let system = actix::System::new();
    let ended = system.block_on(async {
        let _beat = Heartbeat::start(Heartbeat::EVERY, Heartbeat::LIMIT, |silence| {
            tracing::error!(silent_s = silence.as_secs(), "the gateway's main thread stands still: the process ends");
            exit_at_once(EXIT_GAVE_UP);
        })
        .context("starting the heartbeat")?;
        // Heard from the first moment on: unheard, it would end the process.
        let hangup = signal(SignalKind::hangup()).context("listening for SIGHUP")?;
        let started = wiring::start(config, origin).await?;
        live(started, hangup).await
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

/// Until the gateway ends or is asked to; reloads meanwhile.
async fn until_the_end(started: &mut Started, signals: &mut Signals, hangup: &mut Signal) -> Option<Ended> {
    let vital_signs = VitalSigns::of(started.gateway.view.clone());
    let ready = vital_signs.told_ready();
    let mut told = std::pin::pin!(vital_signs.tell());
    let mut reloading: Option<LocalBoxFuture<'static, ()>> = None;
    loop {
        let idle = reloading.is_none();
        let under_way = async {
            match reloading.as_mut() {
                Some(reloading) => reloading.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = started.gateway.ended() => return Some(ended),
            () = signals.next() => return None,
            () = started.drain.notified() => return None,
            () = under_way => reloading = None,
            never = &mut told => match never {},
            Some(()) = hangup.recv(), if idle => {
                reloading = Some(reload(Arc::clone(&started.reloader), Rc::clone(&ready)).boxed_local());
            }
        }
    }
}

/// A service manager that knows that the gateway is ready hears of the reload, and of its end.
async fn reload(reloader: Arc<Reloader>, ready: Rc<Cell<bool>>) {
    let told = ready.get();
    if told {
        service_manager::tell(vec![News::Reloading]).await;
    }
    reloader.by_signal().await;
    if told {
        service_manager::tell(vec![News::Ready]).await;
    }
}

async fn live(mut started: Started, mut hangup: Signal) -> anyhow::Result<Ended> {
    let mut signals = Signals::listen()?;
    let ended = until_the_end(&mut started, &mut signals, &mut hangup).await;
    let status = if ended.is_some() { "gave up: the rest is closed in order" } else { "draining" };
    service_manager::tell(vec![News::Stopping, News::Status(status.to_owned())]).await;
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
    use tidegate_schemas::config::{
        check::{Occasion, Surroundings},
        source::ConfigText,
    };

    const TEXT: &str = "mqtt.enabled = false\nhttp.listen = \"127.0.0.1:0\"\nadmin.listen = \"127.0.0.1:0\"\n";

    #[actix::test]
    async fn a_gateway_that_ended_by_itself_closes_its_store_too() {
        let folder = tempfile::tempdir().unwrap();
        // Tor can't make its folder.
        std::fs::write(folder.path().join("tor"), "").unwrap();
        let around = Surroundings {
            base_dir: folder.path(),
            state_dir: folder.path(),
            occasion: Occasion::Kept,
            now: "2026-11-27T12:00:00Z".parse().unwrap(),
            mqtt_tls: false,
            read_file: &|_| Err(std::io::ErrorKind::NotFound.into()),
            read_registry: &|_| Err(std::io::ErrorKind::NotFound.into()),
        };
        let config = ConfigText::parse(TEXT, &[]).unwrap().check(&around).unwrap();
        let origin = Origin {
            path: folder.path().join("tidegate.toml"),
            state_dir: folder.path().to_owned(),
            environment: Vec::new(),
        };
        let mut started = wiring::start(config, origin).await.unwrap();
        // It ends as it does when it gives up: without anybody's signal.
        started.gateway.addr.send(Drain).await.unwrap();
        let ended = Ended { code: EXIT_GAVE_UP, ..started.gateway.ended().await };
        assert!(started.store_is_open());
        assert_eq!(end(&mut started, Some(ended)).await.code, EXIT_GAVE_UP);
        assert!(!started.store_is_open());
    }
}
