//! `tidegate destination`: what was agreed with whom, when each opens next, what waits; and changes at run time.

use super::{
    Global,
    admin_client::AdminClient,
    agreement::{self, Change, Removal},
    edit::{self, Edit},
    exit::{self, Failure},
    output,
    signal::{self, SignalArgs, SignalKeyArgs, TestArgs},
    typed_windows::TypedWindows,
};
use crate::admin::pages::Page;
use clap::{Args, Subcommand};
use http::Method;
use jiff::Timestamp;
use std::{path::PathBuf, process::ExitCode};
use tidegate_schemas::{
    agreement::{Evaluation, Why},
    id::DestinationId,
    view::{ChangeView, DestinationLoad, DestinationView},
    window::{RawWindow, RawWindows},
};

/// What to do with destinations.
#[derive(Debug, Subcommand)]
pub enum DestinationCommand {
    /// List destinations with their windows and what waits
    List,
    /// Show one destination
    Show {
        /// Its name
        name: DestinationId,
    },
    /// Make a destination while the gateway runs; it is kept in the state folder
    Add(Change),
    /// Change one that was made so, in an editor, or from a file that has all of it as for `add`
    Edit(Edit),
    /// Remove one that was made so; messages that wait for it are held or purged (which does not erase the medium)
    Remove(Removal),
    /// Show how the agreement with a destination came about: who changed what, and when
    History {
        /// Its name
        name: DestinationId,
    },
    /// Say for a destination that it is ready, or not now: opens or closes it for a time
    Signal(SignalArgs),
    /// Connect to its onion service and hang up, to see whether it can be reached; no message is sent
    Test(TestArgs),
    /// Make the key with which a destination's receiver signals over Tor
    SignalKey(SignalKeyArgs),
    /// Deliver nothing there until it is resumed
    Pause {
        /// Its name
        name: DestinationId,
    },
    /// Let a paused destination go on
    Resume {
        /// Its name
        name: DestinationId,
    },
    /// Set the windows of a destination that was made so
    #[command(subcommand)]
    Windows(WindowsCommand),
}

/// What to do with windows.
#[derive(Debug, Subcommand)]
pub enum WindowsCommand {
    /// These windows from now on, also after a restart
    Set(SetArgs),
    /// No windows: always open
    Reset {
        /// The destination's name
        name: DestinationId,
        /// Only say what it would mean
        #[arg(long)]
        dry_run: bool,
    },
}

/// Which windows.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tidegate destination windows set cardiology --timezone Europe/Madrid --allow 'mon-fri 22:00-02:00' --allow 'sat,sun'
  tidegate destination windows set cardiology --cron '0 */6 * * * for 20m'
  tidegate destination windows set cardiology --always")]
pub struct SetArgs {
    /// The destination's name
    name: DestinationId,
    #[command(flatten)]
    typed: TypedWindows,
    /// Always open
    #[arg(long, conflicts_with_all = ["allow", "cron", "file"])]
    always: bool,
    /// Windows as JSON, as the admin API takes them; - is stdin
    #[arg(long, value_name = "FILE", conflicts_with_all = ["allow", "cron", "timezone"])]
    file: Option<PathBuf>,
    /// Only say what it would mean
    #[arg(long)]
    dry_run: bool,
}

