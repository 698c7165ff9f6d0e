//! `tidegate run` behind a broker, with a system tor's SOCKS port (or what stands for one) as its way to destinations.

use super::admin::Admin;
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};
use tidegate::lab::{
    Process, ProcessSpec,
    ports::{free_ports, loopback},
};

/// A gateway with its state below a folder, running or not.
pub struct BehindBroker {
    process: Option<Process>,
    folder: PathBuf,
    /// Its admin endpoint.
    pub admin: Admin,
}

impl BehindBroker {
    /// Writes its config. It takes `DESTINATION/DEVICE/pulse`; `destination` is the block of what it delivers to. Its log goes
    /// to `gateway.log`.
    pub fn new(folder: &Path, broker: SocketAddr, socks: SocketAddr, destination: &str) -> Self {
        let admin = loopback(free_ports(1).expect("a free port")[0]);
        // The machine's clock is to be believed: what stands for tor here vouches for none.
        let config = format!(
            "version = 1\nstate_dir = \"state\"\n[mqtt]\nhost = \"{}\"\nport = {}\n[http]\nenabled = false\n\
             [admin]\nlisten = \"{admin}\"\n[log]\nfilter = \"warn\"\n[clock]\ntrust = \"assume\"\n\
             [tor]\ntransport = \"socks\"\nsocks = \"{socks}\"\n\
             [[route]]\ntopic = \"{{destination}}/{{device}}/pulse\"\n{destination}",
            broker.ip(),
            broker.port(),
        );
        fs::write(folder.join("tidegate.toml"), config).expect("the config");
        Self { process: None, folder: folder.to_owned(), admin: Admin::new(admin, &folder.join("state")) }
    }

    /// Starts it on what it left, and does not wait.
    pub fn start(&mut self) {
        self.start_with(&[]);
    }

    /// The same, with these variables in its environment.
    pub fn start_with(&mut self, environment: &[(&str, &str)]) {
        let spec = ProcessSpec::new("gateway", super::TIDEGATE, self.folder.join("gateway.log"))
            .arg("--config")
            .arg(self.folder.join("tidegate.toml"))
            .arg("run");
        let spec = environment.iter().fold(spec, |spec, (key, value)| spec.env(*key, *value));
        self.process = Some(spec.spawn().expect("the gateway"));
    }

    /// Waits until it is at the broker, so that no publication is lost from here on.
    pub fn wait_for_session(&mut self) {
        super::wait_for("the gateway's session at the broker", || {
            self.check();
            (self.admin.observation("subscriber")?["connected"] == true).then_some(())
        });
    }

    /// Panics if it ended by itself.
    pub fn check(&mut self) {
        let process = self.process.as_mut().expect("it runs");
        if let Err(error) = process.check() {
            panic!("{error}");
        }
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| process.check().is_err())
    }

    /// What it has logged, in all its lives.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("gateway.log")).unwrap_or_default()
    }

    /// Ends it by SIGKILL, wherever it is.
    pub fn kill(&mut self) {
        self.process.take().expect("it runs").kill().expect("it ended");
    }

    /// Ends it in order.
    pub fn stop(&mut self) {
        self.process.take().expect("it runs").stop(Duration::from_secs(20)).expect("it ends");
    }
}
