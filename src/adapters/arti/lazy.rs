//! The Tor client of the gateway, opened when it is first asked to connect: nothing in Tor may keep the gateway from starting.
//!
//! Making one does nothing. [`LazyArti::bootstrap`] opens the client if there is none, and connects it; the Uplink calls it again, with
//! growing pauses, for as long as it fails. Until then [`LazyArti::connect`] answers that the uplink is not ready. What keeps
//! the client from being opened (permissions, another process, a version that is too old) is told by [`LazyArti::status`].
//!
//! Around the client lies a breadcrumb (`breadcrumb.rs`), because arti may end the process.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidegate_actors::ports::transport::Isolation;
use tidegate_schemas::onion::OnionEndpoint;
use tidegate_schemas::outcome::DeliveryError;
use tidegate_schemas::view::UplinkStatus;
use tokio::time::Instant;

use super::breadcrumb::{Breadcrumb, GOOD_AFTER, HOLD, SUSPECT_AFTER};
use super::client::ArtiClient;
use super::config::ArtiSettings;
use super::errors::ArtiError;
use super::keys::ClientKey;
use super::runtime::{Running, TaskEnded};
use crate::adapters::http_lane::BoxedStream;

/// A Tor client that is there once it could be opened.
#[derive(Debug)]
pub struct LazyArti {
    settings: ArtiSettings,
    crumb: Breadcrumb,
    /// One bootstrap at a time.
    busy: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    client: Option<Arc<ArtiClient>>,
    /// How it stands while there is no client.
    without: UplinkStatus,
    held_until: Option<Instant>,
    looked_for_crumb: bool,
    /// This process laid the breadcrumb.
    laid: bool,
    /// Removes the breadcrumb when Tor has been good for a while.
    proof: Option<Running<()>>,
}

