//! `tidegate destination add`, `remove`, `history`: destinations and agreements while the gateway runs, and what a change
//! would mean before it is made.

use super::{Global, admin_client::AdminClient, exit::Failure, output};
use crate::admin::pages::Page;
use clap::{Args, ValueEnum};
use http::Method;
use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};
use tidegate_schemas::{
    config::raw::RawDestination,
    history::{AgreementChange, ChangeKind},
    id::DestinationId,
    impact::Impact,
    view::ChangeView,
    window::Opening,
};

/// Longest file that is sent, in bytes: the admin endpoint's limit.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// A destination as a file.
#[derive(Debug, Args)]
#[command(after_help = "The file has the keys of [destination.NAME], in TOML or as JSON:
  onion       = \"....onion:80\"
  receipt_key = \"...\"
  write_key   = { file = \"gateway.write_key\" }     # in the folder of the gateway's config
  windows     = { timezone = \"Europe/Madrid\", allow = [{ days = \"mon-fri\", from = \"22:00\", to = \"02:00\" }] }")]
pub struct Change {
    /// Its name
    name: DestinationId,
    /// The destination, in TOML or as JSON; - is stdin
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// Only say what it would mean
    #[arg(long)]
    dry_run: bool,
}

/// A destination that goes.
#[derive(Debug, Args)]
pub struct Removal {
    /// Its name
    name: DestinationId,
    /// What becomes of messages that wait for it
    #[arg(long, value_name = "FATE")]
    queued: Option<Fate>,
    /// Only say what it would mean
    #[arg(long)]
    dry_run: bool,
}

/// What becomes of messages that wait for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Fate {
    /// They stay, and are delivered when it comes back
    Hold,
    /// They are removed for good
    Purge,
}

/// The text of a file, or of stdin.
pub(super) fn text_of(path: &Path) -> Result<String, Failure> {
    let read = if path.as_os_str() == "-" { read(io::stdin()) } else { fs::File::open(path).and_then(read) };
    read.map_err(|error| Failure::failed(format!("could not read {}: {error}", path.display())))
}

/// All of it, or an error: without its tail it could mean something else.
fn read(from: impl io::Read) -> io::Result<String> {
    let mut bytes = Vec::new();
    from.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let message = format!("it is larger than {} KiB", FILE_BYTES_MAX >> 10);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.utf8_error()))
}

/// A destination from a file.
pub(super) fn destination_of(path: &Path) -> Result<RawDestination, Failure> {
    let text = text_of(path)?;
    let wrong = |error: &dyn std::fmt::Display| {
        Failure::failed(format!("{} is not a destination: {error}", path.display()).trim_end().to_owned())
    };
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(&text).map_err(|error| wrong(&error));
    }
    // Not the whole of toml's report: it quotes the line, which may hold the onion address.
    toml::from_str(&text).map_err(|error: toml::de::Error| wrong(&error.message()))
}

/// Makes one.
pub(super) async fn add(global: &Global, client: &AdminClient, change: Change) -> Result<(), Failure> {
    let Change { name, file, dry_run } = change;
    let raw = destination_of(&file)?;
    let path = format!("/api/v1/destinations/{name}?expect=absent&dry_run={dry_run}");
    let view: ChangeView = client.send(Method::PUT, &path, Some(&raw)).await?;
    changed(global, &view)
}

/// Removes one. A purge that takes longer than one request may is gone on with.
pub(super) async fn remove(global: &Global, client: &AdminClient, removal: Removal) -> Result<(), Failure> {
    let Removal { name, queued, dry_run } = removal;
    let queued = match queued {
        Some(Fate::Hold) => "&queued=hold",
        Some(Fate::Purge) => "&queued=purge",
        None => "",
    };
    let path = format!("/api/v1/destinations/{name}?dry_run={dry_run}{queued}");
    let mut view: ChangeView = client.send(Method::DELETE, &path, None::<&()>).await?;
    while let (Some(purged @ 1..), Some(1..)) = (view.purged, view.waiting) {
        let more: ChangeView = client.send(Method::DELETE, &path, None::<&()>).await?;
        let done = more.purged.unwrap_or(0);
        (view.purged, view.waiting) = (Some(purged + done), more.waiting);
        if done == 0 {
            break;
        }
    }
    changed(global, &view)
}

/// Shows how an agreement came about.
pub(super) async fn history(global: &Global, client: &AdminClient, name: &DestinationId) -> Result<(), Failure> {
    let page: Page<AgreementChange> = client.get(&format!("/api/v1/destinations/{name}/history")).await?;
    if global.json {
        return output::json(&page);
    }
    let mut table = output::table(&["version", "when", "who", "what"]);
    for change in &page.items {
        let keys: Vec<String> = change.changes.iter().map(ToString::to_string).collect();
        let what = if keys.is_empty() { output::word(&change.kind) } else { keys.join("\n") };
        let at = change.at.strftime("%Y-%m-%d %H:%M:%SZ").to_string();
        table.add_row([change.version.to_string(), at, change.who.clone(), what]);
    }
    output::print(&table)
}

/// Shows what a change did, or would do.
pub(super) fn changed(global: &Global, view: &ChangeView) -> Result<(), Failure> {
    if global.json { output::json(view) } else { lines(view).iter().try_for_each(|line| output::line(line)) }
}

