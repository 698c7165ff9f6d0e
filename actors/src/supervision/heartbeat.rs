//! The last watch: a plain OS thread that looks whether the System thread still runs.
//!
//! All actors share one thread. A handler that blocks it (a lock, a blocking call, an endless loop) also blocks the Gateway,
//! whose observations can then find nothing. So a task on the System thread counts beats, and a thread of the operating
//! system compares the count. When it stands still for the limit, the thread calls what it was given: `main` logs and ends
//! the process there, and whoever runs it starts it again. The kernel itself never ends a process.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};
use tokio::{task::AbortHandle, time::MissedTickBehavior};

/// The watch over the thread that started it. Dropping it ends the watch.
#[derive(Debug)]
pub struct Heartbeat {
    beat: AbortHandle,
    /// Never sent on; its drop ends the thread.
    _stop: SyncSender<()>,
}

impl Heartbeat {
    /// How often the System thread beats, and how often the watch looks.
    pub const EVERY: Duration = Duration::from_secs(1);
    /// How long the System thread may be silent.
    pub const LIMIT: Duration = Duration::from_secs(15);

    /// Watches the current thread, which must run an actix System: a beat `every` so often, and after `limit` of silence
    /// one call of `on_stuck` with the length of the silence, on the watching thread. `limit` should be several `every`.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn start(
        every: Duration,
        limit: Duration,
        on_stuck: impl FnOnce(Duration) + Send + 'static,
    ) -> io::Result<Self> {
        let beats = Arc::new(AtomicU64::new(0));
        let (stop, stopped) = sync_channel(1);
        let seen = Arc::clone(&beats);
        thread::Builder::new()
            .name("heartbeat".into())
            .spawn(move || watch(&seen, &stopped, every, limit, on_stuck))?;
        let beat = actix::spawn(async move {
            let mut ticks = tokio::time::interval(every);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                beats.fetch_add(1, Relaxed);
            }
        });
        Ok(Self { beat: beat.abort_handle(), _stop: stop })
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.beat.abort();
    }
}

/// The watching thread. Real time on purpose: virtual time stands still with the thread that is watched.
fn watch(beats: &AtomicU64, stopped: &Receiver<()>, every: Duration, limit: Duration, on_stuck: impl FnOnce(Duration)) {
    let (mut last, mut changed) = (beats.load(Relaxed), Instant::now());
    while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
        let now = beats.load(Relaxed);
        if now != last {
            (last, changed) = (now, Instant::now());
        } else if changed.elapsed() >= limit {
            return on_stuck(changed.elapsed());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const EVERY: Duration = Duration::from_millis(10);
    const LIMIT: Duration = Duration::from_millis(300);

    // Real time: the thing watched is a real thread that really blocks.
    #[actix::test]
    async fn a_blocked_system_thread_is_noticed_and_a_busy_one_is_not() {
        let (stuck, seen) = mpsc::sync_channel(1);
        let _watch = Heartbeat::start(EVERY, LIMIT, move |silence| {
            let _ = stuck.send(silence);
        })
        .expect("a thread");
        tokio::time::sleep(2 * LIMIT).await;
        assert!(seen.try_recv().is_err(), "a thread that only awaits is alive");
        // The test's thread is the System thread: to wait here is to block it.
        let silence = seen.recv_timeout(20 * LIMIT).expect("the watch noticed the blocked thread");
        assert!(silence >= LIMIT, "not before the limit: {silence:?}");
    }

    #[actix::test]
    async fn a_dropped_watch_calls_nobody() {
        let (stuck, seen) = mpsc::sync_channel::<Duration>(1);
        let watch = Heartbeat::start(EVERY, LIMIT, move |silence| {
            let _ = stuck.send(silence);
        })
        .expect("a thread");
        drop(watch);
        let answer = seen.recv_timeout(3 * LIMIT);
        assert_eq!(answer, Err(mpsc::RecvTimeoutError::Disconnected), "the thread has ended without a call");
    }
}
