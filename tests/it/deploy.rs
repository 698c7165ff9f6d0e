//! What is installed beside the program: the unit, its user, its folders. systemd's own tools judge them, without a running systemd.

#![expect(clippy::print_stdout, reason = "the score is a figure")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};
use tempfile::TempDir;

/// The highest score that the unit may have: 0 is confined, 10 is open.
const SCORE_MAX: f64 = 1.5;

/// A file of the repository.
pub fn of_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Held in the program, because a child that is nobody may not read the repository.
pub fn unit() -> String {
    include_str!("../../deploy/systemd/tidegate.service").to_owned()
}

/// The values of a setting of the unit, in order.
pub fn settings<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    let lines = unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    lines.collect()
}

/// One of systemd's tools.
fn systemd(program: &str, args: &[&str], file: &Path) -> Output {
    let run = Command::new(program).args(args).arg(file).env("SYSTEMD_COLORS", "0").env("SYSTEMD_PAGER", "").output();
    run.unwrap_or_else(|error| panic!("{program} can't be run (.ci/setup test installs it): {error}"))
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A unit in a folder of its own, under its name.
fn written(text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tidegate.service");
    fs::write(&path, text).unwrap();
    (folder, path)
}

/// How open a service of this unit is, as `systemd-analyze security` counts, and whether that is within the limit.
fn score(text: &str) -> (f64, bool) {
    let (_folder, path) = written(text);
    let threshold = format!("--threshold={:.0}", SCORE_MAX * 10.0);
    let judged = systemd("systemd-analyze", &["security", "--offline=true", "--no-pager", &threshold], &path);
    let told = said(&judged);
    let line = told.lines().find(|line| line.contains("Overall exposure level")).unwrap_or_else(|| panic!("{told}"));
    let number = line.rsplit_once(": ").unwrap().1.split(' ').next().unwrap();
    (number.parse().unwrap(), judged.status.success())
}

#[test]
fn the_unit_is_confined() {
    let (value, within) = score(&unit());
    println!("figure unit_security {value} points");
    assert!(within && value <= SCORE_MAX, "{value}");
    let open: String =
        unit().lines().filter(|line| !line.starts_with("Protect")).map(|line| format!("{line}\n")).collect();
    let (value, within) = score(&open);
    assert!(!within && value > SCORE_MAX, "without its protection it is open: {value}");
}

#[test]
fn systemd_understands_every_line_of_the_unit() {
    let program = env!("CARGO_BIN_EXE_tidegate");
    // The program isn't installed here.
    let verify = |text: &str| {
        let (_folder, path) = written(&text.replace("/usr/bin/tidegate", program));
        systemd("systemd-analyze", &["verify", "--recursive-errors=no"], &path)
    };
    let told = verify(&unit());
    assert!(told.status.success() && said(&told).is_empty(), "{}", said(&told));
    let told = verify(&unit().replace("ProtectHome=yes", "ProtectHomes=yes"));
    assert!(said(&told).contains("ProtectHomes"), "{}", said(&told));
}

#[test]
fn the_user_and_the_folders_are_made() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("etc")).unwrap();
    let into = format!("--root={}", root.path().display());
    let made = systemd("systemd-sysusers", &[&into], &of_repository("deploy/systemd/tidegate.sysusers"));
    assert!(made.status.success(), "{}", said(&made));
    let users = fs::read_to_string(root.path().join("etc/passwd")).unwrap();
    let user = users.lines().find(|line| line.starts_with("tidegate:")).unwrap_or_else(|| panic!("{users}"));
    assert!(user.ends_with(":/var/lib/tidegate:/usr/sbin/nologin"), "{user}");

    let file = of_repository("deploy/systemd/tidegate.tmpfiles");
    let made = systemd("systemd-tmpfiles", &["--create", &into], &file);
    // Who isn't root may not give a folder away; all else is done all the same.
    assert!(made.status.success() || !rustix::process::geteuid().is_root(), "{}", said(&made));
    let mode = |folder: &str| {
        use std::os::unix::fs::MetadataExt as _;
        fs::metadata(root.path().join(folder)).unwrap().mode() & 0o7777
    };
    assert_eq!(mode("var/lib/tidegate"), 0o700);
    assert_eq!(mode("etc/tidegate/secrets"), 0o750);
}

/// The names of the system calls that the unit lets through: its filters in order, each group written out by systemd.
pub fn system_calls(unit: &str) -> BTreeSet<String> {
    let told = Command::new("systemd-analyze").args(["syscall-filter", "--no-pager"]).output().unwrap();
    let groups = String::from_utf8(told.stdout).unwrap();
    let mut allowed = BTreeSet::new();
    for filter in settings(unit, "SystemCallFilter") {
        let (denies, names) = filter.strip_prefix('~').map_or((false, filter), |names| (true, names));
        for name in names.split(' ').flat_map(|name| written_out(name, &groups)) {
            if denies {
                allowed.remove(&name)
            } else {
                allowed.insert(name)
            };
        }
    }
    allowed
}

