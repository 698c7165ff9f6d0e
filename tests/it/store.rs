//! The outbox store on its engines: the conformance suite, refusals, damage, crashes, full disks, and syncs in the right order.

mod child;
mod crash;
mod damage;
mod disk;
mod generations;
mod model;
mod small_disk;

use proptest::prelude::*;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};
use tempfile::TempDir;
use tidegate::adapters::disk_store::{DiskOptions, DiskStore, set_aside};
use tidegate_actors::{
    ports::outbox_store::{Batch, OutboxStore},
    testing::store_conformance::{self, Fixture, Step},
};
use tidegate_schemas::{config::file::OutboxEngine, messages::outbox::StoreError};

/// A store in a folder that goes with it.
struct OnDisk {
    folder: TempDir,
    engine: OutboxEngine,
    store: Option<Arc<DiskStore>>,
}

impl OnDisk {
    fn new() -> Self {
        Self::on(OutboxEngine::Sled)
    }

    fn on(engine: OutboxEngine) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = open_with(engine, &folder.path().join("outbox")).unwrap();
        Self { folder, engine, store: Some(store) }
    }

    fn dir(&self) -> PathBuf {
        self.folder.path().join("outbox")
    }
}

impl Fixture for OnDisk {
    fn store(&self) -> Arc<dyn OutboxStore> {
        self.store.clone().unwrap()
    }

    fn restart(&mut self) {
        self.store = None;
        self.store = Some(open_with(self.engine, &self.dir()).unwrap());
    }
}

fn open(dir: &Path) -> Result<Arc<DiskStore>, StoreError> {
    open_with(OutboxEngine::Sled, dir)
}

fn open_with(engine: OutboxEngine, dir: &Path) -> Result<Arc<DiskStore>, StoreError> {
    DiskStore::open(dir, DiskOptions { engine, ..DiskOptions::default() })
}

/// Where an engine has its data, in the folder of a store.
fn data_of(engine: OutboxEngine) -> &'static str {
    match engine {
        OutboxEngine::Sled => "db",
        OutboxEngine::Redb => "outbox.redb",
    }
}

/// Values of 100 bytes under consecutive keys.
fn some_pairs(range: std::ops::Range<u32>) -> Batch {
    Batch { changes: range.map(|n| (n.to_be_bytes().to_vec(), Some(vec![n.to_be_bytes()[3]; 100]))).collect() }
}

/// What a power cut or a kill leaves: the files of an open store, without its lock.
fn crashed_copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_name().to_str() {
            Some("ballast" | "LOCK") => {}
            _ if entry.path().is_dir() => fs::create_dir_all(target).unwrap(),
            _ => {
                fs::copy(entry.path(), target).unwrap();
            }
        }
    }
}

#[test]
fn each_engine_conforms() {
    store_conformance::run(|| OnDisk::on(OutboxEngine::Sled));
    store_conformance::run(|| OnDisk::on(OutboxEngine::Redb));
}

/// Few at each run; before a release a fifth of what `PROPTEST_CASES` says, since each case opens stores again and again.
fn cases() -> ProptestConfig {
    let asked = ProptestConfig::default().cases;
    ProptestConfig::with_cases(if asked == 256 { 16 } else { (asked / 5).max(16) })
}

proptest! {
    #![proptest_config(cases())]
    #[test]
    fn each_engine_behaves_like_a_map(raw in prop::collection::vec(any::<[u16; 4]>(), 1..60)) {
        let steps: Vec<Step> = raw.into_iter().map(Step::from_numbers).collect();
        for engine in [OutboxEngine::Sled, OutboxEngine::Redb] {
            store_conformance::replay(&mut OnDisk::on(engine), &steps);
        }
    }
}

#[test]
fn a_second_opener_is_told_that_it_is_locked() {
    let fixture = OnDisk::new();
    assert_eq!(open(&fixture.dir()).unwrap_err(), StoreError::Locked);
    assert_eq!(set_aside(&fixture.dir(), "now").unwrap_err(), StoreError::Locked);
}

