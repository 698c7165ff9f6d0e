//! The list itself and its one rule, as a reconciler: [`Roster::turn`] looks at what is (deaths, deadlines, delays) and does
//! what is due now. A first start, a fall, a fall during a restart, a stuck child, the end of a suspension and a drain are
//! all the same function, called whenever anything may have changed.
//!
//! The rule: a child runs on the very incarnations of its needs that are running now, or it does not run. From that follows
//! who stops when somebody falls (the transitive dependants, top first), who is not touched (everybody else), and when
//! each may start again (bottom first, after its own delay, and after all that stood on it have ended).

use super::{
    Bell, ChildSpec, DeathWatch, Ended, Exhausted, Exit, GatewayStatus, Options, Phase, Verdict, WiringError,
    gateway::{CODE_DRAINED, CODE_GAVE_UP},
    slot::{Incarnation, Resume, Slot, State},
};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};
use tidegate_schemas::messages::gateway::Observe;
use tokio::time::Instant;

/// How long the death of a child that was cut off is awaited before it is given up for lost. It normally takes one turn of
/// the executor; only a watch that was moved out of its actor could take longer.
const CUT_LIMIT: Duration = Duration::from_millis(250);

/// What each child not yet asked keeps of the time of a drain, so that a slow one at the top leaves some for the outbox.
const DRAIN_SHARE: Duration = Duration::from_millis(300);

/// The list.
pub(super) struct Roster<H> {
    slots: Vec<Slot<H>>,
    /// For each place, everybody that stands on it, directly or not.
    above: Vec<Vec<usize>>,
    /// The order of a drain.
    drain_order: Vec<usize>,
    options: Options,
    bell: Bell,
    phase: Phase,
    ending: Option<Ending>,
    changed: bool,
}

/// An end that is under way.
struct Ending {
    deadline: Instant,
    ended: Ended,
}

/// What a turn leaves to do.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// When to look again even if nobody rings.
    pub wake_at: Option<Instant>,
    /// Everything has ended.
    pub ended: Option<Ended>,
}

