//! The promises by name (README, "Promises"): tests, simulation and debug builds check them under these names.

use serde::{Deserialize, Serialize};

/// A named promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum InvariantId {
    /// Nothing is acknowledged before its entry is flushed.
    Cu1,
    /// Every accepted message is in exactly one state; the account has no gap.
    Cu2,
    /// At least once, with the same id on every attempt.
    Cu3,
    /// No attempt starts outside an open window.
    Dw1,
    /// No attempt runs past the closing plus grace.
    Dw2,
    /// Window open, uplink ready, destination up: its queue drains.
    Dw3,
    /// A closed window is no failure.
    Dw4,
    /// Order per device and destination is kept.
    Or1,
    /// No attempt without a live consent grant, where consent is required.
    Pr1,
    /// Payload bytes never appear in a log, a report, a room, a listing or an error.
    Pr2,
    /// Two destinations never share a circuit.
    Pr3,
    /// Aliases only, at info and above.
    Pr4,
    /// Onion services only; no look-up, no exit, no redirect.
    Pr5,
    /// Every end state is reported at least once, and one report is shown once.
    Re1,
    /// Every queue, body, map and retry has a limit.
    Li1,
}

/// Panics in debug builds when a promise is broken; the caller counts and logs it in release builds.
///
/// Returns whether the promise holds, so that release code can act on it.
#[macro_export]
macro_rules! check_invariant {
    ($id:expr, $holds:expr, $($detail:tt)+) => {{
        let holds: bool = $holds;
        debug_assert!(holds, "invariant {:?} broken: {}", $id, format_args!($($detail)+));
        holds
    }};
}
