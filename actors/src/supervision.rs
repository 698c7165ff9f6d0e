//! The supervision kernel: the gateway is a list, and whoever falls is put back with those that stand on it.
//!
//! actix's own `Supervisor` does not survive a panic (the mailbox closes for good), so this is ours. It is about five
//! ideas, one file each:
//!
//! - [`DeathWatch`]: a field of every actor. Dropped with the actor, however that ends, it tells the kernel *how*: a stop,
//!   a panic (in a handler, in a spawned or awaited future), or the end of a task that the actor owned.
//! - [`OwnedTask`]: a tokio task that lives and dies with its actor, both ways. A dead poller never leaves a deaf actor.
//! - [`RestartBudget`]: how often a child may fall, how long to wait before the next try, and when to give up.
//! - [`Gateway`]: the root. Children in list order, each with the names of the lines whose addresses it holds. A fall stops
//!   the transitive dependants (top first), then restarts the fallen and them (bottom first); all others are untouched.
//!   Every ten seconds it sends `Observe`; a child that does not answer is cut off and replaced.
//! - [`Heartbeat`]: an OS thread that notices when the one System thread itself is blocked, which no actor can.
//!
//! Beside them: [`Bell`], the payload-free way to send news *up* the list, and [`ask`], a request with a time limit.
//!
//! # Life of a child
//!
//! ```text
//!            start ok                 death (charged to its budget)
//!   Down ---------------> Running ---------------------------------> Down, after a delay
//!    ^                       |  \____ no answer to Observe: cut off __^
//!    |  restart with its     | a need fell: Shutdown, cut off after a limit (not charged)
//!    +-----------------------+
//!   Down --budget exhausted--> Suspended (one try every 15 minutes)   or   the gateway ends with code 70
//! ```
//!
//! # Rules for actors
//!
//! - The [`DeathWatch`] is the *last* field: fields drop in order, so owned tasks are aborted before the kernel hears.
//! - `stopping` and `stopped` must not panic: actix calls them while a panic unwinds, and a second one aborts the process.
//! - On `Shutdown`, finish what is in hand and call `ctx.stop()`; the death is the answer, not the reply. There are seconds
//!   for it in a drain, but only [`Options::restart_stop_limit`] when the floor fell; then the actor is dropped where it
//!   stands, which must be as safe as a panic.
//! - Answer `Observe` at once, from memory; never hold `ctx.wait` for longer than the observation limit.
//! - Act once on start, before waiting for a bell: a ring may have been heard by the incarnation before.

mod ask;
mod bell;
mod budget;
mod child;
mod death_watch;
mod exit;
mod gateway;
mod heartbeat;
mod messages;
mod owned_task;
mod roster;
mod slot;
mod status;
#[cfg(test)]
mod tests;

pub use ask::{AskError, ask};
pub use bell::{Bell, Bells, Wake};
pub use budget::{Intensity, RestartBudget, Verdict};
pub use child::{ChildSpec, Exhausted, Running, Start, StartError, WiringError};
pub use death_watch::{Death, DeathWatch};
pub use exit::{Exit, PanicSite, TaskEnd, install_panic_hook, record_panic_site};
pub use gateway::{CODE_DRAINED, CODE_GAVE_UP, Ended, Gateway, GatewayRun, Options};
pub use heartbeat::Heartbeat;
pub use messages::{Drain, GetStatus};
pub use owned_task::OwnedTask;
pub use status::{ChildState, ChildStatus, GatewayStatus, Phase, View};
