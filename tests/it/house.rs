//! The rules of the house, checked over the files of the repository: who may depend on whom, which file may name which
//! crate, how long a file may be, what no file may say.
//!
//! The tables come first: to change a rule, change its line. Each check is a pure function over a path and a text, so that
//! `can_fail` (at the end) shows for each that it finds what it is meant to find.

mod source;

use source::{code_of, is_word, paths_of};
use std::{fmt, fs, path::Path};

// --- The rules --------------------------------------------------------------------------------------------------------

/// Package, its manifest, and what its `[dependencies]` (of every kind) may not name: `schemas <- actors <- src`.
const DIRECTION: &[(&str, &str, &[&str])] = &[
    ("schemas", "schemas/Cargo.toml", &["tidegate-actors", "tidegate"]),
    ("actors", "actors/Cargo.toml", &["tidegate"]),
];

/// Crates that only the root package knows, and only in these files. A `-*` stands for every dependency so begun.
const FENCES: &[(&str, &[&str])] = &[
    ("rumqttc", &["src/adapters/mqtt"]),
    ("rumqttd", &["src/adapters/embedded_broker"]),
    ("arti-client", &["src/adapters/arti"]),
    ("tor-*", &["src/adapters/arti"]),
    ("rtime-clock", &["src/adapters/kernel_clock"]),
    ("sd-notify", &["src/adapters/service_manager"]),
    ("ruma", &["src/adapters/matrix"]),
    ("ruma-client", &["src/adapters/matrix"]),
    ("sled", &["src/adapters/disk_store/sled_engine", "src/receiver/store"]),
    ("redb", &["src/adapters/disk_store/redb_engine"]),
    ("actix-web", &["src/admin", "src/console", "src/device_endpoint", "src/receiver"]),
    ("clap", &["src/cli", "src/main.rs"]),
];

/// Paths that code under a folder may not name. `::a` stands for a crate or std module, `a::b` for a path that has it in it.
const PURITY: &[(&str, &str, &str)] = &[
    ("schemas/src", "::std::fs", "no I/O in schemas"),
    ("schemas/src", "::std::net", "no I/O in schemas (address types are in core::net)"),
    ("schemas/src", "::std::env", "no I/O in schemas"),
    ("schemas/src", "::std::process", "no I/O in schemas"),
    ("schemas/src", "::std::thread", "no I/O in schemas"),
    ("schemas/src", "::tokio", "no I/O in schemas"),
    ("schemas/src", "::rand", "no randomness in schemas"),
    ("schemas/src", "Uuid::new_v4", "no randomness in schemas"),
    ("schemas/src", "SystemTime::now", "no clock in schemas"),
    ("schemas/src", "Instant::now", "no clock in schemas"),
    ("schemas/src", "Timestamp::now", "no clock in schemas"),
    ("schemas/src", "Zoned::now", "no clock in schemas"),
    ("actors/src", "::std::fs", "actors reach the disk by their ports"),
    ("actors/src", "::tokio::fs", "actors reach the disk by their ports"),
    ("actors/src", "::std::net", "actors reach the network by their ports"),
    ("actors/src", "::tokio::net", "actors reach the network by their ports"),
];

/// Ways to start an actor or a task that the supervisor doesn't see, and what to take instead.
const UNSEEN: &[(&str, &str)] = &[
    ("actix::spawn", "OwnedTask"),
    ("tokio::spawn", "OwnedTask"),
    ("task::spawn", "OwnedTask"),
    ("task::spawn_local", "OwnedTask"),
    ("thread::spawn", "OwnedTask::adopt, or spawn_blocking and its answer"),
    ("Actor::start", "Running::start"),
];

/// Where they may stand all the same, in the room of the actors: the supervisor itself, fakes, tests.
const SEEING: &[&str] = &["/supervision/", "/testing/", "/tests/", "/tests.rs"];

/// What no code may contain, wherever it stands (comments and literals don't count).
const BANNED_CODE: &[(&str, &str)] = &[
    ("#[ignore", "a test that can't run is removed; what it needs is installed"),
    ("#[allow(", "say #[expect(.., reason = \"..\")]"),
    ("#![allow(", "say #![expect(.., reason = \"..\")]"),
    ("unbounded_channel", "every queue has a limit"),
    ("UnboundedSender", "every queue has a limit"),
    ("UnboundedReceiver", "every queue has a limit"),
    ("mpsc::unbounded", "every queue has a limit"),
    ("std::sync::mpsc::channel", "has no limit: use sync_channel"),
    (" channel()", "std's channel has no limit: use sync_channel"),
    ("mpsc::channel()", "std's channel has no limit: use sync_channel"),
];

