//! Ports whose every call may be made to panic: a layer around the fakes, or around anything else.
//!
//! `store.commit` strikes before the call, `store.commit done` after it: what was to be done is done, and nobody hears of it.

use super::faults::Faults;
use crate::ports::{
    clock::Clock,
    entropy::Entropy,
    ledger_archive::{ArchiveError, LedgerArchive},
    outbox_store::{Batch, Held, OutboxStore, Pair},
    registry_store::{RegistryState, RegistryStore, RegistryStoreError},
    room::{Room, RoomError},
    source::{AckToken, AnnounceError, Announcement, Source, SourceEvent},
    transport::{CircuitId, Isolation, Lane, Target, Transport},
};
use futures_util::future::BoxFuture;
use jiff::{Timestamp, civil::Date};
use std::sync::Arc;
use tidegate_schemas::{
    archive::ArchivedEntry,
    clock::{ClockTrust, ConsensusTimes},
    messages::outbox::{ReportBatch, StoreError},
    outcome::DeliveryError,
    view::UplinkStatus,
    wire::{WireAnswer, WireRequest},
};
use tokio::sync::mpsc;

/// A port with its faults.
pub struct Faulty<P: ?Sized> {
    port: Arc<P>,
    faults: Faults,
}

impl<P: ?Sized> Faulty<P> {
    /// This port, open to these faults.
    #[must_use]
    pub fn new(port: Arc<P>, faults: &Faults) -> Arc<Self> {
        Arc::new(Self { port, faults: faults.clone() })
    }

    fn call<T>(&self, before: &str, done: &str, act: impl FnOnce(&P) -> T) -> T {
        self.faults.call(before);
        let answer = act(&self.port);
        self.faults.call(done);
        answer
    }

    fn call_later<T: 'static>(
        &self,
        before: &'static str,
        done: &'static str,
        act: impl FnOnce(&P) -> BoxFuture<'static, T>,
    ) -> BoxFuture<'static, T> {
        let (faults, acting) = (self.faults.clone(), act(&self.port));
        Box::pin(async move {
            faults.call(before);
            let answer = acting.await;
            faults.call(done);
            answer
        })
    }
}

impl<P: Clock + ?Sized> Clock for Faulty<P> {
    fn now(&self) -> Timestamp {
        self.faults.call("clock.now");
        self.port.now()
    }
    fn trust(&self) -> ClockTrust {
        self.faults.call("clock.trust");
        self.port.trust()
    }
    fn told_by_tor(&self, times: ConsensusTimes) {
        self.faults.call("clock.told_by_tor");
        self.port.told_by_tor(times);
    }
}

impl<P: Entropy + ?Sized> Entropy for Faulty<P> {
    fn fill(&self, bytes: &mut [u8]) {
        self.faults.call("entropy.fill");
        self.port.fill(bytes);
    }
}

impl<P: OutboxStore + ?Sized> OutboxStore for Faulty<P> {
    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        self.call("store.commit", "store.commit done", |store| store.commit(batch))
    }
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.faults.call("store.get");
        self.port.get(key)
    }
    fn scan(&self, from: &[u8], to: &[u8], limit: usize, backwards: bool) -> Result<Vec<Pair>, StoreError> {
        self.faults.call("store.scan");
        self.port.scan(from, to, limit, backwards)
    }
    fn held(&self) -> Held {
        self.faults.call("store.held");
        self.port.held()
    }
    fn snapshot(&self, each: &mut dyn FnMut(Vec<Pair>) -> Result<(), StoreError>) -> Result<(), StoreError> {
        self.faults.call("store.snapshot");
        self.port.snapshot(each)
    }
    fn compact(&self, progress: &mut dyn FnMut(u64)) -> Result<(), StoreError> {
        self.faults.call("store.compact");
        self.port.compact(progress)
    }
    fn reopen(&self) -> Result<(), StoreError> {
        self.call("store.reopen", "store.reopen done", |store| store.reopen())
    }
    fn free_bytes(&self) -> Option<u64> {
        self.port.free_bytes()
    }
    fn disk_bytes(&self) -> u64 {
        self.faults.call("store.disk_bytes");
        self.port.disk_bytes()
    }
}

