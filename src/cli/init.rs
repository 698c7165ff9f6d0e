//! `tidegate init`: a config to begin with, and mosquitto's settings beside it.
//!
//! What the options leave open is asked, a line at a time, with the usual answer in brackets; with `--non-interactive` the usual answer
//! is taken. Nothing that exists is written over. At the end the config is read as `run` would read it, and the next commands are said.

mod ask;
mod text;

use super::{
    config_errors,
    exit::{self, Failure},
    output, paths,
    typed_windows::TypedWindows,
};
use ask::Asker;
use clap::{Args, ValueEnum};
use std::{
    fs::{self, OpenOptions},
    io::{self, IsTerminal as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
};
use tidegate_schemas::{
    config::check::Occasion,
    id::{DestinationId, DeviceId},
};

/// The config's file.
const CONFIG_FILE: &str = "tidegate.toml";
/// mosquitto's settings.
const BROKER_FILE: &str = "mosquitto-tidegate.conf";
/// What goes into it.
const BROKER_SETTINGS: &str = include_str!("../../deploy/mosquitto/tidegate.conf");

/// What is known already.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tidegate init                                            # asks
  tidegate receiver --folder readings --destination cardiology > block.toml   # at the receiver
  tidegate init --non-interactive --block block.toml --topic 'patient/+/+' --device pacemaker
  tidegate init --non-interactive --destination cardiology --onion ADDRESS.onion:80 --broker embedded \\
      --timezone Europe/Madrid --allow 'mon-fri 22:00-02:00'

It ends with 78 when the config can't be used yet, such as when a key file has still to be copied.")]
pub struct InitArgs {
    /// Where the config is written
    #[arg(long, value_name = "DIR", default_value = ".")]
    folder: PathBuf,
    /// Ask nothing
    #[arg(long)]
    non_interactive: bool,
    /// The block that `tidegate receiver` printed for the gateway's config; - is stdin
    #[arg(long, value_name = "FILE", conflicts_with_all = ["destination", "onion", "write_key", "receipt_key"])]
    block: Option<PathBuf>,
    /// What the destination is called here
    #[arg(long, value_name = "NAME")]
    destination: Option<DestinationId>,
    /// Its onion address, such as ADDRESS.onion:80
    #[arg(long, value_name = "ONION")]
    onion: Option<String>,
    /// File with the key by which the receiver knows this gateway
    #[arg(long, value_name = "FILE")]
    write_key: Option<PathBuf>,
    /// The key by which the receiver's receipts are checked
    #[arg(long, value_name = "KEY")]
    receipt_key: Option<String>,
    #[command(flatten)]
    windows: TypedWindows,
    /// What devices publish to
    #[arg(long, value_enum)]
    broker: Option<Broker>,
    /// The topics that are taken
    #[arg(long, value_name = "FILTER")]
    topic: Option<String>,
    /// Which device publishes there
    #[arg(long, value_name = "NAME")]
    device: Option<DeviceId>,
    /// Where the outbox and all secrets are kept [default: "state" in the folder; /var/lib/tidegate for /etc/tidegate]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

/// What devices publish to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Broker {
    /// A mosquitto on this machine
    Mosquitto,
    /// The gateway's own, for a first run: not durable
    Embedded,
    /// None: devices hand in by HTTP alone
    None,
}

/// Everything that the config says.
#[derive(Debug)]
struct Plan {
    state_dir: Option<PathBuf>,
    broker: Broker,
    topic: String,
    device: DeviceId,
    destination: DestinationId,
    /// `[destination.NAME]` and its keys.
    block: String,
}

/// Does it.
pub(super) fn run(args: InitArgs) -> Result<ExitCode, Failure> {
    let (config, broker) = (args.folder.join(CONFIG_FILE), args.folder.join(BROKER_FILE));
    for file in [&config, &broker] {
        if file.exists() {
            return Err(Failure::failed(format!(
                "{} is there already, and nothing is written over: name another --folder, or move it away",
                file.display()
            )));
        }
    }
    let folder = args.folder.clone();
    let plan = plan(args, &mut Asker::of_terminal())?;
    fs::create_dir_all(&folder).map_err(|error| failed(&folder, &error))?;
    // Its addresses are nobody else's business.
    write(&config, &text::config(&plan), 0o600)?;
    if plan.broker == Broker::Mosquitto {
        write(&broker, BROKER_SETTINGS, 0o644)?;
    }
    output::message(&format!("{} is written; docs/config.md has every key", config.display()));
    let loaded =
        config_errors::load(&config, &paths::default_state_dir(), &config_errors::environment(), Occasion::New);
    let usable = match loaded {
        Ok(_) => true,
        Err(report) => {
            let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            output::message(&report.render(io::stderr().is_terminal() && !no_color));
            output::message("It can't be used yet: put that right first.");
            false
        }
    };
    for line in text::next(&plan, &config, &broker) {
        output::message(&line);
    }
    Ok(ExitCode::from(if usable { exit::OK } else { exit::CONFIG }))
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::failed(format!("could not write {}: {error}", path.display()))
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), Failure> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| failed(path, &error))
}

