//! What becomes of one publication: routed, handed to the Outbox, and the reply read.

use super::{Floor, QUARANTINED_TOPIC_BYTES_MAX, signals::heard};
use crate::ports::source::{AckToken, Announcement};
use bytes::Bytes;
use futures_util::{FutureExt, future::LocalBoxFuture};
use std::sync::Arc;
use tidegate_schemas::{
    messages::{
        outbox::{Accepted, Enqueue, EnqueueError, Ignore, Quarantine},
        registry::RegistrySnapshot,
    },
    submission::{Origin, Publication, QuarantineReason, Redelivery, ReplyTo, Submission},
    tidings::ReceiptTiding,
};

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// In custody.
    Accepted,
    /// It was in custody already.
    Duplicate,
    /// Its metadata is kept.
    Quarantined,
    /// The refusal is recorded.
    Refused,
    /// A signal, on disk.
    Signalled,
    /// From the broker's retained store, and not asked for.
    RetainedIgnored,
    /// Below the gateway's own prefix: no reading.
    OwnIgnored,
    /// Nothing is on disk: it must not be acknowledged.
    Failed(String),
}

/// A publication with its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settled {
    pub token: Option<AckToken>,
    pub verdict: Verdict,
    /// What its device is to be told.
    pub receipt: Option<Announcement>,
    /// Its response topic may not be answered.
    pub reply_refused: bool,
}

impl Settled {
    fn silent(token: Option<AckToken>, verdict: Verdict) -> Self {
        Self { token, verdict, receipt: None, reply_refused: false }
    }
}

/// Hands the publication over; resolves when its fate is on disk.
///
/// The request enters the Outbox's mailbox before this returns, so that the order of calls is the order of custody (OR-1).
pub(super) fn hand_over(
    floor: &Floor,
    registry: &RegistrySnapshot,
    publication: Publication,
    token: Option<AckToken>,
) -> LocalBoxFuture<'static, Settled> {
    if let Some(verdict) = heard(floor, registry, &publication) {
        return verdict.map(move |verdict| Settled::silent(token, verdict)).boxed_local();
    }
    // Signals were taken before; nothing else of our own comes from outside.
    if floor.tidings.own(&publication.topic).is_some() {
        let ignored = ignore(floor, publication.redelivery, Verdict::OwnIgnored);
        return ignored.map(move |verdict| Settled::silent(token, verdict)).boxed_local();
    }
    if publication.retained && !registry.routes.wants_retained(&publication.topic) {
        let ignored = ignore(floor, publication.redelivery, Verdict::RetainedIgnored);
        return ignored.map(move |verdict| Settled::silent(token, verdict)).boxed_local();
    }
    let metadata = quarantine_of(&publication);
    let routed = registry.routes.route(&publication).and_then(|submission| {
        let terms = registry.intake(&submission.destination).ok_or(QuarantineReason::UnknownDestination)?;
        let break_glass_per_hour = terms.break_glass.map(|allowed| allowed.per_hour);
        // What the broker can't redeliver is in nobody's way.
        let stream = token.map(|token| token.connection);
        Ok(Enqueue { submission, limits: terms.limits, break_glass_per_hour, stream })
    });
    match routed {
        Ok(mut enqueue) => {
            let reply_refused = refuse_reply(floor, registry, &mut enqueue.submission);
            let receipt_to = receipt_to(floor, registry, &enqueue.submission);
            let clock = Arc::clone(&floor.clock);
            let custody = take_custody(floor, enqueue, metadata);
            let settled = move |(verdict, told): Taken| {
                let receipt = receipt_to.zip(told).map(|(to, told)| {
                    let time = clock.trusted().then(|| clock.now());
                    announcement(to, &told.body(time))
                });
                Settled { token, verdict, receipt, reply_refused }
            };
            custody.map(settled).boxed_local()
        }
        Err(reason) => {
            let kept = quarantine(floor, metadata.because(reason));
            kept.map(move |verdict| Settled::silent(token, verdict)).boxed_local()
        }
    }
}

/// A message keeps no response topic that may not be answered. True if it had one.
fn refuse_reply(floor: &Floor, registry: &RegistrySnapshot, submission: &mut Submission) -> bool {
    let Some(reply_to) = &submission.reply_to else { return false };
    let Err(refusal) = floor.tidings.may_answer(reply_to, &submission.device, &registry.routes) else { return false };
    tracing::debug!(device = %submission.device, %refusal, "a response topic is not answered; its message is taken");
    submission.reply_to = None;
    true
}

