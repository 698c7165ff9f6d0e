//! `/api/v1/status`: how every part of the gateway is.

use crate::admin::{
    App,
    access::{Line, Situation, ask},
    agreements,
    problem::HttpProblem,
};
use actix_web::web::{Data, Json};
use futures_util::future::{join, join_all};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidegate_schemas::{
    clock::ClockView,
    messages::gateway::Observe,
    view::{AbsentDestination, Observation},
};

/// The status of the gateway.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StatusView {
    /// Version of this program.
    pub version: String,
    /// Seconds since this process started its admin endpoint.
    pub uptime_s: u64,
    /// Wall clock.
    pub now: Timestamp,
    /// Whether the wall clock is believed, and why.
    pub clock: ClockView,
    /// `running`, `draining` or `ended`.
    pub phase: String,
    /// Whether every line is up.
    pub ready: bool,
    /// Lines that could not be put into the audit log since the start. An act that can't be put on record is not done.
    #[serde(default)]
    pub audit_failures: u64,
    /// Every line of the list, lowest first.
    pub lines: Vec<LineView>,
    /// Messages that wait for destinations that aren't there: nothing is delivered and nothing expires until they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub absent: Vec<AbsentDestination>,
}

/// One line: what the supervisor knows of it, and what it says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LineView {
    /// What the supervisor knows.
    #[serde(flatten)]
    pub line: Line,
    /// What it says; absent when it is down or did not answer in time.
    pub observation: Option<Observation>,
}

impl StatusView {
    /// What the lines say of themselves.
    pub fn observations(&self) -> impl Iterator<Item = &Observation> {
        self.lines.iter().filter_map(|line| line.observation.as_ref())
    }
}

/// The answer to `GET /api/v1/status`.
pub(super) async fn show(app: Data<App>) -> Result<Json<StatusView>, HttpProblem> {
    Ok(Json(collect(&app).await))
}

/// Asks every line at once.
pub(crate) async fn collect(app: &App) -> StatusView {
    let situation = app.reach.look();
    let (lines, absent) = join(observe(&situation), agreements::absent(app)).await;
    StatusView {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_s: app.started.elapsed().as_secs(),
        now: app.clock.now(),
        clock: app.clock.trust().view(),
        ready: situation.ready(),
        phase: situation.phase,
        audit_failures: app.audit.failures(),
        lines,
        absent,
    }
}

async fn observe(situation: &Situation) -> Vec<LineView> {
    let answers = situation.lines.iter().map(|line| async {
        let observer = situation.access.observers.iter().find(|(name, _)| *name == line.name);
        let observation = match observer {
            Some((_, observer)) => ask(Some(observer), Observe).await.ok(),
            None => None,
        };
        LineView { line: line.clone(), observation }
    });
    join_all(answers).await
}
