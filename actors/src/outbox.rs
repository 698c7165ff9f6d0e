//! The Outbox: single writer of everything durable, and custodian of every message from its acknowledgement on.
//!
//! - *Hears* `Enqueue`, `Quarantine`, `Ignore`, `Settle`, `Fail`, `Spend`, `Operate`, `PendingReports`, `Reported`, `Receipted`, `Signal`,
//!   `SetPaused`, `Reserve` (writes), `Check`, `Export`, `Compact`, `CountStats` (long work), `Pick`, `StillQueued`, `PendingReceipts`, `Loads`, `ChangedLoads`, `List`, `Foresee`, `Show`,
//!   `ListQuarantine`, `ListLedger` (reads).
//! - *Asks* the Registry below for lifetimes, once in a sweep.
//! - *Rings* the Dispatcher when something is queued, the Reporter when something ended, the Herald at both.
//! - *If it dies*: everything above restarts; the store is re-attached, not re-opened; what was not answered was not promised.
//!
//! **Group commit.** A handler puts (write, reply channel) into the writer's bounded channel and returns a future. The writer takes
//! what is there, stages it as one batch, commits it with one durable flush on a blocking thread, and answers all. What arrives
//! meanwhile is the next batch: it sizes itself, there is no timer. A reply means "on disk" (CU-1).
//!
//! **One writer.** The writer's memory is only right while nobody else writes, so it holds the store's [`Lease`]: a restarted Outbox
//! waits until the old writer's last commit has ended.
//!
//! **The ledger goes on to an archive.** Every end state has a number and stays in the store up to a limit; a task beside the writer has it
//! archived before that (`archiving`).
//!
//! **Its files** are written anew when they take much more than what they hold (`compacting`); what operators ask to be checked, counted or
//! copied is read beside the writer (`tools`).
//!
//! Limits: `OPS_MAX` writes in the channel (more are refused as unavailable), `GROUP_OPS_MAX` in a group.

pub mod custody_clock;
pub mod examine;
pub mod restored;
pub mod tools;

mod archiving;
mod capacity;
mod compacting;
mod core;
mod damage;
mod entries;
mod foresee;
mod handlers;
mod intake;
mod loads;
mod occupancy;
mod op;
mod openings;
mod pick;
mod read;
mod receipts;
mod redelivery;
mod serials;
mod settle;
mod signal;
mod stage;
mod streams;
mod upkeep;

pub use self::core::Limits;

use self::{
    archiving::archive_loop,
    compacting::compact_loop,
    core::{Core, Tally},
    custody_clock::{CustodyClock, Moment},
    loads::Changes,
    op::Op,
    openings::{Look, Openings, Said, Since},
    streams::Streams,
};
use crate::{
    ports::{clock::Clock, entropy::Entropy, ledger_archive::LedgerArchive, outbox_store::OutboxStore},
    supervision::{Bell, Bells, DeathWatch, OwnedTask},
};
use actix::prelude::*;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tidegate_schemas::{
    agreement::{Destination, ServiceAgreement},
    custody::{ClockRecord, CustodyTime},
    id::DestinationId,
    messages::{
        outbox::{StoreError, Sweep, SweepTerms},
        registry::Current,
    },
    record::DestinationRecord,
    view::OutboxObservation,
};
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::Instant,
};

/// Writes that wait for the writer.
const OPS_MAX: usize = 4_096;
/// Writes of one group.
const GROUP_OPS_MAX: usize = 512;
/// How often messages that outlived their agreement are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(30);
/// How long the Registry may take to answer.
const ASK_LIMIT: Duration = Duration::from_secs(5);
/// After this long a group of writes that is under way is taken for stuck: the disk hangs.
const STUCK: Duration = Duration::from_secs(30);
/// How many couriers' reads of the store go on at once. Each takes a thread of its own, and memory that one thread has freed is of
/// little use to another: with 64 couriers that pick at once, a long drain took several times as much.
const COURIER_READS_AT_ONCE: usize = 2;
/// Mailbox of the Outbox: intake comes in bursts of the broker's whole in-flight window.
const MAILBOX: usize = 2_048;

/// The right to write to a store. One for each store of the process, shared by the incarnations of the Outbox.
pub type Lease = Arc<tokio::sync::Mutex<()>>;

/// What an Outbox is made of.
#[derive(Clone)]
pub struct OutboxParts {
    /// The store, opened once in this process.
    pub store: Arc<dyn OutboxStore>,
    /// Its lease.
    pub lease: Lease,
    /// Where the ledger goes for good; without one it is pruned regardless.
    pub archive: Option<Arc<dyn LedgerArchive>>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Message ids, jitter.
    pub entropy: Arc<dyn Entropy>,
    /// Limits of the outbox as a whole.
    pub limits: Limits,
    /// Bells of the lines above.
    pub bells: Bells,
}

