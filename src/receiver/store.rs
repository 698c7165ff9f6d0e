//! The readings on disk: one sled tree, one writer, and no answer before the bytes are safe.
//!
//! sled 0.34 keeps its promises only if a few rules are kept, each found by measurement: `flush()` alone is not durable on Linux, so
//! every commit ends with `fdatasync` on the file `db`; values stay within 4 KiB (larger ones go to files that are never synced), so
//! long bodies are cut into chunks; another version of sled opens the folder as an empty database, so a `FORMAT` file says what is
//! there; it can't open on a full disk, so some of the disk is left free.
//!
//! Duplicates are known by (gateway, message id). Ids are remembered in an order of their own, as many as
//! [`StoreLimits::memory_ids_max`] says and for however long that is: a number needs no clock, and a clock that steps would forget
//! ids that a gateway still sends again. How long readings are kept is `keep`'s; how full it is, `room`'s.
//!
//! Life-cycle: [`Store::open`] once; [`Store::commit`] from the writer thread alone; after an error the store is unusable and the
//! process opens it again by restarting. [`Reader`]s are cheap copies for any thread.

mod keep;
mod keys;
mod open;
mod reader;
mod records;
mod room;
#[cfg(test)]
mod tests;

pub use keep::Keep;
pub(crate) use reader::{Reader, Reading, Row};
pub(crate) use records::Device;
pub(crate) use room::{Fill, Room};

use jiff::Timestamp;
use keys::Key;
use records::{IdRecord, Meta, ReadingRecord};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::File,
    path::PathBuf,
    sync::{Arc, RwLock},
};
use tidegate_actors::outbox::custody_clock::Moment;
use tidegate_schemas::{
    custody::{ClockRecord, CustodyTime},
    id::MessageId,
    submission::Payload,
    wire::receipt,
};

/// Longest value in bytes (sled writes pages of larger ones to files that it never syncs).
const VALUE_BYTES_MAX: usize = 4 * 1024;
/// How much of a body stands in the reading's own record; the rest follows in chunks.
const HEAD_BYTES_MAX: usize = 3 * 1024;
/// Length of a chunk.
const CHUNK_BYTES: usize = VALUE_BYTES_MAX - 64;
/// sled's page cache in bytes.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;
/// What a reading takes beside its body, about: keys, record, id and index.
const OVERHEAD_BYTES: u64 = 400;

/// What the store may hold.
#[derive(Debug, Clone, Copy)]
pub struct StoreLimits {
    /// Readings with their records, in bytes before sled's own overhead (the disk takes about twice as much).
    pub stored_bytes_max: u64,
    /// Bytes of the disk that stay free.
    pub free_bytes_min: u64,
    /// Which readings are kept.
    pub keep: Keep,
    /// Message ids that are remembered, the newest ones.
    pub memory_ids_max: u64,
    /// Devices.
    pub devices_max: usize,
}
impl Default for StoreLimits {
    fn default() -> Self {
        Self {
            stored_bytes_max: 1024 * 1024 * 1024,
            free_bytes_min: 128 * 1024 * 1024,
            keep: Keep::Forever,
            memory_ids_max: 500_000,
            devices_max: 10_000,
        }
    }
}

/// Why the store can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another process has it.
    #[error("the store {0} is in use: another `tidegate receiver` runs on this folder")]
    Locked(PathBuf),
    /// Data of something else, or of another version.
    #[error("the store {folder} has the format {found:?}, this version reads {wanted:?}: it is left untouched")]
    Format {
        /// Where.
        folder: PathBuf,
        /// What is there.
        found: String,
        /// What this version reads.
        wanted: &'static str,
    },
    /// sled can't make sense of its files.
    #[error("the store {0} is damaged: move the folder away or restore a copy, then start again")]
    Damaged(PathBuf),
    /// Input or output failed.
    #[error("{action} failed: {reason}")]
    Io {
        /// What was done.
        action: &'static str,
        /// The system's words.
        reason: String,
    },
}
impl StoreError {
    fn io(action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |error| Self::Io { action, reason: error.to_string() }
    }
    fn sled(action: &'static str) -> impl FnOnce(sled::Error) -> Self {
        move |error| Self::Io { action, reason: error.to_string() }
    }
}

/// A reading on its way into the store.
#[derive(Debug, Clone)]
pub(crate) struct NewReading {
    /// Which gateway sent it.
    pub(crate) gateway: String,
    /// Its id.
    pub(crate) id: MessageId,
    /// Who measured, as far as the format tells.
    pub(crate) device: Option<String>,
    /// What was measured, as far as the format tells.
    pub(crate) label: Option<String>,
    /// Content type of the body.
    pub(crate) content_type: String,
    /// The body.
    pub(crate) body: Payload,
}

