//! `tidegate receiver` on loopback, to be put behind a system tor.

use serde_json::Value;
use std::{fs, net::SocketAddr, path::Path};
use tidegate::lab::{Process, ProcessSpec, ports::loopback};

/// A running receiver.
pub struct Receiver {
    _process: Process,
    introduction: Value,
}

impl Receiver {
    /// Starts it with its data below `folder`.
    pub fn start(folder: &Path) -> Self {
        let log = folder.join("receiver.log");
        let process = ProcessSpec::new("receiver", super::TIDEGATE, &log)
            .args(["--json", "receiver", "--destination", "ward", "--listen", &loopback(0).to_string(), "--folder"])
            .arg(folder.join("receiver"))
            .spawn()
            .expect("the receiver");
        let introduction = super::wait_for("the receiver's introduction", || {
            let log = fs::read_to_string(&log).ok()?;
            log.lines().find_map(|line| {
                serde_json::from_str::<Value>(line).ok().filter(|said| said["destination_toml"].is_string())
            })
        });
        let key = introduction["new_write_key_files"][0].as_str().expect("a write key");
        fs::copy(key, folder.join("gateway.write_key")).expect("the write key");
        Self { _process: process, introduction }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.introduction["listen"].as_str().and_then(|text| text.parse().ok()).expect("an address")
    }

    /// The block for the gateway's config.
    pub fn destination_toml(&self, onion: &str) -> String {
        let block = self.introduction["destination_toml"].as_str().expect("a block");
        block.replace("ADDRESS.onion", onion)
    }
}
