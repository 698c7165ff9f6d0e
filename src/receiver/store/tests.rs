//! The store alone: what is written comes back, what is damaged is noticed, what is old goes.
#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use jiff::SignedDuration;
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

/// A second by both clocks.
fn moment(second: i64) -> Moment {
    let custody_ms = u64::try_from(second).unwrap() * 1_000;
    Moment { custody_ms, wall_ms: at(second).as_millisecond(), wall_trusted: true }
}

/// One request.
fn put(store: &mut Store, readings: &[NewReading], moment: Moment) -> Vec<Kept> {
    store.commit(&[readings], moment, ClockRecord::default()).unwrap().remove(0)
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
        assert_eq!(put(&mut store, std::slice::from_ref(reading), moment(0)), [Kept::Stored { at: at(0) }]);
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
fn ids_are_forgotten_by_number_alone_and_readings_stay() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(folder.path(), StoreLimits { memory_ids_max: 10, ..limits() }).unwrap();
    let commit = |store: &mut Store, number: u64, second: i64| put(store, &[reading(number, "70")], moment(second))[0];
    for number in 0..20 {
        assert_eq!(commit(&mut store, number, 0), Kept::Stored { at: at(0) });
    }
    assert_eq!(store.meta.ids, 10);
    assert_eq!(commit(&mut store, 19, 1), Kept::Duplicate { at: at(0) });
    assert_eq!(commit(&mut store, 0, 1), Kept::Stored { at: at(1) }, "forgotten for want of room");
    assert_eq!(store.reader().readings(), 21);
    let ids = store.db.scan_prefix(b"i").count();
    assert_eq!((ids, store.db.scan_prefix(Key::ID_ORDER).count(), store.meta.ids), (ids, ids, ids as u64));
}

#[test]
fn a_clock_that_is_set_neither_forgets_ids_nor_removes_readings() {
    let folder = tempfile::tempdir().unwrap();
    let keep = Keep::For(SignedDuration::from_hours(24));
    let open = || Store::open(folder.path(), StoreLimits { keep, ..limits() }).unwrap();
    let mut store = open();
    // A board without a battery clock begins in 1970; then its clock is set, to today and 30 days ahead and back.
    let boot = Moment { custody_ms: 1_000, wall_ms: 1_000, wall_trusted: false };
    put(&mut store, &[reading(1, "70")], boot);
    for (second, wall_second) in [(2, 0), (3, 30 * 86_400), (4, 0)] {
        let moment =
            Moment { custody_ms: second * 1_000, wall_ms: at(wall_second).as_millisecond(), wall_trusted: true };
        assert_eq!(put(&mut store, &[reading(1, "70")], moment), [Kept::Duplicate { at: at_ms(1_000) }]);
        assert_eq!(put(&mut store, &[reading(100 + second, "71")], moment).len(), 1);
        assert_eq!(store.reader().readings(), second);
    }
    // The clock goes on from there.
    let last = store.last_moment();
    assert_eq!((last.0.custody_ms, last.0.wall_ms), (4_000, at(0).as_millisecond()));
    drop(store);
    assert_eq!(open().last_moment(), last);
}

fn at_ms(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap()
}

#[test]
fn old_readings_go_with_all_that_belongs_to_them() {
    let folder = tempfile::tempdir().unwrap();
    let keep = Keep::For(SignedDuration::from_secs(100));
    let mut store = Store::open(folder.path(), StoreLimits { keep, ..limits() }).unwrap();
    for number in 0..30 {
        put(&mut store, &[reading(number, vec![b'x'; 9_000])], moment(0));
    }
    put(&mut store, &[reading(99, "new")], moment(101));
    assert_eq!((store.reader().readings(), store.reader().devices()), (1, 1));
    assert_eq!(store.meta.bytes, 3 + OVERHEAD_BYTES);
    for prefix in ["r", "v", "d"] {
        assert_eq!(store.db.scan_prefix(prefix).count(), 1, "{prefix}");
    }
    assert_eq!(store.db.scan_prefix("c").count(), 0);
    // An id outlives its reading: sent again, the old reading is still known.
    let again = [reading(1, vec![b'x'; 9_000])];
    assert_eq!(put(&mut store, &again, moment(102)), [Kept::Duplicate { at: at(0) }]);
}