/// Does it.
pub(super) async fn run(global: &Global, command: DestinationCommand) -> Result<ExitCode, Failure> {
    if let DestinationCommand::SignalKey(args) = &command {
        return signal::make_key(global, args);
    }
    let client = AdminClient::new(global)?;
    match command {
        // Done above: it needs no gateway that runs.
        DestinationCommand::SignalKey(_) => {}
        DestinationCommand::Signal(args) => signal::signal(global, &client, args).await?,
        DestinationCommand::Test(args) => signal::test(global, &client, &args).await?,
        DestinationCommand::Pause { name } => signal::set_paused(global, &client, &name, true).await?,
        DestinationCommand::Resume { name } => signal::set_paused(global, &client, &name, false).await?,
        DestinationCommand::List => {
            let page: Page<DestinationView> = client.get("/api/v1/destinations").await?;
            if global.json { output::json(&page)? } else { list(&page.items)? }
        }
        DestinationCommand::Show { name } => {
            let view: DestinationView = client.get(&format!("/api/v1/destinations/{name}")).await?;
            shown(global, &view)?;
        }
        DestinationCommand::Add(change) => agreement::add(global, &client, change).await?,
        DestinationCommand::Edit(edit) => edit::edit(global, &client, edit).await?,
        DestinationCommand::Remove(removal) => agreement::remove(global, &client, removal).await?,
        DestinationCommand::History { name } => agreement::history(global, &client, &name).await?,
        DestinationCommand::Windows(WindowsCommand::Set(args)) => {
            let path = format!("/api/v1/destinations/{}/windows?dry_run={}", args.name, args.dry_run);
            let view: ChangeView = client.send(Method::PUT, &path, Some(&windows(args)?)).await?;
            agreement::changed(global, &view)?;
        }
        DestinationCommand::Windows(WindowsCommand::Reset { name, dry_run }) => {
            let path = format!("/api/v1/destinations/{name}/windows?dry_run={dry_run}");
            let view: ChangeView = client.send(Method::DELETE, &path, None::<&()>).await?;
            agreement::changed(global, &view)?;
        }
    }
    Ok(ExitCode::from(exit::OK))
}

/// The windows that the options ask for. Whether they can be kept, the gateway says.
fn windows(args: SetArgs) -> Result<RawWindows, Failure> {
    if let Some(path) = &args.file {
        let text = agreement::text_of(path)?;
        return serde_json::from_str(&text)
            .map_err(|error| Failure::failed(format!("{} is not windows as JSON: {error}", path.display())));
    }
    if !args.always && args.typed.is_empty() {
        return Err(Failure::usage("say when it is open: --allow, --cron, --always or --file"));
    }
    args.typed.raw()
}

fn list(views: &[DestinationView]) -> Result<(), Failure> {
    if views.is_empty() {
        output::message(
            "there are no destinations: declare one in the config, [destination.NAME], or `tidegate destination add NAME`",
        );
        return Ok(());
    }
    let mut table = output::table(&[
        "destination",
        "window",
        "queued",
        "held",
        "parked",
        "dead",
        "delivered",
        "oldest",
        "how it is",
    ]);
    for view in views {
        let load = view.load.as_ref();
        let count = |of: fn(&DestinationLoad) -> u64| load.map(of).unwrap_or_default().to_string();
        let oldest = load.and_then(|load| load.oldest_age_ms).map(|ms| output::duration(ms / 1_000));
        table.add_row([
            view.destination.to_string(),
            window(&view.now, output::moment),
            count(|load| load.queued),
            count(|load| load.held),
            count(|load| load.parked),
            count(|load| load.dead),
            count(|load| load.delivered),
            oldest.unwrap_or_default(),
            load.map(state).unwrap_or_default(),
        ]);
    }
    output::print(&table)
}

pub(super) fn shown(global: &Global, view: &DestinationView) -> Result<(), Failure> {
    if global.json {
        return output::json(view);
    }
    let mut table = output::table(&[]);
    let mut row = |name: &str, value: String| {
        table.add_row([name.to_owned(), value]);
    };
    row("destination", view.destination.to_string());
    row("format", output::word(&view.format));
    row("success", output::word(&view.success));
    row("window", window(&view.now, output::moment));
    row("declared in", view.source.to_string());
    row("agreement", format!("version {}", view.version));
    row("windows", format!("times of {}", view.windows.timezone.as_deref().unwrap_or("UTC")));
    for window in &view.windows.allow {
        row("", written(window));
    }
    if let Some(load) = &view.load {
        if load.paused {
            row("paused", format!("by an operator: `tidegate destination resume {}` lets it go on", view.destination));
        }
        if let Some(signal) = &load.signal {
            let said = if signal.ready { "ready" } else { "not now" };
            let left = output::duration(signal.left_ms.div_ceil(1_000));
            row("signal", format!("{said}, for {left} more; by {}", output::word(&signal.from)));
        }
        row(
            "waiting",
            format!(
                "{} queued, {} held, {} parked, {} dead; {}",
                load.queued,
                load.held,
                load.parked,
                load.dead,
                output::bytes(load.waiting_bytes)
            ),
        );
        row("delivered", load.delivered.to_string());
        row("state", state(load));
        if let Some(error) = load.last_error {
            row("what to do", error.hint().to_owned());
        }
        row("circuits", format!("{} fresh ones in the last hour", load.fresh_circuits_last_hour));
    }
    output::print(&table)
}

