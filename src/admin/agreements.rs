//! Destinations made, changed and removed through the admin API, the history of every agreement, and reloads of the config.
//!
//! What a config file declares is changed there alone: such a request is refused with file and line. Every change can be asked for
//! with `dry_run=true`: the answer says what it would mean, and nothing happens. Every change can be bound to the version that it was made
//! of (`If-Match`, RFC 9110 section 13.1.1; `super::conditions`), a dry run too: its answer has the tag (`ETag`) of what there is, so that
//! the real change can be bound to what was shown.

use super::{
    App,
    access::{ask, ask_within},
    body, conditions, destinations,
    pages::Page,
    problem::HttpProblem,
};
use actix::Recipient;
use actix_web::{
    HttpRequest, HttpResponse,
    http::StatusCode,
    web::{Data, Path, Payload, Query},
};
use futures_util::future::join_all;
use schemars::JsonSchema;
use serde::Deserialize;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tidegate_schemas::{
    agreement::ServiceAgreement,
    condition::{Condition, version_tag},
    config::{Problem, raw::RawDestination},
    entry::Event,
    forecast::Forecast,
    history::ChangeKind,
    id::DestinationId,
    impact::{Impact, OPENINGS_SHOWN, openings},
    messages::{
        outbox::{Foresee, List, Loads, Operate, OperateError, PAGE_ENTRIES_MAX},
        registry::{
            ChangeError, Changed, Current, Expect, History, PutDestination, RemoveDestination, Written,
            WrittenAgreement,
        },
    },
    view::{AbsentDestination, ChangeView, DestinationLoad, ReloadView},
};
use tokio::time::Instant;

/// How long one request goes on purging; what is left then, the next one purges.
const PURGE_LIMIT: Duration = Duration::from_secs(5);

/// How long one answer goes on finding out what changes mean, all destinations together; what is not known then is absent. The change is
/// made by then, and whoever asked for it waits.
const IMPACT_LIMIT: Duration = Duration::from_secs(5);

/// Destinations of one reload for which the ages of what waits are counted: each is a look into the store.
const AGES_COUNTED_MAX: usize = 50;

/// Parameters of a change.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PutQuery {
    /// Say what it would mean, and change nothing.
    #[serde(default)]
    dry_run: bool,
    #[serde(default)]
    expect: Expect,
}

/// Parameters of a reload.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DryRun {
    /// Say what it would mean, and change nothing.
    #[serde(default)]
    pub(super) dry_run: bool,
}

/// What becomes of messages that wait for a destination that is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Fate {
    /// They stay in the outbox under its name, and are delivered when it comes back.
    Hold,
    /// They are removed for good.
    Purge,
}

/// Parameters of a removal.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RemoveQuery {
    /// Say what it would mean, and change nothing.
    #[serde(default)]
    dry_run: bool,
    /// What becomes of messages that wait.
    queued: Option<Fate>,
}

