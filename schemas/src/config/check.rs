//! From the config as it is written to one that can be run: [`RawConfig::check`].
//!
//! All problems come at once, each with the path of its value. What is allowed but deserves a second look comes as
//! [`Config::warnings`]. Nothing here reads a file or a clock by itself: [`Surroundings`] brings both in.

mod broker;
mod destinations;
mod homeserver;
mod listeners;
mod openings;
mod routes;
mod secrets;
mod signals;
mod stored;
mod tidings;

pub use destinations::{CheckedDestination, check_destination};
pub use homeserver::PASSWORD_BYTES_MAX;
pub use openings::check_openings;
pub use stored::{REGISTRY_BYTES_MAX, REGISTRY_FILE};

use super::{
    Problem, Problems,
    devices::{DEVICES_FILE, Devices},
    file::{
        AdminConfig, ClockConfig, Config, HttpConfig, LedgerConfig, LogConfig, OutboxConfig, TorConfig, TorTransport,
        Vanguards,
    },
    parse_bytes,
    raw::{
        RawAdmin, RawClock, RawConfig, RawHttp, RawLedger, RawLog, RawLogFormat, RawOutbox, RawTor, RawTransport,
        RawVanguards,
    },
    settings::Settings,
};
use crate::clock::TrustPolicy;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use jiff::Timestamp;
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The version of the config format.
const VERSION: u32 = 1;
/// Bounds of the store's page cache, in bytes.
const CACHE_BYTES: std::ops::RangeInclusive<u64> = (8 << 20)..=(64 << 20);
/// Bounds of the ledger and of the quarantine, in records.
const KEPT_ENTRIES: std::ops::RangeInclusive<u64> = 1..=10_000_000;
/// Bounds of `ledger.retention_days`.
const RETENTION_DAYS: std::ops::RangeInclusive<u32> = 1..=36_500;
/// Default of `http.requests_per_minute`.
const REQUESTS_PER_MINUTE: u32 = 600;
/// Most characters of a `Host` value.
const HOST_BYTES_MAX: usize = 253;

/// What a config, or a destination, is checked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// It is new, or was changed, and somebody is there to hear of it: what its dates will do one day is refused today.
    New,
    /// It was in force before, and is taken up again: at a start, at a reload. What only the passing of time has brought into sight is a
    /// warning.
    Kept,
}

/// What a config is checked against.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// The folder of the config file: relative paths begin here.
    pub base_dir: &'a Path,
    /// The state folder if the file names none.
    pub state_dir: &'a Path,
    /// What for.
    pub occasion: Occasion,
    /// Now; windows are looked at for a year from here.
    pub now: Timestamp,
    /// Whether this build can do MQTT over TLS.
    pub mqtt_tls: bool,
    /// Reads a small text file: secrets, device credentials, `/etc/hosts`.
    pub read_file: &'a dyn Fn(&Path) -> io::Result<String>,
    /// Reads [`REGISTRY_FILE`], of at most [`REGISTRY_BYTES_MAX`].
    pub read_registry: &'a dyn Fn(&Path) -> io::Result<String>,
}

/// What is known while checking.
struct Checker<'a> {
    around: Surroundings<'a>,
    problems: Problems,
    warnings: Vec<Problem>,
}

impl<'a> Checker<'a> {
    fn new(around: &Surroundings<'a>) -> Self {
        Self { around: *around, problems: Problems::default(), warnings: Vec::new() }
    }
}

impl RawConfig {
    /// The checked config.
    ///
    /// # Errors
    /// All problems at once.
    pub fn check(self, around: &Surroundings<'_>) -> Result<Config, Problems> {
        let mut checker = Checker::new(around);
        if let Some(version) = self.version.filter(|version| *version != VERSION) {
            checker.refuse("version", format!("version {version} is not known to this program"), "write version = 1");
        }
        let state_dir = self.state_dir.map_or_else(|| around.state_dir.to_owned(), |path| checker.path(path));
        let devices = checker.devices(&state_dir);
        let has_credentials = !devices.is_empty();
        let declared: Vec<String> = self.destination.keys().cloned().collect();
        let known: Vec<String> = declared.iter().cloned().chain(checker.stored(&state_dir)).collect();
        let declarations = destinations::declarations(&self.destination);
        let mqtt = checker.broker(self.mqtt);
        let http = checker.http(&self.http, has_credentials);
        let admin = checker.admin(self.admin);
        checker.listeners_differ(mqtt.as_ref(), http.as_ref(), &admin);
        let tor = checker.tor(&self.tor);
        let matrix = self.matrix.and_then(|raw| checker.matrix(raw, &tor, &state_dir));
        let outbox = checker.outbox(&self.outbox);
        let ledger = checker.ledger(&self.ledger);
        let clock = checker.clock(&self.clock);
        let log = checker.log(self.log);
        let routes = checker.routes(self.route, &known);
        if let Some(mqtt) = &mqtt {
            checker.refuse_own_topics(&routes, &mqtt.tidings);
        }
        let destinations = checker.destinations(self.destination);
        checker.signal_service(self.signal_service.enabled, &tor, &destinations);
        checker.warn_of_idle(&known, &routes, mqtt.is_some());
        checker.warn_of_strangers(&devices, &known);
        let Checker { problems, warnings, .. } = checker;
        problems.into_result(Config {
            state_dir,
            mqtt,
            http,
            tor,
            matrix,
            signal_service: self.signal_service.enabled,
            admin,
            outbox,
            ledger,
            clock,
            log,
            routes,
            destinations,
            devices,
            warnings,
            declarations,
            settings: Settings::default(),
            origins: Arc::default(),
        })
    }
}

