//! One arena for the memory of a gateway.
//!
//! The system's allocator (glibc's) gives every thread that asks an arena of its own, up to eight for each processor, and what is free in
//! one is of no use to another. A gateway commits and reads on whichever thread is idle: while it delivered 200,000 messages it took
//! 260 MiB so, and 75 MiB with a single arena, which cost it a tenth to a quarter of 16,000 messages a second (`benches/custody`). The number
//! is read once, when a process begins: so the gateway begins once more, in its place, with the variable set.

use std::{env, os::unix::process::CommandExt as _, process::Command};

/// Says how many arenas there may be (mallopt(3)).
pub const VARIABLE: &str = "MALLOC_ARENA_MAX";
/// How many a gateway has.
pub const ARENAS: &str = "1";
/// The other place to say it; who says something there is believed to mean it.
const TUNABLES: &str = "GLIBC_TUNABLES";

/// Begins this process once more with one arena, unless its environment speaks of arenas. To be called before anything else is done.
/// Comes back where that can't be done: then it takes more memory, and works.
pub fn begin_with_one() {
    if [VARIABLE, TUNABLES].iter().any(|variable| env::var_os(variable).is_some()) {
        return;
    }
    let mut arguments = env::args_os();
    let (Ok(program), Some(name)) = (env::current_exe(), arguments.next()) else { return };
    // Returns with an error, or not at all.
    let _ = Command::new(program).arg0(name).args(arguments).env(VARIABLE, ARENAS).exec();
}
