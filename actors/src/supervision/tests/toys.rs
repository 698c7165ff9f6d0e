//! Toy children that fall on command, wired like the seven lines of the house.

use crate::supervision::{
    ChildSpec, ChildState, ChildStatus, DeathWatch, Exhausted, Gateway, GatewayRun, GatewayStatus, GetStatus, Options,
    OwnedTask, Running, StartError, View,
};
use actix::prelude::*;
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    time::Duration,
};
use tidegate_schemas::{
    messages::gateway::{Observe, Shutdown},
    view::Observation,
};
use tokio::sync::mpsc;

pub const LINES: usize = 7;
pub const NAMES: [&str; LINES] = ["registry", "outbox", "subscriber", "uplink", "dispatcher", "reporter", "console"];
pub const NEEDS: [&[&str]; LINES] = [
    &[],
    &["registry"],
    &["registry", "outbox"],
    &[],
    &["registry", "outbox", "uplink"],
    &["outbox"],
    &["registry", "outbox", "uplink"],
];
/// Everybody that restarts when the line of that place falls, itself included.
pub const FALL_TOGETHER: [&[usize]; LINES] =
    [&[0, 1, 2, 4, 5, 6], &[1, 2, 4, 5, 6], &[2], &[3, 4, 6], &[4], &[5], &[6]];
pub const EXHAUSTED: [Exhausted; LINES] = [
    Exhausted::Exit,
    Exhausted::Exit,
    Exhausted::Exit,
    Exhausted::Suspend,
    Exhausted::Suspend,
    Exhausted::Suspend,
    Exhausted::Suspend,
];
const FORGET: [fn(&mut Toys); LINES] =
    [forget::<0>, forget::<1>, forget::<2>, forget::<3>, forget::<4>, forget::<5>, forget::<6>];

fn forget<const PLACE: usize>(toys: &mut Toys) {
    toys.0[PLACE] = None;
}

/// The handles of the toy house.
#[derive(Clone, Default)]
pub struct Toys(pub [Option<Addr<Toy>>; LINES]);

/// What is wrong with every new incarnation of a toy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The start function returns an error.
    StartFails,
    /// The start function panics.
    StartPanics,
    /// The actor panics this many milliseconds after it started.
    PanicsAfterMs(u64),
    /// The actor does not react to a shutdown.
    IgnoresShutdown,
    /// The actor takes this many milliseconds to shut down.
    EndsSlowlyMs(u64),
}

/// What a toy can be told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Panic,
    PanicSpawned,
    PanicWaited,
    TaskPanics,
    TaskReturns,
    FiniteTaskReturns,
    FiniteTaskPanics,
    ForeignAbort,
    DropTask,
    Stop,
    Resign,
    Hang,
}

pub const FALLS: [Act; 9] = [
    Act::Panic,
    Act::PanicSpawned,
    Act::PanicWaited,
    Act::TaskPanics,
    Act::TaskReturns,
    Act::FiniteTaskPanics,
    Act::ForeignAbort,
    Act::Stop,
    Act::Resign,
];

/// What every toy shares.
#[derive(Clone, Default)]
pub struct World {
    pub log: Rc<RefCell<Vec<String>>>,
    pub faults: Rc<RefCell<HashMap<&'static str, Fault>>>,
    /// How many owned tasks are alive.
    pub tasks: Rc<Cell<usize>>,
}

impl World {
    pub fn say(&self, what: String) {
        self.log.borrow_mut().push(what);
    }

    pub fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut *self.log.borrow_mut())
    }

    pub fn fault(&self, name: &str) -> Option<Fault> {
        self.faults.borrow().get(name).copied()
    }

    pub fn children(&self) -> Vec<ChildSpec<Toys>> {
        (0..LINES).map(|place| self.child(place)).collect()
    }

    pub fn child(&self, place: usize) -> ChildSpec<Toys> {
        let (world, name) = (self.clone(), NAMES[place]);
        let start = move |watch: DeathWatch, toys: &mut Toys| {
            match world.fault(name) {
                Some(Fault::StartFails) => return Err(StartError::new("open the toy box", "it is locked")),
                Some(Fault::StartPanics) => panic!("on purpose, at the start of {name}"),
                _ => {}
            }
            for need in NEEDS[place] {
                let below = NAMES.iter().position(|name| name == need).expect("a name");
                assert!(toys.0[below].as_ref().is_some_and(Addr::connected), "{name} starts without {need}");
            }
            let (addr, running) = Running::start(Toy::new(&world, watch));
            toys.0[place] = Some(addr);
            Ok(running)
        };
        ChildSpec {
            name,
            needs: NEEDS[place],
            uses: &[],
            exhausted: EXHAUSTED[place],
            start: Box::new(start),
            forget: FORGET[place],
        }
    }

    pub fn start(&self, options: Options) -> GatewayRun<Toys> {
        Gateway::start(self.children(), options).expect("a sound list")
    }
}

/// A started house. Its test pauses the time first.
pub struct House {
    pub world: World,
    pub run: GatewayRun<Toys>,
}

impl House {
    pub async fn up() -> Self {
        Self::up_with(Options::default()).await
    }

    pub async fn up_with(options: Options) -> Self {
        let world = World::default();
        let mut house = Self { run: world.start(options), world };
        house.all_running().await;
        house
    }

    pub async fn all_running(&mut self) {
        self.until(|view| view.status.all_running()).await;
    }

    pub async fn until(&mut self, mut is: impl FnMut(&View<Toys>) -> bool) {
        let wait = self.run.view.wait_for(|view| is(view));
        let waited = tokio::time::timeout(Duration::from_secs(24 * 3600), wait).await;
        waited.expect("within a virtual day").expect("the gateway lives");
    }

