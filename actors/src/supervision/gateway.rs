//! The Gateway: the root of the house.
//!
//! Purpose: keeps the list running, publishes the addresses of the living, ends everything in order. Hears: [`Drain`],
//! [`GetStatus`], and the bell that every [`super::DeathWatch`] rings. Tells: [`Observe`] and `Shutdown` to each child. If it dies: nobody puts it back; `main` sees it by [`GatewayRun::ended`] and the process ends non-zero.
//!
//! It never waits for a child: a shutdown is a message and a deadline, an observation is a request and a limit. All
//! decisions are the roster's; this actor only wakes it.

use super::{
    Bell, ChildSpec, Drain, GatewayStatus, GetStatus, Intensity, View, WiringError,
    roster::{self, Roster},
};
use actix::{
    Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, Handler, MessageResult, Recipient, SpawnHandle,
    WrapFuture, fut::wrap_future,
};
use std::time::Duration;
use tidegate_schemas::messages::gateway::Observe;
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, timeout},
};

/// The exit code after a drain.
pub const CODE_DRAINED: u8 = 0;
/// The exit code when the gateway gave up (`EX_SOFTWARE` of BSD's sysexits).
pub const CODE_GAVE_UP: u8 = 70;

/// The limits of the kernel. The defaults are those of the house.
#[derive(Debug, Clone)]
pub struct Options {
    /// How often a child may fall.
    pub intensity: Intensity,
    /// How long a suspended child waits for its next try.
    pub suspended_retry: Duration,
    /// How often every child is observed. Longer than `observe_limit`.
    pub observe_every: Duration,
    /// How long a child may take to answer an observation.
    pub observe_limit: Duration,
    /// How long a child may take to end when its floor fell. Short: the fallen is started after all that stood on it have
    /// ended, so this is what a slow one adds to the restart of everybody below and above it.
    pub restart_stop_limit: Duration,
    /// How long a child may take to end in a drain.
    pub drain_stop_limit: Duration,
    /// How long a drain may take as a whole.
    pub drain_limit: Duration,
    /// Who is stopped first in a drain, by name: intake first. Those not named follow from the top of the list.
    pub drain_order: Vec<&'static str>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            intensity: Intensity::default(),
            suspended_retry: Duration::from_secs(15 * 60),
            observe_every: Duration::from_secs(10),
            observe_limit: Duration::from_secs(5),
            restart_stop_limit: Duration::from_millis(50),
            drain_stop_limit: Duration::from_secs(4),
            drain_limit: Duration::from_secs(10),
            drain_order: Vec::new(),
        }
    }
}

/// How the gateway ended; `main` turns it into the exit status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The exit code of the process.
    pub code: u8,
    /// Why, for the last line of the log.
    pub reason: String,
}

/// The root actor, over the type that holds the addresses of its children.
pub struct Gateway<H> {
    roster: Roster<H>,
    handles: Box<H>,
    view: watch::Sender<View<H>>,
    bell: Bell,
    timer: Option<SpawnHandle>,
    observe_every: Duration,
    observe_limit: Duration,
    ended: Option<oneshot::Sender<Ended>>,
}

/// A started gateway, as `main` holds it.
#[derive(Debug)]
pub struct GatewayRun<H: Clone + Default + 'static> {
    /// Takes [`Drain`] and [`GetStatus`].
    pub addr: Addr<Gateway<H>>,
    /// The addresses and states, published after every change.
    pub view: watch::Receiver<View<H>>,
    ended: oneshot::Receiver<Ended>,
}

impl<H: Clone + Default + 'static> GatewayRun<H> {
    /// Waits for the end of the gateway, whatever its cause. Cancel-safe. To be awaited to its end once.
    pub async fn ended(&mut self) -> Ended {
        match (&mut self.ended).await {
            Ok(ended) => ended,
            // The sender is dropped unsent only when the Gateway itself was torn down.
            Err(_) => Ended { code: CODE_GAVE_UP, reason: "the gateway actor itself panicked".into() },
        }
    }
}

