//! The Registry: who the destinations are, what was agreed with them, and which routes lead there.
//!
//! - *Hears* `Current` (answered from memory), `SetWindows`, `Observe`, `Shutdown`.
//! - *Owns* the registry store: windows that were set at run time, and for each destination the identity by which it knows this
//!   gateway. An identity is drawn once and kept; no two destinations' have anything in common (DESIGN decision 14).
//! - *Rings* the bells that it is given after every change: it stands at the bottom of the list and knows nobody above.
//! - *If it dies*: everything that holds its address restarts with it; what it knows is in the config and on disk.
//!
//! The config's destinations are merged with the durable state when the actor starts; until the state is read, requests wait.
//! A change is checked, written to disk and only then in force: when the disk refuses, nothing has changed. Changes take their
//! turn; at most [`CHANGES_MAX`] wait. Reading, checking and writing are done on a blocking thread, never on the System thread.
//!
//! Windows in the store that this program can't read any more (a time zone that is gone) are left there and reported as an
//! error; the windows of the config, which were agreed too, are in force then. Those that no longer fit the agreement, because the
//! config was changed since, stay in force and are told, in the log and in what is shown of the destination. State of destinations that the config no longer
//! has is kept: a destination that comes back is the same one.

use crate::{
    ports::{
        clock::Clock,
        entropy::Entropy,
        registry_store::{DestinationIdentity, RegistryState, RegistryStore},
    },
    supervision::{Bell, DeathWatch},
};
use actix::{fut, prelude::*};
use std::{collections::BTreeMap, sync::Arc};
use tidegate_schemas::{
    agreement::{Destination, ServiceAgreement},
    config::check::check_openings,
    id::DestinationId,
    messages::{
        gateway::{Observe, Shutdown},
        registry::{Current, RegisteredDestination, RegistrySnapshot, SetWindows, SetWindowsError},
    },
    route::Routes,
    view::{Observation, RegistryObservation},
    window::{RawWindows, WindowSet},
};
use tokio::sync::Mutex;

/// Most changes that wait for the disk; what comes beyond is refused.
pub const CHANGES_MAX: usize = 16;
/// Version of the durable state.
const STATE_VERSION: u32 = 1;

/// What a Registry is made of.
#[derive(Clone)]
pub struct RegistryParts {
    /// Destinations of the checked config; identities are filled in here.
    pub destinations: Vec<Destination>,
    /// Routes of the checked config.
    pub routes: Arc<Routes>,
    /// Where the durable state is kept.
    pub store: Arc<dyn RegistryStore>,
    /// Now, for the check that windows open at all.
    pub clock: Arc<dyn Clock>,
    /// What identities are drawn from.
    pub entropy: Arc<dyn Entropy>,
    /// Rung after every change.
    pub bells: Vec<Bell>,
}

/// The actor.
pub struct Registry {
    parts: RegistryParts,
    /// The state on disk; held by the one change that is being written.
    durable: Arc<Mutex<RegistryState>>,
    /// Windows set at run time that are in force.
    overrides: BTreeMap<DestinationId, WindowSet>,
    /// What is wrong with some of them since the config was changed.
    flaws: BTreeMap<DestinationId, String>,
    identities: BTreeMap<DestinationId, DestinationIdentity>,
    snapshot: Arc<RegistrySnapshot>,
    changes: usize,
    stopping: bool,
    watch: DeathWatch,
}

impl Registry {
    /// A Registry; it reads its store when it starts.
    #[must_use]
    pub fn new(parts: RegistryParts, watch: DeathWatch) -> Self {
        Self {
            parts,
            durable: Arc::default(),
            overrides: BTreeMap::new(),
            flaws: BTreeMap::new(),
            identities: BTreeMap::new(),
            snapshot: Arc::default(),
            changes: 0,
            stopping: false,
            watch,
        }
    }

