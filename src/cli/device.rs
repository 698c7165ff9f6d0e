//! `tidegate device`: credentials of devices; and, without a subcommand, a simulated device.
//!
//! Credentials are a file in the state folder (`devices.toml`), which the running gateway reads again when it changes.

use super::{
    Global, block_on,
    exit::{self, Failure},
    output,
    pacemaker::{self, PacemakerArgs},
    paths,
};
use crate::{adapters::system_entropy::SystemEntropy, device_endpoint::credentials::read_devices};
use clap::{Args, Subcommand};
use serde_json::json;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    process::ExitCode,
};
use tidegate_actors::ports::entropy::Entropy;
use tidegate_schemas::{
    config::devices::{DEVICES_FILE, DEVICES_MAX, DeviceCredential, Devices, hash_secret},
    id::{DestinationId, DeviceId},
};

/// Bytes of a secret, before their text.
const SECRET_BYTES: usize = 32;

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
    let folder = DeviceFile::open(&settings.state_dir)?;
    let mut devices = folder.read()?;
    if devices.get(&name).is_some() && !replace {
        return Err(Failure::failed(format!("device {name} has credentials already; --replace makes new ones")));
    }
    if devices.len() >= DEVICES_MAX && devices.get(&name).is_none() {
        return Err(Failure::failed(format!("there are {DEVICES_MAX} devices already, which is the limit")));
    }
    let first = devices.is_empty();
    let credential = DeviceCredential { device: name.clone(), secret_sha256: hash, destinations: destinations.clone() };
    devices.put(credential);
    folder.write(&devices)?;
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

fn secret(entropy: &dyn Entropy) -> String {
    let mut bytes = [0_u8; SECRET_BYTES];
    entropy.fill(&mut bytes);
    data_encoding::BASE64URL_NOPAD.encode(&bytes)
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
    let folder = DeviceFile::open(&paths::settings(global)?.state_dir)?;
    let mut devices = folder.read()?;
    if devices.remove(name).is_none() {
        return Err(Failure::failed(format!("device {name} has no credentials")));
    }
    folder.write(&devices)?;
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

/// The file of credentials, locked against another `tidegate device` until it is dropped.
struct DeviceFile {
    path: PathBuf,
    state_dir: PathBuf,
    _lock: File,
}

impl DeviceFile {
    fn open(state_dir: &Path) -> Result<Self, Failure> {
        let failed = |error: io::Error| {
            Failure::failed(format!("could not change the credentials in {}: {error}", state_dir.display()))
        };
        fs::create_dir_all(state_dir).map_err(failed)?;
        let lock = state_dir.join(format!(".{DEVICES_FILE}.lock"));
        let lock =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(lock).map_err(failed)?;
        lock.lock().map_err(failed)?;
        Ok(Self { path: state_dir.join(DEVICES_FILE), state_dir: state_dir.to_owned(), _lock: lock })
    }

    fn read(&self) -> Result<Devices, Failure> {
        read(&self.path)
    }

    /// Writes the file whole or not at all, readable by the owner of the folder alone: root may run this for the gateway's user.
    fn write(&self, devices: &Devices) -> Result<(), Failure> {
        self.replace(devices).map_err(|error| {
            Failure::failed(format!("could not write {}: {error}; nothing changed", self.path.display()))
        })
    }

    fn replace(&self, devices: &Devices) -> io::Result<()> {
        let new = self.state_dir.join(format!(".{DEVICES_FILE}.new"));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(devices.to_text().as_bytes())?;
        if rustix::process::geteuid().is_root() {
            let owner = fs::metadata(&self.state_dir)?;
            std::os::unix::fs::fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
        }
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        File::open(&self.state_dir)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use tidegate_actors::testing::seeded_entropy::SeededEntropy;

    #[test]
    fn a_secret_is_long_and_is_taken() {
        let made = secret(&SeededEntropy::new(1));
        assert_eq!(made.len(), 43);
        assert!(hash_secret(&made).is_some());
        assert_ne!(made, secret(&SeededEntropy::new(2)));
    }

    #[test]
    fn the_file_is_replaced_whole_and_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let file = DeviceFile::open(folder.path()).unwrap();
        let mut devices = file.read().unwrap();
        assert!(devices.is_empty());
        devices.put(DeviceCredential {
            device: "a".parse().unwrap(),
            secret_sha256: [1; 32],
            destinations: vec!["lab".parse().unwrap()],
        });
        file.write(&devices).unwrap();
        assert_eq!(file.read().unwrap(), devices);
        let mode = fs::metadata(folder.path().join(DEVICES_FILE)).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