/// What no text may contain, comments and documents included, whatever its case; where it may stand all the same; why.
/// tor's own settings (HiddenServiceDir and its like) are left out before the search.
const BANNED_WORDS: &[(&str, &[&str], &str)] = &[
    ("hidden service", &[], "say onion service"),
    ("hidden-service", &[], "say onion service"),
    ("hidden_service", LAB, "say onion service"),
    ("hiddenservice", LAB, "say onion service"),
    ("todo:", &[], "do it, or leave it out"),
    ("fixme", &[], "do it, or leave it out"),
];

/// Where the onion services of a tor process may be named as tor names them.
const LAB: &[&str] = &["src/lab", "tests/", "benches/"];

/// Lines a Rust source file may have; a longer one is split.
const FILE_LINES_MAX: usize = 600;

/// The folders and single files that hold what is written by hand.
const WRITTEN: &[&str] = &[
    "Cargo.toml",
    "README.md",
    "CHANGELOG.md",
    "Makefile",
    "deny.toml",
    "clippy.toml",
    ".ci",
    "schemas",
    "actors",
    "src",
    "tests",
    "benches",
    "docs",
    "deploy",
];

// --- The checks -------------------------------------------------------------------------------------------------------

/// One breach of one rule.
#[derive(Debug, PartialEq, Eq)]
struct Breach {
    path: String,
    /// From 1.
    line: usize,
    what: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

fn breach(path: &str, line: usize, what: impl Into<String>) -> Breach {
    Breach { path: path.to_owned(), line, what: what.into() }
}

/// A dependency as a manifest writes it: its name, whether it only points at the workspace's entry, its line (from 1).
struct Dependency<'a> {
    name: &'a str,
    of_workspace: bool,
    line: usize,
}

/// The entries of every `[...dependencies]` table. Manifests write one dependency a line.
fn dependencies(manifest: &str) -> Vec<Dependency<'_>> {
    let mut inside = false;
    let mut found = Vec::new();
    for (index, line) in manifest.lines().enumerate() {
        if let Some(header) = line.strip_prefix('[') {
            inside = header.trim_end().trim_end_matches(']').ends_with("dependencies");
        } else if let (true, false, Some((name, value))) = (inside, line.starts_with('#'), line.split_once('=')) {
            let of_workspace = value.contains("workspace = true") || name.trim().ends_with(".workspace");
            found.push(Dependency { name: name.trim().trim_end_matches(".workspace"), of_workspace, line: index + 1 });
        }
    }
    found
}

/// Packages lower in the house know nothing of those above, nor any fenced crate.
fn check_direction(path: &str, manifest: &str) -> Vec<Breach> {
    let Some((package, _, forbidden)) = DIRECTION.iter().find(|(_, of, _)| *of == path) else { return Vec::new() };
    dependencies(manifest)
        .iter()
        .filter(|dependency| {
            forbidden.contains(&dependency.name) || FENCES.iter().any(|(fenced, _)| fits(fenced, dependency.name))
        })
        .map(|d| breach(path, d.line, format!("{package} may not depend on {}", d.name)))
        .collect()
}

fn fits(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |start| name.starts_with(start))
}

/// Every dependency says what it is for, in a comment above it or above its family (`tor-a`, `tor-b`) of neighbours.
fn check_dependency_comments(path: &str, manifest: &str) -> Vec<Breach> {
    let lines: Vec<&str> = manifest.lines().collect();
    let family = |name: &str| name.split(['-', '_']).next().unwrap_or_default().to_owned();
    let found = dependencies(manifest);
    let mut breaches = Vec::new();
    for (index, dependency) in found.iter().enumerate() {
        let above = if dependency.line >= 2 { lines[dependency.line - 2] } else { "" };
        let said_by_family = index > 0
            && found[index - 1].line + 1 == dependency.line
            && family(found[index - 1].name) == family(dependency.name);
        if !dependency.of_workspace && !above.starts_with("# ") && !said_by_family {
            let what = format!("the dependency {} has no comment above it that says what it is for", dependency.name);
            breaches.push(breach(path, dependency.line, what));
        }
    }
    breaches
}

