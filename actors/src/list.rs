//! The list itself: which lines there are, in which order, who stands on whom, and how each is started.
//!
//! Lowest first. `needs` names those whose addresses a line holds: if one of them falls, the line restarts with it. `uses` is a need
//! that it can do without for a while: the Dispatcher stays up while the Uplink is suspended, and opens nothing.
//!
//! The Console (commands from the room) will be line 8, above the Reporter.

use crate::{
    dispatcher::{Dispatcher, DispatcherParts},
    handles::Handles,
    herald::{Herald, HeraldParts},
    outbox::{Outbox, OutboxParts},
    ports::{room::Room, source::Source, transport::Transport},
    registry::{Registry, RegistryParts},
    reporter::{Reporter, ReporterParts},
    subscriber::{Floor, Subscriber},
    supervision::{Bells, ChildSpec, DeathWatch, Exhausted, Options, Running, StartError},
    uplink::{Uplink, UplinkParts},
};
use actix::{Actor, Addr};
use std::{sync::Arc, time::Duration};
use tidegate_schemas::tidings::Tidings;

/// Intake closes first, so that nothing new comes while the rest finishes.
pub const DRAIN_ORDER: [&str; 3] = ["subscriber", "reporter", "dispatcher"];

/// What all lines are made of: opened once in a process, re-attached by every incarnation.
#[derive(Clone)]
pub struct Parts {
    /// Line 1.
    pub registry: RegistryParts,
    /// Line 2.
    pub outbox: OutboxParts,
    /// The broker, if one is configured.
    pub source: Option<Arc<dyn Source>>,
    /// What devices are told by it.
    pub tidings: Arc<Tidings>,
    /// Whether it brings signals.
    pub signals: bool,
    /// The way to onion services.
    pub transport: Arc<dyn Transport>,
    /// The room, if one is configured.
    pub room: Option<Arc<dyn Room>>,
    /// All bells.
    pub bells: Bells,
    /// How often the Uplink looks at Tor and at the clock: [`crate::uplink::LOOK_EVERY`].
    pub look_every: Duration,
}

/// The options of the kernel for this list; lines that are absent are left out of the drain order.
#[must_use]
pub fn options(parts: &Parts) -> Options {
    let present = |name: &&'static str| match *name {
        "subscriber" => parts.source.is_some(),
        "reporter" => parts.room.is_some(),
        _ => true,
    };
    Options { drain_order: DRAIN_ORDER.into_iter().filter(present).collect(), ..Options::default() }
}

/// The lines, lowest first.
#[must_use]
pub fn children(parts: &Parts) -> Vec<ChildSpec<Handles>> {
    let mut list = vec![registry(parts), outbox(parts)];
    list.extend(parts.source.clone().map(|source| subscriber(parts, source)));
    list.push(uplink(parts));
    list.push(dispatcher(parts));
    list.extend(parts.source.clone().map(|source| herald(parts, source)));
    list.extend(parts.room.clone().map(|room| reporter(parts, room)));
    list
}

fn registry(parts: &Parts) -> ChildSpec<Handles> {
    let parts = parts.registry.clone();
    ChildSpec {
        name: "registry",
        needs: &[],
        uses: &[],
        exhausted: Exhausted::Exit,
        start: Box::new(move |watch: DeathWatch, handles: &mut Handles| {
            let (address, running) = Running::start(Registry::new(parts.clone(), watch));
            handles.registry = Some(address);
            Ok(running)
        }),
        forget: |handles| handles.registry = None,
    }
}

fn outbox(parts: &Parts) -> ChildSpec<Handles> {
    let parts = parts.outbox.clone();
    ChildSpec {
        name: "outbox",
        needs: &["registry"],
        uses: &[],
        exhausted: Exhausted::Exit,
        start: Box::new(move |watch, handles: &mut Handles| {
            let registry = held(&handles.registry)?.recipient();
            let (address, running) = Running::start(Outbox::new(parts.clone(), registry, watch));
            handles.outbox = Some(address);
            Ok(running)
        }),
        forget: |handles| handles.outbox = None,
    }
}

fn subscriber(parts: &Parts, source: Arc<dyn Source>) -> ChildSpec<Handles> {
    let (bells, tidings, clock) = (parts.bells.clone(), Arc::clone(&parts.tidings), Arc::clone(&parts.outbox.clock));
    let signals = parts.signals;
    ChildSpec {
        name: "subscriber",
        needs: &["registry", "outbox"],
        uses: &[],
        exhausted: Exhausted::Exit,
        start: Box::new(move |watch, handles: &mut Handles| {
            let outbox = held(&handles.outbox)?;
            let floor = Floor {
                source: Arc::clone(&source),
                registry: held(&handles.registry)?.recipient(),
                enqueue: outbox.clone().recipient(),
                quarantine: outbox.clone().recipient(),
                ignore: outbox.clone().recipient(),
                tidings: Arc::clone(&tidings),
                clock: Arc::clone(&clock),
                herald: bells.herald.clone(),
                signals: signals.then(|| outbox.recipient()),
                bell: bells.subscriber.clone(),
            };
            let (address, running) = Running::start(Subscriber::new(floor, watch));
            handles.subscriber = Some(address);
            Ok(running)
        }),
        forget: |handles| handles.subscriber = None,
    }
}

