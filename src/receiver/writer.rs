//! The writer's thread: group commit. It takes what is waiting, writes it with one sync, then answers everyone; the batch sizes
//! itself, without a timer.
//!
//! Life-cycle: started once; ends when every [`WriterHandle`] is gone, or at the first error, after which nothing more is taken and
//! [`Writer::ended`] tells why.

use super::store::{Kept, NewReading, Store, StoreError};
use std::{sync::Arc, thread, time::Duration};
use tidegate_actors::{outbox::custody_clock::CustodyClock, ports::clock::Clock};
use tokio::sync::{mpsc, oneshot, watch};

/// Requests that may wait for the writer.
const WAITING_MAX: usize = 64;
/// Readings of one commit, about.
const COMMIT_READINGS_MAX: usize = 1_000;
/// Body bytes of one commit, about (sled's log segments are 512 KiB, and a write must fit well).
const COMMIT_BYTES_MAX: usize = 192 * 1024;
/// How long a request waits for the writer.
const PATIENCE: Duration = Duration::from_secs(30);

struct Request {
    readings: Vec<NewReading>,
    answer: oneshot::Sender<Vec<Kept>>,
}

impl AsRef<[NewReading]> for Request {
    fn as_ref(&self) -> &[NewReading] {
        &self.readings
    }
}

/// The writer did not take it, or did not finish: nothing is promised, and the gateway sends it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the store takes nothing now")]
pub(crate) struct Unavailable;

/// The way to the writer; a cheap copy.
#[derive(Clone)]
pub(crate) struct WriterHandle {
    requests: mpsc::Sender<Request>,
    newest: watch::Receiver<u64>,
}

/// The running writer.
pub(crate) struct Writer {
    /// The way to it.
    pub(crate) handle: WriterHandle,
    /// Ready when it has ended: `Ok` in order, an error of the store, or a closed channel if it panicked.
    pub(crate) ended: oneshot::Receiver<Result<(), StoreError>>,
}

impl WriterHandle {
    /// Stores readings; returns when they are safe on disk.
    pub(crate) async fn store(&self, readings: Vec<NewReading>) -> Result<Vec<Kept>, Unavailable> {
        let (answer, answered) = oneshot::channel();
        let exchange = async {
            self.requests.send(Request { readings, answer }).await.map_err(|_| Unavailable)?;
            answered.await.map_err(|_| Unavailable)
        };
        tokio::time::timeout(PATIENCE, exchange).await.unwrap_or(Err(Unavailable))
    }

    /// Changes whenever something new is on disk.
    pub(crate) fn news(&self) -> watch::Receiver<u64> {
        self.newest.clone()
    }
}

/// Starts the writer of this store.
pub(crate) fn start(store: Store, clock: Arc<dyn Clock>) -> std::io::Result<Writer> {
    let (requests, incoming) = mpsc::channel(WAITING_MAX);
    let (news, newest) = watch::channel(0);
    let (end, ended) = oneshot::channel();
    thread::Builder::new().name("receiver-writer".to_owned()).spawn(move || {
        let result = run(store, clock.as_ref(), incoming, &news);
        // Nobody listens any more when the receiver itself is going down.
        let _ = end.send(result);
    })?;
    Ok(Writer { handle: WriterHandle { requests, newest }, ended })
}

fn run(
    mut store: Store,
    clock: &dyn Clock,
    mut incoming: mpsc::Receiver<Request>,
    news: &watch::Sender<u64>,
) -> Result<(), StoreError> {
    // Seen with every commit, which is often enough for a step of the wall clock to show.
    let (last, record) = store.last_moment();
    let mut age = CustodyClock::resume(last, record, clock.now(), clock.trusted());
    while let Some(first) = incoming.blocking_recv() {
        let group = gather(first, &mut incoming);
        let moment = age.observe(clock.now(), clock.trusted());
        let kept = store.commit(&group, moment, age.record().clone())?;
        if kept.iter().flatten().any(|kept| matches!(kept, Kept::Stored { .. })) {
            news.send_modify(|count| *count += 1);
        }
        for (request, kept) in group.into_iter().zip(kept) {
            // A client that went away sends again.
            let _ = request.answer.send(kept);
        }
    }
    Ok(())
}

fn gather(first: Request, incoming: &mut mpsc::Receiver<Request>) -> Vec<Request> {
    let weigh = |request: &Request| request.readings.iter().map(|reading| reading.body.len()).sum::<usize>();
    let (mut readings, mut bytes) = (first.readings.len(), weigh(&first));
    let mut group = vec![first];
    while readings < COMMIT_READINGS_MAX && bytes < COMMIT_BYTES_MAX {
        let Ok(next) = incoming.try_recv() else { break };
        readings += next.readings.len();
        bytes += weigh(&next);
        group.push(next);
    }
    group
}
