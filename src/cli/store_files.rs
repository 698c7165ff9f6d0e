//! `tidegate outbox check`, `export` and `import`: work on the outbox's own folder, while no gateway has it.
//!
//! An import reads its file twice: once to be sure of it, and once to make a new store of it, counters last; a store whose import did
//! not come to its end has none, and no gateway opens it. What a restored outbox holds may have been delivered since it was
//! exported, so all its destinations come up paused, and a person lets them go on.

use super::{
    Global,
    exit::{self, Failure},
    output, paths,
};
use crate::adapters::{
    disk_store::{DiskOptions, DiskStore, OUTBOX_FOLDER, engine_in},
    system_clock::SystemClock,
};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::{
    fs::{self, File, OpenOptions},
    io::{BufReader, BufWriter},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};
use tidegate_actors::{
    outbox::examine::{Examined, examine},
    ports::{
        clock::Clock as _,
        outbox_store::{BATCH_BYTES_MAX, Batch, OutboxStore},
    },
};
use tidegate_schemas::{
    config::file::OutboxEngine,
    export::{Exporter, FORMAT, Header, Importer},
    messages::outbox::StoreError,
    record::{self, DestinationRecord, LAYOUT, key},
};

/// Pairs read at a time.
const PAGE: usize = 256;

/// What to export.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The file to write; it must not exist. It will hold the bodies of all messages
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// What to import.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// A file that `export` wrote
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Don't pause the destinations: the file was exported just now, and no gateway ran since
    #[arg(long)]
    as_is: bool,
    /// The database that is to keep it, if not the one of the config
    #[arg(long, value_name = "ENGINE")]
    engine: Option<EngineName>,
}

/// An engine on the command line.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum EngineName {
    Sled,
    Redb,
}

impl From<EngineName> for OutboxEngine {
    fn from(name: EngineName) -> Self {
        match name {
            EngineName::Sled => Self::Sled,
            EngineName::Redb => Self::Redb,
        }
    }
}

#[derive(Serialize)]
struct Checked {
    records: u64,
    bytes: u64,
    disk_bytes: u64,
    accepted: u64,
    waiting: u64,
    ledger: u64,
    quarantine: u64,
    destinations: Vec<CheckedDestination>,
    problems: Vec<String>,
    problems_total: u64,
}

#[derive(Serialize)]
struct CheckedDestination {
    destination: String,
    queued: u64,
    aside: u64,
    body_bytes: u64,
    /// Younger than an hour, than a day, than a week, and older.
    by_age: [u64; 4],
}

/// Reads everything, and compares it with the counters.
pub(super) fn check(global: &Global) -> Result<ExitCode, Failure> {
    let store = open(global)?;
    let bar = spinner("records read");
    let found =
        examine(&*store, &mut |records| bar.set_position(records)).map_err(|error| failed("reading it", &error));
    bar.finish_and_clear();
    let found = found?;
    let disk_bytes = store.disk_bytes();
    close(&store)?;
    tell(global, found, disk_bytes)
}