/// A fenced crate is named only where its fence says. Tests and benches may drive the real parts directly.
fn check_fences(path: &str, text: &str, root_dependencies: &[String]) -> Vec<Breach> {
    if !["schemas/", "actors/", "src/"].iter().any(|shipped| path.starts_with(shipped)) {
        return Vec::new();
    }
    let paths = paths_of(&code_of(text));
    let mut breaches = Vec::new();
    for (fenced, homes) in FENCES {
        if homes.iter().any(|home| path.starts_with(home)) {
            continue;
        }
        for name in root_dependencies.iter().filter(|name| fits(fenced, name)) {
            let root = format!("::{}", name.replace('-', "_"));
            let lines = paths.iter().filter(|named| names(named, &root)).map(|named| named.line);
            breaches.extend(lines.map(|line| breach(path, line, format!("{name} belongs in {}", homes.join(", ")))));
        }
    }
    breaches.dedup();
    breaches
}

/// Whether a path has the pattern in it (`Timestamp::now`) or begins with it (`::std::fs`).
fn names(named: &source::NamedPath, pattern: &str) -> bool {
    let wanted: Vec<&str> = pattern.trim_start_matches("::").split("::").collect();
    if pattern.starts_with("::") {
        // One segment alone, outside a `use`, is a variable or a module of our own.
        let is_path = named.imported || named.segments.len() > 1;
        is_path && named.segments.len() >= wanted.len() && named.segments.iter().zip(&wanted).all(|(a, b)| a == b)
    } else {
        named.segments.windows(wanted.len()).any(|window| window.iter().zip(&wanted).all(|(a, b)| a == b))
    }
}

fn check_purity(path: &str, text: &str) -> Vec<Breach> {
    let paths = paths_of(&code_of(text));
    let rules = PURITY.iter().filter(|(folder, _, _)| path.starts_with(folder));
    let mut breaches: Vec<Breach> = rules
        .flat_map(|(_, pattern, why)| {
            let found = paths.iter().filter(|named| names(named, pattern));
            found.map(move |named| breach(path, named.line, format!("{}: {why}", named.segments.join("::"))))
        })
        .collect();
    breaches.dedup();
    breaches
}

/// An actor or a task that nobody supervises falls in silence: no restart, no test that makes it fall.
fn check_supervised(path: &str, text: &str) -> Vec<Breach> {
    if !path.starts_with("actors/src/") || SEEING.iter().any(|place| path.contains(place)) {
        return Vec::new();
    }
    let code = code_of(text);
    let mut breaches = Vec::new();
    for (unseen, instead) in UNSEEN {
        let found = paths_of(&code).into_iter().filter(|named| names(named, unseen));
        breaches.extend(found.map(|named| breach(path, named.line, format!("{unseen}: take {instead}"))));
    }
    let started = code.lines().enumerate().filter(|(_, line)| line.contains(".start()"));
    breaches.extend(started.map(|(index, _)| breach(path, index + 1, ".start(): take Running::start")));
    breaches.dedup();
    breaches
}

fn check_banned_code(path: &str, text: &str) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for (index, line) in code_of(text).lines().enumerate() {
        let line = without_turbofish(line);
        for (banned, why) in BANNED_CODE {
            if line.contains(banned) {
                breaches.push(breach(path, index + 1, format!("{}: {why}", banned.trim())));
            }
        }
    }
    breaches
}

/// `channel::<u8>()` reads as `channel()`.
fn without_turbofish(line: &str) -> String {
    let Some(open) = line.find("::<") else { return line.to_owned() };
    match line[open..].find(">(") {
        Some(close) => format!("{}{}", &line[..open], without_turbofish(&line[open + close + 1..])),
        None => line.to_owned(),
    }
}

fn check_words(path: &str, text: &str) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = without_tor_settings(line).to_lowercase();
        for (word, except, why) in BANNED_WORDS {
            if line.contains(word) && !except.iter().any(|place| path.starts_with(place)) {
                breaches.push(breach(path, index + 1, format!("\"{word}\": {why}")));
            }
        }
    }
    breaches
}

/// Without tor's own setting names: HiddenServiceDir, HiddenServicePort and the like.
fn without_tor_settings(line: &str) -> String {
    line.split_inclusive(|c| !is_word(c))
        .filter(|word| {
            let setting = word.strip_prefix("HiddenService").and_then(|rest| rest.chars().next());
            !setting.is_some_and(char::is_uppercase)
        })
        .collect()
}

