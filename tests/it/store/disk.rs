//! Disks that are full, and writes that fail.

use super::child;
use std::{ffi::OsStr, process::Command};
use tidegate_schemas::config::file::OutboxEngine;

/// A command that runs what follows in a mount namespace of its own, in which `folder` is a disk of 96 MiB.
fn with_small_disk(folder: &OsStr) -> Option<Vec<&OsStr>> {
    const MOUNT: &str = "mount -t tmpfs -o size=96m tmpfs \"$0\" && exec \"$@\"";
    let prefixes = [vec!["unshare", "--mount"], vec!["unshare", "--user", "--map-root-user", "--mount"]];
    prefixes.into_iter().find_map(|prefix| {
        let mut words: Vec<&OsStr> = prefix.into_iter().chain(["sh", "-c", MOUNT]).map(OsStr::new).collect();
        words.push(folder);
        let works = Command::new(words[0]).args(&words[1..]).arg("true").status().is_ok_and(|status| status.success());
        works.then_some(words)
    })
}

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
    let prefix = with_small_disk(folder.path().as_os_str())
        .expect("a small disk of its own (as root, or with user namespaces: kernel.unprivileged_userns_clone = 1)");
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
