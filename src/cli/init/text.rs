//! What `tidegate init` writes and says.

use super::{Broker, Plan};
use crate::cli::{exit::Failure, typed_windows::TypedWindows};
use std::{fmt::Write as _, path::Path};
use tidegate_schemas::id::DestinationId;
use toml::{Table, Value};

/// A text as TOML has it.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// The config.
pub(super) fn config(plan: &Plan) -> String {
    let mut text = String::from(
        "# Tidegate's config. `tidegate check` says what is wrong with it, and when each destination opens next.\n\
         # docs/config.md has every key with its default.\n\n",
    );
    // Writing to a String can't fail.
    if let Some(folder) = &plan.state_dir {
        let folder = quoted(&folder.to_string_lossy());
        let _ = write!(
            text,
            "# The outbox, Tor's state, tokens, credentials: never two gateways on one.\nstate_dir = {folder}\n\n"
        );
    }
    text.push_str(match plan.broker {
        Broker::Mosquitto => {
            "# The broker that devices publish to. Its own settings decide what it loses: see mosquitto-tidegate.conf.\n\
             [mqtt]\nhost = \"localhost\"\n\n"
        }
        Broker::Embedded => {
            "# The gateway's own broker, for a first run: it acknowledges before the outbox has a message.\n\
             [mqtt]\nembedded = true\n\n"
        }
        Broker::None => "# Devices hand in by HTTP alone, on 127.0.0.1:8000.\n[mqtt]\nenabled = false\n\n",
    });
    let _ = write!(
        text,
        "# The first route that matches says whose reading it is, and where it goes. A \"{{device}}\" or \"{{destination}}\" in a topic\n\
         # takes the name from there.\n\
         [[route]]\ntopic       = {}\ndevice      = {}\ndestination = {}\n\n",
        quoted(&plan.topic),
        quoted(plan.device.as_str()),
        quoted(plan.destination.as_str()),
    );
    let _ = write!(text, "# Where readings are delivered, and when.\n{}", plan.block);
    text.push_str(
        "\n# Deliveries are acknowledged in a room of a homeserver that is local, private or an onion service.\n\
         #[matrix]\n#homeserver = \"http://127.0.0.1:8008\"\n#user       = \"tidegate\"\n#password   = { file = \"matrix.password\" }\n",
    );
    text
}

/// A destination's block.
pub(super) fn block(
    destination: &DestinationId,
    onion: &str,
    write_key: Option<&Path>,
    receipt_key: Option<&str>,
) -> String {
    let mut text = format!("[destination.{destination}]\nonion       = {}\n", quoted(onion));
    if let Some(file) = write_key {
        let file = quoted(&file.to_string_lossy());
        let _ = write!(text, "format      = \"cloudevents-batch\"\nwrite_key   = {{ file = {file} }}\n");
    }
    if let Some(key) = receipt_key {
        let _ = writeln!(text, "receipt_key = {}", quoted(key));
    }
    text
}

/// The name of the one destination that a block has.
pub(super) fn name_in(block: &str) -> Result<DestinationId, Failure> {
    let wrong = |why: String| Failure::usage(format!("this is not the block that `tidegate receiver` prints: {why}"));
    let table: Table = toml::from_str(block).map_err(|error| wrong(error.message().to_owned()))?;
    let mut names = match table.get("destination").and_then(Value::as_table) {
        Some(destinations) if table.len() == 1 => destinations.keys(),
        _ => return Err(wrong("it has something else than [destination.NAME]".to_owned())),
    };
    match (names.next(), names.next()) {
        (Some(name), None) => name.parse().map_err(|error| wrong(format!("{error}"))),
        _ => Err(wrong("it has not one destination".to_owned())),
    }
}

/// The keys of windows, below a destination's block.
pub(super) fn windows(typed: TypedWindows) -> Result<String, Failure> {
    if typed.is_empty() {
        return Ok("# Always open. Such as on weekday nights alone:\n\
                   #windows.timezone = \"Europe/Madrid\"\n\
                   #windows.allow    = [{ days = \"mon-fri\", from = \"22:00\", to = \"02:00\" }]\n"
            .to_owned());
    }
    let raw = typed.raw()?;
    let value =
        Value::try_from(&raw).map_err(|error| Failure::failed(format!("these windows can't be written: {error}")))?;
    Ok(format!("windows     = {value}\n"))
}

