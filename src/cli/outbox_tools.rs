//! `tidegate outbox check`, `stats`, `export`, `backup` and `compact`: of a running gateway through its admin endpoint, else on the
//! outbox's own folder.
//!
//! Whichever it is, the same work is done; a bar shows how far it is, where somebody looks.

use super::{
    Global,
    admin_client::{AdminClient, REQUEST_LIMIT},
    exit::{self, Failure},
    output, paths, store_files,
};
use crate::{
    adapters::{
        disk_store::DiskStore,
        export_file::{ExportFile, begin_backup, header, keep_newest, move_whole},
        system_clock::SystemClock,
    },
    admin::tools::{BACKUP_FOLDER, BACKUPS_KEPT, BackedUp, COUNT_LIMIT},
};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    io,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};
use tidegate_actors::{
    outbox::{
        examine::examine,
        tools::{self, Room},
    },
    ports::{clock::Clock as _, outbox_store::OutboxStore as _},
};
use tidegate_schemas::messages::{
    outbox::StoreError,
    tools::{Checked, Compacted, Done, Progress, Stats},
};

/// What to export.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The file to write; it must not exist. It will hold the bodies of all messages
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// How to back up.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// Backups to keep, the newest; 0 removes none
    #[arg(long, value_name = "NUMBER", default_value_t = BACKUPS_KEPT)]
    keep: usize,
}

/// Where the outbox is.
enum Place {
    /// No gateway has it: it is ours, with the state folder that it lies in.
    Folder(Arc<DiskStore>, PathBuf),
    /// A gateway has it.
    Gateway(AdminClient),
}

/// A gateway that was named by `--admin`, or has the folder of the config, is asked.
fn place(global: &Global) -> Result<Place, Failure> {
    if global.admin.is_some() {
        return Ok(Place::Gateway(AdminClient::new(global)?));
    }
    match store_files::open(global)? {
        Some(store) => Ok(Place::Folder(store, paths::settings(global)?.state_dir)),
        None => Ok(Place::Gateway(
            AdminClient::new(global)?
                .or_else("; or another `tidegate outbox` command has the folder: wait for its end"),
        )),
    }
}

/// Reads everything, and compares it with the counters.
pub(super) async fn check(global: &Global) -> Result<ExitCode, Failure> {
    let bar = bar("records read");
    let checked = match place(global)? {
        Place::Gateway(client) => client.work("/api/v1/outbox/check", |done| show(&bar, done)).await?,
        Place::Folder(store, _) => {
            let examined = watched(&bar, |progress| examine(&*store, progress));
            let checked = examined.map_err(|error| failed("reading it", &error))?.told(store.disk_bytes());
            store_files::close(&store)?;
            checked
        }
    };
    bar.finish_and_clear();
    tell_check(global, &checked)
}

