//! The death watch: one per incarnation of an actor, dropped with it, and never able to lose a death.
//!
//! A death is a cell that is written once plus a bell, not a message: there is no mailbox that could be full, and a cell
//! belongs to one incarnation, so the late death of an actor that was already replaced reaches nobody.

use super::{Bell, Exit, exit::take_panic_site};
use std::sync::{Arc, OnceLock};

/// Tells whoever started the actor how it ended. Make it the last field of the actor.
#[derive(Debug)]
pub struct DeathWatch {
    name: &'static str,
    generation: u64,
    note: ExitNote,
    cell: Arc<OnceLock<Exit>>,
    bell: Bell,
}

/// The other end of a [`DeathWatch`].
#[derive(Debug)]
pub struct Death {
    cell: Arc<OnceLock<Exit>>,
    bell: Bell,
}

/// The reason of an end that is under way; the first one counts.
#[derive(Debug, Clone, Default)]
pub(super) struct ExitNote(Arc<OnceLock<Exit>>);

impl ExitNote {
    /// Leaves `exit` as the reason, unless there is one already.
    pub(super) fn leave(&self, exit: Exit) {
        // A second reason is a consequence of the first.
        let _ = self.0.set(exit);
    }
}

impl DeathWatch {
    /// A watch and the place where its death is seen; `bell` is rung at that moment.
    ///
    /// Several watches may ring one bell if its listener looks at all of them. [`Death::ended`] needs a bell of its own.
    #[must_use]
    pub fn pair(name: &'static str, generation: u64, bell: Bell) -> (Self, Death) {
        #[cfg(feature = "testing")]
        crate::testing::faults::watches(name);
        let cell = Arc::new(OnceLock::new());
        let watch = Self { name, generation, note: ExitNote::default(), cell: Arc::clone(&cell), bell: bell.clone() };
        (watch, Death { cell, bell })
    }

    /// A watch that nobody looks at: for an actor that a test starts by itself.
    #[must_use]
    pub fn unwatched(name: &'static str) -> Self {
        Self::pair(name, 1, Bell::default()).0
    }

    /// The child's name in the list.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Which incarnation of the child this is, from 1.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Says why the actor is about to stop itself; to be followed by `ctx.stop()`. The first reason counts.
    pub fn resign(&self, reason: &'static str) {
        self.note.leave(Exit::Resigned { reason });
    }

    pub(super) fn note(&self) -> ExitNote {
        self.note.clone()
    }
}

impl Drop for DeathWatch {
    fn drop(&mut self) {
        let exit = if std::thread::panicking() {
            Exit::Panicked { at: take_panic_site() }
        } else {
            self.note.0.get().cloned().unwrap_or(Exit::Stopped)
        };
        // Nobody else writes the cell.
        let _ = self.cell.set(exit);
        self.bell.ring();
    }
}

impl Death {
    /// How the actor ended, if it did.
    #[must_use]
    pub fn peek(&self) -> Option<Exit> {
        self.cell.get().cloned()
    }

    /// Waits for the end. Cancel-safe. Correct only if no one else listens to this watch's bell.
    pub async fn ended(&self) -> Exit {
        loop {
            if let Some(exit) = self.peek() {
                return exit;
            }
            self.bell.wait().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_watch_tells_a_stop_from_a_resignation_and_a_panic() {
        let (watch, death) = DeathWatch::pair("toy", 1, Bell::default());
        assert_eq!(death.peek(), None);
        drop(watch);
        assert_eq!(death.peek(), Some(Exit::Stopped));

        let (watch, death) = DeathWatch::pair("toy", 2, Bell::default());
        watch.resign("the store is poisoned");
        watch.resign("and this comes too late");
        drop(watch);
        assert_eq!(death.peek(), Some(Exit::Resigned { reason: "the store is poisoned" }));

        let (watch, death) = DeathWatch::pair("toy", 3, Bell::default());
        let thread = std::thread::spawn(move || {
            let _watch = watch;
            panic!("on purpose");
        });
        assert!(thread.join().is_err());
        assert!(matches!(death.peek(), Some(Exit::Panicked { .. })));
    }

    #[test]
    fn a_death_in_another_thread_is_never_missed_by_who_waits() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        for generation in 0..200 {
            let (watch, death) = DeathWatch::pair("toy", generation, Bell::default());
            let thread = std::thread::spawn(move || drop(watch));
            assert_eq!(runtime.block_on(death.ended()), Exit::Stopped);
            thread.join().expect("the thread");
        }
    }
}
