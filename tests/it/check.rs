//! `tidegate check` as an operator sees it: the built program, its two outputs and its exit code.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

const ONION: &str = "2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid.onion";

fn check(folder: &Path, config: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    fs::write(folder.join("tidegate.toml"), config).unwrap();
    Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .arg("check")
        .args(["--config", "tidegate.toml"])
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .env("HOME", folder)
        .env("STATE_DIRECTORY", folder)
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

/// What is said of a config that can't be used.
fn refused(config: &str, environment: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let output = check(folder.path(), config, &[], environment);
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_wrong_checksum_an_unknown_zone_and_an_unknown_key_are_named_with_file_line_and_column() {
    let wrong = ONION.replacen('g', "h", 1);
    let said = refused(
        &format!(
            "[destination.cardiology]\nonion = \"{wrong}\"\n\n[destination.cardiology.windows]\ntimezone = \"Europe/Madird\"\nalow = []\n"
        ),
        &[],
    );
    for (place, what) in [
        ("tidegate.toml:2:9", "the checksum of this onion address is wrong"),
        ("tidegate.toml:5:12", "unknown time zone \"Europe/Madird\""),
        ("tidegate.toml:6:1", "there is no key \"alow\" here"),
    ] {
        let at = said.find(place).unwrap_or_else(|| panic!("{place} is not in:\n{said}"));
        assert!(said[..at].contains(what), "{what} does not stand before {place}:\n{said}");
    }
    assert!(said.contains("did you mean \"allow\"?") && said.contains("3 problems"), "{said}");
    assert!(!said.contains(&wrong[8..40]), "the address is shown:\n{said}");
}

#[test]
fn a_homeserver_that_run_could_not_reach_or_log_in_to_is_refused_at_its_place() {
    let said = refused(
        &format!(
            "[tor]\ntransport = \"socks\"\n[matrix]\nhomeserver = \"http://{ONION}\"\nuser = \"gateway\"\npassword = {{ file = \"no-such\" }}\n"
        ),
        &[],
    );
    for (place, what) in [
        ("tidegate.toml:4:14", "through the built-in Tor client alone"),
        ("tidegate.toml:6:21", "no-such could not be read"),
    ] {
        let at = said.find(place).unwrap_or_else(|| panic!("{place} is not in:\n{said}"));
        assert!(said[..at].contains(what), "{what} does not stand before {place}:\n{said}");
    }
    assert!(!said.contains(&ONION[8..40]), "the address is shown:\n{said}");
}

#[test]
fn a_listener_on_the_network_without_credentials_is_refused_at_its_line() {
    let said = refused("# first line\n[http]\nlisten = \"0.0.0.0:8000\"\n", &[]);
    assert!(said.contains("tidegate.toml:3:10") && said.contains("tidegate device add"), "{said}");
    let said = refused("", &[("TIDEGATE__HTTP__LISTEN", "0.0.0.0:8000")]);
    assert!(said.contains("TIDEGATE__HTTP__LISTEN in the environment"), "{said}");
}

#[test]
fn a_good_config_shows_the_next_three_openings_and_no_address() {
    let folder = tempfile::tempdir().unwrap();
    let config = format!(
        "[[route]]\ntopic = \"{{destination}}/{{device}}/#\"\n[destination.cardiology]\nonion = \"{ONION}\"\nwindows = {{ timezone = \"Europe/Madrid\", allow = [{{ cron = \"0 */6 * * *\", for = \"20m\" }}] }}\n"
    );
    let output = check(folder.path(), &config, &[], &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("this config can be used") && !said.contains(&ONION[..20]), "{said}");
    assert_eq!(said.lines().filter(|line| line.contains(", until ")).count(), 3, "{said}");

    let output = check(folder.path(), &config, &["--json"], &[]);
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["usable"], true);
    assert_eq!(said["destinations"][0]["openings"].as_array().unwrap().len(), 3);
    assert!(fs::read_dir(folder.path()).unwrap().count() == 1, "a check leaves nothing behind");
}

#[test]
fn the_example_can_be_used_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let example = include_str!("../../schemas/config/example.toml");
    let output = check(folder.path(), example, &[], &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn programs_get_the_problems_as_json() {
    let folder = tempfile::tempdir().unwrap();
    let output = check(folder.path(), "[mqtt]\nport = 0\n", &["--json"], &[]);
    assert_eq!(output.status.code(), Some(78));
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let problem = &said["problems"][0];
    assert_eq!((problem["path"].as_str(), problem["line"].as_u64()), (Some("mqtt.port"), Some(2)));
    assert_eq!(problem["column"].as_u64(), Some(8));
}
