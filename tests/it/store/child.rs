//! Child processes: this very test binary, started again to do one thing, so that it can be killed, traced or starved.
//!
//! A test that needs one starts itself, by its name, with a folder in the environment; there, it does its child's part instead.

use super::{data_of, open_with};
use std::{
    ffi::OsStr,
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};
use tidegate::adapters::disk_store::DiskStore;
use tidegate_actors::ports::outbox_store::{Batch, OutboxStore, VALUE_BYTES_MAX};
use tidegate_schemas::{config::file::OutboxEngine, messages::outbox::StoreError};

const FOLDER: &str = "TIDEGATE_TEST_STORE";
const ENGINE: &str = "TIDEGATE_TEST_ENGINE";

/// Starts the test of this name as a child, by `prefix` (such as strace with its options) if there is one.
pub fn start(prefix: &[&OsStr], test: &str, engine: OutboxEngine, dir: &Path) -> Process {
    let mut words = prefix.to_vec();
    let program = std::env::current_exe().unwrap();
    words.push(program.as_os_str());
    let mut errors = tempfile::tempfile().unwrap();
    let child = Command::new(words[0])
        .args(&words[1..])
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(FOLDER, dir)
        .env(ENGINE, data_of(engine))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(errors.try_clone().unwrap())
        .spawn();
    let mut child = child.unwrap_or_else(|error| panic!("{:?} could not be started: {error}", words[0]));
    errors.rewind().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    Process { child, lines, errors }
}

/// A child, killed when it is dropped.
pub struct Process {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
    errors: File,
}

impl Process {
    /// The next line that begins with the word, without it.
    ///
    /// # Panics
    /// When it ended without one; with what it said on its standard error.
    pub fn expect(&mut self, word: &str) -> String {
        self.next(word).unwrap_or_else(|| {
            let mut errors = String::new();
            self.errors.rewind().unwrap();
            self.errors.read_to_string(&mut errors).unwrap();
            panic!("the child ended without saying {word:?}; it said: {errors}")
        })
    }

    /// The next line that begins with the word, without it; `None` at the end.
    pub fn next(&mut self, word: &str) -> Option<String> {
        let found = |line: std::io::Result<String>| line.ok()?.strip_prefix(word).map(|rest| rest.trim().to_owned());
        self.lines.find_map(found)
    }

