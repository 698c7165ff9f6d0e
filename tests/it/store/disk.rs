//! Disks that are full, and writes that fail.

use super::{
    child,
    small_disk::{NEEDS, with_small_disk},
};
use std::ffi::OsStr;
use tidegate_schemas::config::file::OutboxEngine;

#[test]
fn a_full_disk_refuses_keeps_everything_and_can_be_drained() {
    if let Some(dir) = child::folder() {
        return child::fills_the_disk(&dir);
    }
    full(OutboxEngine::Sled);
    full(OutboxEngine::Redb);
}

fn full(engine: OutboxEngine) {
    let folder = tempfile::tempdir().unwrap();
    let prefix = with_small_disk(folder.path().as_os_str(), "96m").expect(NEEDS);
    let test = "store::disk::a_full_disk_refuses_keeps_everything_and_can_be_drained";
    child::start(&prefix, test, engine, &folder.path().join("outbox")).expect("done");
}

#[test]
fn a_failed_write_poisons_and_reopening_heals() {
    if let Some(dir) = child::folder() {
        return child::meets_failing_writes(&dir);
    }
    failing(OutboxEngine::Sled);
    failing(OutboxEngine::Redb);
}

fn failing(engine: OutboxEngine) {
    let folder = tempfile::tempdir().unwrap();
    // Beyond the limit of a file's size a write fails instead of killing the process.
    let prefix = ["sh", "-c", "trap '' XFSZ; exec \"$0\" \"$@\""].map(OsStr::new);
    let test = "store::disk::a_failed_write_poisons_and_reopening_heals";
    let rounds = child::start(&prefix, test, engine, &folder.path().join("outbox")).expect("done ");
    assert!(rounds.parse::<u64>().unwrap() >= 100);
}
