//! What becomes of one publication: routed, handed to the Outbox, and the reply read.

use super::{Floor, QUARANTINED_TOPIC_BYTES_MAX, signals::heard};
use crate::ports::source::AckToken;
use futures_util::{FutureExt, future::LocalBoxFuture};
use tidegate_schemas::{
    messages::{
        outbox::{Accepted, Enqueue, EnqueueError, Ignore, Quarantine},
        registry::RegistrySnapshot,
    },
    submission::{Origin, Publication, QuarantineReason, Redelivery},
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
    /// Nothing is on disk: it must not be acknowledged.
    Failed(String),
}

/// A publication with its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settled {
    pub token: Option<AckToken>,
    pub verdict: Verdict,
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
        return verdict.map(move |verdict| Settled { token, verdict }).boxed_local();
    }
    if publication.retained && !registry.routes.wants_retained(&publication.topic) {
        return ignore(floor, publication.redelivery).map(move |verdict| Settled { token, verdict }).boxed_local();
    }
    let metadata = quarantine_of(&publication);
    let routed = registry.routes.route(&publication).and_then(|submission| {
        let registered = registry.destinations.get(&submission.destination);
        let agreement = &registered.ok_or(QuarantineReason::UnknownDestination)?.destination.agreement;
        Ok(Enqueue {
            submission,
            limits: agreement.limits,
            break_glass_per_hour: agreement.break_glass.map(|allowed| allowed.per_hour),
        })
    });
    let verdict = match routed {
        Ok(enqueue) => take_custody(floor, enqueue, metadata),
        Err(reason) => quarantine(floor, metadata.because(reason)),
    };
    verdict.map(move |verdict| Settled { token, verdict }).boxed_local()
}

/// At QoS 1 its packet id has to be forgotten before it is acknowledged, else it could stand for an earlier publication still.
pub(super) fn ignore(floor: &Floor, redelivery: Option<Redelivery>) -> LocalBoxFuture<'static, Verdict> {
    let Some(redelivery) = redelivery else { return std::future::ready(Verdict::RetainedIgnored).boxed_local() };
    let reply = floor.ignore.send(Ignore { redelivery });
    async move {
        match reply.await {
            Ok(Ok(())) => Verdict::RetainedIgnored,
            Ok(Err(error)) => Verdict::Failed(error.to_string()),
            Err(_) => Verdict::Failed("the outbox has ended".to_owned()),
        }
    }
    .boxed_local()
}

fn take_custody(floor: &Floor, enqueue: Enqueue, metadata: Metadata) -> LocalBoxFuture<'static, Verdict> {
    let reply = floor.enqueue.send(enqueue);
    let floor = floor.clone();
    async move {
        match reply.await {
            Ok(Ok(Accepted { duplicate: false, .. })) => Verdict::Accepted,
            Ok(Ok(Accepted { duplicate: true, .. })) => Verdict::Duplicate,
            Ok(Err(EnqueueError::Refused { recorded: true, .. })) => Verdict::Refused,
            Ok(Err(EnqueueError::Refused { recorded: false, .. })) => {
                Verdict::Failed("a refusal could not be recorded".to_owned())
            }
            // No broker's publication carries a key; should one ever be refused for it, it must not come for ever.
            Ok(Err(EnqueueError::KeyReused)) => quarantine(&floor, metadata.because(QuarantineReason::Malformed)).await,
            Ok(Err(error @ (EnqueueError::Store(_) | EnqueueError::GatewayFull(_)))) => {
                Verdict::Failed(error.to_string())
            }
            Err(_) => Verdict::Failed("the outbox has ended".to_owned()),
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
