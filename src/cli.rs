//! The command line. One file per subcommand; this one says what there is and who does it.
//!
//! Data goes to stdout, messages to stderr. `--json` gives what the admin API gives. Exit codes are documented in `--help` and in
//! `docs/cli.md` ([`exit`]). No command but `init` asks a question, and that one need not, so that all of them work in scripts.

pub mod admin_client;
pub mod arena;
pub mod config_errors;
pub mod config_files;
pub mod exit;

pub(crate) mod agreement;
mod chain;
mod check;
mod config;
#[cfg(feature = "testnet")]
mod demo;
pub(crate) mod destination;
mod device;
mod doctor;
mod drain;
mod edit;
mod embedded_broker;
mod evidence;
mod init;
mod manual;
mod outbox;
mod outbox_tools;
pub(crate) mod output;
mod pacemaker;
mod paths;
mod private_file;
mod receiver;
mod reload;
mod run;
mod service;
mod signal;
mod simulate;
pub(crate) mod status;
mod store_files;
#[cfg(feature = "testnet")]
mod testnet;
mod token;
pub(crate) mod typed_windows;
mod wait;
mod windows;

use clap::{Args, Parser, Subcommand};
use exit::Failure;
use std::{path::PathBuf, process::ExitCode};

/// What stands below every `--help`.
const EXIT_CODES: &str = "\
Exit codes:
   0  done
   1  it failed; the message says why
   2  the command line is wrong
  69  the gateway (or the broker) can't be reached
  70  the gateway gave up after repeated failures, or its main thread stood still
  75  not now: try again later
  78  the config is wrong

Environment: TIDEGATE_CONFIG names the config file, TIDEGATE__SECTION__KEY overrides one of its keys, NO_COLOR turns colours off.";