impl LazyArti {
    /// A client of these settings, and its breadcrumb in this state folder. Does nothing yet.
    #[must_use]
    pub fn new(settings: ArtiSettings, state_dir: &Path) -> Arc<Self> {
        let crumb = Breadcrumb::in_folder(state_dir);
        Arc::new(Self { settings, crumb, busy: tokio::sync::Mutex::default(), state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is one assignment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client, if it is open.
    #[must_use]
    pub fn client(&self) -> Option<Arc<ArtiClient>> {
        self.state().client.clone()
    }

    /// How it stands now.
    #[must_use]
    pub fn status(&self) -> UplinkStatus {
        let state = self.state();
        state.client.as_ref().map_or_else(|| state.without.clone(), |client| client.status())
    }

    /// Opens the client if need be, and connects it to the Tor network.
    ///
    /// # Errors
    /// Why it could not be opened or connected; it may be called again.
    pub async fn bootstrap(&self) -> Result<(), ArtiError> {
        let _one_at_a_time = self.busy.lock().await;
        let result = self.open_and_connect().await;
        let mut state = self.state();
        match &result {
            Ok(()) => {}
            Err(ArtiError::Obsolete) => {
                // With its runtime ends the timer that would end the process.
                (state.client, state.proof) = (None, None);
                state.without = UplinkStatus::Obsolete { reason: ArtiError::Obsolete.to_string() };
                self.crumb.clear();
            }
            Err(error @ ArtiError::Suspected { .. }) => {
                state.without = UplinkStatus::Obsolete { reason: error.to_string() };
            }
            Err(error) => state.without = UplinkStatus::Failed { reason: error.to_string() },
        }
        result
    }

    async fn open_and_connect(&self) -> Result<(), ArtiError> {
        let client = match self.client() {
            Some(client) => client,
            None => self.open().await?,
        };
        client.bootstrap().await?;
        let mut state = self.state();
        if state.proof.is_none() {
            let crumb = self.crumb.clone();
            state.proof = Some(client.runtime.run(async move {
                tokio::time::sleep(GOOD_AFTER).await;
                crumb.clear();
            }));
        }
        Ok(())
    }

    async fn open(&self) -> Result<Arc<ArtiClient>, ArtiError> {
        self.suspect()?;
        let crumb = self.crumb.clone();
        let laid = tokio::task::spawn_blocking(move || crumb.lay()).await.map_err(|_panic| TaskEnded)?;
        if let Err(error) = laid {
            tracing::warn!(%error, file = %self.crumb.path().display(), "the breadcrumb could not be laid");
        }
        self.state().laid = true;
        let opened = ArtiClient::open(self.settings.clone()).await;
        match &opened {
            Ok(client) => self.state().client = Some(Arc::clone(client)),
            // Nothing of arti runs that could end the process.
            Err(_) => self.crumb.clear(),
        }
        opened
    }

    /// Whether Tor has to wait, because arti seems to have ended the processes before this one.
    fn suspect(&self) -> Result<(), ArtiError> {
        let mut state = self.state();
        if !state.looked_for_crumb {
            state.looked_for_crumb = true;
            state.held_until = (self.crumb.count() >= SUSPECT_AFTER).then(|| Instant::now() + HOLD);
        }
        match state.held_until {
            Some(until) if Instant::now() < until => {
                Err(ArtiError::Suspected { starts: self.crumb.count(), file: self.crumb.path().to_owned() })
            }
            _ => Ok(()),
        }
    }

    /// Opens a stream to an onion service, as [`ArtiClient::connect`] does.
    ///
    /// # Errors
    /// `UplinkNotReady` while there is no client; else how the attempt failed.
    pub async fn connect(
        &self,
        endpoint: OnionEndpoint,
        isolation: Isolation,
        client_key: Option<ClientKey>,
    ) -> Result<BoxedStream, DeliveryError> {
        let client = self.client().ok_or(DeliveryError::UplinkNotReady)?;
        client.connect(endpoint, isolation, client_key).await
    }

    /// Ends the client in order, if there is one: the end of the process is accounted for.
    pub async fn close(&self) {
        let (client, laid) = {
            let mut state = self.state();
            state.proof = None;
            (state.client.take(), state.laid)
        };
        if let Some(client) = client {
            client.close().await;
        }
        // One that was found stays, so that a suspected Tor isn't tried at each start again.
        if laid {
            self.crumb.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::adapters::arti::breadcrumb::FILE;
    use std::fs;
    use tidegate_schemas::config::file::Vanguards;

    fn lazy(folder: &Path) -> Arc<LazyArti> {
        LazyArti::new(ArtiSettings::below(folder, Vanguards::Lite), folder)
    }

    #[tokio::test]
    async fn a_client_that_can_t_be_opened_says_why_and_leaves_no_breadcrumb() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("tor"), "a file where a folder should be").unwrap();
        let tor = lazy(folder.path());
        assert_eq!(tor.status(), UplinkStatus::Starting);
        tor.bootstrap().await.unwrap_err();
        assert!(matches!(tor.status(), UplinkStatus::Failed { .. }), "{:?}", tor.status());
        assert!(!folder.path().join(FILE).exists());
    }

    #[tokio::test(start_paused = true)]
    async fn after_many_starts_that_ended_unaccounted_for_tor_waits_and_is_then_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        // Beyond the wait it is opened, which this file makes impossible.
        fs::write(folder.path().join("tor"), "").unwrap();
        let crumb = folder.path().join(FILE);
        fs::write(&crumb, (SUSPECT_AFTER - 1).to_string()).unwrap();
        assert!(!matches!(lazy(folder.path()).bootstrap().await, Err(ArtiError::Suspected { .. })), "not yet");
        fs::write(&crumb, SUSPECT_AFTER.to_string()).unwrap();
        let tor = lazy(folder.path());
        let said = tor.bootstrap().await.unwrap_err().to_string();
        assert!(said.contains("update tidegate") && said.contains(FILE), "{said}");
        assert_eq!(tor.status(), UplinkStatus::Obsolete { reason: said });
        tokio::time::advance(HOLD).await;
        assert!(!matches!(tor.bootstrap().await, Err(ArtiError::Suspected { .. })), "it is tried again");
    }
}
