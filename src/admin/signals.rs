//! Signals and pauses by an operator's hand: on disk when answered. A signal opens or closes a destination for its time, within what the
//! agreement lets it; a pause holds until it is taken back.

use crate::admin::{App, access::ask, body, destinations, problem::HttpProblem};
use actix_web::web::{Data, Json, Path, Payload};
use tidegate_schemas::{
    id::DestinationId,
    messages::{
        outbox::{SetPaused, Signal, SignalSource},
        registry::Current,
    },
    signal::{SIGNAL_BYTES_MAX, SignalBody},
    view::DestinationView,
};

/// "Ready for ten minutes", "not now", "forget that".
pub(super) async fn signal(
    app: Data<App>,
    id: Path<String>,
    payload: Payload,
) -> Result<Json<DestinationView>, HttpProblem> {
    let destination = destinations::name(&id)?;
    let body = body::read(payload, SIGNAL_BYTES_MAX).await?;
    give(&app, &destination, SignalBody::parse(&body)?).await?;
    destinations::one(&app, &destination).await.map(Json)
}

/// Gives a signal, on disk when answered.
pub(crate) async fn give(app: &App, destination: &DestinationId, body: SignalBody) -> Result<(), HttpProblem> {
    let now = app.clock.trusted().then(|| app.clock.now());
    let word = body.word(now)?;
    let access = app.reach.look().access;
    let registry = ask(access.current.as_ref(), Current).await?;
    let registered = registry.destinations.get(destination).ok_or_else(|| unknown(destination))?;
    let policy = registered.destination.agreement.signal;
    let message =
        Signal { destination: destination.clone(), word, policy, from: SignalSource::Operator, sequence: None };
    let taken = ask(access.signal.as_ref(), message).await??;
    tracing::info!(%destination, ?word, holds_s = taken.holds_s, "an operator signalled");
    Ok(())
}

/// Nothing is delivered there until it is resumed.
pub(super) async fn pause(app: Data<App>, id: Path<String>) -> Result<Json<DestinationView>, HttpProblem> {
    set_paused(&app, &id, true).await.map(Json)
}

/// It goes on.
pub(super) async fn resume(app: Data<App>, id: Path<String>) -> Result<Json<DestinationView>, HttpProblem> {
    set_paused(&app, &id, false).await.map(Json)
}

/// Stops a destination, or lets it go on; on disk when answered.
pub(crate) async fn set_paused(app: &App, id: &str, paused: bool) -> Result<DestinationView, HttpProblem> {
    let destination = destinations::name(id)?;
    // The Outbox makes a record for any name.
    let access = app.reach.look().access;
    let registry = ask(access.current.as_ref(), Current).await?;
    if !registry.destinations.contains_key(&destination) {
        return Err(unknown(&destination));
    }
    ask(access.set_paused.as_ref(), SetPaused { destination: destination.clone(), paused }).await??;
    tracing::info!(%destination, paused, "an operator stopped a destination, or let it go on");
    destinations::one(app, &destination).await
}

fn unknown(destination: &DestinationId) -> HttpProblem {
    HttpProblem::not_found(format!("there is no destination {destination}"))
}
