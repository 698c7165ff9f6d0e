//! A simulated pacemaker: the paper's ESP32, which publishes `patient/tension/mmHg` and `patient/beats/bpm` in turn.

use super::{
    Global,
    exit::{self, Failure},
    output, paths,
};
use crate::adapters::mqtt_publisher::{PublishError, Published, Publisher, PublisherSettings};
use clap::Args;
use serde_json::json;
use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};
use tidegate_schemas::id::DeviceId;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// Most readings a second.
const RATE_MAX: f64 = 100_000.0;
/// Fewest readings a second: one a day.
const RATE_MIN: f64 = 1.0 / 86_400.0;

/// How to simulate.
#[derive(Debug, Args)]
pub struct PacemakerArgs {
    /// Readings to publish in all; without it, until Ctrl-C
    #[arg(long, value_name = "NUMBER")]
    count: Option<u64>,
    /// Readings a second
    #[arg(long, default_value_t = 0.2, value_name = "NUMBER")]
    rate: f64,
    /// Broker [default: the config's, or 127.0.0.1:1883]
    #[arg(long, value_name = "ADDRESS:PORT")]
    broker: Option<String>,
    /// Quality of service: 1 waits for the broker's acknowledgement; 0 is what the paper's device sends
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=1), value_name = "0|1")]
    qos: u8,
    /// First level of the topics
    #[arg(long, default_value = "patient", value_name = "NAME")]
    name: DeviceId,
    /// Publish the same two readings for ever, instead of ones that wander
    #[arg(long)]
    constant: bool,
    /// User name at the broker; needs --password-file
    #[arg(long, requires = "password_file", value_name = "NAME")]
    username: Option<String>,
    /// File with the password
    #[arg(long, requires = "username", value_name = "FILE")]
    password_file: Option<PathBuf>,
}

/// Shortest time between two lines of progress.
const PROGRESS_PAUSE: Duration = Duration::from_secs(1);
/// Ends a line of progress: what stands before it is how many readings were published.
pub(super) const PROGRESS: &str = " readings published so far";

/// One reading: topic and payload, exactly as the paper's device writes them.
fn reading(name: &DeviceId, number: u64, constant: bool) -> (String, String) {
    // Two slow waves of different length, so that charts have something to show and a run can be repeated.
    #[expect(clippy::cast_precision_loss, reason = "the phase of a wave")]
    let phase = if constant { 0.0 } else { (number / 2) as f64 };
    if number.is_multiple_of(2) {
        let tension = 120.0 + 12.0 * (phase / 9.0).sin();
        (format!("{name}/tension/mmHg"), format!("Tension: {tension:.2} mmHg "))
    } else {
        let beats = 70.0 + 8.0 * (phase / 5.0).sin();
        (format!("{name}/beats/bpm"), format!("Beats: {beats:.2} bpm "))
    }
}

/// Publishes until the count is reached or Ctrl-C comes.
pub(super) async fn run(global: &Global, args: PacemakerArgs) -> Result<ExitCode, Failure> {
    if !(RATE_MIN..=RATE_MAX).contains(&args.rate) {
        return Err(Failure::usage(format!("--rate is from one a day to {RATE_MAX} a second")));
    }
    let settings = publisher_settings(global, &args)?;
    let broker = settings.broker;
    let mut publisher = Publisher::connect(&settings).await.map_err(unreachable)?;
    if !global.json {
        output::message(&format!("publishing to {broker} at QoS {}, {} readings a second", args.qos, args.rate));
    }
    let began = Instant::now();
    let stopped = publish(&mut publisher, &args).await?;
    let published = publisher.finish().await.map_err(unreachable)?;
    tell(global, &args, &published, began.elapsed())?;
    let short = args.qos == 1 && published.acknowledged < published.sent;
    if short && !stopped {
        let missing = published.sent.saturating_sub(published.acknowledged);
        return Err(Failure::failed(format!("{missing} readings were not acknowledged by the broker")));
    }
    Ok(ExitCode::from(exit::OK))
}

