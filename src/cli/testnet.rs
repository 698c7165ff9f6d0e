//! `tidegate testnet`: a private Tor network on loopback, for trying things out. Not in a release build.

use super::{Global, exit::Failure, output};
use crate::lab::{Lifetime, StartStep, TorNetwork, TorNetworkOptions};
use clap::{Args, Subcommand};
use std::{path::PathBuf, process::ExitCode};

/// What to do with the private network.
#[derive(Debug, Subcommand)]
pub enum TestnetCommand {
    /// Start one that stays when this command ends; `TIDEGATE_TESTNET=FOLDER` makes other commands use it
    Start(StartArgs),
    /// Stop it
    Stop(FolderArgs),
    /// Say whether it runs
    Status(FolderArgs),
}

/// Which network.
#[derive(Debug, Args)]
pub struct FolderArgs {
    /// Its folder
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

/// How to start it.
#[derive(Debug, Args)]
pub struct StartArgs {
    /// Its folder; made if it is missing, used again if it is there
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

/// Does it.
///
/// # Errors
/// When `tor` is missing, or the network does not come up or go down.
pub fn run(global: &Global, command: TestnetCommand) -> Result<ExitCode, Failure> {
    let failed = |error: crate::lab::LabError| Failure::failed(error.to_string());
    match command {
        TestnetCommand::Start(args) => {
            let options = TorNetworkOptions {
                folder: Some(args.folder.clone()),
                lifetime: Lifetime::Detached,
                progress: Box::new(|step: StartStep| output::message(&step.to_string())),
                ..TorNetworkOptions::default()
            };
            let network = TorNetwork::start(options).map_err(failed)?;
            let (seconds, folder) = (network.started_in().as_secs_f64(), network.folder().display());
            if global.json {
                let folder = folder.to_string();
                output::json(&serde_json::json!({ "running": true, "folder": folder, "seconds": seconds }))?;
            } else {
                output::message(&format!("ready after {seconds:.1} s"));
                output::line(&format!("export TIDEGATE_TESTNET={folder}"))?;
            }
        }
        TestnetCommand::Stop(args) => {
            TorNetwork::attach(&args.folder).and_then(TorNetwork::stop).map_err(failed)?;
            if global.json {
                output::json(&serde_json::json!({ "running": false }))?;
            } else {
                output::message("stopped");
            }
        }
        TestnetCommand::Status(args) => {
            let mut network = TorNetwork::attach(&args.folder).map_err(failed)?;
            network.check().map_err(failed)?;
            if global.json {
                output::json(&serde_json::json!({ "running": true, "authorities": network.authorities().len() }))?;
            } else {
                output::line(&format!("running, {} authorities", network.authorities().len()))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
