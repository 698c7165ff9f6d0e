//! The outbox: entries by page, one entry, and an operator's acts on one. Metadata alone, never a body.

use crate::admin::{
    App,
    access::ask,
    foresight,
    pages::{self, Page},
    problem::HttpProblem,
};
use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Json, Path, Query},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidegate_schemas::{
    entry::{EntryState, Event},
    explain::Explanation,
    id::{DeviceId, EntryRef, MessageId},
    messages::outbox::{EntryName, List, Operate, Show},
    view::{EntryView, Shown},
};

/// What to look at.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Filter {
    /// Alias of a destination.
    #[schemars(regex(pattern = "^[a-z0-9-]{1,64}$"))]
    pub(crate) destination: Option<String>,
    /// One state or several, with commas between.
    #[schemars(regex(pattern = "^(queued|held|parked|dead)(,(queued|held|parked|dead))*$"))]
    pub(crate) state: Option<String>,
    /// Who sent it.
    #[schemars(regex(pattern = "^[A-Za-z0-9._-]{1,64}$"))]
    pub(crate) device: Option<String>,
    /// `next` of the page before.
    #[schemars(regex(pattern = "^[a-z0-9-]{1,64}/[0-9]{1,19}$"))]
    pub(crate) cursor: Option<String>,
    /// Most items.
    #[schemars(range(min = 1, max = pages::PAGE_ITEMS_MAX))]
    pub(crate) limit: Option<usize>,
}

/// What an act led to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Acted {
    /// The entry.
    pub entry: EntryRef,
    /// Where it stands now.
    pub state: EntryState,
}

/// A page of entries.
pub(super) async fn list(
    app: Data<App>,
    filter: Query<Filter>,
    request: HttpRequest,
) -> Result<HttpResponse, HttpProblem> {
    Ok(page(&app, filter.into_inner()).await?.respond(request.query_string()))
}

/// The entries that pass a filter, from its cursor on.
pub(crate) async fn page(app: &App, filter: Filter) -> Result<Page<EntryView>, HttpProblem> {
    let page = ask(app.reach.look().access.list.as_ref(), filter.message()?).await??;
    Ok(Page { items: page.entries, next: page.next.map(|next| next.to_string()) })
}

/// One entry, by its place.
pub(super) async fn show_place(app: Data<App>, place: Path<(String, String)>) -> Result<Json<Shown>, HttpProblem> {
    let entry = entry_ref(&place.0, &place.1)?;
    show(&app, EntryName::Place(entry)).await
}

/// One entry, by its id on the wire.
pub(super) async fn show_id(app: Data<App>, id: Path<String>) -> Result<Json<Shown>, HttpProblem> {
    show(&app, EntryName::Id(uuid(&id)?)).await
}

fn uuid(text: &str) -> Result<MessageId, HttpProblem> {
    text.parse().map_err(|_| HttpProblem::not_found("an entry is named DESTINATION/NUMBER or by its UUID"))
}

/// Why the entry at this place is where it is.
pub(super) async fn explain_place(
    app: Data<App>,
    place: Path<(String, String)>,
) -> Result<Json<Explanation>, HttpProblem> {
    let entry = entry_ref(&place.0, &place.1)?;
    foresight::explain(&app, EntryName::Place(entry)).await
}

/// The same, by its id on the wire.
pub(super) async fn explain_id(app: Data<App>, id: Path<String>) -> Result<Json<Explanation>, HttpProblem> {
    foresight::explain(&app, EntryName::Id(uuid(&id)?)).await
}

async fn show(app: &App, name: EntryName) -> Result<Json<Shown>, HttpProblem> {
    let found = ask(app.reach.look().access.show.as_ref(), Show { name }).await??;
    found.map(Json).ok_or_else(|| HttpProblem::not_found("there is no such entry, in the outbox or in the ledger"))
}

/// An operator's act on one entry.
pub(super) async fn act(app: Data<App>, path: Path<(String, String, String)>) -> Result<Json<Acted>, HttpProblem> {
    operate(&app, entry_ref(&path.0, &path.1)?, &path.2).await.map(Json)
}

/// Does it, on disk when answered.
pub(crate) async fn operate(app: &App, entry: EntryRef, act: &str) -> Result<Acted, HttpProblem> {
    let event = event(act)?;
    let message = Operate { entry: entry.clone(), event };
    let state = ask(app.reach.look().access.operate.as_ref(), message).await??;
    tracing::info!(%entry, %act, "an operator acted on an entry");
    Ok(Acted { entry, state })
}

/// The event that an act is.
pub(crate) fn event(act: &str) -> Result<Event, HttpProblem> {
    match act {
        "hold" => Ok(Event::Hold),
        "release" => Ok(Event::Release),
        "retry" => Ok(Event::Retry),
        "purge" => Ok(Event::Purge),
        _ => Err(HttpProblem::not_found("an entry can be told to hold, release, retry or purge")),
    }
}

/// The entry at this place.
pub(crate) fn entry_ref(destination: &str, seq: &str) -> Result<EntryRef, HttpProblem> {
    format!("{destination}/{seq}").parse().map_err(|error| HttpProblem::not_found(format!("{error}")))
}

impl Filter {
    fn message(self) -> Result<List, HttpProblem> {
        let bad = |what: &str, error: &dyn std::fmt::Display| HttpProblem::bad_request(format!("{what}: {error}"));
        let destination = self.destination.map(|text| text.parse().map_err(|e| bad("destination", &e))).transpose()?;
        let device: Option<DeviceId> =
            self.device.map(|text| text.parse().map_err(|e| bad("device", &e))).transpose()?;
        let after = self.cursor.map(|text| text.parse::<EntryRef>().map_err(|e| bad("cursor", &e))).transpose()?;
        let states = self.state.iter().flat_map(|text| text.split(',')).map(state).collect::<Result<_, _>>()?;
        Ok(List { destination, states, device, after, limit: pages::limit(self.limit)? })
    }
}

fn state(text: &str) -> Result<EntryState, HttpProblem> {
    serde_json::from_value(serde_json::Value::String(text.trim().to_owned())).map_err(|_| {
        HttpProblem::bad_request("state is one or more of queued, held, parked and dead, with commas between")
    })
}
