//! Listeners: who may be let in from beyond this machine, and that two of them don't want one port.

use super::Checker;
use crate::config::file::{AdminConfig, HttpConfig, MqttConfig};
use core::net::{IpAddr, SocketAddr};

impl Checker<'_> {
    /// Refuses a listener beyond loopback while no device has credentials.
    pub(super) fn needs_credentials(&mut self, path: &str, what: &str, address: IpAddr, has_credentials: bool) {
        if !address.is_loopback() && !has_credentials {
            self.refuse(
                path,
                format!(
                    "{what} is not on loopback, and no device has credentials: anybody on the network could hand in"
                ),
                "make credentials with `tidegate device add NAME`, or listen on 127.0.0.1",
            );
        }
    }

    /// Refuses two listeners on one address.
    pub(super) fn listeners_differ(
        &mut self,
        mqtt: Option<&MqttConfig>,
        http: Option<&HttpConfig>,
        admin: &AdminConfig,
    ) {
        let mut taken: Vec<(&str, SocketAddr)> = Vec::new();
        let embedded = mqtt.filter(|mqtt| mqtt.embedded).map(|mqtt| ("mqtt.port", mqtt.listen()));
        let listeners = embedded.into_iter().chain(http.map(|http| ("http.listen", http.listen)));
        for (path, address) in listeners.chain([("admin.listen", admin.listen)]) {
            // Port 0 lets the system choose.
            let clash = taken.iter().find(|(_, other)| address.port() != 0 && overlap(*other, address));
            if let Some((other, _)) = clash {
                self.refuse(
                    path,
                    format!("port {} is taken by {other} already", address.port()),
                    "choose another port",
                );
            }
            taken.push((path, address));
        }
    }
}

fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port() && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
}
