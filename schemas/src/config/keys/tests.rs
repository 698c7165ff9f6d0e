//! The list of keys against the types that serde reads, the real defaults, the example, and the printed reference.
#![expect(clippy::unwrap_used, reason = "tests")]
use super::*;
use crate::agreement::Circumstances;
use crate::config::{
    check::{Occasion, Surroundings},
    file::Config,
    raw::RawConfig,
    source::ConfigText,
};
use std::{collections::BTreeSet, io, path::Path};
use toml::de::DeTable;

const EXAMPLE: &str = include_str!("../../../config/example.toml");
/// Keys that exclude one that the example has.
const IN_PLACE_OF_ANOTHER: [&str; 2] = ["destination.*.lifetime.attempts", "destination.*.lifetime.missed_windows"];
const ONION: &str = "2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid.onion";

/// The secrets that the example speaks of.
fn files(path: &Path) -> io::Result<String> {
    match path.file_name().and_then(|name| name.to_str()) {
        Some("cardiology.auth_private") => Ok("A".repeat(52)),
        Some("matrix.password" | "p") => Ok("a password\n".to_owned()),
        Some("cardiology.write_key") => Ok("a-key-of-the-receiver\n".to_owned()),
        _ => Err(io::ErrorKind::NotFound.into()),
    }
}

fn check(text: &str) -> Config {
    let around = Surroundings {
        base_dir: Path::new("/etc/tidegate"),
        state_dir: Path::new("/var/lib/tidegate"),
        occasion: Occasion::New,
        now: "2026-11-23T12:00:00Z".parse().unwrap(),
        mqtt_tls: true,
        read_file: &files,
        read_registry: &files,
    };
    ConfigText::parse(text, &[])
        .and_then(|parsed| parsed.check(&around))
        .unwrap_or_else(|problems| panic!("{problems:#?}"))
}

