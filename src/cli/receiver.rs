//! `tidegate receiver`: the web application behind the onion service, and the onion service itself, in one process.

mod signal;

use super::{Global, exit::Failure, output, paths};
use crate::{
    adapters::{
        arti::{ArtiClient, ArtiError, ArtiSettings, HostingOptions},
        system_clock::SystemClock,
        system_entropy::SystemEntropy,
    },
    receiver::{Entrance, FreshSecret, Introduction, Keep, Receiver, ReceiverLimits, ReceiverOptions, StoreLimits},
    telemetry,
};
use clap::{Args, Subcommand};
use futures_util::stream;
use std::{net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc};
use tidegate_schemas::{
    clock::TrustPolicy,
    config::{
        file::{LogConfig, Vanguards},
        parse_bytes,
    },
    id::DestinationId,
    messages::outbox::SignalWord,
    onion::OnionEndpoint,
};

/// Smallest store, in bytes: a few of the largest readings.
const STORE_BYTES_MIN: u64 = 1 << 20;

/// How the receiver is set up.
#[derive(Debug, Args)]
pub struct ReceiverArgs {
    #[command(subcommand)]
    command: Option<ReceiverCommand>,
    /// Folder of everything that it keeps [default: `receiver` in the state folder]
    #[arg(long, value_name = "DIR", global = true)]
    folder: Option<PathBuf>,
    /// What its pages are headed with
    #[arg(long, default_value = "Readings")]
    title: String,
    /// A gateway that may write; a new one gets a key, which is printed once and kept in a file
    #[arg(long = "gateway", value_name = "NAME", default_value = "gateway")]
    gateways: Vec<DestinationId>,
    /// Name of the destination in the block that is printed for the gateway's config
    #[arg(long, value_name = "NAME", default_value = "receiver")]
    destination: DestinationId,
    /// Listen here on loopback, behind a system tor, instead of hosting an onion service
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Only who has one of these keys finds the onion service: `descriptor:x25519:...`, several times for several clients
    #[arg(long = "client", value_name = "KEY", conflicts_with = "listen")]
    clients: Vec<String>,
    /// Take this format without a write key: `private-iot` (the paper's senders have none)
    #[arg(long = "open-format", value_name = "FORMAT", value_parser = ["private-iot"])]
    open_formats: Vec<String>,
    /// Which readings are kept: `forever`, those of a time such as `90d`, or the `newest` that fit (the oldest make room)
    #[arg(long, default_value = "forever", value_name = "WHICH")]
    keep: Keep,
    /// How much the readings may take; the disk needs about twice as much. At 80 % log and page warn; when it is full, new
    /// readings are refused and wait at their gateways, unless the newest are kept
    #[arg(long, default_value = "1GiB", value_parser = store_bytes, value_name = "SIZE")]
    max_size: u64,
    /// Make a new password to read; the old one is void
    #[arg(long)]
    new_password: bool,
    /// Tell the gateways whose signal key is in the folder that it is ready, for this long, once it can be reached
    #[arg(long, value_name = "LENGTH", value_parser = signal::ready_for, conflicts_with = "listen")]
    signal_on_start: Option<SignalWord>,
    /// Log filter
    #[arg(long, default_value = "info", value_name = "FILTER")]
    log: String,
}

/// What else a receiver does.
#[derive(Debug, Subcommand)]
pub enum ReceiverCommand {
    /// Say to a gateway, over Tor, that the receiver is ready, or not now
    Signal(signal::SignalArgs),
}

fn store_bytes(text: &str) -> Result<u64, String> {
    let bytes = parse_bytes(text).ok_or_else(|| "write it with a unit, such as \"4GiB\"".to_owned())?;
    if bytes < STORE_BYTES_MIN { Err("at least 1MiB".to_owned()) } else { Ok(bytes) }
}