/// A privacy gateway for IoT: durable outbox, delivery windows, Tor onion services, acknowledgements in Matrix.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, after_help = EXIT_CODES, after_long_help = EXIT_CODES, max_term_width = 110)]
pub struct Cli {
    /// What holds for every subcommand.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What holds for every subcommand.
#[derive(Debug, Clone, Default, Args)]
pub struct Global {
    /// Config file [default: ./tidegate.toml, then /etc/tidegate/tidegate.toml]
    #[arg(long, global = true, env = "TIDEGATE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print JSON instead of tables
    #[arg(long, global = true)]
    pub json: bool,
    /// Admin endpoint of the gateway [default: the config's]
    #[arg(long, global = true, value_name = "URL")]
    pub admin: Option<String>,
    /// File with the admin token [default: admin.token in the config's state folder]
    #[arg(long, global = true, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a config to begin with, by a few questions or by options, and say what comes next
    Init(init::InitArgs),
    /// Run the gateway
    Run,
    /// Run the web application that takes readings, behind an onion service of its own
    Receiver(receiver::ReceiverArgs),
    /// Check the config: say all that is wrong with it, or what the gateway would do and when each destination opens next
    Check,
    /// Show what the running gateway goes by, defaults included, and where each key stands
    Config(config::ConfigArgs),
    /// Let the running gateway take over what the config files say now: all of it, or nothing
    Reload(reload::ReloadArgs),
    /// Let the running gateway end in order: nothing is taken in any more, and what is under way may finish
    Drain,
    /// Show how the running gateway is
    Status,
    /// Wait until the gateway is ready, until nothing is queued any more, or until a message has been delivered
    Wait(wait::WaitArgs),
    /// Look for what is wrong around the gateway, and say what to do about it
    Doctor(doctor::DoctorArgs),
    /// Look at the messages in custody, and act on them
    #[command(subcommand)]
    Outbox(outbox::OutboxCommand),
    /// Look after the files of what ended
    #[command(subcommand)]
    Ledger(chain::LedgerCommand),
    /// See who did what, and look after the files of that
    #[command(subcommand)]
    Audit(chain::AuditCommand),
    /// Gather ledger, agreements and audit log of some days in a folder that can be checked without the gateway
    Evidence(evidence::EvidenceArgs),
    /// Give others a token for the admin endpoint, with as much as they may do
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Show when destinations open
    #[command(subcommand)]
    Windows(windows::WindowsCommand),
    /// Show what another config would mean: the openings, and what would become of what waits
    Simulate(simulate::SimulateArgs),
    /// Look at destinations, signal for them, pause them, and make, change and remove them while the gateway runs
    #[command(subcommand)]
    Destination(destination::DestinationCommand),
    /// Manage device credentials, or be a device: without a subcommand it is a simulated pacemaker
    Device(device::DeviceArgs),
    /// Let systemd run the gateway
    #[command(subcommand)]
    Service(service::ServiceCommand),
    /// Run the paper's experiment on this machine, with real parts: device, broker, gateway, Tor, receiver, Matrix room
    #[cfg(feature = "testnet")]
    Demo(demo::DemoArgs),
    /// Start and stop a private Tor network on loopback, for trying things out
    #[cfg(feature = "testnet")]
    #[command(subcommand)]
    Testnet(testnet::TestnetCommand),
    /// Print what a shell needs to complete this command line
    Completions(manual::CompletionsArgs),
    /// Print the manual page, or write those of all commands
    Man(manual::ManArgs),
    /// Print the console's routes, for the tests in a browser
    #[cfg(feature = "testnet")]
    #[command(hide = true)]
    ConsoleRoutes,
    /// The gateway's own broker, as its child process
    #[command(hide = true)]
    EmbeddedBroker(embedded_broker::BrokerArgs),
}

/// Reads the arguments and does what they say.
#[must_use]
pub fn main() -> ExitCode {
    // clap itself ends the process with code 2 on a wrong command line, and with 0 after --help.
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let Cli { global, command } = cli;
    match command {
        Command::Init(args) => init::run(args),
        Command::Run => run::run(&global),
        Command::Receiver(args) => receiver::run(&global, args),
        #[cfg(feature = "testnet")]
        Command::Demo(args) => block_on(demo::run(&global, args)),
        #[cfg(feature = "testnet")]
        Command::Testnet(command) => testnet::run(&global, command),
        Command::EmbeddedBroker(args) => embedded_broker::run(args),
        Command::Check => check::run(&global),
        Command::Config(args) => block_on(config::run(&global, &args)),
        Command::Reload(args) => block_on(reload::run(&global, &args)),
        Command::Drain => block_on(drain::run(&global)),
        Command::Status => block_on(status::run(&global)),
        Command::Wait(args) => block_on(wait::run(&global, &args)),
        Command::Doctor(args) => block_on(doctor::run(&global, &args)),
        Command::Completions(args) => manual::completions(&args),
        Command::Man(args) => manual::man(&args),
        #[cfg(feature = "testnet")]
        Command::ConsoleRoutes => manual::console_routes(),
        Command::Outbox(command) => block_on(outbox::run(&global, command)),
        Command::Ledger(command) => chain::ledger(&global, command),
        Command::Audit(command) => chain::audit(&global, command),
        Command::Evidence(args) => block_on(evidence::run(&global, &args)),
        Command::Token(command) => token::run(&global, command),
        Command::Destination(command) => block_on(destination::run(&global, command)),
        Command::Windows(command) => block_on(windows::run(&global, command)),
        Command::Simulate(args) => block_on(simulate::run(&global, args)),
        Command::Device(args) => device::run(&global, args),
        Command::Service(command) => service::run(&global, command),
    }
}

/// Runs a command that waits for the network, on this thread.
fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::failed(format!("could not start: {error}")))?.block_on(work)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_help_tells_the_exit_codes_or_points_up_to_them() {
        let help = Cli::command().render_long_help().to_string();
        for code in ["69", "70", "75", "78"] {
            assert!(help.contains(code), "{help}");
        }
    }
}
