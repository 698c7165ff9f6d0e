//! The way from the HTTP endpoints to the actors: what is up now, and asking with a time limit.
//!
//! The endpoints live beside the list of actors, on threads of their own, and outlive every restart. So they hold no address:
//! with each request they take a fresh [`Situation`], in which a line that is down is absent, and answer 503 for it.

use crate::admin::problem::HttpProblem;
use actix::{Addr, Message, Recipient};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};
use tidegate_actors::{
    handles::Handles,
    supervision::{ChildState, View},
};
use tidegate_schemas::messages::{
    dispatcher::Explain,
    gateway::Observe,
    outbox::{Enqueue, Foresee, List, ListLedger, ListQuarantine, Loads, Operate, SetPaused, Show, Signal, Spend},
    registry::{Current, Everything, History, PutDestination, PutWindows, Reload, RemoveDestination, Written},
    tools::{Check, Compact, CountStats, Export},
    uplink::TestConnection,
};
use tokio::time::Instant;

/// How long an actor may take to answer a request, in seconds. Longer than a group commit on a slow SD card.
pub const ASK_LIMIT_S: u64 = 5;

/// Whom the endpoints can ask now. A line that is down, or is being restarted, is absent.
#[derive(Clone, Default)]
pub struct Access {
    /// Registry: what is in force.
    pub current: Option<Recipient<Current>>,
    /// Registry: a destination from now on.
    pub put: Option<Recipient<PutDestination>>,
    /// Registry: its windows from now on.
    pub put_windows: Option<Recipient<PutWindows>>,
    /// Registry: a destination that goes.
    pub remove: Option<Recipient<RemoveDestination>>,
    /// Registry: how an agreement came about.
    pub history: Option<Recipient<History>>,
    /// Registry: an agreement as it is written.
    pub written: Option<Recipient<Written>>,
    /// Registry: all of them.
    pub everything: Option<Recipient<Everything>>,
    /// Registry: what the config files say now.
    pub reload: Option<Recipient<Reload>>,
    /// Outbox: custody.
    pub enqueue: Option<Recipient<Enqueue>>,
    /// Outbox: what waits.
    pub loads: Option<Recipient<Loads>>,
    /// Outbox: pages of entries.
    pub list: Option<Recipient<List>>,
    /// Outbox: ages of what waits.
    pub foresee: Option<Recipient<Foresee>>,
    /// Outbox: one entry.
    pub show: Option<Recipient<Show>>,
    /// Outbox: an operator's act.
    pub operate: Option<Recipient<Operate>>,
    /// Outbox: "ready", "not now".
    pub signal: Option<Recipient<Signal>>,
    /// Outbox: a fresh circuit.
    pub spend: Option<Recipient<Spend>>,
    /// Outbox: stop a destination, or let it go on.
    pub set_paused: Option<Recipient<SetPaused>>,
    /// Outbox: quarantine.
    pub quarantine: Option<Recipient<ListQuarantine>>,
    /// Outbox: ledger.
    pub ledger: Option<Recipient<ListLedger>>,
    /// Outbox: is everything there.
    pub check: Option<Recipient<Check>>,
    /// Outbox: everything, to a file.
    pub export: Option<Recipient<Export>>,
    /// Outbox: in as little room as it takes.
    pub compact: Option<Recipient<Compact>>,
    /// Outbox: what waits, by age.
    pub count_stats: Option<Recipient<CountStats>>,
    /// Uplink: can a destination be reached.
    pub test_connection: Option<Recipient<TestConnection>>,
    /// Dispatcher: why a destination is served, or not.
    pub explain: Option<Recipient<Explain>>,
    /// Every line that is up, by name, in list order.
    pub observers: Vec<(String, Recipient<Observe>)>,
}

/// One line of the list of actors, as the supervisor sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Line {
    /// Its name.
    pub name: String,
    /// Whether it runs.
    pub up: bool,
    /// `running`, `restarting`, `suspended`, `waiting`, `stopped`.
    pub state: String,
    /// Starts after the first, its own falls and those of its floor together.
    pub restarts: u64,
    /// Falls of its own.
    pub falls: u64,
    /// How it last fell, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_fall: Option<String>,
    /// Milliseconds since then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_fall_age_ms: Option<u64>,
    /// Milliseconds until it is started again, while it waits for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_try_in_ms: Option<u64>,
}

/// What there is at one moment.
#[derive(Clone, Default)]
pub struct Situation {
    /// `running`, `draining` or `ended`.
    pub phase: String,
    /// Whom one can ask.
    pub access: Access,
    /// Every line, up or not, lowest first.
    pub lines: Vec<Line>,
}

impl Situation {
    /// Whether the gateway runs and every line is up.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.phase == "running" && !self.lines.is_empty() && self.lines.iter().all(|line| line.up)
    }
}

/// Where the present [`Situation`] comes from: the supervisor's watch channel in the gateway, a fixed one in tests.
#[derive(Clone)]
pub struct Reach(Arc<dyn Fn() -> Situation + Send + Sync>);

impl Reach {
    /// Asks this function, with every request.
    pub fn new(look: impl Fn() -> Situation + Send + Sync + 'static) -> Self {
        Self(Arc::new(look))
    }
    /// What there is now.
    #[must_use]
    pub fn look(&self) -> Situation {
        (self.0)()
    }
}