#[test]
fn a_closed_store_says_poisoned_and_opens_again() {
    let fixture = OnDisk::new();
    let store = fixture.store.clone().unwrap();
    store.commit(&some_pairs(0..10)).unwrap();
    store.close().unwrap();
    assert_eq!(store.commit(&some_pairs(0..1)), Err(StoreError::Poisoned));
    assert_eq!(store.get(&[0]), Err(StoreError::Poisoned));
    assert_eq!(store.scan(&[0], &[9], 1, false), Err(StoreError::Poisoned));
    assert_eq!(open(&fixture.dir()).unwrap_err(), StoreError::Locked, "the folder stays ours");
    store.reopen().unwrap();
    assert_eq!(store.scan(&[0], &[9], 99, false).unwrap().len(), 10);
}

#[test]
fn a_folder_of_something_else_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("letters.txt"), "dear").unwrap();
    let error = open(folder.path()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the outbox has format none (its folder has no file FORMAT, but holds \"letters.txt\"), this version reads \
         backend=sled-0.34 layout=1"
    );
    assert!(!folder.path().join("FORMAT").exists());
    assert!(!folder.path().join("db").exists());
}

#[test]
fn a_store_of_the_other_engine_is_refused_and_left_alone() {
    for (made_by, opened_by) in [(OutboxEngine::Sled, OutboxEngine::Redb), (OutboxEngine::Redb, OutboxEngine::Sled)] {
        let mut fixture = OnDisk::on(made_by);
        fixture.store().commit(&some_pairs(0..10)).unwrap();
        fixture.store = None;
        let error = open_with(opened_by, &fixture.dir()).unwrap_err();
        assert!(matches!(error, StoreError::Format { .. }), "{error}");
        fixture.restart();
        assert_eq!(fixture.store().scan(&[0], &[9], 99, false).unwrap().len(), 10);
    }
}

#[test]
fn a_store_without_its_marker_or_with_another_is_refused() {
    let mut fixture = OnDisk::new();
    fixture.store().commit(&some_pairs(0..10)).unwrap();
    fixture.store = None;
    let marker = fixture.dir().join("FORMAT");
    let original = fs::read_to_string(&marker).unwrap();

    fs::remove_file(&marker).unwrap();
    assert!(matches!(open(&fixture.dir()), Err(StoreError::Format { .. })), "missing, beside data");
    for other in ["", "\0\0\0", "backend=sled-0.34\nlayout=2\nuuid=x\nstate=ready\n", "backend=sled-1.0\nlayout=1\n"] {
        fs::write(&marker, other).unwrap();
        assert!(matches!(open(&fixture.dir()), Err(StoreError::Format { .. })), "{other:?}");
    }
    fs::write(&marker, original).unwrap();
    assert_eq!(open(&fixture.dir()).unwrap().scan(&[0], &[9], 99, false).unwrap().len(), 10, "nothing was touched");
}

#[test]
fn a_store_whose_data_has_gone_is_not_opened_as_empty() {
    let mut fixture = OnDisk::new();
    fixture.store().commit(&some_pairs(0..10)).unwrap();
    fixture.store = None;
    let db = fixture.dir().join("db");

    fs::write(&db, "").unwrap();
    assert!(matches!(open(&fixture.dir()), Err(StoreError::Corrupt(_))), "emptied");
    fs::remove_file(&db).unwrap();
    assert!(matches!(open(&fixture.dir()), Err(StoreError::Corrupt(_))), "removed");
    for entry in fs::read_dir(fixture.dir()).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_str().unwrap().starts_with("snap.") {
            fs::remove_file(path).unwrap();
        }
    }
    assert!(matches!(open(&fixture.dir()), Err(StoreError::Corrupt(_))), "removed with its snapshot");
}

#[test]
fn a_store_that_was_set_back_or_swapped_says_so() {
    set_back(OutboxEngine::Sled);
    set_back(OutboxEngine::Redb);
}

fn set_back(engine: OutboxEngine) {
    let mut fixture = OnDisk::on(engine);
    let open = |dir: &Path| open_with(engine, dir);
    fixture.store().commit(&some_pairs(0..10)).unwrap();
    let old = fixture.folder.path().join("old");
    crashed_copy(&fixture.dir(), &old);
    for n in 1..4 {
        fixture.store().commit(&some_pairs(n * 10..n * 10 + 10)).unwrap();
    }
    fixture.store = None;
    let now = fixture.folder.path().join("now");
    crashed_copy(&fixture.dir(), &now);

    // The data of yesterday under the checkpoint of today.
    fs::copy(now.join("checkpoint"), old.join("checkpoint")).unwrap();
    let error = open(&old).unwrap_err();
    assert_eq!(error, StoreError::Corrupt("its last 3 commits are missing".into()));
    assert_eq!(open(&old).unwrap_err(), error, "a second opening doesn't forget it");

    // Another store's marker.
    let other = OnDisk::on(engine);
    fs::copy(other.dir().join("FORMAT"), now.join("FORMAT")).unwrap();
    assert!(matches!(open(&now), Err(StoreError::Corrupt(_))));
}