fn check_shape(path: &str, text: &str) -> Vec<Breach> {
    let mut breaches = Vec::new();
    if !text.starts_with("//! ") {
        breaches.push(breach(path, 1, "the file does not begin with a //! that says what it is"));
    }
    let lines = text.lines().count();
    if lines > FILE_LINES_MAX {
        breaches.push(breach(path, lines, format!("the file has {lines} lines, {FILE_LINES_MAX} at most: split it")));
    }
    breaches
}

// --- The repository ---------------------------------------------------------------------------------------------------

/// Every text file that is written by hand, as (path from the root, text); the house rules' own files speak of what they ban.
fn repository() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for entry in WRITTEN {
        collect(root, Path::new(entry), &mut files);
    }
    files.sort();
    files
}

fn collect(root: &Path, relative: &Path, files: &mut Vec<(String, String)>) {
    let full = root.join(relative);
    if full.is_dir() {
        let entries = fs::read_dir(&full).expect("a folder of the repository can be listed");
        for entry in entries {
            let name = entry.expect("a folder of the repository can be listed").file_name();
            if name != "target" {
                collect(root, &relative.join(name), files);
            }
        }
    } else if let Ok(text) = fs::read_to_string(&full) {
        // What isn't text (golden records, images) has no words to check.
        files.push((relative.to_string_lossy().into_owned(), text));
    }
}

fn expect_none(breaches: &[Breach]) {
    let list: Vec<String> = breaches.iter().map(ToString::to_string).collect();
    assert!(list.is_empty(), "{} breaches of the house rules:\n{}", list.len(), list.join("\n"));
}

fn over(suffix: &str, check: impl Fn(&str, &str) -> Vec<Breach>) {
    let files: Vec<_> = repository().into_iter().filter(|(path, _)| path.ends_with(suffix)).collect();
    assert!(files.len() >= 3, "only {} files end in {suffix:?}: the walk over the repository is broken", files.len());
    expect_none(&files.iter().flat_map(|(path, text)| check(path, text)).collect::<Vec<_>>());
}

fn root_dependencies() -> Vec<String> {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).expect("readable");
    dependencies(&manifest).iter().map(|d| d.name.to_owned()).collect()
}

#[test]
fn dependencies_point_down() {
    over("Cargo.toml", check_direction);
}

#[test]
fn every_dependency_says_what_it_is_for() {
    over("Cargo.toml", check_dependency_comments);
}

#[test]
fn heavy_crates_stay_behind_their_fence() {
    let dependencies = root_dependencies();
    for (fenced, _) in FENCES {
        let known = dependencies.iter().any(|name| fits(fenced, name));
        assert!(known, "the fence around {fenced} guards nothing: the root package doesn't depend on it");
    }
    over(".rs", |path, text| check_fences(path, text, &dependencies));
}

#[test]
fn schemas_and_actors_are_pure() {
    over(".rs", check_purity);
}

#[test]
fn actors_start_nothing_that_the_supervisor_does_not_see() {
    over(".rs", check_supervised);
}

#[test]
fn code_contains_nothing_banned() {
    over(".rs", check_banned_code);
}

#[test]
fn words_are_those_of_the_glossary() {
    over("", |path, text| if path == "tests/it/house.rs" { Vec::new() } else { check_words(path, text) });
}

#[test]
fn files_are_short_and_say_what_they_are() {
    over(".rs", check_shape);
}

/// Each check finds its breach in a bad sample, and nothing in the good one beside it.
mod can_fail {
    use super::*;

    /// How many breaches `check` finds in the bad text; the good text must have none.
    fn found(bad: &[Breach], good: &[Breach]) -> usize {
        expect_none(good);
        bad.len()
    }

    #[test]
    fn direction() {
        let bad = "[dependencies]\ntidegate-actors = { workspace = true }\n[dev-dependencies]\nsled = \"1\"\ntor-cell = \"1\"\n";
        let good = "[package]\nname = \"tidegate\"\n[dependencies]\nserde = { workspace = true }\n";
        let check = |text| check_direction("schemas/Cargo.toml", text);
        assert_eq!(found(&check(bad), &check(good)), 3);
        let upward = "[dependencies]\ntidegate = { path = \"..\" }\n";
        assert_eq!(check_direction("actors/Cargo.toml", upward).len(), 1);
    }

