//! How an incarnation of an actor ended, in words for the budget, the log and the status page.
//!
//! A panic is known by *where* it happened, never by what it said: the message of a panic can quote data (slicing a string
//! off a character boundary prints the string), and payload bytes never reach a log.

use serde::Serialize;
use std::{
    cell::RefCell,
    fmt::{self, Display},
    panic::PanicHookInfo,
};

/// How one incarnation of an actor ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Exit {
    /// It stopped itself, or was asked to.
    Stopped,
    /// It stopped itself and said why ([`crate::supervision::DeathWatch::resign`]).
    Resigned {
        /// A fixed sentence, so that no data can slip into it.
        reason: &'static str,
    },
    /// It panicked: in a handler, or in a future that it spawned on or awaited in its own context.
    Panicked {
        /// Where, if the panic hook of this module was installed.
        at: Option<PanicSite>,
    },
    /// A task that it owned ended, and it could not go on without it.
    TaskEnded {
        /// The task's name.
        name: &'static str,
        /// How the task ended.
        end: TaskEnd,
    },
    /// It did not answer an observation in time and was cut off.
    Stuck,
    /// It could not be started.
    StartFailed {
        /// What failed.
        reason: String,
    },
}

/// How a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskEnd {
    /// Its future came to its end.
    Returned,
    /// It panicked.
    Panicked,
    /// Someone other than its owner aborted it, or its runtime went away.
    Aborted,
}

/// File and line of a panic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PanicSite {
    /// The last three parts of the source path.
    pub file: String,
    /// The line.
    pub line: u32,
}

impl Exit {
    /// Whether something went wrong, for the owner of an actor that may come to its end by itself (a courier with nothing
    /// left to do): neither a stop nor the return of its task did. The Gateway makes no such difference: its children
    /// never end unasked.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        match self {
            Self::Stopped | Self::TaskEnded { end: TaskEnd::Returned, .. } => false,
            Self::Resigned { .. }
            | Self::Panicked { .. }
            | Self::TaskEnded { end: TaskEnd::Panicked | TaskEnd::Aborted, .. }
            | Self::Stuck
            | Self::StartFailed { .. } => true,
        }
    }
}

impl Display for PanicSite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

impl Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => f.write_str("stopped"),
            Self::Resigned { reason } => write!(f, "gave up: {reason}"),
            Self::Panicked { at: Some(site) } => write!(f, "panicked at {site}"),
            Self::Panicked { at: None } => f.write_str("panicked"),
            Self::TaskEnded { name, end: TaskEnd::Returned } => write!(f, "its task {name} returned"),
            Self::TaskEnded { name, end: TaskEnd::Panicked } => write!(f, "its task {name} panicked"),
            Self::TaskEnded { name, end: TaskEnd::Aborted } => write!(f, "its task {name} was aborted"),
            Self::Stuck => f.write_str("stuck: no answer to an observation"),
            Self::StartFailed { reason } => write!(f, "could not start: {reason}"),
        }
    }
}

thread_local! {
    /// The latest panic of this thread; read by the death watch while that very panic unwinds.
    static LAST_PANIC: RefCell<Option<PanicSite>> = const { RefCell::new(None) };
}

/// How many trailing parts of a source path are kept: enough to find the file, too few to tell where it was built.
const PATH_PARTS_MAX: usize = 3;

/// Notes where the panic happened, for the death watch that is dropped while it unwinds. For use inside a panic hook.
pub fn record_panic_site(info: &PanicHookInfo<'_>) {
    let site = info.location().map(|location| PanicSite { file: tail(location.file()), line: location.line() });
    // A panic inside the hook aborts the process, so neither access may fail.
    let _ = LAST_PANIC.try_with(|last| {
        if let Ok(mut last) = last.try_borrow_mut() {
            *last = site;
        }
    });
}

/// Takes the note that [`record_panic_site`] left on this thread.
pub(super) fn take_panic_site() -> Option<PanicSite> {
    LAST_PANIC.try_with(|last| last.try_borrow_mut().ok().and_then(|mut last| last.take())).ok().flatten()
}

/// Replaces the process's panic hook by one that records and logs the place of a panic and leaves its message out (see the
/// module's doc). For `main`, after logging is set up.
pub fn install_panic_hook() {
    std::panic::set_hook(Box::new(|info| {
        record_panic_site(info);
        let thread = std::thread::current();
        let (file, line) = info.location().map_or((String::new(), 0), |at| (tail(at.file()), at.line()));
        tracing::error!(thread = thread.name().unwrap_or("unnamed"), file, line, "a panic; its message is withheld");
    }));
}

/// The last parts of a source path.
fn tail(path: &str) -> String {
    let parts: Vec<&str> = path.split(['/', '\\']).collect();
    parts[parts.len().saturating_sub(PATH_PARTS_MAX)..].join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_keeps_the_end_of_the_path_only() {
        assert_eq!(tail("/home/someone/project/actors/src/outbox.rs"), "actors/src/outbox.rs");
        assert_eq!(tail("outbox.rs"), "outbox.rs");
    }

    #[test]
    fn an_exit_reads_as_a_sentence() {
        let site = PanicSite { file: "src/outbox.rs".into(), line: 7 };
        assert_eq!(Exit::Panicked { at: Some(site) }.to_string(), "panicked at src/outbox.rs:7");
        let ended = Exit::TaskEnded { name: "poller", end: TaskEnd::Panicked };
        assert_eq!(ended.to_string(), "its task poller panicked");
    }
}
