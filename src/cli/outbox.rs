//! `tidegate outbox`: what is in custody, what ended, what was never taken; and an operator's acts. Metadata alone.

use super::{
    Global,
    admin_client::AdminClient,
    exit::{self, Failure},
    outbox_tools, output, store_files,
};
use crate::admin::{
    outbox::Acted,
    pages::{PAGE_ITEMS_MAX, Page},
};
use clap::{Args, Subcommand};
use http::Method;
use serde::{Serialize, de::DeserializeOwned};
use std::{process::ExitCode, str::FromStr};
use tidegate_schemas::{
    explain::Explanation,
    id::{DestinationId, DeviceId, EntryRef, MessageId},
    messages::outbox::EntryName,
    view::{EntryView, LedgerView, QuarantineView, Shown},
};

/// What to do with the outbox.
#[derive(Debug, Subcommand)]
pub enum OutboxCommand {
    /// List entries in custody
    List(ListArgs),
    /// Show one entry, also when it has ended
    Show {
        /// DESTINATION/NUMBER, or the UUID that the room and the receiver show
        entry: Name,
    },
    /// Say why an entry is where it is, what happens next, and when
    Explain {
        /// DESTINATION/NUMBER, or the UUID that the room and the receiver show
        entry: Name,
    },
    /// Stop entries: no attempts until they are released
    Hold(Entries),
    /// Let held entries go on, at their old place
    Release(Entries),
    /// Try parked or dead entries again
    Retry(Entries),
    /// Remove entries for good; this does not erase the medium that they were written to
    Purge {
        /// Which
        #[command(flatten)]
        entries: Entries,
        /// Yes, these readings are to be lost
        #[arg(long)]
        yes: bool,
    },
    /// Show what waits for each destination, by state and age, and what room it takes; also with the gateway stopped
    Stats,
    /// Read the whole outbox through, and compare it with its counters; also with the gateway stopped
    Check,
    /// Write everything to a file that any version and engine can read; also with the gateway stopped
    Export(outbox_tools::ExportArgs),
    /// Write such a file to the folder "backups" of the gateway's state folder, and keep the newest; also with the gateway stopped
    Backup(outbox_tools::BackupArgs),
    /// Write the outbox anew, in as little room on the disk as it takes; also with the gateway stopped
    Compact,
    /// Make an outbox of such a file, with the gateway stopped; comes up paused, so that nothing is delivered twice unseen
    Import(store_files::ImportArgs),
    /// List what ended lately, newest first
    Ledger(Newest),
    /// List what was acknowledged to a device and never became an entry, newest first
    Quarantine(Newest),
}

/// Which entries to list.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only of this destination
    #[arg(long, value_name = "NAME")]
    destination: Option<DestinationId>,
    /// Only in these states: queued, held, parked, dead
    #[arg(long, value_name = "STATE", value_delimiter = ',')]
    state: Vec<String>,
    /// Only from this device
    #[arg(long, value_name = "NAME")]
    device: Option<DeviceId>,
    /// Start after this entry
    #[arg(long, value_name = "ENTRY")]
    after: Option<EntryRef>,
    /// Most entries
    #[arg(long, default_value_t = 50, value_name = "NUMBER")]
    limit: usize,
}

/// How many of the newest to list.
#[derive(Debug, Args)]
pub struct Newest {
    /// Most records
    #[arg(long, default_value_t = 50, value_name = "NUMBER")]
    limit: usize,
}

/// Entries to act on.
#[derive(Debug, Args)]
pub struct Entries {
    /// DESTINATION/NUMBER, or the UUID that the room and the receiver show
    #[arg(required = true, value_name = "ENTRY")]
    entries: Vec<Name>,
}

/// How an entry is named on the command line.
#[derive(Debug, Clone)]
pub struct Name(EntryName);

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(place) = text.parse::<EntryRef>() {
            return Ok(Self(EntryName::Place(place)));
        }
        let id = text.parse::<MessageId>();
        id.map(|id| Self(EntryName::Id(id))).map_err(|_| "an entry is DESTINATION/NUMBER or a UUID".to_owned())
    }
}

impl Name {
    /// Its address at the admin endpoint.
    pub(super) fn path(&self) -> String {
        match &self.0 {
            EntryName::Place(place) => format!("/api/v1/outbox/{place}"),
            EntryName::Id(id) => format!("/api/v1/outbox/{id}"),
        }
    }
}

