//! The outbox's own folder, while no gateway has it: opening it, and `tidegate outbox import`.
//!
//! An import reads its file twice: once to be sure of it, and once to make a new store of it, counters last; a store whose import did
//! not come to its end has none, and no gateway opens it. What a restored outbox holds may have been delivered since it was
//! exported, so all its destinations come up paused, and a person lets them go on.

use super::{
    Global,
    exit::{self, Failure},
    outbox_tools::{failed, watched},
    output, paths,
};
use crate::adapters::disk_store::{DiskOptions, DiskStore, OUTBOX_FOLDER, engine_in};
use clap::{Args, ValueEnum};
use indicatif::ProgressBar;
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
    process::geteuid,
};
use std::{
    fs::{self, File},
    io::BufReader,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};
use tidegate_actors::{
    outbox::{
        examine::examine,
        restored::{Restored, restored},
    },
    ports::outbox_store::{BATCH_BYTES_MAX, Batch, OutboxStore},
};
use tidegate_schemas::{config::file::OutboxEngine, export::Importer, messages::outbox::StoreError, record::key};

/// The file in the outbox's folder that whoever has it open holds locked.
const LOCK_FILE: &str = "LOCK";

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

/// Makes a new outbox of an export.
pub(super) fn import(global: &Global, args: &ImportArgs) -> Result<ExitCode, Failure> {
    let settings = paths::settings(global)?;
    let folder = settings.state_dir.join(OUTBOX_FOLDER);
    must_be_owner(&settings.state_dir)?;
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
    let found = watched(&super::outbox_tools::bar("records read again"), |progress| examine(&*store, progress))
        .map_err(|error| failed("reading it again", &error))?;
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
    let bar = ProgressBar::new_spinner();
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
        if at == key::META {
            meta = Some(value);
            continue;
        }
        let outcome =
            restored(&at, &value).map_err(|error| Failure::failed(format!("a destination can't be read: {error}")))?;
        match outcome {
            Restored::Gone => continue,
            Restored::Paused(as_paused) if !args.as_is => {
                paused += 1;
                value = as_paused;
            }
            Restored::Paused(_) | Restored::Same => {}
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

/// Opens the store of the config; none while a gateway has it.
pub(super) fn open(global: &Global) -> Result<Option<Arc<DiskStore>>, Failure> {
    let state_dir = paths::settings(global)?.state_dir;
    let folder = state_dir.join(OUTBOX_FOLDER);
    if let Err(refusal) = must_be_owner(&state_dir) {
        // Who may not open it may still ask a gateway that has it.
        return if is_locked(&folder) { Ok(None) } else { Err(refusal) };
    }
    let engine = engine_in(&folder).map_err(|error| failed("opening it", &error))?;
    let Some(engine) = engine else {
        return Err(Failure::failed(format!(
            "there is no outbox in {}: name the config of the gateway with --config",
            folder.display()
        )));
    };
    match DiskStore::open(&folder, DiskOptions { engine, ..DiskOptions::default() }) {
        Ok(store) => Ok(Some(store)),
        Err(StoreError::Locked) => Ok(None),
        Err(error) => Err(failed("opening it", &error)),
    }
}

/// Refuses to work on a state folder that is somebody else's: the files and folders that this makes there, for their owner alone, could
/// not be used by the gateway any more.
fn must_be_owner(state_dir: &Path) -> Result<(), Failure> {
    let us = geteuid().as_raw();
    // One that isn't there yet will be ours.
    let Some(owner) = fs::metadata(state_dir).ok().map(|folder| folder.uid()).filter(|owner| *owner != us) else {
        return Ok(());
    };
    let name = name_of_user(owner);
    Err(Failure::usage(format!(
        "{} belongs to {}, and no gateway runs there: what this command (run with user id {us}) makes in it would be out of the gateway's \
         reach. Run it as its owner, such as with `sudo -u {} tidegate outbox ...`",
        state_dir.display(),
        name.clone().unwrap_or_else(|| format!("user id {owner}")),
        name.unwrap_or_else(|| format!("'#{owner}'"))
    )))
}

/// The name of a user of this machine.
fn name_of_user(id: u32) -> Option<String> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == id.to_string()).then(|| name.to_owned())
    })
}

/// Whether a process has the outbox open. Nothing is made or changed.
fn is_locked(folder: &Path) -> bool {
    let lock = File::open(folder.join(LOCK_FILE));
    lock.is_ok_and(|lock| flock(&lock, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK))
}

/// Closes it.
pub(super) fn close(store: &DiskStore) -> Result<(), Failure> {
    store.close().map_err(|error| failed("closing it", &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_of_this_machine_have_names() {
        assert_eq!(name_of_user(0).as_deref(), Some("root"));
        assert_eq!(name_of_user(u32::MAX - 7), None);
    }
}
