//! What the gateway asks of the kernel on the whole way, arti and the room included, is what its unit lets through.

use super::stage::{Options, Stage, TRACE};
use crate::deploy::{settings, system_calls, unit};
use std::{collections::BTreeSet, fs};

/// The names of the calls in a trace, whether they ended or not.
fn names(trace: &str) -> BTreeSet<&str> {
    let texts = trace.lines().filter_map(|line| Some(line.split_once(' ')?.1.trim_start()));
    let named = texts.filter_map(|text| Some(text.split_once('(')?.0));
    named
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'))
        .collect()
}

#[test]
fn the_unit_lets_through_all_that_the_gateway_asks_of_the_kernel() {
    let options = Options { room: true, http: Some(String::new()), traced: &["-s", "0"], ..Options::default() };
    let mut stage = Stage::start(options);
    stage.publish_one("one");
    stage.wait_for_delivered(1);
    stage.tidegate(&["reload"]);
    stage.stop_gateway();
    let trace = fs::read_to_string(stage.file(TRACE)).unwrap();
    let unit = unit();

    let (mut asked, allowed) = (names(&trace), system_calls(&unit));
    if rustix::process::geteuid().is_root() {
        // SQLite, below arti, gives its files to the owner of its database; anybody else doesn't try.
        asked.remove("fchown");
    }
    assert!(["connect", "fdatasync", "epoll_wait", "exit_group"].iter().all(|name| asked.contains(name)), "{asked:?}");
    let refused: Vec<_> = asked.iter().filter(|name| !allowed.contains(**name)).collect();
    assert!(refused.is_empty(), "the unit refuses: {refused:?}");

    let families: BTreeSet<&str> = settings(&unit, "RestrictAddressFamilies")[0].split(' ').collect();
    let sockets = trace.lines().filter_map(|line| line.split_once(" socket(")?.1.split(',').next());
    let strange: BTreeSet<&str> = sockets.filter(|family| !families.contains(family)).collect();
    assert!(strange.is_empty(), "the unit refuses sockets of {strange:?}");

    // MemoryDenyWriteExecute= and RestrictNamespaces=
    let both = |line: &&str| line.contains("PROT_WRITE") && line.contains("PROT_EXEC");
    assert_eq!(trace.lines().find(both), None);
    assert_eq!(trace.lines().find(|line| line.contains("CLONE_NEW")), None);
}
