//! `tidegate reload`: the running gateway takes over what its config files say now.
//!
//! The gateway reads its own files. When they are wrong, and this command can read them too, the problems are shown at their places;
//! else as the gateway tells them.

use super::{
    Global,
    admin_client::AdminClient,
    agreement, config_errors,
    exit::{self, Failure},
    output, paths,
};
use clap::Args;
use http::Method;
use std::{
    io::{self, IsTerminal as _},
    process::ExitCode,
};
use tidegate_schemas::{
    config::check::Occasion,
    view::{BrokenDestination, ReloadView},
};

/// How.
#[derive(Debug, Args)]
pub struct ReloadArgs {
    /// Only say what it would mean
    #[arg(long)]
    dry_run: bool,
}

/// Does it. The exit code is 78 when the config is wrong.
pub(super) async fn run(global: &Global, args: &ReloadArgs) -> Result<ExitCode, Failure> {
    let client = AdminClient::new(global)?;
    let path = format!("/api/v1/reload?dry_run={}", args.dry_run);
    let view: ReloadView = match client.send(Method::POST, &path, None::<&()>).await {
        Ok(view) => view,
        Err(failure) if failure.code == exit::CONFIG => return Err(at_its_place(global).unwrap_or(failure)),
        Err(failure) => return Err(failure),
    };
    if global.json {
        output::json(&view)?;
    } else {
        lines(&view).iter().try_for_each(|line| output::line(line))?;
    }
    Ok(ExitCode::from(exit::OK))
}

/// The same problems with carets, if they are there for this command's eyes.
fn at_its_place(global: &Global) -> Option<Failure> {
    let path = paths::config_file(global)?;
    let report =
        config_errors::load(&path, &paths::default_state_dir(), &config_errors::environment(), Occasion::Kept).err()?;
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let shown = report.render(io::stderr().is_terminal() && !no_color);
    Some(Failure::config(format!("the config can't be used: nothing was changed\n\n{shown}")))
}

fn lines(view: &ReloadView) -> Vec<String> {
    let mut lines: Vec<String> = view.destinations.iter().flat_map(agreement::lines).collect();
    lines.extend(view.new_keys.iter().map(|name| format!("{name}: its keys are read anew")));
    if view.routes_changed {
        lines.push("the routes are others".to_owned());
    }
    for BrokenDestination { destination, reason } in &view.broken {
        lines.push(format!("! {destination} can't be used any more, messages for it are kept: {reason}"));
    }
    lines.extend(view.mended.iter().map(|name| format!("{name} can be used again")));
    for name in &view.shadowed {
        lines.push(format!("{name} was made through the admin API too: the declaration of the files holds"));
    }
    for absent in &view.absent {
        lines.push(format!(
            "! {} messages wait for {}, which is not there: they are kept until it is",
            absent.waiting, absent.destination
        ));
    }
    lines.extend(view.warnings.iter().map(|warning| format!("! {warning}")));
    if !view.needs_restart.is_empty() {
        lines.push(format!("! needs a restart: {}", view.needs_restart.join(", ")));
    }
    let same = view.destinations.is_empty() && view.new_keys.is_empty() && !view.routes_changed;
    if same && view.broken.is_empty() && view.mended.is_empty() {
        lines.insert(0, "nothing changes".to_owned());
    }
    lines.push(if view.dry_run { "dry run: nothing was changed" } else { "reloaded" }.to_owned());
    lines
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use tidegate_schemas::view::AbsentDestination;

    #[test]
    fn what_needs_a_person_is_told() {
        let view = ReloadView {
            dry_run: false,
            destinations: vec![],
            new_keys: vec![],
            shadowed: vec!["lab".parse().unwrap()],
            broken: vec![],
            mended: vec![],
            routes_changed: false,
            needs_restart: vec!["mqtt.port".into(), "log.filter".into()],
            absent: vec![AbsentDestination { destination: "ward".parse().unwrap(), waiting: 3 }],
            warnings: vec![],
        };
        let told = lines(&view).join("\n");
        for said in [
            "nothing changes",
            "lab was made",
            "! 3 messages wait for ward",
            "! needs a restart: mqtt.port, log.filter",
        ] {
            assert!(told.contains(said), "{said} is not in:\n{told}");
        }
        assert!(told.ends_with("reloaded"));
        let broken = BrokenDestination { destination: "moon".parse().unwrap(), reason: "no such zone".into() };
        let told = lines(&ReloadView { broken: vec![broken], mended: vec!["sun".parse().unwrap()], ..view }).join("\n");
        assert!(told.contains("! moon can't be used any more") && told.contains("no such zone"), "{told}");
        assert!(told.contains("sun can be used again") && !told.contains("nothing changes"), "{told}");
    }
}