fn tell_check(global: &Global, checked: &Checked) -> Result<ExitCode, Failure> {
    let code = if checked.problems_total == 0 { exit::OK } else { exit::FAILED };
    if global.json {
        output::json(checked)?;
        return Ok(ExitCode::from(code));
    }
    let mut table =
        output::table(&["destination", "queued", "aside", "bytes", "< 1 hour", "< 1 day", "< 1 week", "older"]);
    for held in &checked.destinations {
        let counts = [held.queued, held.aside, held.body_bytes].into_iter().chain(held.by_age);
        let cells = counts.map(|count| count.to_string());
        table.add_row(std::iter::once(held.destination.to_string()).chain(cells));
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

/// Counts what waits, by age.
pub(super) async fn stats(global: &Global) -> Result<ExitCode, Failure> {
    let stats: Stats = match place(global)? {
        Place::Gateway(client) => client.get_within("/api/v1/outbox/stats", COUNT_LIMIT + REQUEST_LIMIT).await?,
        Place::Folder(store, _) => {
            let stats = tools::stats(&*store, None).map_err(|error| failed("reading it", &error))?;
            store_files::close(&store)?;
            stats
        }
    };
    if global.json {
        output::json(&stats)?;
        return Ok(ExitCode::from(exit::OK));
    }
    let headings = ["destination", "queued", "held", "parked", "dead", "bytes", "oldest"];
    let mut table = output::table(&[&headings[..], &["< 1 hour", "< 1 day", "< 1 week", "older"]].concat());
    for one in &stats.destinations {
        let counts = [one.queued, one.held, one.parked, one.dead].map(|count| count.to_string());
        let oldest = one.oldest_s.map_or_else(|| "-".to_owned(), output::duration);
        let sizes = [output::bytes(one.body_bytes), oldest];
        let ages = one.by_age.map(|count| count.to_string());
        table.add_row([one.destination.to_string()].into_iter().chain(counts).chain(sizes).chain(ages));
    }
    if !stats.destinations.is_empty() {
        output::print(&table)?;
    }
    output::line(&format!(
        "{} records with {} on {} of disk{}",
        stats.records,
        output::bytes(stats.held_bytes),
        output::bytes(stats.disk_bytes),
        stats.free_bytes.map(|free| format!("; {} free", output::bytes(free))).unwrap_or_default()
    ))?;
    Ok(ExitCode::from(exit::OK))
}

/// Writes everything to a file.
pub(super) async fn export(global: &Global, args: &ExportArgs) -> Result<ExitCode, Failure> {
    if args.file.exists() {
        return Err(Failure::usage(format!("{} exists already: name a new file", args.file.display())));
    }
    let bar = bar("records written");
    let (records, bytes) = match place(global)? {
        Place::Gateway(client) => {
            // The gateway writes no bodies to the endpoint: its backup is moved to where it is wanted.
            let backup: BackedUp = client.work("/api/v1/outbox/backup?keep=0", |done| show(&bar, done)).await?;
            move_whole(&backup.file, &args.file).map_err(|error| {
                let place = backup.file.display();
                Failure::failed(format!(
                    "the export is on the gateway's machine, in {place}; it could not be moved: {error}"
                ))
            })?;
            (backup.records, backup.bytes)
        }
        Place::Folder(store, _) => {
            let file = ExportFile::create(&args.file).map_err(|error| unwritten(&args.file, &error))?;
            write(&store, &bar, file, &args.file)?
        }
    };
    bar.finish_and_clear();
    if global.json {
        output::json(&BackedUp { file: args.file.clone(), records, bytes, removed: 0 })?;
        return Ok(ExitCode::from(exit::OK));
    }
    output::message(&format!(
        "{records} records are in {}; it holds the bodies of all messages that wait: keep it as safe as the outbox",
        args.file.display()
    ));
    Ok(ExitCode::from(exit::OK))
}

/// Writes everything to a file beside the outbox.
pub(super) async fn backup(global: &Global, args: &BackupArgs) -> Result<ExitCode, Failure> {
    let bar = bar("records written");
    let backup: BackedUp = match place(global)? {
        Place::Gateway(client) => {
            client.work(&format!("/api/v1/outbox/backup?keep={}", args.keep), |done| show(&bar, done)).await?
        }
        Place::Folder(store, state_dir) => {
            let folder = state_dir.join(BACKUP_FOLDER);
            let io = |error: io::Error| unwritten(&folder, &error);
            let (name, file) = begin_backup(&folder, SystemClock::default().now()).map_err(io)?;
            let path = folder.join(&name);
            let (records, bytes) = write(&store, &bar, file, &path)?;
            let (removed, pruned) = keep_newest(&folder, args.keep, &name);
            if let Err(error) = pruned {
                output::message(&format!("not all older backups in {} could be removed: {error}", folder.display()));
            }
            BackedUp { file: path, records, bytes, removed }
        }
    };
    bar.finish_and_clear();
    if global.json {
        output::json(&backup)?;
        return Ok(ExitCode::from(exit::OK));
    }
    output::line(&backup.file.display().to_string())?;
    let removed = if backup.removed > 0 { format!("; {} older removed", backup.removed) } else { String::new() };
    output::message(&format!(
        "{} records, {}{removed}; it holds the bodies of all messages that wait, and helps only if it is copied to another disk",
        backup.records,
        output::bytes(backup.bytes)
    ));
    Ok(ExitCode::from(exit::OK))
}

/// Has the outbox written anew, in as little room as it takes.
pub(super) async fn compact(global: &Global) -> Result<ExitCode, Failure> {
    let bar = bar("records written");
    let compacted: Compacted = match place(global)? {
        Place::Gateway(client) => client.work("/api/v1/outbox/compact", |done| show(&bar, done)).await?,
        Place::Folder(store, _) => {
            let compacted = watched(&bar, |progress| tools::compact(&*store, progress));
            let compacted = compacted.map_err(|error| failed("writing it anew", &error))?;
            store_files::close(&store)?;
            compacted
        }
    };
    bar.finish_and_clear();
    if global.json {
        output::json(&compacted)?;
    } else {
        let Compacted { before_bytes, after_bytes } = compacted;
        output::line(&format!("{} of disk, {} before", output::bytes(after_bytes), output::bytes(before_bytes)))?;
    }
    Ok(ExitCode::from(exit::OK))
}

/// Writes the store to the file that gets this name, and closes it: records and bytes.
fn write(store: &DiskStore, bar: &ProgressBar, file: ExportFile, path: &Path) -> Result<(u64, u64), Failure> {
    let io = |error: io::Error| unwritten(path, &error);
    let to = file.writer().map_err(io)?;
    let header = header(SystemClock::default().now());
    let free_bytes = file.free_bytes();
    let exported = watched(bar, |progress| {
        // No gateway runs that would need room to take messages: whoever asks decides how full the disk may be.
        tools::export(store, to, Room { free_bytes: &free_bytes, kept_bytes: 0 }, &header, progress)
    });
    let exported = exported.map_err(|error| Failure::failed(format!("writing {} failed: {error}", path.display())))?;
    let bytes = file.finish().map_err(io)?;
    store_files::close(store)?;
    Ok((exported.records, bytes))
}

fn unwritten(path: &Path, error: &io::Error) -> Failure {
    Failure::failed(format!("could not write {}: {error}", path.display()))
}

/// Does it on a thread of its own, while the bar shows how far it is.
pub(super) fn watched<T: Send>(bar: &ProgressBar, work: impl FnOnce(&Progress) -> T + Send) -> T {
    let progress = Progress::default();
    std::thread::scope(|scope| {
        let working = scope.spawn(|| work(&progress));
        while !working.is_finished() {
            show(bar, progress.look());
            std::thread::sleep(Duration::from_millis(20));
        }
        working.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn show(bar: &ProgressBar, done: Done) {
    bar.set_length(done.of.max(done.done));
    bar.set_position(done.done);
}

/// Shown only where somebody looks.
pub(super) fn bar(what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{bar:32} {human_pos} of {human_len} {msg}, {per_sec}") {
        bar.set_style(style);
    }
    bar.with_message(what)
}

pub(super) fn failed(what: &str, error: &StoreError) -> Failure {
    Failure::failed(format!("{what} failed: {error}"))
}