    /// Kills it (SIGKILL), and returns what it had said.
    pub fn kill(mut self, word: &str) -> Vec<String> {
        self.child.kill().unwrap();
        let mut said = Vec::new();
        while let Some(line) = self.next(word) {
            said.push(line);
        }
        self.child.wait().unwrap();
        said
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The folder of a child; `None` in the test that starts it.
pub fn folder() -> Option<PathBuf> {
    std::env::var_os(FOLDER).map(PathBuf::from)
}

/// The engine of a child.
fn engine() -> OutboxEngine {
    let data = std::env::var(ENGINE).unwrap();
    [OutboxEngine::Sled, OutboxEngine::Redb].into_iter().find(|engine| data_of(*engine) == data).unwrap()
}

fn open(dir: &Path) -> Result<std::sync::Arc<DiskStore>, StoreError> {
    open_with(engine(), dir)
}

/// Says a line, at once.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // The test harness has begun a line of its own.
    writeln!(out, "\n{line}").unwrap();
    out.flush().unwrap();
}

/// Entry `n` of batch `round`: its value repeats its key, so that a value under a wrong key shows.
pub fn entry(round: u64, n: u8) -> (Vec<u8>, Vec<u8>) {
    let key = [&b"m"[..], &round.to_be_bytes(), &[n]].concat();
    let length = 20 + usize::from(n) * 37 + usize::try_from(round % 11).unwrap() * 60;
    let value = key.iter().copied().cycle().take(length).collect();
    (key, value)
}

/// Entries of one batch.
pub const ENTRIES: u8 = 16;

/// The batch of a round: sixteen entries, the round's number, and every third time the removal of a round before.
pub fn round_batch(round: u64) -> Batch {
    let mut batch = Batch::default();
    for n in 0..ENTRIES {
        let (key, value) = entry(round, n);
        batch.put(key, value);
    }
    batch.put(b"round".to_vec(), round.to_be_bytes().to_vec());
    if let Some(removed) = removed_by(round) {
        for n in 0..ENTRIES {
            batch.remove(entry(removed, n).0);
        }
    }
    batch
}

/// The round that this one removes.
pub fn removed_by(round: u64) -> Option<u64> {
    (round > 30 && round.is_multiple_of(3)).then(|| round - 30)
}

/// The last round in a store.
pub fn last_round(store: &dyn OutboxStore) -> u64 {
    store.get(b"round").unwrap().map_or(0, |bytes| u64::from_be_bytes(bytes.try_into().unwrap()))
}

/// Commits batches, saying each, until it is killed.
pub fn commits_until_it_is_killed(dir: &Path) {
    let store = open(dir).unwrap();
    for round in last_round(&*store) + 1.. {
        say(&format!("try {round}"));
        store.commit(&round_batch(round)).unwrap();
        say(&format!("ack {round}"));
    }
}

/// Does the same while another thread has the store written anew, again and again.
pub fn commits_and_compacts_until_it_is_killed(dir: &Path) {
    let store = open(dir).unwrap();
    let compacted = std::sync::Arc::clone(&store);
    std::thread::spawn(move || {
        loop {
            compacted.compact(&mut |_| {}).unwrap();
        }
    });
    for round in last_round(&*store) + 1.. {
        store.commit(&round_batch(round)).unwrap();
        say(&format!("ack {round}"));
    }
}

/// Commits forty batches, saying each.
pub fn commits_forty_times(dir: &Path) {
    let store = open(dir).unwrap();
    say("ack 0");
    for round in 1..=40 {
        store.commit(&round_batch(round)).unwrap();
        say(&format!("ack {round}"));
    }
    say("done");
}

/// On a small disk: fills it, opens without any room, drains, fills again.
pub fn fills_the_disk(dir: &Path) {
    let mut store = open(dir).unwrap();
    assert!(dir.join("ballast").exists(), "there is room for a ballast");
    let mut batches = 0;
    while batches < 10_000 {
        match store.commit(&large_batch(batches, true)) {
            Ok(()) => batches += 1,
            Err(error) => {
                assert_eq!(error, StoreError::Full);
                break;
            }
        }
    }
    let count = |store: &DiskStore| store.scan(b"m", b"n", usize::MAX, false).unwrap().len();
    let stored = batches as usize * usize::from(LARGE_ENTRIES);
    assert_eq!(count(&store), stored, "reads go on");
    assert_eq!(store.commit(&large_batch(batches, true)), Err(StoreError::Full), "it stays full");
    assert!(dir.join("ballast").exists(), "adding gives nothing up");

    // Somebody else takes all the rest: not even an opening has room then, without the ballast.
    let filler = dir.with_file_name("filler");
    let fill = || {
        let mut file = std::fs::File::create(&filler).unwrap();
        while file.write_all(&[0; 4_096]).is_ok() {}
        file
    };
    drop(fill());
    drop(store);
    store = open(dir).unwrap();
    assert!(!dir.join("ballast").exists(), "the opening needed the ballast");
    assert_eq!(count(&store), stored, "nothing is lost");

    // With a few MiB left, draining is possible, adding isn't.
    let filled = fill();
    filled.set_len(filled.metadata().unwrap().len() - 6 * 1_024 * 1_024).unwrap();
    assert_eq!(store.commit(&large_batch(batches, true)), Err(StoreError::Full));
    for number in 0..batches {
        store.commit(&large_batch(number, false)).unwrap();
    }
    assert_eq!(count(&store), 0, "all of it is drained");
    // The log has not become smaller, but what it holds fits into it again.
    for number in 0..batches / 6 {
        store.commit(&large_batch(number, true)).unwrap();
    }
    say("done");
}

const LARGE_ENTRIES: u8 = 40;

/// Puts, or removes, forty values of 4 KiB.
fn large_batch(number: u64, put: bool) -> Batch {
    let key = |n: u8| [&b"m"[..], &number.to_be_bytes(), &[n]].concat();
    Batch { changes: (0..LARGE_ENTRIES).map(|n| (key(n), put.then(|| vec![n; VALUE_BYTES_MAX]))).collect() }
}

/// Commits while writes fail again and again, and reopens after each failure.
pub fn meets_failing_writes(dir: &Path) {
    let store = open(dir).unwrap();
    let (mut round, mut failures) = (0, 0);
    let limit = rustix::process::getrlimit(rustix::process::Resource::Fsize);
    let set_limit = |current| {
        let tight = rustix::process::Rlimit { current: Some(current), maximum: limit.maximum };
        rustix::process::setrlimit(rustix::process::Resource::Fsize, tight).unwrap();
    };
    while failures < 20 {
        // The log may grow by a few commits only; then every write fails.
        set_limit(dir.join(data_of(engine())).metadata().unwrap().len() + failures % 4 * 20_000);
        let first = round;
        let error = loop {
            match store.commit(&round_batch(round + 1)) {
                Ok(()) => round += 1,
                Err(error) => break error,
            }
            if round > first + 10 {
                // There was much room within the file: now the writes beyond its beginning fail.
                set_limit(failures * VALUE_BYTES_MAX as u64);
            }
        };
        assert!(matches!(error, StoreError::Io(_)), "{error}");
        assert_eq!(store.commit(&round_batch(round + 1)), Err(StoreError::Poisoned));
        assert_eq!(store.get(b"round"), Err(StoreError::Poisoned));
        rustix::process::setrlimit(rustix::process::Resource::Fsize, limit).unwrap();
        store.reopen().unwrap();
        failures += 1;
        // The outcome of the failed one was unknown.
        let last = last_round(&*store);
        assert!(last == round || last == round + 1, "{last}, after {round}");
        round = last;
        super::crash::check_rounds(&*store, round);
        // It is healed.
        for _ in 0..5 {
            round += 1;
            store.commit(&round_batch(round)).unwrap();
        }
    }
    say(&format!("done {round}"));
}
