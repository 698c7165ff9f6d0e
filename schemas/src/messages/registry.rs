//! What can be said to the Registry: who the destinations are, and what was agreed with them.

use crate::{
    agreement::Destination,
    config::Problems,
    id::DestinationId,
    route::Routes,
    window::{RawWindows, WindowSet},
};
use actix::prelude::*;
use std::{collections::BTreeMap, sync::Arc};

/// All that is known of destinations and routes, at one moment.
#[derive(Debug, Clone, Default)]
pub struct RegistrySnapshot {
    /// Rises with every change.
    pub revision: u64,
    /// By alias.
    pub destinations: BTreeMap<DestinationId, Arc<RegisteredDestination>>,
    /// Routes of the config.
    pub routes: Arc<Routes>,
}

/// A destination, and where it comes from.
#[derive(Debug, Clone)]
pub struct RegisteredDestination {
    /// The destination with the agreement in force.
    pub destination: Destination,
    /// Whether its windows were set at run time, over those of the file.
    pub windows_overridden: bool,
    /// Why those don't fit the agreement that is in the file now, if they don't.
    pub windows_flaw: Option<String>,
}

/// "What is in force now?"
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Arc<RegistrySnapshot>")]
pub struct Current;

/// "These are the windows of this destination from now on." Persisted before the answer, effective at once.
/// `None` goes back to the windows of the file.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<WindowSet, SetWindowsError>")]
pub struct SetWindows {
    /// Whose.
    pub destination: DestinationId,
    /// The new windows.
    pub windows: Option<RawWindows>,
}

/// Why windows were not set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetWindowsError {
    /// No such destination.
    #[error("there is no destination {0}")]
    UnknownDestination(DestinationId),
    /// They can't be kept.
    #[error("these windows can't be kept: {0}")]
    Windows(Problems),
    /// They could not be written to disk; nothing changed.
    #[error("the windows could not be stored ({0}); nothing changed")]
    Store(String),
}
