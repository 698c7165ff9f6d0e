//! The intake: one task that runs the source, hands publications over, and acknowledges in order of receipt.

use super::{
    ACKS_LINGER, ACKS_LINGER_MAX, DRAIN_MAX, DrainRequest, EVENTS_MAX, Floor, IN_HAND_MAX, PAUSE_MAX, PAUSE_MIN,
    RECEIPTS_MAX, State,
    signals::filters as subscribed_to,
    verdict::{Settled, Verdict, hand_over},
};
use crate::ports::source::{AckToken, AnnounceError, Announcement, SourceEvent};
use futures_util::{
    FutureExt, StreamExt,
    future::{BoxFuture, Fuse, LocalBoxFuture},
    stream::{FuturesOrdered, FuturesUnordered},
};
use std::{sync::Arc, time::Duration};
use tidegate_schemas::{
    messages::registry::{Current, RegistrySnapshot},
    submission::Publication,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, sleep_until},
};

/// Longest that the Registry may take to answer a bell; its answer comes from memory.
const REGISTRY_ANSWER_MAX: Duration = Duration::from_secs(5);

/// The task of the Subscriber.
pub(super) struct Intake {
    floor: Floor,
    state: State,
    pause: Duration,
    /// Receipts that the broker has not answered yet.
    receipts: FuturesUnordered<BoxFuture<'static, Result<(), AnnounceError>>>,
}

/// Hears the request to end. A dropped sender means that the actor is being dropped, and its task with it.
type Asked = Fuse<oneshot::Receiver<DrainRequest>>;

/// Why a shift, one life of `Source::run`, is over.
enum End {
    /// The topic filters are others now.
    FiltersChanged,
    /// The store failed; nothing of what was in hand may be acknowledged.
    StoreFailed(String),
    /// The source ended by itself.
    SourceEnded,
    /// The gateway wants us to end.
    Asked(DrainRequest),
}

/// One life of `Source::run`, and what is in hand from it.
struct Shift {
    source: Fuse<BoxFuture<'static, ()>>,
    events: mpsc::Receiver<SourceEvent>,
    in_hand: FuturesOrdered<LocalBoxFuture<'static, Settled>>,
}

impl Intake {
    pub fn new(floor: Floor, state: State) -> Self {
        Self { floor, state, pause: PAUSE_MIN, receipts: FuturesUnordered::new() }
    }

    /// Works until it is asked to end, which it answers and then waits to be dropped. Returns only when it can't go on: the
    /// source ended, or the floor is gone.
    pub async fn run(mut self, asked: oneshot::Receiver<DrainRequest>) {
        let mut asked = asked.fuse();
        let Ok(mut registry) = self.floor.registry.send(Current).await else { return };
        loop {
            let end = self.shift(&mut registry, &mut asked).await;
            {
                let mut state = self.state.borrow_mut();
                state.connected = false;
                state.in_hand = 0;
            }
            match end {
                End::FiltersChanged => tracing::info!("the topic filters changed; connecting anew"),
                End::SourceEnded => return,
                End::StoreFailed(reason) => {
                    if let Some(done) = self.rest(&reason, &mut asked).await {
                        return dismissed(done).await;
                    }
                }
                End::Asked(done) => return dismissed(done).await,
            }
        }
    }

    /// Waits after a failed store; returns the request to end if one comes.
    async fn rest(&mut self, reason: &str, asked: &mut Asked) -> Option<DrainRequest> {
        tracing::error!(reason, pause = ?self.pause, "nothing can be taken into custody; the broker keeps it");
        self.state.borrow_mut().last_error =
            Some(format!("the outbox did not take a publication: {reason}; the broker keeps it"));
        let pause = self.pause;
        self.pause = (pause * 2).min(PAUSE_MAX);
        tokio::select! {
            () = sleep(pause) => None,
            Ok(done) = asked => Some(done),
        }
    }

    async fn shift(&mut self, registry: &mut Arc<RegistrySnapshot>, asked: &mut Asked) -> End {
        let filters = subscribed_to(&self.floor, registry);
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let source = if filters.is_empty() {
            self.state.borrow_mut().last_error = Some("no route is configured, so there is nothing to take".to_owned());
            // Keeps the channel open and does nothing, until routes come.
            async move { sender.closed().await }.boxed()
        } else {
            self.floor.source.run(filters.clone(), sender)
        };
        let mut shift = Shift { source: source.fuse(), events, in_hand: FuturesOrdered::new() };
        loop {
            self.state.borrow_mut().in_hand = u64::try_from(shift.in_hand.len()).unwrap_or(u64::MAX);
            tokio::select! {
                biased;
                Some(settled) = shift.in_hand.next(), if !shift.in_hand.is_empty() => {
                    if let Err(reason) = self.settle(settled) {
                        // What is in custody should not come again with what is not.
                        let Shift { source, events, .. } = shift;
                        self.let_acks_leave(&mut Box::pin(unheard(source, events))).await;
                        return End::StoreFailed(reason);
                    }
                }
                Ok(done) = &mut *asked => {
                    self.drain(shift).await;
                    return End::Asked(done);
                }
                () = self.floor.bell.wait() => {
                    if let Some(fresh) = self.ask_registry().await {
                        *registry = fresh;
                    }
                    if subscribed_to(&self.floor, registry) != filters {
                        return End::FiltersChanged;
                    }
                }
                () = &mut shift.source => return End::SourceEnded,
                Some(told) = self.receipts.next(), if !self.receipts.is_empty() => self.note_receipt(told),
                event = shift.events.recv(), if shift.in_hand.len() < IN_HAND_MAX => match event {
                    Some(SourceEvent::Publication { publication, token }) => {
                        shift.in_hand.push_back(self.receive(registry, publication, token));
                    }
                    Some(other) => self.note(&other),
                    None => return End::SourceEnded,
                },
            }
        }
    }

