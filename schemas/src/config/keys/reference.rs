//! The printed reference of all keys: `docs/config.md`.

use super::KEYS;

/// The sections of the reference: title, first part of the paths, and what is to be said before the table.
const SECTIONS: &[(&str, &str, &str)] = &[
    ("At the top of the file", "", ""),
    (
        "`[mqtt]`",
        "mqtt.",
        "The broker that devices publish to. See the guide for the mosquitto settings that don't lose messages.",
    ),
    ("`[http]`", "http.", "Where devices without MQTT hand in."),
    ("`[tor]`", "tor.", "How onion services are reached."),
    (
        "`[matrix]`",
        "matrix.",
        "The room that hears of each delivery: that and when, never what. Without this section nothing is sent.",
    ),
    (
        "`[signal_service]`",
        "signal_service.",
        "Where destinations say over Tor that they are ready, or not now. Only who has the key finds it. See `docs/signals.md`.",
    ),
    ("`[admin]`", "admin.", "The operator's endpoint."),
    ("`[outbox]`", "outbox.", "The durable queue."),
    ("`[ledger]`", "ledger.", "What ended, in hash-chained files: `ledger/2026-11-23.jsonl` in the state folder."),
    ("`[clock]`", "clock.", "The wall clock, by which windows open."),
    ("`[log]`", "log.", "Logs go to the standard error output."),
    (
        "`[[route]]`",
        "route[].",
        "From a publication to a device and a destination; any number of them, the first that matches counts.",
    ),
    (
        "`[destination.NAME]`",
        "destination.*.",
        "An onion service and the service agreement with it. `NAME` (a-z, 0-9 and -) is the alias: the only name of it that logs, rooms and lists show.",
    ),
];

/// `docs/config.md`: the reference of all keys, in Markdown.
#[must_use]
pub fn reference() -> String {
    use std::fmt::Write as _;
    let mut text = String::from(PREFACE);
    for (title, prefix, about) in SECTIONS {
        // Writing to a String can't fail.
        let _ = write!(text, "\n## {title}\n\n");
        if !about.is_empty() {
            let _ = write!(text, "{about}\n\n");
        }
        text.push_str("| key | value | default | meaning |\n|---|---|---|---|\n");
        for key in KEYS {
            let name = match key.path.strip_prefix(prefix) {
                Some(name) if !prefix.is_empty() || !name.contains('.') => name,
                _ => continue,
            };
            let default = if key.default.is_empty() { String::new() } else { format!("`{}`", key.default) };
            let _ = writeln!(text, "| `{name}` | {} | {default} | {} |", key.kind, key.about);
        }
    }
    text
}

const PREFACE: &str = "\
# Config

A file in TOML, and those of `conf.d` beside it. Without `--config FILE` (or `TIDEGATE_CONFIG`) it is `./tidegate.toml`, then `/etc/tidegate/tidegate.toml`.
`schemas/config/example.toml` has every key with its default. This page is printed from the list in `schemas/src/config/keys.rs`.

`tidegate check` reads the file as `run` does, and says all that is wrong with it at once, with file, line, column and what would
do; if nothing is, it shows the next openings of every destination. It ends with 0, or with 78 for a config that can't be used.

- **`conf.d/*.toml`** beside the config file, in the order of their names, hold more of `[destination.NAME]` and `[[route]]`, and nothing else.
  A destination is declared in one place. Relative paths begin at the folder of the config file itself. Routes of the config file
  come first.
- **Reload**: `tidegate reload` or SIGHUP takes over destinations and routes, all or nothing. Other sections need a restart; it names them.
- **Unknown keys are errors**, with a suggestion.
- **Environment**: `TIDEGATE__SECTION__KEY` replaces a key of the file (`TIDEGATE__MQTT__HOST=10.0.0.5`,
  `TIDEGATE__DESTINATION__CARDIOLOGY__LANES=4`). The value is TOML if it reads as TOML, else text. In names, `-` is written as `_`.
  Lists of tables (`[[route]]`) can't be reached.
- **Secrets** are never in the file or in the environment: `{ file = \"...\" }` names a file of their own.
- **Lengths of time**: `90s`, `2h 30m`, `14d` (a day is 24 hours). **Sizes**: `4096`, `64KiB`, `64MiB`, `1GiB`.
- **Names** are never asked of a name server: addresses, `localhost`, `/etc/hosts` and onion addresses only.
";
