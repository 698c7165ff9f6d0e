//! The Outbox on a store on disk, without the gateway around it: who hands in, and who delivers as couriers do.

use actix::prelude::*;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use std::{cell::RefCell, fs, path::Path, sync::Arc};
use tidegate::adapters::{
    disk_store::{DiskOptions, DiskStore},
    system_clock::SystemClock,
    system_entropy::SystemEntropy,
};
use tidegate_actors::{
    outbox::{Lease, Limits, Outbox, OutboxParts},
    ports::{clock::Clock, outbox_store::OutboxStore},
    supervision::{Bells, DeathWatch, Running},
    testing::{
        submissions::submission,
        toy_registry::{ToyRegistry, destination, snapshot},
    },
};
use tidegate_schemas::{
    agreement::{self, HeadOfLine, RetryPolicy, ServiceAgreement},
    entry::{Entry, Event},
    id::DestinationId,
    messages::{
        gateway::{Observe, Shutdown},
        outbox::{Enqueue, Pick, Settle, Settlement},
    },
    view::{Observation, OutboxObservation},
    wire::{BATCH_BYTES_MAX, BATCH_EVENTS_MAX},
};

/// Destinations that messages are for, in turn.
pub const DESTINATIONS: u64 = 64;
/// Devices that they come from.
const DEVICES: u64 = 256;
/// Least and most bytes of a body.
const BODY_BYTES: std::ops::RangeInclusive<u64> = 64..=576;
/// Who hands in at once, each waiting for its answer.
const PRODUCERS: u64 = 1_024;
/// What a courier picks at a time (`PICK_ENTRIES_MAX` and `PICK_BYTES_MAX` there).
const PICK_ENTRIES: usize = 400;
const PICK_BYTES: usize = 1024 * 1024;

/// A running Outbox and its store.
pub struct Custody {
    pub outbox: Addr<Outbox>,
    store: Arc<DiskStore>,
    lease: Lease,
}

fn name(number: u64) -> DestinationId {
    format!("ward-{number}").parse().expect("an alias")
}

impl Custody {
    /// Opens the store in this folder, and starts the Outbox on it.
    pub fn open(folder: &Path) -> Self {
        Self::open_by(folder, Arc::new(SystemClock::default()))
    }

    /// The same by a clock of the caller's.
    pub fn open_by(folder: &Path, clock: Arc<dyn Clock>) -> Self {
        let store = DiskStore::open(&folder.join("outbox"), DiskOptions::default()).expect("the store opens");
        let agreed = (0..DESTINATIONS).map(|number| destination(name(number).as_str(), ServiceAgreement::default()));
        let registry = ToyRegistry(snapshot(agreed.collect())).start();
        let lease = Lease::default();
        let parts = OutboxParts {
            store: Arc::clone(&store) as Arc<dyn OutboxStore>,
            lease: Arc::clone(&lease),
            archive: None,
            clock,
            entropy: Arc::new(SystemEntropy),
            // No room that hears of ends, so that the ledger is kept at its own limit.
            limits: Limits { reporting: false, max_messages: u64::MAX, max_bytes: u64::MAX, ..Limits::default() },
            bells: Bells::default(),
        };
        let outbox = Running::start(Outbox::new(parts, registry.recipient(), DeathWatch::unwatched("outbox"))).0;
        Self { outbox, store, lease }
    }

    /// Ends both in order.
    pub async fn close(self) {
        self.outbox.send(Shutdown).await.expect("the outbox lives");
        // The writer lets go of it with its last commit.
        drop(self.lease.lock().await);
        self.store.close().expect("the store is closed");
    }

    /// What the Outbox says of itself.
    pub async fn seen(&self) -> OutboxObservation {
        match self.outbox.send(Observe).await.expect("the outbox lives") {
            Observation::Outbox(seen) => seen,
            other => panic!("not the outbox: {other:?}"),
        }
    }

    /// Bytes that the store takes of the disk, without its reserve.
    pub fn disk_bytes(&self) -> u64 {
        self.store.disk_bytes()
    }

