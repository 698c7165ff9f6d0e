//! `tidegate simulate`: what another config would mean for what waits now, before it is in force.
//!
//! The config is checked here, as `check` does it; each of its agreements is then laid before the running gateway, which knows the
//! queue. What that config drops is told, too, if messages wait for it. Nothing changes.

use super::{
    Global,
    admin_client::AdminClient,
    config_errors,
    exit::{self, Failure},
    output, paths, windows,
};
use crate::admin::{
    foresight::{Foresight, Simulated},
    pages::Page,
};
use clap::Args;
use http::Method;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use std::{
    collections::BTreeSet,
    io::{self, IsTerminal as _},
    process::ExitCode,
};
use tidegate_actors::ports::clock::Clock as _;
use tidegate_schemas::{
    agreement::ServiceAgreement,
    config::{
        check::Occasion,
        file::{Config, DestinationSource},
        parse_duration,
    },
    forecast::Forecast,
    id::DestinationId,
    view::DestinationView,
    window::Opening,
};

/// Openings that are shown where no time is given.
const OPENINGS: usize = 5;
/// Most openings that are shown.
const OPENINGS_MAX: usize = 1_000;

/// What to simulate.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tidegate simulate --config new.toml
  tidegate simulate --config new.toml --from 2027-03-20T00:00:00Z --for 14d
  tidegate simulate --config new.toml --offline")]
pub struct SimulateArgs {
    /// Openings from this moment on [default: now]
    #[arg(long, value_name = "TIME")]
    from: Option<Timestamp>,
    /// Openings for so long, such as 14d [default: the next five]
    #[arg(long = "for", value_name = "LENGTH", value_parser = length)]
    lasts: Option<SignedDuration>,
    /// Only this destination
    #[arg(long, value_name = "NAME")]
    destination: Option<DestinationId>,
    /// Without the running gateway: the openings alone
    #[arg(long)]
    offline: bool,
}

fn length(text: &str) -> Result<SignedDuration, String> {
    parse_duration(text).and_then(|length| match length.as_secs() {
        60..=316_224_000 => Ok(length),
        _ => Err("this is from 60s to ten years".to_owned()),
    })
}

/// One destination of the other config.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Told {
    /// The gateway knows it.
    Simulated(Box<Simulated>),
    /// It would be new, or nobody was asked.
    Openings { destination: DestinationId, timezone: String, openings: Vec<Opening> },
    /// It would be gone, and messages wait for it: how many, where the gateway could say.
    Dropped { destination: DestinationId, dropped: bool, waiting: Option<u64> },
}

/// Does it. The exit code is 78 when the config is wrong.
pub(super) async fn run(global: &Global, args: SimulateArgs) -> Result<ExitCode, Failure> {
    let config = load(global)?;
    let client = if args.offline { None } else { Some(AdminClient::new(global)?) };
    let known: Vec<Known> = match &client {
        Some(client) => {
            let page: Page<DestinationView> = client.get("/api/v1/destinations").await?;
            page.items.into_iter().map(Known::from).collect()
        }
        None => Vec::new(),
    };
    let from = args.from.unwrap_or_else(|| crate::adapters::system_clock::SystemClock::default().now());
    let mut told = Vec::new();
    let declared = config.declared().destinations;
    let wanted = |id: &DestinationId| args.destination.as_ref().is_none_or(|wanted| wanted == id);
    let stays: BTreeSet<DestinationId> = declared.iter().map(|declared| declared.destination.id.clone()).collect();
    for declared in declared {
        let id = declared.destination.id.clone();
        if !wanted(&id) {
            continue;
        }
        let agreement = &declared.destination.agreement;
        told.push(match client.as_ref().filter(|_| known.iter().any(|known| known.destination == id)) {
            Some(client) => {
                let raw = declared.raw.raw().map_err(|error| Failure::failed(error.to_string()))?.agreement();
                Told::Simulated(Box::new(client.send(Method::POST, &path(&id, &args), Some(&raw)).await?))
            }
            None => openings(id, agreement, from, &args),
        });
    }
    told.extend(dropped(known, &stays).into_iter().filter(|it| it.names(&wanted)));
    if let Some(wanted) = args.destination.filter(|_| told.is_empty()) {
        return Err(Failure::usage(format!("that config declares no destination {wanted}")));
    }
    if global.json {
        output::json(&told)?;
    } else {
        told.iter().try_for_each(shown)?;
    }
    Ok(ExitCode::from(exit::OK))
}

/// A destination that the gateway has now.
struct Known {
    destination: DestinationId,
    source: DestinationSource,
    /// Absent when the outbox could not be asked.
    waiting: Option<u64>,
}

impl From<DestinationView> for Known {
    fn from(view: DestinationView) -> Self {
        let waiting = view.load.map(|load| load.queued + load.held + load.parked + load.dead);
        Self { destination: view.destination, source: view.source, waiting }
    }
}

impl Told {
    fn names(&self, wanted: &dyn Fn(&DestinationId) -> bool) -> bool {
        match self {
            Self::Simulated(simulated) => wanted(&simulated.destination),
            Self::Openings { destination, .. } | Self::Dropped { destination, .. } => wanted(destination),
        }
    }
}

/// What the files declare now and the other config doesn't, and for which messages wait. What was made through the admin API stays.
fn dropped(known: impl IntoIterator<Item = Known>, stays: &BTreeSet<DestinationId>) -> Vec<Told> {
    let gone = known.into_iter().filter(|known| {
        known.source != DestinationSource::Api && known.waiting != Some(0) && !stays.contains(&known.destination)
    });
    gone.map(|Known { destination, waiting, .. }| Told::Dropped { destination, dropped: true, waiting }).collect()
}

