//! Long work that operators ask for: check, export, stats, and writing the store anew.
//!
//! It runs on blocking threads beside the writer, on what the store shows of one moment, so that intake and delivery go on. The same
//! functions work on a store that no gateway has open.

use super::{
    Outbox,
    examine::{age_group, examine},
};
use crate::ports::outbox_store::{OutboxStore, Pair};
use actix::prelude::*;
use std::{
    collections::BTreeMap,
    future::ready,
    io::{self, Write},
    sync::Arc,
};
use tidegate_schemas::{
    custody::CustodyTime,
    entry::EntryState,
    export::{Exporter, Header},
    messages::{
        outbox::StoreError,
        tools::{
            Check, Checked, Compact, Compacted, CountStats, DestinationStats, Export, ExportFailed, Exported, Progress,
            Stats,
        },
    },
    record::{self, DestinationRecord, EntryRecord, Meta, key},
};

/// What a record takes in an export beyond its key and its value, in bytes.
const FRAME_BYTES: u64 = 12;
/// Records read at a time.
const PAGE: usize = 256;

/// The room that an export has.
#[derive(Clone, Copy)]
pub struct Room<'r> {
    /// Says what is free where it goes, in bytes; none where that can't be told.
    pub free_bytes: &'r dyn Fn() -> Option<u64>,
    /// What of that is to stay free, in bytes.
    pub kept_bytes: u64,
}

impl Room<'_> {
    /// Refuses when so many bytes more would take too much of it.
    fn check(&self, to_come: u64) -> Result<(), StoreError> {
        let Some(free) = (self.free_bytes)().filter(|free| *free < to_come.saturating_add(self.kept_bytes)) else {
            return Ok(());
        };
        let kept = match self.kept_bytes {
            0 => String::new(),
            kept => format!(", of which outbox.min_free_disk keeps {kept}"),
        };
        Err(StoreError::Refused(format!(
            "there is no room for all of it: {to_come} bytes are to be written yet, and the disk has {free}{kept}"
        )))
    }
}

/// Writes everything that the store holds at one moment. The room for what is still to come is looked at before it begins, and on the way:
/// others write to that disk, too.
///
/// # Errors
/// When the store can't be read; `Refused` when there is too little room; when output fails.
pub fn export<W: Write>(
    store: &dyn OutboxStore,
    to: W,
    room: Room<'_>,
    header: &Header,
    progress: &Progress,
) -> Result<Exported, ExportFailed> {
    let output = |error: io::Error| ExportFailed::Output { kind: error.kind(), reason: error.to_string() };
    let held = store.held();
    progress.begin(held.pairs);
    let mut to_come = held.bytes.saturating_add(held.pairs.saturating_mul(FRAME_BYTES));
    room.check(to_come)?;
    let mut exporter = Exporter::begin(to, header).map_err(output)?;
    let mut failure = None;
    let mut each = |pairs: Vec<Pair>| {
        room.check(to_come)?;
        progress.add(pairs.len() as u64);
        let bytes = pairs.iter().map(|(at, value)| (at.len() + value.len()) as u64 + FRAME_BYTES);
        to_come = to_come.saturating_sub(bytes.sum());
        pairs.iter().try_for_each(|(at, value)| exporter.pair(at, value)).map_err(|error| {
            failure = Some(output(error));
            StoreError::Refused("the output failed".into())
        })
    };
    let read = store.snapshot(&mut each);
    if let Some(failure) = failure {
        return Err(failure);
    }
    read?;
    let (records, _) = exporter.end().map_err(output)?;
    Ok(Exported { records })
}

/// Has the store written anew.
///
/// # Errors
/// As of the store.
pub fn compact(store: &dyn OutboxStore, progress: &Progress) -> Result<Compacted, StoreError> {
    progress.begin(store.held().pairs);
    let before_bytes = store.disk_bytes();
    store.compact(&mut |pairs| progress.add(pairs))?;
    let compacted = Compacted { before_bytes, after_bytes: store.disk_bytes() };
    tracing::info!(before_bytes, after_bytes = compacted.after_bytes, "the outbox was written anew");
    Ok(compacted)
}

