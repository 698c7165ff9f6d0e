//! How each destination is: looked at, compared with what the broker has, published.

use super::{ANNOUNCE_LIMIT, AT_ONCE, HeraldParts, RETRY, STATES_PER_NUMBER, Seen, TICK_MAX, ask};
use crate::ports::source::{AnnounceError, Announcement};
use bytes::Bytes;
use futures_util::{StreamExt, stream::FuturesUnordered};
use jiff::Timestamp;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};
use tidegate_schemas::{
    agreement::{Circumstances, Why},
    id::DestinationId,
    messages::{
        gateway::Observe,
        outbox::{Loads, Reserve},
        registry::{Current, RegisteredDestination, RegistrySnapshot},
        uplink::Status,
    },
    tidings::{Outlook, StateTiding},
    view::{DestinationLoad, DispatcherObservation, Observation, UplinkStatus},
};
use tokio::time::{Instant, timeout};

/// Time between two looks, and so between two states of one destination.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long deliveries have to be under way before it is worth telling: one reading that goes straight through is no news.
const DRAINING_AFTER: Duration = Duration::from_secs(2);

/// What the broker has, and what is remembered between looks.
pub(super) struct States {
    parts: HeraldParts,
    seen: Seen,
    /// The connection on which they were told.
    connection: Option<u64>,
    /// What the broker was told; nothing that counts, if it was on an earlier connection.
    told: BTreeMap<DestinationId, Option<StateTiding>>,
    /// Whose state was taken away on this connection.
    retracted: BTreeSet<DestinationId>,
    /// Since when deliveries are under way.
    busy_since: HashMap<DestinationId, Instant>,
    numbers: Option<Numbers>,
    not_before: Instant,
}

/// The number that was reserved, and how many states of each destination were made of it.
struct Numbers {
    reserved: u64,
    used: HashMap<DestinationId, u64>,
}

impl Numbers {
    /// The next of a destination; `None` when all are used up.
    fn next(&mut self, destination: &DestinationId) -> Option<u64> {
        let used = self.used.entry(destination.clone()).or_default();
        let seq = self.reserved.checked_mul(STATES_PER_NUMBER)?.checked_add(*used)?;
        *used += 1;
        (*used <= STATES_PER_NUMBER).then_some(seq)
    }
}

/// What is looked at, at one moment.
struct Present {
    now: Timestamp,
    clock_trusted: bool,
    loads: HashMap<DestinationId, DestinationLoad>,
    uplink: Option<UplinkStatus>,
    dispatcher: DispatcherObservation,
}

/// A state to be told; none takes the retained one away.
type News = (DestinationId, Option<StateTiding>, Announcement);

impl States {
    pub fn new(parts: HeraldParts, seen: Seen) -> Self {
        Self {
            parts,
            seen,
            connection: None,
            told: BTreeMap::new(),
            retracted: BTreeSet::new(),
            busy_since: HashMap::new(),
            numbers: None,
            not_before: Instant::now(),
        }
    }

    /// One look. Returns how long until the next one is needed.
    pub async fn look(&mut self) -> Duration {
        if !self.parts.tidings.states {
            return TICK_MAX;
        }
        // The bell rings when there is one.
        let Some(connection) = self.parts.source.connection() else { return TICK_MAX };
        let early = self.not_before.saturating_duration_since(Instant::now());
        if !early.is_zero() {
            return early;
        }
        self.not_before = Instant::now() + LOOK_EVERY;
        if self.connection.replace(connection) != Some(connection) {
            self.told.values_mut().for_each(|told| *told = None);
            self.retracted.clear();
        }
        let Some((snapshot, present)) = self.ask_below().await else { return RETRY };
        let (tidings, next) = self.compare(&snapshot, &present);
        let Some(news) = self.number(tidings, &present).await else { return RETRY };
        let all_told = self.publish(news).await;
        self.seen.borrow_mut().states_told = self.told.values().flatten().count() as u64;
        if all_told { next } else { RETRY }
    }

    async fn ask_below(&self) -> Option<(std::sync::Arc<RegistrySnapshot>, Present)> {
        let snapshot = ask(&self.parts.registry, Current).await?;
        let loads = ask(&self.parts.loads, Loads).await?;
        let uplink = match &self.parts.uplink {
            Some(uplink) => ask(uplink, Status).await,
            None => None,
        };
        let dispatcher = match &self.parts.dispatcher {
            Some(dispatcher) => ask(dispatcher, Observe).await,
            None => None,
        };
        let dispatcher = match dispatcher {
            Some(Observation::Dispatcher(seen)) => seen,
            _ => DispatcherObservation::default(),
        };
        let present = Present {
            now: self.parts.clock.now(),
            clock_trusted: self.parts.clock.trusted(),
            loads: loads.into_iter().map(|load| (load.destination.clone(), load)).collect(),
            uplink,
            dispatcher,
        };
        Some((snapshot, present))
    }

