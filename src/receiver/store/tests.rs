//! The store alone: what is written comes back, what is damaged is noticed, what is old goes.
#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use proptest::prelude::*;
use std::{fs, path::Path};
use tidegate_schemas::submission::BODY_BYTES_MAX;

fn reading(number: u64, body: impl Into<bytes::Bytes>) -> NewReading {
    let mut id = [1; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    NewReading {
        gateway: "home".to_owned(),
        id: MessageId::from_random(id),
        device: Some(format!("device-{}", number % 3)),
        label: None,
        content_type: "text/plain".to_owned(),
        body: Payload::new(body.into()),
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_795_406_700 + second).unwrap()
}

fn limits() -> StoreLimits {
    StoreLimits { free_bytes_min: 0, ..StoreLimits::default() }
}

fn open(folder: &Path) -> Store {
    Store::open(folder, limits()).unwrap()
}

fn bodies(reader: &Reader) -> Vec<Payload> {
    let rows = reader.after(None, 0, 10_000).unwrap();
    rows.into_iter().map(|row| reader.body(&row.unwrap()).unwrap().unwrap()).collect()
}

#[test]
fn bodies_of_every_length_come_back_and_no_value_is_too_long_for_sled() {
    let folder = tempfile::tempdir().unwrap();
    let edges = [HEAD_BYTES_MAX, HEAD_BYTES_MAX + CHUNK_BYTES, BODY_BYTES_MAX];
    let lengths: Vec<usize> =
        [0, 1].into_iter().chain(edges.into_iter().flat_map(|edge| [edge - 1, edge, edge + 1])).collect();
    let readings: Vec<NewReading> = (0..)
        .zip(&lengths)
        .map(|(number, length)| reading(number, vec![u8::try_from(number).unwrap(); *length]))
        .collect();
    let mut store = open(folder.path());
    for reading in &readings {
        assert_eq!(store.commit(std::slice::from_ref(reading), at(0)).unwrap(), [Kept::Stored { at: at(0) }]);
    }
    let mut values = 0;
    for item in store.db.iter() {
        assert!(item.unwrap().1.len() <= VALUE_BYTES_MAX);
        values += 1;
    }
    assert!(values > 100);
    let meta = store.meta.clone();
    drop(store);
    let store = open(folder.path());
    assert_eq!(store.meta, meta);
    assert_eq!(bodies(&store.reader()), readings.iter().map(|reading| reading.body.clone()).collect::<Vec<_>>());
    assert_eq!(fs::read_dir(folder.path().join("sled/blobs")).unwrap().count(), 0);
}

#[test]
fn ids_are_forgotten_by_number_and_by_age_but_readings_stay() {
    let folder = tempfile::tempdir().unwrap();
    let memory = SignedDuration::from_secs(100);
    let mut store = Store::open(folder.path(), StoreLimits { memory_ids_max: 10, memory, ..limits() }).unwrap();
    let commit =
        |store: &mut Store, number: u64, second: i64| store.commit(&[reading(number, "70")], at(second)).unwrap()[0];
    for number in 0..20 {
        assert_eq!(commit(&mut store, number, 0), Kept::Stored { at: at(0) });
    }
    assert_eq!(store.meta.ids, 10);
    assert_eq!(commit(&mut store, 19, 1), Kept::Duplicate { at: at(0) });
    assert_eq!(commit(&mut store, 0, 1), Kept::Stored { at: at(1) }, "forgotten for want of room");
    assert_eq!(commit(&mut store, 20, 102), Kept::Stored { at: at(102) });
    assert_eq!(commit(&mut store, 19, 102), Kept::Stored { at: at(102) }, "forgotten for its age");
    assert_eq!(store.reader().readings(), 23);
    let ids = store.db.scan_prefix(b"i").count();
    assert_eq!((ids, store.db.scan_prefix(Key::ID_ORDER).count(), store.meta.ids), (ids, ids, ids as u64));
}

#[test]
fn old_readings_go_with_all_that_belongs_to_them() {
    let folder = tempfile::tempdir().unwrap();
    let keep = Some(SignedDuration::from_secs(100));
    let mut store = Store::open(folder.path(), StoreLimits { keep, ..limits() }).unwrap();
    for number in 0..30 {
        store.commit(&[reading(number, vec![b'x'; 9_000])], at(0)).unwrap();
    }
    store.commit(&[reading(99, "new")], at(101)).unwrap();
    assert_eq!((store.reader().readings(), store.reader().devices()), (1, 1));
    assert_eq!(store.meta.bytes, 3 + OVERHEAD_BYTES);
    for prefix in ["r", "v", "d"] {
        assert_eq!(store.db.scan_prefix(prefix).count(), 1, "{prefix}");
    }
    assert_eq!(store.db.scan_prefix("c").count(), 0);
    // An id outlives its reading: sent again, the old reading is still known.
    assert_eq!(store.commit(&[reading(1, vec![b'x'; 9_000])], at(102)).unwrap(), [Kept::Duplicate { at: at(0) }]);
}

#[test]
fn too_many_devices_too_many_bytes_and_a_full_disk_are_said() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(folder.path(), StoreLimits { devices_max: 2, ..limits() }).unwrap();
    let kept = store.commit(&[reading(0, "a"), reading(1, "a"), reading(2, "a"), reading(3, "a")], at(0)).unwrap();
    assert_eq!(kept.iter().map(|kept| *kept == Kept::Full).collect::<Vec<_>>(), [false, false, true, false]);
    drop(store);
    let mut store = Store::open(folder.path(), StoreLimits { free_bytes_min: u64::MAX, ..limits() }).unwrap();
    let kept = store.commit(&[reading(0, "a"), reading(9, "a")], at(1)).unwrap();
    assert_eq!(kept, [Kept::Duplicate { at: at(0) }, Kept::Full]);
}