/// The actor.
pub struct Outbox {
    parts: OutboxParts,
    registry: Recipient<Current>,
    ops: Option<mpsc::Sender<Op>>,
    shared: Arc<Mutex<Shared>>,
    streams: Streams,
    courier_reads: Arc<Semaphore>,
    /// Held while it is counted for an operator: that reads all entries, so one at a time.
    counting: Arc<tokio::sync::Mutex<()>>,
    writer: Option<OwnedTask>,
    sweeper: Option<OwnedTask>,
    archivist: Option<OwnedTask>,
    compactor: Option<OwnedTask>,
    watch: DeathWatch,
}

/// What the writer publishes after each group: read without asking the writer.
#[derive(Debug, Clone, Default)]
struct Shared {
    loads: HashMap<u32, (DestinationRecord, Option<u64>)>,
    changes: Changes,
    observation: OutboxObservation,
    custody: Option<CustodyClock>,
    /// The last ledger number whose device has heard of it; none where no receipts are given.
    receipted_no: Option<u64>,
    /// The last ledger number that is on disk; none before the store was read.
    ledger_no: Option<u64>,
    /// Rung when much waits to be archived.
    archive_bell: Bell,
    /// Why the last try to archive failed.
    archive_failure: Option<String>,
    /// Since when the store is being read at the start, or a commit of a group of writes is under way.
    at_work_since: Option<Instant>,
}

impl Outbox {
    /// An Outbox above this Registry.
    #[must_use]
    pub fn new(parts: OutboxParts, registry: Recipient<Current>, watch: DeathWatch) -> Self {
        let (ops, shared, streams) = (None, Arc::default(), Streams::default());
        Self {
            parts,
            registry,
            ops,
            shared,
            streams,
            courier_reads: Arc::new(Semaphore::new(COURIER_READS_AT_ONCE)),
            counting: Arc::default(),
            writer: None,
            sweeper: None,
            archivist: None,
            compactor: None,
            watch,
        }
    }

    /// Puts a write into the writer's channel; its answer comes through the receiver.
    fn write<T: Send + 'static>(
        &self,
        make: impl FnOnce(oneshot::Sender<T>) -> Op,
        unavailable: impl FnOnce(StoreError) -> T + Send + 'static,
    ) -> ResponseFuture<T> {
        let (to, answer) = oneshot::channel();
        let sent = self.ops.as_ref().map(|ops| ops.try_send(make(to)).is_ok()).unwrap_or(false);
        Box::pin(async move {
            match if sent { answer.await.ok() } else { None } {
                Some(answer) => answer,
                None => unavailable(StoreError::Unavailable),
            }
        })
    }

    /// Reads on a blocking thread.
    fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn OutboxStore) -> Result<T, StoreError> + Send + 'static,
    ) -> ResponseFuture<Result<T, StoreError>> {
        let store = Arc::clone(&self.parts.store);
        Box::pin(async move {
            let joined = tokio::task::spawn_blocking(move || read(&*store)).await;
            joined.unwrap_or_else(|_| Err(StoreError::Corrupt("reading the store failed unexpectedly".into())))
        })
    }

    /// Reads for a courier, when it is its turn. Couriers wait for each other alone: what an operator asks for holds none up.
    fn read_in_turn<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn OutboxStore) -> Result<T, StoreError> + Send + 'static,
    ) -> ResponseFuture<Result<T, StoreError>> {
        let (turn, reading) = (Arc::clone(&self.courier_reads), self.read(read));
        Box::pin(async move {
            // Never closed.
            let _turn = turn.acquire().await;
            reading.await
        })
    }

    fn shared(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn custody_now(&self) -> CustodyTime {
        let (wall, trusted) = (self.parts.clock.now(), self.parts.clock.trusted());
        let mut shared = self.shared();
        let Some(custody) = shared.custody.as_mut() else { return CustodyTime::default() };
        custody.observe(wall, trusted);
        custody.time()
    }

    fn names(&self) -> Vec<DestinationId> {
        let mut names: Vec<_> = self.shared().loads.values().map(|(record, _)| record.name.clone()).collect();
        names.sort();
        names
    }
}