/// Where its device hears of it. One whose response topic was refused hears where devices without one do.
fn receipt_to(floor: &Floor, registry: &RegistrySnapshot, submission: &Submission) -> Option<ReplyTo> {
    let Submission { device, origin, reply_to, .. } = submission;
    floor.tidings.receipt_to(device, *origin, reply_to.as_ref(), &registry.routes)
}

/// A receipt, as it is published.
fn announcement(to: ReplyTo, body: &str) -> Announcement {
    let ReplyTo { topic, correlation } = to;
    Announcement { topic, payload: Bytes::copy_from_slice(body.as_bytes()), retained: false, correlation }
}

/// What became of a message, and what its device is told of it.
type Taken = (Verdict, Option<ReceiptTiding>);

/// At QoS 1 its packet id has to be forgotten before it is acknowledged, else it could stand for an earlier publication still.
pub(super) fn ignore(
    floor: &Floor,
    redelivery: Option<Redelivery>,
    verdict: Verdict,
) -> LocalBoxFuture<'static, Verdict> {
    let Some(redelivery) = redelivery else { return std::future::ready(verdict).boxed_local() };
    let reply = floor.ignore.send(Ignore { redelivery });
    async move {
        match reply.await {
            Ok(Ok(())) => verdict,
            Ok(Err(error)) => Verdict::Failed(error.to_string()),
            Err(_) => Verdict::Failed("the outbox has ended".to_owned()),
        }
    }
    .boxed_local()
}

fn take_custody(floor: &Floor, enqueue: Enqueue, metadata: Metadata) -> LocalBoxFuture<'static, Taken> {
    let reply = floor.enqueue.send(enqueue);
    let floor = floor.clone();
    async move {
        match reply.await {
            Ok(Ok(Accepted { duplicate, id, .. })) => {
                let verdict = if duplicate { Verdict::Duplicate } else { Verdict::Accepted };
                (verdict, Some(ReceiptTiding::accepted(id)))
            }
            Ok(Err(EnqueueError::Refused { recorded: true, limit })) => {
                (Verdict::Refused, Some(ReceiptTiding::refused(limit)))
            }
            Ok(Err(EnqueueError::Refused { recorded: false, .. })) => {
                (Verdict::Failed("a refusal could not be recorded".to_owned()), None)
            }
            // No broker's publication carries a key; should one ever be refused for it, it must not come for ever.
            Ok(Err(EnqueueError::KeyReused)) => {
                (quarantine(&floor, metadata.because(QuarantineReason::Malformed)).await, None)
            }
            Ok(Err(error @ (EnqueueError::Store(_) | EnqueueError::GatewayFull(_)))) => {
                (Verdict::Failed(error.to_string()), None)
            }
            Err(_) => (Verdict::Failed("the outbox has ended".to_owned()), None),
        }
    }
    .boxed_local()
}

pub(super) fn quarantine(floor: &Floor, message: Quarantine) -> LocalBoxFuture<'static, Verdict> {
    let reply = floor.quarantine.send(message);
    async move {
        match reply.await {
            Ok(Ok(())) => Verdict::Quarantined,
            Ok(Err(error)) => Verdict::Failed(error.to_string()),
            Err(_) => Verdict::Failed("the outbox has ended".to_owned()),
        }
    }
    .boxed_local()
}

/// What quarantine keeps of a publication.
pub(super) struct Metadata {
    topic: String,
    body_bytes: u64,
    origin: Origin,
    redelivery: Option<Redelivery>,
}

impl Metadata {
    pub fn because(self, reason: QuarantineReason) -> Quarantine {
        let Self { topic, body_bytes, origin, redelivery } = self;
        Quarantine { reason, topic, body_bytes, origin, redelivery }
    }
}

pub(super) fn quarantine_of(publication: &Publication) -> Metadata {
    let mut end = publication.topic.len().min(QUARANTINED_TOPIC_BYTES_MAX);
    while !publication.topic.is_char_boundary(end) {
        end -= 1;
    }
    Metadata {
        topic: publication.topic[..end].to_owned(),
        body_bytes: u64::try_from(publication.payload.len()).unwrap_or(u64::MAX),
        origin: publication.origin,
        redelivery: publication.redelivery.clone(),
    }
}