/// Whether Ctrl-C ended it.
async fn publish(publisher: &mut Publisher, args: &PacemakerArgs) -> Result<bool, Failure> {
    let mut ticks = interval(Duration::from_secs_f64(1.0 / args.rate));
    // A broker that was slow for a moment doesn't lower the rate.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut told = Instant::now();
    for number in 0..args.count.unwrap_or(u64::MAX) {
        let (topic, payload) = reading(&args.name, number, args.constant);
        tokio::select! {
            _ = tokio::signal::ctrl_c() => return Ok(true),
            sent = async {
                ticks.tick().await;
                publisher.publish(&topic, payload.into_bytes()).await
            } => sent.map_err(unreachable)?,
        }
        if told.elapsed() >= PROGRESS_PAUSE {
            told = Instant::now();
            output::message(&format!("{}{PROGRESS}", number + 1));
        }
    }
    Ok(false)
}

fn tell(global: &Global, args: &PacemakerArgs, published: &Published, took: Duration) -> Result<(), Failure> {
    let Published { sent, acknowledged, refused, reconnects, .. } = published;
    if global.json {
        return output::json(&json!({
            "published": sent, "acknowledged": acknowledged, "refused": refused, "reconnects": reconnects,
            "qos": args.qos, "seconds": took.as_secs_f64(),
        }));
    }
    let acknowledged = match args.qos {
        0 => "no acknowledgement at QoS 0".to_owned(),
        _ => format!("{acknowledged} acknowledged, {refused} refused"),
    };
    output::line(&format!(
        "{sent} readings published in {:.1} s: {acknowledged}, {reconnects} reconnects",
        took.as_secs_f64()
    ))
}

#[expect(clippy::needless_pass_by_value, reason = "used as a function for map_err")]
fn unreachable(error: PublishError) -> Failure {
    Failure::unreachable(format!("{error}; name the broker with --broker, or start one"))
}

fn publisher_settings(global: &Global, args: &PacemakerArgs) -> Result<PublisherSettings, Failure> {
    let broker = match &args.broker {
        Some(text) => {
            let (host, port) = text
                .rsplit_once(':')
                .and_then(|(host, port)| Some((host, port.parse().ok()?)))
                .ok_or_else(|| Failure::usage(format!("--broker is ADDRESS:PORT, not {text:?}")))?;
            address(host, port)?
        }
        None => {
            let (host, port) = paths::settings(global)?.broker;
            address(&host, port)?
        }
    };
    let credentials = match (&args.username, &args.password_file) {
        (Some(name), Some(path)) => {
            let password = fs::read_to_string(path)
                .map_err(|error| Failure::failed(format!("could not read {}: {error}", path.display())))?;
            Some((name.clone(), password.trim_end_matches(['\r', '\n']).to_owned()))
        }
        _ => None,
    };
    let client_id = format!("tidegate-device-{}-{}", args.name, std::process::id());
    Ok(PublisherSettings { broker, client_id, credentials, acknowledged: args.qos == 1 })
}

fn address(host: &str, port: u16) -> Result<SocketAddr, Failure> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let ip = match host {
        "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        _ => host.parse().map_err(|_| {
            Failure::usage(format!("give the broker by address: {host:?} is a name, and names are not looked up"))
        })?,
    };
    let ip = if ip.is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { ip };
    Ok(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_readings_are_the_papers() {
        let name: DeviceId = "patient".parse().unwrap();
        let expected = [("patient/tension/mmHg", "Tension: 120.00 mmHg "), ("patient/beats/bpm", "Beats: 70.00 bpm ")];
        for (number, (topic, payload)) in (0..).zip(expected) {
            assert_eq!(reading(&name, number, false), (topic.to_owned(), payload.to_owned()));
        }
        assert_eq!(reading(&name, 1_001, true).1, "Beats: 70.00 bpm ");
        assert_ne!(reading(&name, 20, false).1, reading(&name, 0, false).1);
    }

    #[test]
    fn a_broker_is_named_by_address() {
        assert_eq!(address("localhost", 1).unwrap(), "127.0.0.1:1".parse().unwrap());
        assert_eq!(address("[::1]", 1).unwrap(), "[::1]:1".parse().unwrap());
        assert_eq!(address("broker.example", 1).unwrap_err().code, exit::USAGE);
    }
}
