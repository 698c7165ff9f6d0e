//! Signals, pauses and tests of a destination, and the keys by which it signals over Tor.

use super::{
    Global,
    admin_client::AdminClient,
    destination::shown,
    exit::{self, Failure},
    output, paths,
};
use crate::{adapters::system_entropy::SystemEntropy, signal_service::keys};
use clap::Args;
use http::Method;
use jiff::Timestamp;
use std::{process::ExitCode, time::Duration};
use tidegate_schemas::{
    id::DestinationId,
    outcome::Disposition,
    signal::SignalBody,
    view::{ConnectionTest, DestinationView},
};

/// What a signal says.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
pub struct WordArgs {
    /// It is ready for this long, such as 10m
    #[arg(long, value_name = "LENGTH")]
    ready: Option<String>,
    /// It is ready until then, by a clock that has to be right
    #[arg(long, value_name = "TIME")]
    ready_until: Option<Timestamp>,
    /// Not for this long, such as 30m
    #[arg(long, value_name = "LENGTH")]
    not_now: Option<String>,
    /// Forget what was said
    #[arg(long)]
    clear: bool,
}

impl WordArgs {
    /// As the admin endpoint takes it. Whether it can be honoured, the gateway says.
    pub(super) fn body(self) -> SignalBody {
        let Self { ready, ready_until, not_now, clear } = self;
        SignalBody { ready_for: ready, ready_until, not_now_for: not_now, clear: clear.then_some(true) }
    }
}

/// `tidegate destination signal`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tidegate destination signal cardiology --ready 10m
  tidegate destination signal cardiology --ready-until 2027-01-04T08:00:00+01:00
  tidegate destination signal cardiology --not-now 30m

It holds for its time, at most the agreement's signal.ttl_max; so many are honoured in an hour (signal.per_hour), then 75.")]
pub struct SignalArgs {
    /// The destination's name
    name: DestinationId,
    #[command(flatten)]
    word: WordArgs,
}

/// `tidegate destination test`.
#[derive(Debug, Args)]
#[command(
    after_help = "It connects to the onion service on a circuit of its own and hangs up: no message is sent, and nothing counts for or against
the destination. Its service sees a connection, so that it is done within the window alone, or with --any-time.
The circuit is of the destination's Tor budget. Exit code 1: not reached; 75: not now (Tor isn't ready, the budget is used up)."
)]
pub struct TestArgs {
    /// The destination's name
    name: DestinationId,
    /// Also while its window is closed, or it is paused
    #[arg(long)]
    any_time: bool,
}

/// `tidegate destination signal-key`.
#[derive(Debug, Args)]
#[command(after_help = "Run it where the gateway is, as its user or as root, and carry the line to the receiver:
  tidegate destination signal-key cardiology > gateway.signal_key
  (on the receiver: put gateway.signal_key into its folder, then `tidegate receiver signal --ready 10m`)")]
pub struct SignalKeyArgs {
    /// The destination's name
    name: DestinationId,
    /// Make a new one, with a new address; the old one is void
    #[arg(long)]
    replace: bool,
}

/// Signals as an operator.
pub(super) async fn signal(global: &Global, client: &AdminClient, args: SignalArgs) -> Result<(), Failure> {
    let path = format!("/api/v1/destinations/{}/signal", args.name);
    let view: DestinationView = client.send(Method::POST, &path, Some(&args.word.body())).await?;
    shown(global, &view)
}

/// Connects to a destination and hangs up. One that can't be reached is a failure.
pub(super) async fn test(global: &Global, client: &AdminClient, args: &TestArgs) -> Result<(), Failure> {
    let path = format!("/api/v1/destinations/{}/test?any_time={}", args.name, args.any_time);
    // The gateway keeps the agreement's deadline.
    let limit = Duration::from_secs(3_600);
    let tested: ConnectionTest = client.send_within(Method::POST, &path, None::<&()>, limit).await?;
    let seconds = Duration::from_millis(tested.took_ms).as_secs_f64();
    let words = format!("{} after {seconds:.1} s: {}", tested.destination, tested.words);
    if global.json {
        output::json(&tested)?;
    }
    match tested.error {
        None if global.json => Ok(()),
        None => output::line(&format!("reached {words}")),
        Some(error) if error.disposition() == Disposition::Snooze => {
            Err(Failure::later(format!("did not reach {words}")))
        }
        Some(_) => Err(Failure::failed(format!("did not reach {words}"))),
    }
}

/// Stops a destination, or lets it go on.
pub(super) async fn set_paused(
    global: &Global,
    client: &AdminClient,
    name: &DestinationId,
    paused: bool,
) -> Result<(), Failure> {
    let act = if paused { "pause" } else { "resume" };
    let path = format!("/api/v1/destinations/{name}/{act}");
    let view: DestinationView = client.send(Method::POST, &path, None::<&()>).await?;
    shown(global, &view)
}

/// Makes the keys by which a destination signals over Tor. They are a file in the state folder, which the running gateway notices.
pub(super) fn make_key(global: &Global, args: &SignalKeyArgs) -> Result<ExitCode, Failure> {
    let settings = paths::settings(global)?;
    let name = &args.name;
    if settings.destinations.as_ref().is_some_and(|names| !names.contains(&name.to_string())) {
        output::message(&format!("note: the config has no destination {name} yet"));
    }
    let line = keys::make(&settings.state_dir, name, args.replace, &SystemEntropy)
        .map_err(|error| Failure::failed(error.to_string()))?;
    if global.json {
        output::json(&serde_json::json!({ "destination": name, "signal_key": line }))?;
    } else {
        output::line(&line)?;
        output::message(&format!(
            "This is what the receiver of {name} needs to signal over Tor: an address that is for it alone, and the key to find it. It is \
             shown this once.\n  On the receiver, put it into its folder as gateway.signal_key. Here, the config needs\n  \
             [signal_service] enabled = true, and for {name}: signal = {{ accept = true }} and its receipt_key."
        ));
    }
    Ok(ExitCode::from(exit::OK))
}
