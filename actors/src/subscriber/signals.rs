//! Signals over MQTT: a publication on `PREFIX/destinations/ALIAS/signal` becomes a `Signal` to the Outbox, and is acknowledged when that is on
//! disk. It is no message: it is in no queue and in no account. What is no signal, and what the agreement does not honour, is quarantined with
//! its reason, metadata alone, so that the broker doesn't send it for ever and an operator can see it.
//!
//! Who may publish there is the broker's to say. A retained signal is ignored: it would be said anew with every connection. One that
//! waited at the broker holds no longer than its message expiry (MQTT 5) has left.

use super::{
    Floor,
    verdict::{Verdict, ignore, quarantine, quarantine_of},
};
use futures_util::{FutureExt, future::LocalBoxFuture};
use tidegate_schemas::{
    messages::{
        outbox::{Signal, SignalError, SignalSource},
        registry::RegistrySnapshot,
    },
    signal::SignalBody,
    submission::{Publication, QuarantineReason},
    tidings::Own,
};

/// What is subscribed to: the routes' filters, and that of signals where they are taken.
pub(super) fn filters(floor: &Floor, registry: &RegistrySnapshot) -> Vec<String> {
    let mut filters = registry.routes.subscriptions();
    filters.extend(floor.signals.as_ref().map(|_| floor.tidings.signal_filter()));
    filters
}

/// Hands a signal over; `None` when the publication is none, by its topic.
pub(super) fn heard(
    floor: &Floor,
    registry: &RegistrySnapshot,
    publication: &Publication,
) -> Option<LocalBoxFuture<'static, Verdict>> {
    let signals = floor.signals.as_ref()?;
    let Some(Own::Signal(alias)) = floor.tidings.own(&publication.topic) else { return None };
    if publication.retained {
        return Some(ignore(floor, publication.redelivery.clone(), Verdict::RetainedIgnored));
    }
    let metadata = quarantine_of(publication);
    let now = floor.clock.trusted().then(|| floor.clock.now());
    let said = SignalBody::parse(publication.payload.reveal()).and_then(|body| body.word(now));
    let known = alias.ok_or(QuarantineReason::BadDestination).and_then(|destination| {
        let word = said.map_err(|_| QuarantineReason::BadSignal)?;
        let registered = registry.destinations.get(&destination).ok_or(QuarantineReason::UnknownDestination)?;
        Ok((destination, word, registered.destination.agreement.signal))
    });
    let (destination, word, policy) = match known {
        Ok(known) => known,
        Err(reason) => return Some(quarantine(floor, metadata.because(reason))),
    };
    let word = publication.expiry_s.map_or(word, |left_s| word.at_most(left_s));
    let message = Signal { destination, word, policy, from: SignalSource::Mqtt, sequence: None };
    // Its packet id has to be forgotten, too; both are in the mailbox before this returns.
    let heard = signals.send(message);
    let forgotten = ignore(floor, publication.redelivery.clone(), Verdict::Signalled);
    let floor = floor.clone();
    Some(
        async move {
            match heard.await {
                Ok(Ok(_)) => forgotten.await,
                Ok(Err(SignalError::Store(error))) => Verdict::Failed(error.to_string()),
                Ok(Err(SignalError::NotAccepted | SignalError::TooMany { .. } | SignalError::Repeated)) => {
                    quarantine(&floor, metadata.because(QuarantineReason::SignalNotHonoured)).await
                }
                Err(_) => Verdict::Failed("the outbox has ended".to_owned()),
            }
        }
        .boxed_local(),
    )
}
