//! What can be said to the Registry: who the destinations are, and what was agreed with them.

use crate::{
    agreement::{Destination, IntakeTerms, ServiceAgreement},
    condition::Condition,
    config::{Problem, Problems, file::DestinationSource, origins::Origins, raw::RawDestination},
    history::{AgreementChange, Canonical, ChangeKind, KeyChange},
    id::DestinationId,
    route::Routes,
    view::BrokenDestination,
    window::RawWindows,
};
use actix::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// All that is known of destinations and routes, at one moment.
#[derive(Debug, Clone, Default)]
pub struct RegistrySnapshot {
    /// Drawn by each Registry that begins, so that no two count the same.
    pub epoch: u64,
    /// Rises with every change.
    pub revision: u64,
    /// Those that are in force, by alias.
    pub destinations: BTreeMap<DestinationId, Arc<RegisteredDestination>>,
    /// Those of the store that can't be used any more: nothing is delivered to them, and nothing lost.
    pub broken: BTreeMap<DestinationId, Broken>,
    /// Those that were there once and are no more, as far as it is remembered.
    pub gone: BTreeSet<DestinationId>,
    /// Routes of the config.
    pub routes: Arc<Routes>,
}

impl RegistrySnapshot {
    /// The entity tag of the config as a whole: another one after every change of a destination or a route, and after a restart.
    #[must_use]
    pub fn config_tag(&self) -> String {
        format!("{:016x}-{}", self.epoch, self.revision)
    }

    /// By what messages for this destination are taken; `None` where none are. Those for a broken one are: it was agreed that they are
    /// kept, and its device can't know that something is wrong here.
    #[must_use]
    pub fn intake(&self, id: &DestinationId) -> Option<IntakeTerms> {
        let in_force = self.destinations.get(id).map(|registered| registered.destination.agreement.intake());
        in_force.or_else(|| self.broken.get(id).map(|broken| broken.intake))
    }
}

/// A destination of the store that can't be used any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Why.
    pub reason: String,
    /// By what messages for it are taken all the same, until it is put right.
    pub intake: IntakeTerms,
}

/// A destination, and where it comes from.
#[derive(Debug, Clone)]
pub struct RegisteredDestination {
    /// The destination with the agreement in force.
    pub destination: Destination,
    /// Where it is declared.
    pub source: DestinationSource,
    /// Version of its agreement, from 1.
    pub version: u64,
}

/// What the config files say of destinations and routes: the part that a reload replaces, in one go.
#[derive(Debug, Clone, Default)]
pub struct Declared {
    /// The destinations.
    pub destinations: Vec<DeclaredDestination>,
    /// The routes.
    pub routes: Arc<Routes>,
    /// Where each key stands.
    pub origins: Arc<Origins>,
}

/// A destination of the config files.
#[derive(Debug, Clone)]
pub struct DeclaredDestination {
    /// Checked.
    pub destination: Destination,
    /// As it is written.
    pub raw: Canonical,
    /// Where.
    pub source: DestinationSource,
}

/// "What is in force now?"
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Arc<RegistrySnapshot>")]
pub struct Current;

/// Whether a destination has to be there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Expect {
    /// It is the same.
    #[default]
    Either,
    /// It must be new.
    Absent,
    /// It must be there.
    Present,
}

/// "This is the agreement with this destination from now on." On disk before the answer, effective at once.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Changed, ChangeError>")]
pub struct PutDestination {
    /// Whose.
    pub destination: DestinationId,
    /// As it is written.
    pub raw: Box<RawDestination>,
    /// Whether it is new.
    pub expect: Expect,
    /// Of which version it is a change. With `If-Match`, a destination without its address keeps the present one.
    pub condition: Condition,
    /// Only say what would change.
    pub dry_run: bool,
}

/// "These are its windows from now on", the rest of the agreement staying as it is. No windows: always open.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Changed, ChangeError>")]
pub struct PutWindows {
    /// Whose.
    pub destination: DestinationId,
    /// The new windows.
    pub windows: RawWindows,
    /// Of which version it is a change.
    pub condition: Condition,
    /// Only say what would change.
    pub dry_run: bool,
}

/// "This destination is no more." What waits for it stays in the outbox under its name. What it knows this gateway by is kept (of the
/// last thousand that went), so that it is the same one if it comes back.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Changed, ChangeError>")]
pub struct RemoveDestination {
    /// Which.
    pub destination: DestinationId,
    /// Which version of it.
    pub condition: Condition,
    /// Only say what would change.
    pub dry_run: bool,
}

/// "How did the agreement with this destination come about?" Newest first; `None` for one that was never there.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Option<Vec<AgreementChange>>, ChangeError>")]
pub struct History {
    /// Whose.
    pub destination: DestinationId,
}

