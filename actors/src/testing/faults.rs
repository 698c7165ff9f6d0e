//! Faults on command, everywhere in the list: each actor, each task that an actor owns, each call of a port.
//!
//! The *places* are not written down anywhere: they say so themselves. The kernel tells of every actor that it is asked to watch, of
//! every context that it starts and of every task that an actor takes over; a port of [`super::faulty_ports`] tells of every call. So
//! a new actor or task is in the list of places as soon as it runs once, and a test that goes through the list can't forget it.
//!
//! A place is named `outbox` (an actor: the fault strikes where its handlers run), `outbox/writer` (its task: the fault strikes
//! wherever the task waits), or `store.commit` (a call: the fault strikes whoever makes it).
//!
//! Nothing happens on a thread that has not called [`Faults::install`].

use actix::{Actor, ActorFutureExt, AsyncContext, Context, fut::wrap_future};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// What is made to happen at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A panic, once.
    Panic,
    /// A panic, each time.
    PanicAlways,
    /// An actor's handlers stop without an end, once; the thread goes on.
    Hang,
}

/// The kinds of places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An actor's own context, where its handlers run.
    Actor,
    /// A task that an actor owns.
    Task,
    /// A call of a port.
    Call,
}

/// The faults of one world. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Wakes the places that wait for their fault.
    news: Notify,
}

#[derive(Debug, Default)]
struct State {
    watched: BTreeSet<&'static str>,
    places: BTreeMap<String, Place>,
}

#[derive(Debug)]
struct Place {
    kind: Kind,
    fault: Option<Fault>,
    entered: u64,
    struck: u64,
}

thread_local! {
    static OF_THIS_THREAD: RefCell<Option<Faults>> = const { RefCell::new(None) };
}

impl Faults {
    /// New faults, to which everything that starts on this thread from now on is open.
    #[must_use]
    pub fn install() -> Self {
        let faults = Self::default();
        OF_THIS_THREAD.with_borrow_mut(|slot| *slot = Some(faults.clone()));
        faults
    }

    fn here() -> Option<Self> {
        OF_THIS_THREAD.with_borrow(Clone::clone)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names of the actors that anybody watches.
    #[must_use]
    pub fn watched(&self) -> Vec<&'static str> {
        self.lock().watched.iter().copied().collect()
    }

    /// The places of a kind that were there so far.
    #[must_use]
    pub fn places(&self, kind: Kind) -> Vec<String> {
        self.lock().places.iter().filter(|(_, place)| place.kind == kind).map(|(name, _)| name.clone()).collect()
    }

    /// How often there was an actor, a task, a call of this name.
    #[must_use]
    pub fn entered(&self, place: &str) -> u64 {
        self.lock().places.get(place).map_or(0, |place| place.entered)
    }

    /// How often a fault struck there.
    #[must_use]
    pub fn struck(&self, place: &str) -> u64 {
        self.lock().places.get(place).map_or(0, |place| place.struck)
    }

    /// Has this happen at the place, at once where somebody is there now, or as soon as somebody comes.
    ///
    /// # Panics
    /// When no such place was there so far.
    pub fn set(&self, place: &str, fault: Fault) {
        self.lock().places.get_mut(place).unwrap_or_else(|| panic!("there is no place {place}")).fault = Some(fault);
        self.0.news.notify_waiters();
    }

    /// Takes back what has not happened yet.
    pub fn heal(&self) {
        self.lock().places.values_mut().for_each(|place| place.fault = None);
    }

    fn enter(&self, name: &str, kind: Kind) {
        let mut state = self.lock();
        let new = || Place { kind, fault: None, entered: 0, struck: 0 };
        state.places.entry(name.to_owned()).or_insert_with(new).entered += 1;
    }

    /// The fault that strikes here now.
    fn take(&self, name: &str) -> Option<Fault> {
        let mut state = self.lock();
        let place = state.places.get_mut(name)?;
        let fault = place.fault?;
        place.struck += 1;
        if fault != Fault::PanicAlways {
            place.fault = None;
        }
        Some(fault)
    }

    async fn strike(self, name: String) -> Fault {
        loop {
            let mut news = Box::pin(self.0.news.notified());
            // Listens before it looks, so that no fault falls between.
            news.as_mut().enable();
            if let Some(fault) = self.take(&name) {
                return fault;
            }
            news.await;
        }
    }

    /// A call of a port; panics when a fault is set for it.
    ///
    /// # Panics
    /// On command.
    pub fn call(&self, name: &str) {
        self.enter(name, Kind::Call);
        assert!(self.take(name).is_none(), "on command, in {name}");
    }
}

/// An actor's place: its type's name, in small letters. The list calls it the same, as a test checks.
fn actor_place<A>() -> String {
    std::any::type_name::<A>().rsplit("::").next().unwrap_or_default().to_lowercase()
}

/// Called by the kernel for every actor that is watched.
pub(crate) fn watches(name: &'static str) {
    if let Some(faults) = Faults::here() {
        faults.lock().watched.insert(name);
    }
}

/// Called by the kernel for every context that it starts: opens the actor to its faults.
pub(crate) fn starts<A: Actor<Context = Context<A>>>(ctx: &mut Context<A>) {
    let Some(faults) = Faults::here() else { return };
    let place = actor_place::<A>();
    faults.enter(&place, Kind::Actor);
    ctx.spawn(wrap_future::<_, A>(faults.strike(place)).map(|fault, _, ctx| match fault {
        Fault::Panic | Fault::PanicAlways => panic!("on command, in an actor"),
        Fault::Hang => ctx.wait(wrap_future(std::future::pending())),
    }));
}

/// Called by the kernel for every task that an actor takes over, whether it can be reached or not.
pub(crate) fn owns(actor: &str, task: &str) {
    if let Some(faults) = Faults::here() {
        faults.enter(&format!("{actor}/{task}"), Kind::Task);
    }
}

/// Called by the kernel for every task that it starts for an actor: opens the task to its faults.
pub(crate) async fn reached(place: String, task: impl Future<Output = ()>) {
    let Some(faults) = Faults::here() else { return task.await };
    tokio::select! {
        biased;
        _ = faults.strike(place) => panic!("on command, in a task"),
        () = task => {}
    }
}
