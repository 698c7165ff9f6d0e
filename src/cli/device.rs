//! `tidegate device`: credentials of devices; and, without a subcommand, a simulated device.
//!
//! Credentials are a file in the state folder (`devices.toml`), which the running gateway reads again when it changes.

use super::{
    Global, block_on,
    exit::{self, Failure},
    output,
    pacemaker::{self, PacemakerArgs},
    paths,
    private_file::{PrivateFile, secret},
};
use crate::{adapters::system_entropy::SystemEntropy, device_endpoint::credentials::read_devices};
use clap::{Args, Subcommand};
use serde_json::json;
use std::{path::Path, process::ExitCode};
use tidegate_schemas::{
    config::devices::{DEVICES_FILE, DEVICES_MAX, DeviceCredential, Devices, hash_secret},
    id::{DestinationId, DeviceId},
};

/// `tidegate device`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct DeviceArgs {
    #[command(subcommand)]
    command: Option<DeviceCommand>,
    #[command(flatten)]
    pacemaker: PacemakerArgs,
}

/// What to do with devices.
#[derive(Debug, Subcommand)]
pub enum DeviceCommand {
    /// Give a device credentials: a secret that is shown once
    Add {
        /// The device's name
        name: DeviceId,
        /// Where it may send, with commas between
        #[arg(long, required = true, value_delimiter = ',', value_name = "NAMES")]
        destinations: Vec<DestinationId>,
        /// Replace the credentials that it has
        #[arg(long)]
        replace: bool,
    },
    /// List the devices that have credentials
    List,
    /// Take a device's credentials away
    Remove {
        /// The device's name
        name: DeviceId,
    },
    /// Be a simulated pacemaker that publishes the paper's two readings
    Simulate(PacemakerArgs),
}

/// Does it.
pub(super) fn run(global: &Global, args: DeviceArgs) -> Result<ExitCode, Failure> {
    match args.command {
        None => block_on(pacemaker::run(global, args.pacemaker)),
        Some(DeviceCommand::Simulate(args)) => block_on(pacemaker::run(global, args)),
        Some(DeviceCommand::Add { name, destinations, replace }) => add(global, name, destinations, replace),
        Some(DeviceCommand::List) => list(global),
        Some(DeviceCommand::Remove { name }) => remove(global, &name),
    }
}

fn add(global: &Global, name: DeviceId, destinations: Vec<DestinationId>, replace: bool) -> Result<ExitCode, Failure> {
    let settings = paths::settings(global)?;
    for unknown in
        destinations.iter().filter(|id| !settings.destinations.as_ref().is_none_or(|d| d.contains(&id.to_string())))
    {
        output::message(&format!("note: the config has no destination {unknown} yet"));
    }
    let secret = secret(&SystemEntropy);
    let hash = hash_secret(&secret).ok_or_else(|| Failure::failed("could not make a secret"))?;
    let file = PrivateFile::open(&settings.state_dir, DEVICES_FILE)?;
    let mut devices = read(file.path())?;
    if devices.get(&name).is_some() && !replace {
        return Err(Failure::failed(format!("device {name} has credentials already; --replace makes new ones")));
    }
    if devices.len() >= DEVICES_MAX && devices.get(&name).is_none() {
        return Err(Failure::failed(format!("there are {DEVICES_MAX} devices already, which is the limit")));
    }
    let first = devices.is_empty();
    let credential = DeviceCredential { device: name.clone(), secret_sha256: hash, destinations: destinations.clone() };
    devices.put(credential);
    file.write(&devices.to_text())?;
    if global.json {
        output::json(&json!({ "device": name, "secret": secret, "destinations": destinations }))?;
    } else {
        output::line(&secret)?;
        output::message(&format!(
            "This is the secret of {name}. It is shown this once; the gateway keeps only its hash.\n  \
             HTTP: user {name} and this secret as the password (curl -u {name}:SECRET)\n  \
             MQTT, embedded broker: the same user name and password"
        ));
    }
    if first {
        output::message("It is the first one: from now on the device endpoint asks every device for its credentials.");
    }
    Ok(ExitCode::from(exit::OK))
}

fn list(global: &Global) -> Result<ExitCode, Failure> {
    let path = paths::settings(global)?.state_dir.join(DEVICES_FILE);
    let devices = read(&path)?;
    if global.json {
        let devices: Vec<_> =
            devices.iter().map(|it| json!({ "device": it.device, "destinations": it.destinations })).collect();
        output::json(&json!({ "items": devices }))?;
    } else if devices.is_empty() {
        output::message("no device has credentials; add one with `tidegate device add NAME --destinations ...`");
    } else {
        let mut table = output::table(&["device", "destinations"]);
        for it in devices.iter() {
            let destinations: Vec<&str> = it.destinations.iter().map(DestinationId::as_str).collect();
            table.add_row([it.device.as_str(), &destinations.join(", ")]);
        }
        output::print(&table)?;
    }
    Ok(ExitCode::from(exit::OK))
}

fn remove(global: &Global, name: &DeviceId) -> Result<ExitCode, Failure> {
    let file = PrivateFile::open(&paths::settings(global)?.state_dir, DEVICES_FILE)?;
    let mut devices = read(file.path())?;
    if devices.remove(name).is_none() {
        return Err(Failure::failed(format!("device {name} has no credentials")));
    }
    file.write(&devices.to_text())?;
    if devices.is_empty() {
        output::message(
            "It was the last one: the device endpoint asks for no credentials now, and listens on loopback alone.",
        );
    }
    if global.json {
        output::json(&json!({ "removed": name }))?;
    } else {
        output::line(&format!("{name} has no credentials any more"))?;
    }
    Ok(ExitCode::from(exit::OK))
}

fn read(path: &Path) -> Result<Devices, Failure> {
    read_devices(path).map_err(|error| Failure::failed(error.to_string()))
}
