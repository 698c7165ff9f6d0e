//! `tidegate check`: is this config fit to run, and what would it do?
//!
//! Reads the config as `run` does, but as one that is new: what its dates will do one day is refused here, and no more than a warning to
//! a gateway that was running with it. What is wrong goes to stderr, each problem at its place ([`super::config_errors`]), and
//! the exit code is 78. If nothing is, stdout has what the gateway would do: where it listens, what it connects to, its routes,
//! and for every destination the next three openings; then what deserves a second look. Nothing is started, nothing is
//! connected to, and no onion address is printed.

use super::{
    Global,
    config_errors::{self, Report},
    exit::{self, Failure},
    output, paths,
};
use crate::adapters::system_clock::SystemClock;
use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;
use std::{
    fmt::Write as _,
    io::{self, IsTerminal},
    path::Path,
    process::ExitCode,
};
use tidegate_actors::ports::clock::Clock;
use tidegate_schemas::{
    agreement::{Ages, Destination, Lifetime, LifetimeEnd, Success, Validity},
    config::{
        check::Occasion,
        file::{Config, Homeserver, MqttProtocol, TorTransport, Vanguards},
    },
    id::DestinationId,
    impact::{OPENINGS_SHOWN, openings},
    onion::without_onion_addresses,
    route::{IdSource, PayloadHandling},
    window::Opening,
    wire::WireFormat,
};

/// Checks the config and says what it found.
///
/// # Errors
/// When there is no config, or when nobody can be told.
pub fn run(global: &Global) -> Result<ExitCode, Failure> {
    let path = paths::config_file(global)
        .ok_or_else(|| Failure::config("there is no config file here: name one with --config FILE"))?;
    match config_errors::load(&path, &paths::default_state_dir(), &config_errors::environment(), Occasion::New) {
        Ok(config) => {
            let plan = Plan::of(&config, SystemClock::default().now());
            if global.json {
                output::json(&plan)?;
            } else {
                output::line(plan.to_text(&path).trim_end())?;
            }
            Ok(ExitCode::from(exit::OK))
        }
        Err(report) => {
            if global.json {
                output::json(&Refusal::of(&report))?;
            } else {
                let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
                output::message(&report.render(io::stderr().is_terminal() && !no_color));
            }
            Ok(ExitCode::from(exit::CONFIG))
        }
    }
}

/// All that is wrong, for programs.
#[derive(Debug, Serialize)]
struct Refusal {
    usable: bool,
    problems: Vec<RefusedValue>,
}

#[derive(Debug, Serialize)]
struct RefusedValue {
    path: String,
    message: String,
    hint: String,
    file: Option<String>,
    line: Option<usize>,
    column: Option<usize>,
}

impl Refusal {
    fn of(report: &Report) -> Self {
        let problems = report.problems().iter().map(|located| {
            let position = report.position(located);
            let problem = located.problem.clone();
            RefusedValue {
                path: problem.path,
                message: problem.message,
                hint: problem.hint,
                file: position.map(|(file, _, _)| file.display().to_string()),
                line: position.map(|(_, line, _)| line),
                column: position.map(|(_, _, column)| column),
            }
        });
        Self { usable: false, problems: problems.collect() }
    }
}

/// What a config would do.
#[derive(Debug, Serialize)]
struct Plan {
    usable: bool,
    listens: Vec<Line>,
    connects: Vec<Line>,
    routes: Vec<Line>,
    destinations: Vec<Planned>,
    warnings: Vec<Line>,
}

/// Something and what is to be said of it.
#[derive(Debug, Serialize)]
struct Line {
    what: String,
    about: String,
}

fn line(what: impl Into<String>, about: impl Into<String>) -> Line {
    Line { what: what.into(), about: about.into() }
}

#[derive(Debug, Serialize)]
struct Planned {
    destination: DestinationId,
    format: WireFormat,
    success: Success,
    lifetime: String,
    timezone: String,
    always_open: bool,
    openings: Vec<Opening>,
}

impl Plan {
    fn of(config: &Config, now: Timestamp) -> Self {
        Self {
            usable: true,
            listens: listens(config),
            connects: connects(config),
            routes: routes(config),
            destinations: config.destinations.iter().map(|destination| planned(destination, now)).collect(),
            warnings: config
                .warnings
                .iter()
                .map(|problem| {
                    let hint = if problem.hint.is_empty() { String::new() } else { format!(" ({})", problem.hint) };
                    line(&problem.path, format!("{}{hint}", problem.message))
                })
                .collect(),
        }
    }