/// Does it.
pub(super) async fn run(global: &Global, command: OutboxCommand) -> Result<ExitCode, Failure> {
    // What works on the folder needs no gateway.
    let client = || AdminClient::new(global);
    match command {
        OutboxCommand::Stats => return outbox_tools::stats(global).await,
        OutboxCommand::Check => return outbox_tools::check(global).await,
        OutboxCommand::Export(args) => return outbox_tools::export(global, &args).await,
        OutboxCommand::Backup(args) => return outbox_tools::backup(global, &args).await,
        OutboxCommand::Compact => return outbox_tools::compact(global).await,
        OutboxCommand::Import(args) => return store_files::import(global, &args),
        OutboxCommand::List(args) => list(global, &client()?, &args).await?,
        OutboxCommand::Explain { entry } => explain(global, &client()?, &entry).await?,
        OutboxCommand::Show { entry } => show(global, &client()?, &entry).await?,
        OutboxCommand::Hold(entries) => return act(global, &client()?, &entries, "hold").await,
        OutboxCommand::Release(entries) => return act(global, &client()?, &entries, "release").await,
        OutboxCommand::Retry(entries) => return act(global, &client()?, &entries, "retry").await,
        OutboxCommand::Purge { yes: false, entries } => {
            let count = entries.entries.len();
            return Err(Failure::usage(format!(
                "purge removes {count} message(s) for good, and does not erase the medium; look at them with `tidegate outbox show`, then say --yes"
            )));
        }
        OutboxCommand::Purge { yes: true, entries } => return act(global, &client()?, &entries, "purge").await,
        OutboxCommand::Ledger(newest) => ledger(global, &client()?, newest.limit).await?,
        OutboxCommand::Quarantine(newest) => quarantine(global, &client()?, newest.limit).await?,
    }
    Ok(ExitCode::from(exit::OK))
}

/// Pages until there are `limit` items or no more. `query` has the filters, each with a leading `&`.
async fn pages<T: DeserializeOwned>(
    client: &AdminClient,
    path: &str,
    query: &str,
    after: Option<String>,
    limit: usize,
) -> Result<Page<T>, Failure> {
    let mut all = Page { items: Vec::new(), next: after };
    loop {
        let count = (limit - all.items.len()).clamp(1, PAGE_ITEMS_MAX);
        let cursor = all.next.take().map(|next| format!("&cursor={next}")).unwrap_or_default();
        let page: Page<T> = client.get(&format!("{path}?limit={count}{query}{cursor}")).await?;
        all.items.extend(page.items);
        all.next = page.next;
        if all.next.is_none() || all.items.len() >= limit {
            return Ok(all);
        }
    }
}

async fn list(global: &Global, client: &AdminClient, args: &ListArgs) -> Result<(), Failure> {
    let mut query = String::new();
    if let Some(destination) = &args.destination {
        query.push_str(&format!("&destination={destination}"));
    }
    if let Some(device) = &args.device {
        query.push_str(&format!("&device={device}"));
    }
    if let Some(wrong) = args.state.iter().find(|state| !["queued", "held", "parked", "dead"].contains(&state.as_str()))
    {
        return Err(Failure::usage(format!("--state is queued, held, parked or dead, not {wrong:?}")));
    }
    if !args.state.is_empty() {
        query.push_str(&format!("&state={}", args.state.join(",")));
    }
    let after = args.after.as_ref().map(ToString::to_string);
    let page: Page<EntryView> = pages(client, "/api/v1/outbox", &query, after, args.limit.max(1)).await?;
    if global.json {
        return output::json(&page);
    }
    let mut table = output::table(&["entry", "state", "device", "age", "bytes", "came by", "why"]);
    for entry in &page.items {
        table.add_row([
            entry.entry.to_string(),
            output::word(&entry.state),
            entry.device.to_string(),
            output::duration(entry.age_ms / 1_000),
            entry.body_bytes.to_string(),
            output::word(&entry.origin),
            entry.reason.map(|reason| reason.to_string()).unwrap_or_default(),
        ]);
    }
    listed(&table, &page, "the outbox is empty")?;
    if let Some(next) = &page.next {
        output::message(&format!("there are more: add --after {next}"));
    }
    Ok(())
}

fn listed<T>(table: &comfy_table::Table, page: &Page<T>, nothing: &str) -> Result<(), Failure> {
    if page.items.is_empty() {
        output::message(nothing);
        return Ok(());
    }
    output::print(table)
}

async fn explain(global: &Global, client: &AdminClient, entry: &Name) -> Result<(), Failure> {
    let explanation: Explanation = client.get(&format!("{}/explain", entry.path())).await?;
    if global.json {
        return output::json(&explanation);
    }
    explained(&explanation).iter().try_for_each(|line| output::line(line))
}

/// The chain, one link a line, and what comes after it.
fn explained(explanation: &Explanation) -> Vec<String> {
    let (place, id, state) = match &explanation.entry {
        Shown::Waiting(view) => (&view.entry, view.id, view.state),
        Shown::Ended(view) => (&view.entry, view.id, view.state),
    };
    let mut lines = vec![format!("{place} ({id}) is {}; times of {}", output::word(&state), explanation.timezone)];
    lines.extend(explanation.chain.iter().enumerate().map(|(index, step)| format!("{:>3}. {}", index + 1, step.what)));
    lines.push(format!("next: {}", explanation.next.what));
    lines.extend(explanation.ends.iter().map(|step| format!("end:  {}", step.what)));
    lines
}

