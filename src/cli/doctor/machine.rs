//! The machine below a gateway: its clock, the state folder, the disk.

use super::Finding;
use crate::{
    adapters::{
        disk_room::{free_bytes, is_in_memory},
        system_clock::SystemClock,
    },
    admin::token::TOKEN_FILE,
    cli::output,
};
use std::{fs, io, os::unix::fs::MetadataExt as _, path::Path};
use tidegate_actors::ports::clock::Clock as _;
use tidegate_schemas::config::{devices::DEVICES_FILE, file::Config, tokens::TOKENS_FILE};

/// Free room, as a multiple of what has to stay free, below which it is time to look.
const ROOM_FACTOR: u64 = 4;

pub(super) fn look(config: &Config) -> Vec<Finding> {
    let mut findings = vec![clock(config)];
    match fs::metadata(&config.state_dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => findings.push(Finding::look(
            "state folder",
            format!("{} is not there yet", config.state_dir.display()),
            "the gateway makes it on its first start",
        )),
        Err(error) => findings.push(Finding::wrong(
            "state folder",
            format!("{} can't be looked at: {error}", config.state_dir.display()),
            "run this as the gateway's user, or as root",
        )),
        Ok(metadata) => {
            findings.extend(permissions(&config.state_dir, metadata.mode(), metadata.uid()));
            findings.extend(disk(config));
        }
    }
    findings
}

fn clock(config: &Config) -> Finding {
    let trust = SystemClock::new(config.clock.trust).trust();
    let view = trust.view();
    if view.trusted && view.hint.is_empty() {
        Finding::good("clock", view.why)
    } else if trust.is_alarm() {
        Finding::wrong("clock", view.why, view.hint)
    } else {
        Finding::look(
            "clock",
            view.why,
            format!("{}; a running gateway also believes what agrees with Tor's times", view.hint),
        )
    }
}

/// Whether others could read what is secret, or the gateway could not.
fn permissions(state_dir: &Path, mode: u32, owner: u32) -> Vec<Finding> {
    let mut findings = Vec::new();
    if mode & 0o077 != 0 {
        findings.push(Finding::look(
            "state folder",
            format!("others may look into {} (mode {:03o})", state_dir.display(), mode & 0o777),
            format!("chmod 700 {}", state_dir.display()),
        ));
    }
    for name in [TOKEN_FILE, DEVICES_FILE, TOKENS_FILE] {
        let path = state_dir.join(name);
        let Ok(metadata) = fs::metadata(&path) else { continue };
        if metadata.mode() & 0o077 != 0 {
            let mode = metadata.mode() & 0o777;
            findings.push(Finding::wrong(
                "state folder",
                format!("others can read {} (mode {mode:03o})", path.display()),
                format!("chmod 600 {}, and make what is in it anew", path.display()),
            ));
        }
        if metadata.uid() != owner {
            findings.push(Finding::wrong(
                "state folder",
                format!("{} belongs to another user than the folder", path.display()),
                format!("chown --reference={} {}", state_dir.display(), path.display()),
            ));
        }
    }
    if findings.is_empty() {
        findings.push(Finding::good("state folder", format!("{} is for its owner alone", state_dir.display())));
    }
    findings
}

fn disk(config: &Config) -> Vec<Finding> {
    let (folder, least) = (&config.state_dir, config.outbox.min_free_disk);
    let mut findings = Vec::new();
    if is_in_memory(folder).unwrap_or(false) {
        findings.push(Finding::wrong(
            "disk",
            format!("{} is in memory (tmpfs): everything in it is gone with the power", folder.display()),
            "set state_dir to a folder on a disk",
        ));
    }
    findings.push(match free_bytes(folder) {
        Err(error) => Finding::look("disk", format!("how much room it has can't be told: {error}"), ""),
        Ok(free) => {
            let seen = format!("{} free, of which {} stay free", output::bytes(free), output::bytes(least));
            let remedy =
                "make room: what fills it may be logs, old backups (`backups` in the state folder) or other programs";
            if free < least {
                Finding::wrong("disk", format!("{seen}: no message is taken"), remedy)
            } else if free < least.saturating_mul(ROOM_FACTOR) {
                Finding::look("disk", seen, remedy)
            } else {
                Finding::good("disk", seen)
            }
        }
    });
    findings
}