/// Counts what waits, page by page, while commits go on: an entry that is stopped, or goes on, just then may be counted twice or not at
/// all. It is no walk over the whole store, so that it stands in nobody's way. Without a time ages are those at the store's last commit.
///
/// # Errors
/// When the store can't be read.
pub fn stats(store: &dyn OutboxStore, time: Option<CustodyTime>) -> Result<Stats, StoreError> {
    let time = time.map_or_else(|| stored_time(store), Ok)?;
    let mut found: BTreeMap<u32, DestinationStats> = BTreeMap::new();
    each_pair(store, &key::destination(0), b"e", |at, value| {
        if let (Some(number), Ok(record)) = (number_of(at), record::decode::<DestinationRecord>(at, value)) {
            found.insert(number, nothing(record));
        }
    })?;
    for kind in [b"m", b"h"] {
        each_pair(store, kind, &[kind[0] + 1], |at, value| {
            let destination = number_of(at).and_then(|number| found.get_mut(&number));
            // A record that can't be read is counted by a check.
            if let (Some(destination), Ok(entry)) = (destination, record::decode::<EntryRecord>(at, value)) {
                count(destination, &entry, &time);
            }
        })?;
    }
    let mut destinations: Vec<DestinationStats> = found.into_values().collect();
    destinations.sort_by(|one, other| one.destination.cmp(&other.destination));
    let held = store.held();
    Ok(Stats {
        destinations,
        records: held.pairs,
        held_bytes: held.bytes,
        disk_bytes: store.disk_bytes(),
        free_bytes: store.free_bytes(),
    })
}

fn stored_time(store: &dyn OutboxStore) -> Result<CustodyTime, StoreError> {
    let meta: Option<Meta> = store.get(&key::META)?.and_then(|value| record::decode(&key::META, &value).ok());
    let clock = store.get(&key::CLOCK)?.and_then(|value| record::decode(&key::CLOCK, &value).ok());
    Ok(CustodyTime { now_ms: meta.map_or(0, |meta| meta.custody_ms), clock: clock.unwrap_or_default() })
}

fn number_of(at: &[u8]) -> Option<u32> {
    at.get(1..5).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes)
}

fn nothing(record: DestinationRecord) -> DestinationStats {
    DestinationStats {
        destination: record.name,
        queued: 0,
        held: 0,
        parked: 0,
        dead: 0,
        body_bytes: 0,
        oldest_s: None,
        by_age: [0; 4],
    }
}

fn count(stats: &mut DestinationStats, entry: &EntryRecord, time: &CustodyTime) {
    match entry.state {
        EntryState::Queued => stats.queued += 1,
        EntryState::Held => stats.held += 1,
        EntryState::Parked => stats.parked += 1,
        EntryState::Dead => stats.dead += 1,
        // An end state is no longer an entry.
        _ => return,
    }
    let age_ms = time.age_ms(entry.envelope.accepted_custody_ms);
    stats.body_bytes += u64::from(entry.envelope.body_bytes);
    stats.oldest_s = stats.oldest_s.max(Some(age_ms / 1_000));
    stats.by_age[age_group(age_ms)] += 1;
}

/// Looks at every pair of a range, page by page.
fn each_pair(
    store: &dyn OutboxStore,
    from: &[u8],
    to: &[u8],
    mut look: impl FnMut(&[u8], &[u8]),
) -> Result<(), StoreError> {
    let mut from = from.to_vec();
    loop {
        let page = store.scan(&from, to, PAGE, false)?;
        page.iter().for_each(|(at, value)| look(at, value));
        match page.last() {
            Some((last, _)) if page.len() == PAGE => from = [last.as_slice(), &[0]].concat(),
            _ => return Ok(()),
        }
    }
}

impl Handler<Check> for Outbox {
    type Result = ResponseFuture<Result<Checked, StoreError>>;
    fn handle(&mut self, message: Check, _: &mut Self::Context) -> Self::Result {
        self.read(move |store| {
            let examined = examine(store, &message.progress)?;
            Ok(examined.told(store.disk_bytes()))
        })
    }
}

impl Handler<Export> for Outbox {
    type Result = ResponseFuture<Result<Exported, ExportFailed>>;
    fn handle(&mut self, message: Export, _: &mut Self::Context) -> Self::Result {
        let Export { to, free_bytes, header, progress } = message;
        let kept_bytes = self.parts.limits.min_free_disk;
        let exporting = self.read(move |store| {
            let room = Room { free_bytes: &*free_bytes, kept_bytes };
            Ok(export(store, to, room, &header, &progress))
        });
        Box::pin(async move { exporting.await? })
    }
}

impl Handler<Compact> for Outbox {
    type Result = ResponseFuture<Result<Compacted, StoreError>>;
    fn handle(&mut self, message: Compact, _: &mut Self::Context) -> Self::Result {
        self.read(move |store| compact(store, &message.progress))
    }
}

impl Handler<CountStats> for Outbox {
    type Result = ResponseFuture<Result<Stats, StoreError>>;
    fn handle(&mut self, _: CountStats, _: &mut Self::Context) -> Self::Result {
        let Ok(counting) = Arc::clone(&self.counting).try_lock_owned() else {
            let what = "the outbox is being counted already: try again when that has ended";
            return Box::pin(ready(Err(StoreError::Refused(what.into()))));
        };
        let time = self.custody_now();
        self.read(move |store| {
            // It is counted to its end also when nobody waits for that any more.
            let _counting = counting;
            stats(store, Some(time))
        })
    }
}
