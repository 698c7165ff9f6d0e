//! Can a destination be reached? A connection on a fresh circuit, by an operator's hand. Nothing is sent, and nothing counts for or
//! against the destination; but its service sees a connection, and the circuit is of its Tor budget.
//!
//! So it is within its window alone, unless the operator says otherwise (`any_time`): the test of DW-1 that is flagged, and on record.

use crate::{
    admin::{
        App,
        access::{ask, ask_within},
        destinations, foresight,
        problem::HttpProblem,
    },
    cli::destination as words,
};
use actix_web::{
    http::StatusCode,
    web::{Data, Json, Path, Query},
};
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::Deserialize;
use std::time::Duration;
use tidegate_schemas::{
    messages::{
        outbox::{Budget, Spend},
        uplink::TestConnection,
    },
    view::ConnectionTest,
};

/// Longer than the agreement's own deadline by this much.
const MARGIN: Duration = Duration::from_secs(5);
/// When to ask again while other tests are under way.
const BUSY_S: u32 = 20;

/// How to test.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
pub(super) struct When {
    /// Also while its window is closed, or it is paused.
    #[serde(default)]
    any_time: bool,
}

/// The test.
pub(super) async fn test(
    app: Data<App>,
    id: Path<String>,
    when: Query<When>,
) -> Result<Json<ConnectionTest>, HttpProblem> {
    connect(&app, &id, when.any_time).await.map(Json)
}

/// Connects to it, and hangs up.
pub(crate) async fn connect(app: &App, id: &str, any_time: bool) -> Result<ConnectionTest, HttpProblem> {
    let registered = foresight::registered(app, id).await?;
    let destination = registered.destination.clone();
    let now = destinations::one(app, &destination.id).await?.now;
    if !now.open && !any_time {
        let window = words::window(&now, |at| at.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M UTC").to_string());
        let detail = format!("it is not to be tried now ({window}); any_time=true connects all the same");
        return Err(HttpProblem::new(StatusCode::CONFLICT, "not-agreed", "Not by the agreement", detail));
    }
    let access = app.reach.look().access;
    let whom = access.test_connection.as_ref();
    if whom.is_none() {
        return Err(HttpProblem::restarting());
    }
    let fresh_circuits_per_hour = destination.agreement.fresh_circuits_per_hour;
    let circuit = Spend { destination: destination.id.clone(), fresh_circuits_per_hour };
    if let Budget::UsedUp { wait } = ask(access.spend.as_ref(), circuit).await?.map_err(HttpProblem::from)? {
        return Err(HttpProblem::too_many(u32::try_from(wait.as_secs()).unwrap_or(BUSY_S).max(1)));
    }
    let limit = Duration::try_from(destination.agreement.deadlines.connect).unwrap_or_default() + MARGIN;
    let tested = ask_within(whom, TestConnection { destination }, limit).await?;
    let tested = tested.ok_or_else(|| HttpProblem::too_many(BUSY_S))?;
    tracing::info!(destination = %tested.destination, reached = tested.reached, any_time, "an operator tested a connection");
    Ok(tested)
}