/// A destination from now on, on disk and in force when answered.
pub(super) async fn put(
    app: Data<App>,
    id: Path<String>,
    query: Query<PutQuery>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, HttpProblem> {
    let destination = destinations::name(&id)?;
    let condition = conditions::of(&request)?;
    let raw: Box<RawDestination> = body::json(payload).await?;
    let PutQuery { dry_run, expect } = query.into_inner();
    make(&app, PutDestination { destination, raw, expect, condition, dry_run }).await.map(|made| made.answer())
}

/// Makes or changes a destination, or says what that would mean.
pub(crate) async fn make(app: &App, message: PutDestination) -> Result<Made, HttpProblem> {
    let (destination, dry_run) = (message.destination.clone(), message.dry_run);
    let changed = ask(app.reach.look().access.put.as_ref(), message).await??;
    if !dry_run {
        tracing::info!(%destination, version = changed.version, "a destination was put through the admin endpoint");
    }
    Ok(made(app, changed, dry_run).await)
}

/// The agreement as it is written, without the address: what `PUT` takes back with `If-Match`.
pub(super) async fn agreement(
    app: Data<App>,
    id: Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, HttpProblem> {
    let written = written(&app, &destinations::name(&id)?).await?;
    conditions::shown(&request, &version_tag(written.version), &written.keys)
}

/// An agreement as it is written.
pub(crate) async fn written(app: &App, destination: &DestinationId) -> Result<WrittenAgreement, HttpProblem> {
    let message = Written { destination: destination.clone() };
    let written = ask(app.reach.look().access.written.as_ref(), message).await??;
    written.ok_or_else(|| HttpProblem::not_found(format!("there is no destination {destination}")))
}

/// A change that was made, or what it would mean.
pub(crate) struct Made {
    pub(crate) view: ChangeView,
    /// The tag of what there is, after a dry run.
    tag: Option<String>,
}

impl Made {
    pub(super) fn answer(&self) -> HttpResponse {
        conditions::tagged(self.tag.as_deref(), &self.view)
    }
}

/// With what it means. An answer to a change has no tag: RFC 9110 section 9.3.4 keeps those for what was stored just as it came.
pub(super) async fn made(app: &App, changed: Changed, dry_run: bool) -> Made {
    let there = changed.kind != Some(ChangeKind::Added);
    let tag = (dry_run && there).then(|| version_tag(changed.version - u64::from(changed.kind.is_some())));
    Made { view: view(app, changed, dry_run).await, tag }
}

/// A destination is no more; what waits for it is held or purged.
pub(super) async fn remove(
    app: Data<App>,
    id: Path<String>,
    query: Query<RemoveQuery>,
    request: HttpRequest,
) -> Result<HttpResponse, HttpProblem> {
    let destination = destinations::name(&id)?;
    let condition = conditions::of(&request)?;
    let RemoveQuery { dry_run, queued } = query.into_inner();
    take_away(&app, destination, condition, dry_run, queued).await.map(|made| made.answer())
}

/// Removes a destination, or says what that would mean.
pub(crate) async fn take_away(
    app: &App,
    destination: DestinationId,
    condition: Condition,
    dry_run: bool,
    queued: Option<Fate>,
) -> Result<Made, HttpProblem> {
    let loads = ask(app.reach.look().access.loads.as_ref(), Loads).await?;
    let load = loads.iter().find(|load| load.destination == destination);
    let waiting = load.map_or(0, waits);
    let remove = |dry_run| {
        let message = RemoveDestination { destination: destination.clone(), condition: condition.clone(), dry_run };
        async { ask(app.reach.look().access.remove.as_ref(), message).await }
    };
    if let (1.., Some(load), None, false) = (waiting, load, queued, dry_run) {
        // One that can't be removed at all is told so first.
        remove(true).await??;
        return Err(fate_needed(load));
    }
    let changed = match remove(dry_run).await? {
        // It went before, and its messages were kept, or a purge was cut off.
        Err(ChangeError::Unknown(id)) if waiting > 0 && queued == Some(Fate::Purge) => {
            let (changes, warnings) = (Vec::new(), Vec::new());
            Changed { destination: id, kind: None, changes, version: 0, before: None, after: None, warnings }
        }
        changed => changed?,
    };
    if !dry_run {
        tracing::info!(%destination, waiting, fate = ?queued, "a destination was removed through the admin endpoint");
    }
    // It is gone first: nothing new comes, and should the purge be cut off, it can be asked for again.
    let purged = match queued {
        Some(Fate::Purge) if !dry_run => Some(purge(app, &destination).await?),
        _ => None,
    };
    let mut made = made(app, changed, dry_run).await;
    made.view.purged = purged;
    Ok(made)
}

fn fate_needed(load: &DestinationLoad) -> HttpProblem {
    let detail = format!(
        "{} queued, {} held, {} parked and {} dead messages wait for it: say queued=hold to keep them until it comes back, or \
         queued=purge to remove them for good; nothing changed",
        load.queued, load.held, load.parked, load.dead
    );
    HttpProblem::new(StatusCode::CONFLICT, "waiting", "Messages wait for this destination", detail)
}

/// How the agreement came about, newest first.
pub(super) async fn history(
    app: Data<App>,
    id: Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, HttpProblem> {
    let destination = destinations::name(&id)?;
    let message = History { destination: destination.clone() };
    let items = ask(app.reach.look().access.history.as_ref(), message).await??;
    let items = items.ok_or_else(|| HttpProblem::not_found(format!("there never was a destination {destination}")))?;
    Ok(Page { items, next: None }.respond(request.query_string()))
}

/// Takes over what the config files say now.
pub(super) async fn reload(
    app: Data<App>,
    query: Query<DryRun>,
    request: HttpRequest,
) -> Result<HttpResponse, HttpProblem> {
    let Some(reloader) = &app.reloader else {
        return Err(HttpProblem::unavailable("this gateway was started without config files"));
    };
    let dry_run = query.dry_run;
    let outcome = reloader.reload(dry_run, conditions::of(&request)?).await?;
    let until = Instant::now() + IMPACT_LIMIT;
    let loads = loads(&app, until).await;
    let mut destinations = Vec::with_capacity(outcome.reloaded.changed.len());
    for (index, changed) in outcome.reloaded.changed.into_iter().enumerate() {
        let until = (index < AGES_COUNTED_MAX).then_some(until);
        destinations.push(view_among(&app, changed, dry_run, loads.as_ref(), until).await);
    }
    let mut absent = absent_among(&app, loads.unwrap_or_default(), until).await;
    if dry_run {
        // Those that would go, and those that would come back.
        let goes = |view: &&ChangeView| view.impact.openings_after.is_none() && view.waiting.unwrap_or(0) > 0;
        let gone = destinations.iter().filter(goes);
        absent.extend(gone.map(|view| AbsentDestination {
            destination: view.destination.clone(),
            waiting: view.waiting.unwrap_or(0),
        }));
        absent.retain(|absent| {
            let comes =
                |view: &ChangeView| view.destination == absent.destination && view.impact.openings_after.is_some();
            !destinations.iter().any(comes)
        });
    }
    let view = ReloadView {
        dry_run,
        destinations,
        new_keys: outcome.reloaded.new_keys,
        shadowed: outcome.reloaded.shadowed,
        broken: outcome.reloaded.broken,
        mended: outcome.reloaded.mended,
        routes_changed: outcome.reloaded.routes_changed,
        needs_restart: outcome.needs_restart,
        absent,
        warnings: outcome.warnings.iter().map(in_words).collect(),
    };
    Ok(conditions::tagged(Some(&outcome.tag), &view))
}

/// Messages that wait for destinations that aren't there; none when the lines that know are down.
pub(super) async fn absent(app: &App) -> Vec<AbsentDestination> {
    let until = Instant::now() + IMPACT_LIMIT;
    let Some(loads) = loads(app, until).await else { return Vec::new() };
    absent_among(app, loads, until).await
}

async fn absent_among(app: &App, loads: BTreeMap<DestinationId, u64>, until: Instant) -> Vec<AbsentDestination> {
    let current = app.reach.look().access.current;
    let Ok(registry) = ask_within(current.as_ref(), Current, left(until)).await else { return Vec::new() };
    let absent = loads.into_iter().filter(|(id, waiting)| *waiting > 0 && !registry.destinations.contains_key(id));
    absent.map(|(destination, waiting)| AbsentDestination { destination, waiting }).collect()
}

fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}

fn waits(load: &DestinationLoad) -> u64 {
    load.queued + load.held + load.parked + load.dead
}

/// What waits, by destination.
async fn loads(app: &App, until: Instant) -> Option<BTreeMap<DestinationId, u64>> {
    let loads = ask_within(app.reach.look().access.loads.as_ref(), Loads, left(until)).await.ok()?;
    Some(loads.iter().map(|load| (load.destination.clone(), waits(load))).collect())
}

/// The change with what it means. What can't be found out is absent.
async fn view(app: &App, changed: Changed, dry_run: bool) -> ChangeView {
    let until = Instant::now() + IMPACT_LIMIT;
    let loads = loads(app, until).await;
    view_among(app, changed, dry_run, loads.as_ref(), Some(until)).await
}

/// `until` is how long it may be found out what becomes of what waits; it is not, without.
async fn view_among(
    app: &App,
    changed: Changed,
    dry_run: bool,
    loads: Option<&BTreeMap<DestinationId, u64>>,
    until: Option<Instant>,
) -> ChangeView {
    let waiting = loads.map(|loads| loads.get(&changed.destination).copied().unwrap_or(0));
    let now = app.clock.now();
    let shown = |agreement: &ServiceAgreement| openings(agreement, now, OPENINGS_SHOWN);
    let forecast = match until.filter(|_| waiting.unwrap_or(0) > 0) {
        Some(until) => foreseen(app.reach.look().access.foresee.as_ref(), &changed, until).await,
        None => None,
    };
    let impact = Impact {
        openings_before: changed.before.as_deref().map(shown),
        openings_after: changed.after.as_deref().map(shown),
        forecast,
    };
    ChangeView {
        destination: changed.destination,
        dry_run,
        kind: changed.kind,
        changes: changed.changes,
        version: changed.version,
        waiting,
        impact,
        purged: None,
        warnings: changed.warnings.iter().map(in_words).collect(),
    }
}

fn in_words(warning: &Problem) -> String {
    format!("{}: {}", warning.path, warning.message)
}

async fn foreseen(whom: Option<&Recipient<Foresee>>, changed: &Changed, until: Instant) -> Option<Forecast> {
    // A look into the store that nobody waits for isn't begun.
    let left = Some(left(until)).filter(|left| !left.is_zero())?;
    let agreement = Arc::new(changed.after.as_deref()?.clone());
    let message = Foresee { destination: changed.destination.clone(), agreement, about: None };
    Some(ask_within(whom, message, left).await.ok()?.ok()?.forecast)
}

/// Purges what waits for a destination, page by page, for a bounded time. How many.
async fn purge(app: &App, destination: &DestinationId) -> Result<u64, HttpProblem> {
    let until = Instant::now() + PURGE_LIMIT;
    let (mut purged, mut after) = (0, None);
    loop {
        let page = List {
            destination: Some(destination.clone()),
            states: Vec::new(),
            device: None,
            after,
            limit: PAGE_ENTRIES_MAX,
        };
        let access = app.reach.look().access;
        let page = ask(access.list.as_ref(), page).await??;
        // All at once: the outbox commits them together.
        let acts = page
            .entries
            .into_iter()
            .map(|entry| ask(access.operate.as_ref(), Operate { entry: entry.entry, event: Event::Purge }));
        for answer in join_all(acts).await {
            match answer? {
                Ok(_) => purged += 1,
                // It was delivered, or ended otherwise, meanwhile.
                Err(OperateError::Unknown(_) | OperateError::Illegal(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        after = page.next;
        if after.is_none() || Instant::now() >= until {
            return Ok(purged);
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use actix::prelude::*;
    use tidegate_schemas::messages::outbox::{Foreseen, StoreError};

    /// A store that never comes to the end of a queue.
    #[derive(Default)]
    struct Endless(std::rc::Rc<std::cell::Cell<u32>>);
    impl Actor for Endless {
        type Context = Context<Self>;
    }
    impl Handler<Foresee> for Endless {
        type Result = ResponseFuture<Result<Foreseen, StoreError>>;
        fn handle(&mut self, _: Foresee, _: &mut Self::Context) -> Self::Result {
            self.0.set(self.0.get() + 1);
            Box::pin(std::future::pending())
        }
    }

    #[actix::test]
    async fn all_forecasts_of_an_answer_have_one_deadline() {
        tokio::time::pause();
        let asked = std::rc::Rc::default();
        let endless = Endless(std::rc::Rc::clone(&asked)).start().recipient();
        let agreement = Some(Box::new(ServiceAgreement::default()));
        let changed = Changed {
            destination: "lab".parse().unwrap(),
            kind: None,
            changes: vec![],
            version: 1,
            before: agreement.clone(),
            after: agreement,
            warnings: vec![],
        };
        let began = Instant::now();
        for _ in 0..AGES_COUNTED_MAX {
            assert_eq!(foreseen(Some(&endless), &changed, began + IMPACT_LIMIT).await, None);
        }
        assert!(began.elapsed() < IMPACT_LIMIT + Duration::from_secs(1), "{:?}", began.elapsed());
        assert_eq!(asked.get(), 1, "what has no time left is not begun");
    }
}
