//! A line of the list: how a child is named, started, stopped and forgotten, and on whom it stands.

use super::DeathWatch;
use actix::{Actor, Addr, AsyncContext, Context, Handler, Recipient};
use std::fmt::{self, Debug, Display};
use thiserror::Error;
use tidegate_schemas::messages::gateway::{Observe, Shutdown};
use tokio::task::AbortHandle;

/// What is done when a child's restart budget is exhausted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exhausted {
    /// The gateway ends in order with a non-zero code: without this child it can't keep its promises.
    Exit,
    /// The child stays down, visible and alarmed, with one try every so often; who does not stand on it goes on.
    Suspend,
}

/// Starts one incarnation: puts the watch into the new actor, its address into the handles.
///
/// It runs on the System thread and must not block; slow work belongs into the actor. When it fails it must not leave a
/// running actor behind. Every address that `needs` names is present in the handles; those of `uses` may be absent.
pub type Start<H> = Box<dyn FnMut(DeathWatch, &mut H) -> Result<Running, StartError>>;

/// One line of the list.
pub struct ChildSpec<H> {
    /// Its name, unique in the list.
    pub name: &'static str,
    /// The lines below whose addresses it holds: it restarts with each of them and stays down while one of them is down.
    pub needs: &'static [&'static str],
    /// Lines below whose addresses it holds if they are there: it restarts with them too, but does not stay down while one
    /// of them is suspended, and restarts once more when that one is back. An actor that follows the published handles by
    /// itself instead, and can live without the other, names it in neither.
    pub uses: &'static [&'static str],
    /// What is done when its budget is exhausted.
    pub exhausted: Exhausted,
    /// Starts one incarnation.
    pub start: Start<H>,
    /// Takes its address out of the handles.
    pub forget: fn(&mut H),
}

impl<H> Debug for ChildSpec<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildSpec").field("name", &self.name).field("needs", &self.needs).finish_non_exhaustive()
    }
}

/// What the kernel holds of a running child.
#[derive(Debug)]
pub struct Running {
    pub(super) stop: Recipient<Shutdown>,
    pub(super) observe: Recipient<Observe>,
    pub(super) abort: AbortHandle,
}

impl Running {
    /// Starts `actor` on the current System thread, in such a way that the kernel can also cut it off.
    pub fn start<A>(actor: A) -> (Addr<A>, Self)
    where
        A: Actor<Context = Context<A>> + Handler<Shutdown> + Handler<Observe>,
    {
        Self::create(|_| actor)
    }

    /// As [`Running::start`], for an actor that needs its context to be made (its own address, a larger mailbox).
    pub fn create<A>(build: impl FnOnce(&mut Context<A>) -> A) -> (Addr<A>, Self)
    where
        A: Actor<Context = Context<A>> + Handler<Shutdown> + Handler<Observe>,
    {
        let mut ctx = Context::new();
        let actor = build(&mut ctx);
        #[cfg(feature = "testing")]
        crate::testing::faults::starts(&mut ctx);
        let addr = ctx.address();
        // `Actor::start` keeps no handle to the task; without one, an actor that waits for ever could not be ended.
        let task = actix::spawn(ctx.into_future(actor));
        let running =
            Self { stop: addr.clone().recipient(), observe: addr.clone().recipient(), abort: task.abort_handle() };
        (addr, running)
    }
}

/// Why a child could not be started. A start that fails counts as a fall.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct StartError(String);

impl StartError {
    /// An error that names the failed operation and its cause: `StartError::new("open the outbox store", error)`.
    pub fn new(operation: &str, cause: impl Display) -> Self {
        Self(format!("{operation}: {cause}"))
    }
}

/// Why a list of children makes no sense. A programming error, found before anything starts.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WiringError {
    /// Two lines have one name.
    #[error("two children are named {name}")]
    Duplicate {
        /// The name.
        name: &'static str,
    },
    /// A need is not further down in the list.
    #[error("{child} needs {need}, which is not below it in the list")]
    NotBelow {
        /// The child.
        child: &'static str,
        /// What it names.
        need: &'static str,
    },
    /// The order of the drain names a stranger.
    #[error("the drain order names {name}, which is not in the list")]
    UnknownInDrainOrder {
        /// The name.
        name: &'static str,
    },
}
