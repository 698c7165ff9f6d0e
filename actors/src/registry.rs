//! The Registry: who the destinations are, what was agreed with them, and which routes lead there.
//!
//! - *Hears* `Current` (answered from memory), `PutDestination`, `PutWindows`, `RemoveDestination`, `Reload`, `History`, `Written`,
//!   `Everything`, `Observe`, `Shutdown`.
//! - *Owns* the registry store: destinations that were made at run time, the version and the history of every agreement, and for
//!   each destination the identity by which it knows this gateway. An identity is drawn once and kept; no two destinations' have
//!   anything in common (DESIGN decision 14).
//! - *Rings* the bells that it is given after every change: it stands at the bottom of the list and knows nobody above.
//! - *If it dies*: everything that holds its address restarts with it; what it knows is in the config and on disk, and what the
//!   last reload brought is in [`RegistryParts::declared`].
//!
//! The config's destinations and those of the store are merged when the actor starts; until the state is read, requests wait. A
//! destination of the files wins over one of the store, and can't be changed here: whoever tries is told file and line. A change is
//! checked, written to disk and only then in force: when the disk refuses, nothing has changed. A reload is one such change. A change
//! may be bound to a version (RFC 9110 section 13): that is looked at in its turn, so of two writers one hears of the other. Changes
//! take their turn; at most [`CHANGES_MAX`] wait. Reading, checking and writing are done on a blocking thread, never on the
//! System thread.
//!
//! A destination of the store that can't be used any more (a time zone that is gone, a key file that was removed) stays there and is
//! told; messages for it are taken, and nothing is delivered to it until it is put right. State of destinations that are gone is kept
//! (of the last [`ABSENT_KEPT`]): one that comes back is the same one, and what waits for it is delivered then.

mod book;

use self::book::Book;
use crate::{
    ports::{clock::Clock, destination_check::DestinationCheck, entropy::Entropy, registry_store::RegistryStore},
    supervision::{Bell, DeathWatch},
};
use actix::{fut, prelude::*};
use std::sync::Arc;
use tidegate_schemas::{
    history::AgreementChange,
    messages::{
        gateway::{Observe, Shutdown},
        registry::{
            ChangeError, Changed, Current, Declared, Everything, History, InForce, PutDestination, PutWindows,
            RegistrySnapshot, Reload, Reloaded, RemoveDestination, Written, WrittenAgreement,
        },
    },
    view::{BrokenDestination, Observation, RegistryObservation},
};
use tokio::sync::Mutex;

/// Most changes that wait for the disk; what comes beyond is refused.
pub const CHANGES_MAX: usize = 16;

/// Most destinations that are gone and whose history and identity are kept. Beyond it those go first that went first: one of them that
/// comes back begins with version 1 and knows this gateway by new keys.
pub const ABSENT_KEPT: usize = 1_000;

/// What the config files said at the start or at the last reload. One for each process, shared by the incarnations of the Registry.
pub type DeclaredCell = Arc<std::sync::Mutex<Arc<Declared>>>;

/// What a Registry is made of.
#[derive(Clone)]
pub struct RegistryParts {
    /// Destinations and routes of the checked config; identities are filled in here.
    pub declared: DeclaredCell,
    /// Where the durable state is kept.
    pub store: Arc<dyn RegistryStore>,
    /// Checks what is to be kept.
    pub check: Arc<dyn DestinationCheck>,
    /// Now, for the history.
    pub clock: Arc<dyn Clock>,
    /// What identities are drawn from.
    pub entropy: Arc<dyn Entropy>,
    /// Rung after every change.
    pub bells: Vec<Bell>,
}

/// The actor.
pub struct Registry {
    parts: RegistryParts,
    /// Held by the one change that is being made.
    book: Arc<Mutex<Book>>,
    snapshot: Arc<RegistrySnapshot>,
    changes: usize,
    stopping: bool,
    watch: DeathWatch,
}

impl Registry {
    /// A Registry; it reads its store when it starts.
    #[must_use]
    pub fn new(parts: RegistryParts, watch: DeathWatch) -> Self {
        Self { parts, book: Arc::default(), snapshot: Arc::default(), changes: 0, stopping: false, watch }
    }

