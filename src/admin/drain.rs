//! Ends the gateway in order, as SIGTERM does: intake closes, what is under way may finish, the process ends with 0.

use crate::admin::App;
use actix_web::web::{Data, Json};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// It is on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Draining {
    /// `draining`.
    pub(crate) phase: String,
}

/// Asks the process to end. Answered before it does; asking again changes nothing.
pub(super) async fn begin(app: Data<App>) -> Json<Draining> {
    tracing::info!("an operator drains the gateway");
    app.drain.notify_one();
    Json(Draining { phase: "draining".into() })
}
