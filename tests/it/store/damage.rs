//! Flipped bits: an error or everything there, never a panic, never a silent loss.

use super::{OnDisk, child, crashed_copy, data_of, open_with};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use std::{fs, os::unix::fs::FileExt as _, path::Path};
use tidegate_actors::{ports::outbox_store::OutboxStore as _, testing::store_conformance::Fixture as _};
use tidegate_schemas::{config::file::OutboxEngine, messages::outbox::StoreError};

const ROUNDS: u64 = 150;

/// A bit is flipped in each of four places of the file.
fn flip(file: &Path, random: &mut StdRng) {
    let file = fs::OpenOptions::new().read(true).write(true).open(file).unwrap();
    let length = file.metadata().unwrap().len();
    for _ in 0..4 {
        let (place, mut byte) = (random.random_range(0..length), [0]);
        file.read_exact_at(&mut byte, place).unwrap();
        byte[0] ^= 1 << random.random_range(0..8);
        file.write_all_at(&byte, place).unwrap();
    }
}

#[derive(Debug, Default)]
struct Outcomes {
    refused: u32,
    found_on_reading: u32,
    intact: u32,
}

fn damage(engine: OutboxEngine, original: &Path, work: &Path, runs: u64) -> Outcomes {
    let mut outcomes = Outcomes::default();
    for seed in 0..runs {
        let copy = work.join(format!("copy-{seed}"));
        crashed_copy(original, &copy);
        flip(&copy.join(data_of(engine)), &mut StdRng::seed_from_u64(seed));
        match open_with(engine, &copy) {
            Ok(store) => match store.scan(b"m", b"n", usize::MAX, false) {
                Ok(_) => {
                    super::crash::check_rounds(&*store, ROUNDS);
                    outcomes.intact += 1;
                }
                Err(StoreError::Corrupt(_)) => outcomes.found_on_reading += 1,
                Err(other) => panic!("seed {seed}: reading failed with {other}"),
            },
            Err(StoreError::Corrupt(_)) => outcomes.refused += 1,
            Err(other) => panic!("seed {seed}: opening failed with {other}"),
        }
        fs::remove_dir_all(&copy).unwrap();
    }
    outcomes
}

#[test]
fn flipped_bits_are_found_or_harmless() {
    flipped_bits(OutboxEngine::Sled);
    flipped_bits(OutboxEngine::Redb);
}

fn flipped_bits(engine: OutboxEngine) {
    let mut fixture = OnDisk::on(engine);
    for round in 1..=ROUNDS {
        fixture.store().commit(&child::round_batch(round)).unwrap();
    }
    let (crashed, closed) = (fixture.folder.path().join("crashed"), fixture.folder.path().join("closed"));
    crashed_copy(&fixture.dir(), &crashed);
    fixture.restart();
    fixture.store = None;
    crashed_copy(&fixture.dir(), &closed);
    let after_crash = damage(engine, &crashed, fixture.folder.path(), 40);
    let after_close = damage(engine, &closed, fixture.folder.path(), 40);
    assert!(after_crash.refused + after_crash.found_on_reading > 0, "{after_crash:?}, {after_close:?}");
}
