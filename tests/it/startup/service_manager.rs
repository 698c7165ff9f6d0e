//! What a service manager hears of the gateway: the test is the manager, on a socket of its own.

use super::{Gateway, LIMIT};
use std::{
    os::unix::net::UnixDatagram,
    process::Command,
    time::{Duration, Instant},
};

/// How long this manager waits for a sign of life.
const WATCHDOG: Duration = Duration::from_secs(2);

struct Manager {
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl Manager {
    /// Starts this gateway as systemd would.
    fn start(gateway: &mut Gateway) -> Self {
        let path = gateway.folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let watchdog = WATCHDOG.as_micros().to_string();
        gateway.start_with(&[("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", &watchdog)]);
        Self { socket, heard: Vec::new() }
    }

    /// The next datagram, if one comes within this time.
    fn next(&mut self, limit: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(limit)).unwrap();
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).ok()?;
        let said = String::from_utf8_lossy(&buffer[..length]).into_owned();
        self.heard.push(said.clone());
        Some(said)
    }

    /// Waits for a datagram that has this line.
    fn hears(&mut self, line: &str, gateway: &Gateway) -> String {
        let deadline = Instant::now() + LIMIT;
        while let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            match self.next(left) {
                Some(said) if said.lines().any(|one| one == line) => return said,
                _ => {}
            }
        }
        panic!("{line} did not come; heard: {:?}\n{}", self.heard, gateway.log());
    }
}

#[actix::test]
async fn a_service_manager_hears_ready_alive_reloading_and_stopping() {
    let mut gateway = Gateway::prepare("");
    let mut manager = Manager::start(&mut gateway);
    let ready = manager.hears("READY=1", &gateway);
    assert!(ready.contains("STATUS=all ") && ready.contains(" parts run"), "{ready}");

    // As often as it has to be, several times over.
    manager.hears("WATCHDOG=1", &gateway);
    for _ in 0..3 {
        let asked = Instant::now();
        manager.hears("WATCHDOG=1", &gateway);
        assert!(asked.elapsed() < WATCHDOG, "{:?}", asked.elapsed());
    }

    let pid = gateway.process.as_ref().unwrap().pid().unwrap().to_string();
    assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
    let reloading = manager.hears("RELOADING=1", &gateway);
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    manager.hears("READY=1", &gateway);

    gateway.signal();
    let stopping = manager.hears("STOPPING=1", &gateway);
    assert!(stopping.contains("STATUS=draining"), "{stopping}");
    gateway.until("an orderly end", || gateway.log().contains("the gateway has ended").then_some(())).await;
}

#[actix::test]
async fn it_is_not_ready_before_its_outbox_is_open() {
    let mut gateway = Gateway::prepare("outbox.on_corrupt = \"stop\"");
    std::fs::create_dir(gateway.state("outbox")).unwrap();
    std::fs::write(gateway.state("outbox/FORMAT"), "backend=sled-0.34\nlayout=1\n").unwrap();
    let mut manager = Manager::start(&mut gateway);
    gateway.until("the end", || gateway.log().contains("set_aside").then_some(())).await;
    assert_eq!(manager.next(Duration::from_millis(300)), None, "{}", gateway.log());
}
