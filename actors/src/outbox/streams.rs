//! Streams: what was handed in behind a message that could not be taken is not taken either (OR-1).
//!
//! A broker's connection hands in one publication after the other, without waiting for what becomes of the first. When the first can't be
//! taken (the disk failed, the gateway is full), those behind it are under way already: were they taken, the first would come behind
//! them when the broker sends it again. So its stream ends there, and everything comes again, on a new one.

use super::op::Op;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use tidegate_schemas::messages::outbox::{Accepted, Enqueue, EnqueueError};
use tokio::sync::oneshot::Sender;

/// What an Outbox knows of the streams that hand in to it: the last one in which something could not be taken.
#[derive(Debug, Clone, Default)]
pub(super) struct Streams(Arc<AtomicU64>);

impl Streams {
    /// A message with its place in its stream.
    pub fn place(&self, message: Enqueue, to: Sender<Result<Accepted, EnqueueError>>) -> Op {
        let place = StreamPlace { failed: message.stream.map(|stream| (stream, self.clone())), to: Some(to) };
        Op::Enqueue(Box::new(message), place)
    }
}

/// A message's place in its stream, with its answer's way back. Dropped without an answer, it counts as not taken.
#[derive(Debug)]
pub(super) struct StreamPlace {
    failed: Option<(u64, Streams)>,
    to: Option<Sender<Result<Accepted, EnqueueError>>>,
}

impl StreamPlace {
    /// Whether something before it could not be taken.
    pub fn is_behind_a_failure(&self) -> bool {
        self.failed.as_ref().is_some_and(|(stream, streams)| *stream <= streams.0.load(Ordering::SeqCst))
    }

    /// Answers. Of what is acknowledged to the broker nothing has to come again: a refusal that is on record, and a key, are answers like
    /// any other.
    pub fn answer(mut self, answer: Result<Accepted, EnqueueError>) {
        let is_taken =
            matches!(answer, Ok(_) | Err(EnqueueError::Refused { recorded: true, .. } | EnqueueError::KeyReused));
        if is_taken {
            self.failed = None;
        }
        self.end_stream();
        if let Some(to) = self.to.take() {
            // A receiver that is gone doesn't mind.
            let _ = to.send(answer);
        }
    }

    fn end_stream(&mut self) {
        if let Some((stream, streams)) = self.failed.take() {
            streams.0.fetch_max(stream, Ordering::SeqCst);
        }
    }
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        self.end_stream();
    }
}
