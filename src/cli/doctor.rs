//! `tidegate doctor`: what is wrong around a gateway, or soon will be, each with its remedy: the config, the state folder, the disk, the
//! clock, the broker and those of its settings that lose messages, Tor, Matrix, and what the running gateway itself complains of.
//!
//! It looks at what it can see from here, and says what it can't. It connects to what the config names and the gateway would connect to:
//! the broker, a system tor's SOCKS port, a homeserver by its address, the admin endpoint. It publishes nothing, logs in nowhere and
//! changes nothing. Run it as the user that the gateway runs as, or as root.

mod broker;
mod machine;
mod mosquitto;
mod services;

use super::{
    Global, config_errors,
    exit::{self, Failure},
    output, paths,
};
use clap::Args;
use serde::Serialize;
use std::{
    io::{self, IsTerminal as _},
    path::PathBuf,
    process::ExitCode,
};
use tidegate_schemas::config::{check::Occasion, file::Config};

/// What to look at.
#[derive(Debug, Args)]
#[command(after_help = "0 when nothing is wrong (there may be something to look at), else 1. Examples:
  sudo -u tidegate tidegate doctor
  tidegate doctor --broker-config /etc/mosquitto/mosquitto.conf --json")]
pub struct DoctorArgs {
    /// mosquitto's config, with the files that it includes
    #[arg(long, value_name = "FILE", default_value = mosquitto::CONFIG_FILE)]
    broker_config: PathBuf,
}

/// How it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Health {
    /// As it should be.
    Good,
    /// To be looked at; or it can't be seen from here.
    Look,
    /// Wrong: something does not work, or will be lost.
    Wrong,
}

/// What was found of one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    /// Which thing.
    about: &'static str,
    /// How it is.
    health: Health,
    /// What was seen.
    seen: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "String::is_empty")]
    remedy: String,
}

impl Finding {
    fn good(about: &'static str, seen: impl Into<String>) -> Self {
        Self { about, health: Health::Good, seen: seen.into(), remedy: String::new() }
    }
    fn look(about: &'static str, seen: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { about, health: Health::Look, seen: seen.into(), remedy: remedy.into() }
    }
    fn wrong(about: &'static str, seen: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { about, health: Health::Wrong, seen: seen.into(), remedy: remedy.into() }
    }
}

/// Looks at everything. The exit code is 1 if something is wrong.
pub(super) async fn run(global: &Global, args: &DoctorArgs) -> Result<ExitCode, Failure> {
    let mut findings = Vec::new();
    let config = config(global, &mut findings)?;
    if let Some(config) = &config {
        findings.extend(machine::look(config));
        findings.extend(broker::look(config, &args.broker_config).await);
        findings.extend(services::tor(config).await);
        findings.extend(services::matrix(config).await);
    }
    findings.extend(services::gateway(global).await);
    let wrong = findings.iter().filter(|finding| finding.health == Health::Wrong).count();
    if global.json {
        output::json(&serde_json::json!({ "wrong": wrong, "findings": findings }))?;
    } else {
        for Finding { about, health, seen, remedy } in &findings {
            let mark = match health {
                Health::Good => "ok   ",
                Health::Look => "look ",
                Health::Wrong => "WRONG",
            };
            output::line(&format!("{mark}  {about}: {seen}"))?;
            if !remedy.is_empty() {
                output::line(&format!("         {remedy}"))?;
            }
        }
    }
    Ok(ExitCode::from(if wrong == 0 { exit::OK } else { exit::FAILED }))
}

fn config(global: &Global, findings: &mut Vec<Finding>) -> Result<Option<Config>, Failure> {
    let Some(path) = paths::config_file(global) else {
        return Err(Failure::config(
            "there is no config file here: name one with --config FILE, or write one with `tidegate init`",
        ));
    };
    match config_errors::load(&path, &paths::default_state_dir(), &config_errors::environment(), Occasion::Kept) {
        Ok(config) => {
            findings.push(Finding::good("config", format!("{} can be used", path.display())));
            for problem in &config.warnings {
                findings.push(Finding::look("config", format!("{}: {}", problem.path, problem.message), &problem.hint));
            }
            Ok(Some(config))
        }
        Err(report) => {
            let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            if !global.json {
                output::message(&report.render(io::stderr().is_terminal() && !no_color));
            }
            let problems = report.problems().len();
            findings.push(Finding::wrong(
                "config",
                format!("{} has {problems} problems; nothing that hangs on it was looked at", path.display()),
                "`tidegate check` shows each at its place",
            ));
            Ok(None)
        }
    }
}
