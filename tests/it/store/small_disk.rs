//! A small disk of its own, for a program that is to meet a full one. A bench takes this file, too.

use std::{ffi::OsStr, process::Command};

/// What it takes to have one.
pub const NEEDS: &str =
    "a small disk of its own (as root, or with user namespaces: kernel.unprivileged_userns_clone = 1)";

/// A command that runs what follows in a mount namespace of its own, in which `folder` is a disk of this size, such as `96m`.
pub fn with_small_disk<'a>(folder: &'a OsStr, size: &'a str) -> Option<Vec<&'a OsStr>> {
    const MOUNT: &str = "mount -t tmpfs -o size=\"$1\" tmpfs \"$0\" && shift && exec \"$@\"";
    let prefixes = [vec!["unshare", "--mount"], vec!["unshare", "--user", "--map-root-user", "--mount"]];
    prefixes.into_iter().find_map(|prefix| {
        let mut words: Vec<&OsStr> = prefix.into_iter().chain(["sh", "-c", MOUNT]).map(OsStr::new).collect();
        words.extend([folder, size.as_ref()]);
        let works = Command::new(words[0]).args(&words[1..]).arg("true").status().is_ok_and(|status| status.success());
        works.then_some(words)
    })
}