    /// Hands in the messages of these numbers, by many producers at once.
    pub async fn hand_in(&self, numbers: impl Iterator<Item = u64>) {
        let numbers = RefCell::new(numbers);
        let mut producers = FuturesUnordered::new();
        for _ in 0..PRODUCERS {
            // A producer that finds nothing left to do is no producer.
            let Some(first) = numbers.borrow_mut().next() else { break };
            let (outbox, numbers) = (self.outbox.clone(), &numbers);
            producers.push(async move {
                let mut next = Some(first);
                while let Some(number) = next {
                    outbox.send(message(number)).await.expect("the outbox lives").expect("in custody");
                    next = numbers.borrow_mut().next();
                }
            });
        }
        while producers.next().await.is_some() {}
    }

    /// Delivers what waits for these destinations, at most so many of each: a courier for each, all at once. How many it was.
    pub async fn deliver(&self, destinations: impl IntoIterator<Item = u64>, most_each: usize) -> u64 {
        let couriers = destinations.into_iter().map(|number| courier(self.outbox.clone(), name(number), most_each));
        let mut couriers: FuturesUnordered<_> = couriers.collect();
        let mut delivered = 0;
        while let Some(count) = couriers.next().await {
            delivered += count as u64;
        }
        delivered
    }

    /// The first entries of the first destination.
    pub async fn first_pick(&self) -> Vec<Entry> {
        self.outbox.send(pick(name(0), PICK_ENTRIES)).await.expect("the outbox lives").expect("a pick")
    }
}

fn pick(destination: DestinationId, count_max: usize) -> Pick {
    Pick {
        destination,
        after_seq: 0,
        count_max,
        bytes_max: PICK_BYTES,
        break_glass_only: false,
        head_of_line: HeadOfLine::ParkAfter(1),
    }
}

/// Picks, and settles what one request carries after the other, until so many are done or nothing is left.
async fn courier(outbox: Addr<Outbox>, destination: DestinationId, most: usize) -> usize {
    let mut done = 0;
    while done < most {
        let pick = pick(destination.clone(), PICK_ENTRIES.min(most - done));
        let picked = outbox.send(pick).await.expect("the outbox lives").expect("a pick");
        if picked.is_empty() {
            break;
        }
        let mut rest = &picked[..];
        while !rest.is_empty() {
            let (batch, behind) = rest.split_at(batch_len(rest));
            rest = behind;
            let delivered =
                |entry: &Entry| Settlement { seq: entry.seq, event: Event::Deliver, error: None, receipt: None };
            let settle = Settle {
                destination: destination.clone(),
                settlements: batch.iter().map(delivered).collect(),
                head_of_line: HeadOfLine::ParkAfter(1),
                retry: RetryPolicy::default(),
                busy_ms: 0,
            };
            let settled = outbox.send(settle).await.expect("the outbox lives").expect("settled");
            assert!(settled.overtaken.is_empty(), "{settled:?}");
        }
        done += picked.len();
    }
    done
}

/// How many of these one request carries, at least one.
fn batch_len(entries: &[Entry]) -> usize {
    let mut bytes = 0;
    let fits = |entry: &&Entry| {
        bytes += entry.body.len();
        bytes <= BATCH_BYTES_MAX
    };
    entries.iter().take(BATCH_EVENTS_MAX).take_while(fits).count().max(1)
}

/// The message of a number: its destination, device and size come from it.
pub fn message(number: u64) -> Enqueue {
    let (least, most) = BODY_BYTES.into_inner();
    let bytes = usize::try_from(least + number.wrapping_mul(7_919) % (most - least + 1)).expect("few");
    let submission = submission(
        &format!("bed-{}", number / DESTINATIONS % DEVICES),
        name(number % DESTINATIONS).as_str(),
        format!("{number:0bytes$}"),
    );
    let limits = agreement::Limits { messages: u64::MAX, bytes: u64::MAX, ..agreement::Limits::default() };
    Enqueue { submission, limits, break_glass_per_hour: None, stream: None }
}

/// A number of kibibytes of `/proc/self/status`, in MiB.
pub fn memory_mib(line: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").expect("our status");
    let rest = status.lines().find_map(|found| found.strip_prefix(line)).expect("the line");
    let kib: f64 = rest.trim_start_matches(':').trim().trim_end_matches(" kB").parse().expect("a number");
    kib / 1024.0
}
