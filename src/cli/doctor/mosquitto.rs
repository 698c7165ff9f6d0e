//! mosquitto's settings, as far as they decide what is lost. Figures and reasons are in `docs/guide-mosquitto.md`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Where Debian has it.
pub(super) const CONFIG_FILE: &str = "/etc/mosquitto/mosquitto.conf";
/// Longest config that is read, in bytes, with all that it includes.
const CONFIG_BYTES_MAX: usize = 1024 * 1024;
/// Messages that wait for a gateway that is away; fewer than mosquitto's default times ten are a short night.
const QUEUED_MIN: u64 = 10_000;
/// Acknowledgements come in groups, one for each flush to disk.
const INFLIGHT_MIN: u64 = 100;

/// A file that could not be read.
#[derive(Debug)]
pub(super) struct Unreadable {
    pub file: PathBuf,
    pub reason: io::Error,
}

/// The config, and what it includes after it, as mosquitto reads them.
pub(super) fn read(file: &Path) -> Result<String, Unreadable> {
    let one = |file: &Path| fs::read_to_string(file).map_err(|reason| Unreadable { file: file.to_owned(), reason });
    let mut text = one(file)?;
    let folders: Vec<PathBuf> =
        settings(&text).filter(|(name, _)| *name == "include_dir").map(|(_, value)| value.into()).collect();
    for folder in folders {
        let entries = fs::read_dir(&folder).map_err(|reason| Unreadable { file: folder.clone(), reason })?;
        let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        files.retain(|file| file.extension().is_some_and(|extension| extension == "conf"));
        files.sort();
        for file in files {
            text.push('\n');
            text.push_str(&one(&file)?);
            if text.len() > CONFIG_BYTES_MAX {
                return Err(Unreadable { file, reason: io::Error::other("together longer than 1 MiB") });
            }
        }
    }
    Ok(text)
}

fn settings(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().map(str::trim).filter(|line| !line.starts_with('#')).filter_map(|line| {
        let (name, value) = line.split_once(char::is_whitespace)?;
        Some((name, value.trim()))
    })
}

/// What these settings lose, in words.
pub(super) fn losses(text: &str) -> Vec<String> {
    let last = |wanted: &str| settings(text).filter(|(name, _)| *name == wanted).map(|(_, value)| value).last();
    let is_true = |name: &str| last(name) == Some("true");
    let number = |name: &str, unless_set: u64| match last(name) {
        None => unless_set,
        // 0 is no limit.
        Some(value) => value.parse().ok().filter(|number| *number != 0).unwrap_or(u64::MAX),
    };
    let mut losses = Vec::new();
    if !is_true("persistence") {
        losses.push(
            "persistence is not true: a restart loses the gateway's session, and all that waits for it".to_owned(),
        );
    } else {
        let every = number("autosave_interval", 1_800);
        if is_true("autosave_on_changes") {
            if every > 100 {
                losses.push(format!("autosave_interval {every}: a killed broker loses as many changes"));
            }
        } else {
            losses.push(format!(
                "autosave_on_changes is not true: a killed broker loses what it acknowledged in the last {every} s"
            ));
        }
    }
    let queued = number("max_queued_messages", 1_000);
    if queued < QUEUED_MIN {
        losses.push(format!(
            "max_queued_messages {queued}: while the gateway is away, what comes beyond that is acknowledged and dropped"
        ));
    }
    if last("max_queued_bytes").is_some_and(|value| value != "0") {
        losses.push(
            "max_queued_bytes is set: while the gateway is away, what comes beyond it is acknowledged and dropped"
                .to_owned(),
        );
    }
    let inflight = number("max_inflight_messages", 20);
    if inflight < INFLIGHT_MIN {
        losses.push(format!("max_inflight_messages {inflight}: the gateway, which acknowledges in groups, is held up"));
    }
    if last("message_size_limit")
        .and_then(|value| value.parse::<u64>().ok())
        .is_none_or(|limit| limit == 0 || limit > 1_000_000)
    {
        losses.push(
            "message_size_limit is not set, or above 1000000: a larger packet is dropped on the way to the gateway, and its sender \
             thinks that it arrived"
                .to_owned(),
        );
    }
    losses
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const OURS: &str = include_str!("../../../deploy/mosquitto/tidegate.conf");

    #[test]
    fn the_settings_that_we_give_lose_nothing_and_each_of_them_is_needed() {
        assert_eq!(losses(OURS), Vec::<String>::new());
        for setting in [
            "persistence ",
            "autosave_on_changes",
            "max_queued_messages",
            "max_inflight_messages",
            "message_size_limit",
        ] {
            let without: Vec<&str> = OURS.lines().filter(|line| !line.starts_with(setting)).collect();
            let found = losses(&without.join("\n"));
            assert_eq!(found.len(), 1, "{setting}: {found:?}");
            assert!(found[0].starts_with(setting.trim()), "{setting}: {found:?}");
        }
    }

    #[test]
    fn debians_settings_are_read_with_what_they_include_and_the_last_one_counts() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mosquitto.conf");
        let included = folder.path().join("conf.d");
        fs::create_dir(&included).unwrap();
        let debian = "# of Debian\npersistence true\npersistence_location /var/lib/mosquitto/\ninclude_dir ";
        fs::write(&file, format!("{debian}{}\n", included.display())).unwrap();
        assert_eq!(losses(&read(&file).unwrap()).len(), 4);
        fs::write(included.join("tidegate.conf"), OURS).unwrap();
        fs::write(included.join("readme.txt"), "max_queued_messages 1").unwrap();
        assert_eq!(losses(&read(&file).unwrap()), Vec::<String>::new());
        fs::write(included.join("zz.conf"), "max_queued_messages 500\nautosave_interval 3000").unwrap();
        assert_eq!(losses(&read(&file).unwrap()).len(), 2);
        fs::remove_dir_all(&included).unwrap();
        assert_eq!(read(&file).unwrap_err().file, included);
    }
}
