//! Bits are flipped, ends are cut off and sectors are zeroed in copies of an outbox that was open when it was copied, as a crash leaves it.
//! Whatever is done to it: it says so, or everything is there. See the README beside this file.
//!
//! `ROUNDS` (for each engine) and `SEED` come from the environment.

#[path = "support/mod.rs"]
#[expect(dead_code, reason = "each bench uses its part")]
mod support;

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::FileExt as _,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    process::ExitCode,
};
use support::{figure, from_env, say};
use tidegate::adapters::disk_store::{DiskOptions, DiskStore};
use tidegate_actors::ports::outbox_store::{Batch, OutboxStore, Pair};
use tidegate_schemas::{config::file::OutboxEngine, messages::outbox::StoreError};

const ROUNDS: u64 = 200;
/// Commits of the outbox that is damaged; every third removes what an earlier one put.
const COMMITS: u64 = 150;
const ENTRIES: u64 = 16;
const SECTOR_BYTES: usize = 512;

/// What became of the damaged copies.
#[derive(Debug, Default)]
struct Outcomes {
    /// It said that it is damaged, when it was opened or read.
    told: u64,
    /// Everything was there.
    harmless: u64,
    /// Something was missing or other, and nobody said so.
    silent: u64,
    /// It panicked, or failed with something else than a word of damage.
    failed: u64,
}

fn open(engine: OutboxEngine, dir: &Path) -> Result<std::sync::Arc<DiskStore>, StoreError> {
    DiskStore::open(dir, DiskOptions { engine, ..DiskOptions::default() })
}

fn pair(commit: u64, entry: u64, random: &mut StdRng) -> Pair {
    let mut value = vec![0; 64 + random.random_range(0..1_500)];
    random.fill(&mut value[..]);
    ([&b"m"[..], &commit.to_be_bytes(), &entry.to_be_bytes()].concat(), value)
}

/// Fills a store; what it holds.
fn fill(store: &DiskStore, random: &mut StdRng) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut model = BTreeMap::new();
    for commit in 0..COMMITS {
        let mut batch = Batch::default();
        for entry in 0..ENTRIES {
            let (key, value) = pair(commit, entry, random);
            model.insert(key.clone(), value.clone());
            batch.put(key, value);
        }
        if commit % 3 == 0 && commit > 30 {
            let gone: Vec<Vec<u8>> =
                model.keys().filter(|key| key[1..9] == (commit - 30).to_be_bytes()).cloned().collect();
            for key in gone {
                model.remove(&key);
                batch.remove(key);
            }
        }
        store.commit(&batch).expect("a commit");
    }
    model
}

/// The files of an open store, without its lock and its reserve.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("the store's folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_owned();
        match name.to_str() {
            Some("ballast" | "LOCK") => {}
            _ if path.is_dir() => copy(&path, &to.join(name)),
            _ => drop(fs::copy(&path, to.join(name)).expect("a copy")),
        }
    }
}

/// Damages a file, in one of three ways.
fn damage(file: &Path, round: u64, random: &mut StdRng) -> &'static str {
    let file = fs::OpenOptions::new().read(true).write(true).open(file).expect("the data file");
    let length = file.metadata().expect("its size").len();
    match round % 3 {
        0 => {
            for _ in 0..random.random_range(1..5) {
                let (place, mut byte) = (random.random_range(0..length), [0]);
                file.read_exact_at(&mut byte, place).expect("a byte");
                byte[0] ^= 1 << random.random_range(0..8);
                file.write_all_at(&byte, place).expect("a byte");
            }
            "flipped bits"
        }
        1 => {
            file.set_len(random.random_range(0..length)).expect("a shorter file");
            "a cut end"
        }
        _ => {
            let place = random.random_range(0..length) / SECTOR_BYTES as u64 * SECTOR_BYTES as u64;
            let bytes = SECTOR_BYTES.min(usize::try_from(length - place).unwrap_or(SECTOR_BYTES));
            file.write_all_at(&vec![0; bytes], place).expect("a sector");
            "a zeroed sector"
        }
    }
}

/// Opens a copy, reads all of it, and compares.
fn judge(engine: OutboxEngine, dir: &Path, model: &BTreeMap<Vec<u8>, Vec<u8>>) -> Result<bool, StoreError> {
    let store = open(engine, dir)?;
    let found: BTreeMap<Vec<u8>, Vec<u8>> = store.scan(b"m", b"n", usize::MAX, false)?.into_iter().collect();
    Ok(found == *model)
}

fn torture(engine: OutboxEngine, data: &str, rounds: u64, seed: u64) -> Outcomes {
    let folder = tempfile::tempdir().expect("a folder");
    let (original, crashed) = (folder.path().join("outbox"), folder.path().join("crashed"));
    let mut random = StdRng::seed_from_u64(seed);
    let store = open(engine, &original).expect("a store");
    let model = fill(&store, &mut random);
    copy(&original, &crashed);
    drop(store);
    // The judge can tell: an undamaged copy is whole, and one without an entry is not.
    let probe = folder.path().join("probe");
    copy(&crashed, &probe);
    assert_eq!(judge(engine, &probe, &model), Ok(true), "an undamaged copy");
    let mut more = model.clone();
    more.insert(b"m!".to_vec(), Vec::new());
    assert_eq!(judge(engine, &probe, &more), Ok(false), "a copy that lacks an entry");

    let mut outcomes = Outcomes::default();
    for round in 0..rounds {
        let work = folder.path().join(format!("copy-{round}"));
        copy(&crashed, &work);
        let how = damage(&work.join(data), round, &mut random);
        match catch_unwind(AssertUnwindSafe(|| judge(engine, &work, &model))) {
            Ok(Ok(true)) => outcomes.harmless += 1,
            Ok(Ok(false)) => {
                outcomes.silent += 1;
                say(&format!("{engine:?} round {round}: {how}: something is missing, and nobody said so"));
            }
            Ok(Err(StoreError::Corrupt(_))) => outcomes.told += 1,
            Ok(Err(error)) => {
                outcomes.failed += 1;
                say(&format!("{engine:?} round {round}: {how}: {error}"));
            }
            Err(_) => {
                outcomes.failed += 1;
                say(&format!("{engine:?} round {round}: {how}: a panic came through"));
            }
        }
        fs::remove_dir_all(&work).expect("a folder less");
    }
    outcomes
}

fn main() -> ExitCode {
    let rounds = from_env("ROUNDS").unwrap_or(ROUNDS);
    let seed = from_env("SEED").unwrap_or_else(rand::random);
    say(&format!(
        "{rounds} damaged copies for each engine, SEED={seed}; what sled says when it panics is caught, and not shown"
    ));
    std::panic::set_hook(Box::new(|_| {}));
    let mut bad = 0;
    for (name, engine, data) in [("sled", OutboxEngine::Sled, "db"), ("redb", OutboxEngine::Redb, "outbox.redb")] {
        let outcomes = torture(engine, data, rounds, seed);
        let print = |what: &str, value: u64| figure(&format!("torture_disk_{name}_{what}"), value as f64, "copies");
        print("damaged", rounds);
        print("told", outcomes.told);
        print("harmless", outcomes.harmless);
        print("silent_loss", outcomes.silent);
        print("panics", outcomes.failed);
        bad += outcomes.silent + outcomes.failed;
    }
    if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