impl Checker<'_> {
    fn refuse(&mut self, path: impl Into<String>, message: impl Into<String>, hint: impl Into<String>) {
        self.problems.push(Problem::new(path, message, hint));
    }

    fn warn(&mut self, path: impl Into<String>, message: impl Into<String>, hint: impl Into<String>) {
        self.warnings.push(Problem::new(path, message, hint));
    }

    /// A path of the file, from the folder of the file.
    fn path(&self, path: PathBuf) -> PathBuf {
        // `join` leaves an absolute path alone.
        self.around.base_dir.join(path)
    }

    fn devices(&mut self, state_dir: &Path) -> Devices {
        let file = state_dir.join(DEVICES_FILE);
        match (self.around.read_file)(&file) {
            Ok(text) => Devices::parse(&text).unwrap_or_else(|error| {
                self.refuse(
                    "state_dir",
                    format!("the device credentials in {} are damaged: {error}", file.display()),
                    "restore the file from a backup, or move it away and add the devices again with `tidegate device add`",
                );
                Devices::default()
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Devices::default(),
            Err(error) => {
                self.refuse(
                    "state_dir",
                    format!("the device credentials in {} could not be read: {error}", file.display()),
                    "they belong to the user that the gateway runs as",
                );
                Devices::default()
            }
        }
    }

    /// `ADDRESS:PORT`, or `localhost:PORT`.
    fn listen_address(&mut self, text: Option<&str>, path: &str, absent: SocketAddr) -> SocketAddr {
        let Some(text) = text else { return absent };
        let local = text.strip_prefix("localhost:").and_then(|port| port.parse().ok());
        let parsed = local.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port))).or_else(|| text.parse().ok());
        parsed.unwrap_or_else(|| {
            self.refuse(
                path,
                format!("not an address to listen on: {text:?}"),
                format!("write ADDRESS:PORT, such as \"{absent}\""),
            );
            absent
        })
    }

    fn http(&mut self, raw: &RawHttp, has_credentials: bool) -> Option<HttpConfig> {
        if raw.enabled == Some(false) {
            return None;
        }
        let listen = self.listen_address(raw.listen.as_deref(), "http.listen", loopback(8000));
        self.needs_credentials("http.listen", "the device HTTP endpoint", listen.ip(), has_credentials);
        let requests_per_minute = raw.requests_per_minute.unwrap_or(REQUESTS_PER_MINUTE);
        if requests_per_minute == 0 {
            self.refuse(
                "http.requests_per_minute",
                "no request at all would be let in",
                "http.enabled = false says that",
            );
        }
        Some(HttpConfig { listen, requests_per_minute })
    }

    fn admin(&mut self, raw: RawAdmin) -> AdminConfig {
        let listen = self.listen_address(raw.listen.as_deref(), "admin.listen", loopback(8088));
        if !listen.ip().is_loopback() {
            self.warn(
                "admin.listen",
                "the admin endpoint speaks plain HTTP: on this address its token crosses the network in clear",
                "keep it on 127.0.0.1 and reach it through ssh -L or a TLS proxy",
            );
        }
        for (index, host) in raw.hosts.iter().enumerate() {
            let fits = !host.is_empty()
                && host.len() <= HOST_BYTES_MAX
                && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:[]".contains(&b));
            if !fits {
                let message = format!("not the value of a Host header: {host:?}");
                self.refuse(format!("admin.hosts[{index}]"), message, "write NAME or NAME:PORT, without http://");
            }
        }
        AdminConfig { listen, hosts: raw.hosts }
    }

    fn tor(&mut self, raw: &RawTor) -> TorConfig {
        let socks = raw.socks.as_deref();
        let transport = match (raw.transport, socks) {
            (Some(RawTransport::Socks), address) => {
                let address = self.listen_address(address, "tor.socks", loopback(9050));
                if !address.ip().is_loopback() {
                    self.refuse(
                        "tor.socks",
                        "the SOCKS port of tor is reached over loopback only: beyond it, readings would cross the network before Tor protects them",
                        "run tor on this machine, or let transport = \"arti\" do it",
                    );
                }
                TorTransport::Socks(address)
            }
            (Some(RawTransport::Arti) | None, address) => {
                if address.is_some() {
                    self.warn("tor.socks", "this has no effect without transport = \"socks\"", "");
                }
                TorTransport::Arti
            }
        };
        if raw.vanguards.is_some() && transport != TorTransport::Arti {
            self.warn(
                "tor.vanguards",
                "a system tor decides on vanguards itself",
                "see VanguardsEnabled in torrc's manual",
            );
        }
        let vanguards = match raw.vanguards {
            Some(RawVanguards::Full) => Vanguards::Full,
            Some(RawVanguards::Lite) | None => Vanguards::Lite,
        };
        TorConfig { transport, vanguards }
    }

    fn outbox(&mut self, raw: &RawOutbox) -> OutboxConfig {
        let mut config = OutboxConfig {
            cache_bytes: *CACHE_BYTES.start(),
            ledger_entries_max: 20_000,
            quarantine_entries_max: 1_000,
            max_messages: raw.max_messages.unwrap_or(1_000_000),
            max_bytes: 1 << 30,
            min_free_disk: 64 << 20,
            engine: raw.engine,
            on_corrupt: raw.on_corrupt,
        };
        if let Some(text) = &raw.cache {
            match parse_bytes(text) {
                Some(bytes) if CACHE_BYTES.contains(&bytes) => config.cache_bytes = bytes,
                Some(_) => self.refuse("outbox.cache", "the cache is from 8MiB to 64MiB", "8MiB is enough"),
                None => self.refuse(
                    "outbox.cache",
                    format!("not a size: {text:?}"),
                    "write it with a unit, such as \"8MiB\"",
                ),
            }
        }
        if config.max_messages == 0 {
            self.refuse("outbox.max_messages", "nothing could ever be taken", "");
        }
        for (given, key, least, slot) in [
            (&raw.max_bytes, "max_bytes", 1 << 20, &mut config.max_bytes),
            (&raw.min_free_disk, "min_free_disk", 0, &mut config.min_free_disk),
        ] {
            let Some(text) = given else { continue };
            match parse_bytes(text) {
                Some(bytes) if bytes >= least => *slot = bytes,
                Some(_) => self.refuse(format!("outbox.{key}"), "this is from 1MiB on", ""),
                None => self.refuse(
                    format!("outbox.{key}"),
                    format!("not a size: {text:?}"),
                    "write it with a unit, such as \"64MiB\"",
                ),
            }
        }
        for (given, key, slot) in [
            (raw.ledger_entries, "ledger_entries", &mut config.ledger_entries_max),
            (raw.quarantine_entries, "quarantine_entries", &mut config.quarantine_entries_max),
        ] {
            match given {
                Some(entries) if !KEPT_ENTRIES.contains(&entries) => self.refuse(
                    format!("outbox.{key}"),
                    format!("this is from {} to {}", KEPT_ENTRIES.start(), KEPT_ENTRIES.end()),
                    "",
                ),
                Some(entries) => *slot = entries,
                None => {}
            }
        }
        config
    }

    fn ledger(&mut self, raw: &RawLedger) -> LedgerConfig {
        let retention_days = raw.retention_days.unwrap_or(365);
        if !RETENTION_DAYS.contains(&retention_days) {
            let (least, most) = (RETENTION_DAYS.start(), RETENTION_DAYS.end());
            self.refuse("ledger.retention_days", format!("this is from {least} to {most}"), "");
        }
        LedgerConfig { archive: raw.archive.unwrap_or(true), retention_days }
    }

    fn clock(&mut self, raw: &RawClock) -> ClockConfig {
        if raw.trust == TrustPolicy::Assume {
            self.warn(
                "clock.trust",
                "the wall clock is believed although nobody vouches for it: if it is wrong, windows open at the wrong time",
                "only for networks without a time server; else leave it out and run a time daemon (chrony, systemd-timesyncd)",
            );
        }
        ClockConfig { trust: raw.trust }
    }

    fn log(&mut self, raw: RawLog) -> LogConfig {
        let filter = raw.filter.unwrap_or_else(|| "info".to_owned());
        if filter.trim().is_empty() {
            self.refuse("log.filter", "an empty filter logs nothing", "write \"off\" if that is meant, or \"info\"");
        }
        LogConfig { filter, json: raw.format == Some(RawLogFormat::Json) }
    }

    fn warn_of_idle(&mut self, declared: &[String], routes: &crate::route::Routes, broker: bool) {
        if declared.is_empty() {
            self.warn("destination", "no destination is declared: nothing can be delivered", "add [destination.NAME]");
        }
        if routes.0.is_empty() && broker {
            self.warn(
                "route",
                "there are no routes: every publication goes to quarantine",
                "add [[route]] with a topic",
            );
        }
    }

    fn warn_of_strangers(&mut self, devices: &Devices, declared: &[String]) {
        for credential in devices.iter() {
            for destination in &credential.destinations {
                if !declared.iter().any(|name| name == destination.as_str()) {
                    let message =
                        format!("device {} may hand in for {destination}, which is not declared", credential.device);
                    self.warn("destination", message, "declare it, or add the device again with other destinations");
                }
            }
        }
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// "did you mean X?", or `otherwise`.
fn did_you_mean<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>, otherwise: String) -> String {
    match super::suggest::nearest(word, candidates) {
        Some(near) => format!("did you mean {near:?}?"),
        None => otherwise,
    }
}

#[cfg(test)]
mod tests;