/// How the window is, in words; moments as `moment` writes them.
pub(crate) fn window(now: &Evaluation, moment: impl Fn(Timestamp) -> String) -> String {
    let until = now.until.map(moment);
    if now.open {
        return match (until, now.why) {
            (Some(until), _) => format!("open until {until}"),
            (None, Why::NoWindows) => "always open".to_owned(),
            (None, _) => "open, with no end in sight".to_owned(),
        };
    }
    let reason = match now.why {
        Why::Denied => ", denied",
        Why::Guarded => ", within its guard",
        Why::NotNow => " by a signal",
        Why::WaitsForSignal => ", waits for a signal",
        Why::ClockUntrusted => ", the clock isn't trusted",
        Why::BeforeAgreement => ", the agreement has not begun",
        Why::AfterAgreement => ", the agreement is over",
        Why::Paused => ", paused",
        Why::NoWindows | Why::InsideWindow | Why::Signalled | Why::OutsideWindows => "",
    };
    match (until, now.why) {
        (Some(opens), _) => format!("closed{reason}; opens {opens}"),
        (None, Why::OutsideWindows) => "closed, never opens".to_owned(),
        (None, _) => format!("closed{reason}"),
    }
}

/// How a destination is, in words.
pub(crate) fn state(load: &DestinationLoad) -> String {
    let due = load.due_in_ms.max(load.snoozed_ms) / 1_000;
    match load.last_error {
        _ if load.paused => "paused".to_owned(),
        _ if load.everything_refused => "refuses everything: look at format and keys".to_owned(),
        Some(error) if load.failures > 0 && due > 0 => {
            format!("{error}; failure {}, tried again in {}", load.failures, output::duration(due))
        }
        Some(error) if load.failures > 0 => format!("{error}; failure {}", load.failures),
        _ => "well".to_owned(),
    }
}

/// A window as it is written, in a line.
pub(crate) fn written(window: &RawWindow) -> String {
    match (&window.cron, &window.lasts) {
        (Some(cron), lasts) => format!("{cron} for {}", lasts.as_deref().unwrap_or("?")),
        (None, _) => {
            let named = [&window.days, &window.dates, &window.months].into_iter().flatten().cloned();
            let days = named.collect::<Vec<_>>().join(" ");
            let days = if days.is_empty() { "daily" } else { &days };
            let (from, to) = (window.from.as_deref().unwrap_or("00:00"), window.to.as_deref().unwrap_or("24:00"));
            format!("{days} {from}-{to}")
        }
    }
}

/// The same with its note: `typed_windows::rule` reads it.
pub(crate) fn rule_text(window: &RawWindow) -> String {
    let note = window.note.as_ref().map(|note| format!(" # {note}")).unwrap_or_default();
    format!("{}{note}", written(window))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use tidegate_schemas::window::WindowSet;

    fn args(allow: &[&str], cron: &[&str]) -> SetArgs {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let typed = TypedWindows { timezone: None, allow: owned(allow), cron: owned(cron) };
        SetArgs { name: "a".parse().unwrap(), typed, always: false, file: None, dry_run: false }
    }

    #[test]
    fn windows_as_they_are_typed_are_windows_that_can_be_kept() {
        let made = windows(args(&["mon-fri 22:00-02:00", "sat,sun", "6:00-7:30"], &["0 */6 * * * for 20m"])).unwrap();
        let texts: Vec<String> = made.allow.iter().map(written).collect();
        assert_eq!(texts, ["mon-fri 22:00-02:00", "sat,sun 00:00-24:00", "daily 6:00-7:30", "0 */6 * * * for 20m"]);
        assert!(WindowSet::from_raw(made, "windows").is_ok());
    }

    #[test]
    fn a_mistake_is_told_with_its_exit_code() {
        assert_eq!(windows(args(&[], &[])).unwrap_err().code, exit::USAGE);
        assert_eq!(windows(args(&[], &["0 * * * *"])).unwrap_err().code, exit::USAGE);
    }
}