/// What became of a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// It is on disk now.
    Stored { at: Timestamp },
    /// It was on disk already, since then.
    Duplicate { at: Timestamp },
    /// Its id came before with another content.
    Conflict,
    /// There is no room, or there was none for one that came before it in the same request: what follows must not overtake that.
    Full,
}

/// What readers see beside the tree.
#[derive(Debug, Default)]
struct Directory {
    devices: BTreeMap<u32, Device>,
    meta: Meta,
    fill: Fill,
}

/// The one who writes.
pub(crate) struct Store {
    db: sled::Db,
    /// sled's data file, to sync it.
    file: File,
    folder: PathBuf,
    limits: StoreLimits,
    meta: Meta,
    devices: BTreeMap<u32, Device>,
    device_numbers: HashMap<Option<String>, u32>,
    shared: Arc<RwLock<Directory>>,
}

/// A commit that is being put together.
struct Draft {
    batch: sled::Batch,
    ids: HashMap<Vec<u8>, IdRecord>,
    devices: BTreeSet<u32>,
    now: Timestamp,
    /// The store's own clock, by which readings age.
    time: CustodyTime,
    /// Whether the disk has room for anything new.
    disk_has_room: bool,
}

impl Store {
    /// A reader of this store.
    pub(crate) fn reader(&self) -> Reader {
        Reader::new((*self.db).clone(), self.shared.clone())
    }

    /// The moment of the last commit and what its clock remembered, for the store's clock to go on from.
    pub(crate) fn last_moment(&self) -> (Moment, ClockRecord) {
        let Meta { clock_ms, wall_ms, wall_trusted, .. } = self.meta;
        (Moment { custody_ms: clock_ms, wall_ms, wall_trusted }, self.meta.clock.clone())
    }

    /// Stores what is new of the readings of these requests, in one durable write, and says what became of each. Old readings and
    /// old ids go in the same write.
    pub(crate) fn commit<R: AsRef<[NewReading]>>(
        &mut self,
        requests: &[R],
        moment: Moment,
        clock: ClockRecord,
    ) -> Result<Vec<Vec<Kept>>, StoreError> {
        let mut draft = Draft {
            batch: sled::Batch::default(),
            ids: HashMap::new(),
            devices: BTreeSet::new(),
            now: Timestamp::from_millisecond(moment.wall_ms).unwrap_or_default(),
            time: CustodyTime { now_ms: moment.custody_ms, clock },
            disk_has_room: open::free_bytes(&self.folder)? > self.limits.free_bytes_min,
        };
        let before = self.meta.clone();
        self.forget_ids(&mut draft)?;
        self.remove_old_readings(requests.iter().flat_map(AsRef::as_ref).map(size).sum(), &mut draft)?;
        let mut kept = Vec::with_capacity(requests.len());
        for request in requests {
            kept.push(self.add_all(request.as_ref(), &mut draft)?);
        }
        let refused = kept.iter().flatten().any(|kept| *kept == Kept::Full);
        let disk_has_room = draft.disk_has_room;
        if self.meta != before {
            (self.meta.clock_ms, self.meta.wall_ms) = (moment.custody_ms, moment.wall_ms);
            self.meta.wall_trusted = moment.wall_trusted;
            self.meta.clock = draft.time.clock.clone();
            self.write(draft)?;
        }
        self.tell_fill(disk_has_room, refused);
        Ok(kept)
    }

    /// The readings of one request, in their order. What is new after the first that finds no room finds none either: a device's
    /// later reading must not be stored before its earlier one.
    fn add_all(&mut self, readings: &[NewReading], draft: &mut Draft) -> Result<Vec<Kept>, StoreError> {
        let mut full = false;
        let mut kept = Vec::with_capacity(readings.len());
        for reading in readings {
            let one = self.add(reading, full, draft)?;
            full |= one == Kept::Full;
            kept.push(one);
        }
        Ok(kept)
    }

