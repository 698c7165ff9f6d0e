//! `tidegate wait`: until the gateway is ready, until nothing is queued any more, or until one message has been delivered. For scripts.

use super::{
    Global,
    admin_client::AdminClient,
    exit::{self, Failure},
    outbox::Name,
    output,
};
use crate::admin::status::StatusView;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use std::{process::ExitCode, time::Duration};
use tidegate_schemas::{
    config::parse_duration,
    entry::EntryState,
    id::DestinationId,
    view::{DestinationView, Observation, Shown},
};
use tokio::time::Instant;

/// How long between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What for, and how long.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tidegate wait --for ready                                        # after the start: every part runs
  tidegate wait --for drained --destination cardiology --timeout 1h
  tidegate wait --for delivered --entry cardiology/42

75 when it has not come about in time. Waiting for a delivery ends with 1 as soon as the message has ended otherwise.")]
pub struct WaitArgs {
    /// What to wait for
    #[arg(long = "for", value_enum, value_name = "WHAT")]
    what: What,
    /// The message: DESTINATION/NUMBER, or its UUID
    #[arg(long, value_name = "ENTRY", required_if_eq("what", "delivered"))]
    entry: Option<Name>,
    /// The destination that is to be drained [default: all of them]
    #[arg(long, value_name = "NAME")]
    destination: Option<DestinationId>,
    /// How long at most, such as 90s or 2h
    #[arg(long, value_name = "LENGTH", default_value = "60s", value_parser = length)]
    timeout: Duration,
}

/// What can be waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// Every part of the gateway runs; it need not answer yet when the waiting begins
    Ready,
    /// Nothing is queued; what is held, parked or dead waits for an operator and is not counted
    Drained,
    /// One message has been delivered
    Delivered,
}

fn length(text: &str) -> Result<Duration, String> {
    Ok(parse_duration(text)?.unsigned_abs())
}

/// How a look went.
enum Look {
    /// It has come about: this is what there is to say.
    Done(String),
    /// Not yet, because of this.
    NotYet(String),
}

/// Does it.
pub(super) async fn run(global: &Global, args: &WaitArgs) -> Result<ExitCode, Failure> {
    let until = Instant::now() + args.timeout;
    let bar = ProgressBar::new_spinner().with_style(ProgressStyle::default_spinner());
    loop {
        let why = match look(global, args).await {
            Ok(Look::Done(words)) => {
                bar.finish_and_clear();
                output::message(&words);
                return Ok(ExitCode::from(exit::OK));
            }
            Ok(Look::NotYet(words)) => words,
            // It may be starting, or being started again.
            Err(failure) if matches!(failure.code, exit::UNREACHABLE | exit::LATER) => failure.message,
            Err(failure) => return Err(failure),
        };
        if Instant::now() >= until {
            bar.finish_and_clear();
            let limit = output::duration(args.timeout.as_secs());
            return Err(Failure::later(format!("not within {limit}: {why}")));
        }
        bar.set_message(why);
        bar.tick();
        tokio::time::sleep_until(until.min(Instant::now() + LOOK_EVERY)).await;
    }
}

async fn look(global: &Global, args: &WaitArgs) -> Result<Look, Failure> {
    // Anew each time: before its first start a gateway has no token.
    let client = match AdminClient::new(global) {
        Err(failure) if args.what == What::Ready && failure.code == exit::FAILED => {
            return Ok(Look::NotYet(failure.message));
        }
        client => client?,
    };
    match (args.what, &args.entry) {
        (What::Ready, _) => ready(&client).await,
        (What::Drained, _) => drained(&client, args.destination.as_ref()).await,
        (What::Delivered, Some(entry)) => delivered(&client, entry).await,
        (What::Delivered, None) => Err(Failure::usage("--for delivered needs --entry")),
    }
}

async fn ready(client: &AdminClient) -> Result<Look, Failure> {
    let status: StatusView = client.get("/api/v1/status").await?;
    if status.ready {
        return Ok(Look::Done("every part of the gateway runs".to_owned()));
    }
    let down: Vec<&str> =
        status.lines.iter().filter(|view| !view.line.up).map(|view| view.line.name.as_str()).collect();
    Ok(Look::NotYet(format!("{}; not up: {}", status.phase, down.join(", "))))
}

async fn drained(client: &AdminClient, destination: Option<&DestinationId>) -> Result<Look, Failure> {
    let (queued, others) = match destination {
        Some(destination) => {
            let view: DestinationView = client.get(&format!("/api/v1/destinations/{destination}")).await?;
            let load = view.load.ok_or_else(|| Failure::later("the outbox is being restarted"))?;
            (load.queued, load.held + load.parked + load.dead)
        }
        None => {
            let status: StatusView = client.get("/api/v1/status").await?;
            let account = status.observations().find_map(|seen| match seen {
                Observation::Outbox(outbox) => Some(outbox.account),
                _ => None,
            });
            let account = account.ok_or_else(|| Failure::later("the outbox is being restarted"))?;
            (account.queued, account.held + account.parked + account.dead)
        }
    };
    if queued > 0 {
        return Ok(Look::NotYet(format!("{queued} messages are queued")));
    }
    let besides = match others {
        0 => String::new(),
        _ => format!("; {others} held, parked or dead ones wait for an operator"),
    };
    Ok(Look::Done(format!("nothing is queued{besides}")))
}

async fn delivered(client: &AdminClient, entry: &Name) -> Result<Look, Failure> {
    match client.get::<Shown>(&entry.path()).await? {
        Shown::Waiting(entry) => Ok(Look::NotYet(format!("{} is {}", entry.entry, output::word(&entry.state)))),
        Shown::Ended(ended) if ended.state == EntryState::Delivered => {
            let signed = if ended.receipt { ", and the receiver signed for it" } else { "" };
            Ok(Look::Done(format!("{} was delivered{signed}", ended.entry)))
        }
        Shown::Ended(ended) => {
            let why = ended.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
            Err(Failure::failed(format!(
                "{} was not delivered, it is {}{why}",
                ended.entry,
                output::word(&ended.state)
            )))
        }
    }
}