fn tell(global: &Global, found: Examined, disk_bytes: u64) -> Result<ExitCode, Failure> {
    let account = found.meta.as_ref().map(|meta| meta.account).unwrap_or_default();
    let destinations = found.destinations.into_iter().map(|held| CheckedDestination {
        destination: held.record.name.to_string(),
        queued: held.queued,
        aside: held.aside,
        body_bytes: held.body_bytes,
        by_age: held.by_age,
    });
    let checked = Checked {
        records: found.records,
        bytes: found.bytes,
        disk_bytes,
        accepted: account.accepted,
        waiting: account.queued + account.held + account.parked + account.dead,
        ledger: found.ledger,
        quarantine: found.quarantine,
        destinations: destinations.collect(),
        problems: found.problems,
        problems_total: found.problems_total,
    };
    let code = if checked.problems_total == 0 { exit::OK } else { exit::FAILED };
    if global.json {
        output::json(&checked)?;
        return Ok(ExitCode::from(code));
    }
    let mut table =
        output::table(&["destination", "queued", "aside", "bytes", "< 1 hour", "< 1 day", "< 1 week", "older"]);
    for held in &checked.destinations {
        let [hour, day, week, older] = held.by_age;
        table.add_row([
            held.destination.clone(),
            held.queued.to_string(),
            held.aside.to_string(),
            held.body_bytes.to_string(),
            hour.to_string(),
            day.to_string(),
            week.to_string(),
            older.to_string(),
        ]);
    }
    if !checked.destinations.is_empty() {
        output::print(&table)?;
    }
    output::line(&format!(
        "{} records with {} on {} of disk; {} messages waiting of {} accepted; {} in the ledger, {} in quarantine",
        checked.records,
        output::bytes(checked.bytes),
        output::bytes(checked.disk_bytes),
        checked.waiting,
        checked.accepted,
        checked.ledger,
        checked.quarantine
    ))?;
    for problem in &checked.problems {
        output::message(&format!("problem: {problem}"));
    }
    let untold = checked.problems_total - checked.problems.len() as u64;
    match (checked.problems_total, untold) {
        (0, _) => output::line("everything can be read, and the counters are right")?,
        (_, 0) => {}
        (_, untold) => output::message(&format!("and {untold} more")),
    }
    Ok(ExitCode::from(code))
}

/// Writes everything to a file.
pub(super) fn export(global: &Global, args: &ExportArgs) -> Result<ExitCode, Failure> {
    let store = open(global)?;
    let io = |error: std::io::Error| Failure::failed(format!("could not write {}: {error}", args.file.display()));
    if args.file.exists() {
        return Err(Failure::usage(format!("{} exists already: name a new file", args.file.display())));
    }
    let mut part = args.file.clone().into_os_string();
    part.push(".part");
    let part = PathBuf::from(part);
    // A part that was left behind is of an export that did not come to its end. Nothing that somebody else put there is written to.
    match fs::remove_file(&part) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part).map_err(io)?;
    let header = Header {
        format: FORMAT,
        layout: LAYOUT,
        written_by: format!("tidegate {}", env!("CARGO_PKG_VERSION")),
        written_ms: SystemClock::default().now().as_millisecond(),
    };
    let mut exporter = Exporter::begin(BufWriter::new(file), &header).map_err(io)?;
    let bar = spinner("records written");
    let mut from = vec![0];
    loop {
        let page = store.scan(&from, &[255; 4], PAGE, false).map_err(|error| failed("reading it", &error))?;
        for (at, value) in &page {
            exporter.pair(at, value).map_err(io)?;
        }
        bar.inc(page.len() as u64);
        match page.last() {
            Some((last, _)) if page.len() == PAGE => from = [last.as_slice(), &[0]].concat(),
            _ => break,
        }
    }
    bar.finish_and_clear();
    let (pairs, file) = exporter.end().map_err(io)?;
    file.into_inner().map_err(|error| io(error.into_error()))?.sync_all().map_err(io)?;
    fs::rename(&part, &args.file).map_err(io)?;
    let folder = args.file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)?;
    close(&store)?;
    output::message(&format!(
        "{pairs} records are in {}; it holds the bodies of all messages that wait: keep it as safe as the outbox",
        args.file.display()
    ));
    Ok(ExitCode::from(exit::OK))
}

/// Makes a new outbox of an export.
pub(super) fn import(global: &Global, args: &ImportArgs) -> Result<ExitCode, Failure> {
    let settings = paths::settings(global)?;
    let folder = settings.state_dir.join(OUTBOX_FOLDER);
    if engine_in(&folder).is_ok_and(|found| found.is_some()) {
        return Err(Failure::usage(format!(
            "there is an outbox in {}: move it away first; two of them can't be made one",
            folder.display()
        )));
    }
    let pairs = verify(&args.file)?;
    let engine = args.engine.map_or(settings.engine, OutboxEngine::from);
    let store = DiskStore::open(&folder, DiskOptions { engine, ..DiskOptions::default() })
        .map_err(|error| failed("making it", &error))?;
    let paused = fill(&*store, args, pairs)?;
    let found = examine(&*store, &mut |_| {}).map_err(|error| failed("reading it again", &error))?;
    close(&store)?;
    if found.problems_total > 0 {
        for problem in &found.problems {
            output::message(&format!("problem: {problem}"));
        }
        return Err(Failure::failed("all records were taken over, but they don't agree with each other; see above"));
    }
    output::message(&format!("{} records are in {}", found.records, folder.display()));
    if paused > 0 {
        let come = if paused == 1 { "destination comes" } else { "destinations come" };
        output::message(&format!(
            "{paused} {come} up paused: what was delivered since the export would be delivered again. Look at \
             `tidegate outbox list`, then let them go on with `tidegate destination resume NAME`"
        ));
    }
    Ok(ExitCode::from(exit::OK))
}

