//! `tidegate receiver`: the web application behind an onion service. It takes readings in every wire format, stores each once, answers
//! with a signed receipt, and shows them on pages that need neither JavaScript nor SVG.
//!
//! ```text
//!   onion service or loopback -> serve (HTTP/1.1) -> app -> intake -> writer thread -> store (sled)
//!                                                     |                                  |
//!                                                     +-> pages, api, live <--- reader --+
//! ```
//! Rights: a write key per gateway, one password to read; both are made on first start and shown once. Limits: see
//! [`ReceiverLimits`] and the constants of the rooms below; whatever reaches one gets an answer that says so, and what was
//! acknowledged stays.
//!
//! Life-cycle: [`Receiver::open`] (folder, keys, store), print [`Receiver::introduction`], then [`Receiver::serve`] until the
//! shutdown future is ready. A store that fails ends it with an error: the next start opens it again.

mod answer;
mod api;
mod app;
mod chart;
mod intake;
mod live;
mod pages;
mod rights;
mod serve;
mod speaker;
mod store;
mod values;
mod writer;

pub use rights::{FreshRights, FreshSecret, FreshWriteKey, RightsError};
pub use serve::{Connection, Duplex, Entrance, EntranceError};
pub use speaker::{Speaker, SpeakerError, signal_key_file};
pub use store::{Keep, StoreError, StoreLimits};

use crate::web::sessions::{SESSION, Sessions};
use app::App;
use std::{path::PathBuf, sync::Arc, time::Duration};
use store::Store;
use tidegate_actors::ports::{clock::Clock, entropy::Entropy};
use tidegate_schemas::{id::DestinationId, onion::OnionEndpoint};
use tokio::sync::{oneshot, watch};

/// The folder of the store within the receiver's folder.
const STORE_FOLDER: &str = "readings";
/// Longest title, in characters.
const TITLE_CHARS_MAX: usize = 60;

/// How a receiver is set up.
#[derive(Clone)]
pub struct ReceiverOptions {
    /// Everything that it keeps; made with mode 0700 if it is missing.
    pub folder: PathBuf,
    /// What its pages are headed with.
    pub title: String,
    /// Gateways that may write; those that are new get a key.
    pub gateways: Vec<DestinationId>,
    /// Whether the paper's format needs no write key.
    pub open_private_iot: bool,
    /// Whether to make a new password to read (the old one is then void).
    pub new_password: bool,
    /// Limits.
    pub limits: ReceiverLimits,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
}

/// Limits of a receiver.
#[derive(Debug, Clone, Copy)]
pub struct ReceiverLimits {
    /// What the store may hold.
    pub store: StoreLimits,
    /// Connections at once.
    pub connections_max: usize,
    /// Live pages at once; each holds a connection.
    pub live_streams_max: usize,
    /// How long a connection may last before one of its requests shows a right to write or to read.
    pub stranger_time: Duration,
}
impl Default for ReceiverLimits {
    fn default() -> Self {
        Self {
            store: StoreLimits::default(),
            connections_max: 256,
            live_streams_max: 32,
            stranger_time: Duration::from_secs(20),
        }
    }
}

/// Why a receiver can't start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ReceiverError {
    /// Its keys.
    #[error(transparent)]
    Rights(#[from] RightsError),
    /// Its store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The writer's thread panicked.
    #[error("writing the store failed unexpectedly: start the receiver again")]
    WriterGone,
    /// A thread could not be started.
    #[error("starting a thread failed: {0}")]
    Thread(#[from] std::io::Error),
    /// All entrances closed without being asked to.
    #[error("no connection can come any more: the onion service or the listener ended")]
    EntranceGone,
}

/// What an operator has to know of a receiver that just started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Introduction {
    /// What was made on this start, to be shown once.
    pub fresh: FreshRights,
    /// The public key of its receipts, in base64.
    pub receipt_key: String,
}