fn load(global: &Global) -> Result<Config, Failure> {
    let path = paths::config_file(global)
        .ok_or_else(|| Failure::usage("there is no config file: name one with --config FILE"))?;
    let loaded = config_errors::load(&path, &paths::default_state_dir(), &config_errors::environment(), Occasion::New);
    loaded.map_err(|report| {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Failure::config(report.render(io::stderr().is_terminal() && !no_color))
    })
}

fn path(id: &DestinationId, args: &SimulateArgs) -> String {
    let from = args.from.map(|from| format!("&from={from}")).unwrap_or_default();
    let how_many = match args.lasts {
        Some(lasts) => format!("for={}&count={OPENINGS_MAX}", lasts.as_secs()),
        None => format!("count={OPENINGS}"),
    };
    format!("/api/v1/destinations/{id}/simulate?{how_many}{from}")
}

fn openings(destination: DestinationId, agreement: &ServiceAgreement, from: Timestamp, args: &SimulateArgs) -> Told {
    let end = args.lasts.and_then(|lasts| from.checked_add(lasts).ok());
    let count = if end.is_some() { OPENINGS_MAX } else { OPENINGS };
    let ahead = agreement.openings(from).take(count);
    let openings = ahead.take_while(|opening| end.is_none_or(|end| opening.start.is_none_or(|start| start < end)));
    Told::Openings { destination, timezone: agreement.windows.zone_name().to_owned(), openings: openings.collect() }
}

fn shown(told: &Told) -> Result<(), Failure> {
    match told {
        Told::Openings { destination, timezone, openings } => {
            output::line(&format!("{destination}: openings, times of {timezone}"))?;
            windows::table(openings, timezone)?;
            output::line("")
        }
        Told::Dropped { destination, waiting, .. } => output::line(&gone(destination, *waiting)),
        Told::Simulated(simulated) => {
            let Simulated { destination, before, after } = &**simulated;
            output::line(&format!("{destination}: openings, times of {}", after.timezone))?;
            windows::table(&after.openings, &after.timezone)?;
            lines(before, after).iter().try_for_each(|line| output::line(line))?;
            output::line("")
        }
    }
}

fn gone(destination: &DestinationId, waiting: Option<u64>) -> String {
    let what = match waiting {
        Some(1) => "1 message waits for it and is kept".to_owned(),
        Some(waiting) => format!("{waiting} messages wait for it and are kept"),
        None => "how many messages wait for it could not be asked; they are kept".to_owned(),
    };
    format!("! {destination}: not in that config. {what} until it is there again")
}

/// What becomes of the queue, side by side.
fn lines(before: &Foresight, after: &Foresight) -> Vec<String> {
    let mut lines = Vec::new();
    let queued = &after.forecast;
    let least = if queued.complete { "" } else { "at least " };
    let wait = if queued.messages == 1 { "message waits" } else { "messages wait" };
    lines.push(format!("{least}{} {wait} ({})", queued.messages, output::bytes(queued.bytes)));
    let count = |what: &str, of: fn(&Forecast) -> u64| {
        let (now, then) = (of(&before.forecast), of(&after.forecast));
        (now > 0 || then > 0).then(|| format!("  {what}: {then} (as it is: {now})"))
    };
    lines.extend(count("would expire at once", |forecast| forecast.over_now));
    lines.extend(count("would expire before the next opening", |forecast| forecast.end_before_opening));
    lines.extend(count("would expire before their turn comes", |forecast| forecast.will_miss));
    lines.push(match (after.forecast.openings_needed, after.forecast.done_at) {
        (Some(openings), Some(done)) => {
            format!("  at the rate of late all have gone by {}, in {openings} openings", output::moment(done))
        }
        _ if after.forecast.rate.is_none() => "  no rate is known yet: too little was delivered".to_owned(),
        _ => "  no end is in sight".to_owned(),
    });
    lines
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use serde_json::json;

    fn foresight(over_now: u64) -> Foresight {
        let forecast = Forecast {
            messages: 7,
            bytes: 2_048,
            complete: true,
            over_now,
            will_miss: over_now,
            ..Forecast::default()
        };
        Foresight { timezone: "UTC".into(), openings: vec![], forecast }
    }

    #[test]
    fn what_the_other_config_drops_is_told_with_what_waits_for_it() {
        let file = || DestinationSource::File { file: "tidegate.toml".into(), line: 3 };
        let known = [
            ("stays", file(), Some(5)),
            ("goes", file(), Some(6)),
            ("empty", file(), Some(0)),
            ("unknown", DestinationSource::Environment { name: "TIDEGATE__X".into() }, None),
            ("made", DestinationSource::Api, Some(4)),
        ];
        let known = known.map(|(name, source, waiting)| Known { destination: name.parse().unwrap(), source, waiting });
        let stays = BTreeSet::from(["stays".parse().unwrap(), "new".parse().unwrap()]);
        let told = dropped(known, &stays);
        let json = serde_json::to_value(&told).unwrap();
        assert_eq!(
            json,
            json!([
                { "destination": "goes", "dropped": true, "waiting": 6 },
                { "destination": "unknown", "dropped": true, "waiting": null },
            ])
        );
        let line = gone(&"goes".parse().unwrap(), Some(6));
        assert_eq!(line, "! goes: not in that config. 6 messages wait for it and are kept until it is there again");
    }

    #[test]
    fn what_changes_for_the_queue_is_told_side_by_side() {
        let told = lines(&foresight(0), &foresight(3));
        assert_eq!(told[0], "7 messages wait (2 KiB)");
        assert_eq!(told[1], "  would expire at once: 3 (as it is: 0)");
        assert_eq!(told[2], "  would expire before their turn comes: 3 (as it is: 0)");
        assert!(told[3].contains("no rate is known"));
    }
}