/// Serves until a signal comes.
///
/// # Errors
/// When its folder, its address or Tor is not to be had.
pub fn run(global: &Global, mut args: ReceiverArgs) -> Result<ExitCode, Failure> {
    let folder = args.folder.clone().unwrap_or_else(|| paths::default_state_dir().join("receiver"));
    if let Some(ReceiverCommand::Signal(said)) = args.command.take() {
        super::block_on(signal::run(global.json, &folder, said, connect(&folder)))?;
        return Ok(ExitCode::SUCCESS);
    }
    let log = LogConfig { filter: args.log.clone(), json: false };
    telemetry::init(&log).map_err(|error| Failure::usage(error.to_string()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| Failure::failed(format!("could not start: {error}")))?;
    runtime.block_on(serve(global.clone(), args, folder))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(global: Global, args: ReceiverArgs, folder: PathBuf) -> Result<(), Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::failed(error.to_string());
    let receiver = Receiver::open(ReceiverOptions {
        folder: folder.clone(),
        title: args.title.clone(),
        gateways: args.gateways.clone(),
        open_private_iot: !args.open_formats.is_empty(),
        new_password: args.new_password,
        limits: ReceiverLimits {
            store: StoreLimits { keep: args.keep, stored_bytes_max: args.max_size, ..StoreLimits::default() },
            ..ReceiverLimits::default()
        },
        // No window depends on it here; that a clock which is wrong removes nothing is the custody clock's business.
        clock: Arc::new(SystemClock::new(TrustPolicy::Assume)),
        entropy: Arc::new(SystemEntropy),
    })
    .await
    .map_err(|error| failed(&error))?;
    // Before anything that may fail: these are shown once.
    show_fresh(&global, receiver.introduction())?;
    let mut place = Place::default();
    let mut beside = None;
    let entrance = match args.listen {
        Some(listen) => {
            let (entrance, address) = Entrance::loopback(listen).await.map_err(|error| failed(&error))?;
            place.listen = Some(address);
            entrance
        }
        None => {
            let client = connect(&folder).await?;
            let options =
                HostingOptions { authorized_clients: args.clients.clone(), ..HostingOptions::named("receiver") };
            let service = client.host(options).await.map_err(|error| failed(&error))?;
            beside = Some(signal::Beside::start(&folder, &client, &service, &args.gateways, args.signal_on_start));
            place.onion = Some(OnionEndpoint { address: service.address().clone(), port: 80 });
            Entrance::streams(stream::unfold(service, |mut service| async move {
                let stream = service.accept().await?;
                Some((Box::new(stream) as Box<dyn crate::receiver::Duplex>, service))
            }))
        }
    };
    introduce(&global, &args, receiver.introduction(), &place)?;
    let served = receiver.serve(vec![entrance], signalled()).await.map_err(|error| failed(&error));
    drop(beside);
    served
}

/// Where the receiver can be reached.
#[derive(Default)]
struct Place {
    onion: Option<OnionEndpoint>,
    listen: Option<SocketAddr>,
}

/// Opens the receiver's Tor client and connects it.
async fn connect(folder: &std::path::Path) -> Result<Arc<ArtiClient>, Failure> {
    let failed = |error: ArtiError| Failure::failed(error.to_string());
    let settings = ArtiSettings::below(folder, Vanguards::Lite);
    #[cfg(feature = "testnet")]
    let settings = match std::env::var_os("TIDEGATE_TESTNET") {
        Some(network) => {
            tracing::warn!("this receiver is on a private Tor network for tests: it gives no anonymity");
            let network = crate::lab::ArtiTestSettings::load(std::path::Path::new(&network));
            settings.on_testnet(network.map_err(|error| Failure::failed(error.to_string()))?)
        }
        None => settings,
    };
    let client = ArtiClient::open(settings).await.map_err(failed)?;
    output::message("connecting to Tor; on the public network this takes up to a minute");
    client.bootstrap().await.map_err(failed)?;
    Ok(client)
}

/// Says what the operator needs, once: on stdout what a program can read, on stderr the rest.
fn introduce(global: &Global, args: &ReceiverArgs, intro: &Introduction, place: &Place) -> Result<(), Failure> {
    let gateway = args.gateways.first().cloned().unwrap_or_else(|| args.destination.clone());
    let block = intro.destination_toml(&args.destination, &gateway, place.onion.as_ref());
    if global.json {
        let mut said = fresh_json(intro);
        said["onion"] = place.onion.as_ref().map(OnionEndpoint::reveal).into();
        said["listen"] = place.listen.map(|listen| listen.to_string()).into();
        said["receipt_key"] = intro.receipt_key.as_str().into();
        said["destination_toml"] = block.into();
        // One line, so that whoever started it can read it as it comes.
        return output::line(&said.to_string());
    }
    match (&place.onion, place.listen) {
        (Some(onion), _) => output::message(&format!("serving http://{}/", onion.address.reveal())),
        (None, Some(listen)) => output::message(&format!("serving http://{listen}/ (put a system tor in front)")),
        (None, None) => {}
    }
    output::message("for the gateway's config:");
    output::line(&block)
}

/// Secrets that were made on this start, as the members of the introduction that they will be.
fn fresh_json(intro: &Introduction) -> serde_json::Value {
    let keys: Vec<_> = intro.fresh.write_keys.iter().map(|key| key.file.display().to_string()).collect();
    let password = intro.fresh.password.as_ref().map(FreshSecret::reveal);
    serde_json::json!({ "new_password": password, "new_write_key_files": keys })
}

/// Secrets that were made on this start: with `--json` a line of their own, which the introduction repeats when all else went well.
fn show_fresh(global: &Global, intro: &Introduction) -> Result<(), Failure> {
    if global.json {
        let fresh = intro.fresh.password.is_some() || !intro.fresh.write_keys.is_empty();
        return if fresh { output::line(&fresh_json(intro).to_string()) } else { Ok(()) };
    }
    if let Some(password) = &intro.fresh.password {
        output::message(&format!("password to read (shown once, keep it): {}", password.reveal()));
    }
    for key in &intro.fresh.write_keys {
        let file = key.file.display();
        output::message(&format!("write key of {} is in {file}: copy that file to the gateway", key.gateway));
    }
    Ok(())
}

async fn signalled() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