    pub fn addr(&self, place: usize) -> Option<Addr<Toy>> {
        self.run.view.borrow().handles.0[place].clone()
    }

    pub fn addrs(&self) -> [Option<Addr<Toy>>; LINES] {
        self.run.view.borrow().handles.0.clone()
    }

    /// Tells a running toy to do something, without waiting for what comes of it.
    pub fn tell(&self, place: usize, act: Act) {
        self.addr(place).expect("it runs").try_send(Do(act)).expect("its mailbox has room");
    }

    pub async fn status(&self) -> GatewayStatus {
        self.run.addr.send(GetStatus).await.expect("the gateway lives")
    }

    pub async fn child(&self, place: usize) -> ChildStatus {
        self.status().await.children[place].clone()
    }

    pub async fn state(&self, place: usize) -> ChildState {
        self.child(place).await.state
    }

    pub async fn generations(&self) -> Vec<u64> {
        self.status().await.children.iter().map(|child| child.generation).collect()
    }

    /// Whether the handles name exactly the running, and all of them answer.
    pub async fn assert_consistent(&self) {
        let status = self.status().await;
        for (place, child) in status.children.iter().enumerate() {
            let running = child.state == ChildState::Running;
            let addr = self.addr(place);
            assert_eq!(addr.is_some(), running, "{} is {:?}", child.name, child.state);
            if let Some(addr) = addr {
                let generation = addr.send(Generation).await.expect("it answers");
                assert_eq!(generation, child.generation, "{}: the published address is the present one", child.name);
            }
        }
    }
}

/// Lets everything that is ready run, at the cost of a virtual millisecond.
pub async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

pub struct Toy {
    world: World,
    order: Option<mpsc::Sender<bool>>,
    poller: Option<(OwnedTask, tokio::task::AbortHandle)>,
    watch: DeathWatch,
}

/// Counts a living task.
struct Alive(Rc<Cell<usize>>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Toy {
    pub fn new(world: &World, watch: DeathWatch) -> Self {
        Self { world: world.clone(), order: None, poller: None, watch }
    }

    fn own_a_task(&mut self, ctx: &mut Context<Self>) {
        let (order, mut orders) = mpsc::channel(1);
        self.world.tasks.set(self.world.tasks.get() + 1);
        let alive = Alive(Rc::clone(&self.world.tasks));
        let task = actix::spawn(async move {
            let _alive = alive;
            if orders.recv().await == Some(true) {
                panic!("on purpose, in an owned task");
            }
        });
        let foreign = task.abort_handle();
        self.order = Some(order);
        self.poller = Some((OwnedTask::adopt(ctx, &self.watch, "poller", task), foreign));
    }
}

impl Actor for Toy {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.world.say(format!("start {} g{}", self.watch.name(), self.watch.generation()));
        self.own_a_task(ctx);
        if let Some(Fault::PanicsAfterMs(after)) = self.world.fault(self.watch.name()) {
            ctx.run_later(Duration::from_millis(after), |_, _| panic!("on purpose, as always"));
        }
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        self.world.say(format!("stop {}", self.watch.name()));
    }
}

#[derive(Message)]
#[rtype(result = "()")]
pub struct Do(pub Act);

impl Handler<Do> for Toy {
    type Result = ();

    fn handle(&mut self, Do(act): Do, ctx: &mut Self::Context) {
        let panics = || async { panic!("on purpose, in a future") };
        match act {
            Act::Panic => panic!("on purpose, in a handler"),
            Act::PanicSpawned => drop(ctx.spawn(panics().into_actor(self))),
            Act::PanicWaited => ctx.wait(panics().into_actor(self)),
            Act::TaskPanics => self.order.as_ref().expect("a task").try_send(true).expect("it listens"),
            Act::TaskReturns => self.order.as_ref().expect("a task").try_send(false).expect("it listens"),
            Act::FiniteTaskReturns => {
                let abort = self.poller.as_ref().expect("a task").1.clone();
                self.poller = Some((OwnedTask::spawn_finite(ctx, &self.watch, "errand", async {}), abort));
            }
            Act::FiniteTaskPanics => {
                let abort = self.poller.as_ref().expect("a task").1.clone();
                self.poller = Some((OwnedTask::spawn_finite(ctx, &self.watch, "errand", panics()), abort));
            }
            Act::ForeignAbort => self.poller.as_ref().expect("a task").1.abort(),
            Act::DropTask => self.poller = None,
            Act::Stop => ctx.stop(),
            Act::Resign => {
                self.watch.resign("tired of it");
                ctx.stop();
            }
            Act::Hang => ctx.wait(std::future::pending().into_actor(self)),
        }
    }
}

/// Asks a toy which incarnation it is.
#[derive(Message)]
#[rtype(result = "u64")]
pub struct Generation;

impl Handler<Generation> for Toy {
    type Result = u64;

    fn handle(&mut self, _: Generation, _: &mut Self::Context) -> u64 {
        self.watch.generation()
    }
}

impl Handler<Observe> for Toy {
    type Result = MessageResult<Observe>;

    fn handle(&mut self, _: Observe, _: &mut Self::Context) -> Self::Result {
        MessageResult(Observation::Toy(self.watch.generation()))
    }
}

impl Handler<Shutdown> for Toy {
    type Result = ();

    fn handle(&mut self, _: Shutdown, ctx: &mut Self::Context) {
        self.world.say(format!("asked {}", self.watch.name()));
        match self.world.fault(self.watch.name()) {
            Some(Fault::IgnoresShutdown) => {}
            Some(Fault::EndsSlowlyMs(after)) => {
                ctx.run_later(Duration::from_millis(after), |_, ctx| ctx.stop());
            }
            _ => ctx.stop(),
        }
    }
}