impl<P: LedgerArchive + ?Sized> LedgerArchive for Faulty<P> {
    fn last(&self) -> Result<u64, ArchiveError> {
        self.faults.call("archive.last");
        self.port.last()
    }
    fn append(&self, entries: &[ArchivedEntry]) -> Result<u64, ArchiveError> {
        self.call("archive.append", "archive.append done", |archive| archive.append(entries))
    }
    fn prune(&self, today: Date) -> Result<u32, ArchiveError> {
        self.call("archive.prune", "archive.prune done", |archive| archive.prune(today))
    }
}

impl<P: RegistryStore + ?Sized> RegistryStore for Faulty<P> {
    fn load(&self) -> Result<RegistryState, RegistryStoreError> {
        self.faults.call("registry_store.load");
        self.port.load()
    }
    fn save(&self, state: &RegistryState) -> Result<(), RegistryStoreError> {
        self.call("registry_store.save", "registry_store.save done", |store| store.save(state))
    }
}

impl<P: Source + ?Sized> Source for Faulty<P> {
    fn describe(&self) -> String {
        self.faults.call("source.describe");
        self.port.describe()
    }
    fn run(&self, filters: Vec<String>, events: mpsc::Sender<SourceEvent>) -> BoxFuture<'static, ()> {
        self.call_later("source.run", "source.run done", |source| source.run(filters, events))
    }
    fn ack(&self, token: AckToken) -> bool {
        self.call("source.ack", "source.ack done", |source| source.ack(token))
    }
    fn connection(&self) -> Option<u64> {
        self.faults.call("source.connection");
        self.port.connection()
    }
    fn announce(&self, announcement: Announcement) -> BoxFuture<'static, Result<(), AnnounceError>> {
        self.call_later("source.announce", "source.announce done", |source| source.announce(announcement))
    }
}

impl<P: Transport + ?Sized> Transport for Faulty<P> {
    fn name(&self) -> &'static str {
        self.faults.call("transport.name");
        self.port.name()
    }
    fn status(&self) -> UplinkStatus {
        self.faults.call("transport.status");
        self.port.status()
    }
    fn consensus(&self) -> Option<ConsensusTimes> {
        self.faults.call("transport.consensus");
        self.port.consensus()
    }
    fn bootstrap(&self) -> BoxFuture<'static, Result<(), String>> {
        self.call_later("transport.bootstrap", "transport.bootstrap done", |transport| transport.bootstrap())
    }
    fn open(&self, target: Target, isolation: Isolation) -> BoxFuture<'static, Result<Box<dyn Lane>, DeliveryError>> {
        let (faults, opening) = (self.faults.clone(), self.port.open(target, isolation));
        Box::pin(async move {
            faults.call("transport.open");
            let lane = opening.await?;
            faults.call("transport.open done");
            Ok(Box::new(FaultyLane { lane, faults }) as Box<dyn Lane>)
        })
    }
}

struct FaultyLane {
    lane: Box<dyn Lane>,
    faults: Faults,
}

impl Lane for FaultyLane {
    fn exchange<'a>(&'a mut self, request: WireRequest) -> BoxFuture<'a, Result<WireAnswer, DeliveryError>> {
        Box::pin(async move {
            self.faults.call("lane.exchange");
            let answer = self.lane.exchange(request).await;
            self.faults.call("lane.exchange done");
            answer
        })
    }
    fn is_open(&self) -> bool {
        self.faults.call("lane.is_open");
        self.lane.is_open()
    }
    fn circuit(&self) -> Option<CircuitId> {
        self.lane.circuit()
    }
}

impl<P: Room + ?Sized> Room for Faulty<P> {
    fn post(&self, batch: ReportBatch) -> BoxFuture<'static, Result<String, RoomError>> {
        self.call_later("room.post", "room.post done", |room| room.post(batch))
    }
}