impl Introduction {
    /// The destination as the config of a gateway has it, ready to paste. Without an address (behind a system tor) a place-holder
    /// stands for it, which `tidegate check` refuses until it is filled in.
    #[must_use]
    pub fn destination_toml(
        &self,
        alias: &DestinationId,
        gateway: &DestinationId,
        onion: Option<&OnionEndpoint>,
    ) -> String {
        let onion = onion.map_or_else(
            || "ADDRESS.onion:80".to_owned(),
            |onion| format!("{}:{}", onion.address.reveal(), onion.port),
        );
        format!(
            "[destination.{alias}]\n\
             onion       = \"{onion}\"\n\
             format      = \"cloudevents-batch\"\n\
             write_key   = {{ file = \"{gateway}.write_key\" }}\n\
             receipt_key = \"{}\"\n",
            self.receipt_key
        )
    }
}

/// An opened receiver.
pub struct Receiver {
    app: Arc<App>,
    introduction: Introduction,
    limits: ReceiverLimits,
    writer_ended: oneshot::Receiver<Result<(), StoreError>>,
    close: watch::Sender<bool>,
    closing: watch::Receiver<bool>,
}

impl Receiver {
    /// Opens the folder: makes what is missing, loads what is there.
    ///
    /// # Errors
    /// [`ReceiverError`] if the folder can't be used, is in use, is of another format, or damaged. Nothing is deleted.
    pub async fn open(options: ReceiverOptions) -> Result<Self, ReceiverError> {
        let opened = tokio::task::spawn_blocking(move || {
            let ReceiverOptions { folder, gateways, new_password, entropy, limits, .. } = &options;
            let (rights, fresh) = rights::Rights::open(folder, gateways, *new_password, entropy.as_ref())?;
            let store = Store::open(&folder.join(STORE_FOLDER), limits.store)?;
            Ok::<_, ReceiverError>((options, rights, fresh, store))
        });
        let (options, rights, fresh, store) = opened.await.map_err(|_| ReceiverError::WriterGone)??;
        let introduction = Introduction { fresh, receipt_key: rights.receipt_key_text() };
        let reader = store.reader();
        let writer = writer::start(store, options.clock.clone())?;
        let (close, closing) = watch::channel(false);
        let (bodies, reads, live_streams) = App::bounds(options.limits.live_streams_max);
        let title = values::harmless(options.title.trim(), true).chars().take(TITLE_CHARS_MAX).collect();
        let app = Arc::new(App {
            title,
            assets: App::assets_version(),
            rights,
            open_private_iot: options.open_private_iot,
            sessions: Sessions::lasting(SESSION),
            reader,
            writer: writer.handle,
            clock: options.clock,
            entropy: options.entropy,
            bodies,
            reads,
            live_streams,
            closing: closing.clone(),
        });
        Ok(Self { app, introduction, limits: options.limits, writer_ended: writer.ended, close, closing })
    }

    /// What to show the operator.
    #[must_use]
    pub fn introduction(&self) -> &Introduction {
        &self.introduction
    }

    /// Serves until `shutdown` is ready; then finishes what is under way and closes the store.
    ///
    /// # Errors
    /// [`ReceiverError`] if the store fails or every entrance closes.
    pub async fn serve(
        self,
        entrances: Vec<Entrance>,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), ReceiverError> {
        let Self { app, limits, mut writer_ended, close, closing, .. } = self;
        let mut serving = tokio::spawn(serve::serve(app, entrances, limits, closing));
        let failure = tokio::select! {
            () = shutdown => None,
            _ = &mut serving => Some(ReceiverError::EntranceGone),
            ended = &mut writer_ended => Some(writer_failure(ended)),
        };
        let _ = close.send(true);
        if !serving.is_finished() {
            // Its own deadline is short; a panic in it has nothing left to say.
            let _ = serving.await;
        }
        if let Some(failure) = failure {
            return Err(failure);
        }
        // The last handle of the writer went with the application: it ends now, and closes the store.
        match writer_ended.await {
            Ok(Ok(())) => Ok(()),
            ended => Err(writer_failure(ended)),
        }
    }
}

fn writer_failure(ended: Result<Result<(), StoreError>, oneshot::error::RecvError>) -> ReceiverError {
    match ended {
        Ok(Err(error)) => error.into(),
        Ok(Ok(())) | Err(_) => ReceiverError::WriterGone,
    }
}

/// Opens a receiver and serves these entrances until `shutdown` is ready.
///
/// # Errors
/// As [`Receiver::open`] and [`Receiver::serve`].
pub async fn run(
    options: ReceiverOptions,
    entrances: Vec<Entrance>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ReceiverError> {
    Receiver::open(options).await?.serve(entrances, shutdown).await
}
