//! `[signal_service]`: what the onion services for signals need.

use super::Checker;
use crate::{
    agreement::Destination,
    config::file::{TorConfig, TorTransport},
};

impl Checker<'_> {
    pub(super) fn signal_service(&mut self, enabled: bool, tor: &TorConfig, destinations: &[Destination]) {
        if !enabled {
            return;
        }
        if tor.transport != TorTransport::Arti {
            self.refuse(
                "signal_service.enabled",
                "the onion services for signals are hosted by arti, and tor.transport is a system tor",
                "take transport = \"arti\", or let signals come by MQTT or the admin endpoint",
            );
        }
        for destination in destinations {
            if destination.agreement.signal.accept && destination.keys.receipt_key.is_none() {
                self.warn(
                    format!("destination.{}.signal", destination.id),
                    "it has no receipt key, by which its signals over Tor would be known",
                    "add receipt_key, which `tidegate receiver` prints at its start",
                );
            }
        }
        if !destinations.iter().any(|destination| destination.agreement.signal.accept) {
            self.warn(
                "signal_service.enabled",
                "no destination accepts signals",
                "add signal = { accept = true } to one",
            );
        }
    }
}
