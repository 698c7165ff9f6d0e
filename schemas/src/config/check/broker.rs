//! `[mqtt]`: where the broker is, without ever asking a name server, and how its session is kept.

use super::{Checker, loopback};
use crate::config::{
    file::{MqttConfig, MqttProtocol},
    parse_duration,
    raw::{RawMqtt, RawProtocol},
};
use core::net::{IpAddr, Ipv4Addr};
use std::path::Path;

/// Where names of this machine and its network are kept (hosts(5)).
const HOSTS_FILE: &str = "/etc/hosts";
/// Default of `mqtt.port`, registered with IANA.
const MQTT_PORT: u16 = 1883;
/// Bounds of `mqtt.session_expiry`, in seconds; the largest number means "never" in MQTT 5 and is left out.
const SESSION_EXPIRY_S: std::ops::RangeInclusive<i64> = 60..=(u32::MAX as i64 - 1);
/// Default of `mqtt.session_expiry`, in seconds (30 days).
const SESSION_EXPIRY_S_DEFAULT: u32 = 30 * 86_400;
/// Default of `mqtt.receive_maximum`: as many bodies of the largest size fit into 13 MiB.
const RECEIVE_MAXIMUM: u16 = 100;

impl Checker<'_> {
    /// The broker; `None` when it is switched off.
    pub(super) fn broker(&mut self, raw: RawMqtt) -> Option<MqttConfig> {
        if raw.enabled == Some(false) {
            return None;
        }
        let embedded = raw.embedded.unwrap_or(false);
        let host = raw.host.unwrap_or_else(|| "localhost".to_owned());
        let address = self.broker_address(&host);
        let port = raw.port.unwrap_or(MQTT_PORT);
        if port == 0 {
            self.refuse("mqtt.port", "0 is no port", "1883 is MQTT's, 8883 MQTT over TLS");
        }
        if raw.username.is_none() && raw.password.is_some() {
            self.refuse("mqtt.password", "a password without a user name", "add username = \"...\"");
        }
        let tidings = self.tidings(raw.prefix.as_deref(), raw.states, raw.receipts, raw.response_topics.as_deref());
        let config = MqttConfig {
            embedded,
            host,
            address,
            port,
            protocol: match raw.protocol {
                Some(RawProtocol::V311) => MqttProtocol::V311,
                Some(RawProtocol::V5) | None => MqttProtocol::V5,
            },
            username: raw.username,
            password_file: raw.password.map(|secret| self.path(secret.file)),
            tls_ca_file: raw.tls_ca_file.map(|path| self.path(path)),
            session_expiry_s: self.session_expiry(raw.session_expiry.as_deref()),
            receive_maximum: raw.receive_maximum.unwrap_or(RECEIVE_MAXIMUM),
            tidings,
            signals: raw.signals,
        };
        if config.receive_maximum == 0 {
            self.refuse("mqtt.receive_maximum", "MQTT 5 forbids a receive maximum of 0", "100 is a good number");
        }
        self.broker_security(&config);
        Some(config)
    }

    fn broker_address(&mut self, host: &str) -> IpAddr {
        if host.eq_ignore_ascii_case("localhost") {
            return loopback(0).ip();
        }
        if let Ok(address) = host.parse() {
            return address;
        }
        let hosts = (self.around.read_file)(Path::new(HOSTS_FILE)).unwrap_or_default();
        address_in_hosts(&hosts, host).unwrap_or_else(|| {
            self.refuse(
                "mqtt.host",
                format!("{host:?} is neither an address nor a name in {HOSTS_FILE}: the gateway asks no name server"),
                format!("write the broker's IP address, or add it to {HOSTS_FILE}"),
            );
            IpAddr::V4(Ipv4Addr::LOCALHOST)
        })
    }

    fn session_expiry(&mut self, text: Option<&str>) -> u32 {
        let Some(text) = text else { return SESSION_EXPIRY_S_DEFAULT };
        let hint =
            "write it as \"12h\" or \"30d\"; it should outlast the longest time that this gateway is switched off";
        match parse_duration(text) {
            Ok(duration) if SESSION_EXPIRY_S.contains(&duration.as_secs()) => {
                u32::try_from(duration.as_secs()).unwrap_or(SESSION_EXPIRY_S_DEFAULT)
            }
            Ok(_) => {
                self.refuse("mqtt.session_expiry", format!("{text:?} is out of bounds: from 1m to 136 years"), hint);
                SESSION_EXPIRY_S_DEFAULT
            }
            Err(problem) => {
                self.refuse("mqtt.session_expiry", problem, hint);
                SESSION_EXPIRY_S_DEFAULT
            }
        }
    }

    fn broker_security(&mut self, config: &MqttConfig) {
        let (tls, beyond) = (config.tls_ca_file.is_some(), !config.address.is_loopback());
        if tls && !self.around.mqtt_tls {
            self.refuse(
                "mqtt.tls_ca_file",
                "this build can't do MQTT over TLS",
                "build with `--features mqtt-tls`, or put the broker on this machine",
            );
        }
        if config.embedded {
            if tls {
                self.refuse("mqtt.tls_ca_file", "the embedded broker has no TLS", "use mosquitto, or leave TLS out");
            }
            if beyond {
                self.refuse(
                    "mqtt.host",
                    "the embedded broker serves this machine alone: it has no access rules, so that any device could publish as \
                     another and read what all others publish",
                    "listen on 127.0.0.1; for devices on a network use mosquitto, with users and access rules (docs/guide-mosquitto.md)",
                );
            }
            self.warn(
                "mqtt.embedded",
                "the embedded broker is not durable: it acknowledges before the outbox has the message",
                "good for a first run; use mosquitto for readings that matter",
            );
        }
        if beyond && !tls && !config.embedded {
            let message = "the way to the broker is not encrypted: readings and password cross the network in clear";
            self.warn("mqtt.host", message, "put the broker on this machine, or set tls_ca_file");
        }
    }
}

/// The first address that a hosts file gives a name.
fn address_in_hosts(hosts: &str, name: &str) -> Option<IpAddr> {
    hosts.lines().find_map(|line| {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|word| word.eq_ignore_ascii_case(name)).then_some(address)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hosts_file_as_it_is_found() {
        let hosts = "127.0.0.1 localhost\n# 10.0.0.1 broker\n192.168.1.7\tBroker.lan broker # the board\nnonsense\n";
        assert_eq!(address_in_hosts(hosts, "broker"), "192.168.1.7".parse().ok());
        assert_eq!(address_in_hosts(hosts, "broker.LAN"), "192.168.1.7".parse().ok());
        assert_eq!(address_in_hosts(hosts, "board"), None);
    }
}