/// "What is the agreement with this destination, as it is written?" `None` where there is no such destination.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Option<WrittenAgreement>, ChangeError>")]
pub struct Written {
    /// Whose.
    pub destination: DestinationId,
}

/// An agreement as it is written.
#[derive(Debug, Clone, PartialEq)]
pub struct WrittenAgreement {
    /// The keys of `[destination.NAME]` that are written, without the onion address.
    pub keys: serde_json::Map<String, serde_json::Value>,
    /// Its version.
    pub version: u64,
    /// Where it is declared.
    pub source: DestinationSource,
    /// Why it can't be used, where it can't.
    pub broken: Option<String>,
}

/// "What is in force, as it is written?"
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<InForce, ChangeError>")]
pub struct Everything;

/// All that is in force, as it is written: of one moment.
#[derive(Debug, Clone)]
pub struct InForce {
    /// [`RegistrySnapshot::config_tag`] of it.
    pub tag: String,
    /// The destinations, without their onion addresses.
    pub destinations: BTreeMap<DestinationId, WrittenAgreement>,
    /// Where each key of the config files stands.
    pub origins: Arc<Origins>,
}

/// "The config files say this now." All of it or nothing.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Reloaded, ChangeError>")]
pub struct Reload {
    /// What they say, checked.
    pub declared: Arc<Declared>,
    /// Of which config it is a change ([`RegistrySnapshot::config_tag`]).
    pub condition: Condition,
    /// Only say what would change.
    pub dry_run: bool,
}

/// What a change did, or would do.
#[derive(Debug, Clone, PartialEq)]
pub struct Changed {
    /// Whose agreement.
    pub destination: DestinationId,
    /// What was done; absent when nothing differs.
    pub kind: Option<ChangeKind>,
    /// The keys that differ; empty for one that comes or goes.
    pub changes: Vec<KeyChange>,
    /// The version after it.
    pub version: u64,
    /// The agreement that was in force, if one was.
    pub before: Option<Box<ServiceAgreement>>,
    /// The agreement that is in force then, unless it goes.
    pub after: Option<Box<ServiceAgreement>>,
    /// What deserves a second look, of a destination that was made at run time; those of the files come with the files.
    pub warnings: Vec<Problem>,
}

/// What a reload did, or would do.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reloaded {
    /// One for each destination that comes, goes, or differs in what is written.
    pub changed: Vec<Changed>,
    /// Destinations whose keys have other contents now, while nothing differs in what is written.
    pub new_keys: Vec<DestinationId>,
    /// Destinations of the store that stand behind a declaration of the same name.
    pub shadowed: Vec<DestinationId>,
    /// Destinations of the store that can't be used any more, and why; those that were so before are not among them.
    pub broken: Vec<BrokenDestination>,
    /// Destinations that can be used again.
    pub mended: Vec<DestinationId>,
    /// Whether the routes differ.
    pub routes_changed: bool,
    /// What deserves a second look, of the destinations of the store.
    pub warnings: Vec<Problem>,
    /// [`RegistrySnapshot::config_tag`] of what is in force when it is answered.
    pub tag: String,
}

/// Why something was not changed. Nothing was, then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// No such destination.
    #[error("there is no destination {0}")]
    Unknown(DestinationId),
    /// One is there already.
    #[error("there is a destination {0} already")]
    Exists(DestinationId),
    /// It is not what the change was made of.
    #[error("{id} is not what this change was made of: {}", now_at(*version))]
    Changed {
        /// Which.
        id: DestinationId,
        /// The version that is there; `None` where there is none.
        version: Option<u64>,
    },
    /// The config is not what the reload was asked for.
    #[error("the config in force is not the one that this reload was asked for")]
    ConfigChanged {
        /// The tag of what is in force.
        tag: String,
    },
    /// The files win.
    #[error("{id} is declared in {source_of}: change it there, then `tidegate reload`")]
    Declared {
        /// Which.
        id: DestinationId,
        /// Where.
        source_of: DestinationSource,
    },
    /// A route leads there.
    #[error("the route on {topic} names {id}: change the route first, then `tidegate reload`")]
    Routed {
        /// Which.
        id: DestinationId,
        /// The filter of the route.
        topic: String,
    },
    /// It can't be kept.
    #[error("this can't be kept: {0}")]
    Values(Problems),
    /// It could not be written to disk.
    #[error("it could not be stored ({0}); nothing changed")]
    Store(String),
}

fn now_at(version: Option<u64>) -> String {
    version.map_or_else(|| "there is none now".to_owned(), |version| format!("it is at version {version} now"))
}
