//! Destinations: the agreement in short, where it comes from, the windows with what comes next, what waits; and setting windows at
//! run time.

use crate::admin::{
    App,
    access::{Situation, ask},
    agreements::{self, DryRun, Made},
    body, conditions,
    pages::Page,
    problem::HttpProblem,
};
use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Json, Path, Payload, Query},
};
use tidegate_schemas::{
    agreement::Circumstances,
    condition::Condition,
    id::DestinationId,
    messages::{
        outbox::Loads,
        registry::{ChangeError, Current, PutWindows, RegisteredDestination},
    },
    view::{DestinationLoad, DestinationView},
    window::RawWindows,
};

/// All destinations: at most `agreement::DESTINATIONS_MAX`, on one page.
pub(super) async fn list(app: Data<App>, request: HttpRequest) -> Result<HttpResponse, HttpProblem> {
    let items = all(&app).await?;
    Ok(Page { items, next: None }.respond(request.query_string()))
}

/// One destination.
pub(super) async fn show(app: Data<App>, id: Path<String>) -> Result<Json<DestinationView>, HttpProblem> {
    one(&app, &name(&id)?).await.map(Json)
}

/// Windows from now on, on disk and in force when answered.
pub(super) async fn set_windows(
    app: Data<App>,
    id: Path<String>,
    query: Query<DryRun>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, HttpProblem> {
    let windows: RawWindows = body::json(payload).await?;
    let message = windows_of(&id, windows, conditions::of(&request)?, query.dry_run)?;
    put_windows(&app, message).await.map(|change| change.answer())
}

/// No windows: always open.
pub(super) async fn reset_windows(
    app: Data<App>,
    id: Path<String>,
    query: Query<DryRun>,
    request: HttpRequest,
) -> Result<HttpResponse, HttpProblem> {
    let message = windows_of(&id, RawWindows::default(), conditions::of(&request)?, query.dry_run)?;
    put_windows(&app, message).await.map(|change| change.answer())
}

fn windows_of(id: &str, windows: RawWindows, condition: Condition, dry_run: bool) -> Result<PutWindows, HttpProblem> {
    Ok(PutWindows { destination: name(id)?, windows, condition, dry_run })
}

/// Sets windows, or says what that would mean.
pub(crate) async fn put_windows(app: &App, message: PutWindows) -> Result<Made, HttpProblem> {
    let (destination, dry_run) = (message.destination.clone(), message.dry_run);
    let changed = ask(app.reach.look().access.put_windows.as_ref(), message).await?;
    let changed = changed.map_err(|error| match error {
        ChangeError::Values(problems) => HttpProblem::values(&problems, "windows"),
        error => error.into(),
    })?;
    if !dry_run {
        tracing::info!(%destination, "windows were set through the admin endpoint");
    }
    Ok(agreements::made(app, changed, dry_run).await)
}

pub(crate) fn name(text: &str) -> Result<DestinationId, HttpProblem> {
    text.parse().map_err(|error| HttpProblem::not_found(format!("this is not the name of a destination: {error}")))
}

pub(crate) async fn one(app: &App, wanted: &DestinationId) -> Result<DestinationView, HttpProblem> {
    let found = all(app).await?.into_iter().find(|view| view.destination == *wanted);
    found.ok_or_else(|| HttpProblem::not_found(format!("there is no destination {wanted}")))
}

/// Every destination as it is now. Without an Outbox the loads are absent, the rest is there.
pub(crate) async fn all(app: &App) -> Result<Vec<DestinationView>, HttpProblem> {
    let Situation { access, .. } = app.reach.look();
    let registry = ask(access.current.as_ref(), Current).await?;
    let loads = ask(access.loads.as_ref(), Loads).await.ok();
    let moment = Circumstances { clock_trusted: app.clock.trusted(), ..Circumstances::at(app.clock.now()) };
    let views = registry.destinations.values().map(|registered| {
        let loads = loads.as_deref().unwrap_or_default();
        let load = loads.iter().find(|load| load.destination == registered.destination.id);
        view(registered, load, moment)
    });
    Ok(views.collect())
}

fn view(registered: &RegisteredDestination, load: Option<&DestinationLoad>, moment: Circumstances) -> DestinationView {
    let agreement = &registered.destination.agreement;
    let (paused, signal) = load.map_or((false, None), |load| (load.paused, load.signal));
    let circumstances = Circumstances { paused, signal, ..moment };
    DestinationView {
        destination: registered.destination.id.clone(),
        format: agreement.format,
        success: agreement.success,
        windows: agreement.windows.raw().clone(),
        source: registered.source.clone(),
        version: registered.version,
        now: agreement.evaluate(&circumstances),
        load: load.cloned(),
    }
}
