//! `tidegate receiver` on loopback, to be put behind a system tor.

use data_encoding::BASE64;
use serde_json::Value;
use std::{fs, net::SocketAddr, path::Path};
use tidegate::lab::{HttpRequest, Process, ProcessSpec, ports::loopback};

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

    /// All that it shows to who has the password, the oldest first: device and text.
    pub fn readings(&self) -> Vec<(String, String)> {
        let password = self.introduction["new_password"].as_str().expect("a password");
        let basic = format!("Basic {}", BASE64.encode(format!("reader:{password}").as_bytes()));
        let (mut all, mut after) = (Vec::new(), 0);
        loop {
            let path = format!("/v1/readings?limit=500&after={after}");
            let request = HttpRequest::new("GET", self.address(), path).header("Authorization", &basic);
            let page = request.send_ok().expect("the receiver's readings").json();
            assert_eq!(page["damaged"], serde_json::json!([]));
            let readings = page["readings"].as_array().expect("readings");
            if readings.is_empty() {
                return all;
            }
            let text = |reading: &Value, key: &str| reading[key].as_str().expect("a text").to_owned();
            all.extend(readings.iter().map(|reading| (text(reading, "device"), text(reading, "text"))));
            after = page["next_after"].as_u64().expect("a place");
        }
    }

    /// The block for the gateway's config.
    pub fn destination_toml(&self, onion: &str) -> String {
        let block = self.introduction["destination_toml"].as_str().expect("a block");
        block.replace("ADDRESS.onion", onion)
    }
}