    #[test]
    fn dependency_comments() {
        let bad = "[dependencies]\n# Said.\na = \"1\"\nb = \"1\"\n\nc = { version = \"1\" }\n";
        let good =
            "[dependencies]\nw = { workspace = true }\nv.workspace = true\n# Said.\ntor-a = \"1\"\ntor-b = \"1\"\n";
        let check = |text| check_dependency_comments("Cargo.toml", text);
        assert_eq!(found(&check(bad), &check(good)), 2);
    }

    #[test]
    fn fences() {
        let known = ["sled".to_owned(), "tor-cell".to_owned(), "clap".to_owned()];
        let bad = "//! x\nuse {sled::Db, std::io};\n#[derive(clap::Parser)]\nstruct A(tor_cell::X);\n";
        let good = "//! sled::Db\nuse crate::adapters::sled::Store;\nlet sled = tor_budget::X; // clap::Parser\n";
        let check = |path, text| check_fences(path, text, &known);
        assert_eq!(found(&check("src/outbox.rs", bad), &check("src/outbox.rs", good)), 3);
        assert_eq!(check("src/adapters/disk_store/sled_engine.rs", "use sled::Db;"), []);
        assert_eq!(check("tests/it/a.rs", "use sled::Db;"), []);
    }

    #[test]
    fn purity() {
        let bad = "use std::{fs, sync::Arc};\nuse tokio;\nlet t = jiff::Timestamp::now();\nlet i = Uuid::new_v4();\n";
        let good = "use std::fmt;\nuse core::net::IpAddr;\nlet rand = 1; // std::fs\nlet t = clock.now();\n";
        assert_eq!(found(&check_purity("schemas/src/a.rs", bad), &check_purity("schemas/src/a.rs", good)), 4);
        assert_eq!(check_purity("actors/src/a.rs", bad).len(), 1);
        assert_eq!(check_purity("src/a.rs", bad), []);
    }

    #[test]
    fn supervised() {
        let bad =
            "use actix::spawn;\nlet a = Toy.start();\nlet t = tokio::task::spawn(async {});\nActor::start(Toy);\n";
        let good = "let t = OwnedTask::spawn(ctx, w, n, f);\nctx.spawn(f);\nlet j = tokio::task::spawn_blocking(f);\n\
                    let (a, r) = Running::start(Toy); // actix::spawn\n";
        assert_eq!(found(&check_supervised("actors/src/a.rs", bad), &check_supervised("actors/src/a.rs", good)), 4);
        for elsewhere in ["actors/src/supervision/child.rs", "actors/src/a/tests.rs", "src/wiring.rs"] {
            assert_eq!(check_supervised(elsewhere, bad), []);
        }
    }

    #[test]
    fn banned_code() {
        for bad in [
            "#[ignore = \"slow\"]",
            "#[allow(dead_code)]",
            "#![allow(dead_code)]",
            "let (a, b) = tokio::sync::mpsc::unbounded_channel();",
            "let (a, b) = mpsc::channel::<Vec<u8>>();",
            "let (a, b) = channel();",
            "use std::sync::mpsc::channel;",
        ] {
            assert_ne!(check_banned_code("a.rs", bad), [], "{bad}");
        }
        let good = "let (a, b) = mpsc::channel::<u8>(16);\nlet (a, b) = oneshot::channel();\nlet c = mpsc::sync_channel(1); // #[ignore]\nlet d = \"#[allow(\";";
        expect_none(&check_banned_code("a.rs", good));
    }

    #[test]
    fn words() {
        for bad in ["a Hidden Service", "hidden_service_port", "struct HiddenService;", "// TODO: later", "FIXME"] {
            assert_eq!(check_words("a.md", bad).len(), 1, "{bad}");
        }
        assert_eq!(check_words("src/lab/a.rs", "a hidden service").len(), 1);
        expect_none(&check_words("src/lab/a.rs", "fn hidden_service() -> HiddenService {}"));
        expect_none(&check_words("a.md", "HiddenServiceDir /var/lib/tor/x\nHiddenServicePort 80, an onion service"));
    }

    #[test]
    fn shape() {
        let long = "//! x\n".repeat(FILE_LINES_MAX + 1);
        assert_eq!(found(&check_shape("a.rs", &long), &check_shape("a.rs", "//! x\n")), 1);
        assert_eq!(check_shape("a.rs", "use std::fmt;\n").len(), 1);
    }
}
