//! `tidegate embedded-broker`: the child process behind `mqtt.embedded = true`. Not for people: the gateway starts it.

use super::exit::Failure;
use crate::adapters::embedded_broker;
use clap::Args;
use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

/// Where it listens, and who may connect.
#[derive(Debug, Args)]
pub struct BrokerArgs {
    /// Where it listens
    #[arg(long)]
    listen: SocketAddr,
    /// Device credentials
    #[arg(long)]
    credentials: Option<PathBuf>,
}

/// Serves until standard input closes.
///
/// # Errors
/// When it can't listen, or breaks.
pub fn run(args: BrokerArgs) -> Result<ExitCode, Failure> {
    embedded_broker::serve::serve(args.listen, args.credentials).map_err(|error| Failure::failed(error.to_string()))?;
    Ok(ExitCode::SUCCESS)
}
