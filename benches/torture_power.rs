//! The power goes, again and again, while an outbox is written: of what no sync had made durable nothing survives, or a random half of its
//! blocks. What was acknowledged has to be there, and the outbox has to open. See the README beside this file.
//!
//! The power cut is a model: a preloaded library (`torture/power.c`) keeps what each file held when a sync of it returned; the writer is
//! killed, and its files are made anew from that. The same without our own sync is the control, which has to lose something: else the
//! model would show nothing. Names of files are durable at once in it, and a disk that lies about its syncs is not in it.
//!
//! `ROUNDS` (for each engine) and `SEED` come from the environment.

#[path = "support/mod.rs"]
#[expect(dead_code, reason = "each bench uses its part")]
mod support;

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use std::{
    env, fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::MetadataExt as _,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    thread,
    time::{Duration, UNIX_EPOCH},
};
use support::{figure, from_env, say};
use tidegate::adapters::disk_store::{DiskOptions, DiskStore};
use tidegate_actors::ports::outbox_store::{Batch, OutboxStore};
use tidegate_schemas::{config::file::OutboxEngine, messages::outbox::StoreError};

const ROUNDS: u64 = 100;
/// Rounds of the control, at most: it ends when it has lost something.
const CONTROL_ROUNDS: u64 = 20;
const ENTRIES: u64 = 16;
/// A round's entries are removed so many rounds later.
const KEPT_COMMITS: u64 = 60;
/// Between two times that it is written anew.
const COMPACTED_EVERY: Duration = Duration::from_millis(20);
const BLOCK_BYTES: usize = 4_096;
const CHILD: &str = "TIDEGATE_POWER_CHILD";

fn engine_of(name: &str) -> OutboxEngine {
    if name == "redb" { OutboxEngine::Redb } else { OutboxEngine::Sled }
}

fn open(engine: &str, dir: &Path) -> Result<std::sync::Arc<DiskStore>, StoreError> {
    DiskStore::open(dir, DiskOptions { engine: engine_of(engine), ..DiskOptions::default() })
}

fn entry(commit: u64, number: u64) -> (Vec<u8>, Vec<u8>) {
    let mut random = StdRng::seed_from_u64(commit * ENTRIES + number);
    let mut value = vec![0; 64 + random.random_range(0..1_200)];
    random.fill(&mut value[..]);
    ([&b"m"[..], &commit.to_be_bytes(), &number.to_be_bytes()].concat(), value)
}

fn commit_of(number: u64) -> Batch {
    let mut batch = Batch::default();
    batch.put(b"last".to_vec(), number.to_be_bytes().to_vec());
    for (key, value) in (0..ENTRIES).map(|of| entry(number, of)) {
        batch.put(key, value);
    }
    if let Some(gone) = number.checked_sub(KEPT_COMMITS).filter(|gone| *gone > 0) {
        (0..ENTRIES).for_each(|of| batch.remove(entry(gone, of).0));
    }
    batch
}

fn last(store: &DiskStore) -> Result<u64, StoreError> {
    let found = store.get(b"last")?;
    Ok(found.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes))
}

/// Commits, saying each acknowledged one, until it is killed.
fn write_for_ever(engine: &str, dir: &Path) {
    let store = open(engine, dir).expect("the outbox opens");
    let first = last(&store).expect("its last commit") + 1;
    let mut out = std::io::stdout();
    let compacted = std::sync::Arc::clone(&store);
    // Now and then it is written anew: the power may go in the middle of that, too.
    thread::spawn(move || {
        loop {
            thread::sleep(COMPACTED_EVERY);
            compacted.compact(&mut |_| {}).expect("a new generation");
        }
    });
    for number in first.. {
        store.commit(&commit_of(number)).expect("a commit");
        writeln!(out, "{number}").and_then(|()| out.flush()).expect("somebody listens");
    }
}

/// Lets a writer work for a while and kills it; the last commit that it acknowledged.
fn work(engine: &str, dir: &Path, shadow: &Path, library: &Path, deaf: bool, length: Duration) -> u64 {
    let mut command = Command::new(env::current_exe().expect("this program"));
    command.env(CHILD, engine).env("POWER_WATCH", dir).env("POWER_SHADOW", shadow).env("LD_PRELOAD", library);
    if deaf {
        command.env("POWER_DEAF", "1");
    }
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("a writer");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let mut acknowledged = lines.next().and_then(Result::ok).and_then(|line| line.parse().ok()).unwrap_or(0);
    thread::sleep(length);
    child.kill().expect("a kill");
    for line in lines.map_while(Result::ok) {
        acknowledged = line.parse().unwrap_or(acknowledged);
    }
    child.wait().expect("its end");
    acknowledged
}

/// What the power cut leaves of a folder.
fn cut_power(live: &Path, shadow: &Path, left: &Path, half: bool, random: &mut StdRng) {
    fs::create_dir_all(left).expect("a folder");
    for found in fs::read_dir(live).expect("the outbox's folder") {
        let path = found.expect("an entry").path();
        let target = left.join(path.file_name().expect("a name"));
        if path.is_dir() {
            cut_power(&path, shadow, &target, half, random);
            continue;
        }
        let about = path.metadata().expect("what it is");
        let made = about.created().expect("when it was made").duration_since(UNIX_EPOCH).expect("since 1970");
        let name = format!("{}_{}_{}", about.ino(), made.as_secs(), made.subsec_nanos());
        let synced = fs::read(shadow.join(name)).unwrap_or_default();
        let bytes = if half { mixed(&synced, &fs::read(&path).expect("the file"), random) } else { synced };
        fs::write(target, bytes).expect("what is left");
    }
}

