//! `tidegate demo`: the paper's experiment on one machine, with real parts.
//!
//! A simulated pacemaker publishes to the gateway's broker; the gateway keeps each reading, delivers it over Tor to a receiver
//! behind an onion service, and tells a Matrix room. In the middle the delivery window is closed and opened again. Every part is
//! a process of its own ([`parts`]), the gateway and the receiver being this very program; what is shown ([`watch`]) is what the
//! gateway's admin endpoint and the room say. Readings are counted as acknowledged only where the room has a notice of the
//! gateway for a delivery that the receiver signed for.
//!
//! Life-cycle: the work blocks, so it has a thread of its own; Ctrl-C or SIGTERM sets a flag which that thread looks at while it
//! waits. However it ends, values are dropped in order: processes stop, then their folders are removed. While a part starts, a
//! stop waits for the end of that start, at most its own time limit. Not in a release build.

mod parts;
mod watch;

use super::{Global, exit::Failure, output};
use clap::{Args, ValueEnum};
use parts::Parts;
use serde_json::json;
use std::{
    error::Error,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use watch::{Counts, Watch};

/// Fewest readings: one before and one behind the closed window.
const READINGS_MIN: u64 = 2;
/// Most readings.
const READINGS_MAX: u64 = 10_000;
/// Readings a second, unless that would take longer than [`PUBLISHING_S_MAX`].
const RATE_MIN: u64 = 2;
/// How long the pacemaker publishes at most, in seconds.
const PUBLISHING_S_MAX: u64 = 60;
/// How long the window stays closed.
const CLOSED: Duration = Duration::from_secs(10);
/// How long the last readings may take, once all are published.
const DELIVERY_LIMIT: Duration = Duration::from_secs(120);
/// How long the room, the broker and the pacemaker may take for the first half.
const FIRST_HALF_LIMIT: Duration = Duration::from_secs(180);

/// How the experiment is run.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Readings that the simulated pacemaker publishes
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(READINGS_MIN..=READINGS_MAX), value_name = "NUMBER")]
    readings: u64,
    /// Tor network: a private one on this machine, or the public one
    #[arg(long, value_enum, default_value_t = Network::Private)]
    network: Network,
}

/// Which Tor network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Network {
    /// Made for the experiment, on loopback.
    Private,
    /// The real one.
    Public,
}

/// Whether a signal asked for the end.
#[derive(Debug, Clone, Default)]
struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Fails once a signal came.
    fn check(&self) -> Result<(), Failure> {
        if self.0.load(Ordering::Relaxed) {
            return Err(Failure::failed("stopped by a signal; nothing is left behind"));
        }
        Ok(())
    }

    /// Sleeps a moment between two looks at what is waited for.
    fn pause(&self) -> Result<(), Failure> {
        thread::sleep(watch::POLL);
        self.check()
    }
}

/// An error with its causes, for the operator.
fn failed(error: &(dyn Error + 'static)) -> Failure {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        message.push_str(&format!(": {error}"));
        cause = error.source();
    }
    Failure::failed(message)
}

/// Runs the experiment; succeeds only if every reading was delivered and acknowledged in the room.
///
/// # Errors
/// When a part does not start or dies (with the end of its log), readings are missing at the end, or a signal came.
pub(super) async fn run(global: &Global, args: DemoArgs) -> Result<ExitCode, Failure> {
    if args.network == Network::Public && std::env::var_os("TIDEGATE_TESTNET").is_some() {
        return Err(Failure::usage("TIDEGATE_TESTNET names a private network: unset it for --network public"));
    }
    let stop = Stop::default();
    let (asked, as_json) = (stop.clone(), global.json);
    let mut work = tokio::task::spawn_blocking(move || experiment(&args, &asked, as_json));
    let mut signals = parts::Signals::open().map_err(|error| failed(&error))?;
    loop {
        tokio::select! {
            done = &mut work => return done.map_err(|error| failed(&error))?,
            () = signals.next() => {
                stop.0.store(true, Ordering::Relaxed);
                output::message("stopping all parts ...");
            }
        }
    }
}

fn experiment(args: &DemoArgs, stop: &Stop, as_json: bool) -> Result<ExitCode, Failure> {
    let began = Instant::now();
    let mut parts = Parts::start(args.network, stop)?;
    output::message(&format!("all parts run after {:.0} s. Where to look meanwhile:", began.elapsed().as_secs_f64()));
    for line in parts.places() {
        output::message(&format!("  {line}"));
    }
    let rate = RATE_MIN.max(args.readings.div_ceil(PUBLISHING_S_MAX));
    output::message(&format!("the pacemaker publishes {} readings, {rate} a second", args.readings));
    parts.start_device(args.readings, rate)?;
    let mut watch = Watch::new(&mut parts, stop);
    let seen = close_and_open(&mut watch, args.readings).and_then(|()| finish(&mut watch, args.readings));
    let (published, counts) = seen.map_err(|failure| watch.explain(failure))?;
    tell(published, &counts, as_json)?;
    output::message("stopping all parts and removing their folders ...");
    drop(parts);
    let missing = published.saturating_sub(counts.delivered.min(counts.acknowledged));
    match (published == args.readings, missing) {
        (true, 0) => Ok(ExitCode::SUCCESS),
        (false, 0) => Err(Failure::failed(format!("only {published} of {} readings were published", args.readings))),
        _ => Err(Failure::failed(format!("{missing} readings were not delivered and acknowledged in the room"))),
    }
}

/// In the middle: closes the window, shows that readings wait, and opens it again.
fn close_and_open(watch: &mut Watch<'_>, readings: u64) -> Result<(), Failure> {
    watch.until(FIRST_HALF_LIMIT, |counts, _ended| counts.accepted >= readings / 2 && counts.delivered > 0)?;
    watch.close_window()?;
    output::message("-- the hospital says \"not now\": its window is closed, and readings wait");
    watch.until(CLOSED, |_, _| false)?;
    let waiting = watch.look()?.waiting;
    // All may have been published and delivered before the window closed only if the gateway is far quicker than the pacemaker.
    if waiting == 0 {
        return Err(Failure::failed("no reading waited while the window was closed"));
    }
    watch.open_window()?;
    output::message(&format!("-- it is open again: the {waiting} readings that waited flow"));
    Ok(())
}

/// Waits until all is published, delivered and acknowledged, or the limit is over; what was published, and what came of it.
fn finish(watch: &mut Watch<'_>, readings: u64) -> Result<(u64, Counts), Failure> {
    watch.until(Duration::from_secs(PUBLISHING_S_MAX * 2), |_, device_ended| device_ended)?;
    let published = watch.published()?;
    watch.until(DELIVERY_LIMIT, |counts, _| counts.delivered >= published && counts.acknowledged >= published)?;
    let counts = watch.look()?;
    if published != readings {
        output::message(&format!("the pacemaker published {published} of {readings} readings"));
    }
    Ok((published, counts))
}

fn tell(published: u64, counts: &Counts, as_json: bool) -> Result<(), Failure> {
    let Counts { delivered, acknowledged, .. } = counts;
    let lost = published.saturating_sub(counts.delivered + counts.waiting);
    if as_json {
        return output::json(&json!({
            "published": published, "delivered": delivered, "acknowledged": acknowledged, "lost": lost,
        }));
    }
    output::line(&format!("published {published}, delivered {delivered}, acknowledged {acknowledged}, lost {lost}"))
}
