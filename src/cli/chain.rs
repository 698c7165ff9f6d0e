//! `tidegate ledger verify`, `tidegate audit verify`: whether the files of a chain are as they were written; `tidegate audit list`.
//!
//! Reads the folder alone, so it works beside a running gateway, without one, and on a copy elsewhere.

use super::{
    Global,
    exit::{self, Failure},
    output, paths,
};
use crate::adapters::chain_files::{files_in, newest_lines};
use clap::{Args, Subcommand};
use serde::Serialize;
use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};
use tidegate_schemas::{
    audit::AuditEntry,
    chain::{Chain, ChainHash, LINE_BYTES_MAX, Verifier, Whole, Wrong},
};

/// How often, and how long apart, the files are read again when the gateway may just be writing or removing one.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(200);

/// What to do with the ledger's files.
#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    /// Check that no line was changed, removed, put in or moved
    Verify(VerifyArgs),
}

/// What to do with the audit log's files.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Show the newest acts: who did what, and how it ended
    List(ListArgs),
    /// Check that no line was changed, removed, put in or moved
    Verify(VerifyArgs),
}

/// Which lines are shown.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Folder of the files [default: audit in the config's state folder]
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// How many lines at most, the newest ones
    #[arg(long, value_name = "N", default_value_t = 50)]
    last: usize,
}

/// Which files, and what they are to have.
#[derive(Debug, Args)]
#[command(
    after_help = "The last hash that this prints stands for every line up to it. Keep it elsewhere, and say it later with --has."
)]
pub struct VerifyArgs {
    /// Folder of the files [default: the one in the config's state folder]
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// A last hash that was noted earlier: it must be in the chain
    #[arg(long, value_name = "HASH")]
    has: Option<ChainHash>,
}

/// What was found, for programs.
#[derive(Debug, Serialize)]
pub(super) struct Verified {
    whole: bool,
    /// Files.
    pub files: usize,
    /// What was verified.
    #[serde(flatten)]
    pub chain: Whole,
    /// The first place that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broken: Option<Broken>,
}

/// The first place that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Broken {
    file: String,
    line: u64,
    reason: String,
    /// Whether it may be what the gateway is just writing.
    #[serde(skip)]
    is_end: bool,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.reason)
    }
}

/// Does it.
pub(super) fn ledger(global: &Global, command: LedgerCommand) -> Result<ExitCode, Failure> {
    let LedgerCommand::Verify(args) = command;
    run_verify(global, Chain::Ledger, args)
}

/// Does it.
pub(super) fn audit(global: &Global, command: AuditCommand) -> Result<ExitCode, Failure> {
    match command {
        AuditCommand::Verify(args) => run_verify(global, Chain::Audit, args),
        AuditCommand::List(args) => list(global, args),
    }
}

fn folder_of(global: &Global, chain: Chain, said: Option<PathBuf>) -> Result<PathBuf, Failure> {
    match said {
        Some(folder) => Ok(folder),
        None => Ok(paths::settings(global)?.state_dir.join(chain.name())),
    }
}

fn list(global: &Global, args: ListArgs) -> Result<ExitCode, Failure> {
    let folder = folder_of(global, Chain::Audit, args.folder)?;
    let mut entries: Vec<AuditEntry> = newest_lines(&folder, None, args.last).map_err(|error| {
        Failure::failed(format!("could not read the audit log's files in {}: {error}", folder.display()))
    })?;
    // As a log is read: the newest one last.
    entries.reverse();
    if global.json {
        output::json(&serde_json::json!({ "items": entries }))?;
        return Ok(ExitCode::from(exit::OK));
    }
    let mut table = output::table(&["no", "at", "who", "act", "target", "ended", "detail"]);
    for entry in &entries {
        let ended = match (entry.of, entry.status) {
            (Some(of), Some(status)) => format!("{status}, of {of}"),
            (Some(of), None) => format!("of {of}"),
            _ => String::new(),
        };
        let at = output::moment_ms(entry.at_ms) + if entry.clock_untrusted { " ?" } else { "" };
        let target = entry.target.clone().unwrap_or_default();
        let detail = entry.detail.clone().unwrap_or_default();
        table.add_row([entry.no.to_string(), at, entry.who.clone(), entry.act.clone(), target, ended, detail]);
    }
    output::print(&table)?;
    Ok(ExitCode::from(exit::OK))
}

