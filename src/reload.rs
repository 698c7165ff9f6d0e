//! Reloading: the config files read and checked again, and what they say of destinations and routes taken over at once.
//!
//! The same for SIGHUP, `tidegate reload` and `POST /api/v1/reload`. Files are read off the System thread. On any problem nothing
//! changes. A reload may be bound to a dry run by its tag (`If-Match`, RFC 9110 section 13.1.1): to the config in force then, which the
//! Registry looks at in the reload's turn, and to what the files said then, which is looked at here. What can't be changed while the gateway runs (every other section) is compared with what it was started with, and named.

use crate::{
    adapters::system_entropy::SystemEntropy,
    admin::{
        access::{Reach, ask_within},
        problem::HttpProblem,
    },
    audit::{Act, AuditLog},
    cli::config_errors::{self, Report},
};
use sha2::{Digest as _, Sha256};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tidegate_actors::ports::entropy::Entropy as _;
use tidegate_schemas::{
    condition::{Condition, Tag, Tags},
    config::{Problem, check::Occasion, file::Config, origins::Origins, settings},
    messages::registry::{Declared, DeclaredDestination, Reload, Reloaded},
    view::BrokenDestination,
};
use tokio::sync::Mutex;

/// How long the Registry may take for a reload: it writes one file.
const RELOAD_LIMIT: Duration = Duration::from_secs(10);

/// Between the tag of what is in force and that of what was read.
const BOTH: char = '+';

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
    started: Arc<Origins>,
    /// What the tags of configs that were read are made with: nobody can tell from one what an agreement says.
    salt: [u8; 16],
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
    /// Its tag: of the config in force, and after a dry run also of what was read.
    pub tag: String,
}

impl Reloader {
    /// For a gateway that was started with this config.
    #[must_use]
    pub fn new(origin: Origin, config: &Config, reach: Reach, audit: Arc<AuditLog>) -> Self {
        let (running, started) = (config.settings.clone(), Arc::clone(&config.origins));
        let mut salt = [0; 16];
        SystemEntropy.fill(&mut salt);
        Self { origin, running, started, salt, reach, audit, turn: Mutex::new(()) }
    }

    /// Where each key stood when the gateway was started.
    #[must_use]
    pub fn started(&self) -> Arc<Origins> {
        Arc::clone(&self.started)
    }

    /// Reads the files and lets the Registry take over what they say.
    ///
    /// # Errors
    /// All that is wrong with them, or why it could not be taken over. Nothing has changed then.
    pub async fn reload(&self, dry_run: bool, condition: Condition) -> Result<Outcome, HttpProblem> {
        let _turn = self.turn.lock().await;
        let origin = self.origin.clone();
        let loaded = tokio::task::spawn_blocking(move || origin.load()).await;
        let config = loaded
            .map_err(|_| HttpProblem::unavailable("reading the config failed unexpectedly"))?
            .map_err(|report| HttpProblem::config(&report))?;
        let declared = Arc::new(config.declared());
        let read = self.tag_of(&declared, &config.settings);
        let condition = in_force_alone(condition, &read)?;
        let message = Reload { declared, condition, dry_run };
        let reloaded = ask_within(self.reach.look().access.reload.as_ref(), message, RELOAD_LIMIT).await??;
        let warnings: Vec<Problem> = config.warnings.iter().chain(&reloaded.warnings).cloned().collect();
        let needs_restart = settings::differences(&self.running, &config.settings);
        if !dry_run {
            tell(&reloaded, &needs_restart, &warnings);
        }
        let tag = if dry_run { format!("{}{BOTH}{read}", reloaded.tag) } else { reloaded.tag.clone() };
        Ok(Outcome { reloaded, needs_restart, warnings, tag })
    }

    /// The tag of what the files say: another one when anything in it is another.
    fn tag_of(&self, declared: &Declared, settings: &settings::Settings) -> String {
        let mut hash = Sha256::new().chain_update(self.salt);
        for DeclaredDestination { destination, raw, source } in &declared.destinations {
            hash.update(serde_json::to_vec(&(destination.id.as_str(), raw, source)).unwrap_or_default());
            let keys = &destination.keys;
            hash.update(serde_json::to_vec(&(keys.client_auth, &keys.write_key, keys.receipt_key)).unwrap_or_default());
        }
        hash.update(format!("{:?}{settings:?}", declared.routes));
        data_encoding::HEXLOWER.encode(&hash.finalize()[..8])
    }

    /// As a signal asks for it: the outcome is in the log.
    pub async fn by_signal(&self) {
        tracing::info!("SIGHUP: reading the config again");
        let act = Act { who: "signal".to_owned(), act: "reload".to_owned(), ..Act::default() };
        // Whoever can send a signal has the machine: it goes on also where it can't be put on record, which is told.
        let of = self.audit.begin(act.clone()).await.ok();
        let reloaded = self.reload(false, Condition::default()).await;
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

/// What is left of a condition for the Registry, which knows what is in force and not what was read. A tag of a dry run is one of both:
/// it is none any more when the files say something else.
fn in_force_alone(condition: Condition, read: &str) -> Result<Condition, HttpProblem> {
    let Some(Tags::These(tags)) = condition.if_match else { return Ok(condition) };
    let mut still = Vec::new();
    for tag in tags {
        match tag.opaque.split_once(BOTH) {
            Some((opaque, was)) if was == read => still.push(Tag { opaque: opaque.to_owned(), ..tag }),
            Some(_) => {}
            None => still.push(tag),
        }
    }
    if still.is_empty() {
        let detail =
            "the config files say something else than when the dry run was made; ask for it again; nothing changed";
        return Err(HttpProblem::changed(detail, None, None));
    }
    Ok(Condition { if_match: Some(Tags::These(still)), ..condition })
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