/// Of the blocks that differ a random half is as it was written, the others as they were synced.
fn mixed(synced: &[u8], written: &[u8], random: &mut StdRng) -> Vec<u8> {
    let length = if random.random() { written.len() } else { synced.len() };
    let mut bytes = synced.to_vec();
    bytes.resize(length, 0);
    for (place, block) in bytes.chunks_mut(BLOCK_BYTES).enumerate() {
        let from = place * BLOCK_BYTES;
        let new = written.get(from..written.len().min(from + block.len())).unwrap_or_default();
        if random.random() {
            block[..new.len()].copy_from_slice(new);
        }
    }
    bytes
}

/// Opens what is left, and looks for what was acknowledged: how many commits are missing.
fn lost(engine: &str, dir: &Path, acknowledged: u64) -> Result<u64, StoreError> {
    let store = open(engine, dir)?;
    let last = last(&store)?;
    let first = (last + 1).saturating_sub(KEPT_COMMITS).max(1);
    let mut missing = acknowledged.saturating_sub(last);
    for number in first..=last {
        let mut entries = (0..ENTRIES).map(|of| entry(number, of));
        let there = entries.all(|(key, value)| store.get(&key).is_ok_and(|found| found == Some(value)));
        missing += u64::from(!there);
    }
    Ok(missing)
}

#[derive(Debug, Default)]
struct Outcomes {
    rounds: u64,
    acknowledged: u64,
    lost: u64,
    unopenable: u64,
}

fn torture(engine: &str, library: &Path, rounds: u64, deaf: bool, random: &mut StdRng) -> Outcomes {
    let folder = tempfile::tempdir().expect("a folder");
    let mut outcomes = Outcomes::default();
    let mut dir = folder.path().join("round-0/outbox");
    for round in 1..=rounds {
        let shadow = folder.path().join(format!("shadow-{round}"));
        fs::create_dir_all(&shadow).and_then(|()| fs::create_dir_all(&dir)).expect("folders");
        keep_what_is_there(&dir, &shadow);
        let acknowledged =
            work(engine, &dir, &shadow, library, deaf, Duration::from_millis(random.random_range(0..150)));
        let left = folder.path().join(format!("round-{round}/outbox"));
        cut_power(&dir, &shadow, &left, random.random(), random);
        outcomes.rounds += 1;
        outcomes.acknowledged = acknowledged;
        let judged = catch_unwind(AssertUnwindSafe(|| lost(engine, &left, acknowledged)));
        fs::remove_dir_all(dir.parent().expect("its folder")).and_then(|()| fs::remove_dir_all(&shadow)).expect("less");
        match judged {
            Ok(Ok(0)) => dir = left,
            Ok(Ok(commits)) => {
                outcomes.lost += commits;
                if deaf {
                    return outcomes;
                }
                say(&format!("{engine}, round {round}: {commits} acknowledged commits are missing"));
                dir = left;
            }
            refused => {
                outcomes.unopenable += 1;
                if deaf {
                    return outcomes;
                }
                say(&format!("{engine}, round {round}: it could not be opened: {refused:?}"));
                dir = folder.path().join(format!("anew-{round}/outbox"));
            }
        }
    }
    outcomes
}

/// What is there when the power comes back is on the disk.
fn keep_what_is_there(dir: &Path, shadow: &Path) {
    for found in fs::read_dir(dir).expect("the outbox's folder") {
        let path = found.expect("an entry").path();
        if path.is_dir() {
            keep_what_is_there(&path, shadow);
            continue;
        }
        let about = path.metadata().expect("what it is");
        let made = about.created().expect("when it was made").duration_since(UNIX_EPOCH).expect("since 1970");
        let name = format!("{}_{}_{}", about.ino(), made.as_secs(), made.subsec_nanos());
        fs::copy(&path, shadow.join(name)).expect("a copy");
    }
}

fn build_library(folder: &Path) -> PathBuf {
    let library = folder.join("power.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/torture/power.c");
    let built = Command::new("cc").args(["-O2", "-Wall", "-shared", "-fPIC", "-o"]).arg(&library).arg(source).status();
    assert!(built.expect("cc, of the package gcc").success(), "the library was not built");
    library
}

fn main() -> ExitCode {
    if let Ok(engine) = env::var(CHILD) {
        write_for_ever(&engine, Path::new(&env::var_os("POWER_WATCH").expect("a folder")));
        return ExitCode::SUCCESS;
    }
    let rounds = from_env("ROUNDS").unwrap_or(ROUNDS);
    let seed = from_env("SEED").unwrap_or_else(rand::random);
    say(&format!("{rounds} power cuts for each engine, SEED={seed}"));
    let tools = tempfile::tempdir().expect("a folder");
    let library = build_library(tools.path());
    let mut random = StdRng::seed_from_u64(seed);
    std::panic::set_hook(Box::new(|_| {}));
    let control = torture("sled", &library, CONTROL_ROUNDS, true, &mut random);
    figure("torture_power_control_lost", (control.lost + control.unopenable) as f64, "commits or stores");
    let mut bad = u64::from(control.lost + control.unopenable == 0);
    if bad > 0 {
        say("the control lost nothing: the model does not show what it is meant to show");
    }
    for engine in ["sled", "redb"] {
        let outcomes = torture(engine, &library, rounds, false, &mut random);
        let print =
            |what: &str, value: u64, unit: &str| figure(&format!("torture_power_{engine}_{what}"), value as f64, unit);
        print("rounds", outcomes.rounds, "rounds");
        print("commits", outcomes.acknowledged, "commits");
        print("lost", outcomes.lost, "commits");
        print("unopenable", outcomes.unopenable, "stores");
        bad += outcomes.lost + outcomes.unopenable;
    }
    if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