#[test]
fn a_folder_that_was_put_back_whole_opens_and_says_how_much_is_missing() {
    for engine in [OutboxEngine::Sled, OutboxEngine::Redb] {
        let mut fixture = OnDisk::on(engine);
        fixture.store().commit(&some_pairs(0..10)).unwrap();
        fixture.store = None;
        let old = fixture.folder.path().join("old");
        crashed_copy(&fixture.dir(), &old);
        let store = open_with(engine, &fixture.dir()).unwrap();
        (1..4).for_each(|n| store.commit(&some_pairs(n * 10..n * 10 + 10)).unwrap());
        assert_eq!(store.missing_commits(), 0);
        drop(store);
        fs::remove_dir_all(fixture.dir()).unwrap();
        fs::rename(&old, fixture.dir()).unwrap();

        let store = open_with(engine, &fixture.dir()).unwrap();
        let missing = store.missing_commits();
        assert!(missing >= 3, "{missing}");
        (1..9).for_each(|n| store.commit(&some_pairs(n * 10..n * 10 + 10)).unwrap());
        store.compact(&mut |_| {}).unwrap();
        assert_eq!(store.missing_commits(), missing, "what came since is not what is missing");
        store.forget_missing().unwrap();
        assert_eq!(store.missing_commits(), 0);
        drop(store);
        assert_eq!(open_with(engine, &fixture.dir()).unwrap().missing_commits(), 0);
    }
}

#[test]
fn an_unfinished_first_opening_is_made_again() {
    let fixture = OnDisk::new();
    let half = fixture.folder.path().join("half");
    crashed_copy(&fixture.dir(), &half);
    let marker = fs::read_to_string(half.join("FORMAT")).unwrap();
    fs::write(half.join("FORMAT"), marker.replace("state=ready", "state=creating")).unwrap();
    // Torn by a power cut: sled alone would panic or refuse.
    fs::write(half.join("conf"), "garbage").unwrap();
    fs::write(half.join("db"), vec![0xff; 10_000]).unwrap();
    let store = open(&half).unwrap();
    store.commit(&some_pairs(0..10)).unwrap();
    drop(store);
    assert_eq!(open(&half).unwrap().scan(&[0], &[9], 99, false).unwrap().len(), 10);
}

#[test]
fn a_snapshot_cut_short_is_no_damage() {
    let mut fixture = OnDisk::new();
    fixture.store().commit(&some_pairs(0..10)).unwrap();
    fixture.store = None;
    // sled alone takes it for the newest snapshot, and refuses to open.
    fs::write(fixture.dir().join("snap.00000000FFFFFFFF.generating"), [7; 100]).unwrap();
    assert_eq!(open(&fixture.dir()).unwrap().scan(&[0], &[9], 99, false).unwrap().len(), 10);
}

#[test]
fn a_damaged_store_is_set_aside_whole() {
    let mut fixture = OnDisk::new();
    fixture.store().commit(&some_pairs(0..10)).unwrap();
    fixture.store = None;
    let bad = set_aside(&fixture.dir(), "20270302T100000Z").unwrap();
    assert_eq!(bad, fixture.folder.path().join("outbox.bad-20270302T100000Z"));
    assert!(!fixture.dir().exists());
    assert_eq!(open(&bad).unwrap().scan(&[0], &[9], 99, false).unwrap().len(), 10);
    assert!(open(&fixture.dir()).unwrap().scan(&[0], &[9], 99, false).unwrap().is_empty(), "a new one in its place");
    assert!(matches!(set_aside(&fixture.folder.path().join("none"), "x"), Err(StoreError::Io(_))));
}

#[test]
fn only_its_owner_can_look_into_the_folder() {
    use std::os::unix::fs::PermissionsExt as _;
    let fixture = OnDisk::new();
    assert_eq!(fixture.dir().metadata().unwrap().permissions().mode() & 0o777, 0o700);
}
