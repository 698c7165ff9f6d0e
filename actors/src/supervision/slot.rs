//! The place of one child in the list, and what is known of it across its incarnations.

use super::{ChildSpec, ChildState, ChildStatus, Death, Exit, Intensity, RestartBudget, Running};
use std::time::Duration;
use tidegate_schemas::messages::gateway::Shutdown;
use tokio::time::Instant;

/// One child's place.
pub(super) struct Slot<H> {
    pub spec: ChildSpec<H>,
    /// Places of its hard needs, all lower than its own.
    pub needs: Vec<usize>,
    /// Places of those it uses if they are there, all lower than its own.
    pub uses: Vec<usize>,
    pub state: State,
    pub budget: RestartBudget,
    pub generation: u64,
    pub falls_total: u64,
    pub last_exit: Option<Exit>,
    pub last_fall: Option<Instant>,
    pub observed: Option<Instant>,
}

/// Where a child is in its life.
pub(super) enum State {
    /// Waits for its moment and for its needs.
    Down(Resume),
    /// Runs.
    Up(Incarnation),
    /// Was asked to end (or was cut off); its death is awaited until a deadline.
    Stopping { incarnation: Incarnation, until: Instant, cut: bool, resume: Resume },
    /// Ended for good.
    Stopped,
}

/// When a child is to be started again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Resume {
    pub at: Instant,
    pub suspended: bool,
}

/// One life of a child.
pub(super) struct Incarnation {
    pub generation: u64,
    pub running: Running,
    pub death: Death,
    /// The lines it stands on, and which incarnation of each it holds the address of.
    pub floor: Vec<(usize, Option<u64>)>,
}

impl<H> Slot<H> {
    pub fn new(spec: ChildSpec<H>, needs: Vec<usize>, uses: Vec<usize>, intensity: Intensity, now: Instant) -> Self {
        Self {
            spec,
            needs,
            uses,
            state: State::Down(Resume { at: now, suspended: false }),
            budget: RestartBudget::new(intensity),
            generation: 0,
            falls_total: 0,
            last_exit: None,
            last_fall: None,
            observed: None,
        }
    }

    /// The incarnation that others may hold the address of.
    pub fn up_generation(&self) -> Option<u64> {
        match &self.state {
            State::Up(incarnation) => Some(incarnation.generation),
            State::Down(_) | State::Stopping { .. } | State::Stopped => None,
        }
    }

    /// Whether an incarnation exists that may still act.
    pub fn is_alive(&self) -> bool {
        matches!(self.state, State::Up(_) | State::Stopping { .. })
    }

    pub fn is_suspended(&self) -> bool {
        matches!(self.state, State::Down(Resume { suspended: true, .. }))
    }

    /// How its incarnation ended, if it did.
    pub fn death(&self) -> Option<Exit> {
        match &self.state {
            State::Up(incarnation) | State::Stopping { incarnation, .. } => incarnation.death.peek(),
            State::Down(_) | State::Stopped => None,
        }
    }

    /// Asks the running incarnation to end within `limit`; what follows its death is `resume`.
    pub fn ask_to_stop(&mut self, limit: Duration, resume: Resume, now: Instant) {
        self.state = match std::mem::replace(&mut self.state, State::Stopped) {
            State::Up(incarnation) => {
                // The only message that ever goes through this sender, so it enters even a full mailbox (see `ask`). A closed
                // one means that the death is on its way.
                let _ = incarnation.running.stop.try_send(Shutdown);
                State::Stopping { incarnation, until: now + limit, cut: false, resume }
            }
            other => other,
        };
    }

    /// Drops the incarnation where it stands. Its death follows as soon as the thread is free.
    pub fn cut_off(&mut self, resume: Resume, until: Instant) {
        self.state = match std::mem::replace(&mut self.state, State::Stopped) {
            State::Up(incarnation) | State::Stopping { incarnation, .. } => {
                incarnation.running.abort.abort();
                State::Stopping { incarnation, until, cut: true, resume }
            }
            other => other,
        };
    }

    /// The status line; `floor_suspended` says whether a need, direct or not, is suspended.
    pub fn status(&self, floor_suspended: bool) -> ChildStatus {
        let (state, next_try) = match &self.state {
            State::Up(_) => (ChildState::Running, None),
            State::Stopping { .. } => (ChildState::Restarting, None),
            State::Down(resume) if resume.suspended => (ChildState::Suspended, Some(resume.at)),
            State::Down(_) if floor_suspended => (ChildState::Waiting, None),
            State::Down(resume) => (ChildState::Restarting, Some(resume.at)),
            State::Stopped => (ChildState::Stopped, None),
        };
        ChildStatus {
            name: self.spec.name,
            state,
            generation: self.generation,
            restarts_total: self.generation.saturating_sub(1),
            falls_total: self.falls_total,
            last_exit: self.last_exit.clone(),
            last_fall: self.last_fall,
            observed: self.observed,
            next_try,
        }
    }
}
