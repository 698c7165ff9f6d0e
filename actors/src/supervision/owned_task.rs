//! A tokio task that is owned by an actor: it ends with the actor, and the actor ends with it.
//!
//! Dropping a `JoinHandle` only detaches its task: a courier closed at the end of its window would keep sending. And a task
//! that dies in silence leaves an actor that looks alive and hears nothing. Both are excluded here: dropping an
//! [`OwnedTask`] aborts the task, and the end of the task, however caused, stops the actor with [`Exit::TaskEnded`].
//!
//! Limit: an abort takes effect at the task's next await. Code that blocks its thread can't be aborted.

use super::{DeathWatch, Exit, TaskEnd};
use actix::{ActorContext, ActorFutureExt, AsyncContext, Context, fut::wrap_future};
use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};
use tokio::task::{AbortHandle, JoinHandle};

/// A task of the actor that keeps it in a field. Dropping it aborts the task and leaves the actor alone.
#[derive(Debug)]
#[must_use = "dropping it aborts the task"]
pub struct OwnedTask {
    name: &'static str,
    abort: AbortHandle,
    released: Arc<AtomicBool>,
}

/// What the normal end of a task means for its actor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OnReturn {
    /// The actor stops: the task was meant to run for ever.
    StopActor,
    /// Nothing: the task had an end from the start.
    Ignore,
}

impl OwnedTask {
    /// Runs `future` on the System thread; its end of any kind ends the actor.
    pub fn spawn<A, F>(ctx: &mut Context<A>, watch: &DeathWatch, name: &'static str, future: F) -> Self
    where
        A: actix::Actor<Context = Context<A>>,
        F: Future<Output = ()> + 'static,
    {
        Self::own(ctx, watch, name, run(watch, name, future), OnReturn::StopActor)
    }

    /// Runs `future` on the System thread; its normal end is fine, a panic or a foreign abort ends the actor.
    pub fn spawn_finite<A, F>(ctx: &mut Context<A>, watch: &DeathWatch, name: &'static str, future: F) -> Self
    where
        A: actix::Actor<Context = Context<A>>,
        F: Future<Output = ()> + 'static,
    {
        Self::own(ctx, watch, name, run(watch, name, future), OnReturn::Ignore)
    }

    /// Takes over a task that already runs, on whatever runtime; its end of any kind ends the actor.
    pub fn adopt<A, T>(ctx: &mut Context<A>, watch: &DeathWatch, name: &'static str, task: JoinHandle<T>) -> Self
    where
        A: actix::Actor<Context = Context<A>>,
        T: 'static,
    {
        Self::own(ctx, watch, name, task, OnReturn::StopActor)
    }

    fn own<A, T>(
        ctx: &mut Context<A>,
        watch: &DeathWatch,
        name: &'static str,
        task: JoinHandle<T>,
        on_return: OnReturn,
    ) -> Self
    where
        A: actix::Actor<Context = Context<A>>,
        T: 'static,
    {
        #[cfg(feature = "testing")]
        crate::testing::faults::owns(watch.name(), name);
        let owned = Self { name, abort: task.abort_handle(), released: Arc::default() };
        let (note, released) = (watch.note(), Arc::clone(&owned.released));
        ctx.spawn(wrap_future::<_, A>(task).map(move |result, _actor, ctx: &mut Context<A>| {
            if released.load(Relaxed) {
                return;
            }
            let end = match result {
                Ok(_) if on_return == OnReturn::Ignore => return,
                Ok(_) => TaskEnd::Returned,
                Err(error) if error.is_panic() => TaskEnd::Panicked,
                Err(_) => TaskEnd::Aborted,
            };
            note.leave(Exit::TaskEnded { name, end });
            ctx.stop();
        }));
        owned
    }

    /// The task's name, as it appears in [`Exit::TaskEnded`].
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Whether the task has come to its end.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.abort.is_finished()
    }
}

/// Starts a task on the System thread; in a build for tests, within their reach.
fn run(watch: &DeathWatch, name: &str, future: impl Future<Output = ()> + 'static) -> JoinHandle<()> {
    tracing::trace!(actor = watch.name(), task = name, "a task starts");
    #[cfg(feature = "testing")]
    let future = crate::testing::faults::reached(format!("{}/{name}", watch.name()), future);
    actix::spawn(future)
}

impl Drop for OwnedTask {
    fn drop(&mut self) {
        self.released.store(true, Relaxed);
        self.abort.abort();
    }
}