#[test]
fn where_the_newest_are_kept_the_oldest_make_room() {
    let folder = tempfile::tempdir().unwrap();
    let limits = StoreLimits { keep: Keep::Newest, stored_bytes_max: 100_000, ..limits() };
    let mut store = Store::open(folder.path(), limits).unwrap();
    for number in 0..100 {
        let kept = put(&mut store, &[reading(number, vec![b'x'; 9_000])], moment(0));
        assert_eq!(kept, [Kept::Stored { at: at(0) }], "{number}");
        assert!(store.meta.bytes <= limits.stored_bytes_max);
        assert_eq!(store.reader().fill().room, Room::Enough);
    }
    let newest = store.reader().newest(None, None, 1).unwrap();
    assert_eq!(newest[0].as_ref().unwrap().id, reading(99, "").id);
    assert!((8..=10).contains(&store.reader().readings()), "{}", store.reader().readings());
    // One that can never fit removes nothing.
    let before = store.reader().readings();
    assert_eq!(put(&mut store, &[reading(100, vec![b'x'; 100_000])], moment(0)), [Kept::Full]);
    assert_eq!(store.reader().readings(), before);
}

#[test]
fn how_full_it_is_is_known_before_anything_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let limits = StoreLimits { stored_bytes_max: 10 * (OVERHEAD_BYTES + 600), ..limits() };
    let mut store = Store::open(folder.path(), limits).unwrap();
    let fill = |store: &Store| (store.reader().fill().room, store.reader().fill().percent);
    assert_eq!(fill(&store), (Room::Enough, 0));
    for (number, wanted) in (1..=10).zip([Room::Enough; 7].into_iter().chain([Room::Little; 3])) {
        put(&mut store, &[reading(number, vec![b'x'; 600])], moment(0));
        assert_eq!(fill(&store), (wanted, u8::try_from(number).unwrap() * 10));
    }
    put(&mut store, &[reading(11, "a")], moment(0));
    assert_eq!(fill(&store).0, Room::None);
    drop(store);
    let store = Store::open(folder.path(), limits).unwrap();
    assert_eq!(fill(&store), (Room::Little, 100), "known from the start on");
}

#[test]
fn what_follows_a_reading_without_room_in_a_request_is_refused_too() {
    let folder = tempfile::tempdir().unwrap();
    let limits = StoreLimits { stored_bytes_max: 3 * (OVERHEAD_BYTES + 100), ..limits() };
    let mut store = Store::open(folder.path(), limits).unwrap();
    put(&mut store, &[reading(0, "known")], moment(0));
    // All of one device; the second request of the same commit is another gateway's, and has its own order.
    let first = vec![reading(3, "fits"), reading(6, vec![b'x'; 5_000]), reading(9, "would fit"), reading(0, "known")];
    let second = vec![reading(12, "fits")];
    let kept = store.commit(&[first, second], moment(1), ClockRecord::default()).unwrap();
    let stored = Kept::Stored { at: at(1) };
    assert_eq!(kept, [vec![stored, Kept::Full, Kept::Full, Kept::Duplicate { at: at(0) }], vec![stored]]);
}

#[test]
fn too_many_devices_too_many_bytes_and_a_full_disk_are_said() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(folder.path(), StoreLimits { devices_max: 2, ..limits() }).unwrap();
    let kept = put(&mut store, &[reading(0, "a"), reading(1, "a"), reading(3, "a"), reading(2, "a")], moment(0));
    assert_eq!(kept.iter().map(|kept| *kept == Kept::Full).collect::<Vec<_>>(), [false, false, false, true]);
    drop(store);
    let mut store = Store::open(folder.path(), StoreLimits { free_bytes_min: u64::MAX, ..limits() }).unwrap();
    let kept = put(&mut store, &[reading(0, "a"), reading(9, "a")], moment(1));
    assert_eq!(kept, [Kept::Duplicate { at: at(0) }, Kept::Full]);
    assert_eq!(store.reader().fill().room, Room::None);
}

#[test]
fn a_flipped_bit_damages_one_reading_and_shows() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    put(&mut store, &[reading(1, "70"), reading(2, vec![b'x'; 9_000]), reading(3, "71")], moment(0));
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
    fs::write(&marker, ours.replace("layout = 2", "layout = 3")).unwrap();
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
            let kept = put(&mut store, &group, moment(0));
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
