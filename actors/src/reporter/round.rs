//! The rounds of the Reporter: wait for a token, ask what is pending, post it, have it noted.

use super::{FEW, REPORTS_MAX, ReporterParts, TICK_MAX, bucket::Bucket};
use crate::ports::room::RoomError;
use actix::{Message, Recipient};
use std::{cell::RefCell, rc::Rc, time::Duration};
use tidegate_schemas::{
    messages::outbox::{PendingReports, ReportBatch, Reported},
    view::ReporterObservation,
};
use tokio::time::{Instant, sleep, timeout};

/// How long the Outbox may take to answer.
const ASK_LIMIT: Duration = Duration::from_secs(10);
/// How long one notice may take, with log-in and the making of the room: above all limits of the room's own.
const POST_LIMIT: Duration = Duration::from_secs(900);
/// First pause while the homeserver can't be reached.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// Longest pause while the homeserver can't be reached: 60 s with its jitter.
const RETRY_MAX: Duration = Duration::from_secs(50);
/// Pause after a refusal: an operator has to act.
const REFUSED_PAUSE: Duration = Duration::from_secs(300);
/// No request to wait is believed beyond this.
const LIMITED_MAX: Duration = Duration::from_secs(3_600);
/// Pause when the Outbox gives no answer.
const OUTBOX_PAUSE: Duration = Duration::from_secs(1);

struct Rounds {
    parts: ReporterParts,
    seen: Rc<RefCell<ReporterObservation>>,
    bucket: Bucket,
    /// How many waited behind the last notice.
    behind: u64,
    retry: Duration,
}

/// Rounds, for ever.
pub(super) async fn run(parts: ReporterParts, seen: Rc<RefCell<ReporterObservation>>) {
    let bell = parts.bell.clone();
    let bucket = Bucket::full(Instant::now());
    let mut rounds = Rounds { parts, seen, bucket, behind: 0, retry: RETRY_FIRST };
    loop {
        match rounds.next_batch().await {
            Some(batch) => rounds.deliver(batch).await,
            None => {
                rounds.behind = 0;
                bell.wait_at_most(TICK_MAX).await;
            }
        }
    }
}

/// Asks a line below, again and again until it answers: if it is gone, this actor is about to be restarted anyway.
async fn insist<M, T, E>(to: &Recipient<M>, message: M) -> T
where
    M: Message<Result = Result<T, E>> + Clone + Send + 'static,
    T: Send,
    E: Send + std::fmt::Display,
{
    loop {
        match timeout(ASK_LIMIT, to.send(message.clone())).await {
            Ok(Ok(Ok(answer))) => return answer,
            Ok(Ok(Err(error))) => tracing::warn!(%error, "the outbox could not serve the reporter; it asks again"),
            Ok(Err(_)) | Err(_) => {}
        }
        sleep(OUTBOX_PAUSE).await;
    }
}

impl Rounds {
    /// The next range to post, when a notice may be sent.
    async fn next_batch(&mut self) -> Option<ReportBatch> {
        let wait = self.bucket.wait(Instant::now());
        let scarce = !wait.is_zero();
        if scarce {
            sleep(wait).await;
        }
        // What gathered while notices are scarce goes out together.
        let count_max = if self.behind > FEW || scarce { REPORTS_MAX } else { 1 };
        insist(&self.parts.pending, PendingReports { count_max }).await
    }

    /// Posts a range and has it noted; or waits as long as its failure asks for.
    async fn deliver(&mut self, batch: ReportBatch) {
        let (last, more, count) = (batch.last, batch.more, batch.reports.len() as u64);
        self.behind = more;
        if count == 0 {
            // Its records can't be read any more: there is nothing to tell.
            insist(&self.parts.reported, Reported { last, event_id: String::new() }).await;
            return;
        }
        self.bucket.take(Instant::now());
        let posted = match timeout(POST_LIMIT, self.parts.room.post(batch)).await {
            Ok(posted) => posted,
            Err(_) => Err(RoomError::Unavailable("it did not answer in time".into())),
        };
        match posted {
            Ok(event_id) => {
                insist(&self.parts.reported, Reported { last, event_id }).await;
                self.retry = RETRY_FIRST;
                let mut seen = self.seen.borrow_mut();
                seen.events_sent += 1;
                seen.reports_sent += count;
                if seen.last_error.take().is_some() {
                    tracing::info!("the room is told of deliveries again");
                }
            }
            Err(error) => self.fail(error).await,
        }
    }

    async fn fail(&mut self, error: RoomError) {
        let wait = match &error {
            RoomError::Limited { wait } => {
                let wait = (*wait).min(LIMITED_MAX);
                self.bucket.empty_until(Instant::now() + wait);
                // Many wake at the same moment when a server says when; so a little later.
                wait + Duration::from_secs_f64(self.parts.entropy.unit())
            }
            RoomError::Unavailable(_) => {
                let wait = self.retry.mul_f64(1.0 + 0.2 * self.parts.entropy.unit());
                self.retry = (self.retry * 2).min(RETRY_MAX);
                wait
            }
            RoomError::Refused(_) => REFUSED_PAUSE,
        };
        let text = error.to_string();
        let news = self.seen.borrow().last_error.as_deref() != Some(text.as_str());
        if news {
            tracing::warn!(%error, "the room could not be told of deliveries; it is tried again");
        }
        self.seen.borrow_mut().last_error = Some(text);
        sleep(wait).await;
    }
}
