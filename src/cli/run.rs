//! `tidegate run`: the gateway itself.

use super::{
    Global, arena, config_errors,
    exit::{self, Failure},
    output, paths,
};
use crate::{lifecycle, reload::Origin, telemetry};
use std::{io::IsTerminal as _, process::ExitCode};

/// Runs the gateway until a signal drains it or it gives up.
///
/// # Errors
/// When there is no config, or it can't start; a wrong config is told at its place, with exit code 78.
pub fn run(global: &Global) -> Result<ExitCode, Failure> {
    arena::begin_with_one();
    let path = paths::config_file(global).ok_or_else(|| {
        Failure::config(
            "there is no config file here: name one with --config FILE, or begin with schemas/config/example.toml",
        )
    })?;
    let origin = Origin { path, state_dir: paths::default_state_dir(), environment: config_errors::environment() };
    let config = match origin.load() {
        Ok(config) => config,
        Err(report) => {
            let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            output::message(&report.render(std::io::stderr().is_terminal() && !no_color));
            return Ok(ExitCode::from(exit::CONFIG));
        }
    };
    telemetry::init(&config.log).map_err(|error| Failure::config(error.to_string()))?;
    for warning in &config.warnings {
        tracing::warn!(at = %warning.path, "{}", warning.message);
    }
    let code = lifecycle::run(config, origin).map_err(|error| Failure::failed(format!("{error:#}")))?;
    Ok(ExitCode::from(code))
}
