//! `tidegate completions`, `tidegate man`: what the command line says of itself, for shells and for man(1). With the private Tor network
//! also `tidegate console-routes`: the console's own table of routes, so that the tests in a browser can't forget a page.

use super::{
    Cli,
    exit::{self, Failure},
};
use crate::admin::{metrics, openapi};
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;
use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

/// For which shell.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tidegate completions bash | sudo tee /usr/share/bash-completion/completions/tidegate
  tidegate completions zsh > ~/.zfunc/_tidegate
  tidegate completions fish > ~/.config/fish/completions/tidegate.fish")]
pub struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Where to.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tidegate man | man -l -                      # read it
  sudo tidegate man --folder /usr/local/share/man/man1")]
pub struct ManArgs {
    /// Write a page for each command into this folder, instead of the first one to standard output
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Print docs/metrics.md instead
    #[arg(long, hide = true, conflicts_with = "folder")]
    metrics: bool,
    /// Print the description of the admin API in OpenAPI 3.1 instead
    #[arg(long, conflicts_with_all = ["folder", "metrics"])]
    openapi: bool,
}

/// Writes completions to stdout.
pub(super) fn completions(args: &CompletionsArgs) -> Result<ExitCode, Failure> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "tidegate", &mut text);
    written(&text)
}

/// Writes man pages.
pub(super) fn man(args: &ManArgs) -> Result<ExitCode, Failure> {
    if args.metrics {
        return written(metrics::table::reference().as_bytes());
    }
    if args.openapi {
        return written(openapi::text().as_bytes());
    }
    match &args.folder {
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut page).map_err(|error| failed(Path::new("-"), &error))?;
            written(&page)
        }
        Some(folder) => {
            fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
            clap_mangen::generate_to(Cli::command(), folder).map_err(|error| failed(folder, &error))?;
            Ok(ExitCode::from(exit::OK))
        }
    }
}

/// Writes method, path and scope of each route of the console to stdout.
#[cfg(feature = "testnet")]
pub(super) fn console_routes() -> Result<ExitCode, Failure> {
    let routes = crate::admin::console_list();
    let line = |(method, path, scope): &(String, &str, _)| serde_json::json!({ "method": method, "path": path, "scope": scope });
    super::output::json(&routes.iter().map(line).collect::<Vec<_>>())?;
    Ok(ExitCode::from(exit::OK))
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::failed(format!("could not write to {}: {error}", path.display()))
}

fn written(text: &[u8]) -> Result<ExitCode, Failure> {
    match io::stdout().write_all(text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(failed(Path::new("stdout"), &error)),
        _ => Ok(ExitCode::from(exit::OK)),
    }
}
