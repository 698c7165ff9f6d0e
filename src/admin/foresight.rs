//! What comes: the next openings of a destination, a forecast of its queue, what another agreement would mean, and why a message is
//! where it is.

use crate::admin::{
    App,
    access::{Situation, ask},
    body,
    problem::HttpProblem,
};
use actix_web::web::{Data, Json, Path, Payload, Query};
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tidegate_schemas::{
    agreement::{Circumstances, Evaluation, RawAgreement, ServiceAgreement},
    explain::{self, Explanation},
    forecast::Forecast,
    id::{DestinationId, EntryRef},
    messages::{
        dispatcher::Explain,
        outbox::{EntryName, Foresee, Foreseen, Loads, Show},
        registry::{Current, RegisteredDestination, RegistrySnapshot},
    },
    view::{EntryView, Shown},
    window::Opening,
};

/// Most openings of one answer.
pub const OPENINGS_MAX: usize = 1_000;
/// What the paths of problems begin with, for which there is no place in the body.
const BODY: &str = "agreement";
/// Openings of an answer that does not say how many.
const OPENINGS: usize = 10;

/// Which openings.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// Most openings.
    #[schemars(range(max = OPENINGS_MAX))]
    count: Option<usize>,
    /// From this moment on.
    from: Option<Timestamp>,
    /// How far ahead, in seconds.
    #[serde(rename = "for")]
    for_s: Option<u32>,
}

/// The next openings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Openings {
    /// The alias.
    pub destination: DestinationId,
    /// The zone of its windows.
    pub timezone: String,
    /// How it stands at the moment from which they are counted.
    pub now: Evaluation,
    /// The one under way first. None where it is always open, or never opens by itself.
    pub openings: Vec<Opening>,
}

/// What another agreement would mean for what waits now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Simulated {
    /// The alias.
    pub destination: DestinationId,
    /// The agreement in force.
    pub before: Foresight,
    /// The other one.
    pub after: Foresight,
}

/// Openings and forecast of one agreement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Foresight {
    /// The zone of its windows.
    pub timezone: String,
    /// The next ones.
    pub openings: Vec<Opening>,
    /// What becomes of what waits.
    pub forecast: Forecast,
}

/// `GET /api/v1/destinations/{id}/openings`
pub(super) async fn openings(
    app: Data<App>,
    id: Path<String>,
    asked: Query<Asked>,
) -> Result<Json<Openings>, HttpProblem> {
    let registered = registered(&app, &id).await?;
    let now = app.clock.now();
    let from = asked.from.unwrap_or(now);
    let count = asked.count.unwrap_or(if asked.for_s.is_some() { OPENINGS_MAX } else { OPENINGS });
    if count > OPENINGS_MAX {
        return Err(HttpProblem::bad_request(format!("count is at most {OPENINGS_MAX}")));
    }
    let agreement = &registered.destination.agreement;
    let circumstances =
        if asked.from.is_none() { present(&app, &registered, now).await } else { Circumstances::at(from) };
    Ok(Json(Openings {
        destination: registered.destination.id.clone(),
        timezone: agreement.windows.zone_name().to_owned(),
        now: agreement.evaluate(&circumstances),
        openings: within(agreement, from, count, asked.for_s),
    }))
}

/// Openings from a moment on: at most so many, and at most so far ahead. None where it is always open.
pub(crate) fn within(agreement: &ServiceAgreement, from: Timestamp, count: usize, for_s: Option<u32>) -> Vec<Opening> {
    let end = for_s.and_then(|s| from.checked_add(SignedDuration::from_secs(i64::from(s))).ok());
    let bounded =
        agreement.openings(from).take(count).filter(|opening| opening.start.is_some() || opening.end.is_some());
    bounded.take_while(|opening| end.is_none_or(|end| opening.start.is_none_or(|start| start < end))).collect()
}

/// `GET /api/v1/destinations/{id}/forecast`
pub(super) async fn forecast(app: Data<App>, id: Path<String>) -> Result<Json<Forecast>, HttpProblem> {
    let registered = registered(&app, &id).await?;
    let destination = &registered.destination;
    Ok(Json(foresee(&app, &destination.id, destination.agreement.clone(), None).await?.forecast))
}