    async fn ask_registry(&self) -> Option<Arc<RegistrySnapshot>> {
        // Without an answer the old snapshot serves; if the Registry fell, the kernel replaces this actor too.
        tokio::time::timeout(REGISTRY_ANSWER_MAX, self.floor.registry.send(Current)).await.ok()?.ok()
    }

    fn receive(
        &self,
        registry: &RegistrySnapshot,
        publication: Publication,
        token: Option<AckToken>,
    ) -> LocalBoxFuture<'static, Settled> {
        self.state.borrow_mut().received += 1;
        hand_over(&self.floor, registry, publication, token)
    }

    /// Counts, and acknowledges what is on disk. An error means that it is not.
    fn settle(&mut self, settled: Settled) -> Result<(), String> {
        let mut state = self.state.borrow_mut();
        match settled.verdict {
            Verdict::Accepted => state.accepted += 1,
            Verdict::Duplicate => state.duplicates += 1,
            Verdict::Quarantined => state.quarantined += 1,
            Verdict::Refused => state.refused += 1,
            Verdict::Signalled => state.signals += 1,
            Verdict::RetainedIgnored => state.retained_ignored += 1,
            Verdict::OwnIgnored => state.own_ignored += 1,
            Verdict::Failed(reason) => return Err(reason),
        }
        state.replies_refused += u64::from(settled.reply_refused);
        drop(state);
        self.pause = PAUSE_MIN;
        // Before the acknowledgement: if the broker has that, it has this.
        if let Some(receipt) = settled.receipt {
            self.tell(receipt);
        }
        if let Some(token) = settled.token
            && !self.floor.source.ack(token)
        {
            self.state.borrow_mut().acks_void += 1;
        }
        Ok(())
    }

    /// Hands a receipt over; its answer is waited for beside everything else.
    fn tell(&self, receipt: Announcement) {
        if self.receipts.len() < RECEIPTS_MAX {
            self.receipts.push(self.floor.source.announce(receipt));
        } else {
            self.state.borrow_mut().receipts_lost += 1;
        }
    }

    fn note_receipt(&self, told: Result<(), AnnounceError>) {
        if let Err(error) = told {
            tracing::debug!(%error, "a device was not told that its message is accepted");
            self.state.borrow_mut().receipts_lost += 1;
        }
    }

    fn note(&self, event: &SourceEvent) {
        let mut state = self.state.borrow_mut();
        match event {
            SourceEvent::Connected { connection, session_present, session_expected } => {
                state.connected = true;
                state.connections += 1;
                self.floor.herald.ring();
                if *session_expected && !session_present {
                    state.sessions_lost += 1;
                    tracing::warn!(connection, "the broker lost our session; what it held for us is gone");
                } else {
                    tracing::info!(connection, session_present, "connected to the broker");
                }
            }
            SourceEvent::Disconnected { reason, taken_over } => {
                state.connected = false;
                if *taken_over {
                    state.taken_over += 1;
                    tracing::warn!(reason, "another client uses our client id");
                } else {
                    tracing::info!(reason, "not connected to the broker");
                }
                state.last_error = Some(reason.clone());
            }
            SourceEvent::Publication { .. } => {}
        }
    }

    /// Takes nothing more, waits for what is in hand, and lets its acknowledgements leave.
    async fn drain(&mut self, shift: Shift) {
        let Shift { source, events, mut in_hand } = shift;
        let mut unheard = Box::pin(unheard(source, events));
        let until = Instant::now() + DRAIN_MAX;
        while !in_hand.is_empty() {
            tokio::select! {
                biased;
                Some(settled) = in_hand.next() => if self.settle(settled).is_err() { break },
                () = sleep_until(until) => break,
                () = &mut unheard => {}
            }
        }
        self.let_acks_leave(&mut unheard).await;
    }

    /// Keeps the connection until the acknowledgements that were given to it have left: what is in custody should not come again, and
    /// behind a broker that sends much at once there may be thousands.
    async fn let_acks_leave(&self, unheard: &mut (impl Future<Output = ()> + Unpin)) {
        let until = Instant::now() + ACKS_LINGER_MAX;
        while self.state.borrow().connected {
            tokio::select! {
                () = sleep(ACKS_LINGER) => {}
                () = &mut *unheard => {}
            }
            if self.floor.source.acks_waiting() == 0 || Instant::now() >= until {
                return;
            }
        }
    }
}

/// Keeps the source going and lets fall what it brings: unacknowledged, so that it stays with the broker. Never ends.
async fn unheard(mut source: Fuse<BoxFuture<'static, ()>>, mut events: mpsc::Receiver<SourceEvent>) {
    loop {
        tokio::select! {
            () = &mut source => {}
            Some(_) = events.recv() => {}
        }
    }
}

/// Says that nothing is in hand, and waits for the actor to stop.
async fn dismissed(done: DrainRequest) {
    // The actor may be gone already.
    let _ = done.send(());
    std::future::pending().await
}
