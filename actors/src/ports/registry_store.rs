//! What the Registry keeps on disk: small, read once, written whole.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tidegate_schemas::{
    history::{AgreementLog, Canonical},
    id::DestinationId,
};

/// Version of the durable state.
pub const STATE_VERSION: u32 = 2;

/// The Registry's durable state.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistryState {
    /// Version of this format.
    pub version: u32,
    /// Destinations that were made at run time, as they were written.
    pub destinations: BTreeMap<DestinationId, Canonical>,
    /// The versions of every agreement, those of the config files too.
    pub agreements: BTreeMap<DestinationId, AgreementLog>,
    /// What each destination knows this gateway by; made once.
    pub identities: BTreeMap<DestinationId, DestinationIdentity>,
}
impl Default for RegistryState {
    fn default() -> Self {
        Self {
            version: STATE_VERSION,
            destinations: BTreeMap::new(),
            agreements: BTreeMap::new(),
            identities: BTreeMap::new(),
        }
    }
}
impl std::fmt::Debug for RegistryState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistryState").field("agreements", &self.agreements).finish_non_exhaustive()
    }
}

/// One destination's own view of this gateway: another destination's has nothing in common with it (DESIGN decision 14).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestinationIdentity {
    /// Seed of the ed25519 signing key.
    pub signing_seed: [u8; 32],
    /// What the source name is made of.
    pub pseudonym: [u8; 16],
}

/// Why the state could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryStoreError {
    /// Input or output failed.
    #[error("the registry file could not be {0}: {1}")]
    Io(&'static str, String),
    /// It is there and can't be understood. Never overwritten.
    #[error(
        "the registry file is damaged ({0}); restore it from a backup, or move it away to start with the config alone"
    )]
    Damaged(String),
}

/// Keeps the Registry's state. Calls block.
pub trait RegistryStore: Send + Sync + 'static {
    /// Reads it; the default state when there is none yet.
    ///
    /// # Errors
    /// When it is unreadable or damaged.
    fn load(&self) -> Result<RegistryState, RegistryStoreError>;
    /// Replaces it, atomically and durably.
    ///
    /// # Errors
    /// When it could not be written; the old state is still there.
    fn save(&self, state: &RegistryState) -> Result<(), RegistryStoreError>;
}