    /// Lets a change take its turn at the book, on a blocking thread.
    fn change<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&RegistryParts, &mut Book) -> Result<T, ChangeError> + Send + 'static,
    ) -> ResponseActFuture<Self, Result<T, ChangeError>> {
        if self.stopping || self.changes >= CHANGES_MAX {
            let reason = if self.stopping { "the gateway is stopping" } else { "too many changes wait for the disk" };
            return Box::pin(fut::err(ChangeError::Store(reason.to_owned())));
        }
        self.changes += 1;
        let (parts, book) = (self.parts.clone(), Arc::clone(&self.book));
        let made = async move {
            let mut book = book.lock_owned().await;
            let job = move || {
                let before = book.revision();
                let made = work(&parts, &mut book);
                (made, (book.revision() != before).then(|| Arc::new(book.snapshot())))
            };
            let panicked = |_| (Err(ChangeError::Store("making the change panicked".to_owned())), None);
            tokio::task::spawn_blocking(job).await.unwrap_or_else(panicked)
        };
        Box::pin(fut::wrap_future::<_, Self>(made).map(|(made, snapshot), registry, ctx| {
            registry.changes -= 1;
            if let Some(snapshot) = snapshot {
                registry.enforce(snapshot);
            }
            if registry.stopping && registry.changes == 0 {
                ctx.stop();
            }
            made
        }))
    }

    /// Puts in force what is on disk. A change that came to its end out of turn is in the snapshot of the later one.
    fn enforce(&mut self, snapshot: Arc<RegistrySnapshot>) {
        if snapshot.revision > self.snapshot.revision {
            self.snapshot = snapshot;
        }
        for bell in &self.parts.bells {
            bell.ring();
        }
    }
}

impl Actor for Registry {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let parts = self.parts.clone();
        let opening = tokio::task::spawn_blocking(move || {
            let book = Book::open(&parts)?;
            let snapshot = book.snapshot();
            Ok((book, snapshot))
        });
        ctx.wait(fut::wrap_future::<_, Self>(opening).map(|opened, registry, ctx| {
            match opened.unwrap_or(Err("reading its store panicked")) {
                Ok((book, snapshot)) => {
                    registry.book = Arc::new(Mutex::new(book));
                    registry.snapshot = Arc::new(snapshot);
                }
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

impl Handler<PutDestination> for Registry {
    type Result = ResponseActFuture<Self, Result<Changed, ChangeError>>;

    fn handle(&mut self, message: PutDestination, _: &mut Self::Context) -> Self::Result {
        self.change(move |parts, book| book.put(parts, message))
    }
}

impl Handler<PutWindows> for Registry {
    type Result = ResponseActFuture<Self, Result<Changed, ChangeError>>;

    fn handle(&mut self, message: PutWindows, _: &mut Self::Context) -> Self::Result {
        self.change(move |parts, book| book.put_windows(parts, message))
    }
}

impl Handler<RemoveDestination> for Registry {
    type Result = ResponseActFuture<Self, Result<Changed, ChangeError>>;

    fn handle(&mut self, message: RemoveDestination, _: &mut Self::Context) -> Self::Result {
        self.change(move |parts, book| book.remove(parts, message))
    }
}

impl Handler<Reload> for Registry {
    type Result = ResponseActFuture<Self, Result<Reloaded, ChangeError>>;

    fn handle(&mut self, message: Reload, _: &mut Self::Context) -> Self::Result {
        self.change(move |parts, book| book.reload(parts, &message))
    }
}

impl Handler<History> for Registry {
    type Result = ResponseActFuture<Self, Result<Option<Vec<AgreementChange>>, ChangeError>>;

    fn handle(&mut self, message: History, _: &mut Self::Context) -> Self::Result {
        self.change(move |_, book| Ok(book.history(&message.destination)))
    }
}

impl Handler<Written> for Registry {
    type Result = ResponseActFuture<Self, Result<Option<WrittenAgreement>, ChangeError>>;

    fn handle(&mut self, message: Written, _: &mut Self::Context) -> Self::Result {
        self.change(move |_, book| Ok(book.written(&message.destination)))
    }
}

impl Handler<Everything> for Registry {
    type Result = ResponseActFuture<Self, Result<InForce, ChangeError>>;

    fn handle(&mut self, _: Everything, _: &mut Self::Context) -> Self::Result {
        self.change(|_, book| Ok(book.everything()))
    }
}

impl Handler<Observe> for Registry {
    type Result = MessageResult<Observe>;

    fn handle(&mut self, _: Observe, _: &mut Self::Context) -> Self::Result {
        let broken = self.snapshot.broken.iter();
        MessageResult(Observation::Registry(RegistryObservation {
            revision: self.snapshot.revision,
            destinations: self.snapshot.destinations.len() as u64,
            routes: self.snapshot.routes.0.len() as u64,
            broken: broken
                .map(|(id, broken)| BrokenDestination { destination: id.clone(), reason: broken.reason.clone() })
                .collect(),
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