    fn to_text(&self, path: &Path) -> String {
        let mut text = format!("{}: this config can be used\n", path.display());
        section(&mut text, "Listens on", &self.listens);
        section(&mut text, "Connects to", &self.connects);
        section(&mut text, "Routes, the first that matches counts", &self.routes);
        let destinations: Vec<Line> = self.destinations.iter().flat_map(Planned::lines).collect();
        section(&mut text, "Destinations", &destinations);
        section(&mut text, "Look twice at", &self.warnings);
        text
    }
}

fn section(text: &mut String, title: &str, lines: &[Line]) {
    if lines.is_empty() {
        return;
    }
    let width = lines.iter().map(|line| line.what.chars().count()).max().unwrap_or(0);
    // Writing to a String can't fail.
    let _ = write!(text, "\n{title}\n");
    for Line { what, about } in lines {
        let _ = writeln!(text, "  {what:width$}  {about}");
    }
}

fn listens(config: &Config) -> Vec<Line> {
    let mut lines = Vec::new();
    if let Some(http) = &config.http {
        let about = format!("devices by HTTP, {} requests a minute each", http.requests_per_minute);
        lines.push(line(http.listen.to_string(), about));
    }
    if let Some(mqtt) = config.mqtt.as_ref().filter(|mqtt| mqtt.embedded) {
        let about = "devices by MQTT: the embedded broker, not durable";
        lines.push(line(format!("{}:{}", mqtt.host, mqtt.port), about));
    }
    lines.push(line(config.admin.listen.to_string(), "operators: the admin endpoint"));
    if !config.devices.is_empty() {
        lines.push(line(format!("{} devices", config.devices.len()), "have credentials"));
    }
    lines
}

fn connects(config: &Config) -> Vec<Line> {
    let mut lines = Vec::new();
    if let Some(mqtt) = &config.mqtt {
        let version = match mqtt.protocol {
            MqttProtocol::V5 => "5",
            MqttProtocol::V311 => "3.1.1",
        };
        let tls = if mqtt.tls_ca_file.is_some() { " over TLS" } else { "" };
        lines.push(line(format!("{}:{}", mqtt.host, mqtt.port), format!("the broker, MQTT {version}{tls}")));
    }
    lines.push(match &config.tor.transport {
        TorTransport::Arti => {
            let vanguards = match config.tor.vanguards {
                Vanguards::Lite => "lite",
                Vanguards::Full => "full",
            };
            line("Tor", format!("in this process (arti), vanguards {vanguards}"))
        }
        TorTransport::Socks(address) => line(address.to_string(), "Tor, by the SOCKS port of a system tor"),
    });
    if let Some(matrix) = &config.matrix {
        let place = match &matrix.homeserver {
            Homeserver::Address(address) => address.to_string(),
            Homeserver::Onion(_) => "an onion service".to_owned(),
        };
        lines.push(line(
            place,
            format!("the homeserver, as {}, room #{}", without_onion_addresses(&matrix.user), matrix.room),
        ));
    }
    lines
}

fn routes(config: &Config) -> Vec<Line> {
    fn source<T: std::fmt::Display>(source: &IdSource<T>, name: &str) -> String {
        match source {
            IdSource::Capture => format!("{name} of the topic"),
            IdSource::Fixed(id) => id.to_string(),
            IdSource::Property => format!("{name} that the device says"),
        }
    }
    let lines = config.routes.0.iter().map(|route| {
        let mut about = format!(
            "from {} to {}",
            source(&route.device, "the device"),
            source(&route.destination, "the destination")
        );
        if !matches!(route.destination, IdSource::Fixed(_)) {
            let allowed = match &route.allow {
                Some(allow) => allow.iter().map(DestinationId::as_str).collect::<Vec<_>>().join(", "),
                None => "all destinations".to_owned(),
            };
            let _ = write!(about, ", allowed: {allowed}");
        }
        if route.payload == PayloadHandling::PrivateIot {
            about.push_str(", measure and value taken apart");
        }
        if route.retained {
            about.push_str(", retained messages too");
        }
        line(route.filter.subscription(), about)
    });
    lines.collect()
}

/// How long messages live, in words.
fn life(lifetime: &Lifetime) -> String {
    let while_open = match lifetime.ages {
        Ages::Always => "",
        Ages::WhileOpen => " of open windows",
    };
    match lifetime.end {
        LifetimeEnd::MaxAge(age) => format!("{}{while_open}", output::duration(age.unsigned_abs().as_secs())),
        LifetimeEnd::Attempts(most) => format!("for {most} failed attempts"),
        LifetimeEnd::MissedWindows(most) => format!("for {most} missed windows"),
    }
}

fn planned(destination: &Destination, now: Timestamp) -> Planned {
    let agreement = &destination.agreement;
    let always_open = agreement.windows.is_always() && agreement.valid == Validity::default();
    Planned {
        destination: destination.id.clone(),
        format: agreement.format,
        success: agreement.success,
        lifetime: life(&agreement.lifetime),
        timezone: agreement.windows.zone_name().to_owned(),
        always_open,
        openings: if always_open { Vec::new() } else { openings(agreement, now, OPENINGS_SHOWN) },
    }
}