/// A group begins at the first column; its members, which may be groups, are indented.
fn written_out(name: &str, groups: &str) -> Vec<String> {
    if !name.starts_with('@') {
        return vec![name.to_owned()];
    }
    let members = groups.lines().skip_while(|line| *line != name).skip(1).take_while(|line| line.starts_with(' '));
    let members = members.map(str::trim).filter(|member| !member.starts_with('#'));
    members.flat_map(|member| written_out(member, groups)).collect()
}

#[test]
fn groups_of_system_calls_are_written_out() {
    let allowed =
        system_calls("SystemCallFilter=@system-service\nSystemCallFilter=~@privileged\nSystemCallFilter=adjtimex\n");
    for (name, is_in) in [("openat", true), ("futex", true), ("chroot", false), ("chown", false), ("adjtimex", true)] {
        assert_eq!(allowed.contains(name), is_in, "{name}");
    }
}

/// `tidegate service install` with these arguments, into this folder.
fn install(root: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(["service", "install", "--root"]).arg(root).args(args).output().unwrap()
}

#[test]
fn the_service_is_shown_first_then_installed_and_what_was_there_is_kept() {
    let root = tempfile::tempdir().unwrap();
    let place = root.path().join("etc/systemd/system/tidegate.service");
    let program = "/usr/bin/tidegate";

    let shown = install(root.path(), &["--program", program, "--dry-run"]);
    assert!(shown.status.success() && said(&shown).contains(&unit()), "{}", said(&shown));
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0, "a dry run writes nothing");

    assert!(!said(&shown).contains("hides"), "{}", said(&shown));
    let hidden = install(root.path(), &["--program", "/home/me/tidegate", "--dry-run"]);
    assert!(said(&hidden).contains("hides /home from the service"), "{}", said(&hidden));

    let done = install(root.path(), &["--program", program]);
    assert!(done.status.success(), "{}", said(&done));
    assert!(said(&done).contains("systemctl enable --now tidegate"), "{}", said(&done));
    assert_eq!(fs::read_to_string(&place).unwrap(), unit());
    for (name, file) in [("sysusers.d", "tidegate.sysusers"), ("tmpfiles.d", "tidegate.tmpfiles")] {
        let written = fs::read(root.path().join("etc").join(name).join("tidegate.conf")).unwrap();
        assert_eq!(written, fs::read(of_repository("deploy/systemd").join(file)).unwrap());
    }

    fs::write(&place, "somebody's own").unwrap();
    let again = install(root.path(), &["--json"]);
    let told: serde_json::Value = serde_json::from_slice(&again.stdout).unwrap();
    let acts: Vec<_> = told["files"].as_array().unwrap().iter().map(|file| file["act"].as_str().unwrap()).collect();
    assert_eq!(acts, ["replace", "keep", "keep"], "{told}");
    assert_eq!(fs::read_to_string(place.with_extension("service.old")).unwrap(), "somebody's own");
    // Without --program it is the program that was called.
    let called = fs::canonicalize(env!("CARGO_BIN_EXE_tidegate")).unwrap();
    let start = format!("{} --config /etc/tidegate/tidegate.toml run", called.display());
    assert_eq!(settings(&fs::read_to_string(&place).unwrap(), "ExecStart"), [start.as_str()]);
}

#[test]
fn a_service_that_can_not_be_installed_says_why_by_its_exit_code() {
    let root = tempfile::tempdir().unwrap();
    let refused = install(root.path(), &["--program", "/opt/two words/tidegate"]);
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    fs::write(root.path().join("etc"), "a file where a folder should be").unwrap();
    let failed = install(root.path(), &["--program", "/usr/bin/tidegate"]);
    assert_eq!(failed.status.code(), Some(1), "{}", said(&failed));
}

#[test]
fn the_containers_config_is_one_that_the_program_takes() {
    let folder = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(of_repository("deploy/container/tidegate.toml")).unwrap();
    let secret = folder.path().join("password");
    fs::write(&secret, "a password\n").unwrap();
    let here = text.replace("/run/secrets/mqtt.password", secret.to_str().unwrap());
    assert_ne!(here, text);
    let checked = |text: &str| {
        let config = folder.path().join("tidegate.toml");
        fs::write(&config, text).unwrap();
        let mut program = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        program.arg("--config").arg(config).arg("check").env("STATE_DIRECTORY", folder.path()).output().unwrap()
    };
    let told = checked(&here);
    assert!(told.status.success(), "{}", said(&told));
    // Beyond the container's loopback it asks for credentials first, as the file says.
    let told = checked(&here.replace("enabled = false", "listen = \"0.0.0.0:8000\""));
    assert!(told.status.code() == Some(78) && said(&told).contains("tidegate device add"), "{}", said(&told));
}
