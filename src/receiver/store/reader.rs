//! Reading the store, beside its writer. Every call is bounded; sled's iterators are never held open.

use super::{
    Directory, Fill, StoreError,
    keys::{self, Key},
    records::{self, Device, Meta, ReadingRecord},
};
use jiff::Timestamp;
use std::{
    ops::Bound,
    sync::{Arc, RwLock, RwLockReadGuard},
};
use tidegate_schemas::{id::MessageId, submission::Payload};

/// Reads; a cheap copy.
#[derive(Clone)]
pub(crate) struct Reader {
    tree: sled::Tree,
    shared: Arc<RwLock<Directory>>,
}

/// A reading as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reading {
    /// Its place in the order of arrival, from 1.
    pub(crate) sequence: u64,
    /// Its id.
    pub(crate) id: MessageId,
    /// Who sent it.
    pub(crate) gateway: String,
    /// The device's number.
    pub(crate) device: u32,
    /// The device's name, if it has one.
    pub(crate) device_name: Option<String>,
    /// What was measured.
    pub(crate) label: Option<String>,
    /// Content type of the body.
    pub(crate) content_type: String,
    /// When it came.
    pub(crate) received: Timestamp,
    /// Length of the whole body.
    pub(crate) body_bytes: u32,
    /// The body or its first 3 KiB.
    pub(crate) head: Payload,
}

/// A record whose checksum is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Damaged {
    /// Its place.
    pub(crate) sequence: u64,
}

/// A row of a listing.
pub(crate) type Row = Result<Reading, Damaged>;

impl Reader {
    pub(super) fn new(tree: sled::Tree, shared: Arc<RwLock<Directory>>) -> Self {
        Self { tree, shared }
    }

    fn directory(&self) -> RwLockReadGuard<'_, Directory> {
        self.shared.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// How many readings there are.
    pub(crate) fn readings(&self) -> u64 {
        let Meta { readings, .. } = self.directory().meta;
        readings
    }

    /// How many devices there are.
    pub(crate) fn devices(&self) -> usize {
        self.directory().devices.len()
    }

    /// How full the store is.
    pub(crate) fn fill(&self) -> Fill {
        self.directory().fill
    }

    /// One device.
    pub(crate) fn device(&self, number: u32) -> Option<Device> {
        self.directory().devices.get(&number).cloned()
    }

    /// The number of the device with this name.
    pub(crate) fn device_named(&self, name: &str) -> Option<u32> {
        let directory = self.directory();
        directory.devices.iter().find(|(_, device)| device.name.as_deref() == Some(name)).map(|(number, _)| *number)
    }

    /// Up to this many devices, those heard of last first.
    pub(crate) fn newest_devices(&self, limit: usize) -> Vec<(u32, Device)> {
        let mut devices: Vec<_> =
            self.directory().devices.iter().map(|(number, device)| (*number, device.clone())).collect();
        devices.sort_by_key(|(_, device)| std::cmp::Reverse(device.last_sequence));
        devices.truncate(limit);
        devices
    }

    /// Up to this many readings, newest first, of one device or of all, before a place in the order.
    pub(crate) fn newest(
        &self,
        device: Option<u32>,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        let (first, last) = bounds(device, 0, before);
        let keys = self.tree.range::<Vec<u8>, _>((first, last)).rev().take(limit);
        keys.map(|item| self.row(device, item)).collect()
    }

    /// Up to this many readings, oldest first, of one device or of all, after a place in the order.
    pub(crate) fn after(&self, device: Option<u32>, after: u64, limit: usize) -> Result<Vec<Row>, StoreError> {
        let (first, last) = bounds(device, after.saturating_add(1), None);
        let keys = self.tree.range::<Vec<u8>, _>((first, last)).take(limit);
        keys.map(|item| self.row(device, item)).collect()
    }

    /// The reading at a place.
    pub(crate) fn reading(&self, sequence: u64) -> Result<Option<Row>, StoreError> {
        let key = Key::Reading(sequence).bytes();
        Ok(self.get(&key)?.map(|value| self.read(sequence, &key, &value)))
    }

    /// The whole body of a reading.
    pub(crate) fn body(&self, reading: &Reading) -> Result<Result<Payload, Damaged>, StoreError> {
        let mut body = reading.head.reveal().to_vec();
        let mut index = 0;
        while body.len() < reading.body_bytes as usize {
            let key = Key::Chunk(reading.sequence, index).bytes();
            let value = self.get(&key)?;
            let Some(chunk) = value.as_ref().and_then(|value| records::unseal(&key, value)) else {
                return Ok(Err(Damaged { sequence: reading.sequence }));
            };
            body.extend_from_slice(chunk);
            index += 1;
        }
        Ok(Ok(Payload::new(body)))
    }

    fn get(&self, key: &[u8]) -> Result<Option<sled::IVec>, StoreError> {
        self.tree.get(key).map_err(StoreError::sled("reading the store"))
    }

    fn row(&self, device: Option<u32>, item: sled::Result<(sled::IVec, sled::IVec)>) -> Result<Row, StoreError> {
        let (key, value) = item.map_err(StoreError::sled("reading the store"))?;
        let sequence = keys::sequence(&key).unwrap_or_default();
        if device.is_none() {
            return Ok(self.read(sequence, &key, &value));
        }
        Ok(self.reading(sequence)?.unwrap_or(Err(Damaged { sequence })))
    }

    fn read(&self, sequence: u64, key: &[u8], value: &[u8]) -> Row {
        let record: ReadingRecord = records::read(key, value).ok_or(Damaged { sequence })?;
        let device_name = self.directory().devices.get(&record.device).and_then(|device| device.name.clone());
        Ok(Reading {
            sequence,
            id: record.id,
            gateway: record.gateway,
            device: record.device,
            device_name,
            label: record.label,
            content_type: record.content_type,
            received: Timestamp::from_millisecond(record.received_ms).unwrap_or_default(),
            body_bytes: record.body_bytes,
            head: Payload::new(record.head),
        })
    }
}

/// The keys from this place (included) up to that one (excluded).
fn bounds(device: Option<u32>, from: u64, before: Option<u64>) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let key = |sequence| match device {
        Some(device) => Key::OfDevice(device, sequence).bytes(),
        None => Key::Reading(sequence).bytes(),
    };
    (Bound::Included(key(from)), before.map_or(Bound::Included(key(u64::MAX)), |before| Bound::Excluded(key(before))))
}
