//! `tidegate windows next`: when a destination opens next, as the running gateway has it.

use super::{
    Global,
    admin_client::AdminClient,
    exit::{self, Failure},
    output,
};
use crate::admin::foresight::Openings;
use clap::{Args, Subcommand};
use jiff::{Timestamp, tz::TimeZone};
use std::process::ExitCode;
use tidegate_schemas::{id::DestinationId, window::Opening};

/// What to do with windows.
#[derive(Debug, Subcommand)]
pub enum WindowsCommand {
    /// Show the next openings of a destination, in the time zone of its windows
    Next(NextArgs),
}

/// Which openings.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tidegate windows next cardiology
  tidegate windows next cardiology --count 30 --from 2027-03-20T00:00:00Z")]
pub struct NextArgs {
    /// The destination's name
    destination: DestinationId,
    /// How many
    #[arg(long, default_value_t = 10, value_name = "NUMBER")]
    count: usize,
    /// From this moment on [default: now]
    #[arg(long, value_name = "TIME")]
    from: Option<Timestamp>,
}

/// Does it.
pub(super) async fn run(global: &Global, command: WindowsCommand) -> Result<ExitCode, Failure> {
    let WindowsCommand::Next(NextArgs { destination, count, from }) = command;
    let client = AdminClient::new(global)?;
    let from = from.map(|from| format!("&from={from}")).unwrap_or_default();
    let path = format!("/api/v1/destinations/{destination}/openings?count={count}{from}");
    let answer: Openings = client.get(&path).await?;
    if global.json {
        output::json(&answer)?;
        return Ok(ExitCode::from(exit::OK));
    }
    if answer.openings.is_empty() {
        let why = if answer.now.open { "it is always open" } else { "nothing opens it by itself" };
        output::message(&format!("{destination} has no openings ahead: {why}"));
        return Ok(ExitCode::from(exit::OK));
    }
    table(&answer.openings, &answer.timezone)?;
    Ok(ExitCode::from(exit::OK))
}

/// Openings, one a line.
pub(super) fn table(openings: &[Opening], timezone: &str) -> Result<(), Failure> {
    let zone = TimeZone::get(timezone).unwrap_or(TimeZone::UTC);
    let show = |at: Timestamp| at.to_zoned(zone.clone()).strftime("%a %Y-%m-%d %H:%M:%S %Z").to_string();
    let mut table = output::table(&["opens", "closes", "for"]);
    for opening in openings {
        let length =
            opening.start.zip(opening.end).map(|(start, end)| end.duration_since(start).unsigned_abs().as_secs());
        table.add_row([
            opening.start.map_or_else(|| "open for long".to_owned(), show),
            opening.end.map_or_else(|| "no end in sight".to_owned(), show),
            length.map(output::duration).unwrap_or_default(),
        ]);
    }
    output::print(&table)
}