/// Every option of the example switched on: `#key = value` and `#[section]` are options, `# text` is prose.
fn uncommented() -> String {
    let lines = EXAMPLE.lines().map(|line| match line.strip_prefix('#') {
        Some(option) if !option.is_empty() && !option.starts_with([' ', '#', ':']) => option,
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The patterns of all values of a table.
fn patterns(value: &toml::Value, pattern: &str, found: &mut BTreeSet<String>) {
    let join = |name: &str| if pattern.is_empty() { name.to_owned() } else { format!("{pattern}.{name}") };
    match value {
        toml::Value::Table(table) => {
            for (name, value) in table {
                patterns(value, &join(if pattern == "destination" { "*" } else { name }), found);
            }
        }
        toml::Value::Array(array) if array.iter().any(toml::Value::is_table) => {
            found.insert(pattern.to_owned());
            for value in array {
                patterns(value, &format!("{pattern}[]"), found);
            }
        }
        _ => {
            found.insert(pattern.to_owned());
        }
    }
}

#[test]
fn the_example_has_every_key_and_no_other() {
    let mut found = BTreeSet::new();
    patterns(&toml::from_str(&uncommented()).unwrap(), "", &mut found);
    // `password` and the like stand for their `file`, `route` for its keys.
    let listed: BTreeSet<String> = KEYS.iter().map(|key| key.path.to_owned()).collect();
    let missing: Vec<_> = KEYS
        .iter()
        .filter(|key| {
            !KEYS.iter().any(|other| other.path.strip_prefix(key.path).is_some_and(|rest| rest.starts_with(['.', '['])))
        })
        .filter(|key| !found.contains(key.path) && !IN_PLACE_OF_ANOTHER.contains(&key.path))
        .map(|key| key.path)
        .collect();
    assert!(missing.is_empty(), "not in the example: {missing:?}");
    let strangers: Vec<_> = found.iter().filter(|path| *path != "route" && !listed.contains(*path)).collect();
    assert!(strangers.is_empty(), "not in the list of keys: {strangers:?}");
}

#[test]
fn the_example_is_valid_as_it_is_and_with_every_option_switched_on() {
    assert_eq!(check(EXAMPLE), check(""));
    let config = check(&uncommented());
    assert_eq!(config.destinations.len(), 1);
    assert!(config.matrix.is_some() && !config.routes.0.is_empty());
}

#[test]
fn the_defaults_of_the_list_are_those_of_the_example_and_of_the_program() {
    let example: toml::Value = toml::from_str(&uncommented()).unwrap();
    let mut written = String::new();
    for key in KEYS.iter().filter(|key| !key.default.is_empty() && !key.path.contains("[]")) {
        let path = key.path.replace('*', "cardiology");
        let mut value = &example;
        for name in path.split('.') {
            value = &value[name];
        }
        let default: toml::Table = toml::from_str(&format!("value = {}", key.default)).unwrap();
        // The example shows these at work.
        let at_work =
            ["destination.*.windows.", "destination.*.status.", "destination.*.notify_after", "matrix.invite"];
        if !at_work.iter().any(|path| key.path.starts_with(path)) {
            assert_eq!(value, &default["value"], "{}", key.path);
        }
        // Windows keep the text that they were written as; a table of signals is a will to hear them.
        let elsewhere =
            ["matrix.", "destination.*.signal.", "destination.*.windows.", "destination.*.head_of_line.park_after"];
        if !elsewhere.iter().any(|path| key.path.starts_with(path)) {
            written.push_str(&format!("{path} = {}\n", key.default));
        }
    }
    let onion = format!("destination.cardiology.onion = \"{ONION}\"\n");
    let (explicit, default) = (check(&format!("{written}{onion}")), check(&onion));
    assert_eq!(crate::config::settings::differences(&explicit.settings, &default.settings), [""; 0]);
    // As written they differ, of course.
    let as_meant = |config| Config {
        declarations: Default::default(),
        settings: Default::default(),
        origins: Default::default(),
        ..config
    };
    assert_eq!(as_meant(explicit), as_meant(default));
    let room = "matrix = { homeserver = \"http://127.0.0.1\", user = \"u\", password = { file = \"p\" }";
    let with_room = check(&format!("{room}, room = \"tidegate\", invite = [] }}"));
    assert_eq!(with_room.matrix, check(&format!("{room} }}")).matrix);
    let window = |keys: &str| check(&format!("{onion}destination.cardiology.windows.allow = [{{ {keys} }}]"));
    let at = "2026-11-23T12:00:00Z".parse().unwrap();
    let (short, long) = (window("days = \"daily\""), window("days = \"daily\", from = \"00:00\", to = \"24:00\""));
    assert_eq!(short.destinations[0].agreement.windows.zone_name(), "UTC");
    let evaluate = |config: &Config| config.destinations[0].agreement.evaluate(&Circumstances::at(at));
    assert_eq!(evaluate(&short), evaluate(&long));
}

#[test]
fn every_key_of_the_list_is_one_that_serde_knows() {
    // A wrong type, or a fine value, but never an unknown key.
    for key in KEYS {
        let path = key.path.replace('*', "cardiology");
        let text = match path.split_once("[].") {
            Some((list, rest)) => format!("{list} = [{{ {rest} = 1 }}]"),
            None => format!("{path} = 1"),
        };
        if let Err(error) = toml::from_str::<RawConfig>(&text) {
            assert!(!error.message().contains("unknown field"), "{}: {}", key.path, error.message());
        }
    }
}

#[test]
fn unknown_keys_are_taken_out_and_named() {
    let text = "banana = 1\n[mqtt]\nhots = 1\nlanes = 2\n[destination.a]\nwindow = 3\nwindows.alow = 4\n[[route]]\ntopics = \"x\"\n[[route]]\nlanes = 1\n";
    let mut table = DeTable::parse(text).unwrap();
    let problems: Vec<(String, String)> =
        take_unknown(table.get_mut()).into_iter().map(|problem| (problem.path, problem.hint)).collect();
    let hint =
        |path: &str| problems.iter().find(|p| p.0 == path).map(|p| p.1.as_str()).unwrap_or_else(|| panic!("{path}"));
    assert_eq!(problems.len(), 7, "{problems:?}");
    assert_eq!(hint("mqtt.hots"), "did you mean \"host\"?");
    assert_eq!(hint("mqtt.lanes"), "it belongs to destination.*.lanes");
    assert_eq!(hint("destination.a.window"), "did you mean \"windows\"?");
    assert_eq!(hint("destination.a.windows.alow"), "did you mean \"allow\"?");
    assert_eq!(hint("route[0].topics"), "did you mean \"topic\"?");
    assert!(hint("banana").starts_with("known here: version, state_dir"));
    assert!(take_unknown(table.get_mut()).is_empty());
}

#[test]
fn the_printed_reference_is_the_list() {
    let rows = reference().lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(rows, KEYS.len(), "a section is missing");
    let printed = include_str!("../../../../docs/config.md");
    assert!(
        printed == reference(),
        "docs/config.md is out of date: cargo run -p tidegate-schemas --example config_reference > docs/config.md"
    );
}
