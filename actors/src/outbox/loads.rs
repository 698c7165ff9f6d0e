//! Which destinations' loads changed, so that whoever follows them needs not look at all of them.
//!
//! Every change of a destination's record gets the next revision, and only its latest is kept: asking what changed since a revision
//! costs what changed, not what exists. Revisions begin anew with each incarnation of the Outbox, as those do that ask.

use super::{Outbox, load_of};
use actix::prelude::*;
use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
};
use tidegate_schemas::{
    id::DestinationId,
    messages::outbox::{ChangedLoads, LoadsAt},
    record::DestinationRecord,
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