impl<H: Clone + Default + 'static> Gateway<H> {
    /// Starts the gateway on the current System thread, and with it all its children, in list order.
    ///
    /// # Errors
    /// When the list makes no sense; nothing was started then.
    pub fn start(children: Vec<ChildSpec<H>>, options: Options) -> Result<GatewayRun<H>, WiringError> {
        let bell = Bell::default();
        let (observe_every, observe_limit) = (options.observe_every, options.observe_limit);
        let roster = Roster::new(children, options, bell.clone(), Instant::now())?;
        let handles = Box::<H>::default();
        let (view, published) = watch::channel(View { handles: H::clone(&handles), status: roster.status() });
        let (tell, ended) = oneshot::channel();
        let gateway =
            Self { roster, handles, view, bell, timer: None, observe_every, observe_limit, ended: Some(tell) };
        Ok(GatewayRun { addr: Actor::start(gateway), view: published, ended })
    }

    /// Lets the roster do what is due, publishes what changed, and sets the alarm clock.
    fn turn(&mut self, ctx: &mut Context<Self>) {
        let now = Instant::now();
        let turn = self.roster.turn(now, &mut self.handles);
        if self.roster.take_changed() {
            self.view.send_replace(View { handles: H::clone(&self.handles), status: self.roster.status() });
        }
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        if let Some(ended) = turn.ended {
            if let Some(tell) = self.ended.take() {
                // Nobody may be waiting: a test that only drops the gateway.
                let _ = tell.send(ended);
            }
            ctx.stop();
        } else if let Some(at) = turn.wake_at {
            self.timer = Some(ctx.run_later(at.saturating_duration_since(now), |gateway, ctx| {
                gateway.timer = None;
                gateway.turn(ctx);
            }));
        }
    }

    /// Takes a turn whenever a death watch rings.
    fn listen(&self, ctx: &mut Context<Self>) {
        let bell = self.bell.clone();
        ctx.spawn(async move { bell.wait().await }.into_actor(self).map(|(), gateway, ctx| {
            gateway.turn(ctx);
            gateway.listen(ctx);
        }));
    }

    /// Asks every running child for its observation.
    fn observe(&self, ctx: &mut Context<Self>) {
        for (place, generation, child) in self.roster.observable() {
            ctx.spawn(wrap_future::<_, Self>(answers(child, self.observe_limit)).map(move |alive, gateway, ctx| {
                let now = Instant::now();
                if alive {
                    gateway.roster.observed(place, generation, now);
                } else {
                    gateway.roster.stuck(place, generation, now, &mut gateway.handles);
                }
                gateway.turn(ctx);
            }));
        }
    }
}

/// Whether a child answers in time. A closed mailbox is not silence: that death is told by its watch.
async fn answers(child: Recipient<Observe>, limit: Duration) -> bool {
    !matches!(timeout(limit, child.send(Observe)).await, Err(_elapsed))
}

impl<H: Clone + Default + 'static> Actor for Gateway<H> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.listen(ctx);
        ctx.run_interval(self.observe_every, |gateway, ctx| gateway.observe(ctx));
        self.turn(ctx);
    }
}

impl<H: Clone + Default + 'static> Handler<Drain> for Gateway<H> {
    type Result = ();

    fn handle(&mut self, _: Drain, ctx: &mut Self::Context) {
        self.roster.begin_end(roster::drained(), Instant::now());
        self.turn(ctx);
    }
}

impl<H: Clone + Default + 'static> Handler<GetStatus> for Gateway<H> {
    type Result = MessageResult<GetStatus>;

    fn handle(&mut self, _: GetStatus, _: &mut Self::Context) -> Self::Result {
        let status: GatewayStatus = self.roster.status();
        MessageResult(status)
    }
}