#[test]
fn a_flipped_bit_damages_one_reading_and_shows() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    store.commit(&[reading(1, "70"), reading(2, vec![b'x'; 9_000]), reading(3, "71")], at(0)).unwrap();
    let flip = |key: Vec<u8>| {
        let mut value = store.db.get(&key).unwrap().unwrap().to_vec();
        let middle = value.len() / 2;
        value[middle] ^= 1;
        store.db.insert(key, value).unwrap();
    };
    flip(Key::Reading(1).bytes());
    flip(Key::Chunk(2, 0).bytes());
    let reader = store.reader();
    let rows = reader.newest(None, None, 10).unwrap();
    let whole: Vec<bool> = rows.iter().map(Result::is_ok).collect();
    assert_eq!(whole, [true, true, false]);
    assert_eq!(reader.body(rows[1].as_ref().unwrap()).unwrap().unwrap_err().sequence, 2);
    assert_eq!(reader.newest(Some(2), None, 10).unwrap().len(), 1);
}

#[test]
fn another_format_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let marker = folder.path().join("FORMAT");
    let ours = fs::read_to_string(&marker).unwrap();
    fs::write(&marker, ours.replace("layout = 1", "layout = 2")).unwrap();
    assert!(matches!(Store::open(folder.path(), limits()), Err(StoreError::Format { .. })));
    fs::remove_file(&marker).unwrap();
    assert!(matches!(Store::open(folder.path(), limits()), Err(StoreError::Format { .. })));
    assert!(!marker.exists());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Against a plain list: whatever is committed in whatever groups, with restarts between, every reading is there once.
    #[test]
    fn it_agrees_with_a_list(steps in proptest::collection::vec(
        prop_oneof![
            8 => proptest::collection::vec((0_u64..40, 0_usize..3), 1..6).prop_map(Some),
            1 => Just(None),
        ],
        1..30,
    )) {
        let folder = tempfile::tempdir().unwrap();
        let mut store = open(folder.path());
        let mut model: Vec<NewReading> = Vec::new();
        for step in steps {
            let Some(group) = step else {
                drop(store);
                store = open(folder.path());
                continue;
            };
            let group: Vec<NewReading> =
                group.into_iter().map(|(number, size)| reading(number, vec![b'x'; size * 3_000])).collect();
            let kept = store.commit(&group, at(0)).unwrap();
            for (new, kept) in group.iter().zip(kept) {
                let known = model.iter().find(|known| known.id == new.id).map(|known| known.body == new.body);
                let wanted = match known {
                    None => Kept::Stored { at: at(0) },
                    Some(true) => Kept::Duplicate { at: at(0) },
                    Some(false) => Kept::Conflict,
                };
                prop_assert_eq!(kept, wanted);
                if known.is_none() {
                    model.push(new.clone());
                }
            }
        }
        let reader = store.reader();
        prop_assert_eq!(reader.readings(), model.len() as u64);
        prop_assert_eq!(bodies(&reader), model.iter().map(|known| known.body.clone()).collect::<Vec<_>>());
        let per_device: u64 = reader.newest_devices(10).iter().map(|(_, device)| device.readings).sum();
        prop_assert_eq!(per_device, model.len() as u64);
    }
}
