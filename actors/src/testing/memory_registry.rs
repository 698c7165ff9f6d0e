//! A registry store in memory, whose disk can be made to fail or to stall.

use crate::ports::registry_store::{RegistryState, RegistryStore, RegistryStoreError};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Outlives the actors that use it, as a disk does.
#[derive(Debug, Default)]
pub struct MemoryRegistry {
    inner: Mutex<Inner>,
    released: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    state: RegistryState,
    failing: bool,
    stalled: bool,
    saves: u64,
}

impl MemoryRegistry {
    /// From now on, reads and writes fail, or work again.
    pub fn set_failing(&self, failing: bool) {
        self.lock().failing = failing;
    }

    /// From now on, writes wait, or go on.
    pub fn set_stalled(&self, stalled: bool) {
        self.lock().stalled = stalled;
        self.released.notify_all();
    }

    /// What is on disk.
    #[must_use]
    pub fn state(&self) -> RegistryState {
        self.lock().state.clone()
    }

    /// Replaces what is on disk.
    pub fn put(&self, state: RegistryState) {
        self.lock().state = state;
    }

    /// Successful writes.
    #[must_use]
    pub fn saves(&self) -> u64 {
        self.lock().saves
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RegistryStore for MemoryRegistry {
    fn load(&self) -> Result<RegistryState, RegistryStoreError> {
        let inner = self.lock();
        if inner.failing {
            return Err(RegistryStoreError::Io("read", "made to fail".to_owned()));
        }
        Ok(inner.state.clone())
    }

    fn save(&self, state: &RegistryState) -> Result<(), RegistryStoreError> {
        let waiting = self.released.wait_while(self.lock(), |inner| inner.stalled);
        let mut inner = waiting.unwrap_or_else(PoisonError::into_inner);
        if inner.failing {
            return Err(RegistryStoreError::Io("written", "made to fail".to_owned()));
        }
        inner.state = state.clone();
        inner.saves += 1;
        Ok(())
    }
}
