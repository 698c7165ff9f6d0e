//! The paper's sender and receiver: Python programs from the environment that `.ci/setup test` builds.

use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};
use tidegate::lab::{Process, ProcessSpec, folder::tools_folder, ports};

fn python() -> PathBuf {
    let python = tools_folder().join("paper-venv/bin/python");
    assert!(python.exists(), "{} is missing: run .ci/setup test", python.display());
    python
}

fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/paper").join(name)
}

/// The Flask application, and where it listens.
pub fn receiver(folder: &Path) -> (Process, SocketAddr) {
    let address = ports::loopback(ports::free_ports(1).expect("a free port")[0]);
    let process = ProcessSpec::new("paper's receiver", python(), folder.join("paper-receiver.log"))
        .arg(program("receive.py"))
        .arg(address.port().to_string())
        .spawn()
        .expect("the paper's receiver");
    super::wait_for("the paper's receiver", || std::net::TcpStream::connect(address).ok());
    (process, address)
}

/// The client, which sends when told to.
pub struct Sender {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Sender {
    /// Sends to this onion address through this SOCKS port.
    pub fn start(onion: &str, socks: SocketAddr) -> Self {
        let mut child = Command::new(python())
            .arg(program("send.py"))
            .args([onion, &socks.port().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the paper's sender");
        let (orders, answers) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
        Self { child, orders, answers: BufReader::new(answers) }
    }

    /// Sends one value and waits for the answer; whether it was a success.
    pub fn send(&mut self, value: &str) -> bool {
        writeln!(self.orders, "{value}").expect("the sender listens");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("the sender answers");
        answer.trim() == "200"
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        // Nothing is left to be said if it has gone already.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}