    /// Takes over what the store held.
    fn open(&mut self, state: RegistryState, flaws: BTreeMap<DestinationId, String>) {
        self.flaws = flaws;
        self.overrides = self
            .parts
            .destinations
            .iter()
            .filter_map(|destination| {
                let raw = state.windows.get(&destination.id)?;
                match WindowSet::from_raw(raw.clone(), "windows") {
                    Ok(windows) => Some((destination.id.clone(), windows)),
                    Err(problems) => {
                        tracing::error!(
                            destination = %destination.id, %problems,
                            "windows that were set at run time can't be read; those of the config are in force"
                        );
                        None
                    }
                }
            })
            .collect();
        self.identities.clone_from(&state.identities);
        self.durable = Arc::new(Mutex::new(state));
        self.publish();
    }

    /// Makes the snapshot anew.
    fn publish(&mut self) {
        let destinations = self.parts.destinations.iter().map(|declared| {
            let mut destination = declared.clone();
            if let Some(identity) = self.identities.get(&declared.id) {
                destination.keys.signing_seed = identity.signing_seed;
                destination.keys.pseudonym = identity.pseudonym;
            }
            let windows = self.overrides.get(&declared.id);
            if let Some(windows) = windows {
                destination.agreement.windows = windows.clone();
            }
            let registered = RegisteredDestination {
                destination,
                windows_overridden: windows.is_some(),
                windows_flaw: self.flaws.get(&declared.id).cloned(),
            };
            (declared.id.clone(), Arc::new(registered))
        });
        self.snapshot = Arc::new(RegistrySnapshot {
            revision: self.snapshot.revision + 1,
            destinations: destinations.collect(),
            routes: Arc::clone(&self.parts.routes),
        });
    }

    /// Puts windows in force that are on disk; `None` goes back to those of the config. Returns those in force.
    fn enforce(&mut self, declared: &Destination, windows: Option<WindowSet>) -> WindowSet {
        let in_force = windows.clone().unwrap_or_else(|| declared.agreement.windows.clone());
        match windows {
            Some(windows) => self.overrides.insert(declared.id.clone(), windows),
            None => self.overrides.remove(&declared.id),
        };
        // They were checked just now.
        self.flaws.remove(&declared.id);
        self.publish();
        for bell in &self.parts.bells {
            bell.ring();
        }
        in_force
    }
}

/// Reads the state, and draws the identities that are missing; they are on disk before anybody hears of them.
fn load(parts: &RegistryParts) -> Result<RegistryState, &'static str> {
    let mut state = parts.store.load().map_err(|error| {
        tracing::error!(%error, "the registry can't start");
        "its store could not be read"
    })?;
    if state.version > STATE_VERSION {
        tracing::error!(version = state.version, "the registry file was written by a newer version of this program");
        return Err("its store was written by a newer version");
    }
    let strangers = parts.destinations.iter().filter(|d| !state.identities.contains_key(&d.id));
    let drawn: Vec<_> = strangers.map(|d| (d.id.clone(), draw_identity(&*parts.entropy))).collect();
    if !drawn.is_empty() {
        state.version = STATE_VERSION;
        state.identities.extend(drawn);
        parts.store.save(&state).map_err(|error| {
            tracing::error!(%error, "the registry can't keep the identities of new destinations");
            "its store could not be written"
        })?;
    }
    Ok(state)
}

/// What is wrong with windows that were set at run time, now that the config may say another lifetime. Slow: up to a year of
/// openings is looked at.
fn find_flaws(parts: &RegistryParts, state: &RegistryState) -> BTreeMap<DestinationId, String> {
    let overridden = parts.destinations.iter().filter_map(|d| Some((d, state.windows.get(&d.id)?)));
    let found = overridden.filter_map(|(destination, raw)| {
        // What can't be read is told, and not in force.
        let windows = WindowSet::from_raw(raw.clone(), "windows").ok()?;
        let agreement = ServiceAgreement { windows, ..destination.agreement.clone() };
        let problems = check_openings(&agreement, parts.clock.now(), "windows", "lifetime.max_age").err()?;
        tracing::error!(
            destination = %destination.id, %problems,
            "windows that were set at run time don't fit the config's lifetime: set others, or lengthen it"
        );
        Some((destination.id.clone(), problems.to_string()))
    });
    found.collect()
}

fn draw_identity(entropy: &dyn Entropy) -> DestinationIdentity {
    let mut signing_seed = [0; 32];
    entropy.fill(&mut signing_seed);
    DestinationIdentity { signing_seed, pseudonym: entropy.bytes16() }
}