/// The same as text.
pub(super) fn lines(view: &ChangeView) -> Vec<String> {
    let name = &view.destination;
    let done = match view.kind {
        Some(ChangeKind::Added) => format!("{name}: added, version {}", view.version),
        Some(ChangeKind::Changed) => format!("{name}: changed, version {}", view.version),
        Some(ChangeKind::Removed) => format!("{name}: removed"),
        None => format!("{name}: nothing changes"),
    };
    let mut lines = vec![if view.dry_run { format!("{done} (dry run: nothing was changed)") } else { done }];
    lines.extend(view.changes.iter().map(|change| format!("  {change}")));
    lines.extend(openings(&view.impact));
    lines.extend(on_messages(view).into_iter().map(|line| format!("  {line}")));
    lines.extend(view.warnings.iter().map(|warning| format!("  ! {warning}")));
    lines
}

fn openings(impact: &Impact) -> Vec<String> {
    if impact.openings_before == impact.openings_after {
        return Vec::new();
    }
    let sides = [("opened until now", &impact.openings_before), ("opens from now on", &impact.openings_after)];
    let told = sides.into_iter().filter_map(|(title, openings)| Some((title, openings.as_ref()?)));
    told.map(|(title, openings)| format!("  {title}: {}", written(openings))).collect()
}

/// What becomes of the messages that wait.
pub(crate) fn on_messages(view: &ChangeView) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(forecast) = &view.impact.forecast {
        let least = if forecast.complete { "" } else { "at least " };
        let told = [
            (forecast.over_now, "are older than the lifetime: they expire at once"),
            (forecast.end_before_opening, "expire before the next opening"),
            (
                forecast.will_miss - forecast.over_now.min(forecast.will_miss),
                "will expire before their turn comes, at the rate of late",
            ),
        ];
        let told = told.iter().filter(|(count, _)| *count > 0);
        lines.extend(told.map(|(count, what)| format!("{least}{count} waiting messages {what}")));
    }
    if let Some(purged) = view.purged {
        lines.push(format!("{purged} messages were purged"));
    }
    match (view.waiting, view.kind) {
        (Some(waiting @ 1..), Some(ChangeKind::Removed) | None) if view.impact.openings_after.is_none() => {
            lines.push(format!("{waiting} messages wait for it: they are delivered when it comes back"));
        }
        (Some(waiting @ 1..), _) => {
            let counted = view.impact.forecast.is_some() || view.impact.openings_after.is_none();
            let how = if counted { "" } else { " (how many of them would expire was not counted)" };
            lines.push(format!("{waiting} messages wait for it{how}"));
        }
        _ => {}
    }
    lines
}

fn written(openings: &[Opening]) -> String {
    if openings.is_empty() {
        return "always".to_owned();
    }
    let each = openings.iter().map(|opening| match (opening.start, opening.end) {
        (None, Some(until)) => format!("now, until {}", output::moment(until)),
        (None, None) => "now".to_owned(),
        (Some(from), _) => output::moment(from),
    });
    each.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use tidegate_schemas::{forecast::Forecast, history::KeyChange};

    #[test]
    fn a_destination_is_read_from_toml_and_json_and_an_error_shows_no_address() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x");
        for text in ["onion = \"a.onion\"\nlanes = 3\n", "\n{\"onion\": \"a.onion\", \"lanes\": 3}"] {
            fs::write(&file, text).unwrap();
            assert_eq!(destination_of(&file).unwrap().lanes, Some(3));
        }
        // One that is too long is not cut: what it says would be another thing without its end.
        let long = |bytes: usize| format!("onion = \"a.onion\"\n#{}\nlanes = 3\n", "x".repeat(bytes));
        fs::write(&file, long(64 * 1024 - 30)).unwrap();
        assert_eq!(destination_of(&file).unwrap().lanes, Some(3));
        fs::write(&file, long(64 * 1024)).unwrap();
        let message = destination_of(&file).unwrap_err().message;
        assert!(message.ends_with("it is larger than 64 KiB"), "{message}");
        fs::write(&file, "onion = \"secret.onion\" x\n").unwrap();
        let message = destination_of(&file).unwrap_err().message;
        assert!(message.contains("not a destination") && !message.contains("secret"), "{message}");
    }

    #[test]
    fn a_change_is_told_with_what_it_means() {
        let opening = |at: &str| Opening { start: Some(at.parse().unwrap()), end: None };
        let view = ChangeView {
            destination: "lab".parse().unwrap(),
            dry_run: true,
            kind: Some(ChangeKind::Changed),
            changes: vec![KeyChange { key: "onion".into(), old: None, new: None, hidden: true }],
            version: 3,
            waiting: Some(7),
            impact: Impact {
                openings_before: Some(vec![]),
                openings_after: Some(vec![opening("2026-11-23T21:00:00Z")]),
                forecast: Some(Forecast { messages: 7, over_now: 2, end_before_opening: 1, ..Forecast::default() }),
            },
            purged: None,
            warnings: vec!["destination.receiver_memory: it is not declared".into()],
        };
        let told = lines(&view);
        assert_eq!(told[0], "lab: changed, version 3 (dry run: nothing was changed)");
        assert_eq!(told[1..3], ["  onion: changed", "  opened until now: always"]);
        assert!(told[4].starts_with("  at least 2 waiting messages are older"), "{told:?}");
        assert_eq!(told[6..], ["  7 messages wait for it", "  ! destination.receiver_memory: it is not declared"]);
        let unknown = Impact { forecast: None, ..view.impact.clone() };
        let told = lines(&ChangeView { impact: unknown, ..view });
        assert!(told[4].contains("7 messages wait for it (how many of them would expire was not counted)"), "{told:?}");
    }
}