/// What the options say, and where they don't, what is answered.
fn plan(args: InitArgs, asker: &mut Asker) -> Result<Plan, Failure> {
    asker.silent = args.non_interactive;
    let pasted = match (&args.block, &args.destination) {
        (Some(file), _) => super::agreement::text_of(file)?,
        (None, Some(_)) => String::new(),
        (None, None) => {
            asker.lines("Paste the block that `tidegate receiver` printed, then an empty line (or nothing)")?
        }
    };
    let (destination, mut block) = if pasted.trim().is_empty() {
        let destination = match args.destination {
            Some(destination) => destination,
            None => asker.ask("What is the destination called here?", "readings", &str::parse)?,
        };
        let onion = match args.onion {
            Some(onion) => onion,
            None => asker.ask("Its onion address, such as ADDRESS.onion:80", "", &needed)?,
        };
        let block = text::block(&destination, &onion, args.write_key.as_deref(), args.receipt_key.as_deref());
        (destination, block)
    } else {
        (text::name_in(&pasted)?, format!("{}\n", pasted.trim()))
    };
    let windows = if args.windows.is_empty() {
        let typed = asker
            .ask("When is it open? Such as mon-fri 22:00-02:00", "always", &|text| Ok::<_, String>(text.to_owned()))?;
        let mut windows = args.windows;
        if typed != "always" {
            windows.allow.push(typed);
        }
        windows
    } else {
        args.windows
    };
    let mut windows = windows;
    if !windows.is_empty() && windows.timezone.is_none() {
        windows.timezone = Some(
            asker.ask("In which time zone? Such as Europe/Madrid", "UTC", &|text| Ok::<_, String>(text.to_owned()))?,
        );
    }
    block.push_str(&text::windows(windows)?);
    let broker = match args.broker {
        Some(broker) => broker,
        None => asker.ask(
            "What do devices publish to: mosquitto, embedded (for a first run), none (HTTP alone)",
            "mosquitto",
            &|text| Broker::from_str(text, true),
        )?,
    };
    let topic = match args.topic {
        Some(topic) => topic,
        None => asker.ask("Which topics are taken?", "patient/+/+", &needed)?,
    };
    let device = match args.device {
        Some(device) => device,
        None => asker.ask("Which device publishes there?", "pacemaker", &str::parse)?,
    };
    let state_dir =
        args.state_dir.or_else(|| (args.folder != Path::new("/etc/tidegate")).then(|| PathBuf::from("state")));
    Ok(Plan { state_dir, broker, topic, device, destination, block })
}

fn needed(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("this is needed".to_owned()) } else { Ok(text.to_owned()) }
}