    fn write(&mut self, mut draft: Draft) -> Result<(), StoreError> {
        draft.batch.insert(Key::Meta.bytes(), records::write(&Key::Meta.bytes(), &self.meta));
        for number in &draft.devices {
            let key = Key::Device(*number).bytes();
            match self.devices.get(number) {
                Some(device) => draft.batch.insert(key.clone(), records::write(&key, device)),
                None => draft.batch.remove(key),
            }
        }
        self.db.apply_batch(draft.batch).map_err(StoreError::sled("writing readings"))?;
        self.db.flush().map_err(StoreError::sled("flushing readings"))?;
        self.file.sync_data().map_err(StoreError::io("syncing readings"))?;
        let mut shared = self.shared.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        for number in draft.devices {
            match self.devices.get(&number) {
                Some(device) => shared.devices.insert(number, device.clone()),
                None => shared.devices.remove(&number),
            };
        }
        shared.meta = self.meta.clone();
        Ok(())
    }

    fn add(&mut self, reading: &NewReading, full: bool, draft: &mut Draft) -> Result<Kept, StoreError> {
        let content_hash = receipt::content_hash(reading.body.reveal());
        let id_key = Key::Id { gateway: &reading.gateway, id: reading.id }.bytes();
        if let Some(known) = self.known(&id_key, draft)? {
            return Ok(if known.content_hash == content_hash {
                Kept::Duplicate { at: known.received() }
            } else {
                Kept::Conflict
            });
        }
        let size = size(reading);
        let room = !full && self.meta.bytes + size <= self.limits.stored_bytes_max && draft.disk_has_room;
        let Some(device) = room.then(|| self.device_number(reading)).flatten() else { return Ok(Kept::Full) };
        let sequence = self.meta.next_sequence;
        self.meta.next_sequence += 1;
        self.meta.readings += 1;
        self.meta.bytes += size;
        self.meta.ids += 1;
        let received_ms = draft.now.as_millisecond();
        if let Some(entry) = self.devices.get_mut(&device) {
            entry.readings += 1;
            entry.last_sequence = sequence;
            entry.last_received_ms = received_ms;
        }
        draft.devices.insert(device);
        self.put_reading(reading, sequence, device, draft);
        let known = IdRecord { received_ms, content_hash };
        draft.batch.insert(id_key.clone(), records::write(&id_key, &known));
        draft.batch.insert(Key::IdOrder(sequence).bytes(), id_key.clone());
        draft.ids.insert(id_key, known);
        Ok(Kept::Stored { at: draft.now })
    }

    fn put_reading(&self, reading: &NewReading, sequence: u64, device: u32, draft: &mut Draft) {
        let batch = &mut draft.batch;
        let body = reading.body.reveal();
        let head = body.len().min(HEAD_BYTES_MAX);
        let record = ReadingRecord {
            id: reading.id,
            gateway: reading.gateway.clone(),
            device,
            label: reading.label.clone(),
            content_type: reading.content_type.clone(),
            received_ms: draft.now.as_millisecond(),
            clock_ms: draft.time.now_ms,
            body_bytes: u32::try_from(body.len()).unwrap_or(u32::MAX),
            head: body[..head].to_vec(),
        };
        let key = Key::Reading(sequence).bytes();
        batch.insert(key.clone(), records::write(&key, &record));
        for (index, chunk) in (0_u16..).zip(body[head..].chunks(CHUNK_BYTES)) {
            let key = Key::Chunk(sequence, index).bytes();
            batch.insert(key.clone(), records::seal(&key, chunk));
        }
        batch.insert(Key::OfDevice(device, sequence).bytes(), Vec::new());
    }

    fn known(&self, id_key: &[u8], draft: &Draft) -> Result<Option<IdRecord>, StoreError> {
        if let Some(known) = draft.ids.get(id_key) {
            return Ok(Some(known.clone()));
        }
        let value = self.db.get(id_key).map_err(StoreError::sled("looking for a message id"))?;
        // A damaged id is as good as a forgotten one: the reading is stored once more rather than refused.
        Ok(value.and_then(|value| records::read(id_key, &value)))
    }

    /// The number of the reading's device, a new one if need be; `None` if there are too many.
    fn device_number(&mut self, reading: &NewReading) -> Option<u32> {
        if let Some(number) = self.device_numbers.get(&reading.device) {
            return Some(*number);
        }
        if self.devices.len() >= self.limits.devices_max {
            return None;
        }
        let number = self.meta.next_device;
        self.meta.next_device = number.checked_add(1)?;
        self.device_numbers.insert(reading.device.clone(), number);
        self.devices.insert(number, Device { name: reading.device.clone(), ..Device::default() });
        Some(number)
    }
}

/// What a reading takes of the store.
fn size(reading: &NewReading) -> u64 {
    reading.body.len() as u64 + OVERHEAD_BYTES
}