fn run_verify(global: &Global, chain: Chain, args: VerifyArgs) -> Result<ExitCode, Failure> {
    let folder = folder_of(global, chain, args.folder)?;
    let verified = verify_patiently(chain, &folder, args.has)?;
    if verified.files == 0 {
        let folder = folder.display();
        return Err(Failure::failed(format!("there are no files of the {chain} in {folder}: nothing is verified")));
    }
    if global.json {
        output::json(&verified)?;
    } else if verified.broken.is_none() {
        told(chain, &verified).iter().try_for_each(|line| output::line(line))?;
    }
    if let Some(broken) = &verified.broken {
        return Err(Failure::failed(format!("{broken}; what comes after it is not checked")));
    }
    if verified.chain.has_expected == Some(false) {
        return Err(Failure::failed(
            "the hash of --has is not in this chain: lines up to it were changed, or removed, as retention does with old ones",
        ));
    }
    Ok(ExitCode::from(exit::OK))
}

/// Once more where the gateway was just writing the last line, or removed an old file.
pub(super) fn verify_patiently(chain: Chain, folder: &Path, has: Option<ChainHash>) -> Result<Verified, Failure> {
    let mut tries_left = TRIES;
    loop {
        tries_left -= 1;
        let again = match verify(chain, folder, has) {
            Ok(verified) => match &verified.broken {
                Some(broken) if broken.is_end && tries_left > 0 => true,
                _ => return Ok(verified),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound && tries_left > 0 => true,
            Err(error) => {
                let folder = folder.display();
                return Err(Failure::failed(format!("could not read the files of the {chain} in {folder}: {error}")));
            }
        };
        if again {
            std::thread::sleep(PAUSE);
        }
    }
}

fn verify(chain: Chain, folder: &Path, has: Option<ChainHash>) -> io::Result<Verified> {
    let files = files_in(folder)?;
    let mut verifier = Verifier::of(chain).expecting(has);
    let mut broken = None;
    for (index, (_, path)) in files.iter().enumerate() {
        if let Some((line, wrong)) = verify_file(path, &mut verifier)? {
            let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let is_end = wrong == Wrong::CutShort && index + 1 == files.len();
            broken = Some(Broken { file, line, reason: wrong.to_string(), is_end });
            break;
        }
    }
    Ok(Verified { whole: broken.is_none(), files: files.len(), chain: verifier.end(), broken })
}

/// The first line that is wrong, from 1.
fn verify_file(path: &Path, verifier: &mut Verifier) -> io::Result<Option<(u64, Wrong)>> {
    let mut file = BufReader::new(File::open(path)?);
    let mut line = Vec::with_capacity(LINE_BYTES_MAX);
    for number in 1.. {
        line.clear();
        // No line is longer; what is, is none.
        let length = file.by_ref().take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut line)?;
        if length == 0 {
            break;
        }
        if length > LINE_BYTES_MAX {
            return Ok(Some((number, Wrong::Changed)));
        }
        if let Err(wrong) = verifier.take(&line) {
            return Ok(Some((number, wrong)));
        }
    }
    Ok(None)
}

fn told(chain: Chain, verified: &Verified) -> Vec<String> {
    let Verified { files, chain: whole, .. } = verified;
    let Whole { lines, first_no, last_no, lost, from_the_start, before, last_hash, has_expected } = whole;
    let mut told = vec![
        format!("{files} files, {lines} lines: the chain is whole, from no. {first_no} to no. {last_no}"),
        format!("last hash: {last_hash}"),
    ];
    if *from_the_start {
        told.push("it begins with the first line that was written".to_owned());
    } else {
        told.push(format!("what came before was removed, as retention does; the hash before it: {before}"));
    }
    if *lost > 0 {
        told.push(format!(
            "{lost} lines of the {chain} were lost before they could be written here; the lines with lost_from say which"
        ));
    }
    if *has_expected == Some(true) {
        told.push("the hash that was noted is in it: nothing up to there was changed since".to_owned());
    }
    told
}
