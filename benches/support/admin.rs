//! A gateway's admin endpoint, asked as an operator would ask.

use serde_json::Value;
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};
use tidegate::lab::HttpRequest;

/// The endpoint of one gateway.
pub struct Admin {
    address: SocketAddr,
    token: PathBuf,
}

impl Admin {
    /// Of the gateway that listens here and keeps its state in this folder.
    pub fn new(address: SocketAddr, state: &Path) -> Self {
        Self { address, token: state.join("admin.token") }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The answer; none while there is none.
    pub fn ask(&self, method: &'static str, path: &str, body: Option<&Value>) -> Option<Value> {
        let token = fs::read_to_string(&self.token).ok()?;
        let request = HttpRequest::new(method, self.address, path).bearer(token.trim());
        let request = if let Some(body) = body { request.json(body) } else { request };
        Some(request.send_ok().ok()?.json())
    }

    /// Has the outbox written anew, or not: it may be killed meanwhile.
    pub fn compact(&self) {
        let Ok(token) = fs::read_to_string(&self.token) else { return };
        let _ = HttpRequest::new("POST", self.address, "/api/v1/outbox/compact").bearer(token.trim()).send();
    }

    /// Whether every line of the gateway runs.
    pub fn is_ready(&self) -> bool {
        HttpRequest::new("GET", self.address, "/readyz").send_ok().is_ok()
    }

    /// What an actor says of itself.
    pub fn observation(&self, actor: &str) -> Option<Value> {
        let status = self.ask("GET", "/api/v1/status", None)?;
        let lines = status["lines"].as_array()?;
        lines.iter().map(|line| &line["observation"]).find(|seen| seen["actor"] == actor).cloned()
    }

    /// A number of the outbox's account; 0 while the gateway does not answer.
    pub fn account(&self, state: &str) -> u64 {
        self.observation("outbox").and_then(|outbox| outbox["account"][state].as_u64()).unwrap_or_default()
    }
}
