//! Reloading: the config files read and checked again, and what they say of destinations and routes taken over at once.
//!
//! The same for SIGHUP, `tidegate reload` and `POST /api/v1/reload`. Files are read off the System thread. On any problem nothing
//! changes. What can't be changed while the gateway runs (every other section) is compared with what it was started with, and named.

use crate::{
    admin::{
        access::{Reach, ask_within},
        problem::HttpProblem,
    },
    audit::{Act, AuditLog},
    cli::config_errors::{self, Report},
};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tidegate_schemas::{
    config::{Problem, check::Occasion, file::Config, settings},
    messages::registry::{Reload, Reloaded},
    view::BrokenDestination,
};
use tokio::sync::Mutex;

/// How long the Registry may take for a reload: it writes one file.
const RELOAD_LIMIT: Duration = Duration::from_secs(10);

/// Where the config comes from.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The config file; `conf.d` lies beside it.
    pub path: PathBuf,
    /// The state folder where the file names none.
    pub state_dir: PathBuf,
    /// The settings of the environment, as they were at the start: they can't change.
    pub environment: Vec<(String, String)>,
}

impl Origin {
    /// Reads and checks it, as one that was accepted before: a gateway that starts after a power cut has nobody to ask. Blocks.
    ///
    /// # Errors
    /// The report of all that is wrong.
    pub fn load(&self) -> Result<Config, Report> {
        config_errors::load(&self.path, &self.state_dir, &self.environment, Occasion::Kept)
    }
}

/// Reloads the config of a running gateway.
pub struct Reloader {
    origin: Origin,
    /// What it was started with.
    running: settings::Settings,
    reach: Reach,
    audit: Arc<AuditLog>,
    /// One at a time: what was read last is in force last.
    turn: Mutex<()>,
}

/// What a reload did, or would do.
pub struct Outcome {
    /// To destinations and routes.
    pub reloaded: Reloaded,
    /// Keys that need a restart.
    pub needs_restart: Vec<String>,
    /// What deserves a second look.
    pub warnings: Vec<Problem>,
}

impl Reloader {
    /// For a gateway that was started with this config.
    #[must_use]
    pub fn new(origin: Origin, config: &Config, reach: Reach, audit: Arc<AuditLog>) -> Self {
        Self { origin, running: config.settings.clone(), reach, audit, turn: Mutex::new(()) }
    }

    /// Reads the files and lets the Registry take over what they say.
    ///
    /// # Errors
    /// All that is wrong with them, or why it could not be taken over. Nothing has changed then.
    pub async fn reload(&self, dry_run: bool) -> Result<Outcome, HttpProblem> {
        let _turn = self.turn.lock().await;
        let origin = self.origin.clone();
        let loaded = tokio::task::spawn_blocking(move || origin.load()).await;
        let config = loaded
            .map_err(|_| HttpProblem::unavailable("reading the config failed unexpectedly"))?
            .map_err(|report| HttpProblem::config(&report))?;
        let message = Reload { declared: Arc::new(config.declared()), dry_run };
        let reloaded = ask_within(self.reach.look().access.reload.as_ref(), message, RELOAD_LIMIT).await??;
        let warnings: Vec<Problem> = config.warnings.iter().chain(&reloaded.warnings).cloned().collect();
        let needs_restart = settings::differences(&self.running, &config.settings);
        if !dry_run {
            tell(&reloaded, &needs_restart, &warnings);
        }
        Ok(Outcome { reloaded, needs_restart, warnings })
    }

    /// As a signal asks for it: the outcome is in the log.
    pub async fn by_signal(&self) {
        tracing::info!("SIGHUP: reading the config again");
        let act = Act { who: "signal".to_owned(), act: "reload".to_owned(), ..Act::default() };
        // Whoever can send a signal has the machine: it goes on also where it can't be put on record, which is told.
        let of = self.audit.begin(act.clone()).await.ok();
        let reloaded = self.reload(false).await;
        if let Some(of) = of {
            let status = reloaded.as_ref().map_or_else(|problem| problem.status, |_| 200);
            self.audit.end(of, act, status).await;
        }
        if let Err(problem) = reloaded {
            for error in &problem.errors {
                tracing::error!(at = error.place.as_deref().unwrap_or_default(), "{}", error.detail);
            }
            tracing::error!(problem = %problem, "the config was not reloaded: nothing has changed");
        }
    }
}

fn tell(reloaded: &Reloaded, needs_restart: &[String], warnings: &[Problem]) {
    for changed in &reloaded.changed {
        let what = changed.kind.map(|kind| format!("{kind:?}").to_lowercase()).unwrap_or_default();
        tracing::info!(destination = %changed.destination, version = changed.version, "{what} by the config");
    }
    for BrokenDestination { destination, reason } in &reloaded.broken {
        tracing::error!(%destination, %reason, "a destination that was made at run time can't be used any more: \
            what waits for it is kept; put it right through the admin API");
    }
    for destination in &reloaded.mended {
        tracing::info!(%destination, "it can be used again");
    }
    for warning in warnings {
        tracing::warn!(at = %warning.path, "{}", warning.message);
    }
    if !needs_restart.is_empty() {
        tracing::warn!("needs a restart: {}", needs_restart.join(", "));
    }
    let (destinations, keys) = (reloaded.changed.len(), reloaded.new_keys.len());
    tracing::info!(destinations, keys, routes = reloaded.routes_changed, "the config was reloaded");
}