fn reader(file: &Path) -> Result<Importer<BufReader<File>>, Failure> {
    let opened =
        File::open(file).map_err(|error| Failure::failed(format!("could not read {}: {error}", file.display())))?;
    Importer::begin(BufReader::new(opened)).map_err(|error| Failure::failed(format!("{}: {error}", file.display())))
}

/// Reads the whole file; how many pairs it has.
fn verify(file: &Path) -> Result<u64, Failure> {
    let mut importer = reader(file)?;
    let bar = spinner("records verified");
    let mut pairs = 0;
    loop {
        match importer.next_pair() {
            Ok(Some(_)) => pairs += 1,
            Ok(None) => break,
            Err(error) => return Err(Failure::failed(format!("{}: {error}; nothing was imported", file.display()))),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(pairs)
}

/// Puts everything into the new store, the counters last. How many destinations were paused.
fn fill(store: &dyn OutboxStore, args: &ImportArgs, pairs: u64) -> Result<u64, Failure> {
    let failed_to = |error: StoreError| failed("writing it", &error);
    let bar = ProgressBar::new(pairs);
    let mut importer = reader(&args.file)?;
    let (mut batch, mut meta, mut paused) = (Batch::default(), None, 0);
    while let Some((at, mut value)) = importer
        .next_pair()
        .map_err(|error| Failure::failed(format!("{} changed while it was read: {error}", args.file.display())))?
    {
        bar.inc(1);
        match at.first() {
            _ if at == key::META => {
                meta = Some(value);
                continue;
            }
            // The broker's session is another one by now: what it sends again is taken again, rather than lost.
            Some(b'p') => continue,
            Some(b'd') if !args.as_is => {
                let mut record: DestinationRecord = record::decode(&at, &value)
                    .map_err(|error| Failure::failed(format!("a destination can't be read: {error}")))?;
                record.paused = true;
                record.signal = None;
                paused += 1;
                value = record::encode(&at, &record);
            }
            _ => {}
        }
        batch.put(at, value);
        if batch.bytes() > BATCH_BYTES_MAX / 2 {
            store.commit(&std::mem::take(&mut batch)).map_err(failed_to)?;
        }
    }
    store.commit(&batch).map_err(failed_to)?;
    if let Some(meta) = meta {
        let last = Batch { changes: vec![(key::META.to_vec(), Some(meta))] };
        store.commit(&last).map_err(failed_to)?;
    }
    bar.finish_and_clear();
    Ok(paused)
}

fn open(global: &Global) -> Result<Arc<DiskStore>, Failure> {
    let folder = paths::settings(global)?.state_dir.join(OUTBOX_FOLDER);
    let engine = engine_in(&folder).map_err(|error| failed("opening it", &error))?;
    let Some(engine) = engine else {
        return Err(Failure::failed(format!(
            "there is no outbox in {}: name the config of the gateway with --config",
            folder.display()
        )));
    };
    DiskStore::open(&folder, DiskOptions { engine, ..DiskOptions::default() }).map_err(|error| match error {
        StoreError::Locked => Failure::later("the outbox is in use: stop the gateway first"),
        error => failed("opening it", &error),
    })
}

fn close(store: &DiskStore) -> Result<(), Failure> {
    store.close().map_err(|error| failed("closing it", &error))
}

fn failed(what: &str, error: &StoreError) -> Failure {
    Failure::failed(format!("{what} failed: {error}"))
}

/// Shown only where somebody looks.
fn spinner(what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {human_pos} {msg}, {per_sec}") {
        bar.set_style(style);
    }
    bar.with_message(what)
}