impl Actor for Outbox {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        let (ops, taken) = mpsc::channel(OPS_MAX);
        self.ops = Some(ops.clone());
        let writing = write_loop(self.parts.clone(), taken, Arc::clone(&self.shared));
        self.writer = Some(OwnedTask::spawn(ctx, &self.watch, "writer", writing));
        let sweeping = sweep_loop(self.registry.clone(), self.parts.clone(), Arc::clone(&self.shared), ops.downgrade());
        self.sweeper = Some(OwnedTask::spawn(ctx, &self.watch, "sweeper", sweeping));
        if let Some(archive) = self.parts.archive.clone() {
            let archiving = archive_loop(archive, self.parts.clone(), Arc::clone(&self.shared), ops.downgrade());
            self.archivist = Some(OwnedTask::spawn(ctx, &self.watch, "archivist", archiving));
        }
        let compacting = compact_loop(self.parts.clone(), Arc::clone(&self.shared));
        self.compactor = Some(OwnedTask::spawn(ctx, &self.watch, "compactor", compacting));
    }
}

/// Takes groups of writes until every sender is gone, then ends.
async fn write_loop(parts: OutboxParts, mut taken: mpsc::Receiver<Op>, shared: Arc<Mutex<Shared>>) {
    set_at_work(&shared, Some(Instant::now()));
    let Some(mut core) = load(&parts, &shared).await else { return };
    set_at_work(&shared, None);
    parts.bells.dispatcher.ring();
    parts.bells.reporter.ring();
    parts.bells.herald.ring();
    while let Some(first) = taken.recv().await {
        let mut group = vec![first];
        while group.len() < GROUP_OPS_MAX {
            match taken.try_recv() {
                Ok(op) => group.push(op),
                Err(_) => break,
            }
        }
        let Some(now) = observe_clock(&parts, &shared) else { return };
        set_at_work(&shared, Some(Instant::now()));
        // The core travels with its lease: even if this actor falls now, nobody writes until the commit has ended.
        let published = Arc::clone(&shared);
        core = blocking(move || {
            core.apply(group, now, move |core| publish(&published, core));
            core
        })
        .await;
        set_at_work(&shared, None);
        ring(&parts.bells, &mut core.tally);
    }
    // The end of the work: what the stop is counted from.
    let Some(now) = observe_clock(&parts, &shared) else { return };
    blocking(move || {
        core.apply(vec![], now, |_| {});
        core.touch();
        core.touch_openness();
        core.commit();
    })
    .await;
}

fn set_at_work(shared: &Mutex<Shared>, since: Option<Instant>) {
    shared.lock().unwrap_or_else(PoisonError::into_inner).at_work_since = since;
}

async fn load(parts: &OutboxParts, shared: &Mutex<Shared>) -> Option<Core> {
    let lease = Arc::clone(&parts.lease).lock_owned().await;
    let loading = parts.clone();
    let (wall, trusted) = (parts.clock.now(), parts.clock.trusted());
    let loaded = blocking(move || {
        let (stored, record) = Core::stored_moment(&*loading.store)?;
        let mut custody = CustodyClock::resume(stored, record, wall, trusted);
        let moment = custody.observe(wall, trusted);
        // Nobody knows how long ago a "ready" was said that came before a stop of unknown length: it opens nothing any more.
        let measured = stored.wall_trusted && trusted && moment.wall_ms >= stored.wall_ms;
        let ready_void_until_ms = if measured { None } else { Some(stored.custody_ms) };
        Ok((Core::load(loading, lease, moment, custody.record().clone(), ready_void_until_ms)?, custody))
    })
    .await;
    match loaded {
        Ok((mut core, custody)) => {
            shared.lock().unwrap_or_else(PoisonError::into_inner).custody = Some(custody);
            publish(shared, &mut core);
            Some(core)
        }
        Err::<_, StoreError>(error) => {
            tracing::error!(%error, "the outbox can't be read");
            None
        }
    }
}

/// Runs on a blocking thread; a panic there is a panic here, so that it ends the actor.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is going down: nothing more happens.
            Err(_) => std::future::pending().await,
        },
    }
}

fn observe_clock(parts: &OutboxParts, shared: &Mutex<Shared>) -> Option<(Moment, ClockRecord)> {
    let (wall, trusted) = (parts.clock.now(), parts.clock.trusted());
    let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
    shared.custody.as_mut().map(|custody| (custody.observe(wall, trusted), custody.record().clone()))
}

fn ring(bells: &Bells, tally: &mut Tally) {
    if std::mem::take(&mut tally.queue_changed) {
        bells.dispatcher.ring();
        bells.herald.ring();
    }
    if std::mem::take(&mut tally.reports_added) {
        bells.reporter.ring();
        bells.herald.ring();
    }
}