async fn show(global: &Global, client: &AdminClient, name: &Name) -> Result<(), Failure> {
    let shown: Shown = client.get(&name.path()).await?;
    if global.json {
        return output::json(&shown);
    }
    let mut table = output::table(&[]);
    let mut row = |name: &str, value: String| {
        table.add_row([name.to_owned(), value]);
    };
    match &shown {
        Shown::Waiting(entry) => {
            let clock = if entry.clock_trusted { "" } else { " (by a clock that was not believed)" };
            row("entry", entry.entry.to_string());
            row("id", entry.id.to_string());
            row("state", output::word(&entry.state));
            row("device", entry.device.to_string());
            row("accepted", format!("{}{clock}", output::moment_ms(entry.accepted_ms)));
            row("age", output::duration(entry.age_ms / 1_000));
            row("came by", output::word(&entry.origin));
            row("body", format!("{} bytes of {}", entry.body_bytes, entry.content_type));
            if let Some(reason) = entry.reason {
                row("why", reason.to_string());
                row("what to do", reason.hint().to_owned());
            }
        }
        Shown::Ended(record) => {
            row("entry", record.entry.to_string());
            row("id", record.id.to_string());
            row("state", output::word(&record.state));
            row("device", record.device.to_string());
            row("accepted", output::moment_ms(record.accepted_ms));
            row("ended", output::moment_ms(record.ended_ms));
            row("attempts", record.attempts.to_string());
            row("receipt", if record.receipt { "signed by the receiver" } else { "none" }.to_owned());
            if let Some(reason) = record.reason {
                row("why", reason.to_string());
                row("what to do", reason.hint().to_owned());
            }
        }
    }
    output::print(&table)
}

/// One entry that was acted on, or could not be.
#[derive(Debug, Serialize)]
struct Done {
    entry: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Acts on each entry; one that fails does not stop the others. The exit code is that of the first that failed.
async fn act(global: &Global, client: &AdminClient, entries: &Entries, verb: &str) -> Result<ExitCode, Failure> {
    let (mut done, mut code) = (Vec::new(), exit::OK);
    for Name(name) in &entries.entries {
        match act_on(client, name, verb).await {
            Ok(acted) => {
                let (entry, state) = (acted.entry.to_string(), output::word(&acted.state));
                if !global.json {
                    output::line(&format!("{entry} is {state}"))?;
                }
                done.push(Done { entry, state: Some(state), error: None });
            }
            Err(failure) if failure.code == exit::UNREACHABLE => return Err(failure),
            Err(failure) => {
                let entry = match name {
                    EntryName::Place(place) => place.to_string(),
                    EntryName::Id(id) => id.to_string(),
                };
                output::message(&format!("{entry}: {failure}"));
                done.push(Done { entry, state: None, error: Some(failure.message) });
                code = if code == exit::OK { failure.code } else { code };
            }
        }
    }
    if global.json {
        output::json(&done)?;
    }
    Ok(ExitCode::from(code))
}

async fn act_on(client: &AdminClient, name: &EntryName, verb: &str) -> Result<Acted, Failure> {
    let place = match name {
        EntryName::Place(place) => place.clone(),
        EntryName::Id(id) => match client.get(&format!("/api/v1/outbox/{id}")).await? {
            Shown::Waiting(entry) => entry.entry,
            Shown::Ended(record) => {
                let state = output::word(&record.state);
                return Err(Failure::failed(format!("it has ended ({state}), nothing can be done with it")));
            }
        },
    };
    client.send(Method::POST, &format!("/api/v1/outbox/{place}/{verb}"), None::<&()>).await
}

async fn ledger(global: &Global, client: &AdminClient, limit: usize) -> Result<(), Failure> {
    let page: Page<LedgerView> = pages(client, "/api/v1/ledger", "", None, limit.max(1)).await?;
    if global.json {
        return output::json(&page);
    }
    let mut table = output::table(&["no", "entry", "state", "device", "ended", "attempts", "receipt", "why"]);
    for record in &page.items {
        table.add_row([
            record.no.to_string(),
            record.entry.to_string(),
            output::word(&record.state),
            record.device.to_string(),
            output::moment_ms(record.ended_ms),
            record.attempts.to_string(),
            if record.receipt { "signed" } else { "" }.to_owned(),
            record.reason.map(|reason| reason.to_string()).unwrap_or_default(),
        ]);
    }
    listed(&table, &page, "nothing has ended yet")
}

async fn quarantine(global: &Global, client: &AdminClient, limit: usize) -> Result<(), Failure> {
    let page: Page<QuarantineView> = pages(client, "/api/v1/quarantine", "", None, limit.max(1)).await?;
    if global.json {
        return output::json(&page);
    }
    let mut table = output::table(&["no", "when", "topic", "bytes", "came by", "why"]);
    for record in &page.items {
        table.add_row([
            record.no.to_string(),
            output::moment_ms(record.at_ms),
            // A topic is a device's own text: no control character of it reaches a terminal.
            record.topic.escape_debug().to_string(),
            record.body_bytes.to_string(),
            output::word(&record.origin),
            record.reason.to_string(),
        ]);
    }
    listed(&table, &page, "nothing is quarantined")
}