/// What to do next, in order.
pub(super) fn next(plan: &Plan, config: &Path, broker: &Path) -> Vec<String> {
    let (config, broker) = (config.display(), broker.display());
    let topic = plan.topic.replace(['+', '#'], "x").replace("{device}", plan.device.as_str());
    let topic = topic.replace("{destination}", plan.destination.as_str());
    let mut lines = vec!["Next:".to_owned()];
    if plan.broker == Broker::Mosquitto {
        lines.push(format!(
            "  sudo cp {broker} /etc/mosquitto/conf.d/tidegate.conf && sudo systemctl restart mosquitto"
        ));
    }
    lines.push(format!("  tidegate check --config {config}       # what the gateway would do, and when"));
    lines.push(format!("  tidegate doctor --config {config}      # what is wrong around it"));
    lines.push(format!("  tidegate run --config {config}"));
    lines.push(format!("  tidegate wait --for ready --config {config}"));
    lines.push(match plan.broker {
        Broker::None => {
            let url = format!("http://127.0.0.1:8000/v1/messages/{}?device={}", plan.destination, plan.device);
            format!("  curl -T - -H 'Content-Type: text/plain' '{url}' <<< 'Beats: 70.00 bpm'")
        }
        Broker::Mosquitto | Broker::Embedded => {
            format!("  mosquitto_pub -q 1 -t '{topic}' -m 'Beats: 70.00 bpm'      # a first reading")
        }
    });
    lines
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::{super::*, *};
    use clap::Parser as _;
    use tidegate_schemas::config::{check::Surroundings, source::ConfigText};

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        init: InitArgs,
    }

    fn plan_of(arguments: &[&str], answers: &'static str) -> Result<Plan, Failure> {
        let line = Line::parse_from([&["init"], arguments].concat());
        super::super::plan(line.init, &mut Asker::answered(answers))
    }

    /// Whether a gateway could run with it.
    fn usable(plan: &Plan) -> Result<(), String> {
        let text = config(plan);
        let around = Surroundings {
            base_dir: Path::new("/"),
            state_dir: Path::new("/state"),
            occasion: Occasion::New,
            now: "2026-11-27T12:00:00Z".parse().unwrap(),
            mqtt_tls: false,
            read_file: &|_| Err(io::ErrorKind::NotFound.into()),
            read_registry: &|_| Err(io::ErrorKind::NotFound.into()),
        };
        let parsed = ConfigText::parse(&text, &[]).map_err(|error| format!("{error:?}\n{text}"))?;
        parsed.check(&around).map(|_| ()).map_err(|error| format!("{error:?}\n{text}"))
    }

    const ONION: &str = "2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid.onion:80";

    #[test]
    fn what_the_options_say_is_a_config_that_can_be_used() {
        for broker in ["mosquitto", "embedded", "none"] {
            for more in [
                &["--allow", "mon-fri 22:00-02:00", "--timezone", "Europe/Madrid"][..],
                &["--cron", "0 */6 * * * for 20m"],
                &["--state-dir", "/srv/a \"quoted\" place"],
                &[],
            ] {
                let arguments =
                    [&["--non-interactive", "--destination", "ward", "--onion", ONION, "--broker", broker], more];
                let plan = plan_of(&arguments.concat(), "").unwrap();
                assert_eq!(usable(&plan), Ok(()));
            }
        }
    }

    #[test]
    fn what_is_not_said_is_asked_and_wrong_answers_are_asked_again() {
        let answers = "\nnot a name!\nward\n\n2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid.onion:80\nsat,sun\nEurope/Rome\n\
                       rabbit\nembedded\n\n\n";
        let plan = plan_of(&[], answers).unwrap();
        assert_eq!(
            (plan.destination.as_str(), plan.broker, plan.device.as_str()),
            ("ward", Broker::Embedded, "pacemaker")
        );
        assert!(plan.block.contains("Europe/Rome") && plan.block.contains("sat,sun"), "{}", plan.block);
        assert_eq!(usable(&plan), Ok(()));
        let unfinished = plan_of(&[], "\nward\n").unwrap_err();
        assert!(unfinished.code == exit::USAGE && unfinished.message.contains("no answer"), "{unfinished}");
        let unsaid = plan_of(&["--non-interactive"], "").unwrap_err();
        assert!(unsaid.code == exit::USAGE && unsaid.message.contains("onion"), "{unsaid}");
    }

    #[test]
    fn a_pasted_block_is_taken_as_it_is_and_anything_else_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("block.toml");
        let given = format!("[destination.lab]\nonion = \"{ONION}\"\nformat = \"raw\"\n");
        fs::write(&file, &given).unwrap();
        let plan = plan_of(&["--non-interactive", "--block", file.to_str().unwrap()], "").unwrap();
        assert!(plan.destination.as_str() == "lab" && plan.block.starts_with(&given), "{}", plan.block);
        assert_eq!(usable(&plan), Ok(()));
        for wrong in
            ["[destination.a]\n[destination.b]\n", "[mqtt]\nhost = \"x\"\n", "serving http://", "[destination]\n"]
        {
            assert_eq!(name_in(wrong).unwrap_err().code, exit::USAGE, "{wrong}");
        }
    }
}
