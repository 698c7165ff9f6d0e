//! `tidegate run`: started on a folder, handed messages by HTTP, asked by its admin endpoint.

use super::admin::Admin;
use serde_json::json;
use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};
use tidegate::lab::{
    HttpRequest, Process, ProcessSpec, TorNetwork,
    ports::{free_ports, loopback},
};

/// The destination that all messages are for.
pub const DESTINATION: &str = "ward";
/// Connections that hand in a backlog.
const HANDS: u64 = 48;

/// A gateway with its state below a folder.
pub struct Gateway {
    process: Option<Process>,
    folder: PathBuf,
    network: PathBuf,
    http: SocketAddr,
    admin: Admin,
}

impl Gateway {
    /// Starts it without a broker and waits until it reaches Tor. `destination` is its block of the config.
    pub fn start(folder: &Path, network: &TorNetwork, destination: &str) -> Self {
        let ports = free_ports(2).expect("free ports");
        let (http, admin) = (loopback(ports[0]), loopback(ports[1]));
        let config = format!(
            "version = 1\nstate_dir = \"state\"\n[mqtt]\nenabled = false\n[http]\nlisten = \"{http}\"\n\
             requests_per_minute = 4000000000\n[admin]\nlisten = \"{admin}\"\n[log]\nfilter = \"warn\"\n{destination}"
        );
        fs::write(folder.join("tidegate.toml"), config).expect("the config");
        let network = network.folder().to_owned();
        let admin = Admin::new(admin, &folder.join("state"));
        let mut gateway = Self { process: None, folder: folder.to_owned(), network, http, admin };
        gateway.start_again();
        gateway
    }

    /// Starts it on what it left.
    pub fn start_again(&mut self) {
        let spec = ProcessSpec::new("gateway", super::TIDEGATE, self.folder.join("gateway.log"))
            .arg("--config")
            .arg(self.folder.join("tidegate.toml"))
            .arg("run")
            .env("TIDEGATE_TESTNET", &self.network);
        self.process = Some(spec.spawn().expect("the gateway"));
        super::wait_for("the gateway's readiness", || {
            let ready = self.admin.is_ready() && self.admin.observation("uplink")?["status"]["state"] == "ready";
            ready.then_some(())
        });
    }

    /// Ends it in order.
    pub fn stop(&mut self) {
        let process = self.process.take();
        process.expect("it runs").stop(Duration::from_secs(20)).expect("it ends");
    }

    /// Ends it by SIGKILL.
    pub fn kill(&mut self) {
        self.process.take().expect("it runs").kill().expect("it ended");
    }

    /// Its state folder.
    pub fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// Its admin endpoint.
    pub fn admin(&self) -> &Admin {
        &self.admin
    }

    /// Resident memory, in MiB.
    pub fn resident_mib(&self) -> f64 {
        let pid = self.process.as_ref().and_then(Process::pid).expect("it runs");
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
        let kib: f64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kib / 1024.0
    }

    /// A number of the outbox's account.
    pub fn account(&self, state: &str) -> u64 {
        self.admin.account(state)
    }

    /// Waits until so many are delivered.
    pub fn wait_for_delivered(&self, wanted: u64) {
        super::wait_for("the deliveries", || (self.account("delivered") >= wanted).then_some(()));
    }

    /// Closes the destination's window until next year.
    pub fn close_window(&self) {
        let windows = json!({ "allow": [{ "cron": "0 0 1 1 *", "for": "1m" }] });
        self.admin
            .ask("PUT", &format!("/api/v1/destinations/{DESTINATION}/windows"), Some(&windows))
            .expect("the window is closed");
    }

    /// Opens it for always.
    pub fn open_window(&self) {
        self.admin
            .ask("PUT", &format!("/api/v1/destinations/{DESTINATION}/windows"), Some(&json!({})))
            .expect("the window is open");
    }

    /// Hands in one message of the device `patient`; returns when it is in custody.
    pub fn hand_in(&self, value: &str) {
        let path = format!("/v1/messages/{DESTINATION}?device=patient");
        HttpRequest::new("PUT", self.http, path).body("text/plain", value).send_ok().expect("in custody");
    }

    /// Hands in so many messages as quickly as it goes, each of 200 bytes and from one of `devices` devices.
    pub fn hand_in_backlog(&self, count: u64, devices: u64) {
        let next = AtomicU64::new(0);
        thread::scope(|scope| {
            for _ in 0..HANDS {
                scope.spawn(|| {
                    let mut stream = TcpStream::connect(self.http).expect("the device endpoint");
                    stream.set_nodelay(true).expect("no delay");
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= count {
                            return;
                        }
                        put(&mut stream, self.http, number, number % devices);
                    }
                });
            }
        });
    }
}

/// One request on a kept connection.
fn put(stream: &mut TcpStream, address: SocketAddr, number: u64, device: u64) {
    let body = format!("{number:0200}");
    let head = format!(
        "PUT /v1/messages/{DESTINATION}?device=device-{device} HTTP/1.1\r\nHost: {address}\r\nContent-Type: text/plain\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).expect("the device endpoint listens");
    let mut answer = [0; 4096];
    // Answers are short and come whole on loopback; whatever is not a success is shown.
    let count = stream.read(&mut answer).expect("the device endpoint answers");
    let text = String::from_utf8_lossy(&answer[..count]);
    assert!(text.starts_with("HTTP/1.1 2"), "{text}");
}
