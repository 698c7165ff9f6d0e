//! `GET /api/v1/config`: what is in force, key by key, and where each stands. Settings are those that the gateway was started with;
//! destinations and routes those of the last reload and of the store.

use super::{App, access::ask, conditions, destinations, problem::HttpProblem};
use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Query},
};
use schemars::JsonSchema;
use serde::Deserialize;
use tidegate_schemas::{
    effective::{self, EffectiveConfig},
    messages::registry::Everything,
};

/// What to look at.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Part {
    /// This destination alone, with what holds for every key of it that is not written.
    destination: Option<String>,
}

/// The config in force. Its tag (`ETag`) is that of the whole, whatever part is asked for.
pub(super) async fn show(app: Data<App>, part: Query<Part>, request: HttpRequest) -> Result<HttpResponse, HttpProblem> {
    let now = ask(app.reach.look().access.everything.as_ref(), Everything).await??;
    let shown = match &part.destination {
        Some(name) => {
            let id = destinations::name(name)?;
            let agreement = now.destinations.get(&id);
            let agreement = agreement.ok_or_else(|| HttpProblem::not_found(format!("there is no destination {id}")))?;
            EffectiveConfig { keys: effective::destination(&id, agreement, &now.origins, true) }
        }
        None => {
            let started = app.reloader.as_ref().map(|reloader| reloader.started()).unwrap_or_default();
            effective::effective(&started, &app.state_dir.display().to_string(), &now)
        }
    };
    conditions::shown(&request, &now.tag, &shown)
}