impl Planned {
    fn lines(&self) -> Vec<Line> {
        let format = serde_json::to_value(self.format).ok().and_then(|v| v.as_str().map(str::to_owned));
        let success = match self.success {
            Success::Any2xx => "any 2xx is success",
            Success::Receipt => "a signed receipt is success",
        };
        let about = format!("{}, {success}, messages live {}", format.unwrap_or_default(), self.lifetime);
        let mut lines = vec![line(self.destination.as_str(), about)];
        if self.always_open {
            lines.push(line("", "always open"));
        }
        let zone = TimeZone::get(&self.timezone).unwrap_or(TimeZone::UTC);
        let show = |at: Timestamp, form: &str| at.to_zoned(zone.clone()).strftime(form).to_string();
        for opening in &self.openings {
            let from = opening.start.map_or_else(|| "open now".to_owned(), |from| show(from, "%a %Y-%m-%d %H:%M %Z"));
            let until = match opening.end {
                Some(until) => format!("until {}", show(until, "%a %H:%M %Z")),
                None => "with no end in sight".to_owned(),
            };
            lines.push(line("", format!("{from}, {until}")));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use tidegate_schemas::config::{check::Surroundings, source::ConfigText};

    const TEXT: &str = "\
[http]
listen = \"127.0.0.1:0\"
[mqtt]
embedded = true
[[route]]
topic = \"patient/+/+\"
device = \"pacemaker\"
destination = \"cardiology\"
payload = \"private-iot\"
[[route]]
topic = \"{destination}/{device}/#\"
[destination.cardiology]
onion = \"2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid.onion\"
receiver_memory = \"30d\"
windows = { timezone = \"Europe/Madrid\", allow = [{ days = \"mon-fri\", from = \"22:00\", to = \"02:00\" }] }
";

    fn plan(text: &str, now: &str) -> Plan {
        let around = Surroundings {
            base_dir: Path::new("/"),
            state_dir: Path::new("/state"),
            occasion: Occasion::New,
            now: now.parse().unwrap(),
            mqtt_tls: false,
            read_file: &|_| Err(io::ErrorKind::NotFound.into()),
            read_registry: &|_| Err(io::ErrorKind::NotFound.into()),
        };
        let config = ConfigText::parse(text, &[]).unwrap().check(&around).unwrap();
        Plan::of(&config, around.now)
    }

    #[test]
    fn a_plan_shows_what_would_happen_and_when() {
        let shown = plan(TEXT, "2026-11-27T12:00:00Z").to_text(Path::new("tidegate.toml"));
        let expected = "\
tidegate.toml: this config can be used

Listens on
  127.0.0.1:0     devices by HTTP, 600 requests a minute each
  localhost:1883  devices by MQTT: the embedded broker, not durable
  127.0.0.1:8088  operators: the admin endpoint

Connects to
  localhost:1883  the broker, MQTT 5
  Tor             in this process (arti), vanguards lite

Routes, the first that matches counts
  patient/+/+  from pacemaker to cardiology, measure and value taken apart
  +/+/#        from the device of the topic to the destination of the topic, allowed: all destinations

Destinations
  cardiology  cloudevents, any 2xx is success, messages live 14d
              Fri 2026-11-27 22:00 CET, until Sat 02:00 CET
              Mon 2026-11-30 22:00 CET, until Tue 02:00 CET
              Tue 2026-12-01 22:00 CET, until Wed 02:00 CET

Look twice at
  mqtt.embedded  the embedded broker is not durable: it acknowledges before the outbox has the message (good for a first run; use mosquitto for readings that matter)
";
        assert_eq!(shown, expected);
        assert!(!shown.contains(".onion"));
    }

    #[test]
    fn an_opening_under_way_comes_first() {
        let openings = plan(TEXT, "2026-11-23T23:00:00Z").destinations.remove(0).openings;
        assert_eq!(openings.len(), 3);
        assert_eq!(openings[0].start, None);
        assert_eq!(openings[0].end, Some("2026-11-24T01:00:00Z".parse().unwrap()));
        assert_eq!(openings[1].start, Some("2026-11-24T21:00:00Z".parse().unwrap()));
    }

    #[test]
    fn always_open_is_said_in_words() {
        let text = TEXT.replace("windows =", "# windows =");
        let plan = plan(&text, "2026-11-23T23:00:00Z");
        assert!(plan.destinations[0].always_open && plan.destinations[0].openings.is_empty());
        assert!(plan.to_text(Path::new("x")).contains("always open"));
    }
}