/// `POST /api/v1/destinations/{id}/simulate`: the body is an agreement as it is written; nothing changes.
pub(super) async fn simulate(
    app: Data<App>,
    id: Path<String>,
    asked: Query<Asked>,
    payload: Payload,
) -> Result<Json<Simulated>, HttpProblem> {
    let registered = registered(&app, &id).await?;
    let raw: RawAgreement = body::json(payload).await?;
    let destination = &registered.destination;
    let checked = raw.check(BODY, destination.keys.receipt_key.is_some());
    let other = checked.map_err(|problems| HttpProblem::values(&problems, BODY))?;
    let from = asked.from.unwrap_or_else(|| app.clock.now());
    let count = asked.count.unwrap_or(OPENINGS).min(OPENINGS_MAX);
    let mut foresight = Vec::with_capacity(2);
    for agreement in [destination.agreement.clone(), other] {
        foresight.push(Foresight {
            timezone: agreement.windows.zone_name().to_owned(),
            openings: within(&agreement, from, count, asked.for_s),
            forecast: foresee(&app, &destination.id, agreement, None).await?.forecast,
        });
    }
    let (Some(after), Some(before)) = (foresight.pop(), foresight.pop()) else { return Err(HttpProblem::no_answer()) };
    Ok(Json(Simulated { destination: destination.id.clone(), before, after }))
}

/// `GET /api/v1/outbox/{destination}/{seq}/explain`, `GET /api/v1/outbox/{uuid}/explain`
pub(crate) async fn explain(app: &App, name: EntryName) -> Result<Json<Explanation>, HttpProblem> {
    let shown = ask(app.reach.look().access.show.as_ref(), Show { name }).await??;
    let Some(shown) = shown else {
        return Err(HttpProblem::not_found("there is no such entry, and none in the ledger"));
    };
    let registry = ask(app.reach.look().access.current.as_ref(), Current).await?;
    let entry = place(&shown);
    let registered = registry.destinations.get(&entry.destination);
    let zone = registered.map_or(jiff::tz::TimeZone::UTC, |r| r.destination.agreement.windows.zone().clone());
    match &shown {
        Shown::Ended(view) => Ok(Json(explain::ended(view, &zone))),
        Shown::Waiting(view) => waiting(app, view, &registry, &zone).await.map(Json),
    }
}

async fn waiting(
    app: &App,
    view: &EntryView,
    registry: &RegistrySnapshot,
    zone: &jiff::tz::TimeZone,
) -> Result<Explanation, HttpProblem> {
    let now = app.clock.now();
    let registered = registry.destinations.get(&view.entry.destination);
    let (mut explained, mut foreseen) = (None, None);
    if let Some(registered) = registered {
        let destination = registered.destination.id.clone();
        // A Dispatcher that is down is told by its absence.
        let asked = Explain { destination: destination.clone() };
        explained = ask(app.reach.look().access.explain.as_ref(), asked).await.ok().flatten();
        let agreement = registered.destination.agreement.clone();
        foreseen = Some(foresee(app, &destination, agreement, Some(view.entry.seq)).await?);
    }
    let known = explain::Waiting {
        view,
        agreed: registered.is_some(),
        broken: registry.broken.get(&view.entry.destination).map(|broken| broken.reason.as_str()),
        decision: explained.as_ref().map(|explained| &explained.decision),
        served: explained.as_ref().is_some_and(|explained| explained.served.is_some()),
        turn: foreseen.as_ref().and_then(|foreseen| foreseen.forecast.turn.as_ref()),
        behind: foreseen.as_ref().and_then(|foreseen| foreseen.behind),
        now,
    };
    Ok(explain::waiting(&known, zone))
}

fn place(shown: &Shown) -> &EntryRef {
    match shown {
        Shown::Waiting(view) => &view.entry,
        Shown::Ended(view) => &view.entry,
    }
}

async fn foresee(
    app: &App,
    destination: &DestinationId,
    agreement: ServiceAgreement,
    about: Option<u64>,
) -> Result<Foreseen, HttpProblem> {
    let message = Foresee { destination: destination.clone(), agreement: Arc::new(agreement), about };
    Ok(ask(app.reach.look().access.foresee.as_ref(), message).await??)
}

/// How things stand for a destination now.
pub(crate) async fn present(app: &App, registered: &RegisteredDestination, now: Timestamp) -> Circumstances {
    let Situation { access, .. } = app.reach.look();
    let loads = ask(access.loads.as_ref(), Loads).await.unwrap_or_default();
    let load = loads.iter().find(|load| load.destination == registered.destination.id);
    Circumstances {
        clock_trusted: app.clock.trusted(),
        paused: load.is_some_and(|load| load.paused),
        signal: load.and_then(|load| load.signal),
        ..Circumstances::at(now)
    }
}

/// The destination of this name.
pub(crate) async fn registered(app: &App, name: &str) -> Result<Arc<RegisteredDestination>, HttpProblem> {
    let id: DestinationId = name
        .parse()
        .map_err(|error| HttpProblem::not_found(format!("this is not the name of a destination: {error}")))?;
    let registry = ask(app.reach.look().access.current.as_ref(), Current).await?;
    let found = registry.destinations.get(&id).cloned();
    found.ok_or_else(|| HttpProblem::not_found(format!("there is no destination {id}")))
}