/// What the supervisor's view says: addresses of the lines that are up, and the state of all.
#[must_use]
pub fn situation(view: &View<Handles>) -> Situation {
    let handles = &view.handles;
    let (registry, outbox) = (&handles.registry, &handles.outbox);
    let mut observers: Vec<(String, Recipient<Observe>)> = Vec::new();
    let mut observe = |name: &str, observer: Option<Recipient<Observe>>| {
        observers.extend(observer.map(|observer| (name.to_owned(), observer)));
    };
    observe("registry", registry.clone().map(Addr::recipient));
    observe("outbox", outbox.clone().map(Addr::recipient));
    observe("subscriber", handles.subscriber.clone().map(Addr::recipient));
    observe("uplink", handles.uplink.clone().map(Addr::recipient));
    observe("dispatcher", handles.dispatcher.clone().map(Addr::recipient));
    observe("herald", handles.herald.clone().map(Addr::recipient));
    observe("reporter", handles.reporter.clone().map(Addr::recipient));
    let access = Access {
        current: registry.clone().map(Addr::recipient),
        put: registry.clone().map(Addr::recipient),
        put_windows: registry.clone().map(Addr::recipient),
        remove: registry.clone().map(Addr::recipient),
        history: registry.clone().map(Addr::recipient),
        written: registry.clone().map(Addr::recipient),
        everything: registry.clone().map(Addr::recipient),
        reload: registry.clone().map(Addr::recipient),
        enqueue: outbox.clone().map(Addr::recipient),
        loads: outbox.clone().map(Addr::recipient),
        list: outbox.clone().map(Addr::recipient),
        foresee: outbox.clone().map(Addr::recipient),
        show: outbox.clone().map(Addr::recipient),
        operate: outbox.clone().map(Addr::recipient),
        signal: outbox.clone().map(Addr::recipient),
        spend: outbox.clone().map(Addr::recipient),
        set_paused: outbox.clone().map(Addr::recipient),
        quarantine: outbox.clone().map(Addr::recipient),
        ledger: outbox.clone().map(Addr::recipient),
        check: outbox.clone().map(Addr::recipient),
        export: outbox.clone().map(Addr::recipient),
        compact: outbox.clone().map(Addr::recipient),
        count_stats: outbox.clone().map(Addr::recipient),
        test_connection: handles.uplink.clone().map(Addr::recipient),
        explain: handles.dispatcher.clone().map(Addr::recipient),
        observers,
    };
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let now = Instant::now();
    let lines = view.status.children.iter().map(|child| Line {
        name: child.name.to_owned(),
        up: child.state == ChildState::Running,
        state: word(&child.state),
        restarts: child.restarts_total,
        falls: child.falls_total,
        last_fall: child.last_exit.as_ref().map(ToString::to_string),
        last_fall_age_ms: child.last_fall.map(|at| millis(now.saturating_duration_since(at))),
        next_try_in_ms: child.next_try.map(|at| millis(at.saturating_duration_since(now))),
    });
    Situation { phase: word(&view.status.phase), access, lines: lines.collect() }
}

/// An enum's name as it is serialised.
fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

/// Asks an actor, for at most [`ASK_LIMIT_S`].
///
/// # Errors
/// 503 if it is down, ends meanwhile, or does not answer in time.
pub async fn ask<M>(whom: Option<&Recipient<M>>, message: M) -> Result<M::Result, HttpProblem>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    ask_within(whom, message, Duration::from_secs(ASK_LIMIT_S)).await
}

/// Asks an actor, for at most this long.
///
/// # Errors
/// 503 if it is down, ends meanwhile, or does not answer in time.
pub async fn ask_within<M>(whom: Option<&Recipient<M>>, message: M, limit: Duration) -> Result<M::Result, HttpProblem>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    let Some(whom) = whom else {
        return Err(HttpProblem::restarting());
    };
    match tokio::time::timeout(limit, whom.send(message)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => Err(HttpProblem::restarting()),
        Err(_) => Err(HttpProblem::no_answer()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_actors::supervision::{ChildStatus, GatewayStatus, Phase};

    #[actix::test]
    async fn a_suspended_line_is_shown_with_its_next_try_and_makes_the_gateway_unready() {
        let child = |name, state| ChildStatus {
            name,
            state,
            generation: 2,
            restarts_total: 1,
            falls_total: 1,
            last_exit: None,
            last_fall: Some(Instant::now()),
            observed: None,
            next_try: Some(Instant::now() + Duration::from_secs(60)),
        };
        let mut view = View::<Handles>::default();
        assert!(!situation(&view).ready(), "before the first line runs");
        view.status.children = vec![child("registry", ChildState::Running)];
        assert!(situation(&view).ready());
        view.status.children.push(child("reporter", ChildState::Suspended));
        let seen = situation(&view);
        assert!(!seen.ready() && !seen.lines[1].up);
        assert!(seen.lines[1].next_try_in_ms.is_some_and(|ms| (50_000..=60_000).contains(&ms)));
        view.status = GatewayStatus { phase: Phase::Draining, children: vec![child("registry", ChildState::Running)] };
        assert!(!situation(&view).ready(), "while it drains");
    }
}
