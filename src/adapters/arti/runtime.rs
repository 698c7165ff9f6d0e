//! The tokio runtime that arti lives on, and the door between it and the rest of the program.
//!
//! The actors' System is one thread; arti spawns tasks of its own, reads files, and may panic. It gets two threads of
//! its own. What is asked of it crosses by [`TorRuntime::run`]: the future runs over there, is aborted when its asker
//! drops the wait, and a panic comes back as [`TaskEnded`].

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

/// Threads that arti's tasks run on.
const WORKERS: usize = 2;
/// Threads for its blocking work (files, its directory database); one that idles for ten seconds ends.
const BLOCKING_THREADS_MAX: usize = 8;

/// A task ended without a result: it panicked, or its runtime is shutting down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a task of the Tor client ended early")]
pub struct TaskEnded;

/// A runtime that ends, without waiting for its tasks, when it is dropped, wherever that happens.
#[derive(Debug)]
pub struct TorRuntime {
    handle: Handle,
    /// `None` only while it is being dropped.
    runtime: Option<Runtime>,
}

impl TorRuntime {
    /// Starts it.
    ///
    /// # Errors
    /// When the system has no threads to give.
    pub fn start() -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .thread_name("tor")
            .enable_all()
            .build()?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    /// To spawn on it what outlives one call; the spawner sees to its end.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Runs a future over there. Dropping the returned one aborts it.
    pub fn run<F>(&self, future: F) -> Running<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send,
    {
        Running(self.handle.spawn(future))
    }
}

impl Drop for TorRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A plain drop waits for blocking work, which is forbidden on an asynchronous thread.
            runtime.shutdown_background();
        }
    }
}

/// A future that runs on another runtime; dropping it aborts it there.
#[derive(Debug)]
#[must_use = "dropping it aborts the task"]
pub struct Running<T>(JoinHandle<T>);

impl<T> Running<T> {
    /// Takes over a task that was spawned elsewhere.
    pub fn own(task: JoinHandle<T>) -> Self {
        Self(task)
    }

    /// Whether the task has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

impl<T> Future for Running<T> {
    type Output = Result<T, TaskEnded>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map_err(|_panic_or_shutdown| TaskEnded)
    }
}

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn results_and_panics_come_back() {
        let runtime = TorRuntime::start().unwrap();
        assert_eq!(runtime.run(async { 7 }).await, Ok(7));
        let panicking = runtime.run(async { std::hint::black_box(None::<u8>).unwrap() });
        assert_eq!(panicking.await, Err(TaskEnded));
        assert_eq!(runtime.run(async { 8 }).await, Ok(8), "one panic doesn't harm the next");
    }

    #[tokio::test]
    async fn a_dropped_wait_aborts_the_task_and_a_dropped_runtime_ends_all() {
        let runtime = TorRuntime::start().unwrap();
        let (kept, gone) = oneshot::channel::<()>();
        drop(runtime.run(async move {
            std::future::pending::<()>().await;
            drop(kept);
        }));
        gone.await.unwrap_err();
        let waiting = runtime.run(std::future::pending::<()>());
        drop(runtime);
        assert_eq!(waiting.await, Err(TaskEnded));
    }
}
