//! A room that a test commands: it keeps events by transaction id as a homeserver does, limits the rate as Synapse does, and fails
//! when told to.

use crate::ports::room::{Room, RoomError};
use futures_util::future::BoxFuture;
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tidegate_schemas::messages::outbox::ReportBatch;
use tokio::time::Instant;

/// What happens to one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It is answered with this error and has no effect.
    Error(RoomError),
    /// The event is made, and the answer gets lost.
    LostAnswer,
    /// The room's code panics.
    Panic,
    /// No answer ever comes.
    Hang,
}

/// An event of the room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its id.
    pub id: String,
    /// What it tells.
    pub batch: ReportBatch,
    /// When it was made.
    pub at: Instant,
}

/// The room. Clones are the same room; it outlives any Reporter.
#[derive(Debug, Clone, Default)]
pub struct FakeRoom(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    events: Vec<Event>,
    by_transaction: HashMap<String, String>,
    script: VecDeque<Option<Fault>>,
    limit: Option<Limit>,
    away: bool,
    requests: u64,
    limited: u64,
}

/// Synapse's limiter: what was done leaks away at a rate, and may not exceed a number.
#[derive(Debug)]
struct Limit {
    per_second: f64,
    burst: f64,
    done: f64,
    at: Instant,
}

impl Limit {
    fn admit(&mut self, now: Instant) -> Result<(), Duration> {
        self.done = (self.done - now.duration_since(self.at).as_secs_f64() * self.per_second).max(0.0);
        self.at = now;
        if self.done <= self.burst - 1.0 {
            self.done += 1.0;
            Ok(())
        } else {
            Err(Duration::from_secs_f64((self.done - self.burst + 1.0) / self.per_second))
        }
    }
}

impl FakeRoom {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Can't be reached at all, or can again.
    pub fn set_away(&self, away: bool) {
        self.lock().away = away;
    }
    /// Limits the rate; Synapse's default is 0.2 a second, 10 in a burst.
    pub fn limit(&self, per_second: f64, burst: f64) {
        self.lock().limit = Some(Limit { per_second, burst, done: 0.0, at: Instant::now() });
    }
    /// What happens to the next requests, one by one; `None` lets one pass.
    pub fn script(&self, faults: impl IntoIterator<Item = Option<Fault>>) {
        self.lock().script.extend(faults);
    }
    /// Forgets what was still to happen.
    pub fn heal(&self) {
        self.lock().script.clear();
    }
    /// The events, in the order in which they were made.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.lock().events.clone()
    }
    /// Ledger numbers that the room was told, in order.
    #[must_use]
    pub fn told(&self) -> Vec<u64> {
        self.lock().events.iter().flat_map(|event| event.batch.reports.iter().map(|report| report.no)).collect()
    }
    /// Requests, with those that failed.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.lock().requests
    }
    /// Requests that the rate limit turned away.
    #[must_use]
    pub fn limited(&self) -> u64 {
        self.lock().limited
    }

    fn receive(&self, batch: ReportBatch) -> Result<String, RoomError> {
        let mut state = self.lock();
        // As Synapse does: the limit comes first, a known transaction id next, whatever the content.
        let now = Instant::now();
        if let Some(Err(wait)) = state.limit.as_mut().map(|limit| limit.admit(now)) {
            state.limited += 1;
            return Err(RoomError::Limited { wait });
        }
        if let Some(id) = state.by_transaction.get(&batch.transaction_id) {
            return Ok(id.clone());
        }
        let id = format!("$event-{}", state.events.len() + 1);
        state.by_transaction.insert(batch.transaction_id.clone(), id.clone());
        state.events.push(Event { id: id.clone(), batch, at: now });
        Ok(id)
    }
}

impl Room for FakeRoom {
    fn post(&self, batch: ReportBatch) -> BoxFuture<'static, Result<String, RoomError>> {
        let room = self.clone();
        Box::pin(async move {
            // A homeserver on the same machine needs some milliseconds.
            tokio::time::sleep(Duration::from_millis(15)).await;
            let fault = {
                let mut state = room.lock();
                state.requests += 1;
                if state.away {
                    return Err(RoomError::Unavailable("no route to the homeserver".into()));
                }
                state.script.pop_front().flatten()
            };
            match fault {
                None => room.receive(batch),
                Some(Fault::Error(error)) => Err(error),
                Some(Fault::LostAnswer) => {
                    room.receive(batch)?;
                    tokio::time::sleep(Duration::from_millis(15)).await;
                    Err(RoomError::Unavailable("the connection ended before the answer".into()))
                }
                Some(Fault::Panic) => panic!("told to by the test"),
                Some(Fault::Hang) => std::future::pending().await,
            }
        })
    }
}