fn uplink(parts: &Parts) -> ChildSpec<Handles> {
    let parts = UplinkParts {
        transport: Arc::clone(&parts.transport),
        clock: Arc::clone(&parts.outbox.clock),
        entropy: Arc::clone(&parts.outbox.entropy),
        dispatcher: parts.bells.dispatcher.clone(),
        herald: parts.bells.herald.clone(),
        look_every: parts.look_every,
    };
    ChildSpec {
        name: "uplink",
        needs: &[],
        uses: &[],
        exhausted: Exhausted::Suspend,
        start: Box::new(move |watch, handles: &mut Handles| {
            let (address, running) = Running::start(Uplink::new(parts.clone(), watch));
            handles.uplink = Some(address);
            Ok(running)
        }),
        forget: |handles| handles.uplink = None,
    }
}

fn dispatcher(parts: &Parts) -> ChildSpec<Handles> {
    let parts = parts.clone();
    ChildSpec {
        name: "dispatcher",
        needs: &["registry", "outbox"],
        uses: &["uplink"],
        exhausted: Exhausted::Suspend,
        start: Box::new(move |watch, handles: &mut Handles| {
            let made_of = DispatcherParts {
                registry: held(&handles.registry)?.recipient(),
                outbox: held(&handles.outbox)?,
                uplink: handles.uplink.clone().map(Addr::recipient),
                transport: Arc::clone(&parts.transport),
                clock: Arc::clone(&parts.outbox.clock),
                entropy: Arc::clone(&parts.outbox.entropy),
                bell: parts.bells.dispatcher.clone(),
            };
            let (address, running) = Running::start(Dispatcher::new(made_of, watch));
            handles.dispatcher = Some(address);
            Ok(running)
        }),
        forget: |handles| handles.dispatcher = None,
    }
}

fn herald(parts: &Parts, source: Arc<dyn Source>) -> ChildSpec<Handles> {
    let parts = parts.clone();
    ChildSpec {
        name: "herald",
        needs: &["registry", "outbox"],
        uses: &["uplink", "dispatcher"],
        exhausted: Exhausted::Suspend,
        start: Box::new(move |watch, handles: &mut Handles| {
            let outbox = held(&handles.outbox)?;
            let made_of = HeraldParts {
                source: Arc::clone(&source),
                tidings: Arc::clone(&parts.tidings),
                registry: held(&handles.registry)?.recipient(),
                loads: outbox.clone().recipient(),
                reserve: outbox.clone().recipient(),
                pending: outbox.clone().recipient(),
                receipted: outbox.recipient(),
                uplink: handles.uplink.clone().map(Addr::recipient),
                dispatcher: handles.dispatcher.clone().map(Addr::recipient),
                clock: Arc::clone(&parts.outbox.clock),
                bell: parts.bells.herald.clone(),
            };
            let (address, running) = Running::start(Herald::new(made_of, watch));
            handles.herald = Some(address);
            Ok(running)
        }),
        forget: |handles| handles.herald = None,
    }
}

fn reporter(parts: &Parts, room: Arc<dyn Room>) -> ChildSpec<Handles> {
    let (bell, entropy) = (parts.bells.reporter.clone(), Arc::clone(&parts.outbox.entropy));
    ChildSpec {
        name: "reporter",
        needs: &["outbox"],
        uses: &[],
        exhausted: Exhausted::Suspend,
        start: Box::new(move |watch, handles: &mut Handles| {
            let outbox = held(&handles.outbox)?;
            let made_of = ReporterParts {
                room: Arc::clone(&room),
                pending: outbox.clone().recipient(),
                reported: outbox.recipient(),
                bell: bell.clone(),
                entropy: Arc::clone(&entropy),
            };
            let (address, running) = Running::start(Reporter::new(made_of, watch));
            handles.reporter = Some(address);
            Ok(running)
        }),
        forget: |handles| handles.reporter = None,
    }
}

/// The kernel starts a line only when those that it needs are up.
fn held<A: Actor>(address: &Option<Addr<A>>) -> Result<Addr<A>, StartError> {
    address.clone().ok_or_else(|| StartError::new("find the line below", "it is not up"))
}

#[cfg(test)]
mod tests;
