//! Where things are: the config file, the state folder, and what a client command needs of the config.
//!
//! A client command reads two keys of the config and leaves the rest unchecked: `tidegate status` has to work for an operator
//! who can't read the secrets that the gateway can, and while the file is being edited.

use super::{Global, config_files, exit::Failure};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
};
use tidegate_schemas::config::file::OutboxEngine;

/// Where the config file is looked for, in this order.
const CONFIG_FILES: [&str; 2] = ["./tidegate.toml", "/etc/tidegate/tidegate.toml"];
/// Where the admin endpoint listens when the config doesn't say.
const ADMIN_LISTEN: &str = "127.0.0.1:8088";
/// Where the broker is when the config doesn't say.
const BROKER: (&str, u16) = ("127.0.0.1", 1883);

/// The part of the config that client commands need.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Partial {
    state_dir: Option<PathBuf>,
    admin: Section,
    mqtt: Section,
    outbox: Outbox,
    destination: BTreeMap<String, toml::Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Outbox {
    engine: Option<toml::Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Section {
    listen: Option<String>,
    host: Option<String>,
    port: Option<u16>,
}

/// What a client command needs.
#[derive(Debug, PartialEq, Eq)]
pub struct Settings {
    /// The state folder.
    pub state_dir: PathBuf,
    /// `ADDRESS:PORT` of the admin endpoint.
    pub admin_listen: String,
    /// Host and port of the broker.
    pub broker: (String, u16),
    /// What keeps the outbox.
    pub engine: OutboxEngine,
    /// The destinations of the file, if there is one.
    pub destinations: Option<Vec<String>>,
}

/// The config file: the one that was named, or the first that exists.
pub fn config_file(global: &Global) -> Option<PathBuf> {
    let found = || CONFIG_FILES.iter().map(PathBuf::from).find(|path| path.exists());
    global.config.clone().or_else(found)
}

/// The state folder when the config names none: systemd's, root's, or the user's own.
pub fn default_state_dir() -> PathBuf {
    let folder = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // systemd gives a list with colons; the gateway's unit has one folder.
    if let Some(given) = folder("STATE_DIRECTORY") {
        return given;
    }
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/lib/tidegate");
    }
    let home = folder("HOME").unwrap_or_else(|| PathBuf::from("."));
    folder("XDG_STATE_HOME").unwrap_or_else(|| home.join(".local/state")).join("tidegate")
}

/// What the config says to a client command.
///
/// # Errors
/// When the file was named and can't be read, or is no TOML.
pub fn settings(global: &Global) -> Result<Settings, Failure> {
    let Some(path) = config_file(global) else {
        return Ok(from_partial(Partial::default(), None, &|name| env::var(name).ok()));
    };
    let text = fs::read_to_string(&path)
        .map_err(|error| Failure::config(format!("could not read the config {}: {error}", path.display())))?;
    let partial = toml::from_str(&text).map_err(|error| {
        let reason = error.message().to_owned();
        Failure::config(format!("{}: {reason}; `tidegate check` shows the place", path.display()))
    })?;
    let mut settings = from_partial(partial, path.parent(), &|name| env::var(name).ok());
    if let Some(destinations) = &mut settings.destinations {
        // What can't be read here is the gateway's matter.
        for part in config_files::parts(&path).unwrap_or_default() {
            let part: Partial =
                config_files::read_file(&part).ok().and_then(|text| toml::from_str(&text).ok()).unwrap_or_default();
            destinations.extend(part.destination.into_keys());
        }
    }
    Ok(settings)
}

fn from_partial(partial: Partial, base: Option<&Path>, environment: &dyn Fn(&str) -> Option<String>) -> Settings {
    let state_dir = environment("TIDEGATE__STATE_DIR").map(PathBuf::from).or(partial.state_dir);
    let state_dir = match (state_dir, base) {
        (Some(path), Some(base)) => base.join(path),
        (Some(path), None) => path,
        (None, _) => default_state_dir(),
    };
    let admin_listen = environment("TIDEGATE__ADMIN__LISTEN").or(partial.admin.listen);
    let host = environment("TIDEGATE__MQTT__HOST").or(partial.mqtt.host);
    let port = environment("TIDEGATE__MQTT__PORT").and_then(|port| port.parse().ok()).or(partial.mqtt.port);
    let engine = environment("TIDEGATE__OUTBOX__ENGINE").map(toml::Value::from).or(partial.outbox.engine);
    Settings {
        state_dir,
        // What it can't be is told by `tidegate check`.
        engine: engine.and_then(|engine| engine.try_into().ok()).unwrap_or_default(),
        admin_listen: admin_listen.unwrap_or_else(|| ADMIN_LISTEN.to_owned()),
        broker: (host.unwrap_or_else(|| BROKER.0.to_owned()), port.unwrap_or(BROKER.1)),
        destinations: base.map(|_| partial.destination.into_keys().collect()),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_client_reads_its_keys_and_leaves_the_rest_alone() {
        let text = "state_dir = \"state\"\nunknown = 1\n[admin]\nlisten = \"127.0.0.1:9\"\n[mqtt]\nport = 7\n\
                    [destination.a]\nonion = \"not checked here\"";
        let made = from_partial(toml::from_str(text).unwrap(), Some(Path::new("/etc/x")), &|_| None);
        assert_eq!(made.state_dir, Path::new("/etc/x/state"));
        assert_eq!((made.admin_listen.as_str(), made.broker), ("127.0.0.1:9", ("127.0.0.1".to_owned(), 7)));
        assert_eq!(made.destinations.unwrap(), ["a"]);
    }

    #[test]
    fn the_environment_wins_over_the_file() {
        let text = "[admin]\nlisten = \"127.0.0.1:9\"";
        let environment = |name: &str| (name == "TIDEGATE__ADMIN__LISTEN").then(|| "127.0.0.1:10".to_owned());
        let made = from_partial(toml::from_str(text).unwrap(), Some(Path::new("/")), &environment);
        assert_eq!(made.admin_listen, "127.0.0.1:10");
    }
}
