//! Opening the store: is it ours, is it free, is it whole.

use super::{
    CACHE_BYTES, Directory, Fill, Store, StoreError, StoreLimits,
    keys::{self, Key},
    records::{self, Device, Meta},
};
use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io::ErrorKind,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Arc, RwLock},
};

/// What the file `FORMAT` says.
const FORMAT: &str = "tidegate receiver\nbackend = sled 0.34\nlayout = 2\n";
const FORMAT_FILE: &str = "FORMAT";
const SLED_FOLDER: &str = "sled";

impl Store {
    /// Opens or creates the store in a folder. Blocks.
    pub(crate) fn open(folder: &Path, limits: StoreLimits) -> Result<Self, StoreError> {
        let sled_folder = folder.join(SLED_FOLDER);
        fs::create_dir_all(folder).map_err(StoreError::io("creating the store's folder"))?;
        check_format(folder, &sled_folder)?;
        let db = open_sled(&sled_folder)?;
        sync_folder(&sled_folder)?;
        let file = File::open(sled_folder.join("db")).map_err(StoreError::io("opening the store's data file"))?;
        let loaded = catch_unwind(AssertUnwindSafe(|| load(&db)));
        let (meta, devices) = loaded.map_err(|_| StoreError::Damaged(sled_folder.clone()))??;
        let device_numbers: HashMap<_, _> =
            devices.iter().map(|(number, device)| (device.name.clone(), *number)).collect();
        let fill = Fill::default();
        let shared = Arc::new(RwLock::new(Directory { devices: devices.clone(), meta: meta.clone(), fill }));
        let store = Self { db, file, folder: sled_folder, limits, meta, devices, device_numbers, shared };
        store.tell_fill(free_bytes(&store.folder)? > limits.free_bytes_min, false);
        Ok(store)
    }
}

fn check_format(folder: &Path, sled_folder: &Path) -> Result<(), StoreError> {
    let marker = folder.join(FORMAT_FILE);
    let mismatch = |found: String| StoreError::Format { folder: folder.to_owned(), found, wanted: FORMAT };
    match fs::read_to_string(&marker) {
        Ok(found) if found == FORMAT => Ok(()),
        Ok(found) => Err(mismatch(found.chars().take(200).collect())),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            if sled_folder.exists() {
                return Err(mismatch("unknown, the file FORMAT is missing".to_owned()));
            }
            fs::write(&marker, FORMAT).map_err(StoreError::io("writing the store's FORMAT"))?;
            sync(&marker)?;
            sync(folder)
        }
        Err(error) => Err(StoreError::io("reading the store's FORMAT")(error)),
    }
}

/// How often and how long a lock is tried again: sled's own threads keep it for a moment after the last handle was dropped.
const LOCK_TRIES: u32 = 50;
const LOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

fn open_sled(folder: &Path) -> Result<sled::Db, StoreError> {
    let mut tries = 1;
    loop {
        match try_open_sled(folder) {
            Err(StoreError::Locked(_)) if tries < LOCK_TRIES => {
                tries += 1;
                std::thread::sleep(LOCK_PAUSE);
            }
            result => return result,
        }
    }
}

fn try_open_sled(folder: &Path) -> Result<sled::Db, StoreError> {
    let config =
        sled::Config::new().path(folder).cache_capacity(CACHE_BYTES).flush_every_ms(None).mode(sled::Mode::LowSpace);
    // sled panics where it finds its files damaged.
    match catch_unwind(AssertUnwindSafe(|| config.open())) {
        Ok(Ok(db)) => Ok(db),
        Ok(Err(sled::Error::Io(error))) if error.kind() == ErrorKind::WouldBlock => {
            Err(StoreError::Locked(folder.to_owned()))
        }
        // The same, as sled words it when it can't take its lock.
        Ok(Err(sled::Error::Io(error))) if error.to_string().contains("could not acquire lock") => {
            Err(StoreError::Locked(folder.to_owned()))
        }
        Ok(Err(sled::Error::Corruption { .. })) | Err(_) => Err(StoreError::Damaged(folder.to_owned())),
        Ok(Err(error)) => Err(StoreError::sled("opening the store")(error)),
    }
}

/// Makes the files that sled created, and their names, survive a power cut: it syncs none of this itself.
fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    for name in ["db", "conf"] {
        sync(&folder.join(name))?;
    }
    sync(folder)?;
    folder.parent().map_or(Ok(()), sync)
}

fn sync(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(StoreError::io("syncing the store's files"))
}

fn load(db: &sled::Db) -> Result<(Meta, BTreeMap<u32, Device>), StoreError> {
    let damaged =
        || StoreError::Io { action: "reading the store's counters", reason: "a record is damaged".to_owned() };
    let key = Key::Meta.bytes();
    let meta = match db.get(&key).map_err(StoreError::sled("reading the store's counters"))? {
        Some(value) => records::read(&key, &value).ok_or_else(damaged)?,
        None => Meta { next_sequence: 1, next_device: 1, ..Meta::default() },
    };
    let mut devices = BTreeMap::new();
    for item in db.scan_prefix(Key::DEVICE) {
        let (key, value) = item.map_err(StoreError::sled("reading the store's devices"))?;
        let number = keys::device(&key).ok_or_else(damaged)?;
        devices.insert(number, records::read(&key, &value).ok_or_else(damaged)?);
    }
    Ok((meta, devices))
}

/// Bytes of the disk that are free for us.
pub(super) fn free_bytes(folder: &Path) -> Result<u64, StoreError> {
    let disk =
        rustix::fs::statvfs(folder).map_err(|error| StoreError::io("asking for free disk space")(error.into()))?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}