/// Checks windows against the agreement, and writes them to disk. Blocks.
fn change(
    parts: &RegistryParts,
    declared: &Destination,
    raw: Option<RawWindows>,
    state: &mut RegistryState,
) -> Result<Option<WindowSet>, SetWindowsError> {
    let mut next = state.clone();
    next.version = STATE_VERSION;
    let windows = match raw {
        Some(raw) => {
            let windows = WindowSet::from_raw(raw.clone(), "windows").map_err(SetWindowsError::Windows)?;
            let agreement = ServiceAgreement { windows, ..declared.agreement.clone() };
            check_openings(&agreement, parts.clock.now(), "windows", "windows").map_err(SetWindowsError::Windows)?;
            next.windows.insert(declared.id.clone(), raw);
            Some(agreement.windows)
        }
        None => {
            next.windows.remove(&declared.id);
            None
        }
    };
    parts.store.save(&next).map_err(|error| SetWindowsError::Store(error.to_string()))?;
    *state = next;
    Ok(windows)
}

impl Actor for Registry {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let parts = self.parts.clone();
        let loading = tokio::task::spawn_blocking(move || {
            let state = load(&parts)?;
            let flaws = find_flaws(&parts, &state);
            Ok((state, flaws))
        });
        ctx.wait(fut::wrap_future::<_, Self>(loading).map(|loaded, registry, ctx| {
            match loaded.unwrap_or(Err("reading its store panicked")) {
                Ok((state, flaws)) => registry.open(state, flaws),
                Err(reason) => {
                    registry.watch.resign(reason);
                    ctx.stop();
                }
            }
        }));
    }
}

impl Handler<Current> for Registry {
    type Result = Arc<RegistrySnapshot>;

    fn handle(&mut self, _: Current, _: &mut Self::Context) -> Self::Result {
        Arc::clone(&self.snapshot)
    }
}

impl Handler<SetWindows> for Registry {
    type Result = ResponseActFuture<Self, Result<WindowSet, SetWindowsError>>;

    fn handle(&mut self, message: SetWindows, _: &mut Self::Context) -> Self::Result {
        let declared = self.parts.destinations.iter().find(|declared| declared.id == message.destination).cloned();
        let Some(declared) = declared else {
            return Box::pin(fut::err(SetWindowsError::UnknownDestination(message.destination)));
        };
        if self.stopping || self.changes >= CHANGES_MAX {
            let reason = if self.stopping { "the gateway is stopping" } else { "too many changes wait for the disk" };
            return Box::pin(fut::err(SetWindowsError::Store(reason.to_owned())));
        }
        self.changes += 1;
        let (parts, durable, destination) = (self.parts.clone(), Arc::clone(&self.durable), declared.clone());
        let written = async move {
            let mut state = durable.lock_owned().await;
            let job = move || change(&parts, &destination, message.windows, &mut state);
            tokio::task::spawn_blocking(job)
                .await
                .unwrap_or_else(|_| Err(SetWindowsError::Store("the write panicked".to_owned())))
        };
        Box::pin(fut::wrap_future::<_, Self>(written).map(move |written, registry, ctx| {
            registry.changes -= 1;
            if registry.stopping && registry.changes == 0 {
                ctx.stop();
            }
            written.map(|windows| registry.enforce(&declared, windows))
        }))
    }
}

impl Handler<Observe> for Registry {
    type Result = MessageResult<Observe>;

    fn handle(&mut self, _: Observe, _: &mut Self::Context) -> Self::Result {
        MessageResult(Observation::Registry(RegistryObservation {
            revision: self.snapshot.revision,
            destinations: self.snapshot.destinations.len() as u64,
            routes: self.snapshot.routes.0.len() as u64,
        }))
    }
}

impl Handler<Shutdown> for Registry {
    type Result = ();

    fn handle(&mut self, _: Shutdown, ctx: &mut Self::Context) {
        // Changes under way are finished first: their writers were promised an answer.
        self.stopping = true;
        if self.changes == 0 {
            ctx.stop();
        }
    }
}

#[cfg(test)]
mod tests;
