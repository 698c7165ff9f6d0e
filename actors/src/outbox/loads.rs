//! Which destinations' loads changed, so that whoever follows them needs not look at all of them.
//!
//! Every change of a destination's record gets the next revision, and only its latest is kept: asking what changed since a revision
//! costs what changed, not what exists. Revisions begin anew with each incarnation of the Outbox, as those do that ask.

use super::Outbox;
use actix::prelude::*;
use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
};
use tidegate_schemas::{
    custody::CustodyTime,
    id::DestinationId,
    messages::outbox::{ChangedLoads, Loads, LoadsAt},
    record::DestinationRecord,
    view::{DestinationLoad, SignalView},
};

/// The latest change of each destination.
#[derive(Debug, Clone, Default)]
pub(super) struct Changes {
    revision: u64,
    by_revision: BTreeMap<u64, u32>,
    by_number: HashMap<u32, u64>,
    numbers: HashMap<DestinationId, u32>,
}

impl Changes {
    /// This destination's load is another one now.
    pub fn note(&mut self, number: u32, name: &DestinationId) {
        self.revision += 1;
        self.by_revision.insert(self.revision, number);
        match self.by_number.insert(number, self.revision) {
            Some(before) => drop(self.by_revision.remove(&before)),
            None => drop(self.numbers.insert(name.clone(), number)),
        }
    }

    /// The number of a destination that has a record.
    pub fn number(&self, name: &DestinationId) -> Option<u32> {
        self.numbers.get(name).copied()
    }

    fn since(&self, revision: u64) -> impl Iterator<Item = u32> {
        self.by_revision.range((Bound::Excluded(revision), Bound::Unbounded)).map(|(_, number)| *number)
    }
}

impl Handler<Loads> for Outbox {
    type Result = MessageResult<Loads>;
    fn handle(&mut self, _: Loads, _: &mut Self::Context) -> Self::Result {
        let time = self.custody_now();
        let shared = self.shared();
        let mut loads: Vec<_> = shared.loads.values().map(|(r, oldest)| load_of(r, *oldest, &time)).collect();
        loads.sort_by(|a, b| a.destination.cmp(&b.destination));
        MessageResult(loads)
    }
}

impl Handler<ChangedLoads> for Outbox {
    type Result = MessageResult<ChangedLoads>;
    fn handle(&mut self, message: ChangedLoads, _: &mut Self::Context) -> Self::Result {
        let time = self.custody_now();
        let shared = self.shared();
        let changes = &shared.changes;
        let load = |number: u32| shared.loads.get(&number).map(|(record, oldest)| load_of(record, *oldest, &time));
        let mut loads: BTreeMap<DestinationId, _> =
            changes.since(message.since).filter_map(load).map(|load| (load.destination.clone(), load)).collect();
        for name in message.also {
            let of = || changes.number(&name).and_then(load);
            let none = || load_of(&DestinationRecord::new(name.clone()), None, &time);
            loads.entry(name.clone()).or_insert_with(|| of().unwrap_or_else(none));
        }
        MessageResult(LoadsAt { revision: changes.revision, loads: loads.into_values().collect() })
    }
}

/// What others see of a destination's record at this moment.
fn load_of(record: &DestinationRecord, oldest_custody_ms: Option<u64>, time: &CustodyTime) -> DestinationLoad {
    let custody_ms = time.now_ms;
    let within_the_hour = |at_s: &&u32| u64::from(**at_s) * 1_000 + 3_600_000 > custody_ms;
    let recent = record.circuits_custody_s.iter().filter(within_the_hour).count();
    let ago = |at: Option<u64>| at.map(|at| custody_ms.saturating_sub(at));
    DestinationLoad {
        destination: record.name.clone(),
        queued: record.queued,
        held: record.held,
        parked: record.parked,
        dead: record.dead,
        delivered: record.delivered,
        waiting_bytes: record.waiting_bytes,
        due_in_ms: record.due_custody_ms.saturating_sub(custody_ms),
        snoozed_ms: record.snoozed_custody_ms.saturating_sub(custody_ms),
        last_failure_ago_ms: ago(record.last_failure_custody_ms),
        last_success_ago_ms: ago(record.last_success_custody_ms),
        paused: record.paused,
        signal: record.signal.filter(|signal| signal.until_custody_ms > custody_ms).map(|signal| SignalView {
            ready: signal.ready,
            since_ms: custody_ms.saturating_sub(signal.since_custody_ms),
            left_ms: signal.until_custody_ms - custody_ms,
            from: signal.from,
        }),
        urgent: record.urgent,
        break_glass: record.break_glass,
        refused_waiting: record.refused_waiting,
        throughput: record.throughput,
        failures: record.failures,
        last_error: record.last_error,
        everything_refused: record.everything_refused,
        fresh_circuits_last_hour: u16::try_from(recent).unwrap_or(u16::MAX),
        oldest_age_ms: oldest_custody_ms.map(|oldest| time.age_ms(oldest)),
    }
}
