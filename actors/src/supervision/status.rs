//! The state of the list, as the status page, the readiness probe and the tests read it.
//!
//! Times are moments of the monotonic clock; serialised, they become ages in milliseconds at that instant.

use super::Exit;
use serde::{Serialize, Serializer};
use tokio::time::Instant;

/// What the Gateway publishes after every change: the addresses of the living, and the state of all.
#[derive(Debug, Clone, Default)]
pub struct View<H> {
    /// The addresses. A line that is down is absent: an endpoint then answers 503.
    pub handles: H,
    /// The state of every line.
    pub status: GatewayStatus,
}

/// The state of the whole list.
#[derive(Debug, Clone, Default, Serialize)]
pub struct GatewayStatus {
    /// Whether it runs or ends.
    pub phase: Phase,
    /// Every child, in list order, lowest first.
    pub children: Vec<ChildStatus>,
}

impl GatewayStatus {
    /// Whether every line is running.
    #[must_use]
    pub fn all_running(&self) -> bool {
        self.phase == Phase::Running && self.children.iter().all(|child| child.state == ChildState::Running)
    }

    /// The child of this name.
    #[must_use]
    pub fn child(&self, name: &str) -> Option<&ChildStatus> {
        self.children.iter().find(|child| child.name == name)
    }
}

/// Whether the gateway runs or ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Fallen children are started again.
    #[default]
    Running,
    /// Children are being stopped, none is started.
    Draining,
    /// Every child has ended.
    Ended,
}

/// The state of one child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChildState {
    /// It runs.
    Running,
    /// It is being stopped or started, or waits for its delay, or for a line below that does.
    Restarting,
    /// It fell too often. It is tried again at `next_try`.
    Suspended,
    /// It is well, but a line that it needs is suspended.
    Waiting,
    /// It was stopped for good, at the end of the gateway.
    Stopped,
}

/// One child, as the status page shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChildStatus {
    /// Its name.
    pub name: &'static str,
    /// Its state.
    pub state: ChildState,
    /// How many incarnations there were, the present one included.
    pub generation: u64,
    /// How many starts after the first, its own falls and those of its floor together.
    pub restarts_total: u64,
    /// How many falls were its own.
    pub falls_total: u64,
    /// How it ended when it last fell by itself.
    pub last_exit: Option<Exit>,
    /// When that was.
    #[serde(rename = "last_fall_age_ms", serialize_with = "age_ms")]
    pub last_fall: Option<Instant>,
    /// When it last answered an observation; absent before the present incarnation's first answer.
    #[serde(rename = "observation_age_ms", serialize_with = "age_ms")]
    pub observed: Option<Instant>,
    /// When it is started next, while it waits for that.
    #[serde(rename = "next_try_in_ms", serialize_with = "in_ms")]
    pub next_try: Option<Instant>,
}

#[expect(clippy::ref_option, reason = "the signature that serde calls")]
fn age_ms<S: Serializer>(moment: &Option<Instant>, serializer: S) -> Result<S::Ok, S::Error> {
    moment.map(|then| millis(Instant::now().saturating_duration_since(then))).serialize(serializer)
}

#[expect(clippy::ref_option, reason = "the signature that serde calls")]
fn in_ms<S: Serializer>(moment: &Option<Instant>, serializer: S) -> Result<S::Ok, S::Error> {
    moment.map(|then| millis(then.saturating_duration_since(Instant::now()))).serialize(serializer)
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