impl<H> Roster<H> {
    pub fn new(children: Vec<ChildSpec<H>>, options: Options, bell: Bell, now: Instant) -> Result<Self, WiringError> {
        let names: Vec<&'static str> = children.iter().map(|child| child.name).collect();
        let mut slots = Vec::with_capacity(children.len());
        for (place, spec) in children.into_iter().enumerate() {
            if names[..place].contains(&spec.name) {
                return Err(WiringError::Duplicate { name: spec.name });
            }
            let below = |need: &&'static str| {
                let found = names[..place].iter().position(|name| name == need);
                found.ok_or(WiringError::NotBelow { child: spec.name, need })
            };
            let needs = spec.needs.iter().map(below).collect::<Result<Vec<_>, _>>()?;
            let uses = spec.uses.iter().map(below).collect::<Result<Vec<_>, _>>()?;
            slots.push(Slot::new(spec, needs, uses, options.intensity, now));
        }
        let mut drain_order = Vec::with_capacity(names.len());
        for name in options.drain_order.iter().copied() {
            let place = names.iter().position(|known| *known == name);
            drain_order.push(place.ok_or(WiringError::UnknownInDrainOrder { name })?);
        }
        let rest: Vec<usize> = (0..names.len()).rev().filter(|place| !drain_order.contains(place)).collect();
        drain_order.extend(rest);
        let above = stand_on(&slots);
        let phase = Phase::Running;
        Ok(Self { slots, above, drain_order, options, bell, phase, ending: None, changed: true })
    }

    /// Does what is due at `now`. Never waits.
    pub fn turn(&mut self, now: Instant, handles: &mut H) -> Turn {
        self.bury(now, handles);
        self.enforce_deadlines(now, handles);
        if self.ending.is_none() {
            self.stop_the_uprooted(now, handles);
            self.start_the_ready(now, handles);
            // A start may uproot, too: who went on without a suspended line now gets its address.
            self.stop_the_uprooted(now, handles);
        }
        // Not an else: a start that exhausts a budget begins the end in this very turn.
        if self.ending.is_some() {
            self.drain_on(now, handles);
        }
        let ended = self.ended();
        Turn { wake_at: if ended.is_some() { None } else { self.wake_at() }, ended }
    }

    /// Whether anything visible changed since the last call.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Begins the orderly end of everything, unless it has begun.
    pub fn begin_end(&mut self, ended: Ended, now: Instant) {
        if self.ending.is_none() {
            tracing::info!(code = ended.code, reason = %ended.reason, "the gateway ends");
            self.ending = Some(Ending { deadline: now + self.options.drain_limit, ended });
            self.phase = Phase::Draining;
            self.changed = true;
        }
    }

    /// The running children that can be observed: place, generation, whom to ask.
    pub fn observable(&self) -> Vec<(usize, u64, actix::Recipient<Observe>)> {
        let up = |(place, slot): (usize, &Slot<H>)| match &slot.state {
            State::Up(it) => Some((place, it.generation, it.running.observe.clone())),
            State::Down(_) | State::Stopping { .. } | State::Stopped => None,
        };
        self.slots.iter().enumerate().filter_map(up).collect()
    }

    /// The child at `place` answered an observation.
    pub fn observed(&mut self, place: usize, generation: u64, now: Instant) {
        if self.slots[place].up_generation() == Some(generation) {
            self.slots[place].observed = Some(now);
            self.changed = true;
        }
    }

    /// The child at `place` did not answer an observation in time.
    pub fn stuck(&mut self, place: usize, generation: u64, now: Instant, handles: &mut H) {
        if self.slots[place].up_generation() != Some(generation) || self.slots[place].death().is_some() {
            return;
        }
        let resume = self.charge(place, Exit::Stuck, now, handles);
        self.slots[place].cut_off(resume, now + CUT_LIMIT);
    }

    /// The state of every line.
    pub fn status(&self) -> GatewayStatus {
        let mut suspended = vec![false; self.slots.len()];
        let mut children = Vec::with_capacity(self.slots.len());
        for (place, slot) in self.slots.iter().enumerate() {
            let floor = slot.needs.iter().any(|need| suspended[*need]);
            suspended[place] = floor || slot.is_suspended();
            children.push(slot.status(floor));
        }
        GatewayStatus { phase: self.phase, children }
    }

    /// Takes note of deaths, lowest line first: who fell with its floor is not charged for it.
    fn bury(&mut self, now: Instant, handles: &mut H) {
        for place in 0..self.slots.len() {
            let Some(exit) = self.slots[place].death() else { continue };
            let resume = match &self.slots[place].state {
                State::Stopping { resume, .. } => *resume,
                State::Up(it) if self.ending.is_none() && self.stands_firm(it) => {
                    self.charge(place, exit, now, handles)
                }
                State::Up(_) | State::Down(_) | State::Stopped => {
                    tracing::debug!(child = self.slots[place].spec.name, %exit, "fell with its floor, or at the end");
                    Resume { at: now, suspended: false }
                }
            };
            self.lay_down(place, resume, handles);
        }
    }

    /// Cuts off who was asked to end and did not; gives up who was cut off and does not die.
    fn enforce_deadlines(&mut self, now: Instant, handles: &mut H) {
        for place in 0..self.slots.len() {
            let State::Stopping { until, cut, resume, .. } = &self.slots[place].state else { continue };
            let (cut, resume) = (*cut, *resume);
            if now < *until {
                continue;
            }
            let child = self.slots[place].spec.name;
            if cut {
                tracing::error!(child, "an actor outlived its abort and is left behind");
                self.lay_down(place, resume, handles);
            } else {
                tracing::warn!(child, "an actor did not end when asked and is cut off");
                self.slots[place].cut_off(resume, now + CUT_LIMIT);
            }
        }
    }

    /// Who runs on a floor that is not there any more, directly or not.
    fn uprooted(&self) -> Vec<bool> {
        let mut uprooted = vec![false; self.slots.len()];
        for place in 0..self.slots.len() {
            if let State::Up(it) = &self.slots[place].state {
                uprooted[place] = !self.stands_firm(it) || it.floor.iter().any(|(below, _)| uprooted[*below]);
            }
        }
        uprooted
    }

    /// Stops those whose floor fell, the highest first and one at a time.
    fn stop_the_uprooted(&mut self, now: Instant, handles: &mut H) {
        let uprooted = self.uprooted();
        for place in (0..self.slots.len()).rev() {
            if matches!(self.slots[place].state, State::Stopping { .. }) {
                return;
            }
            if uprooted[place] {
                let slot = &mut self.slots[place];
                (slot.spec.forget)(handles);
                let resume = Resume { at: now, suspended: false };
                slot.ask_to_stop(self.options.restart_stop_limit, resume, now);
                self.changed = true;
                return;
            }
        }
    }

    /// Starts who may run, the lowest first.
    fn start_the_ready(&mut self, now: Instant, handles: &mut H) {
        for place in 0..self.slots.len() {
            let due = matches!(&self.slots[place].state, State::Down(resume) if resume.at <= now);
            if due && self.ending.is_none() && self.is_ready(place) {
                self.start_one(place, now, handles);
            }
        }
    }

    /// Whether the floor of a child that is down is there to stay, and nobody stands on its former incarnation any more.
    fn is_ready(&self, place: usize) -> bool {
        let (slot, uprooted) = (&self.slots[place], self.uprooted());
        let up = |below: usize| self.slots[below].up_generation().is_some() && !uprooted[below];
        let gone = |above: usize| !uprooted[above] && !matches!(self.slots[above].state, State::Stopping { .. });
        slot.needs.iter().all(|need| up(*need))
            && slot.uses.iter().all(|used| up(*used) || self.is_down_for_long(*used))
            && self.above[place].iter().all(|above| gone(*above))
    }

    /// Whether a child is suspended, or waits for one that is.
    fn is_down_for_long(&self, place: usize) -> bool {
        let slot = &self.slots[place];
        let down = matches!(slot.state, State::Down(_));
        down && (slot.is_suspended() || slot.needs.iter().any(|need| self.is_down_for_long(*need)))
    }

    fn start_one(&mut self, place: usize, now: Instant, handles: &mut H) {
        let below = self.slots[place].needs.iter().chain(&self.slots[place].uses);
        let floor = below.map(|below| (*below, self.slots[*below].up_generation())).collect();
        let slot = &mut self.slots[place];
        if slot.is_suspended() {
            slot.budget.begin_probation(now);
        }
        slot.generation += 1;
        slot.observed = None;
        self.changed = true;
        let (child, generation) = (slot.spec.name, slot.generation);
        let (watch, death) = DeathWatch::pair(child, generation, self.bell.clone());
        // The kernel outlives a start that panics, as it outlives an actor that does.
        let outcome = catch_unwind(AssertUnwindSafe(|| (slot.spec.start)(watch, handles)));
        let exit = match outcome {
            Ok(Ok(running)) => {
                tracing::debug!(child, generation, "started");
                slot.state = State::Up(Incarnation { generation, running, death, floor });
                return;
            }
            Ok(Err(error)) => Exit::StartFailed { reason: error.to_string() },
            Err(_) => death.peek().unwrap_or(Exit::Panicked { at: None }),
        };
        let resume = self.charge(place, exit, now, handles);
        self.lay_down(place, resume, handles);
    }

    /// Charges a fall to the child's budget and says when it is started again.
    fn charge(&mut self, place: usize, exit: Exit, now: Instant, handles: &mut H) -> Resume {
        let slot = &mut self.slots[place];
        (slot.spec.forget)(handles);
        self.changed = true;
        let (child, generation) = (slot.spec.name, slot.generation);
        slot.falls_total += 1;
        slot.last_fall = Some(now);
        slot.last_exit = Some(exit.clone());
        let delay = match slot.budget.fell(now) {
            Verdict::Restart { after } => after,
            Verdict::Exhausted if slot.spec.exhausted == Exhausted::Suspend => {
                let (at, minutes) = (now + self.options.suspended_retry, self.options.suspended_retry.as_secs() / 60);
                tracing::error!(child, generation, %exit, "fell too often: suspended, next try in {minutes} min");
                return Resume { at, suspended: true };
            }
            Verdict::Exhausted => {
                tracing::error!(child, generation, %exit, "fell too often: the gateway can't go on without it");
                self.begin_end(
                    Ended { code: CODE_GAVE_UP, reason: format!("{child} fell too often, last: {exit}") },
                    now,
                );
                Duration::ZERO
            }
        };
        tracing::warn!(child, generation, %exit, delay_ms = delay.as_millis(), "fell");
        Resume { at: now + delay, suspended: false }
    }

    /// The child has no incarnation any more.
    fn lay_down(&mut self, place: usize, resume: Resume, handles: &mut H) {
        let slot = &mut self.slots[place];
        (slot.spec.forget)(handles);
        slot.observed = None;
        slot.state = if self.ending.is_some() { State::Stopped } else { State::Down(resume) };
        self.changed = true;
    }

    /// Whether everybody that an incarnation stands on is still the one that it was started with.
    fn stands_firm(&self, incarnation: &Incarnation) -> bool {
        incarnation.floor.iter().all(|(below, generation)| self.slots[*below].up_generation() == *generation)
    }

    /// Takes the next step of the end: one child at a time, in the drain's order, all at once when the time is up.
    fn drain_on(&mut self, now: Instant, handles: &mut H) {
        let Some(Ending { deadline, .. }) = self.ending else { return };
        let resume = Resume { at: now, suspended: false };
        for slot in self.slots.iter_mut().filter(|slot| matches!(slot.state, State::Down(_))) {
            slot.state = State::Stopped;
            self.changed = true;
        }
        let mut left = self.slots.iter().filter(|slot| slot.is_alive()).count();
        for place in self.drain_order.clone() {
            let slot = &mut self.slots[place];
            match &slot.state {
                State::Stopped | State::Down(_) => continue,
                State::Up(_) | State::Stopping { cut: false, .. } if now >= deadline => {
                    tracing::warn!(child = slot.spec.name, "the drain took too long: cut off");
                    slot.cut_off(resume, now + CUT_LIMIT);
                }
                State::Up(_) => {
                    left = left.saturating_sub(1);
                    let others = DRAIN_SHARE * u32::try_from(left).unwrap_or(u32::MAX);
                    let limit = (deadline - now).saturating_sub(others).min(self.options.drain_stop_limit);
                    slot.ask_to_stop(limit, resume, now);
                }
                State::Stopping { .. } if now >= deadline => continue,
                State::Stopping { .. } => return,
            }
            (self.slots[place].spec.forget)(handles);
            self.changed = true;
            if now < deadline && self.slots[place].is_alive() {
                return;
            }
        }
    }

    fn ended(&mut self) -> Option<Ended> {
        let ending = self.ending.as_ref()?;
        if self.slots.iter().any(|slot| !matches!(slot.state, State::Stopped)) {
            return None;
        }
        self.changed |= self.phase != Phase::Ended;
        self.phase = Phase::Ended;
        Some(ending.ended.clone())
    }

    fn wake_at(&self) -> Option<Instant> {
        let due = |(place, slot): (usize, &Slot<H>)| match &slot.state {
            State::Down(resume) => self.is_ready(place).then_some(resume.at),
            State::Stopping { until, .. } => Some(*until),
            State::Up(_) | State::Stopped => None,
        };
        let deadline = self.ending.as_ref().map(|ending| ending.deadline);
        // Past the deadline of an end, only the deadlines of those that were cut off matter.
        let deadline = deadline.filter(|_| self.slots.iter().any(|slot| matches!(&slot.state, State::Up(_))));
        self.slots.iter().enumerate().filter_map(due).chain(deadline).min()
    }
}

/// The end that a drain leads to.
pub(super) fn drained() -> Ended {
    Ended { code: CODE_DRAINED, reason: "drained".into() }
}

/// For each place, everybody that stands on it, directly or not.
fn stand_on<H>(slots: &[Slot<H>]) -> Vec<Vec<usize>> {
    let mut above = vec![Vec::new(); slots.len()];
    // From the top: those above a line are its direct dependants and all above them.
    for place in (0..slots.len()).rev() {
        let direct = |slot: &Slot<H>| slot.needs.contains(&place) || slot.uses.contains(&place);
        let mut all: Vec<usize> = Vec::new();
        for dependant in (place + 1..slots.len()).filter(|dependant| direct(&slots[*dependant])) {
            all.push(dependant);
            all.extend_from_slice(&above[dependant]);
        }
        all.sort_unstable();
        all.dedup();
        above[place] = all;
    }
    above
}