    /// What the broker does not have yet, and how long until something changes by itself.
    fn compare(
        &mut self,
        snapshot: &RegistrySnapshot,
        present: &Present,
    ) -> (Vec<(DestinationId, Option<StateTiding>)>, Duration) {
        let mut next = TICK_MAX;
        let mut news = Vec::new();
        let out: BTreeSet<&DestinationId> = present.dispatcher.couriers.iter().map(|seen| &seen.destination).collect();
        for (alias, registered) in &snapshot.destinations {
            let load = present.loads.get(alias);
            let waits = load.is_some_and(|load| load.queued > 0);
            let draining = self.is_draining(alias, waits && out.contains(alias));
            let (outlook, holds) = outlook(registered, load, present, draining);
            // Nobody rings at the beginning and at the end of failures and deliveries.
            let look_again = if outlook.open && (waits || draining) { DRAINING_AFTER } else { TICK_MAX };
            next = next.min(holds).min(look_again);
            let tiding = StateTiding::of(&outlook);
            let told = self.told.get(alias).copied().flatten();
            if !told.is_some_and(|told| told.says_the_same_as(&tiding)) {
                news.push((alias.clone(), Some(tiding)));
            }
        }
        // Those that went while nobody could tell have a state at the broker, too; so have those that can't be used any more.
        let unused = snapshot.gone.iter().chain(snapshot.broken.keys());
        let before = unused.filter(|alias| !self.retracted.contains(*alias));
        let gone: BTreeSet<&DestinationId> =
            self.told.keys().filter(|alias| !snapshot.destinations.contains_key(*alias)).chain(before).collect();
        news.extend(gone.into_iter().map(|alias| (alias.clone(), None)));
        (news, next)
    }

    fn is_draining(&mut self, alias: &DestinationId, busy: bool) -> bool {
        if !busy {
            self.busy_since.remove(alias);
            return false;
        }
        self.busy_since.entry(alias.clone()).or_insert_with(Instant::now).elapsed() >= DRAINING_AFTER
    }

    /// Gives each its number; reserves one on disk if there is none. `None`: the Outbox gave none.
    async fn number(
        &mut self,
        tidings: Vec<(DestinationId, Option<StateTiding>)>,
        present: &Present,
    ) -> Option<Vec<News>> {
        let time = present.clock_trusted.then_some(present.now);
        let mut news = Vec::with_capacity(tidings.len());
        for (alias, tiding) in tidings {
            let body = match &tiding {
                Some(tiding) => tiding.body(self.next_number(&alias).await?, time),
                None => String::new(),
            };
            let topic = self.parts.tidings.state_topic(&alias);
            let announcement = Announcement { topic, payload: Bytes::from(body), retained: true, correlation: None };
            news.push((alias, tiding, announcement));
        }
        Some(news)
    }

    async fn next_number(&mut self, alias: &DestinationId) -> Option<u64> {
        if let Some(seq) = self.numbers.as_mut().and_then(|numbers| numbers.next(alias)) {
            return Some(seq);
        }
        let reserved = ask(&self.parts.reserve, Reserve { count: 1 }).await?.ok()?;
        self.numbers.insert(Numbers { reserved, used: HashMap::new() }).next(alias)
    }

    /// False if not everything could be told; what was not is told at the next look, if it is still so.
    async fn publish(&mut self, news: Vec<News>) -> bool {
        let mut news = news.into_iter();
        let mut under_way = FuturesUnordered::new();
        loop {
            while under_way.len() < AT_ONCE
                && let Some((alias, tiding, announcement)) = news.next()
            {
                let answer = timeout(ANNOUNCE_LIMIT, self.parts.source.announce(announcement));
                under_way.push(async move { (alias, tiding, answer.await) });
            }
            let Some((alias, tiding, answer)) = under_way.next().await else { return true };
            if let Err(error) = self.note(alias, tiding, answer.unwrap_or(Err(AnnounceError::Lost))) {
                self.seen.borrow_mut().last_error = Some(error.to_string());
                return false;
            }
        }
    }

    fn note(
        &mut self,
        alias: DestinationId,
        tiding: Option<StateTiding>,
        answer: Result<(), AnnounceError>,
    ) -> Result<(), AnnounceError> {
        let mut seen = self.seen.borrow_mut();
        match answer {
            Ok(()) => {
                seen.states_published += 1;
                seen.last_error = None;
            }
            // It is not asked for again until it changes.
            Err(error @ AnnounceError::Refused(_)) => {
                seen.refused += 1;
                seen.last_error = Some(error.to_string());
            }
            Err(error) => return Err(error),
        }
        match tiding {
            Some(tiding) => {
                self.retracted.remove(&alias);
                self.told.insert(alias, Some(tiding));
            }
            None => {
                self.told.remove(&alias);
                self.retracted.insert(alias);
            }
        }
        Ok(())
    }
}

/// What a state is made from, and for how long the agreement's part of it holds.
///
/// For a device it is open while something new may start: what comes within the cutoff waits for the next opening.
fn outlook<'a>(
    registered: &RegisteredDestination,
    load: Option<&'a DestinationLoad>,
    present: &'a Present,
    draining: bool,
) -> (Outlook<'a>, Duration) {
    let Present { now, clock_trusted, .. } = *present;
    let destination = &registered.destination;
    let circumstances = Circumstances {
        at: now,
        clock_trusted,
        paused: load.is_some_and(|load| load.paused),
        signal: load.and_then(|load| load.signal),
    };
    let evaluation = destination.agreement.evaluate(&circumstances);
    let open = evaluation.may_start(now);
    let until = match open {
        true => evaluation.starts_until,
        false => evaluation.next_opening,
    };
    let outlook = Outlook {
        open,
        signalled: evaluation.why == Why::Signalled,
        until,
        next_open: evaluation.next_opening,
        load,
        uplink: present.uplink.as_ref(),
        suspended: present.dispatcher.suspended.contains(&destination.id),
        draining,
        clock_trusted,
    };
    let holds = [until, evaluation.until].into_iter().flatten().min();
    let holds = holds.map(|until| Duration::try_from(until.duration_since(now)).unwrap_or_default());
    (outlook, holds.unwrap_or(TICK_MAX))
}
