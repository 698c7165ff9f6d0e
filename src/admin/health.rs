//! `/livez` and `/readyz`: for a watchdog and a load balancer, without a token and without content.

use crate::admin::App;
use actix_web::{HttpResponse, web::Data};
use serde_json::json;

/// The process answers.
pub(super) async fn live() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "ok" }))
}

/// 200 when every line runs; 503 with the phase or `degraded` otherwise.
pub(super) async fn ready(app: Data<App>) -> HttpResponse {
    let situation = app.reach.look();
    if situation.ready() {
        return HttpResponse::Ok().json(json!({ "status": "ok" }));
    }
    let status = if situation.phase == "running" { "degraded" } else { situation.phase.as_str() };
    HttpResponse::ServiceUnavailable().insert_header(("retry-after", "2")).json(json!({ "status": status }))
}
