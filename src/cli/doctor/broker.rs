//! The broker before a gateway: whether it answers, and what it would lose.

use super::{
    Finding,
    mosquitto::{self, Unreadable},
};
use std::{net::SocketAddr, path::Path, time::Duration};
use tidegate_schemas::config::file::{Config, MqttConfig};
use tokio::net::TcpStream;

/// How long a connection may take.
pub(super) const CONNECT_LIMIT: Duration = Duration::from_secs(5);

pub(super) async fn look(config: &Config, broker_config: &Path) -> Vec<Finding> {
    let Some(mqtt) = &config.mqtt else {
        return vec![Finding::good("broker", "none: devices hand in by HTTP alone")];
    };
    if mqtt.embedded {
        return vec![Finding::look(
            "broker",
            "the embedded one, which acknowledges before the outbox has a message",
            "good for a first run; take mosquitto for readings that matter (docs/guide-mosquitto.md)",
        )];
    }
    let mut findings = vec![answers("broker", mqtt.connect(), "start it: systemctl start mosquitto").await];
    findings.extend(settings(mqtt, broker_config));
    findings
}

/// Whether somebody takes connections there.
pub(super) async fn answers(about: &'static str, address: SocketAddr, remedy: &str) -> Finding {
    match tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Finding::good(about, format!("{address} takes connections")),
        Ok(Err(error)) => Finding::wrong(about, format!("{address} takes no connections: {error}"), remedy),
        Err(_) => {
            let limit = CONNECT_LIMIT.as_secs();
            Finding::wrong(about, format!("{address} did not answer within {limit} s"), remedy)
        }
    }
}

fn settings(mqtt: &MqttConfig, file: &Path) -> Vec<Finding> {
    if !mqtt.address.is_loopback() && file == Path::new(mosquitto::CONFIG_FILE) {
        return vec![Finding::look(
            "broker settings",
            "the broker is on another machine: its settings can't be seen from here",
            "compare them with docs/guide-mosquitto.md, or name a copy with --broker-config",
        )];
    }
    match mosquitto::read(file) {
        Err(Unreadable { file, reason }) => vec![Finding::look(
            "broker settings",
            format!("{} can't be read: {reason}", file.display()),
            "name mosquitto's config with --broker-config; for another broker docs/guide-mosquitto.md says what matters",
        )],
        Ok(text) => {
            let losses = mosquitto::losses(&text);
            if losses.is_empty() {
                return vec![Finding::good(
                    "broker settings",
                    format!("those of {} keep what arrives", file.display()),
                )];
            }
            let fix = "copy deploy/mosquitto/tidegate.conf into mosquitto's conf.d and restart it (`tidegate init` writes it, too)";
            losses.into_iter().map(|loss| Finding::wrong("broker settings", loss, fix)).collect()
        }
    }
}
