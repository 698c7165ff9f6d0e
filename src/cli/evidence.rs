//! `tidegate evidence`: what somebody needs who has to show later what happened in some days: the ledger's and the audit log's files, and the
//! agreements with all that changed in them, in a folder that can be checked without the gateway.
//!
//! ```text
//! evidence-2026-11-01-2026-11-30/
//!   ledger/2026-11-01.jsonl ...    how each message ended
//!   audit/2026-11-01.jsonl ...     who did what
//!   agreements.json                the destinations now, and the history of each
//!   summary.json                   the range, what the chains say of themselves, the hashes to keep
//!   SHA256SUMS                     for `sha256sum -c`
//! ```
//!
//! Files are copied whole, a day (UTC) each, so that their hashes stand. No body and no onion address is in any of them.

use super::{
    Global,
    admin_client::AdminClient,
    chain::{Verified, verify_patiently},
    exit::{self, Failure},
    output, paths,
};
use crate::{adapters::chain_files::files_in, admin::pages::Page};
use clap::Args;
use data_encoding::HEXLOWER;
use jiff::civil::Date;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    process::ExitCode,
};
use tidegate_schemas::{chain::Chain, history::AgreementChange};

/// Which days, and where to.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sudo -u tidegate tidegate evidence --from 2026-11-01 --to 2026-11-30 --folder /var/tmp/november
  cd /var/tmp/november && sha256sum -c SHA256SUMS && tidegate ledger verify --folder ledger

Days are those of UTC, both included. Where the gateway does not run, --offline leaves the agreements out.")]
pub struct EvidenceArgs {
    /// The first day
    #[arg(long, value_name = "DATE")]
    from: Date,
    /// The last day
    #[arg(long, value_name = "DATE")]
    to: Date,
    /// The folder to make [default: evidence-FROM-TO]
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Don't ask the gateway: without the agreements
    #[arg(long)]
    offline: bool,
}

/// What is written, and its hashes.
struct Dossier {
    folder: PathBuf,
    sums: BTreeMap<String, String>,
}

/// Does it.
pub(super) async fn run(global: &Global, args: &EvidenceArgs) -> Result<ExitCode, Failure> {
    let EvidenceArgs { from, to, folder, offline } = args;
    if from > to {
        return Err(Failure::usage("--from is after --to"));
    }
    let state_dir = paths::settings(global)?.state_dir;
    // Asked first: without an answer nothing is written.
    let client = if *offline {
        None
    } else {
        Some(AdminClient::new(global)?.or_else("; or leave the agreements out with --offline"))
    };
    let destinations: Option<Page<Value>> = match &client {
        Some(client) => Some(client.get("/api/v1/destinations").await?),
        None => None,
    };
    let folder = folder.clone().unwrap_or_else(|| PathBuf::from(format!("evidence-{from}-{to}")));
    make(&folder).map_err(|error| failed(&folder, &error))?;
    let mut dossier = Dossier { folder, sums: BTreeMap::new() };

    let mut chains = BTreeMap::new();
    for chain in [Chain::Ledger, Chain::Audit] {
        chains.insert(chain.name(), dossier.copy(chain, &state_dir, *from, *to)?);
    }
    if let (Some(client), Some(destinations)) = (&client, destinations) {
        let agreements = agreements(client, destinations, &dossier.folder).await?;
        dossier.put("agreements.json", &text_of(&agreements)?)?;
    }
    let broken = chains.values().find_map(|verified| verified.broken.clone());
    let summary = json!({ "version": env!("CARGO_PKG_VERSION"), "from": from, "to": to, "chains": chains,
                          "agreements": client.is_some() });
    dossier.put("summary.json", &text_of(&summary)?)?;
    let sums: String = dossier.sums.iter().map(|(name, sum)| format!("{sum}  {name}\n")).collect();
    dossier.put("SHA256SUMS", sums.as_bytes())?;
    if global.json {
        output::json(&summary)?;
    } else {
        for (name, verified) in &chains {
            let whole = &verified.chain;
            output::line(&format!(
                "{name}: {} files, {} lines, last hash {}",
                verified.files, whole.lines, whole.last_hash
            ))?;
        }
        output::line(&dossier.folder.display().to_string())?;
    }
    match broken {
        None => Ok(ExitCode::from(exit::OK)),
        Some(broken) => Err(Failure::failed(format!("{broken}; it was copied as it is"))),
    }
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::failed(format!("could not write {}: {error}", path.display()))
}

/// A folder for its owner alone, which was not there.
fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(folder)
}

fn text_of(value: &Value) -> Result<Vec<u8>, Failure> {
    let text = serde_json::to_vec_pretty(value);
    text.map_err(|error| Failure::failed(format!("could not write JSON: {error}")))
}

impl Dossier {
    fn put(&mut self, name: &str, text: &[u8]) -> Result<(), Failure> {
        let path = self.folder.join(name);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let written = file.and_then(|mut file| file.write_all(text).and_then(|()| file.sync_all()));
        written.map_err(|error| failed(&path, &error))?;
        self.sums.insert(name.to_owned(), HEXLOWER.encode(&Sha256::digest(text)));
        Ok(())
    }

    /// The files of these days, and what their chain says of itself.
    fn copy(&mut self, chain: Chain, state_dir: &Path, from: Date, to: Date) -> Result<Verified, Failure> {
        let source = state_dir.join(chain.name());
        let unread = |error: io::Error| Failure::failed(format!("could not read {}: {error}", source.display()));
        let folder = self.folder.join(chain.name());
        make(&folder).map_err(|error| failed(&folder, &error))?;
        for (day, path) in files_in(&source).map_err(unread)? {
            if (from..=to).contains(&day) {
                let mut text = fs::read(&path).map_err(unread)?;
                // What the gateway is just writing is not there yet.
                text.truncate(text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1));
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                self.put(&format!("{}/{name}", chain.name()), &text)?;
            }
        }
        verify_patiently(chain, &folder, None)
    }
}

/// The destinations as they are, and the history of each, also of those that are gone and have an end in these days' ledger.
async fn agreements(client: &AdminClient, destinations: Page<Value>, folder: &Path) -> Result<Value, Failure> {
    let named = |value: &Value| value["destination"].as_str().map(str::to_owned);
    let mut names: BTreeSet<String> = destinations.items.iter().filter_map(named).collect();
    for (_, path) in files_in(&folder.join(Chain::Ledger.name())).unwrap_or_default() {
        let text = fs::read_to_string(&path).unwrap_or_default();
        names.extend(text.lines().filter_map(|line| named(&serde_json::from_str(line).ok()?)));
    }
    let mut history = BTreeMap::new();
    for name in names {
        match client.get::<Page<AgreementChange>>(&format!("/api/v1/destinations/{name}/history")).await {
            Ok(page) => history.insert(name, json!(page.items)),
            // Nothing is known of it any more.
            Err(failure) if failure.code == exit::FAILED => history.insert(name, Value::Null),
            Err(failure) => return Err(failure),
        };
    }
    Ok(json!({ "destinations": destinations.items, "history": history }))
}
