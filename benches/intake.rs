//! How fast readings come into custody: behind a real broker against a bare client and what else people use, and the Outbox against
//! the bare disk. See the README beside this file.
//!
//! Every comparison takes turns, several times; the figure is the median of the turns' ratios.

#[path = "intake/consumers.rs"]
mod consumers;
#[path = "intake/custody.rs"]
mod custody;
#[path = "intake/rivals.rs"]
mod rivals;
#[path = "support/mod.rs"]
#[expect(dead_code, reason = "each bench uses its part")]
mod support;

use consumers::{Consumer, trial};
use std::path::Path;
use support::{figure, from_env, say};

const TURNS: usize = 5;
/// Messages of a turn against the bare client: some seconds.
const MESSAGES: u64 = 12_000;
/// The same where the broker saves less, and is faster by ten times.
const MESSAGES_SAVING_LESS: u64 = 80_000;
/// Against Node-RED with the guide's settings; `NODE_RED_MESSAGES` is another number. Some seconds: see the README on what longer ones show.
const MESSAGES_NODE_RED: u64 = 6_000;
/// Against SQLite, which takes a hundred a second.
const MESSAGES_SQLITE: u64 = 600;
const TURNS_RIVALS: usize = 3;
/// The guide's settings are the lab's own; with these over them the broker saves now and then, as Debian sets it up.
const SAVES_LESS: &[(&str, &str)] = &[("autosave_on_changes", "false"), ("autosave_interval", "1800")];

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Turn by turn, the gateway over another consumer: the median ratio.
fn against(name: &str, turns: usize, broker: &[(&str, &str)], other: Consumer, count: u64) {
    let mut ratios = Vec::new();
    for turn in 0..turns {
        // Who goes first changes, so that neither has the warmer machine.
        let (ours, theirs) = if turn % 2 == 0 {
            let theirs = trial(other, broker, count);
            (trial(Consumer::Gateway, broker, count), theirs)
        } else {
            (trial(Consumer::Gateway, broker, count), trial(other, broker, count))
        };
        say(&format!("{name}: {ours:.0} against {theirs:.0} messages a second"));
        ratios.push(ours / theirs);
    }
    figure(name, median(ratios), "ratio");
}

fn in_custody() {
    let folder = tempfile::tempdir().expect("a folder");
    let slow = custody::slow_syncs(folder.path());
    for (name, preload) in [("acks_per_sync", None), ("acks_per_sync_slow", Some(slow.as_path()))] {
        let (mut ratios, mut group) = (Vec::new(), Vec::new());
        for _ in 0..TURNS {
            let syncs = custody::run(custody::SYNC, preload)[0];
            assert!(preload.is_none() || syncs < 100.0, "the library does not slow a sync: {syncs} a second");
            let [acks, per_commit] = custody::run(custody::APPEND, preload)[..] else { panic!("two numbers") };
            say(&format!(
                "{name}: {acks:.0} acknowledged, {syncs:.0} bare syncs a second; {per_commit:.0} in a commit"
            ));
            ratios.push(acks / syncs);
            group.push(per_commit);
        }
        figure(name, median(ratios), "ratio");
        if preload.is_none() {
            figure("acks_per_commit", median(group), "messages");
        }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| arguments[at].parse::<u64>().expect("a number");
    match arguments.first().map(String::as_str) {
        Some(consumers::BARE) => return consumers::consume(u16::try_from(number(1)).expect("a port"), number(2)),
        Some(custody::SYNC) => return custody::sync(Path::new(&arguments[1])),
        Some(custody::APPEND) => return custody::append(Path::new(&arguments[1])),
        _ => {}
    }
    // Those that are named, or all.
    let wanted = |name: &str| {
        let mut named = arguments.iter().filter(|it| !it.starts_with('-')).peekable();
        named.peek().is_none() || named.any(|it| it == name)
    };
    if wanted("custody") {
        in_custody();
    }
    let against = |name: &str, turns, broker, other, count| {
        if wanted(name) {
            against(name, turns, broker, other, count);
        }
    };
    against("intake_vs_bare", TURNS, &[], Consumer::Bare, MESSAGES);
    against("intake_vs_bare_saving_less", TURNS, SAVES_LESS, Consumer::Bare, MESSAGES_SAVING_LESS);
    against("intake_vs_python_sqlite", TURNS_RIVALS, &[], Consumer::Sqlite, MESSAGES_SQLITE);
    let as_it_comes = Consumer::NodeRed { lasting: false };
    against("intake_vs_node_red", TURNS_RIVALS, SAVES_LESS, as_it_comes, MESSAGES_SAVING_LESS);
    let messages = from_env("NODE_RED_MESSAGES").unwrap_or(MESSAGES_NODE_RED);
    against("intake_vs_node_red_guide", TURNS_RIVALS, &[], as_it_comes, messages);
    against("intake_vs_node_red_guide_lasting", TURNS_RIVALS, &[], Consumer::NodeRed { lasting: true }, messages);
}