/// Shows what the writer knows; called before replies are given, so that whoever hears one sees its effect.
fn publish(shared: &Mutex<Shared>, core: &mut Core) {
    let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
    for number in core.take_changed() {
        if let Some(dest) = core.dests.get(&number) {
            let before = shared.loads.insert(number, (dest.record.clone(), dest.oldest_custody_ms));
            // A sweep shows every destination anew; what only grew older, or was open for longer, is no change.
            let is_same = before.is_some_and(|(mut record, _)| {
                record.odometer = dest.record.odometer;
                record == dest.record
            });
            if !is_same {
                shared.changes.note(number, &dest.record.name);
            }
        }
    }
    // A commit has ended: what is still under way is counted from here.
    shared.at_work_since = shared.at_work_since.map(|_| Instant::now());
    shared.receipted_no = core.limits.receipting.then_some(core.meta.receipted_no);
    shared.ledger_no = Some(core.ledger_no_on_disk);
    if core.archive_is_due() {
        shared.archive_bell.ring();
    }
    shared.observation = OutboxObservation {
        account: core.meta.account,
        gap: i64::try_from(core.meta.account.gap()).unwrap_or(i64::MAX),
        commits: core.tally.commits,
        writes: core.tally.writes,
        reports_pending: core.reports_pending(),
        reports_lost: core.meta.reports_lost,
        receipts_lost: core.meta.receipts_lost,
        archive_waiting: core.archive_waiting(),
        archive_lost: core.archived.lost,
        archive_failure: None,
        break_glass_taken: core.tally.break_glass_taken,
        break_glass_denied: core.tally.break_glass_denied,
        nearly_full: core.fill.words(),
        disk_bytes: core.disk_bytes,
        held_bytes: core.held_bytes,
        waiting_bytes: core.waiting_bytes,
        slots_unreadable: core.tally.slots_unreadable,
        failure: core.failure.as_ref().map(ToString::to_string),
        set_aside: core.set_aside.clone(),
    };
}

/// Every [`SWEEP_EVERY`] ends what outlived its agreement. Ends when the Registry or the writer is gone.
async fn sweep_loop(
    registry: Recipient<Current>,
    parts: OutboxParts,
    shared: Arc<Mutex<Shared>>,
    ops: mpsc::WeakSender<Op>,
) {
    let mut openings = Openings::default();
    let mut pause = Duration::ZERO;
    loop {
        tokio::time::sleep(pause).await;
        // The first look ends nothing: from it on openings are counted.
        let begins = std::mem::replace(&mut pause, SWEEP_EVERY).is_zero();
        let asked = tokio::time::timeout(ASK_LIMIT, registry.send(Current)).await;
        let Ok(Ok(snapshot)) = asked else { continue };
        let Some((moment, _)) = observe_clock(&parts, &shared) else { continue };
        let now = Look {
            wall: parts.clock.now(),
            trusted: moment.wall_trusted,
            custody_ms: moment.custody_ms,
            at: Instant::now(),
        };
        let said = said_of(&shared);
        let terms = snapshot.destinations.values().map(|registered| {
            let Destination { id, agreement, .. } = &registered.destination;
            terms_of(id, agreement, openings.look(id, agreement, said.get(id).copied().unwrap_or_default(), now))
        });
        let terms = terms.collect();
        openings.forget_others(now);
        if begins {
            continue;
        }
        let Some(sender) = ops.upgrade() else { return };
        let (to, answer) = oneshot::channel();
        if sender.send(Op::Sweep(Sweep { terms }, to)).await.is_err() {
            return;
        }
        drop(sender);
        match answer.await {
            Ok(Ok(swept)) if swept.expired > 0 => {
                tracing::warn!(expired = swept.expired, "messages outlived their agreement");
            }
            Ok(Err(error)) => tracing::warn!(%error, "the outbox could not be swept"),
            Ok(Ok(_)) | Err(_) => {}
        }
    }
}

/// What the destinations, or those who may speak for them, said about when they are ready.
fn said_of(shared: &Mutex<Shared>) -> HashMap<DestinationId, Said> {
    let shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
    let spoken = shared.loads.values().filter(|(record, _)| record.paused || record.signal.is_some());
    spoken.map(|(record, _)| (record.name.clone(), Said { paused: record.paused, signal: record.signal })).collect()
}

fn terms_of(destination: &DestinationId, agreement: &ServiceAgreement, since: Since) -> SweepTerms {
    SweepTerms {
        destination: destination.clone(),
        lifetime: agreement.lifetime,
        notify_after: agreement.notify_after.clone(),
        opened_ms: since.opened_ms,
        closings: since.closings,
    }
}

#[cfg(test)]
mod tests;
