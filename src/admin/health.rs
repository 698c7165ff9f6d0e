//! `/livez` and `/readyz`: for a watchdog and a load balancer, without a token. Who shows one is also told what is not ready.

use crate::admin::{App, guard};
use actix_web::{HttpRequest, HttpResponse, web::Data};
use schemars::JsonSchema;
use serde::Serialize;

/// How it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub(super) struct Health {
    /// `ok`, `degraded` while a line doesn't run, or the phase: `starting`, `draining`, `ended`.
    status: String,
    /// What does not run, and why; for a request with a token alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<String>,
}

/// The process answers.
pub(super) async fn live() -> HttpResponse {
    HttpResponse::Ok().json(Health { status: "ok".to_owned(), reasons: Vec::new() })
}

/// 200 when every line runs; 503 with the phase or `degraded` otherwise.
pub(super) async fn ready(app: Data<App>, request: HttpRequest) -> HttpResponse {
    let situation = app.reach.look();
    if situation.ready() {
        return HttpResponse::Ok().json(Health { status: "ok".to_owned(), reasons: Vec::new() });
    }
    let status = if situation.phase == "running" { "degraded" } else { situation.phase.as_str() }.to_owned();
    let down = situation.lines.iter().filter(|line| !line.up);
    let told = guard::token(&request, &app).is_ok();
    let reasons = if told { down.map(|line| format!("{} is {}", line.name, line.state)).collect() } else { Vec::new() };
    HttpResponse::ServiceUnavailable().insert_header(("retry-after", "2")).json(Health { status, reasons })
}
